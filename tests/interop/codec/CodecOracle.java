/*
 * CodecOracle: Kafka's own message classes against our codec (codec_peer), value by value.
 *
 *   java CodecOracle compare PEER ROUNDS SEED    every message and version, both directions
 *   java CodecOracle record DIRECTORY            golden bytes, from Kafka's classes alone
 *
 * compare starts PEER and talks to it over its pipes (the protocol stands in codec_peer.c):
 *
 *   theirs   a random value made from Kafka's schema -> Kafka's bytes and Kafka's JSON -> the peer must
 *            decode them, print the same JSON, encode the same bytes and refuse every truncation
 *   ours     a random value made from our rows -> our bytes and our JSON -> Kafka must decode them, write
 *            the same JSON and the same bytes, and refuse every truncation
 *
 * and compares the table of APIs (versions, header versions) and of error codes.
 */

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

public final class CodecOracle {
    private static final ObjectMapper JSON = new ObjectMapper();

    // ---- Kafka's side -------------------------------------------------------------------------

    /** One message of ours, with the classes that Kafka generated for it. */
    private static final class Kind {
        final String name;
        final String sort;
        final int key;
        final int min;
        final int max;
        final int flexible;
        final Class<?> type;
        final Schema[] schemas;
        final MethodHandle make;
        final MethodHandle toJson;

        Kind(String name, String sort, int key, int min, int max, int flexible) throws Exception {
            this.name = name;
            this.sort = sort;
            this.key = key;
            this.min = min;
            this.max = max;
            this.flexible = flexible;
            this.type = find(name, sort);
            this.schemas = (Schema[]) type.getField("SCHEMAS").get(null);
            MethodHandles.Lookup lookup = MethodHandles.publicLookup();
            this.make = lookup.findConstructor(type, MethodType.methodType(void.class));
            Class<?> converter = Class.forName(type.getName() + "JsonConverter");
            this.toJson = lookup.findStatic(converter, "write",
                MethodType.methodType(JsonNode.class, type, short.class, boolean.class));
        }

        private static Class<?> find(String name, String sort) throws ClassNotFoundException {
            String message = "org.apache.kafka.common.message.";
            return switch (sort) {
                case "HEADER", "REQUEST", "RESPONSE" -> Class.forName(message + name + "Data");
                case "METADATA_RECORD" -> Class.forName("org.apache.kafka.common.metadata." + name);
                case "COORDINATOR_KEY", "COORDINATOR_VALUE" ->
                    Class.forName("org.apache.kafka.coordinator."
                                  + (name.startsWith("TransactionLog") ? "transaction" : "group") + ".generated." + name);
                default -> switch (name) {
                    case "QuorumStateData" -> Class.forName("org.apache.kafka.raft.generated." + name);
                    case "ProducerSnapshot" ->
                        Class.forName("org.apache.kafka.server.log.remote.metadata.storage.generated." + name);
                    default -> Class.forName(message + name);
                };
            };
        }

        Message decode(byte[] bytes, int len, short version) throws Throwable {
            Message value = (Message) make.invoke();
            ByteBuffer buffer = ByteBuffer.wrap(bytes, 0, len).slice();
            value.read(new ByteBufferAccessor(buffer), version);
            if (buffer.hasRemaining()) {
                throw new IllegalStateException(buffer.remaining() + " bytes left over");
            }
            return value;
        }

        byte[] encode(Message value, short version) {
            ByteBuffer buffer = MessageUtil.toByteBufferAccessor(value, version).buffer();
            byte[] bytes = new byte[buffer.remaining()];
            buffer.get(bytes);
            return bytes;
        }

        String json(Message value, short version) throws Throwable {
            return ((JsonNode) toJson.invoke(value, version, false)).toString();
        }
    }

    /** Random values from Kafka's schema objects: what is nullable, which versions have which field. */
    private static final class Maker {
        private static final String[] CHARACTERS = {
            "a", "Z", "0", "-", ".", "_", "\"", "\\", "/", "\n", "\t", "\b", "\f", "\r", "\u0001",
            "\u001f", "\u007f", "\u00e9", "\u20ac", "\ud83d\udc18",
        };
        private static final long[] EDGES = {
            0, 1, 127, 128, 255, 256, Short.MAX_VALUE, 65535, Integer.MAX_VALUE, 0xffffffffL, Long.MAX_VALUE,
        };
        private final Random random;

        Maker(Random random) {
            this.random = random;
        }

        private long bits() {
            if (random.nextBoolean()) {
                return random.nextLong() >>> random.nextInt(64);
            }
            long edge = EDGES[random.nextInt(EDGES.length)];
            return random.nextBoolean() ? edge : ~edge;
        }

        private int len() {
            int sort = random.nextInt(16);
            return sort == 0 ? 0 : random.nextInt(sort == 1 ? 300 : 12);
        }

        private String text() {
            StringBuilder text = new StringBuilder();
            for (int left = len(); left > 0; left--) {
                text.append(CHARACTERS[random.nextInt(random.nextInt(4) == 0 ? CHARACTERS.length : 6)]);
            }
            return text.toString();
        }

        private ByteBuffer bytes(int len) {
            byte[] bytes = new byte[len];
            random.nextBytes(bytes);
            return ByteBuffer.wrap(bytes);
        }

        private double number() {
            double[] some = {0.0, 1.0, -1.5, 0.001, 9999999.0, 1e7, 1e300, Double.NaN, Double.NEGATIVE_INFINITY};
            while (random.nextBoolean()) {
                double value = Double.longBitsToDouble(random.nextLong());
                if (Double.isFinite(value) && isShortest(value)) {
                    return value;
                }
            }
            return some[random.nextInt(some.length)];
        }

        /** Whether this Java spells the value as Java 19 and later do (JDK-4511638). */
        private static boolean isShortest(double value) {
            BigDecimal exact = new BigDecimal(value);
            BigDecimal text = new BigDecimal(Double.toString(value)).stripTrailingZeros();
            int digits = text.precision();
            return exact.round(new MathContext(digits)).compareTo(text) == 0
                && (digits == 1 || exact.round(new MathContext(digits - 1)).doubleValue() != value);
        }

        Object value(Type type, int depth) {
            if (type.isNullable() && random.nextInt(3) == 0) {
                return null;
            }
            if (type instanceof Schema) {
                return struct((Schema) type, depth);
            }
            if (type.isArray()) {
                Type item = type.arrayElementType().get();
                boolean isStruct = item instanceof Schema;
                int count = random.nextInt(isStruct ? depth < 2 ? 4 : 3 : 5);
                if (!isStruct && random.nextInt(64) == 0) {
                    count += 127;
                }
                Object[] items = new Object[count];
                for (int index = 0; index < count; index++) {
                    items[index] = value(item, depth + 1);
                }
                return items;
            }
            if (type instanceof TaggedFields) {
                TreeMap<Integer, Object> values = new TreeMap<>();
                for (Map.Entry<Integer, Field> entry : ((TaggedFields) type).fields().entrySet()) {
                    Type tagged = entry.getValue().type;
                    // Before a nullable struct in a tag the schemas write another byte than the message classes
                    // read: those are compared from our values only.
                    boolean isDisputed = tagged instanceof Schema && tagged.isNullable();
                    if (random.nextInt(3) > 0 && !isDisputed) {
                        values.put(entry.getKey(), value(tagged, depth));
                    }
                }
                return values;
            }
            return switch (type.toString()) {
                case "BOOLEAN" -> random.nextBoolean();
                case "INT8" -> (byte) bits();
                case "INT16" -> (short) bits();
                case "UINT16" -> (int) (bits() & 0xffff);
                case "INT32" -> (int) bits();
                case "UINT32", "UNSIGNED_INT32" -> bits() & 0xffffffffL;
                case "INT64" -> bits();
                case "FLOAT64" -> number();
                case "UUID" -> random.nextInt(8) == 0 ? Uuid.ZERO_UUID
                                                      : new Uuid(random.nextLong(), random.nextLong());
                case "STRING", "COMPACT_STRING", "NULLABLE_STRING", "COMPACT_NULLABLE_STRING" -> text();
                case "BYTES", "COMPACT_BYTES", "NULLABLE_BYTES", "COMPACT_NULLABLE_BYTES" -> bytes(len());
                case "RECORDS", "COMPACT_RECORDS", "NULLABLE_RECORDS", "COMPACT_NULLABLE_RECORDS" ->
                    MemoryRecords.readableRecords(bytes(3 * len()));
                default -> throw new IllegalStateException("no random value for " + type);
            };
        }

        Struct struct(Schema schema, int depth) {
            Struct struct = new Struct(schema);
            for (BoundField field : schema.fields()) {
                struct.set(field, value(field.def.type, depth));
            }
            return struct;
        }

        /** Written by the schema, read by the message class: Kafka's two codecs check each other. */
        Message message(Kind kind, short version) throws Throwable {
            Struct struct = struct(kind.schemas[version], 1);
            ByteBuffer buffer = ByteBuffer.allocate(struct.sizeOf());
            struct.writeTo(buffer);
            return kind.decode(buffer.array(), buffer.position(), version);
        }
    }

    // ---- the peer -----------------------------------------------------------------------------

    private static final class Peer {
        final Process process;
        final DataOutputStream out;
        final DataInputStream in;

        Peer(String path) throws IOException {
            process = new ProcessBuilder(path).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            out = new DataOutputStream(new BufferedOutputStream(process.getOutputStream(), 1 << 16));
            in = new DataInputStream(new BufferedInputStream(process.getInputStream(), 1 << 16));
        }

        void writeBytes(byte[] bytes) throws IOException {
            out.writeInt(bytes.length);
            out.write(bytes);
        }

        void writeText(String text) throws IOException {
            writeBytes(text.getBytes(StandardCharsets.UTF_8));
        }

        byte[] readBytes() throws IOException {
            byte[] bytes = new byte[in.readInt()];
            in.readFully(bytes);
            return bytes;
        }

        String readText() throws IOException {
            return new String(readBytes(), StandardCharsets.UTF_8);
        }
    }

    // ---- compare ------------------------------------------------------------------------------

    private static int passed;
    private static int failed;
    private static long values;
    private static long cuts;

    private static void verdict(String what, String complaint) {
        if (complaint == null) {
            passed++;
            return;
        }
        failed++;
        System.out.println("FAIL " + what + ": " + complaint);
    }

    /**
     * The same text. Before version 19 Java spells some doubles with more digits than they need
     * (JDK-4511638); the one message that has doubles is then compared as a tree.
     */
    private static boolean sameJson(Kind kind, String a, String b) throws IOException {
        return a.equals(b) || kind.name.equals("ClientQuotaRecord") && JSON.readTree(a).equals(JSON.readTree(b));
    }

    private static String cutEverywhere(Kind kind, byte[] bytes, short version) throws Throwable {
        for (int cut = 0; cut < bytes.length; cut++) {
            cuts++;
            boolean isRefused = false;
            try {
                kind.decode(bytes, cut, version);
            } catch (RuntimeException refused) {
                isRefused = true;
            }
            if (!isRefused) {
                return "Kafka accepts the first " + cut + " of " + bytes.length + " bytes";
            }
        }
        return null;
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }

    private static String theirs(Peer peer, Kind kind, short version, int rounds, Random random) throws Throwable {
        Maker maker = new Maker(random);
        List<byte[]> sent = new ArrayList<>();
        for (int round = 0; round < rounds; round++) {
            Message value = maker.message(kind, version);
            byte[] bytes = kind.encode(value, version);
            peer.out.writeByte('C');
            peer.writeText(kind.name);
            peer.out.writeShort(version);
            peer.out.writeLong(random.nextLong());
            peer.writeBytes(bytes);
            peer.writeText(kind.json(value, version));
            sent.add(bytes);
        }
        peer.out.flush();
        String complaint = null;
        for (int round = 0; round < rounds; round++) {
            String answer = peer.readText();
            values++;
            if (!answer.isEmpty() && complaint == null) {
                complaint = answer + " (value " + round + ", Kafka's bytes " + hex(sent.get(round)) + ")";
            }
        }
        return complaint;
    }

    private static String ours(Peer peer, Kind kind, short version, int rounds, Random random) throws Throwable {
        peer.out.writeByte('M');
        peer.writeText(kind.name);
        peer.out.writeShort(version);
        peer.out.writeLong(random.nextLong());
        peer.out.writeInt(rounds);
        peer.out.flush();
        String complaint = null;
        for (int round = 0; round < rounds; round++) {
            byte[] bytes = peer.readBytes();
            String json = peer.readText();
            values++;
            if (complaint == null) {
                complaint = check(kind, version, bytes, json);
                complaint = complaint == null ? null
                                              : complaint + " (value " + round + ", our bytes " + hex(bytes) + ")";
            }
        }
        return complaint;
    }

    private static String check(Kind kind, short version, byte[] bytes, String json) throws Throwable {
        Message value;
        try {
            value = kind.decode(bytes, bytes.length, version);
        } catch (RuntimeException refused) {
            return "Kafka refuses: " + refused;
        }
        byte[] again = kind.encode(value, version);
        if (!Arrays.equals(bytes, again)) {
            return "Kafka writes " + hex(again);
        }
        String kafkas = kind.json(value, version);
        if (!sameJson(kind, kafkas, json)) {
            return "Kafka's JSON is " + kafkas + ", ours " + json;
        }
        return cutEverywhere(kind, bytes, version);
    }

    private static List<Kind> list(Peer peer) throws Exception {
        peer.out.writeByte('L');
        peer.out.flush();
        List<Kind> kinds = new ArrayList<>();
        for (int left = peer.in.readInt(); left > 0; left--) {
            kinds.add(new Kind(peer.readText(), peer.readText(), peer.in.readShort(), peer.in.readShort(),
                peer.in.readShort(), peer.in.readShort()));
        }
        return kinds;
    }

    /** Versions, key and first flexible version as Kafka's class has them. */
    private static String sameRange(Kind kind) throws Exception {
        int low = kind.type.getField("LOWEST_SUPPORTED_VERSION").getShort(null);
        int high = kind.type.getField("HIGHEST_SUPPORTED_VERSION").getShort(null);
        if (low != kind.min || high != kind.max) {
            return "Kafka has versions " + low + ".." + high + ", we " + kind.min + ".." + kind.max;
        }
        Message value = (Message) kind.type.getConstructor().newInstance();
        if (value instanceof org.apache.kafka.common.protocol.ApiMessage api && kind.key >= 0
                && api.apiKey() != kind.key) {
            return "Kafka has key " + api.apiKey() + ", we " + kind.key;
        }
        for (int version = low; version <= high; version++) {
            BoundField[] fields = kind.schemas[version].fields();
            boolean isFlexible = fields.length > 0 && fields[fields.length - 1].def.type instanceof TaggedFields;
            if (isFlexible != (version >= kind.flexible)) {
                return "version " + version + " is " + (isFlexible ? "" : "not ") + "flexible in Kafka";
            }
        }
        return null;
    }

    private static void compareApis(Peer peer) throws IOException {
        peer.out.writeByte('A');
        peer.out.flush();
        for (int left = peer.in.readInt(); left > 0; left--) {
            String name = peer.readText();
            int key = peer.in.readShort();
            int min = peer.in.readShort();
            int max = peer.in.readShort();
            int listed = peer.in.readShort();
            byte[] headers = peer.readBytes(); // request and response header version for min..max
            ApiKeys api = ApiKeys.forId(key);
            String complaint = null;
            if (!api.name.equals(name) || api.oldestVersion() != min || api.latestVersion(false) != max) {
                complaint = "Kafka: " + api.name + " " + api.oldestVersion() + ".." + api.latestVersion(false);
            }
            int lowest = api == ApiKeys.PRODUCE ? ApiKeys.PRODUCE_API_VERSIONS_RESPONSE_MIN_VERSION : min;
            if (listed != lowest) {
                complaint = "Kafka lists it from " + lowest;
            }
            for (short version = (short) min; version <= max && complaint == null; version++) {
                if (api.requestHeaderVersion(version) != headers[2 * (version - min)]
                        || api.responseHeaderVersion(version) != headers[2 * (version - min) + 1]) {
                    complaint = "header versions of version " + version;
                }
            }
            verdict("api.def " + name, complaint);
        }
    }

    private static void compareErrors(Peer peer) throws IOException {
        peer.out.writeByte('E');
        peer.out.flush();
        for (short code = -1; code < 1000; code++) {
            String name = peer.readText();
            boolean isRetriable = peer.in.readBoolean();
            Errors error = Errors.forCode(code);
            boolean isKnown = error.code() == code;
            String complaint = null;
            if (!(isKnown ? error.name() : "?").equals(name)) {
                complaint = "Kafka says " + (isKnown ? error.name() : "none") + ", we " + name;
            } else if (isKnown && error.exception() instanceof RetriableException != isRetriable) {
                complaint = "retriable or not";
            }
            if (isKnown || complaint != null) {
                verdict("errors.def " + code, complaint);
            }
        }
    }

    private static void compare(String path, int rounds, long seed) throws Throwable {
        Peer peer = new Peer(path);
        long begin = System.nanoTime();
        List<Kind> kinds = list(peer);
        for (Kind kind : kinds) {
            verdict("range of " + kind.name, sameRange(kind));
            for (short version = (short) kind.min; version <= kind.max; version++) {
                // A seed of its own, so that a failure can be repeated alone.
                Random random = new Random(seed ^ (kind.name.hashCode() * 31L + version));
                String what = kind.name + " version " + version + " seed " + seed;
                verdict(what + ", Kafka's value", theirs(peer, kind, version, rounds, random));
                verdict(what + ", our value", ours(peer, kind, version, rounds, random));
            }
        }
        compareApis(peer);
        compareErrors(peer);
        peer.out.writeByte('Q');
        peer.out.flush();
        int status;
        try {
            status = peer.process.waitFor();
        } catch (InterruptedException stopped) {
            status = -1;
        }
        verdict("the peer ends well", status == 0 ? null : "exit status " + status);
        System.out.printf("%d messages, %d values, %d truncations (Kafka's side), seed %d, %.1f s%n", kinds.size(),
            values, cuts, seed, (System.nanoTime() - begin) / 1e9);
    }

    // ---- record -------------------------------------------------------------------------------

    private static final int GOLDEN_VALUES = 3;

    /** One file per message: version, Kafka's bytes in hex, Kafka's JSON, separated by tabs. */
    private static void record(String path, Path directory) throws Throwable {
        Peer peer = new Peer(path); // only to know which messages there are
        Files.createDirectories(directory);
        for (Kind kind : list(peer)) {
            StringBuilder text = new StringBuilder();
            for (short version = (short) kind.min; version <= kind.max; version++) {
                Maker maker = new Maker(new Random(kind.name.hashCode() * 31L + version));
                for (int round = 0, tries = 0; round < GOLDEN_VALUES; tries++) {
                    Message value = maker.message(kind, version);
                    byte[] bytes = kind.encode(value, version);
                    if (bytes.length > 400 && tries < 200) {
                        continue; // keep the files small
                    }
                    text.append(version).append('\t').append(hex(bytes)).append('\t')
                        .append(kind.json(value, version)).append('\n');
                    round++;
                }
            }
            Files.writeString(directory.resolve(kind.name + ".tsv"), text.toString());
        }
        peer.out.writeByte('Q');
        peer.out.flush();
    }

    public static void main(String[] args) throws Throwable {
        if (args[0].equals("record")) {
            record(args[1], Path.of(args[2]));
            return;
        }
        compare(args[1], Integer.parseInt(args[2]), Long.parseLong(args[3]));
        System.out.printf("%d passed, %d failed, 0 skipped%n", passed, failed);
        System.exit(failed == 0 ? 0 : 1);
    }
}
