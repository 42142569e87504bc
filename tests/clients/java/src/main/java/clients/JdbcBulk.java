package clients;

import static clients.Scenarios.check;
import static clients.Scenarios.fails;
import static clients.Scenarios.same;

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Arrays;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;

/** Big results, COPY and batches. */
final class JdbcBulk extends JdbcSupport {
    private static final int ROWS = 100_000;
    private static final int COPIED = 20_000;

    JdbcBulk(Target target) {
        super(target);
    }

    @Override
    void addTo(Scenarios scenarios) {
        scenarios.add("big_results", this::bigResults);
        scenarios.add("row_limits", this::rowLimits);
        scenarios.add("copy", this::copy);
        scenarios.add("pipelines", this::batches);
    }

    private void bigResults() throws Exception {
        connected(connection -> {
            try (Statement statement = connection.createStatement()) {
                readRows(statement);
            }
            byte[] big = new byte[20_000_000];
            for (int i = 0; i < big.length; i++) {
                big[i] = (byte) (i * 31 >> 3);
            }
            check(Arrays.equals((byte[]) value(connection, "select ?::bytea", big), big), "20 MB differ");
            same(value(connection, "select 1"), 1, "afterwards");
        });
    }

    /** A portal with a row limit (setFetchSize) is read in parts, inside one transaction. */
    private void rowLimits() throws Exception {
        connected(connection -> {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(1000);
                readRows(statement);
            }
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(10);
                ResultSet rows = statement.executeQuery("select n from generate_series(1, 1000) n");
                rows.next();
                rows.close(); // closes the portal with most rows unread
            }
            connection.commit();
            same(value(connection, "select 1"), 1, "afterwards");
            connection.rollback();
        });
    }

    private static void readRows(Statement statement) throws Exception {
        ResultSet rows =
                statement.executeQuery("select n, repeat('x', 100) from generate_series(1, " + ROWS + ") n");
        int count = 0;
        while (rows.next()) {
            count++;
            check(rows.getInt(1) == count && rows.getString(2).length() == 100, "row " + count + " differs");
        }
        same(count, ROWS, "rows");
    }

    private void copy() throws Exception {
        withTable("copy", "n int primary key, t text", (connection, table) -> {
            StringBuilder lines = new StringBuilder();
            for (int n = 0; n < COPIED; n++) {
                lines.append(n).append("\tline ").append(n).append('\n');
            }
            CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
            String in = "copy " + table + " from stdin";
            same(copies.copyIn(in, new StringReader(lines.toString())), (long) COPIED, "rows copied");
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copies.copyOut("copy (select * from " + table + " order by n) to stdout", out);
            check(out.toString(StandardCharsets.UTF_8).contentEquals(lines), "COPY out differs from COPY in");
            fails(() -> copies.copyIn(in, new StringReader(lines.toString())), "23505", "COPY of the same rows");
            fails(() -> copies.copyIn(in, new StringReader("x\ty\n")), "22P02", "COPY of bad data");
            CopyIn given = copies.copyIn(in);
            given.writeToCopy("99999\tlost\n".getBytes(StandardCharsets.UTF_8), 0, 11);
            given.cancelCopy();
            same(value(connection, "select count(*) from " + table), (long) COPIED, "rows afterwards");
        });
    }

    private void batches() throws Exception {
        withTable("batch", "n int primary key", (connection, table) -> {
            String insert = "insert into " + table + " values (?)";
            connection.setAutoCommit(false);
            same(batch(connection, insert, 0, 5000).length, 5000, "updates of a batch");
            connection.commit();
            try {
                batch(connection, insert, 4990, 5100);
                throw new AssertionError("batch with a duplicate: no error");
            } catch (BatchUpdateException error) {
                same(error.getSQLState(), "23505", "batch with a duplicate");
            }
            connection.rollback();
            connection.setAutoCommit(true);
            batch(connection, insert, 5000, 5100);
            same(value(connection, "select count(*) from " + table), 5100L, "rows");
            try (Statement statement = connection.createStatement()) {
                for (int n = 0; n < STATEMENTS; n++) {
                    statement.addBatch("update " + table + " set n = n + 10000 where n = " + n);
                }
                check(Arrays.stream(statement.executeBatch()).allMatch(n -> n == 1), "updates of different texts");
            }
        });
    }

    private static int[] batch(Connection connection, String text, int from, int to) throws Exception {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            for (int n = from; n < to; n++) {
                statement.setInt(1, n);
                statement.addBatch();
            }
            return statement.executeBatch();
        }
    }
}
