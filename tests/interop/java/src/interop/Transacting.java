package interop;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Jobs with transactions. */
final class Transacting {
    private Transacting() {}

    static void register(Map<String, Main.Job> jobs) {
        jobs.put("transactions", Transacting::transactions);
        jobs.put("marked_offsets", Transacting::markedOffsets);
        jobs.put("open_transaction", Transacting::openTransaction);
        jobs.put("fenced", Transacting::fenced);
        jobs.put("read_isolated", Transacting::readIsolated);
        jobs.put("transform", Transacting::transform);
    }

    static KafkaProducer<byte[], byte[]> producer(Args a, String id) {
        Properties p = a.properties("p.");
        p.put("transactional.id", id);
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Args a, String isolation) {
        Properties p = a.properties("c.");
        p.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, isolation);
        p.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> all = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            all.add(new TopicPartition(topic, i));
        }
        return all;
    }

    /** From the beginning to the end that this isolation sees: values by partition, in order. */
    static Map<Integer, List<String>> read(Args a, String isolation) {
        Map<Integer, List<String>> values = new TreeMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(a, isolation)) {
            List<TopicPartition> all = partitions(a.get("topic"), a.number("partitions", 1));
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            consumer.assign(all);
            consumer.seekToBeginning(all);
            while (!all.stream().allMatch(p -> consumer.position(p) >= ends.get(p))) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                    values.computeIfAbsent(r.partition(), x -> new ArrayList<>()).add(new String(r.value()));
                }
            }
        }
        return values;
    }

    /**
     * `count` transactions of `records` records in each partition, every third aborted: what committed readers see
     * are exactly the others, in order; uncommitted readers see all.
     */
    static String transactions(Args a) throws Exception {
        String topic = a.get("topic");
        int count = a.number("count", 30);
        int records = a.number("records", 5);
        int partitions = a.number("partitions", 1);
        Map<Integer, List<String>> committed = new TreeMap<>();
        Map<Integer, List<String>> all = new TreeMap<>();
        long started = System.nanoTime();
        try (KafkaProducer<byte[], byte[]> producer = producer(a, "tx-" + topic)) {
            producer.initTransactions();
            for (int i = 0; i < count; i++) {
                boolean isAborted = i % 3 == 1;
                producer.beginTransaction();
                for (int p = 0; p < partitions; p++) {
                    for (int r = 0; r < records; r++) {
                        String value = "t" + i + ":" + r;
                        producer.send(new ProducerRecord<>(topic, p, null, value.getBytes()));
                        all.computeIfAbsent(p, x -> new ArrayList<>()).add(value);
                        if (!isAborted) {
                            committed.computeIfAbsent(p, x -> new ArrayList<>()).add(value);
                        }
                    }
                }
                if (isAborted) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        long ms = (System.nanoTime() - started) / 1_000_000;
        Map<Integer, List<String>> seen = read(a, "read_committed");
        if (!seen.equals(committed)) {
            throw new IllegalStateException("committed readers saw " + seen + " instead of " + committed);
        }
        seen = read(a, "read_uncommitted");
        if (!seen.equals(all)) {
            throw new IllegalStateException("uncommitted readers saw " + seen + " instead of " + all);
        }
        return "transactions=" + count + " ms=" + ms;
    }

    /** What a log of one partition must look like: offsets that were given, those of committed records, and markers. */
    private static final class Expected {
        final List<Long> committed = new ArrayList<>();
        final List<String> markers = new ArrayList<>();
        long next;

        void given(TopicPartition where, long offset) {
            if (offset != next) {
                throw new IllegalStateException(where + " gave offset " + offset + " instead of " + next);
            }
            next++;
        }

        void marker(boolean isAborted) {
            markers.add(next++ + (isAborted ? "A" : "C"));
        }
    }

    /** One transaction: one to three records in each of the partitions; its end may be answered before its markers are there. */
    private static void mark(KafkaProducer<byte[], byte[]> producer, KafkaConsumer<byte[], byte[]> consumer,
                             List<TopicPartition> where, List<Expected> logs, boolean isAborted) throws Exception {
        producer.beginTransaction();
        for (TopicPartition p : where) {
            Expected log = logs.get(p.partition());
            for (int r = 0; r <= p.partition(); r++) {
                log.given(p, producer.send(new ProducerRecord<>(p.topic(), p.partition(), null, "t".getBytes())).get().offset());
                if (!isAborted) {
                    log.committed.add(log.next - 1);
                }
            }
        }
        if (isAborted) {
            producer.abortTransaction();
        } else {
            producer.commitTransaction();
        }
        for (TopicPartition p : where) {
            logs.get(p.partition()).marker(isAborted);
            while (consumer.endOffsets(List.of(p)).get(p) < logs.get(p.partition()).next) {
                Thread.sleep(5);
            }
        }
    }

    /**
     * Transactions over some of three partitions, or none, every third aborted, and a record without one between them, twice;
     * between the halves the broker may be killed. Every offset must be the one that follows, each marker having taken one.
     */
    static String markedOffsets(Args a) throws Exception {
        String topic = a.get("topic");
        List<TopicPartition> all = partitions(topic, 3);
        List<Expected> logs = List.of(new Expected(), new Expected(), new Expected());
        try (KafkaProducer<byte[], byte[]> producer = producer(a, "marked-" + topic);
             KafkaConsumer<byte[], byte[]> ends = consumer(a, "read_uncommitted");
             KafkaProducer<byte[], byte[]> plain = new KafkaProducer<>(
                     a.properties("p."), new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            for (int i = 0; i < 24; i++) {
                if (i == 12) {
                    a.event("half");
                    a.word(60000);
                }
                final int n = i;
                mark(producer, ends, all.stream().filter(p -> (n >> p.partition()) % 2 == 0).toList(), logs, i % 3 == 1);
                TopicPartition p = all.get(i % 3);
                logs.get(i % 3).given(p, plain.send(new ProducerRecord<>(topic, i % 3, null, "p".getBytes())).get().offset());
                logs.get(i % 3).committed.add(logs.get(i % 3).next - 1);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(a, "read_committed")) {
            consumer.assign(all);
            List<List<Long>> seen = List.of(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
            while (!all.stream().allMatch(p -> consumer.position(p) >= logs.get(p.partition()).next)) {
                consumer.poll(Duration.ofMillis(200)).forEach(r -> seen.get(r.partition()).add(r.offset()));
            }
            for (TopicPartition p : all) {
                if (!seen.get(p.partition()).equals(logs.get(p.partition()).committed)) {
                    throw new IllegalStateException(p + ": committed readers saw " + seen.get(p.partition())
                            + " instead of " + logs.get(p.partition()).committed);
                }
            }
        }
        StringBuilder markers = new StringBuilder();
        for (int p = 0; p < 3; p++) {
            markers.append(p == 0 ? "" : " ").append("markers").append(p).append("=")
                    .append(String.join(",", logs.get(p).markers));
        }
        return markers.toString();
    }

    /** A transaction that stays open until told "commit" or "abort". */
    static String openTransaction(Args a) throws Exception {
        int count = a.number("count", 10);
        try (KafkaProducer<byte[], byte[]> producer = producer(a, a.get("id"))) {
            producer.initTransactions();
            producer.beginTransaction();
            for (int i = 0; i < count; i++) {
                producer.send(new ProducerRecord<>(a.get("topic"), 0, null, ("o" + i).getBytes()));
            }
            producer.flush();
            a.event("open");
            String word = a.word(120000);
            if ("commit".equals(word)) {
                producer.commitTransaction();
            } else if ("abort".equals(word)) {
                producer.abortTransaction();
            } else {
                producer.close(Duration.ZERO); // what it left open is not ended
            }
            return "ended=" + word;
        } catch (Exception e) {
            return "ended=" + e.getClass().getSimpleName();
        }
    }

    /** Two producers with one id: the first is fenced, and nothing of what it tries is ever seen. */
    static String fenced(Args a) throws Exception {
        String topic = a.get("topic");
        Map<String, String> outcome = new HashMap<>();
        try (KafkaProducer<byte[], byte[]> zombie = producer(a, "fence-" + topic);
             KafkaProducer<byte[], byte[]> heir = producer(a, "fence-" + topic)) {
            zombie.initTransactions();
            zombie.beginTransaction();
            zombie.send(new ProducerRecord<>(topic, 0, null, "zombie-1".getBytes())).get();
            heir.initTransactions();
            heir.beginTransaction();
            heir.send(new ProducerRecord<>(topic, 0, null, "heir".getBytes())).get();
            try {
                zombie.send(new ProducerRecord<>(topic, 0, null, "zombie-2".getBytes())).get();
                outcome.put("send", "none");
            } catch (Exception e) {
                outcome.put("send", (e.getCause() == null ? e : e.getCause()).getClass().getSimpleName());
            }
            try {
                zombie.commitTransaction();
                outcome.put("commit", "none");
            } catch (Exception e) {
                outcome.put("commit", e.getClass().getSimpleName());
            }
            heir.commitTransaction();
        }
        List<String> seen = read(a, "read_committed").getOrDefault(0, Collections.emptyList());
        return "send=" + outcome.get("send") + " commit=" + outcome.get("commit") + " seen=" + String.join(",", seen);
    }

    /** Consume, transform, produce, exactly once: from `topic` to `to`, until told "stop". */
    static String transform(Args a) throws Exception {
        Properties p = a.properties("c.");
        p.put(ConsumerConfig.GROUP_ID_CONFIG, a.get("group"));
        p.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        p.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        p.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        p.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "50");
        long moved = 0;
        int aborted = 0;
        try (KafkaProducer<byte[], byte[]> producer = producer(a, a.get("id"));
             KafkaConsumer<byte[], byte[]> consumer =
                 new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            producer.initTransactions();
            consumer.subscribe(List.of(a.get("topic")));
            while (!a.told("stop")) {
                var records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                try {
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    producer.beginTransaction();
                    for (ConsumerRecord<byte[], byte[]> r : records) {
                        producer.send(new ProducerRecord<>(a.get("to"), r.partition(), r.key(), r.value()));
                        offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                    }
                    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                    if ((moved / 50) % 7 == 3 && aborted < 5) {
                        throw new IllegalStateException("now and then a transaction is given up");
                    }
                    producer.commitTransaction();
                    moved += records.count();
                    a.event("moved=" + moved);
                } catch (ProducerFencedException e) {
                    throw e;
                } catch (Exception e) {
                    aborted++;
                    producer.abortTransaction();
                    for (TopicPartition tp : consumer.assignment()) { // back to what was committed
                        OffsetAndMetadata committed = consumer.committed(Collections.singleton(tp)).get(tp);
                        if (committed == null) {
                            consumer.seekToBeginning(Collections.singleton(tp));
                        } else {
                            consumer.seek(tp, committed);
                        }
                    }
                }
            }
        }
        return "moved=" + moved + " aborted=" + aborted;
    }

    /** What a reader of this isolation sees now. */
    static String readIsolated(Args a) {
        StringBuilder text = new StringBuilder();
        int count = 0;
        for (List<String> values : read(a, a.get("isolation")).values()) {
            count += values.size();
            text.append(text.length() == 0 ? "" : ",").append(String.join(",", values));
        }
        return "count=" + count + " values=" + text;
    }
}
