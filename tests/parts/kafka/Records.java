import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Writes every record that a topic holds at the start to standard output, byte for byte, with
 * Kafka's own client: what taffrail sent is proved without the library that sent it.
 *
 * <p>Each record: partition (int), offset (long), timestamp (long), key, value, number of headers (int),
 * and for each header its name and value. Bytes are preceded by their length (int, -1 for null); numbers
 * are big-endian.
 */
public final class Records {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    public static void main(String[] arguments) throws IOException {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("enable.auto.commit", "false");
        settings.put("allow.auto.create.topics", "false");
        settings.put("max.poll.records", "10000");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings);
                DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 20))) {
            copy(consumer, partitions(consumer, arguments[1]), out);
        }
    }

    private static List<TopicPartition> partitions(KafkaConsumer<?, ?> consumer, String topic) {
        var known = consumer.partitionsFor(topic, PATIENCE);
        if (known == null || known.isEmpty()) {
            throw new IllegalStateException("no topic " + topic);
        }
        return known.stream().map(p -> new TopicPartition(topic, p.partition())).collect(Collectors.toList());
    }

    private static void copy(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, DataOutputStream out)
            throws IOException {
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions, PATIENCE);
        long moved = System.nanoTime();
        while (partitions.stream().anyMatch(p -> consumer.position(p, PATIENCE) < ends.get(p))) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                    write(record, out);
                }
                moved = System.nanoTime();
            }
            if (System.nanoTime() - moved > PATIENCE.toNanos()) {
                throw new IllegalStateException("no record for " + PATIENCE + " before the end of the topic");
            }
        }
    }

    private static void write(ConsumerRecord<byte[], byte[]> record, DataOutputStream out) throws IOException {
        out.writeInt(record.partition());
        out.writeLong(record.offset());
        out.writeLong(record.timestamp());
        write(record.key(), out);
        write(record.value(), out);
        out.writeInt(record.headers().toArray().length);
        for (Header header : record.headers()) {
            write(header.key().getBytes(StandardCharsets.UTF_8), out);
            write(header.value(), out);
        }
    }

    private static void write(byte[] bytes, DataOutputStream out) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) {
            out.write(bytes);
        }
    }
}
