import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.Socket;
import java.net.SocketException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;

/**
 * Any request of Kafka's protocol as JSON, and its answer as JSON, by Kafka's own message classes.
 *
 *   in    HOST:PORT/CONNECTION API VERSION JSON      a connection is opened when its name is new
 *   out   the answer's JSON | CLOSED | FAIL why
 *
 * One line out for each line in, in order. Fields that the version does not have are ignored.
 */
public final class Asking {
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final int TIMEOUT_MS = 20_000;

    private static final class Connection {
        final Socket socket;
        final DataInputStream in;
        final DataOutputStream out;
        int correlation;

        Connection(String address) throws Exception {
            int colon = address.lastIndexOf(':');
            socket = new Socket(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
            socket.setTcpNoDelay(true);
            socket.setSoTimeout(TIMEOUT_MS);
            in = new DataInputStream(socket.getInputStream());
            out = new DataOutputStream(socket.getOutputStream());
        }
    }

    private static byte[] bytes(Message message, short version) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    private static Class<?> converter(Class<?> type) throws Exception {
        return Class.forName(type.getName() + "JsonConverter");
    }

    /** The name of a field, as JSON (camel case) and schema (snake case) have in common. */
    private static String plain(String name) {
        return name.replace("_", "").toLowerCase(Locale.ROOT);
    }

    private static void collect(Map<String, Type> types, Field field) {
        if (field.type instanceof TaggedFields) {
            ((TaggedFields) field.type).fields().values().forEach(tagged -> collect(types, tagged));
        } else {
            types.put(plain(field.name), field.type);
        }
    }

    /** Remove the fields that the version does not have. */
    private static void prune(JsonNode node, Type type) {
        if (type.isArray() && node.isArray()) {
            node.forEach(element -> prune(element, type.arrayElementType().get()));
        } else if (type instanceof Schema && node.isObject()) {
            Map<String, Type> types = new HashMap<>();
            for (BoundField field : ((Schema) type).fields()) {
                collect(types, field.def);
            }
            List<String> kept = new ArrayList<>();
            for (Map.Entry<String, JsonNode> field : node.properties()) {
                if (types.containsKey(plain(field.getKey()))) {
                    prune(field.getValue(), types.get(plain(field.getKey())));
                    kept.add(field.getKey());
                }
            }
            ((ObjectNode) node).retain(kept);
        }
    }

    private static String ask(Connection connection, ApiKeys api, short version, String json) throws Exception {
        Class<?> type = api.messageType.newRequest().getClass();
        JsonNode asked = MAPPER.readTree(json);
        prune(asked, ((Schema[]) type.getField("SCHEMAS").get(null))[version]);
        Object request = converter(type).getMethod("read", JsonNode.class, short.class).invoke(null, asked, version);
        RequestHeaderData header = new RequestHeaderData().setRequestApiKey(api.id).setRequestApiVersion(version)
            .setClientId("asking").setCorrelationId(++connection.correlation);
        byte[] head = bytes(header, api.requestHeaderVersion(version));
        byte[] body = bytes((Message) request, version);
        connection.out.writeInt(head.length + body.length);
        connection.out.write(head);
        connection.out.write(body);
        connection.out.flush();

        byte[] answer = new byte[connection.in.readInt()];
        connection.in.readFully(answer);
        ByteBufferAccessor reader = new ByteBufferAccessor(ByteBuffer.wrap(answer));
        new ResponseHeaderData().read(reader, api.responseHeaderVersion(version));
        ApiMessage response = api.messageType.newResponse();
        response.read(reader, version);
        if (reader.remaining() != 0) {
            return "FAIL " + reader.remaining() + " bytes behind the answer";
        }
        return converter(response.getClass()).getMethod("write", response.getClass(), short.class, boolean.class)
            .invoke(null, response, version, true).toString();
    }

    public static void main(String[] argv) throws Exception {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Map<String, Connection> connections = new HashMap<>();
        String line;
        while ((line = in.readLine()) != null) {
            String[] words = line.split(" ", 4);
            String answer;
            try {
                if (!connections.containsKey(words[0])) {
                    connections.put(words[0], new Connection(words[0].split("/")[0]));
                }
                answer = ask(connections.get(words[0]), ApiKeys.valueOf(words[1]), Short.parseShort(words[2]), words[3]);
            } catch (EOFException | SocketException e) {
                connections.remove(words[0]);
                answer = "CLOSED";
            } catch (InvocationTargetException e) {
                answer = "FAIL " + e.getCause();
            } catch (Exception e) {
                connections.remove(words[0]);
                answer = "FAIL " + e;
            }
            out.println(answer.replace('\n', ' '));
            out.flush();
        }
    }
}
