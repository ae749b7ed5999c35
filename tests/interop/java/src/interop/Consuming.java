package interop;

import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Jobs with a consumer outside a group, or alone in one. */
final class Consuming {
    private Consuming() {}

    static void register(Map<String, Main.Job> jobs) {
        jobs.put("consume", Consuming::consume);
        jobs.put("read_records", Consuming::readRecords);
        jobs.put("seek", Consuming::seek);
        jobs.put("reset", Consuming::reset);
        jobs.put("offsets_for", Consuming::offsetsFor);
        jobs.put("latency", Consuming::latency);
        jobs.put("every_partition_advances", Consuming::everyPartitionAdvances);
        jobs.put("many_groups", Consuming::manyGroups);
        jobs.put("hold_poll", Consuming::holdPoll);
    }

    static KafkaConsumer<byte[], byte[]> consumer(Properties p) {
        p.putIfAbsent("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<TopicPartition> partitions(KafkaConsumer<?, ?> c, String topic) {
        List<TopicPartition> all = new ArrayList<>();
        for (PartitionInfo info : c.partitionsFor(topic)) {
            all.add(new TopicPartition(topic, info.partition()));
        }
        return all;
    }

    static String text(byte[] b) {
        return b == null ? "~" : new String(b, StandardCharsets.UTF_8);
    }

    /**
     * Read a topic (assign all partitions; or subscribe, when group.id is given) until `count` records came,
     * or nothing came for `idle_ms`, or with `to_end` what was the end of each partition at the beginning is
     * reached; "partition offset value" lines to `out`. Checks offsets rise.
     */
    static String consume(Args a) throws Exception {
        Properties p = a.properties("c.");
        long count = a.large("count", Long.MAX_VALUE);
        long idleMs = a.large("idle_ms", 3000);
        long n = 0;
        int disorder = 0;
        Map<TopicPartition, Long> last = new TreeMap<>((x, y) -> x.toString().compareTo(y.toString()));
        Map<TopicPartition, Long> ends = null;
        BufferedWriter out = a.has("out") ? Files.newBufferedWriter(Path.of(a.get("out"))) : null;
        try (KafkaConsumer<byte[], byte[]> c = consumer(p)) {
            if (p.containsKey("group.id")) {
                c.subscribe(Arrays.asList(a.get("topic").split(",")));
            } else {
                List<TopicPartition> all = partitions(c, a.get("topic"));
                c.assign(all);
                if (a.has("to_end")) {
                    ends = c.endOffsets(all);
                }
                if (!a.has("from_end")) {
                    c.seekToBeginning(all);
                } else {
                    c.seekToEnd(all);
                    for (TopicPartition tp : all) {
                        c.position(tp);
                    }
                    a.event("ready");
                }
            }
            long quietSince = System.nanoTime();
            while (n < count && !a.told("stop") && (System.nanoTime() - quietSince) / 1_000_000 < idleMs
                   && !hasReached(c, ends)) {
                ConsumerRecords<byte[], byte[]> records = c.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> r : records) {
                    TopicPartition tp = new TopicPartition(r.topic(), r.partition());
                    Long before = last.put(tp, r.offset());
                    if (before != null && before >= r.offset()) {
                        disorder++;
                    }
                    if (out != null) {
                        out.write(r.partition() + " " + r.offset() + " " + text(r.value()) + "\n");
                    }
                    n++;
                }
                if (!records.isEmpty()) {
                    quietSince = System.nanoTime();
                }
            }
            if (p.containsKey("group.id")) {
                c.commitSync();
            }
        } finally {
            if (out != null) {
                out.close();
            }
        }
        return "read=" + n + " disorder=" + disorder;
    }

    static boolean hasReached(KafkaConsumer<?, ?> c, Map<TopicPartition, Long> ends) {
        return ends != null && ends.entrySet().stream().allMatch(e -> c.position(e.getKey()) >= e.getValue());
    }

    static String hex(byte[] b) {
        if (b == null) {
            return "~";
        }
        StringBuilder s = new StringBuilder();
        for (byte x : b) {
            s.append(String.format("%02x", x));
        }
        return s.toString();
    }

    /** Partition 0 of a topic in the format of Producing.writeRecords. */
    static String readRecords(Args a) throws Exception {
        int n = 0;
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.properties("c."));
             BufferedWriter out = Files.newBufferedWriter(Path.of(a.get("out")))) {
            TopicPartition tp = new TopicPartition(a.get("topic"), 0);
            c.assign(List.of(tp));
            c.seekToBeginning(List.of(tp));
            long deadline = System.nanoTime() + 20_000_000_000L;
            while (n < a.number("count", 1) && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) {
                    StringBuilder headers = new StringBuilder();
                    for (Header h : r.headers()) {
                        headers.append(headers.length() == 0 ? "" : ",")
                            .append(hex(h.key().getBytes(StandardCharsets.UTF_8))).append(':').append(hex(h.value()));
                    }
                    out.write(hex(r.key()) + " " + hex(r.value()) + " " + (headers.length() == 0 ? "-" : headers) + "\n");
                    n++;
                }
            }
        }
        return "read=" + n;
    }

    /** seek() to `offset`: position, then offset and value of the first record that comes. */
    static String seek(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.properties("c."))) {
            TopicPartition tp = new TopicPartition(a.get("topic"), a.number("partition", 0));
            c.assign(List.of(tp));
            c.seek(tp, a.large("offset", 0));
            long position = c.position(tp);
            long deadline = System.nanoTime() + 15_000_000_000L;
            while (System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) {
                    return "position=" + position + " first=" + r.offset() + " value=" + text(r.value())
                        + " assignment=" + c.assignment().size();
                }
            }
            return "position=" + position + " first=none";
        }
    }

    /** seek() out of range: what auto.offset.reset makes of it ("first=N", or the exception's class). */
    static String reset(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.properties("c."))) {
            TopicPartition tp = new TopicPartition(a.get("topic"), 0);
            c.assign(List.of(tp));
            c.seek(tp, a.large("offset", 0));
            long deadline = System.nanoTime() + a.number("wait_ms", 5000) * 1_000_000L;
            try {
                while (System.nanoTime() < deadline) {
                    for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) {
                        return "first=" + r.offset();
                    }
                    // Under `latest` nothing comes, but the position has moved to the end.
                    if (c.position(tp) != a.large("offset", 0)) {
                        long position = c.position(tp);
                        for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(1000))) {
                            return "first=" + r.offset();
                        }
                        return "position=" + position;
                    }
                }
            } catch (Exception e) {
                return "error=" + e.getClass().getSimpleName();
            }
            return "nothing";
        }
    }

    /** beginningOffsets, endOffsets, and offsetsForTimes for each timestamp of `times`. */
    static String offsetsFor(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.properties("c."))) {
            TopicPartition tp = new TopicPartition(a.get("topic"), 0);
            StringBuilder s = new StringBuilder();
            s.append("begin=").append(c.beginningOffsets(List.of(tp)).get(tp));
            s.append(" end=").append(c.endOffsets(List.of(tp)).get(tp)).append(" times=");
            for (String t : a.get("times", "").split(",")) {
                if (!t.isEmpty()) {
                    OffsetAndTimestamp o = c.offsetsForTimes(Map.of(tp, Long.parseLong(t))).get(tp);
                    s.append(t).append(':').append(o == null ? "none" : o.offset() + "@" + o.timestamp()).append(',');
                }
            }
            return s.toString();
        }
    }

    /** A tail consumer with a long fetch.max.wait.ms; told "N" it says "got" for each record as it comes. */
    static String latency(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.properties("c."))) {
            List<TopicPartition> all = partitions(c, a.get("topic"));
            c.assign(all);
            c.seekToEnd(all);
            for (TopicPartition tp : all) {
                c.position(tp);
            }
            c.poll(Duration.ofMillis(500)); // the long poll is now at the broker
            a.event("ready");
            int n = 0;
            int count = a.number("count", 1);
            long worst = 0;
            long deadline = System.nanoTime() + 40_000_000_000L;
            while (n < count && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(100))) {
                    worst = Math.max(worst, System.currentTimeMillis() - r.timestamp());
                    n++;
                    a.event("got");
                }
            }
            return "read=" + n + " worst_ms=" + worst;
        }
    }

    /** With a small fetch.max.bytes: after how many polls has every partition delivered something? */
    static String everyPartitionAdvances(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.properties("c."))) {
            List<TopicPartition> all = partitions(c, a.get("topic"));
            c.assign(all);
            c.seekToBeginning(all);
            TreeSet<Integer> seen = new TreeSet<>();
            long n = 0;
            long deadline = System.nanoTime() + 30_000_000_000L;
            while (seen.size() < all.size() && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) {
                    seen.add(r.partition());
                    n++;
                }
            }
            return "partitions=" + all.size() + " seen=" + seen.size() + " records=" + n;
        }
    }

    /** G groups, one consumer each, tail the topic; told "stop" they report what each has read. */
    static String manyGroups(Args a) throws Exception {
        int groups = a.number("groups", 10);
        AtomicInteger ready = new AtomicInteger();
        int[] counts = new int[groups];
        int count = a.number("count", 1000);
        List<Thread> threads = new ArrayList<>();
        List<String> failures = Collections.synchronizedList(new ArrayList<>());
        for (int g = 0; g < groups; g++) {
            int me = g;
            Thread t = new Thread(() -> {
                Properties p = a.properties("c.");
                p.put("group.id", a.get("prefix") + me);
                try (KafkaConsumer<byte[], byte[]> c = consumer(p)) {
                    c.subscribe(List.of(a.get("topic")));
                    long deadline = System.nanoTime() + 90_000_000_000L;
                    boolean said = false;
                    while (counts[me] < count && System.nanoTime() < deadline) {
                        counts[me] += c.poll(Duration.ofMillis(200)).count();
                        if (!said && !c.assignment().isEmpty()) {
                            said = true;
                            if (ready.incrementAndGet() == groups) {
                                a.event("ready");
                            }
                        }
                    }
                } catch (Exception e) {
                    failures.add(Main.describe(e));
                }
            });
            t.start();
            threads.add(t);
        }
        for (Thread t : threads) {
            t.join();
        }
        int min = Integer.MAX_VALUE;
        int max = 0;
        for (int c : counts) {
            min = Math.min(min, c);
            max = Math.max(max, c);
        }
        return "min=" + min + " max=" + max + " failures=" + failures.size() + (failures.isEmpty() ? "" : " " + failures.get(0));
    }

    /** Sits in a long poll at the end of a topic until it is told "stop" (or its process is killed). */
    static String holdPoll(Args a) throws Exception {
        try (KafkaConsumer<byte[], byte[]> c = consumer(a.properties("c."))) {
            List<TopicPartition> all = partitions(c, a.get("topic"));
            c.assign(all);
            c.seekToEnd(all);
            for (TopicPartition tp : all) {
                c.position(tp);
            }
            boolean said = false;
            while (!a.told("stop")) {
                c.poll(Duration.ofMillis(500));
                if (!said) {
                    a.event("ready");
                    said = true;
                }
            }
            return "";
        }
    }
}
