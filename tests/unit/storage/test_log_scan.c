/* A segment that is read in pieces: each batch once, its end or its damage where it is. */
#include "test.h"

#include "millrace/log_scan.h"
#include "model_log.h"

#define BATCHES 40

static uint8_t  segment[BATCHES * 2048];
static uint32_t segment_bytes;

static void count(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    assert_null(control);
    int64_t *next = context;
    assert_int_equal(batch->base_offset, *next);
    assert_true(pos < segment_bytes);
    *next = mr_batch_last_offset(batch) + 1;
}

static int make_segment(void **state)
{
    (void)state;
    segment_bytes = 0;
    for (int32_t index = 0; index < BATCHES; index++) {
        struct mr_model_batch batch = {.base = index * 2, .seed = 7, .timestamp = 1000, .producer_id = -1, .producer_epoch = -1,
                                       .sequence = -1, .count = 2, .value_bytes = 600};
        segment_bytes += mr_model_batch_make(&batch, segment + segment_bytes);
        assert_true(segment_bytes + 2048 <= sizeof segment || index + 1 == BATCHES);
    }
    return 0;
}

/* Fed as a file of `file_bytes` gives it, MR_LOG_SCAN_MIN at a time. Returns the offset after the last batch. */
static int64_t scan_pieces(struct mr_log_scan *scan, uint32_t file_bytes, bool is_crc)
{
    int64_t next = 0;
    mr_log_scan_init(scan, 0, segment_bytes, 0, is_crc);
    for (uint32_t feeds = 0; scan->state == MR_LOG_SCAN_GOING; feeds++) {
        uint64_t left = scan->at < file_bytes ? file_bytes - scan->at : 0;
        assert_true(feeds < 1000);
        (void)mr_log_scan_feed(scan, segment + scan->at, left < MR_LOG_SCAN_MIN ? (uint32_t)left : MR_LOG_SCAN_MIN, count, &next);
    }
    return next;
}

static void test_scan_in_pieces_finds_every_batch(void **state)
{
    (void)state;
    for (int is_crc = 0; is_crc < 2; is_crc++) {
        struct mr_log_scan scan;
        assert_int_equal(scan_pieces(&scan, segment_bytes, is_crc), 2 * BATCHES);
        assert_int_equal(scan.state, MR_LOG_SCAN_ENDED);
        assert_int_equal(scan.pos, segment_bytes);
    }
}

static void test_scan_of_a_file_that_is_too_short_ends_before_the_batch_it_cuts(void **state)
{
    (void)state;
    struct mr_log_scan scan;
    uint32_t           one = segment_bytes / BATCHES;
    assert_int_equal(scan_pieces(&scan, 30 * one + 100, true), 2 * 30);
    assert_int_equal(scan.state, MR_LOG_SCAN_DAMAGED);
    assert_int_equal(scan.pos, 30 * one);
}

static void test_scan_stops_at_a_wrong_crc(void **state)
{
    (void)state;
    struct mr_log_scan scan;
    uint32_t           one = segment_bytes / BATCHES;
    segment[20 * one + 200] ^= 1;
    assert_int_equal(scan_pieces(&scan, segment_bytes, true), 2 * 20);
    assert_int_equal(scan.state, MR_LOG_SCAN_DAMAGED);
    assert_int_equal(scan_pieces(&scan, segment_bytes, false), 2 * BATCHES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_scan_in_pieces_finds_every_batch, make_segment),
        cmocka_unit_test_setup(test_scan_of_a_file_that_is_too_short_ends_before_the_batch_it_cuts, make_segment),
        cmocka_unit_test_setup(test_scan_stops_at_a_wrong_crc, make_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
