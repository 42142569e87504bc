package clients;

/** usage: TARGET_DSN=postgresql://… [TARGET_CLIENTS=100] java -cp … clients.Main jdbc */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) {
        if (arguments.length != 1 || !arguments[0].equals("jdbc") || System.getenv("TARGET_DSN") == null) {
            System.err.println("usage: TARGET_DSN=postgresql://... java -cp ... clients.Main jdbc");
            System.exit(2);
        }
        Target target = Target.fromEnvironment();
        Scenarios scenarios = new Scenarios();
        new JdbcSql(target).addTo(scenarios);
        new JdbcBulk(target).addTo(scenarios);
        new JdbcMany(target).addTo(scenarios);
        System.exit(scenarios.run("jdbc") ? 0 : 1);
    }
}
