package clients;

import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Runs named scenarios and prints one JSON line for each. */
final class Scenarios {
    static final int SCENARIO_SECONDS = 30;

    interface Scenario {
        void run() throws Exception;
    }

    interface Work {
        void run(int id) throws Exception;
    }

    private final Map<String, Scenario> all = new LinkedHashMap<>();

    void add(String name, Scenario scenario) {
        all.put(name, scenario);
    }

    /** True if every scenario passed. */
    boolean run(String driver) {
        boolean passed = true;
        for (Map.Entry<String, Scenario> entry : all.entrySet()) {
            String failure = failure(entry.getValue());
            System.out.printf(
                    "{\"driver\": \"%s\", \"scenario\": \"%s\", \"ok\": %b, \"detail\": \"%s\"}%n",
                    driver, entry.getKey(), failure == null, failure == null ? "" : escaped(failure));
            passed &= failure == null;
        }
        return passed;
    }

    private static String failure(Scenario scenario) {
        ExecutorService executor = Executors.newSingleThreadExecutor(Scenarios::daemon);
        Future<?> result = executor.submit((Callable<Void>) () -> {
            scenario.run();
            return null;
        });
        try {
            result.get(SCENARIO_SECONDS, TimeUnit.SECONDS);
            return null;
        } catch (ExecutionException error) {
            return explained(error.getCause());
        } catch (TimeoutException | InterruptedException error) {
            return "not finished after " + SCENARIO_SECONDS + " s";
        } finally {
            executor.shutdownNow();
        }
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    }

    private static String explained(Throwable error) {
        String state = error instanceof SQLException sql ? sql.getSQLState() + " " : "";
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("clients.Jdbc")) {
                return state + error + " at line " + frame.getLineNumber();
            }
        }
        return state + error;
    }

    private static String escaped(String text) {
        StringBuilder out = new StringBuilder();
        for (char c : text.toCharArray()) {
            if (c < ' ' || c == '"' || c == '\\') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.toString();
    }

    static void check(boolean condition, String message) {
        if (!condition) {
            throw new AssertionError(message);
        }
    }

    static void same(Object actual, Object expected, String what) {
        check(Objects.deepEquals(actual, expected), what + ": got " + actual + ", expected " + expected);
    }

    static SQLException fails(Scenario work, String state, String what) throws Exception {
        try {
            work.run();
        } catch (SQLException error) {
            check(state.equals(error.getSQLState()), what + ": " + error.getSQLState() + " " + error);
            return error;
        }
        throw new AssertionError(what + ": no error, expected " + state);
    }

    /** Waits for a condition, 10 s at most. */
    static void until(Callable<Boolean> condition, String what) throws Exception {
        for (int attempt = 0; attempt < 1000; attempt++) {
            if (condition.call()) {
                return;
            }
            Thread.sleep(10);
        }
        throw new AssertionError("waited 10 s in vain: " + what);
    }

    /** Runs work(0) to work(count - 1) side by side; throws a failure once all have ended. */
    static void together(int count, Work work) throws Exception {
        ExecutorService executor = Executors.newFixedThreadPool(count, Scenarios::daemon);
        List<Future<?>> results = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            int id = i;
            results.add(executor.submit((Callable<Void>) () -> {
                work.run(id);
                return null;
            }));
        }
        executor.shutdown();
        Throwable failure = null;
        for (Future<?> result : results) {
            try {
                result.get();
            } catch (ExecutionException error) {
                failure = weightier(failure, error.getCause());
            }
        }
        if (failure != null) {
            if (failure instanceof Exception cause) {
                throw cause;
            }
            throw (Error) failure;
        }
    }

    /** A database's error explains more than the barrier that broke because of it. */
    private static Throwable weightier(Throwable first, Throwable next) {
        boolean better = next instanceof SQLException && !(first instanceof SQLException);
        return first == null || better ? next : first;
    }
}
