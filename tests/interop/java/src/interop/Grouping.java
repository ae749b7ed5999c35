package interop;

import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;

/** Jobs with members of a consumer group, of either protocol (c.group.protocol). */
final class Grouping {
    private Grouping() {}

    static void register(Map<String, Main.Job> jobs) {
        jobs.put("member", Grouping::member);
        jobs.put("commit_order", Grouping::commitOrder);
        jobs.put("commit_back", Grouping::commitBack);
        jobs.put("committed", Grouping::committed);
        jobs.put("commit_metadata", Grouping::commitMetadata);
        jobs.put("wakeup_close", Grouping::wakeupClose);
        jobs.put("seed_consumer", Grouping::seedConsumer);
        jobs.put("outside", Grouping::outside);
        jobs.put("hooked", Grouping::hooked);
    }

    static String list(Collection<TopicPartition> partitions) {
        TreeSet<String> sorted = new TreeSet<>();
        for (TopicPartition tp : partitions) {
            sorted.add(tp.toString());
        }
        return sorted.isEmpty() ? "-" : String.join(",", sorted);
    }

    /**
     * A member: says "assigned LIST", "revoked LIST", "lost LIST" as it happens, writes what it reads to `out`,
     * and obeys words:
     *   close           close() and end
     *   pause, resume   stop polling (heartbeats go on), go on
     *   commit          commitSync(); says "committed" or "commit-failed CLASS"
     */
    static String member(Args a) throws Exception {
        Properties p = a.properties("c.");
        long n = 0;
        boolean paused = false;
        BufferedWriter out = a.has("out") ? Files.newBufferedWriter(Path.of(a.get("out"))) : null;
        KafkaConsumer<byte[], byte[]> c = Consuming.consumer(p);
        ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                a.event("revoked " + System.currentTimeMillis() + " " + list(partitions));
                if (a.has("commit_on_revoke")) {
                    c.commitSync();
                }
            }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                a.event("assigned " + System.currentTimeMillis() + " " + list(partitions));
            }

            @Override
            public void onPartitionsLost(Collection<TopicPartition> partitions) {
                a.event("lost " + System.currentTimeMillis() + " " + list(partitions));
            }
        };
        try {
            if (a.has("re2")) {
                c.subscribe(new SubscriptionPattern(a.get("re2")), listener);
            } else if (a.has("pattern")) {
                c.subscribe(Pattern.compile(a.get("pattern")), listener);
            } else {
                c.subscribe(Arrays.asList(a.get("topic").split(",")), listener);
            }
            while (true) {
                String word = a.word(paused ? 50 : 0);
                if (word != null) {
                    switch (word) {
                    case "close": {
                        long started = System.nanoTime();
                        c.close();
                        return "read=" + n + " close_ms=" + (System.nanoTime() - started) / 1_000_000;
                    }
                    case "pause":
                        paused = true;
                        a.event("paused");
                        break;
                    case "resume":
                        paused = false;
                        break;
                    case "commit":
                        try {
                            // Named, because in a rebalance the consumer owns nothing and would commit nothing.
                            c.commitSync(Map.of(new TopicPartition(a.get("topic"), 0), new OffsetAndMetadata(1)),
                                         Duration.ofSeconds(20));
                            a.event("committed");
                        } catch (Exception e) {
                            a.event("commit-failed " + e.getClass().getSimpleName());
                        }
                        break;
                    default:
                        if (word.startsWith("subscribe:")) {
                            c.subscribe(Arrays.asList(word.substring(10).split(",")), listener);
                            break;
                        }
                        throw new IllegalArgumentException(word);
                    }
                }
                if (paused) {
                    continue;
                }
                try {
                    for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(100))) {
                        if (out != null) {
                            out.write(r.topic() + " " + r.partition() + " " + r.offset() + " " + Consuming.text(r.value()) + "\n");
                        }
                        n++;
                    }
                    if (out != null) {
                        out.flush();
                    }
                } catch (org.apache.kafka.common.errors.FencedInstanceIdException e) {
                    a.event("fenced");
                    return "read=" + n + " fenced";
                }
                if (a.has("commit_each")) {
                    try {
                        c.commitSync();
                    } catch (org.apache.kafka.common.errors.RebalanceInProgressException e) {
                        a.event("commit-failed RebalanceInProgressException");
                    }
                }
            }
        } finally {
            try {
                c.close(Duration.ofSeconds(5));
            } catch (RuntimeException e) {
                a.event("close-failed " + e.getClass().getSimpleName());
            }
            if (out != null) {
                try {
                    out.close();
                } catch (IOException e) {
                    a.event("out-failed");
                }
            }
        }
    }

    /** Poll until there is an assignment. */
    static void join(KafkaConsumer<?, ?> c) {
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (c.assignment().isEmpty() && System.nanoTime() < deadline) {
            c.poll(Duration.ofMillis(100));
        }
        if (c.assignment().isEmpty()) {
            throw new IllegalStateException("no assignment within 20 s");
        }
    }

    static Properties alone(Args a) {
        Properties p = a.properties("c.");
        p.put("group.id", a.get("group"));
        p.put("enable.auto.commit", "false");
        return p;
    }

    /** commitAsync(first) and commitAsync(second) without waiting between; callbacks in order. */
    static String commitOrder(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = Consuming.consumer(alone(a))) {
            c.subscribe(List.of(a.get("topic")));
            join(c);
            TopicPartition tp = new TopicPartition(a.get("topic"), 0);
            StringBuilder order = new StringBuilder();
            for (String offset : a.get("offsets").split(",")) {
                c.commitAsync(Map.of(tp, new OffsetAndMetadata(Long.parseLong(offset))), (m, e) -> {
                    order.append(e == null ? offset : e.getClass().getSimpleName()).append(',');
                });
            }
            long deadline = System.nanoTime() + 10_000_000_000L;
            while (order.toString().split(",").length < a.get("offsets").split(",").length && System.nanoTime() < deadline) {
                c.poll(Duration.ofMillis(50));
            }
            return "order=" + order;
        }
    }

    /** commitSync of each offset in turn. */
    static String commitBack(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = Consuming.consumer(alone(a))) {
            c.subscribe(List.of(a.get("topic")));
            join(c);
            TopicPartition tp = new TopicPartition(a.get("topic"), 0);
            // A poll may end while its own OffsetFetch is under way, and committed() would take over the answer to that,
            // which is older than the commits. Once the position is known there is none.
            c.position(tp);
            for (String offset : a.get("offsets").split(",")) {
                c.commitSync(Map.of(tp, new OffsetAndMetadata(Long.parseLong(offset))));
            }
            return "committed=" + c.committed(java.util.Set.of(tp)).get(tp).offset();
        }
    }

    static String committed(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = Consuming.consumer(alone(a))) {
            TopicPartition tp = new TopicPartition(a.get("topic"), a.number("partition", 0));
            OffsetAndMetadata m = c.committed(java.util.Set.of(tp)).get(tp);
            if (m == null) {
                return "committed=none";
            }
            return "committed=" + m.offset() + " epoch=" + m.leaderEpoch().map(String::valueOf).orElse("none")
                + " metadata_bytes=" + m.metadata().length();
        }
    }

    static String commitMetadata(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = Consuming.consumer(alone(a))) {
            TopicPartition tp = new TopicPartition(a.get("topic"), 0);
            c.assign(List.of(tp));
            String text = "m".repeat(a.number("bytes", 10));
            try {
                c.commitSync(Map.of(tp, new OffsetAndMetadata(7, java.util.Optional.of(0), text)));
                return "committed";
            } catch (Exception e) {
                return "error=" + e.getClass().getSimpleName();
            }
        }
    }

    /** wakeup() out of a 30 s poll, then close(): how long that took. */
    static String wakeupClose(Args a) throws Exception {
        Properties p = alone(a);
        KafkaConsumer<byte[], byte[]> c = Consuming.consumer(p);
        CountDownLatch polling = new CountDownLatch(1);
        AtomicReference<String> outcome = new AtomicReference<>("none");
        Thread t = new Thread(() -> {
            c.subscribe(List.of(a.get("topic")));
            try {
                join(c);
                polling.countDown();
                c.poll(Duration.ofSeconds(30));
                outcome.set("returned");
            } catch (WakeupException e) {
                long started = System.nanoTime();
                c.close();
                outcome.set("close_ms=" + (System.nanoTime() - started) / 1_000_000);
            } catch (Exception e) {
                outcome.set(Main.describe(e));
            }
        });
        t.start();
        if (!polling.await(25, TimeUnit.SECONDS)) {
            return "never joined: " + outcome.get();
        }
        a.event("polling");
        a.word(20000);
        c.wakeup();
        t.join(10000);
        return outcome.get();
    }

    /** The consumer of the seed notes: subscribe(list), count by country, commitSync after each poll. */
    static String seedConsumer(Args a) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", a.get("bootstrap"));
        p.putAll(a.properties("c."));
        p.put("group.id", a.get("group"));
        p.put("auto.offset.reset", "earliest");
        p.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        p.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        Map<String, Integer> perKey = new HashMap<>();
        int n = 0;
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p)) {
            consumer.subscribe(List.of(a.get("topic")));
            long deadline = System.nanoTime() + 20_000_000_000L;
            while (n < a.number("count", 1) && System.nanoTime() < deadline) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100))) {
                    perKey.merge(r.key(), 1, Integer::sum);
                    n++;
                }
                consumer.commitSync();
            }
        }
        return "read=" + n + " keys=" + perKey.size();
    }

    /**
     * Results and offsets are kept together outside of Kafka: one line of `out` is a record and where it stood, written
     * whole or not at all. After whatever happened the consumer seeks to where its own lines end. Nothing is committed.
     */
    static String outside(Args a) throws Exception {
        Path out = Path.of(a.get("out"));
        Properties p = a.properties("c.");
        p.put("enable.auto.commit", "false");
        Map<TopicPartition, Long> next = new HashMap<>();
        if (Files.exists(out)) {
            String text = Files.readString(out);
            String whole = text.substring(0, text.lastIndexOf('\n') + 1);
            Files.writeString(out, whole); // what the crash cut did not happen
            for (String line : whole.lines().toList()) {
                String[] f = line.split(" ", 4);
                next.put(new TopicPartition(f[0], Integer.parseInt(f[1])), Long.parseLong(f[2]) + 1);
            }
        }
        try (KafkaConsumer<byte[], byte[]> c = Consuming.consumer(p);
             BufferedWriter to = Files.newBufferedWriter(out, java.nio.file.StandardOpenOption.CREATE,
                                                         java.nio.file.StandardOpenOption.APPEND)) {
            c.subscribe(List.of(a.get("topic")), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    for (TopicPartition tp : partitions) {
                        c.seek(tp, next.getOrDefault(tp, 0L));
                    }
                    a.event("assigned " + list(partitions));
                }
            });
            while (!"close".equals(a.word(0))) {
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(50))) {
                    if (c.position(new TopicPartition(r.topic(), r.partition())) <= r.offset()) {
                        throw new IllegalStateException("position() behind a record");
                    }
                    to.write(r.topic() + " " + r.partition() + " " + r.offset() + " " + Consuming.text(r.value()) + "\n");
                    to.flush();
                }
            }
        }
        return "closed";
    }

    /** Shutdown by SIGTERM as the seed notes do it: a hook wakes the consumer up out of a long poll, and waits for its end. */
    static String hooked(Args a) throws Exception {
        KafkaConsumer<byte[], byte[]> c = Consuming.consumer(a.properties("c."));
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            c.wakeup();
            try {
                main.join(10_000);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }));
        try {
            c.subscribe(List.of(a.get("topic")));
            join(c);
            a.event("polling");
            while (true) {
                c.poll(Duration.ofSeconds(30));
            }
        } catch (WakeupException e) {
            Files.writeString(Path.of(a.get("out")), "woken\n");
        } finally {
            c.close();
            Files.writeString(Path.of(a.get("out")), Files.readString(Path.of(a.get("out"))) + "closed\n");
        }
        return "closed";
    }
}
