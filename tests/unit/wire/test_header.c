/*
 * header: both header versions from golden bytes, and the API table against the rows and against
 * docs/PROTOCOL.md (MR_UPDATE=1 rewrites the table there).
 */
#include "test.h"

#include "millrace/kafka/errors.h"
#include "millrace/kafka/header.h"

#define TEXT_BYTES (64u << 10)

static uint8_t         memory[4096];
static struct mr_arena scratch;

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&scratch, memory, sizeof memory);
    return 0;
}

static enum mr_err decode(const char *bytes, uint32_t len, struct mr_header *header, uint32_t *left)
{
    struct mr_reader reader;
    mr_arena_reset(&scratch);
    mr_reader_init_bytes(&reader, bytes, len);
    enum mr_err err = mr_header_decode(&reader, &scratch, header);
    *left = mr_reader_left(&reader);
    return err;
}

/* The first request of librdkafka 2.x: ApiVersions 3, correlation id 1, client "rdkafka". */
static void test_header_v2_keeps_the_old_string_and_skips_tags(void **state)
{
    (void)state;
    static const char bytes[] = "\0\x12\0\x03\0\0\0\x01\0\x07rdkafka\0\x0blibrdkafka";
    struct mr_header  header;
    uint32_t          left;
    assert_int_equal(decode(bytes, sizeof bytes - 1, &header, &left), MR_OK);
    assert_int_equal(header.key, MR_API_API_VERSIONS);
    assert_int_equal(header.version, 3);
    assert_int_equal(header.correlation_id, 1);
    assert_true(mr_str_equal(header.client_id, MR_STR("rdkafka")));
    assert_int_equal(left, 11); /* the body: compact "librdkafka" */
}

static void test_header_v1_has_no_tags(void **state)
{
    (void)state;
    static const char bytes[] = "\0\x03\0\x01\x7f\xff\xff\xff\xff\xff\0\0\0\0";
    struct mr_header  header;
    uint32_t          left;
    assert_int_equal(decode(bytes, sizeof bytes - 1, &header, &left), MR_OK);
    assert_int_equal(header.key, MR_API_METADATA);
    assert_int_equal(header.correlation_id, INT32_MAX);
    assert_true(mr_str_is_null(header.client_id));
    assert_int_equal(left, 4);
}

static void test_header_unknown_version_still_tells_whom_to_answer(void **state)
{
    (void)state;
    static const char bytes[] = "\0\x12\0\x63\0\0\0\x07garbage";
    struct mr_header  header;
    uint32_t          left;
    assert_int_equal(decode(bytes, sizeof bytes - 1, &header, &left), MR_ERR_UNSUPPORTED_VERSION);
    assert_int_equal(header.key, MR_API_API_VERSIONS);
    assert_int_equal(header.version, 99);
    assert_int_equal(header.correlation_id, 7);
    assert_non_null(header.api);
    assert_true(mr_str_is_null(header.client_id));
}

static void test_header_unknown_or_unserved_key_is_refused(void **state)
{
    (void)state;
    struct mr_header header;
    uint32_t         left;
    for (int key = -1; key < 128; key++) {
        const char           bytes[] = {0, (char)key, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
        const struct mr_api *api = mr_api_find((int16_t)(key & 0xff));
        enum mr_err          err = decode(bytes, sizeof bytes, &header, &left);
        bool                 is_in_range = api != NULL && mr_api_has_version(api, 0);
        assert_int_equal(err, is_in_range ? MR_OK : MR_ERR_UNSUPPORTED_VERSION);
        assert_ptr_equal(header.api, api);
    }
    assert_null(mr_api_find(4));   /* LeaderAndIsr, gone since Kafka 4.0 */
    assert_null(mr_api_find(55));  /* DescribeQuorum is not served yet */
    assert_null(mr_api_find(-1));
    assert_null(mr_api_find(INT16_MAX));
}

static void test_header_every_truncation_is_refused(void **state)
{
    (void)state;
    static const char bytes[] = "\0\x12\0\x03\0\0\0\x01\0\x07rdkafka\0";
    struct mr_header  header;
    uint32_t          left;
    for (uint32_t len = 0; len < sizeof bytes - 1; len++) {
        char *exact = malloc(len > 0 ? len : 1);
        assert_non_null(exact);
        memcpy(exact, bytes, len);
        assert_int_equal(decode(exact, len, &header, &left), MR_ERR_TRUNCATED);
        free(exact);
    }
}

static void test_header_of_an_api_versions_response_is_always_version_0(void **state)
{
    (void)state;
    const struct mr_api *versions = mr_api_find(MR_API_API_VERSIONS);
    const struct mr_api *metadata = mr_api_find(MR_API_METADATA);
    for (int16_t version = 0; version <= versions->version_max; version++) {
        assert_int_equal(mr_header_response_version(versions, version), 0);
    }
    assert_int_equal(mr_header_response_version(metadata, 8), 0);
    assert_int_equal(mr_header_response_version(metadata, 9), 1);

    struct mr_span   spans[2];
    struct mr_writer writer;
    uint8_t          bytes[5];
    mr_arena_reset(&scratch);
    mr_writer_init(&writer, &scratch, spans, 2);
    assert_int_equal(mr_header_encode_response(&writer, metadata, 9, 258), MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    assert_int_equal(chain.bytes, 5);
    mr_chain_copy(&chain, 0, bytes, 5);
    assert_memory_equal(bytes, "\0\0\x01\x02\0", 5);
}

static void test_header_request_round_trips_for_every_served_version(void **state)
{
    (void)state;
    for (uint32_t index = 0; index < mr_api_count; index++) {
        const struct mr_api *api = &mr_api_all[index];
        for (int16_t version = api->version_min; version <= api->version_max; version++) {
            struct mr_span   spans[2];
            struct mr_writer writer;
            struct mr_reader reader;
            struct mr_header header;
            mr_arena_reset(&scratch);
            mr_writer_init(&writer, &scratch, spans, 2);
            enum mr_err sent =
                mr_header_encode_request(&writer, api, version, -7, MR_STR("me"));
            assert_int_equal(sent, MR_OK);
            struct mr_chain chain = mr_writer_finish(&writer);
            mr_reader_init(&reader, &chain);
            enum mr_err err = mr_header_decode(&reader, &scratch, &header);
            assert_int_equal(err, api->is_served ? MR_OK : MR_ERR_UNSUPPORTED_VERSION);
            assert_int_equal(header.correlation_id, -7);
            assert_int_equal(mr_reader_left(&reader) == 0, api->is_served);
        }
    }
}

static void test_api_rows_agree_with_the_message_rows(void **state)
{
    (void)state;
    int16_t before = -1;
    for (uint32_t index = 0; index < mr_api_count; index++) {
        const struct mr_api *api = &mr_api_all[index];
        assert_true(api->key > before);
        before = api->key;
        assert_ptr_equal(api->request, mr_msg_find(MR_MSG_REQUEST, api->key));
        assert_ptr_equal(api->response, mr_msg_find(MR_MSG_RESPONSE, api->key));
        assert_true(api->version_min >= api->request->version_min);
        assert_true(api->version_max <= api->request->version_max);
        assert_true(api->version_max <= api->response->version_max);
        assert_int_equal(api->flexible_since, api->request->flexible_since);
        assert_int_equal(api->flexible_since, api->response->flexible_since);
        assert_true(api->listed_min <= api->version_min);
        size_t len = strlen(api->name);
        assert_memory_equal(api->request->name, api->name, len);
        assert_string_equal(api->request->name + len, "Request");
        assert_ptr_equal(mr_api_find_row(api->key), api);
        assert_ptr_equal(mr_api_find(api->key), api->is_served ? api : NULL);
        assert_ptr_equal(mr_api_request_desc(api->key), api->request);
        assert_ptr_equal(mr_api_response_desc(api->key), api->response);
    }
    assert_null(mr_api_request_desc(999));
    assert_null(mr_api_response_desc(-1));
}

static void test_errors_names_and_retries(void **state)
{
    (void)state;
    assert_string_equal(mr_errors_name(-1), "UNKNOWN_SERVER_ERROR");
    assert_string_equal(mr_errors_name(MR_KAFKA_UNKNOWN_TOPIC_ID), "UNKNOWN_TOPIC_ID");
    assert_string_equal(mr_errors_name(136), "CONTROLLER_ID_NOT_REGISTERED");
    assert_string_equal(mr_errors_name(137), "?");
    assert_true(mr_errors_is_retriable(MR_KAFKA_NOT_LEADER_OR_FOLLOWER));
    assert_false(mr_errors_is_retriable(MR_KAFKA_TOPIC_ALREADY_EXISTS));
    assert_false(mr_errors_is_retriable(137));
}

/* ---- docs/PROTOCOL.md ------------------------------------------------------------------------ */

static void write_table(struct mr_text *text)
{
    static const char *const resources[] = {
        [MR_RESOURCE_NONE] = "-",       [MR_RESOURCE_TOPIC] = "topic",
        [MR_RESOURCE_GROUP] = "group",  [MR_RESOURCE_CLUSTER] = "cluster",
        [MR_RESOURCE_TRANSACTIONAL_ID] = "transactional id",
    };
    static const char *const ops[] = {
        [MR_OP_NONE] = "-",
        [MR_OP_READ] = "read",
        [MR_OP_WRITE] = "write",
        [MR_OP_CREATE] = "create",
        [MR_OP_DELETE] = "delete",
        [MR_OP_ALTER] = "alter",
        [MR_OP_DESCRIBE] = "describe",
        [MR_OP_CLUSTER_ACTION] = "cluster action",
        [MR_OP_DESCRIBE_CONFIGS] = "describe configs",
        [MR_OP_ALTER_CONFIGS] = "alter configs",
        [MR_OP_IDEMPOTENT_WRITE] = "idempotent write",
    };
    mr_text_fmt(text, "| Key | API | Versions | Flexible from | Handled by | Needs | State |\n"
                      "|---:|---|---|---|---|---|---|\n");
    for (uint32_t index = 0; index < mr_api_count; index++) {
        const struct mr_api *api = &mr_api_all[index];
        mr_text_fmt(text, "| %d | %s | %d-%d", api->key, api->name, api->version_min,
                    api->version_max);
        if (api->listed_min != api->version_min) {
            mr_text_fmt(text, " (listed from %d)", api->listed_min);
        }
        if (api->flexible_since == INT16_MAX) {
            mr_text_fmt(text, " | never");
        } else {
            mr_text_fmt(text, " | %d", api->flexible_since);
        }
        mr_text_fmt(text, " | %s", api->plane == MR_PLANE_DATA ? "data core" : "control");
        if (api->resource == MR_RESOURCE_NONE) {
            mr_text_fmt(text, " | nothing");
        } else {
            mr_text_fmt(text, " | %s on %s", ops[api->op], resources[api->resource]);
        }
        mr_text_fmt(text, " | %s |\n", api->is_served ? "served" : "not yet");
    }
}

static void test_docs_protocol_table_equals_api_def(void **state)
{
    (void)state;
    static const char begin[] = "<!-- table from api.def -->\n";
    static const char end[] = "<!-- end of table -->\n";
    static char       have[TEXT_BYTES];
    static char       want[TEXT_BYTES];
    const char       *path = MR_SOURCE_DIR "/docs/PROTOCOL.md";
    FILE             *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(have, 1, sizeof have - 1, file);
    have[len] = '\0';
    fclose(file);
    char *from = strstr(have, begin);
    char *to = strstr(have, end);
    assert_non_null(from);
    assert_non_null(to);
    struct mr_text text;
    mr_text_init(&text, want, sizeof want);
    mr_text_put(&text, have, (size_t)(from - have) + sizeof begin - 1);
    write_table(&text);
    mr_text_put(&text, to, strlen(to));
    assert_false(text.is_cut);
    if (strcmp(have, want) != 0 && getenv("MR_UPDATE") != NULL) {
        file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(want, 1, text.len, file), text.len);
        fclose(file);
        return;
    }
    assert_string_equal(have, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_v2_keeps_the_old_string_and_skips_tags),
        cmocka_unit_test(test_header_v1_has_no_tags),
        cmocka_unit_test(test_header_unknown_version_still_tells_whom_to_answer),
        cmocka_unit_test(test_header_unknown_or_unserved_key_is_refused),
        cmocka_unit_test(test_header_every_truncation_is_refused),
        cmocka_unit_test(test_header_of_an_api_versions_response_is_always_version_0),
        cmocka_unit_test(test_header_request_round_trips_for_every_served_version),
        cmocka_unit_test(test_api_rows_agree_with_the_message_rows),
        cmocka_unit_test(test_errors_names_and_retries),
        cmocka_unit_test(test_docs_protocol_table_equals_api_def),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
