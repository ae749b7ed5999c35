/*
 * Requests of the generator: the broker's own decoder and batch check read them, with every codec, version,
 * key, sequence and stamp; and the verifier finds each thing that can be wrong with records.
 */
#include "load_image.h"
#include "load_verify.h"
#include "test.h"

#include "millrace/base/bytes.h"
#include "millrace/batch.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"

static struct mr_load_options options;
static char                   why[600];
static struct mr_arena        scratch;

static void set(const char *const *settings)
{
    mr_load_options_init(&options);
    for (; *settings != NULL; settings++) {
        assert_true(mr_load_options_set(&options, *settings, why, sizeof why));
    }
    assert_true(mr_load_image_prepare(&options));
    mr_arena_init(&scratch, mr_test_memory(64u << 20), 64u << 20);
}

static void open_image(struct mr_load_image *image, int16_t version, int64_t producer_id)
{
    struct mr_load_image_params params = {.options = &options,
                                          .topic = MR_STR("load"),
                                          .version = version,
                                          .producer = 1,
                                          .producer_id = producer_id,
                                          .producer_epoch = producer_id < 0 ? -1 : 3,
                                          .now_unix_ms = 1700000000000};
    enum mr_err                 err;
    assert_true(mr_load_image_init(image, &params, &err));
}

/* What the broker sees of an image: its partitions and batches. */
static void decode(const struct mr_load_image *image, struct mr_produce_request *request, int32_t correlation)
{
    struct mr_reader reader;
    struct mr_header header;
    assert_int_equal(mr_load_be32(image->bytes), image->len - MR_FRAME_PREFIX);
    mr_reader_init_bytes(&reader, image->bytes + MR_FRAME_PREFIX, image->len - MR_FRAME_PREFIX);
    assert_int_equal(mr_header_decode(&reader, &scratch, &header), MR_OK);
    assert_int_equal(header.correlation_id, correlation);
    assert_int_equal(mr_msg_decode(&mr_msg_produce_request, header.version, &reader, &scratch, request), MR_OK);
    assert_int_equal(mr_reader_left(&reader), 0);
}

static void check_batch(const struct mr_chain *records, struct mr_batch *batch)
{
    struct mr_log_config    config = {.validate = MR_VALIDATE_FULL, .max_message_bytes = 64 << 20};
    struct mr_batch_rules   rules = {.config = &config, .now_unix_ms = 1700000000000, .produce_version = 9};
    struct mr_batch_refusal refusal;
    assert_int_equal(mr_batch_check(records, &rules, &scratch, batch, &refusal), MR_OK);
}

static void test_load_image_is_a_valid_request(void **state)
{
    (void)state;
    static const char *const codecs[] = {"compression=none", "compression=gzip", "compression=snappy",
                                         "compression=lz4", "compression=zstd"};
    static const char *const stamps[] = {"verify=no", "verify=yes"};
    static const int16_t     versions[] = {3, 8, 9, 12};
    for (size_t round = 0; round < 5u * 2u * 4u; round++) {
        const char *const settings[] = {codecs[round % 5], stamps[round / 5 % 2], "batches=3", "records=20",
                                        "record.bytes=300", "key.bytes=8", NULL};
        int16_t version = versions[round / 10];
        set(settings);
        struct mr_load_image   image;
        struct mr_load_stream  streams[3] = {{.partition = 7}, {.partition = 300, .sequence = 40}, {.partition = 2}};
        struct mr_load_stream *order[3] = {&streams[0], &streams[1], &streams[2]};
        open_image(&image, version, 1234);
        for (int32_t send = 0; send < 3; send++) {
            struct mr_produce_request request;
            assert_true(mr_load_image_fill(&image, 100 + send, order, 1700000000123456789));
            mr_arena_reset(&scratch);
            decode(&image, &request, 100 + send);
            assert_int_equal(request.acks, -1);
            assert_int_equal(request.topic_data[0].partition_data_count, 3);
            for (int32_t place = 0; place < 3; place++) {
                struct mr_batch batch;
                assert_int_equal(request.topic_data[0].partition_data[place].index, streams[place].partition);
                check_batch(&request.topic_data[0].partition_data[place].records, &batch);
                assert_int_equal(batch.record_count, 20);
                assert_int_equal(batch.producer_id, 1234);
                assert_int_equal(batch.producer_epoch, 3);
                assert_int_equal(batch.base_sequence, (place == 1 ? 40 : 0) + send * 20);
                assert_int_equal(batch.attributes & MR_BATCH_CODEC_MASK, round % 5);
            }
        }
        mr_load_image_deinit(&image);
    }
}

static void test_load_image_sequence_wraps_to_zero(void **state)
{
    (void)state;
    static const char *const settings[] = {"records=4", "record.bytes=10", NULL};
    set(settings);
    struct mr_load_image   image;
    struct mr_load_stream  stream = {.sequence = INT32_MAX - 1};
    struct mr_load_stream *order[1] = {&stream};
    open_image(&image, 9, 5);
    assert_true(mr_load_image_fill(&image, 1, order, 0));
    assert_int_equal(stream.sequence, 2);
    mr_load_image_deinit(&image);
}

/* One filled batch of ten records, handed to the verifier record by record. */
struct feed {
    struct mr_record records[10];
};

static void make_feed(struct feed *feed, uint64_t number)
{
    static struct mr_load_image  image;
    struct mr_produce_request    request;
    struct mr_record_iter        iter;
    struct mr_load_stream        stream = {.partition = 2, .number = number};
    struct mr_load_stream       *order[1] = {&stream};
    open_image(&image, 9, -1);
    assert_true(mr_load_image_fill(&image, 1, order, 99));
    decode(&image, &request, 1);
    const struct mr_chain *chain = &request.topic_data[0].partition_data[0].records;
    uint8_t               *bytes = mr_test_memory(chain->bytes);
    mr_chain_copy(chain, 0, bytes, chain->bytes);
    assert_int_equal(mr_record_iter_init(&iter, bytes, chain->bytes, &scratch), MR_OK);
    for (size_t index = 0; index < 10; index++) {
        assert_int_equal(mr_record_iter_next(&iter, &feed->records[index]), MR_OK);
    }
    mr_load_image_deinit(&image);
}

static const char *const feed_settings[] = {"verify=yes", "records=10", "record.bytes=100", "key.bytes=6", NULL};

static struct mr_load_reader *open_verify(struct mr_load_verify *verify)
{
    set(feed_settings);
    assert_true(mr_load_verify_init(verify, &options, 2, 4, 1));
    return &verify->readers[0];
}

static void give(struct mr_load_verify *verify, const struct mr_record *record)
{
    mr_load_verify_record(verify, &verify->readers[0], 2, record->offset, record->key, record->value);
}

static void test_load_verify_everything_once_in_order_is_right(void **state)
{
    (void)state;
    struct mr_load_verify  verify;
    struct mr_load_reader *reader = open_verify(&verify);
    struct feed            feed;
    for (uint64_t batch = 0; batch < 3; batch++) {
        make_feed(&feed, batch * 10);
        for (size_t index = 0; index < 10; index++) {
            give(&verify, &feed.records[index]);
        }
    }
    verify.acked[1 * 4 + 2] = 30;
    assert_true(mr_load_verify_end(&verify));
    assert_int_equal(reader->right, 30);
    mr_load_verify_free(&verify);
}

static void test_load_verify_each_fault_is_found(void **state)
{
    (void)state;
    struct mr_load_verify  verify;
    struct mr_load_reader *reader = open_verify(&verify);
    struct feed            feed;
    make_feed(&feed, 0);
    give(&verify, &feed.records[0]);
    give(&verify, &feed.records[0]); /* again */
    assert_int_equal(reader->repeated, 1);
    give(&verify, &feed.records[2]); /* without the one before */
    assert_int_equal(reader->missing, 1);
    give(&verify, &feed.records[1]); /* which comes late */
    assert_int_equal(reader->repeated, 2);

    struct mr_record wrong = feed.records[3];
    uint8_t          value[100];
    memcpy(value, wrong.value.data, sizeof value);
    value[99] ^= 1;
    wrong.value.data = value;
    give(&verify, &wrong); /* one bit */
    assert_int_equal(reader->damaged, 1);
    wrong = feed.records[3];
    wrong.value.len--;
    give(&verify, &wrong); /* cut */
    assert_int_equal(reader->damaged, 2);
    wrong = feed.records[3];
    wrong.key = feed.records[4].key;
    give(&verify, &wrong); /* another's key */
    assert_int_equal(reader->damaged, 3);
    assert_false(mr_load_verify_end(&verify));
    mr_load_verify_free(&verify);
}

static void test_load_verify_acknowledged_and_not_read_is_missing(void **state)
{
    (void)state;
    struct mr_load_verify verify;
    open_verify(&verify);
    verify.acked[0] = 10;
    assert_false(mr_load_verify_end(&verify));
    assert_int_equal(verify.readers[0].missing, 10);
    mr_load_verify_free(&verify);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_image_is_a_valid_request),
        cmocka_unit_test(test_load_image_sequence_wraps_to_zero),
        cmocka_unit_test(test_load_verify_everything_once_in_order_is_right),
        cmocka_unit_test(test_load_verify_each_fault_is_found),
        cmocka_unit_test(test_load_verify_acknowledged_and_not_read_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
