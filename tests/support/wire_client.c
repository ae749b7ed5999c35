#include "wire_client.h"

#include "millrace/base/bytes.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"
#include "sim_transport.h"
#include "test.h"

#define BYTES_MAX (3u << 20)

static struct mr_arena fresh_arena(void)
{
    static uint8_t memory[4u << 20];
    struct mr_arena arena;
    mr_arena_init(&arena, memory, sizeof memory);
    return arena;
}

struct mr_chain mr_wire_batch(uint32_t records, uint32_t value_bytes, int64_t unix_ms)
{
    static uint8_t bytes[BYTES_MAX];
    static uint8_t value[2u << 20];
    static struct mr_span span;
    struct mr_batch_builder builder;
    mr_batch_begin(&builder, bytes, sizeof bytes, 0, 0);
    for (uint32_t i = 0; i < records; i++) {
        assert_true(mr_batch_add(&builder, unix_ms, MR_BLOB_NULL,
                                 (struct mr_blob){.data = value, .len = (int32_t)value_bytes}));
    }
    span = (struct mr_span){.data = bytes, .len = mr_batch_end(&builder)};
    return (struct mr_chain){.spans = &span, .span_count = 1, .bytes = span.len};
}

const uint8_t *mr_wire_request(int16_t key, int16_t version, int32_t correlation, const void *in,
                               uint32_t *len)
{
    static uint8_t bytes[BYTES_MAX];
    struct mr_arena arena = fresh_arena();
    struct mr_span spans[256];
    struct mr_writer writer;
    mr_writer_init(&writer, &arena, spans, 256);
    uint8_t *prefix = mr_frame_begin(&writer);
    assert_int_equal(
        mr_header_encode_request(&writer, mr_api_find(key), version, correlation, MR_STR("c")),
        MR_OK);
    assert_int_equal(mr_msg_encode(mr_api_find(key)->request, version, in, &writer), MR_OK);
    assert_int_equal(mr_frame_end(&writer, prefix), MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    assert_in_range(chain.bytes, 1, sizeof bytes);
    mr_chain_copy(&chain, 0, bytes, chain.bytes);
    *len = chain.bytes;
    return bytes;
}

const uint8_t *mr_wire_produce(int32_t correlation, int16_t acks, struct mr_str topic,
                               int32_t partition, struct mr_chain records, uint32_t *len)
{
    struct mr_produce_request in;
    struct mr_produce_request_topic_produce_data one;
    struct mr_produce_request_partition_produce_data data = {.index = partition,
                                                             .records = records};
    MR_DEFAULTS(produce_request, &in);
    MR_DEFAULTS(produce_request_topic_produce_data, &one);
    one.name = topic;
    one.partition_data = &data;
    one.partition_data_count = 1;
    in.acks = acks;
    in.timeout_ms = 1000;
    in.topic_data = &one;
    in.topic_data_count = 1;
    return mr_wire_request(MR_API_PRODUCE, 9, correlation, &in, len);
}

bool mr_wire_answer(struct mr_sim_peer *peer, int16_t key, int16_t version, int32_t *correlation,
                    void *out)
{
    static uint8_t bytes[BYTES_MAX];
    static struct mr_arena arena;
    uint8_t prefix[4];
    if (mr_sim_peer_take(peer, prefix, 4) == 0) {
        return false;
    }
    uint32_t len = mr_load_be32(prefix);
    assert_in_range(len, 4, sizeof bytes);
    for (uint32_t at = 0; at < len;) {
        uint32_t got = mr_sim_peer_take(peer, bytes + at, len - at);
        assert_true(got > 0);
        at += got;
    }
    struct mr_reader reader;
    struct mr_response_header header;
    arena = fresh_arena();
    mr_reader_init_bytes(&reader, bytes, len);
    assert_int_equal(mr_msg_decode(&mr_msg_response_header,
                                   mr_header_response_version(mr_api_find(key), version), &reader,
                                   &arena, &header),
                     MR_OK);
    assert_int_equal(mr_msg_decode(mr_api_find(key)->response, version, &reader, &arena, out),
                     MR_OK);
    assert_int_equal(mr_reader_left(&reader), 0);
    *correlation = header.correlation_id;
    return true;
}
