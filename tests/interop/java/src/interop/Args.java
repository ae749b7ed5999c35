package interop;

import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The arguments of a job, and the words it is told while it runs. */
final class Args {
    final String id;
    final String job;
    final BlockingQueue<String> words = new LinkedBlockingQueue<>();
    private final Map<String, String> values = new HashMap<>();

    Args(String id, String[] line) {
        this.id = id;
        this.job = line[1];
        for (int i = 2; i < line.length; i++) {
            int equals = line[i].indexOf('=');
            values.put(line[i].substring(0, equals),
                       URLDecoder.decode(line[i].substring(equals + 1), StandardCharsets.UTF_8));
        }
    }

    boolean has(String name) {
        return values.containsKey(name);
    }

    String get(String name) {
        String value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException("argument missing: " + name);
        }
        return value;
    }

    String get(String name, String absent) {
        return values.getOrDefault(name, absent);
    }

    int number(String name, int absent) {
        return has(name) ? Integer.parseInt(get(name)) : absent;
    }

    long large(String name, long absent) {
        return has(name) ? Long.parseLong(get(name)) : absent;
    }

    void event(String text) {
        Main.say(id + " EVENT " + text);
    }

    /** The next word told to this job, or null after `ms` milliseconds. */
    String word(long ms) throws InterruptedException {
        return ms <= 0 ? words.poll() : words.poll(ms, TimeUnit.MILLISECONDS);
    }

    boolean told(String word) {
        return words.remove(word);
    }

    /** bootstrap.servers and everything given with `prefix`, e.g. "p.linger.ms" for prefix "p.". */
    Properties properties(String prefix) {
        Properties p = new Properties();
        p.put("bootstrap.servers", get("bootstrap"));
        for (Map.Entry<String, String> e : values.entrySet()) {
            if (e.getKey().startsWith(prefix)) {
                p.put(e.getKey().substring(prefix.length()), e.getValue());
            }
        }
        return p;
    }
}
