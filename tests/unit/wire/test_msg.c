/*
 * msg: every message in every version, with random values; then the rules one by one.
 *
 * Values are compared by their text (mr_msg_print) and their bytes. What is decoded is copied to a
 * block of exactly its size first, so that the address sanitizer sees a byte read too far.
 */
#include "test.h"

#include "millrace/base/bytes.h"
#include "millrace/kafka/msg.h"
#include "random_msg.h"

#include "kafka/double_text.h"

#define ARENA_BYTES (4u << 20)
#define SPAN_MAX    4096u
#define TEXT_BYTES  (1u << 20)

/* Room for any message's struct. */
union any {
    uint8_t     bytes[1024];
    max_align_t align;
};

static struct mr_arena arena;  /* values                   */
static struct mr_arena scratch; /* of decodes and encodes   */
static struct mr_span  spans[SPAN_MAX];
static char           *text_a;
static char           *text_b;

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&arena, mr_test_memory(ARENA_BYTES), ARENA_BYTES);
    mr_arena_init(&scratch, mr_test_memory(ARENA_BYTES), ARENA_BYTES);
    text_a = mr_test_memory(TEXT_BYTES);
    text_b = mr_test_memory(TEXT_BYTES);
    for (uint32_t index = 0; index < mr_msg_count; index++) {
        assert_true(mr_msg_all[index]->root->size <= sizeof(union any));
    }
    return 0;
}

static const char *print(const struct mr_msg *msg, int16_t version, const void *in, char *buffer)
{
    struct mr_text text;
    mr_text_init(&text, buffer, TEXT_BYTES);
    assert_int_equal(mr_msg_print(msg, version, in, &text), MR_OK);
    assert_false(text.is_cut);
    return buffer;
}

/* Encode into a block of exactly the right size, from malloc. */
static uint8_t *encode(const struct mr_msg *msg, int16_t version, const void *in, uint32_t *len)
{
    struct mr_writer writer;
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    assert_int_equal(mr_msg_encode(msg, version, in, &writer), MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    uint32_t        size;
    assert_int_equal(mr_msg_size(msg, version, in, &size), MR_OK);
    assert_int_equal(size, chain.bytes);
    uint8_t *bytes = malloc(chain.bytes + 1);
    assert_non_null(bytes);
    mr_chain_copy(&chain, 0, bytes, chain.bytes);
    *len = chain.bytes;
    return realloc(bytes, chain.bytes > 0 ? chain.bytes : 1);
}

static enum mr_err decode(const struct mr_msg *msg, int16_t version, const uint8_t *bytes,
                          uint32_t len, void *out, uint32_t *left)
{
    struct mr_reader reader;
    mr_reader_init_bytes(&reader, bytes, len);
    enum mr_err err = mr_msg_decode(msg, version, &reader, &scratch, out);
    *left = mr_reader_left(&reader);
    return err;
}

typedef void each_version_fn(struct mr_prng *prng, const struct mr_msg *msg, int16_t version);

static void for_each_version(each_version_fn *check, int rounds)
{
    struct mr_prng prng = {.state = 20260317};
    for (uint32_t index = 0; index < mr_msg_count; index++) {
        const struct mr_msg *msg = mr_msg_all[index];
        for (int16_t version = msg->version_min; version <= msg->version_max; version++) {
            for (int round = 0; round < rounds; round++) {
                mr_arena_reset(&arena);
                mr_arena_reset(&scratch);
                check(&prng, msg, version);
            }
        }
    }
}

static void check_round_trip(struct mr_prng *prng, const struct mr_msg *msg, int16_t version)
{
    union any in;
    union any out;
    mr_random_msg(prng, msg, version, &arena, &in);
    uint32_t len;
    uint8_t *bytes = encode(msg, version, &in, &len);

    struct mr_chain  chain = mr_random_chain(prng, bytes, len, &arena);
    struct mr_reader reader;
    mr_reader_init(&reader, &chain);
    memset(&out, 0xee, sizeof out); /* a member that decode forgets shows */
    assert_int_equal(mr_msg_decode(msg, version, &reader, &scratch, &out), MR_OK);
    assert_int_equal(mr_reader_left(&reader), 0);
    assert_string_equal(print(msg, version, &in, text_a), print(msg, version, &out, text_b));

    uint32_t again_len;
    uint8_t *again = encode(msg, version, &out, &again_len);
    assert_int_equal(again_len, len);
    assert_memory_equal(again, bytes, len);
    free(again);
    free(bytes);
}

static void test_msg_every_version_of_every_message_round_trips(void **state)
{
    (void)state;
    for_each_version(check_round_trip, 30);
}

static void check_truncations(struct mr_prng *prng, const struct mr_msg *msg, int16_t version)
{
    union any in;
    union any out;
    mr_random_msg(prng, msg, version, &arena, &in);
    uint32_t len;
    uint8_t *bytes = encode(msg, version, &in, &len);
    for (uint32_t cut = 0; cut < len; cut++) {
        uint8_t *exact = malloc(cut > 0 ? cut : 1);
        uint32_t left;
        assert_non_null(exact);
        memcpy(exact, bytes, cut);
        mr_arena_reset(&scratch);
        enum mr_err err = decode(msg, version, exact, cut, &out, &left);
        assert_true(err == MR_ERR_TRUNCATED || err == MR_ERR_MALFORMED);
        free(exact);
    }
    free(bytes);
}

static void test_msg_every_truncation_is_refused(void **state)
{
    (void)state;
    for_each_version(check_truncations, 4);
}

/* Replaced bytes: any verdict, but no touch outside, and no memory but ours. */
static void check_damage(struct mr_prng *prng, const struct mr_msg *msg, int16_t version)
{
    union any in;
    union any out;
    mr_random_msg(prng, msg, version, &arena, &in);
    uint32_t len;
    uint8_t *bytes = encode(msg, version, &in, &len);
    for (int round = 0; round < 8 && len > 0; round++) {
        uint32_t left;
        bytes[mr_prng_below(prng, len)] = (uint8_t)mr_prng_next(prng);
        mr_arena_reset(&scratch);
        if (decode(msg, version, bytes, len, &out, &left) == MR_OK) {
            uint32_t again_len;
            free(encode(msg, version, &out, &again_len));
        }
    }
    free(bytes);
}

static void test_msg_damaged_bytes_decode_in_bounds(void **state)
{
    (void)state;
    for_each_version(check_damage, 10);
}

/* The scratch arena one byte too small, for every size below what is needed. */
static void check_small_memory(struct mr_prng *prng, const struct mr_msg *msg, int16_t version)
{
    union any in;
    union any out;
    mr_random_msg(prng, msg, version, &arena, &in);
    uint32_t len;
    uint8_t *bytes = encode(msg, version, &in, &len);
    mr_arena_reset(&scratch);
    uint32_t left;
    assert_int_equal(decode(msg, version, bytes, len, &out, &left), MR_OK);
    size_t need = scratch.used;
    for (size_t size = 0; size < need; size += 1 + size / 8) {
        struct mr_arena  small;
        struct mr_reader reader;
        mr_arena_init(&small, scratch.base, size);
        mr_reader_init_bytes(&reader, bytes, len);
        assert_int_equal(mr_msg_decode(msg, version, &reader, &small, &out), MR_ERR_NO_MEMORY);
    }
    for (size_t size = 0; size < len; size += 1 + size / 8) {
        struct mr_arena  small;
        struct mr_writer writer;
        mr_arena_init(&small, scratch.base, size);
        mr_writer_init(&writer, &small, spans, SPAN_MAX);
        enum mr_err err = mr_msg_encode(msg, version, &in, &writer);
        assert_true(err == MR_ERR_NO_MEMORY || err == MR_OK); /* OK where records take no memory */
    }
    for (uint32_t span_max = 0; span_max < 6; span_max++) {
        struct mr_writer writer;
        mr_arena_reset(&scratch);
        mr_writer_init(&writer, &scratch, spans, span_max);
        enum mr_err err = mr_msg_encode(msg, version, &in, &writer);
        assert_true(err == MR_ERR_NO_MEMORY || err == MR_OK);
        assert_true(writer.span_count <= span_max);
    }
    free(bytes);
}

static void test_msg_too_little_memory_is_an_error_at_every_size(void **state)
{
    (void)state;
    for_each_version(check_small_memory, 2);
}

static void test_msg_version_outside_the_range_is_refused(void **state)
{
    (void)state;
    struct mr_fetch_request request;
    struct mr_writer        writer;
    struct mr_text          text;
    uint32_t                left;
    uint32_t                size;
    MR_DEFAULTS(fetch_request, &request);
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    mr_text_init(&text, text_a, TEXT_BYTES);
    const int16_t outside[] = {-1, MR_MIN_fetch_request - 1, MR_MAX_fetch_request + 1, INT16_MAX};
    for (size_t index = 0; index < sizeof outside / sizeof outside[0]; index++) {
        int16_t version = outside[index];
        assert_int_equal(mr_msg_encode(&mr_msg_fetch_request, version, &request, &writer),
                         MR_ERR_UNSUPPORTED_VERSION);
        assert_int_equal(decode(&mr_msg_fetch_request, version, NULL, 0, &request, &left),
                         MR_ERR_UNSUPPORTED_VERSION);
        assert_int_equal(mr_msg_print(&mr_msg_fetch_request, version, &request, &text),
                         MR_ERR_UNSUPPORTED_VERSION);
        assert_int_equal(mr_msg_size(&mr_msg_fetch_request, version, &request, &size),
                         MR_ERR_UNSUPPORTED_VERSION);
    }
}

static void test_msg_fetch_request_defaults_are_kafkas(void **state)
{
    (void)state;
    struct mr_fetch_request request;
    memset(&request, 0xee, sizeof request);
    MR_DEFAULTS(fetch_request, &request);
    assert_int_equal(request.cluster_id.len, -1);
    assert_int_equal(request.replica_id, -1);
    assert_int_equal(request.replica_state.replica_id, -1);
    assert_int_equal(request.replica_state.replica_epoch, -1);
    assert_int_equal(request.max_bytes, INT32_MAX);
    assert_int_equal(request.session_id, 0);
    assert_int_equal(request.session_epoch, -1);
    assert_int_equal(request.topics_count, 0);
    assert_int_equal(request.rack_id.len, 0);
    assert_non_null(request.rack_id.data);

    struct mr_partition_change_record change;
    MR_DEFAULTS(partition_change_record, &change);
    assert_int_equal(change.isr_count, -1);
    assert_int_equal(change.leader, -2);
}

static void test_msg_field_the_version_lacks_is_refused_unless_ignorable(void **state)
{
    (void)state;
    struct mr_writer        writer;
    struct mr_fetch_request request;
    MR_DEFAULTS(fetch_request, &request);
    request.session_epoch = 7; /* since 7, ignorable */
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    assert_int_equal(mr_msg_encode(&mr_msg_fetch_request, 4, &request, &writer), MR_OK);
    request.replica_state.replica_id = 7; /* since 15, not ignorable */
    assert_int_equal(mr_msg_encode(&mr_msg_fetch_request, 4, &request, &writer),
                     MR_ERR_UNSUPPORTED_FIELD);
    struct mr_text text;
    mr_text_init(&text, text_a, TEXT_BYTES);
    assert_int_equal(mr_msg_print(&mr_msg_fetch_request, 4, &request, &text),
                     MR_ERR_UNSUPPORTED_FIELD);
    assert_int_equal(mr_msg_encode(&mr_msg_fetch_request, 15, &request, &writer), MR_OK);
}

static void test_msg_null_the_version_lacks_is_refused_in_both_directions(void **state)
{
    (void)state;
    struct mr_metadata_request request;
    struct mr_writer           writer;
    uint32_t                   left;
    MR_DEFAULTS(metadata_request, &request);
    request.topics_count = -1; /* null since version 1: all topics */
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    assert_int_equal(mr_msg_encode(&mr_msg_metadata_request, 0, &request, &writer),
                     MR_ERR_UNSUPPORTED_FIELD);
    assert_int_equal(mr_msg_encode(&mr_msg_metadata_request, 1, &request, &writer), MR_OK);
    static const uint8_t null_topics[] = {0xff, 0xff, 0xff, 0xff};
    assert_int_equal(decode(&mr_msg_metadata_request, 0, null_topics, 4, &request, &left),
                     MR_ERR_MALFORMED);
    assert_int_equal(decode(&mr_msg_metadata_request, 1, null_topics, 4, &request, &left), MR_OK);
    assert_int_equal(request.topics_count, -1);
}

static void test_msg_string_over_32767_bytes_is_refused(void **state)
{
    (void)state;
    struct mr_heartbeat_request request;
    struct mr_writer            writer;
    char                       *text = calloc(1, 32768);
    MR_DEFAULTS(heartbeat_request, &request);
    mr_arena_reset(&scratch);
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    request.group_id = (struct mr_str){.data = text, .len = 32767};
    assert_int_equal(mr_msg_encode(&mr_msg_heartbeat_request, 4, &request, &writer), MR_OK);
    request.group_id.len = 32768;
    assert_int_equal(mr_msg_encode(&mr_msg_heartbeat_request, 4, &request, &writer),
                     MR_ERR_INVALID);
    assert_int_equal(mr_msg_encode(&mr_msg_heartbeat_request, 0, &request, &writer),
                     MR_ERR_INVALID);
    free(text);
}

static void test_msg_count_beyond_the_bytes_left_reserves_nothing(void **state)
{
    (void)state;
    struct mr_metadata_request request;
    uint32_t                   left;
    /* 2^31-1 topics, then 40 bytes: a topic of version 0 takes two at least, so 21 are too many. */
    uint8_t bytes[44] = {0x7f, 0xff, 0xff, 0xff};
    mr_arena_reset(&scratch);
    assert_int_equal(decode(&mr_msg_metadata_request, 0, bytes, sizeof bytes, &request, &left),
                     MR_ERR_TRUNCATED);
    assert_int_equal(scratch.used, 0);
    mr_store_be32(bytes, 21);
    assert_int_equal(decode(&mr_msg_metadata_request, 0, bytes, sizeof bytes, &request, &left),
                     MR_ERR_TRUNCATED);
    assert_int_equal(scratch.used, 0);
    mr_store_be32(bytes, 20);
    assert_int_equal(decode(&mr_msg_metadata_request, 0, bytes, sizeof bytes, &request, &left),
                     MR_OK);
    assert_int_equal(request.topics_count, 20);
}

/* ApiVersions request 3: two compact strings, then the tagged section that the test writes. */
static enum mr_err decode_tagged(const char *tags, uint32_t len,
                                 struct mr_api_versions_request *out, int16_t version,
                                 uint32_t *left)
{
    uint8_t bytes[64] = {2, 'a', 2, 'b'};
    memcpy(bytes + 4, tags, len);
    return decode(&mr_msg_api_versions_request, version, bytes, 4 + len, out, left);
}

static void test_msg_unknown_tagged_fields_are_skipped(void **state)
{
    (void)state;
    struct mr_api_versions_request request;
    uint32_t                       left;
    assert_int_equal(decode_tagged("\x02\x05\x03xyz\x88\x01\x00", 9, &request, 3, &left), MR_OK);
    assert_int_equal(left, 0);
    assert_int_equal(request.client_software_version.data[0], 'b');
    assert_int_equal(decode_tagged("\x01\x05\x04xyz", 6, &request, 3, &left), MR_ERR_TRUNCATED);
    assert_int_equal(decode_tagged("\x02\x05\x03xyz", 6, &request, 3, &left), MR_ERR_TRUNCATED);
}

static void test_msg_known_tagged_field_must_be_as_long_as_it_says(void **state)
{
    (void)state;
    struct mr_fetch_request request;
    struct mr_writer        writer;
    uint32_t                len;
    uint32_t                left;
    MR_DEFAULTS(fetch_request, &request);
    request.cluster_id = MR_STR("abc");
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    uint8_t *bytes = encode(&mr_msg_fetch_request, 18, &request, &len);
    /* ... 1 tagged field, tag 0, size 4, length 3 + 1, "abc" */
    assert_memory_equal(bytes + len - 7, "\x01\x00\x04\x04" "abc", 7);
    assert_int_equal(decode(&mr_msg_fetch_request, 18, bytes, len, &request, &left), MR_OK);
    assert_int_equal(request.cluster_id.len, 3);
    bytes[len - 4] = 3;
    bytes[len - 5] = 4;
    assert_int_equal(decode(&mr_msg_fetch_request, 18, bytes, len, &request, &left),
                     MR_ERR_MALFORMED);
    free(bytes);
}

static void test_msg_tagged_field_at_its_default_is_not_written(void **state)
{
    (void)state;
    struct mr_fetch_request request;
    uint32_t                len;
    MR_DEFAULTS(fetch_request, &request);
    uint8_t *bytes = encode(&mr_msg_fetch_request, 18, &request, &len);
    assert_int_equal(bytes[len - 1], 0);
    free(bytes);
}

static void test_msg_varint_of_more_than_32_bits_is_refused(void **state)
{
    (void)state;
    struct mr_reader reader;
    uint32_t         value;
    mr_reader_init_bytes(&reader, "\xff\xff\xff\xff\x0f", 5);
    assert_int_equal(mr_reader_uvarint(&reader, &value), MR_OK);
    assert_int_equal(value, UINT32_MAX);
    mr_reader_init_bytes(&reader, "\xff\xff\xff\xff\x1f", 5);
    assert_int_equal(mr_reader_uvarint(&reader, &value), MR_ERR_MALFORMED);
    mr_reader_init_bytes(&reader, "\x80\x80\x80\x80\x80\x00", 6);
    assert_int_equal(mr_reader_uvarint(&reader, &value), MR_ERR_MALFORMED);
    mr_reader_init_bytes(&reader, "\x80\x80", 2);
    assert_int_equal(mr_reader_uvarint(&reader, &value), MR_ERR_TRUNCATED);
}

static void test_msg_records_are_never_copied(void **state)
{
    (void)state;
    uint8_t        batch[100];
    struct mr_span parts[2] = {{.data = batch, .len = 60}, {.data = batch + 60, .len = 40}};
    struct mr_produce_request_partition_produce_data partition;
    struct mr_produce_request_topic_produce_data     topic;
    struct mr_produce_request                        request;
    memset(batch, 7, sizeof batch);
    MR_DEFAULTS(produce_request, &request);
    MR_DEFAULTS(produce_request_topic_produce_data, &topic);
    MR_DEFAULTS(produce_request_partition_produce_data, &partition);
    partition.records = (struct mr_chain){.spans = parts, .span_count = 2, .bytes = 100};
    topic.partition_data = &partition;
    topic.partition_data_count = 1;
    request.topic_data = &topic;
    request.topic_data_count = 1;

    struct mr_writer writer;
    mr_arena_reset(&scratch);
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    assert_int_equal(mr_msg_encode(&mr_msg_produce_request, 12, &request, &writer), MR_OK);
    struct mr_chain sent = mr_writer_finish(&writer);
    assert_int_equal(sent.span_count, 4); /* head, two of the batch, tags */
    assert_ptr_equal(sent.spans[1].data, batch);
    assert_ptr_equal(sent.spans[2].data, batch + 60);
    assert_true(scratch.used < 64); /* the unused end of each piece went back */

    struct mr_reader reader;
    mr_reader_init(&reader, &sent);
    assert_int_equal(mr_msg_decode(&mr_msg_produce_request, 12, &reader, &scratch, &request),
                     MR_OK);
    const struct mr_chain *got = &request.topic_data[0].partition_data[0].records;
    assert_int_equal(got->bytes, 100);
    assert_int_equal(got->span_count, 2);
    assert_ptr_equal(got->spans[0].data, batch);
    assert_ptr_equal(got->spans[1].data, batch + 60);
}

static void test_msg_string_across_spans_is_copied_and_others_are_not(void **state)
{
    (void)state;
    struct mr_heartbeat_request request;
    uint32_t                    len;
    MR_DEFAULTS(heartbeat_request, &request);
    request.group_id = MR_STR("group");
    request.member_id = MR_STR("member");
    uint8_t       *bytes = encode(&mr_msg_heartbeat_request, 0, &request, &len);
    struct mr_span cut[2] = {{.data = bytes, .len = 4}, {.data = bytes + 4, .len = len - 4}};
    struct mr_chain  chain = {.spans = cut, .span_count = 2, .bytes = len};
    struct mr_reader reader;
    mr_reader_init(&reader, &chain);
    assert_int_equal(mr_msg_decode(&mr_msg_heartbeat_request, 0, &reader, &scratch, &request),
                     MR_OK);
    assert_memory_equal(request.group_id.data, "group", 5);
    assert_true((const uint8_t *)request.group_id.data < bytes ||
                (const uint8_t *)request.group_id.data >= bytes + len);
    assert_memory_equal(request.member_id.data, "member", 6);
    assert_ptr_equal(request.member_id.data, bytes + len - 6);
    free(bytes);
}

/* What a decode takes is in proportion to what was sent: at most a struct for each item. */
static void test_msg_memory_of_a_decode_is_bounded_by_its_bytes(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 3};
    uint8_t        bytes[4096];
    union any      out;
    uint32_t       left;
    for (int round = 0; round < 2000; round++) {
        for (size_t at = 0; at < sizeof bytes; at++) {
            bytes[at] = mr_prng_below(&prng, 3) == 0 ? (uint8_t)mr_prng_next(&prng) : 1;
        }
        const struct mr_msg *msg = mr_msg_all[mr_prng_below(&prng, mr_msg_count)];
        mr_arena_reset(&scratch);
        (void)decode(msg, msg->version_max, bytes, sizeof bytes, &out, &left);
        assert_true(scratch.used <= 128 * sizeof bytes);
    }
}

static void test_msg_print_escapes_as_jackson_does(void **state)
{
    (void)state;
    struct mr_heartbeat_request request;
    MR_DEFAULTS(heartbeat_request, &request);
    request.group_id = MR_STR("a\"\\/\b\f\n\r\t\x01\x1f\x7f\xc3\xa9\xff\xe2\x82");
    request.generation_id = -5;
    assert_string_equal(print(&mr_msg_heartbeat_request, 0, &request, text_a),
                        "{\"groupId\":\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001F\x7f\xc3\xa9"
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"generationId\":-5,"
                        "\"memberId\":\"\"}");
}

static void test_msg_print_cut_text_says_so(void **state)
{
    (void)state;
    struct mr_heartbeat_request request;
    struct mr_text              text;
    MR_DEFAULTS(heartbeat_request, &request);
    mr_text_init(&text, text_a, 10);
    assert_int_equal(mr_msg_print(&mr_msg_heartbeat_request, 0, &request, &text), MR_OK);
    assert_true(text.is_cut);
    assert_string_equal(text_a, "{\"groupId");
}

static void test_double_text_is_javas(void **state)
{
    (void)state;
    static const struct {
        double      value;
        const char *text;
    } rows[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {0.001, "0.001"},
        {0.00099, "9.9E-4"},
        {9999999.0, "9999999.0"},
        {1e7, "1.0E7"},
        {12345678.5, "1.23456785E7"},
        {1048576.0, "1048576.0"},
        {1e300, "1.0E300"},
        {1.7976931348623157e308, "1.7976931348623157E308"},
        {2.2250738585072014e-308, "2.2250738585072014E-308"},
        {4.9e-324, "4.9E-324"},
        {0.3, "0.3"},
        {0.9, "0.9"},
        {1e23, "1.0E23"},
        {2e-3, "0.002"},
        {1.0 / 3.0, "0.3333333333333333"},
        {100.0, "100.0"},
        {123.456, "123.456"},
        {0.010, "0.01"},
        {9007199254740993.0, "9.007199254740992E15"},
        {__builtin_inf(), "Infinity"},
        {-__builtin_inf(), "-Infinity"},
        {__builtin_nan(""), "NaN"},
    };
    for (size_t index = 0; index < sizeof rows / sizeof rows[0]; index++) {
        char           buffer[64];
        struct mr_text text;
        mr_text_init(&text, buffer, sizeof buffer);
        mr_double_text(&text, rows[index].value);
        assert_string_equal(buffer, rows[index].text);
    }
    struct mr_prng prng = {.state = 9};
    for (int round = 0; round < 2000; round++) {
        uint64_t       bits = mr_prng_next(&prng);
        double         value;
        char           buffer[64];
        struct mr_text text;
        memcpy(&value, &bits, sizeof value);
        mr_text_init(&text, buffer, sizeof buffer);
        mr_double_text(&text, value);
        if (value == value) {
            double back = strtod(buffer, NULL);
            assert_memory_equal(&back, &value, sizeof value);
        }
    }
}

static void test_msg_find_by_key_and_name(void **state)
{
    (void)state;
    assert_ptr_equal(mr_msg_find(MR_MSG_REQUEST, 0), &mr_msg_produce_request);
    assert_ptr_equal(mr_msg_find(MR_MSG_RESPONSE, 1), &mr_msg_fetch_response);
    assert_ptr_equal(mr_msg_find(MR_MSG_METADATA_RECORD, 2), &mr_msg_topic_record);
    assert_ptr_equal(mr_msg_find(MR_MSG_COORDINATOR_KEY, 2), &mr_msg_group_metadata_key);
    assert_ptr_equal(mr_msg_find(MR_MSG_COORDINATOR_VALUE, 1), &mr_msg_offset_commit_value);
    assert_null(mr_msg_find(MR_MSG_DATA, -1));
    assert_null(mr_msg_find(MR_MSG_REQUEST, 999));
    assert_ptr_equal(mr_msg_find_name(MR_STR("VotersRecord")), &mr_msg_voters_record);
    assert_null(mr_msg_find_name(MR_STR("voters_record")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msg_every_version_of_every_message_round_trips),
        cmocka_unit_test(test_msg_every_truncation_is_refused),
        cmocka_unit_test(test_msg_damaged_bytes_decode_in_bounds),
        cmocka_unit_test(test_msg_too_little_memory_is_an_error_at_every_size),
        cmocka_unit_test(test_msg_version_outside_the_range_is_refused),
        cmocka_unit_test(test_msg_fetch_request_defaults_are_kafkas),
        cmocka_unit_test(test_msg_field_the_version_lacks_is_refused_unless_ignorable),
        cmocka_unit_test(test_msg_null_the_version_lacks_is_refused_in_both_directions),
        cmocka_unit_test(test_msg_string_over_32767_bytes_is_refused),
        cmocka_unit_test(test_msg_count_beyond_the_bytes_left_reserves_nothing),
        cmocka_unit_test(test_msg_unknown_tagged_fields_are_skipped),
        cmocka_unit_test(test_msg_known_tagged_field_must_be_as_long_as_it_says),
        cmocka_unit_test(test_msg_tagged_field_at_its_default_is_not_written),
        cmocka_unit_test(test_msg_varint_of_more_than_32_bits_is_refused),
        cmocka_unit_test(test_msg_records_are_never_copied),
        cmocka_unit_test(test_msg_string_across_spans_is_copied_and_others_are_not),
        cmocka_unit_test(test_msg_memory_of_a_decode_is_bounded_by_its_bytes),
        cmocka_unit_test(test_msg_print_escapes_as_jackson_does),
        cmocka_unit_test(test_msg_print_cut_text_says_so),
        cmocka_unit_test(test_double_text_is_javas),
        cmocka_unit_test(test_msg_find_by_key_and_name),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
