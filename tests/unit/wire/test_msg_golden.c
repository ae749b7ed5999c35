/*
 * msg against golden bytes: what Kafka's message classes wrote (tests/interop/codec/run.sh
 * --record).
 *
 * A line of tests/golden/kafka/<Message>.tsv is version, bytes in hex and Kafka's JSON. The bytes
 * must decode, print as that JSON, and encode to the same bytes. It needs no Java, and it fails
 * when a row was changed, even where our encoder and decoder agree with each other.
 *
 * A line of clients.tsv is a frame that a stock client or Apache Kafka 4.3.1 sent
 * (record_clients.py): header and body must decode and encode to the same bytes.
 */
#include "test.h"

#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"
#include "random_msg.h"

#define ARENA_BYTES (4u << 20)
#define LINE_BYTES  (1u << 20)
#define SPAN_MAX    1024u

static struct mr_arena arena;
static struct mr_span  spans[SPAN_MAX];
static char           *line;
static char           *printed;
static uint8_t        *again;

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&arena, mr_test_memory(ARENA_BYTES), ARENA_BYTES);
    line = mr_test_memory(LINE_BYTES);
    printed = mr_test_memory(LINE_BYTES);
    again = mr_test_memory(LINE_BYTES);
    return 0;
}

static uint8_t hex_digit(char c)
{
    assert_true((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'));
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* The bytes behind `hex` up to its first other character, from a fresh arena. */
static uint8_t *unhex(const char *hex, uint32_t *len)
{
    *len = (uint32_t)strcspn(hex, "\t\n") / 2;
    mr_arena_reset(&arena);
    uint8_t *bytes = MR_ARENA_GET(&arena, uint8_t, *len + 1);
    for (uint32_t at = 0; at < *len; at++) {
        bytes[at] = (uint8_t)(hex_digit(hex[2 * at]) << 4 | hex_digit(hex[2 * at + 1]));
    }
    return bytes;
}

union any {
    uint8_t     bytes[1024];
    max_align_t align;
};

static void check_written(struct mr_writer *writer, const uint8_t *bytes, uint32_t len)
{
    struct mr_chain written = mr_writer_finish(writer);
    assert_int_equal(written.bytes, len);
    mr_chain_copy(&written, 0, again, len);
    assert_memory_equal(again, bytes, len);
}

static void check_line(struct mr_prng *prng, const struct mr_msg *msg)
{
    union any out;
    uint32_t  len;
    char     *hex;
    int16_t   version = (int16_t)strtol(line, &hex, 10);
    char     *json = strrchr(line, '\t') + 1;
    json[strcspn(json, "\n")] = '\0';
    uint8_t *bytes = unhex(hex + 1, &len);

    struct mr_chain  chain = mr_random_chain(prng, bytes, len, &arena);
    struct mr_reader reader;
    mr_reader_init(&reader, &chain);
    assert_true(msg->root->size <= sizeof out);
    assert_int_equal(mr_msg_decode(msg, version, &reader, &arena, &out), MR_OK);
    assert_int_equal(mr_reader_left(&reader), 0);

    struct mr_text text;
    mr_text_init(&text, printed, LINE_BYTES);
    assert_int_equal(mr_msg_print(msg, version, &out, &text), MR_OK);
    assert_string_equal(printed, json);

    struct mr_writer writer;
    mr_writer_init(&writer, &arena, spans, SPAN_MAX);
    assert_int_equal(mr_msg_encode(msg, version, &out, &writer), MR_OK);
    check_written(&writer, bytes, len);
}

static void test_msg_golden_bytes_of_kafka_decode_print_and_encode(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 11};
    for (uint32_t index = 0; index < mr_msg_count; index++) {
        const struct mr_msg *msg = mr_msg_all[index];
        char                 path[512];
        snprintf(path, sizeof path, "%s/tests/golden/kafka/%s.tsv", MR_SOURCE_DIR, msg->name);
        FILE *file = fopen(path, "r");
        if (file == NULL) {
            fail_msg("no golden bytes for %s: record them", msg->name);
        }
        int  versions = 0;
        long last = -1;
        while (fgets(line, (int)LINE_BYTES, file) != NULL) {
            long version = strtol(line, NULL, 10);
            versions += version != last;
            last = version;
            check_line(&prng, msg);
        }
        assert_int_equal(versions, msg->version_max - msg->version_min + 1);
        fclose(file);
    }
}

static void check_frame(const struct mr_api *api, int16_t version, bool is_request, const char *hex)
{
    union {
        struct mr_request_header  request;
        struct mr_response_header response;
    } head;
    union any            body;
    uint32_t             len;
    struct mr_reader     reader;
    struct mr_writer     writer;
    uint8_t             *bytes = unhex(hex, &len);
    const struct mr_msg *head_msg = is_request ? &mr_msg_request_header : &mr_msg_response_header;
    const struct mr_msg *body_msg = is_request ? api->request : api->response;
    int16_t              head_version = is_request ? mr_header_request_version(api, version)
                                                   : mr_header_response_version(api, version);
    mr_reader_init_bytes(&reader, bytes, len);
    assert_int_equal(mr_msg_decode(head_msg, head_version, &reader, &arena, &head), MR_OK);
    if (is_request) {
        assert_int_equal(head.request.request_api_key, api->key);
        assert_int_equal(head.request.request_api_version, version);
    }
    assert_int_equal(mr_msg_decode(body_msg, version, &reader, &arena, &body), MR_OK);
    assert_int_equal(mr_reader_left(&reader), 0);

    mr_writer_init(&writer, &arena, spans, SPAN_MAX);
    assert_int_equal(mr_msg_encode(head_msg, head_version, &head, &writer), MR_OK);
    assert_int_equal(mr_msg_encode(body_msg, version, &body, &writer), MR_OK);
    check_written(&writer, bytes, len);
}

static void test_msg_frames_of_real_clients_and_a_real_kafka(void **state)
{
    (void)state;
    FILE *file = fopen(MR_SOURCE_DIR "/tests/golden/kafka/clients.tsv", "r");
    int   count = 0;
    assert_non_null(file);
    while (fgets(line, (int)LINE_BYTES, file) != NULL) {
        char *direction = strchr(line, '\t') + 1;
        char *key = strchr(direction, '\t') + 1;
        char *version = strchr(key, '\t') + 1;
        char *hex = strchr(version, '\t') + 1;
        /* The clients also speak of what has no rows yet (reassignments, the new groups). */
        const struct mr_api *api = mr_api_find_row((int16_t)strtol(key, NULL, 10));
        if (api != NULL) {
            check_frame(api, (int16_t)strtol(version, NULL, 10), strncmp(direction, "req", 3) == 0,
                        hex);
            count++;
        }
    }
    fclose(file);
    assert_true(count > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msg_frames_of_real_clients_and_a_real_kafka),
        cmocka_unit_test(test_msg_golden_bytes_of_kafka_decode_print_and_encode),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
