/* A segment with damage in it: told are exactly the offsets of the batches that are damaged, wherever and however. */
#include "test.h"

#include "millrace/scrub_scan.h"
#include "millrace/base/bytes.h"
#include "model_log.h"

#define BATCHES 40
#define RECORDS 3
#define BASE    1000
#define PIECE   (2 * MR_SIDE_CHUNK)
#define BYTES   (BATCHES * 2600)

static uint8_t              whole[BYTES + 8];
static uint8_t              segment[BYTES + 8];
static uint32_t             starts[BATCHES + 1];
static uint32_t             bytes;
static struct mr_scrub_scan scan;
static struct mr_scrub_range ranges[BATCHES];
static uint32_t             range_count;

static void damaged(void *context, const struct mr_scrub_range *range)
{
    assert_ptr_equal(context, &ranges);
    assert_true(range_count < BATCHES);
    ranges[range_count++] = *range;
}

static int make_segment(void **state)
{
    (void)state;
    bytes = 0;
    for (int32_t index = 0; index < BATCHES; index++) {
        struct mr_model_batch batch = {.base = BASE + index * RECORDS, .seed = 7, .timestamp = 1000, .producer_id = -1,
                                       .producer_epoch = -1, .sequence = -1, .count = RECORDS,
                                       .value_bytes = 300 + (uint32_t)index % 5 * 100};
        starts[index] = bytes;
        bytes += mr_model_batch_make(&batch, whole + bytes);
        assert_true(bytes + 2600 <= sizeof whole);
    }
    starts[BATCHES] = bytes;
    memcpy(segment, whole, sizeof segment);
    return 0;
}

/* As the scrubber does: pieces that begin at a chunk. */
static void run(uint32_t file_bytes)
{
    range_count = 0;
    for (uint32_t feeds = 0; !scan.is_over; feeds++) {
        uint64_t at = mr_scrub_scan_at(&scan);
        uint64_t from = at / MR_SIDE_CHUNK * MR_SIDE_CHUNK;
        uint64_t end = from + PIECE < file_bytes ? from + PIECE : file_bytes;
        assert_true(feeds < 10000);
        if (end <= at) {
            mr_scrub_scan_unreadable(&scan, from + PIECE);
            continue;
        }
        mr_scrub_scan_feed(&scan, segment + at, (uint32_t)(end - at));
    }
}

static void begin(void)
{
    mr_scrub_scan_init(&scan, BASE, BASE + BATCHES * RECORDS, bytes, damaged, &ranges);
}

static void check_one(uint32_t first, uint32_t last, const char *what, uint32_t pos)
{
    bool is_right = range_count == 1 && ranges[0].from == BASE + first * RECORDS &&
                    ranges[0].to == BASE + (last + 1) * RECORDS - 1 && ranges[0].from_pos == starts[first] &&
                    ranges[0].to_pos == starts[last + 1];
    if (!is_right) {
        fail_msg("%s at %u in batch %u: %u ranges, %lld..%lld pos %u..%u", what, pos, first, range_count,
                 (long long)ranges[0].from, (long long)ranges[0].to, ranges[0].from_pos, ranges[0].to_pos);
    }
}

static void test_whole_segment_has_no_damage(void **state)
{
    (void)state;
    begin();
    run(bytes);
    assert_int_equal(range_count, 0);
}

/* Every bit of the headers, and every 97th byte of what follows; the epoch is judged by side-cars only. */
static void test_flipped_bit_costs_its_batch(void **state)
{
    (void)state;
    static const uint32_t batches[] = {0, 1, 7, 20, BATCHES - 2, BATCHES - 1};
    for (uint32_t index = 0; index < sizeof batches / sizeof batches[0]; index++) {
        uint32_t batch = batches[index];
        for (uint32_t pos = starts[batch]; pos < starts[batch + 1]; pos += pos < starts[batch] + MR_BATCH_HEADER ? 1 : 97) {
            bool is_epoch = pos >= starts[batch] + 12 && pos < starts[batch] + 16;
            for (uint32_t bit = 0; bit < 8; bit++) {
                segment[pos] ^= (uint8_t)(1u << bit);
                begin();
                run(bytes);
                if (is_epoch) {
                    assert_int_equal(range_count, 0);
                } else {
                    check_one(batch, batch, "bit", pos);
                }
                segment[pos] = whole[pos];
            }
        }
    }
}

static void test_zeroed_block_costs_the_batches_it_touches(void **state)
{
    (void)state;
    for (uint32_t pos = 0; pos + 4096 <= bytes; pos += 4096) {
        uint32_t first = 0;
        uint32_t last = 0;
        for (uint32_t index = 0; index < BATCHES; index++) {
            first = starts[index + 1] <= pos ? index + 1 : first;
            last = starts[index] < pos + 4096 ? index : last;
        }
        memset(segment + pos, 0, 4096);
        begin();
        run(bytes);
        check_one(first, last, "zeros", pos);
        memcpy(segment, whole, sizeof segment);
    }
}

static void test_bad_chunk_costs_the_batches_in_it(void **state)
{
    (void)state;
    for (uint32_t chunk = 0; chunk < mr_side_chunks(bytes); chunk++) {
        uint32_t first = 0;
        uint32_t last = 0;
        for (uint32_t index = 0; index < BATCHES; index++) {
            first = starts[index + 1] <= chunk * MR_SIDE_CHUNK ? index + 1 : first;
            last = starts[index] < (chunk + 1) * MR_SIDE_CHUNK ? index : last;
        }
        begin();
        mr_scrub_scan_bad(&scan, chunk);
        run(bytes);
        check_one(first, last, "chunk", chunk);
    }
}

static void test_short_file_costs_what_is_not_there(void **state)
{
    (void)state;
    begin();
    run(starts[30] + 100);
    check_one(30, BATCHES - 1, "short file", starts[30] + 100);
}

static void test_unreadable_bytes_cost_the_batches_they_touch(void **state)
{
    (void)state;
    begin();
    range_count = 0;
    mr_scrub_scan_unreadable(&scan, MR_SIDE_CHUNK);
    while (!scan.is_over) {
        uint64_t at = mr_scrub_scan_at(&scan);
        mr_scrub_scan_feed(&scan, segment + at, (uint32_t)(bytes - at));
    }
    uint32_t last = 0;
    while (starts[last + 1] < MR_SIDE_CHUNK) {
        last++;
    }
    check_one(0, last, "unreadable", 0);
}

/* A payload full of headers that pose as batches: the search ends, and what it did not find it calls lost. */
static void test_records_that_pose_as_batches_do_not_keep_it_for_ever(void **state)
{
    (void)state;
    for (uint32_t pos = starts[3] + MR_BATCH_HEADER; pos + 40 < bytes; pos += 20) {
        mr_store_be64(segment + pos, BASE + RECORDS * 5);
        mr_store_be32(segment + pos + 8, 2000);
        segment[pos + 16] = 2;
    }
    segment[starts[3] + 30] ^= 1;
    begin();
    run(bytes);
    check_one(3, BATCHES - 1, "posing", starts[3]);
    memcpy(segment, whole, sizeof segment);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_segment_has_no_damage),
        cmocka_unit_test(test_flipped_bit_costs_its_batch),
        cmocka_unit_test(test_zeroed_block_costs_the_batches_it_touches),
        cmocka_unit_test(test_bad_chunk_costs_the_batches_in_it),
        cmocka_unit_test(test_short_file_costs_what_is_not_there),
        cmocka_unit_test(test_unreadable_bytes_cost_the_batches_they_touch),
        cmocka_unit_test(test_records_that_pose_as_batches_do_not_keep_it_for_ever),
    };
    return cmocka_run_group_tests(tests, make_segment, NULL);
}
