package clients;

import static clients.Scenarios.fails;
import static clients.Scenarios.same;
import static clients.Scenarios.together;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.Statement;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;

/** Many at once: a HikariCP pool, and a hundred plain connections. */
final class JdbcMany extends JdbcSupport {
    JdbcMany(Target target) {
        super(target);
    }

    @Override
    void addTo(Scenarios scenarios) {
        scenarios.add("pooled", this::pooled);
        scenarios.add("pooled_cancel", this::pooledCancel);
        scenarios.add("hundred_at_once", this::hundredAtOnce);
    }

    private HikariDataSource pool(int size) {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(target.url());
        config.setUsername(target.user());
        config.setPassword(target.password());
        config.setMaximumPoolSize(size);
        config.setConnectionTimeout(TimeUnit.SECONDS.toMillis(20));
        config.addDataSourceProperty("prepareThreshold", "1");
        return new HikariDataSource(config);
    }

    private void pooled() throws Exception {
        try (HikariDataSource pool = pool(20)) {
            together(50, id -> {
                for (int n = 0; n < 20; n++) {
                    try (Connection connection = pool.getConnection()) {
                        same(value(connection, "select ?::int + " + n, id), id + n, "answer");
                        connection.setAutoCommit(false);
                        fails(() -> execute(connection, "select 1 / ?::int", 0), "22012", "division");
                    } // handed back in a failed transaction: the pool rolls back
                }
            });
        }
    }

    private void pooledCancel() throws Exception {
        try (HikariDataSource pool = pool(5)) {
            together(5, id -> {
                try (Connection connection = pool.getConnection();
                        Statement statement = connection.createStatement()) {
                    statement.setQueryTimeout(1);
                    fails(() -> statement.execute("select pg_sleep(20)"), "57014", "setQueryTimeout");
                }
            });
            together(50, id -> {
                try (Connection connection = pool.getConnection()) {
                    same(value(connection, "select ?::int", id), id, "afterwards");
                }
            });
        }
    }

    private void hundredAtOnce() throws Exception {
        withTable("many", "client int, round int", (owner, table) -> {
            CyclicBarrier ready = new CyclicBarrier(target.clients());
            together(target.clients(), id -> {
                String name = "fc_" + target.run() + "_" + id;
                connected(connection -> {
                    ready.await(20, TimeUnit.SECONDS);
                    rounds(connection, table, name, id);
                }, "ApplicationName", name, "prepareThreshold", "1");
            });
            same(value(owner, "select count(*) from " + table), target.clients() * 4L, "rows of all");
        });
    }

    /** Five transactions of one of many clients; the last is rolled back. */
    private static void rounds(Connection connection, String table, String name, int id) throws Exception {
        try (PreparedStatement mine = connection.prepareStatement("select ?::int + " + id * 1000)) {
            for (int round = 0; round < 5; round++) {
                connection.setAutoCommit(false);
                execute(connection, "insert into " + table + " values (?, ?)", id, round);
                same(value(mine, round), id * 1000 + round, "mine");
                same(value(connection, "show application_name"), name, "application_name");
                if (round == 4) {
                    connection.rollback();
                } else {
                    connection.commit();
                }
                connection.setAutoCommit(true);
                Object own = value(connection, "select count(*) from " + table + " where client = ?", id);
                same(own, Math.min(round + 1, 4L), "own rows");
            }
        }
    }
}
