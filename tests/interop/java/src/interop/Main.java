package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The stock Java client (kafka-clients 4.4.0) as a server of small jobs, so that one JVM start pays for
 * many tests. One line in is one job, run in a thread of its own:
 *
 *   in   ID JOB key=value ...     values are percent-encoded
 *   in   ID ! text                a word for a running job (Args.word)
 *   out  ID EVENT text            while it runs
 *   out  ID OK text | ID FAIL text
 *
 * End of input ends the process.
 */
public final class Main {
    interface Job {
        String run(Args args) throws Exception;
    }

    static final Map<String, Job> JOBS = new TreeMap<>();
    static final PrintStream OUT = System.out;

    static void say(String line) {
        synchronized (OUT) {
            OUT.print(line.replace('\n', ' ').replace('\r', ' ') + "\n");
            OUT.flush();
        }
    }

    public static void main(String[] argv) throws Exception {
        System.setOut(System.err); // what libraries print must not mix with the answers
        Producing.register(JOBS);
        Consuming.register(JOBS);
        Grouping.register(JOBS);
        Administering.register(JOBS);
        Transacting.register(JOBS);

        Map<String, Args> running = new ConcurrentHashMap<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = in.readLine()) != null) {
            String[] words = line.split(" ");
            String id = words[0];
            if (words[1].equals("!")) {
                Args target = running.get(id);
                if (target != null) {
                    target.words.add(words[2]);
                }
                continue;
            }
            Args args = new Args(id, words);
            running.put(id, args);
            Thread thread = new Thread(() -> {
                String verdict;
                try {
                    Job job = JOBS.get(args.job);
                    if (job == null) {
                        throw new IllegalArgumentException("no such job: " + args.job);
                    }
                    verdict = "OK " + job.run(args);
                } catch (Throwable t) {
                    verdict = "FAIL " + describe(t);
                }
                running.remove(id);
                say(id + " " + verdict);
            }, args.job + "-" + id);
            thread.setDaemon(true);
            thread.start();
        }
        Runtime.getRuntime().halt(0);
    }

    static String describe(Throwable t) {
        StringBuilder text = new StringBuilder();
        for (Throwable c = t; c != null && text.length() < 2000; c = c.getCause()) {
            text.append(text.length() == 0 ? "" : " <- ").append(c.getClass().getSimpleName()).append(": ")
                .append(c.getMessage());
        }
        StackTraceElement[] trace = t.getStackTrace();
        for (int i = 0; i < trace.length; i++) {
            if (trace[i].getClassName().startsWith("interop.")) {
                text.append(" at ").append(trace[i]);
                break;
            }
        }
        return text.toString();
    }
}
