/*
 * What Apache Kafka's own classes make of batches, producers and snapshots: the goldens of
 * tests/unit/storage. Our code takes no part in it.
 *
 *   RecordStorage batches      name <tab> a whole record batch v2 in hex
 *   RecordStorage producers    log <tab> id <tab> epoch <tab> first sequence <tab> records <tab> verdict
 *   RecordStorage snapshots    name <tab> a .snapshot file in hex
 */
import java.io.File;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Random;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.storage.internals.log.AppendOrigin;
import org.apache.kafka.storage.internals.log.BatchMetadata;
import org.apache.kafka.storage.internals.log.ProducerAppendInfo;
import org.apache.kafka.storage.internals.log.ProducerStateEntry;
import org.apache.kafka.storage.internals.log.ProducerStateManager;
import org.apache.kafka.storage.internals.log.ProducerStateManagerConfig;

public class RecordStorage {
    static final long BASE_TIMESTAMP = 1_700_000_000_000L;

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /* The records that every golden batch holds; test_batch_iter.c knows the same rule. */
    static SimpleRecord[] records(int count) {
        SimpleRecord[] records = new SimpleRecord[count];
        for (int i = 0; i < count; i++) {
            byte[] key = i % 5 == 4 ? null : bytes("key-" + i);
            byte[] value = i % 7 == 6 ? null : bytes("value-" + "abc".repeat(i * i % 40) + "-" + i);
            Header[] headers = i % 3 != 2 ? new Header[0] : new Header[] {
                new RecordHeader("h" + i, bytes("x")), new RecordHeader("null", (byte[]) null)};
            records[i] = new SimpleRecord(BASE_TIMESTAMP + (i % 2 == 0 ? i : -i) * 1000L, key, value, headers);
        }
        return records;
    }

    static void batch(String name, MemoryRecords records) {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        System.out.println(name + "\t" + HexFormat.of().formatHex(bytes));
    }

    static void batches() {
        for (CompressionType type : CompressionType.values()) {
            Compression codec = Compression.of(type).build();
            for (int count : new int[] {1, 20, 300}) {
                batch(type.name + "-" + count, MemoryRecords.withRecords(codec, records(count)));
            }
        }
        batch("idempotent-20", MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V2, 0, Compression.NONE,
            TimestampType.CREATE_TIME, 4711L, (short) 3, Integer.MAX_VALUE - 4, 9, false, records(20)));
        batch("append-time-20", MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V2, 1L << 40, Compression.NONE,
            TimestampType.LOG_APPEND_TIME, RecordBatch.NO_PRODUCER_ID, RecordBatch.NO_PRODUCER_EPOCH,
            RecordBatch.NO_SEQUENCE, 9, false, records(20)));
    }

    /* A method that Kafka keeps to its package. */
    static Object call(ProducerStateEntry entry, String name, Object... arguments) throws Exception {
        for (Method method : ProducerStateEntry.class.getDeclaredMethods()) {
            if (method.getName().equals(name)) {
                method.setAccessible(true);
                return method.invoke(entry, arguments);
            }
        }
        throw new NoSuchMethodException(name);
    }

    static ProducerStateManager manager() throws Exception {
        return new ProducerStateManager(new TopicPartition("t", 0),
            Files.createTempDirectory("record-storage").toFile(), 900_000,
            new ProducerStateManagerConfig(86_400_000, false), Time.SYSTEM);
    }

    /* What UnifiedLog does with an idempotent batch: a duplicate is looked for first, then it is appended. */
    static String verdict(ProducerStateManager manager, long id, short epoch, int first, int count, long offset)
        throws Exception {
        MemoryRecords records = MemoryRecords.withRecords(RecordBatch.MAGIC_VALUE_V2, offset, Compression.NONE,
            TimestampType.CREATE_TIME, id, epoch, first, 0, false, records(count));
        RecordBatch batch = records.batches().iterator().next();
        Optional<?> duplicate = Optional.empty();
        if (manager.lastEntry(id).isPresent()) {
            duplicate = (Optional<?>) call(manager.lastEntry(id).get(), "findDuplicateBatch", batch);
        }
        if (duplicate.isPresent()) {
            return "duplicate " + ((BatchMetadata) duplicate.get()).firstOffset();
        }
        try {
            ProducerAppendInfo info = manager.prepareUpdate(id, AppendOrigin.CLIENT);
            info.append(batch, Optional.empty());
            manager.update(info);
            manager.updateMapEndOffset(offset + count);
            return "ok " + offset;
        } catch (OutOfOrderSequenceException e) {
            return "out_of_order";
        } catch (InvalidProducerEpochException e) {
            return "invalid_epoch";
        }
    }

    /* Random walks near what is accepted, so that every verdict is common. */
    static void producers() throws Exception {
        Random random = new Random(20);
        for (int log = 0; log < 12; log++) {
            ProducerStateManager manager = manager();
            long offset = 0;
            Map<Long, Integer> next = new LinkedHashMap<>();
            Map<Long, List<int[]>> sent = new LinkedHashMap<>();
            for (int step = 0; step < 120; step++) {
                long id = 1 + random.nextInt(3);
                List<int[]> before = sent.computeIfAbsent(id, ignored -> new ArrayList<>());
                int epoch = before.isEmpty() ? 0 : before.get(before.size() - 1)[0];
                int first = next.getOrDefault(id, log % 3 == 0 ? Integer.MAX_VALUE - 3 : 0);
                int count = 1 + random.nextInt(4);
                int what = random.nextInt(20);
                if (what < 6 && !before.isEmpty()) { /* again, one of the last seven */
                    int[] old = before.get(Math.max(0, before.size() - 1 - random.nextInt(7)));
                    epoch = old[0];
                    first = old[1];
                    count = old[2];
                } else if (what == 6) {
                    first = (first + 1 + random.nextInt(3)) & Integer.MAX_VALUE;
                } else if (what == 7) {
                    epoch++;
                    first = random.nextInt(3) == 0 ? 5 : 0;
                } else if (what == 8) {
                    epoch = Math.max(0, epoch - 1);
                } else if (what == 9) {
                    first = random.nextInt(8);
                }
                String verdict = verdict(manager, id, (short) epoch, first, count, offset);
                System.out.println(log + "\t" + id + "\t" + epoch + "\t" + first + "\t" + count + "\t" + verdict);
                if (verdict.startsWith("ok")) {
                    offset += count;
                    next.put(id, (first + count) & Integer.MAX_VALUE);
                    before.add(new int[] {epoch, first, count});
                }
            }
        }
    }

    static void snapshot(String name, Map<Long, ProducerStateEntry> entries) throws Exception {
        File file = File.createTempFile("record-storage", ".snapshot");
        ProducerStateManager.writeSnapshot(file, entries, false);
        System.out.println(name + "\t" + HexFormat.of().formatHex(Files.readAllBytes(file.toPath())));
        file.delete();
    }

    static ProducerStateEntry entry(long id, int epoch, int coordinatorEpoch, long timestamp, OptionalLong txn) {
        return new ProducerStateEntry(id, (short) epoch, coordinatorEpoch, timestamp, txn);
    }

    static ProducerStateEntry with(ProducerStateEntry entry, int lastSequence, long lastOffset, int delta, long timestamp)
        throws Exception {
        call(entry, "addBatch", entry.producerEpoch(), lastSequence, lastOffset, delta, timestamp);
        return entry;
    }

    static void snapshots() throws Exception {
        Map<Long, ProducerStateEntry> entries = new LinkedHashMap<>();
        snapshot("empty", entries);
        ProducerStateEntry one = with(entry(1000, 2, -1, BASE_TIMESTAMP, OptionalLong.empty()), 20, 50, 5, BASE_TIMESTAMP);
        entries.put(1000L, with(one, 41, 99, 9, BASE_TIMESTAMP + 9)); /* only the last batch is written */
        snapshot("one", entries);
        entries.put(1001L, with(entry(1001, 0, -1, -1, OptionalLong.empty()), 3, 1L << 40, 5, BASE_TIMESTAMP + 1));
        entries.put(1002L, entry(1002, 7, 5, BASE_TIMESTAMP + 2, OptionalLong.empty())); /* after a marker */
        entries.put(1003L, with(entry(1003, 1, -1, -1, OptionalLong.of(70)), 11, 81, 11, BASE_TIMESTAMP + 3));
        snapshot("four", entries);
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "batches" -> batches();
            case "producers" -> producers();
            case "snapshots" -> snapshots();
            default -> throw new IllegalArgumentException(args[0]);
        }
        System.exit(0);
    }
}
