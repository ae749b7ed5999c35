import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KeyValueMapper;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams' word count, exactly once: FROM's lines are taken apart, words are counted over a repartition topic
 * and a store with a changelog, and every count goes to TO as "word:count". Runs until it is killed.
 *
 *   WordCount BOOTSTRAP APPLICATION FROM TO STATE_DIRECTORY
 */
public final class WordCount {
    public static void main(String[] argv) {
        Properties p = new Properties();
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, argv[0]);
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, argv[1]);
        p.put(StreamsConfig.STATE_DIR_CONFIG, argv[4]);
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "1000");
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "0"); // each count is written
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, "1");
        p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
        p.put("consumer.auto.offset.reset", "earliest");
        p.put("consumer.group.instance.id", "one"); // whoever starts again needs not wait for its own session's end
        p.put("consumer.max.poll.records", "50");
        p.put("producer.transaction.timeout.ms", "3000");

        StreamsBuilder builder = new StreamsBuilder();
        KeyValueMapper<String, Long, String> text = (word, count) -> word + ":" + count;
        builder.stream(argv[2], Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
            .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("counts"))
                .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
            .toStream()
            .mapValues((word, count) -> text.apply(word, count))
            .to(argv[3], Produced.with(Serdes.String(), Serdes.String()));

        KafkaStreams streams = new KafkaStreams(builder.build(), p);
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
    }
}
