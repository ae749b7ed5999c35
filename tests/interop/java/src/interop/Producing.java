package interop;

import java.io.BufferedWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Partitioner;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Utils;

/** Jobs with a producer. */
final class Producing {
    private Producing() {}

    static void register(Map<String, Main.Job> jobs) {
        jobs.put("produce", Producing::produce);
        jobs.put("write_records", Producing::writeRecords);
        jobs.put("metadata_of_sends", Producing::metadataOfSends);
        jobs.put("partial_failure", Producing::partialFailure);
        jobs.put("partitions_for", Producing::partitionsFor);
        jobs.put("bad_partition", Producing::badPartition);
        jobs.put("seed_producer", Producing::seedProducer);
        jobs.put("idle_then_send", Producing::idleThenSend);
        jobs.put("many_producers", Producing::manyProducers);
        jobs.put("keys", Producing::keys);
    }

    static KafkaProducer<byte[], byte[]> producer(Args a) {
        Properties p = a.properties("p.");
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    /** ASCII "<prefix><sequence>" padded with dots to `size`. */
    static byte[] value(String prefix, long sequence, int size) {
        StringBuilder s = new StringBuilder(prefix).append(sequence);
        while (s.length() < size) {
            s.append('.');
        }
        return bytes(s.toString());
    }

    static boolean waitABit() throws InterruptedException {
        Thread.sleep(2);
        return true;
    }

    /**
     * Send `count` records (or until told "stop"), values "<prefix><n>" with n counted per partition; write
     * what was acknowledged to `out` as "partition offset value" (told "sync", all of it so far); check that
     * callbacks of a partition come in the order of the sends. With `portion`, so many at first, and again when
     * told "go".
     */
    static String produce(Args a) throws Exception {
        String topic = a.get("topic");
        String prefix = a.get("prefix", "v");
        long count = a.large("count", Long.MAX_VALUE);
        int size = a.number("size", 0);
        int partitions = a.number("partitions", 0); // 0: the client chooses
        int rate = a.number("rate", 0);
        int portion = a.number("portion", 0);
        long limit = portion;
        String keys = a.get("keys", "none");
        boolean stopAtError = a.has("stop_at_error");
        AtomicLong acked = new AtomicLong();
        AtomicLong failed = new AtomicLong();
        AtomicInteger disorder = new AtomicInteger();
        Map<String, Integer> errors = new TreeMap<>();
        Map<Integer, Long> next = new HashMap<>();
        Map<Integer, Long> lastSeen = new HashMap<>();
        long sent = 0;
        long started = System.nanoTime();
        BufferedWriter out = a.has("out") ? Files.newBufferedWriter(Path.of(a.get("out"))) : null;
        KafkaProducer<byte[], byte[]> producer = producer(a);
        try {
            if (a.has("warm")) { // one record first, then wait for the word
                producer.send(new ProducerRecord<>(topic, bytes("warm"))).get();
                a.event("warm");
                a.word(60000);
                started = System.nanoTime();
            }
            for (; sent < count && !a.told("stop"); sent++) {
                Integer partition = partitions > 0 ? (int) (sent % partitions) : null;
                int lane = partition == null ? -1 : partition;
                long sequence = next.merge(lane, 1L, Long::sum) - 1;
                byte[] value = value(prefix + (lane >= 0 ? lane + ":" : ""), sequence, size);
                byte[] key = keys.equals("seq") ? bytes("k" + sent) : keys.equals("one") ? bytes("k") : null;
                try {
                    producer.send(new ProducerRecord<>(topic, partition, key, value), (RecordMetadata m, Exception e) -> {
                        if (e != null) {
                            failed.incrementAndGet();
                            synchronized (errors) {
                                errors.merge(e.getClass().getSimpleName(), 1, Integer::sum);
                            }
                            return;
                        }
                        acked.incrementAndGet();
                        synchronized (lastSeen) {
                            if (lane >= 0) {
                                Long last = lastSeen.put(lane, sequence);
                                if (last != null && last >= sequence) {
                                    disorder.incrementAndGet();
                                }
                            }
                            if (out != null) {
                                try {
                                    out.write(m.partition() + " " + m.offset() + " "
                                              + new String(value, StandardCharsets.UTF_8) + "\n");
                                } catch (java.io.IOException io) {
                                    throw new IllegalStateException(io);
                                }
                            }
                        }
                    });
                } catch (Exception e) {
                    failed.incrementAndGet();
                    synchronized (errors) {
                        errors.merge(e.getClass().getSimpleName(), 1, Integer::sum);
                    }
                    if (stopAtError) {
                        break;
                    }
                }
                do {
                    if (a.told("go")) {
                        limit = sent + portion;
                        started = System.nanoTime() - sent * 1_000_000_000L / Math.max(rate, 1); // it owes nothing
                    }
                    if (a.told("sync")) {
                        synchronized (lastSeen) {
                            out.flush();
                        }
                        a.event("synced=" + acked.get());
                    }
                } while (portion > 0 && sent >= limit && !a.words.contains("stop") && waitABit());
                if (rate > 0) {
                    long due = started + (sent + 1) * 1_000_000_000L / rate;
                    long wait = due - System.nanoTime();
                    if (wait > 0) {
                        Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
                    }
                }
                if (a.has("report_every") && sent % a.number("report_every", 1) == 0) {
                    a.event("sent=" + sent + " acked=" + acked.get());
                }
            }
            if (!a.has("no_flush")) {
                producer.flush();
            }
        } finally {
            producer.close(Duration.ofMillis(a.number("close_ms", 60000)));
            if (out != null) {
                synchronized (lastSeen) {
                    out.close();
                }
            }
        }
        return "sent=" + sent + " acked=" + acked + " failed=" + failed + " disorder=" + disorder + " ms="
            + (System.nanoTime() - started) / 1_000_000 + " errors=" + errors.toString().replace(" ", "");
    }

    /** N producers, each in its own thread with its own connection, `count` records each. */
    static String manyProducers(Args a) throws Exception {
        int n = a.number("producers", 8);
        int count = a.number("count", 1000);
        AtomicLong acked = new AtomicLong();
        AtomicLong failed = new AtomicLong();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            int me = i;
            Thread t = new Thread(() -> {
                try (KafkaProducer<byte[], byte[]> producer = producer(a)) {
                    for (int k = 0; k < count; k++) {
                        producer.send(new ProducerRecord<>(a.get("topic"), bytes("p" + me + "-" + k)), (m, e) -> {
                            (e == null ? acked : failed).incrementAndGet();
                        });
                    }
                }
            });
            t.start();
            threads.add(t);
        }
        for (Thread t : threads) {
            t.join();
        }
        return "acked=" + acked + " failed=" + failed;
    }

    static byte[] unhex(String s) {
        if (s.equals("~")) {
            return null;
        }
        byte[] out = new byte[s.length() / 2];
        for (int i = 0; i < out.length; i++) {
            out[i] = (byte) Integer.parseInt(s.substring(2 * i, 2 * i + 2), 16);
        }
        return out;
    }

    /** Send the records of a file: "key value name:value,name:value", hex, "~" is null, "-" no headers. */
    static String writeRecords(Args a) throws Exception {
        int n = 0;
        try (KafkaProducer<byte[], byte[]> producer = producer(a)) {
            for (String line : Files.readAllLines(Path.of(a.get("file")))) {
                String[] f = line.split(" ", -1);
                ProducerRecord<byte[], byte[]> r =
                    new ProducerRecord<>(a.get("topic"), a.number("partition", 0), unhex(f[0]), unhex(f[1]));
                if (!f[2].equals("-")) {
                    for (String h : f[2].split(",", -1)) {
                        int colon = h.indexOf(':');
                        r.headers().add(new RecordHeader(new String(unhex(h.substring(0, colon)), StandardCharsets.UTF_8),
                                                         unhex(h.substring(colon + 1))));
                    }
                }
                producer.send(r).get();
                n++;
            }
        }
        return "written=" + n;
    }

    /** send().get(), one at a time: "partition:offset:timestamp" of each. */
    static String metadataOfSends(Args a) throws Exception {
        StringBuilder text = new StringBuilder();
        try (KafkaProducer<byte[], byte[]> producer = producer(a)) {
            for (int i = 0; i < a.number("count", 1); i++) {
                Long timestamp = a.has("timestamp") ? a.large("timestamp", 0) : null;
                RecordMetadata m = producer.send(new ProducerRecord<>(a.get("topic"), a.number("partition", 0), timestamp,
                                                                      bytes("k"), bytes("v" + i))).get();
                text.append(i == 0 ? "" : ",").append(m.partition()).append(':').append(m.offset()).append(':')
                    .append(m.timestamp());
            }
        }
        return text.toString();
    }

    /** One request with a good topic and a compacted one that gets a record without key. */
    static String partialFailure(Args a) throws Exception {
        int good = 0;
        String bad = "none";
        Properties p = a.properties("p.");
        p.put("linger.ms", "1000");
        try (KafkaProducer<byte[], byte[]> producer =
                 new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.partitionsFor(a.get("good"));
            producer.partitionsFor(a.get("bad"));
            List<Future<RecordMetadata>> goods = new ArrayList<>();
            for (int i = 0; i < 10; i++) {
                goods.add(producer.send(new ProducerRecord<>(a.get("good"), bytes("g" + i))));
            }
            Future<RecordMetadata> refused = producer.send(new ProducerRecord<>(a.get("bad"), bytes("no key")));
            producer.flush();
            for (Future<RecordMetadata> f : goods) {
                f.get();
                good++;
            }
            try {
                refused.get();
            } catch (java.util.concurrent.ExecutionException e) {
                bad = e.getCause().getClass().getSimpleName();
            }
        }
        return "good=" + good + " bad=" + bad;
    }

    static String partitionsFor(Args a) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(a)) {
            long started = System.nanoTime();
            int n = producer.partitionsFor(a.get("topic")).size();
            return "partitions=" + n + " ms=" + (System.nanoTime() - started) / 1_000_000;
        }
    }

    /** A record for a partition that does not exist: the class of the client's error. */
    static String badPartition(Args a) throws Exception {
        Properties p = a.properties("p.");
        p.put("max.block.ms", "2000");
        try (KafkaProducer<byte[], byte[]> producer =
                 new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            StringBuilder seen = new StringBuilder();
            int partitions = producer.partitionsFor(a.get("topic")).size();
            for (int i = 0; i < partitions; i++) {
                RecordMetadata m = producer.send(new ProducerRecord<>(a.get("topic"), i, null, bytes("p" + i))).get();
                seen.append(m.partition()).append(',');
            }
            try {
                producer.send(new ProducerRecord<>(a.get("topic"), partitions, null, bytes("x"))).get();
                return seen + " none";
            } catch (Exception e) {
                Throwable cause = e.getCause() == null ? e : e.getCause();
                return seen + " " + cause.getClass().getSimpleName();
            }
        }
    }

    /** The producer of the seed notes: fire and forget, then send().get(), then a callback. */
    static String seedProducer(Args a) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", a.get("bootstrap"));
        p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        p.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        AtomicInteger called = new AtomicInteger();
        int n = a.number("count", 100);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
            for (int i = 0; i < n; i++) {
                producer.send(new ProducerRecord<>(a.get("topic"), "Precision Products", "France" + i));
            }
            for (int i = 0; i < n; i++) {
                producer.send(new ProducerRecord<>(a.get("topic"), "Precision Products", "Spain" + i)).get();
            }
            for (int i = 0; i < n; i++) {
                producer.send(new ProducerRecord<>(a.get("topic"), "Biomedical Materials", "USA" + i), (m, e) -> {
                    if (e == null) {
                        called.incrementAndGet();
                    }
                });
            }
        }
        return "sent=" + 3 * n + " called=" + called;
    }

    /** Send, be told "again" after a long silence, send: both must succeed. */
    static String idleThenSend(Args a) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(a)) {
            producer.send(new ProducerRecord<>(a.get("topic"), bytes("before"))).get();
            a.event("sent");
            a.word(60000);
            RecordMetadata m = producer.send(new ProducerRecord<>(a.get("topic"), bytes("after"))).get();
            return "offset=" + m.offset();
        }
    }

    /** The seed's partitioner: one large customer has the last partition to itself, the others share the rest by key. */
    public static final class LargeCustomer implements Partitioner {
        private String large;

        @Override
        public void configure(Map<String, ?> configs) {
            large = String.valueOf(configs.get("large.customer"));
        }

        @Override
        public int partition(String topic, Object key, byte[] keyBytes, Object value, byte[] valueBytes, Cluster cluster) {
            int last = cluster.partitionCountForTopic(topic) - 1;
            if (keyBytes == null) {
                throw new IllegalArgumentException("every record has a customer");
            }
            String customer = new String(keyBytes, StandardCharsets.UTF_8);
            return customer.equals(large) ? last : Utils.toPositive(Utils.murmur2(keyBytes)) % last;
        }

        @Override
        public void close() {}
    }

    /** Keys k0..kN-1 by the client's own partitioner; "key partition" lines to `out`. */
    static String keys(Args a) throws Exception {
        int n = a.number("count", 1000);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(a);
             BufferedWriter out = Files.newBufferedWriter(Path.of(a.get("out")))) {
            for (int i = 0; i < n; i++) {
                sent.add(producer.send(new ProducerRecord<>(a.get("topic"), bytes("key-" + i), bytes("java"))));
            }
            producer.flush();
            for (int i = 0; i < n; i++) {
                out.write("key-" + i + " " + sent.get(i).get().partition() + "\n");
            }
        }
        return "sent=" + n;
    }
}
