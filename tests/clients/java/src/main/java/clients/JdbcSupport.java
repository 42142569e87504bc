package clients;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** What the scenarios share: short forms of JDBC calls. */
abstract class JdbcSupport {
    /** More than a pooler keeps per server. */
    static final int STATEMENTS = 300;

    interface Use {
        void run(Connection connection) throws Exception;
    }

    interface TableUse {
        void run(Connection connection, String table) throws Exception;
    }

    final Target target;

    JdbcSupport(Target target) {
        this.target = target;
    }

    abstract void addTo(Scenarios scenarios);

    void connected(Use use, String... options) throws Exception {
        try (Connection connection = target.connect(options)) {
            use.run(connection);
        }
    }

    void withTable(String what, String columns, TableUse use) throws Exception {
        String table = "fc_jdbc_" + target.run() + "_" + what;
        connected(owner -> {
            execute(owner, "create table " + table + " (" + columns + ")");
            try {
                connected(connection -> use.run(connection, table));
            } finally {
                execute(owner, "drop table " + table);
            }
        });
    }

    static void execute(Connection on, String text, Object... values) throws SQLException {
        if (values.length == 0) {
            try (Statement statement = on.createStatement()) {
                statement.execute(text);
            }
            return;
        }
        try (PreparedStatement statement = on.prepareStatement(text)) {
            bind(statement, values);
            statement.execute();
        }
    }

    static Object value(Connection on, String text, Object... values) throws SQLException {
        try (PreparedStatement statement = on.prepareStatement(text)) {
            return value(statement, values);
        }
    }

    static Object value(PreparedStatement statement, Object... values) throws SQLException {
        bind(statement, values);
        try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getObject(1);
        }
    }

    private static void bind(PreparedStatement statement, Object... values) throws SQLException {
        for (int i = 0; i < values.length; i++) {
            statement.setObject(i + 1, values[i]);
        }
    }
}
