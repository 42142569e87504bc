package clients;

import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Properties;

/** Where the scenarios run: TARGET_DSN as a JDBC address, user and password. */
record Target(String url, String user, String password, String run, int clients) {

    static Target fromEnvironment() {
        URI dsn = URI.create(System.getenv("TARGET_DSN"));
        String query = dsn.getRawQuery() == null ? "" : dsn.getRawQuery();
        if (!query.contains("sslmode=")) {
            query += (query.isEmpty() ? "" : "&") + "sslmode=disable";
        }
        String[] login = dsn.getRawUserInfo().split(":", 2);
        String url = "jdbc:postgresql://" + dsn.getHost() + ":" + dsn.getPort() + dsn.getRawPath() + "?" + query;
        String run = ProcessHandle.current().pid() + "_" + Long.toString(System.currentTimeMillis(), 36);
        int clients = Integer.parseInt(System.getenv().getOrDefault("TARGET_CLIENTS", "100"));
        return new Target(url, decoded(login[0]), decoded(login[1]), run, clients);
    }

    private static String decoded(String text) {
        return URLDecoder.decode(text.replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    /** Opens a connection; options are names and values of the driver's properties in turn. */
    Connection connect(String... options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", user);
        properties.setProperty("password", password);
        for (int i = 0; i < options.length; i += 2) {
            properties.setProperty(options[i], options[i + 1]);
        }
        return DriverManager.getConnection(url, properties);
    }
}
