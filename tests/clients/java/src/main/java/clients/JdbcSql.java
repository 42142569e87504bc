package clients;

import static clients.Scenarios.check;
import static clients.Scenarios.fails;
import static clients.Scenarios.same;
import static clients.Scenarios.until;

import java.sql.Array;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.util.PSQLException;

/** Queries, transactions, prepared statements, types, cancel and errors on plain connections. */
final class JdbcSql extends JdbcSupport {
    JdbcSql(Target target) {
        super(target);
    }

    @Override
    void addTo(Scenarios scenarios) {
        scenarios.add("connect", this::connect);
        scenarios.add("simple_query", this::simpleQuery);
        scenarios.add("transactions", this::transactions);
        scenarios.add("prepared", this::prepared);
        scenarios.add("prepared_same_name", this::preparedSameName);
        scenarios.add("prepared_failed", this::preparedFailed);
        scenarios.add("prepared_close", this::preparedClose);
        scenarios.add("types", this::types);
        scenarios.add("cancel", this::cancel);
        scenarios.add("errors", this::errors);
    }

    private void connect() throws Exception {
        connected(connection -> {
            Map<String, String> seen = connection.unwrap(PGConnection.class).getParameterStatuses();
            check(seen.containsKey("server_version") && seen.containsKey("TimeZone"), "parameters: " + seen);
            check(seen.get("DateStyle").startsWith("ISO"), "DateStyle: " + seen);
            check(connection.getMetaData().getDatabaseMajorVersion() >= 9, "major version");
            same(value(connection, "show application_name"), "fc_" + target.run(), "application_name");
            check(value(connection, "select version()").toString().startsWith("PostgreSQL"), "version()");
            check(connection.isValid(5), "isValid");
            connection.setClientInfo("ApplicationName", "renamed");
            same(value(connection, "show application_name"), "renamed", "application_name after setClientInfo");
        }, "ApplicationName", "fc_" + target.run());
    }

    private void simpleQuery() throws Exception {
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            connected(connection -> {
                try (Statement statement = connection.createStatement()) {
                    statement.execute("select 1; select 'zwei'; select 3");
                    for (String expected : new String[] {"1", "zwei", "3"}) {
                        ResultSet rows = statement.getResultSet();
                        rows.next();
                        same(rows.getString(1), expected, mode);
                        statement.getMoreResults();
                    }
                }
                for (int n = 0; n < 10; n++) {
                    same(value(connection, "select ? || 'ü'", "n" + n), "n" + n + "ü", mode);
                }
            }, "preferQueryMode", mode);
        }
    }

    private void transactions() throws Exception {
        withTable("tx", "n int", (connection, table) -> {
            String insert = "insert into " + table + " values (?)";
            connection.setAutoCommit(false);
            execute(connection, insert, 1);
            connection.commit();
            execute(connection, insert, 2);
            connection.rollback();
            execute(connection, insert, 3);
            fails(() -> execute(connection, "select nonsense"), "42703", "unknown column");
            fails(() -> execute(connection, "select 1"), "25P02", "in a failed transaction");
            connection.rollback();
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            execute(connection, insert, 4);
            Savepoint savepoint = connection.setSavepoint("s");
            execute(connection, insert, 5);
            fails(() -> execute(connection, "select 1/0"), "22012", "after a savepoint");
            connection.rollback(savepoint);
            execute(connection, insert, 6);
            connection.commit();
            String all = "select string_agg(n::text, ' ' order by n) from " + table;
            same(value(connection, all), "1 4 6", "committed rows");
            connection.rollback();
        });
    }

    private void prepared() throws Exception {
        connected(connection -> {
            for (int n = 0; n < 100; n++) {
                same(value(connection, "select ?::int * 2", n), n * 2, "the same text");
            }
            prepareMany(connection, 1);
            prepareMany(connection, 1000);
            connection.setAutoCommit(false);
            prepareMany(connection, 2000);
            connection.commit();
            prepareMany(connection, 3000);
            connection.rollback();
            connection.setAutoCommit(true);
            same(value(connection, "select ?::int + 7", 1), 8, "after a rollback");
        }, "prepareThreshold", "1");
    }

    private static void prepareMany(Connection connection, int offset) throws Exception {
        for (int n = 0; n < STATEMENTS; n++) {
            same(value(connection, "select ?::int + " + n, offset), n + offset, "statement " + n);
        }
    }

    /** The driver numbers its statements from S_1 on each connection: same names, different texts. */
    private void preparedSameName() throws Exception {
        connected(one -> connected(two -> {
            try (PreparedStatement first = one.prepareStatement("select 'one' || ?::text");
                    PreparedStatement second = two.prepareStatement("select ?::int + 1000")) {
                for (int n = 0; n < 50; n++) {
                    same(value(first, n), "one" + n, "first");
                    same(value(second, n), n + 1000, "second");
                }
                check(first.unwrap(PGStatement.class).isUseServerPrepare(), "prepared on the server");
            }
        }, "prepareThreshold", "1"), "prepareThreshold", "1");
    }

    private void preparedFailed() throws Exception {
        connected(connection -> {
            for (int attempt = 0; attempt < 3; attempt++) {
                fails(() -> execute(connection, "selec ?", 1), "42601", "Parse of nonsense");
            }
            try (PreparedStatement divide = connection.prepareStatement("select 10 / ?::int")) {
                same(value(divide, 5), 2, "before");
                connection.setAutoCommit(false);
                fails(() -> value(divide, 0), "22012", "Execute");
                connection.rollback();
                same(value(divide, 2), 5, "after a rollback");
                connection.commit();
            }
        }, "prepareThreshold", "1");
    }

    private void preparedClose() throws Exception {
        connected(connection -> {
            for (int n = 0; n < 30; n++) { // more than the driver's cache: it closes the oldest
                same(value(connection, "select ?::int + " + n, 1), n + 1, "statement " + n);
            }
            try (PreparedStatement statement = connection.prepareStatement("select 1 as first, ?::int8 as second")) {
                same(statement.getMetaData().getColumnName(2), "second", "described column");
                same(statement.getParameterMetaData().getParameterType(1), Types.BIGINT, "described parameter");
                for (String command : new String[] {"deallocate all", "discard all"}) {
                    same(value(statement, 5L), 1, "before " + command);
                    execute(connection, command);
                    same(value(statement, 6L), 1, "after " + command);
                }
            }
        }, "prepareThreshold", "1", "preparedStatementCacheQueries", "8");
    }

    private void types() throws Exception {
        String columns =
                "n int8, t text, b bytea, at timestamptz, i int[], s text[], j jsonb, f float8, u uuid, e text";
        withTable("types", columns, (connection, table) -> {
            String text = "Grüße, 世界 🐘 '\"\\ \n";
            byte[] bytes = {0, 1, 127, -128, -1};
            OffsetDateTime at = OffsetDateTime.parse("2026-02-28T23:59:59.123456Z");
            UUID uuid = UUID.fromString("6b1c2d3e-4f50-4a6b-8c7d-9e0fa1b2c3d4");
            Array numbers = connection.createArrayOf("int4", new Integer[] {1, null, -3});
            Array texts = connection.createArrayOf("text", new String[] {"a,b", "\"", "", "ü"});
            try (PreparedStatement insert = connection.prepareStatement(
                    "insert into " + table + " values (?, ?, ?, ?, ?, ?, ?::jsonb, ?, ?, ?)")) {
                Object[] row = {Long.MAX_VALUE, text, bytes, at, numbers, texts, "{\"a\": [1, null]}", -1.5e300, uuid};
                for (int i = 0; i < row.length; i++) {
                    insert.setObject(i + 1, row[i]);
                }
                insert.setNull(10, Types.VARCHAR);
                insert.executeUpdate();
            }
            try (PreparedStatement select = connection.prepareStatement("select * from " + table)) {
                for (int attempt = 0; attempt < 8; attempt++) { // text first, binary once it is prepared
                    ResultSet rows = select.executeQuery();
                    rows.next();
                    same(rows.getLong(1), Long.MAX_VALUE, "int8");
                    same(rows.getString(2), text, "text");
                    same(rows.getBytes(3), bytes, "bytea");
                    same(rows.getObject(4, OffsetDateTime.class).toInstant(), at.toInstant(), "timestamptz");
                    same(rows.getArray(5).getArray(), new Integer[] {1, null, -3}, "int[]");
                    same(rows.getArray(6).getArray(), new String[] {"a,b", "\"", "", "ü"}, "text[]");
                    same(rows.getString(7), "{\"a\": [1, null]}", "jsonb");
                    same(rows.getDouble(8), -1.5e300, "float8");
                    same(rows.getObject(9), uuid, "uuid");
                    check(rows.getString(10) == null, "null");
                }
            }
        });
    }

    private void cancel() throws Exception {
        String running = "select count(*) from pg_stat_activity"
                + " where state = 'active' and pid <> pg_backend_pid() and query like '%' || ? || '%'";
        connected(watcher -> connected(connection -> {
            String mark = "fc_" + target.run() + "_cancel";
            Statement sleep = connection.createStatement();
            CompletableFuture<Void> canceller = CompletableFuture.runAsync(() -> {
                try {
                    until(() -> value(watcher, running, mark).equals(1L), "pg_sleep runs");
                    sleep.cancel();
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            fails(() -> sleep.execute("select pg_sleep(20) /* " + mark + " */"), "57014", "cancelled pg_sleep");
            canceller.get();
            for (int n = 0; n < 20; n++) {
                same(value(connection, "select ?::int", n), n, "afterwards");
            }
            sleep.setQueryTimeout(1);
            fails(() -> sleep.execute("select pg_sleep(20)"), "57014", "setQueryTimeout");
            connection.setAutoCommit(false);
            execute(connection, "set local statement_timeout = 50");
            fails(() -> execute(connection, "select pg_sleep(20)"), "57014", "statement_timeout");
            connection.rollback();
            connection.setAutoCommit(true);
            same(value(connection, "select 1"), 1, "after statement_timeout");
        }));
    }

    private void errors() throws Exception {
        withTable("errors", "n int primary key", (connection, table) -> {
            String insert = "insert into " + table + " values (?)";
            execute(connection, insert, 1);
            Object[][] bad = {
                {"42601", "selec 1"},
                {"42601", "selec ?", 1},
                {"23505", insert, 1},
                {"22012", "select 1 / 0"},
                {"22012", "select 1 / ?::int", 0},
                {"22P02", "select ?::text::int", "x"},
                {"42P01", "select * from fc_no_such_table"},
            };
            for (int attempt = 0; attempt < 8; attempt++) {
                for (Object[] row : bad) {
                    Object[] values = Arrays.copyOfRange(row, 2, row.length);
                    fails(() -> execute(connection, (String) row[1], values), (String) row[0], (String) row[1]);
                    same(value(connection, "select ?::int", 7), 7, "after " + row[0]);
                }
            }
            PSQLException violation = (PSQLException) fails(() -> execute(connection, insert, 1), "23505", "unique");
            same(violation.getServerErrorMessage().getConstraint(), table + "_pkey", "fields of the error");
        });
    }
}
