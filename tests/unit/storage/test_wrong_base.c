/*
 * base offsets that are wrong in the file, which no CRC shows: the batch is refused, whichever way one comes to it, and
 * what lies beside it is served under its own offsets.
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/base/bytes.h"

#define SEGMENT "/data/a-0/00000000000000000000.log"
#define BATCHES 120u
#define RECORDS 3u /* of a batch */
#define BYTES   (1u << 20)

static struct mr_core_rig rig;
static uint8_t            segment[BYTES];
static uint32_t           starts[BATCHES]; /* of the batches of the first segment, which is sealed */
static uint32_t           count;
static size_t             size;

static int setup(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 60000;
    rig.config.index_interval_bytes = 2000;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t id = mr_core_rig_open(&rig, "a", 0, false);
    for (uint32_t index = 0; index < BATCHES; index++) {
        assert_int_equal(mr_core_rig_append(&rig, id, RECORDS, 200 + index % 7 * 30, 1000 + index, NULL), MR_OK);
    }
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    int64_t len = mr_sim_fs_get(rig.fs, SEGMENT, segment, sizeof segment);
    size = (size_t)len;
    count = 0;
    for (uint32_t at = 0; at < len; count++) {
        struct mr_batch batch;
        mr_batch_header_load(segment + at, &batch);
        starts[count] = at;
        at += mr_batch_bytes(&batch);
    }
    assert_true(count > 40 && count < BATCHES);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

static void check_at(uint64_t id, uint32_t offset, uint32_t wrong, int64_t by)
{
    uint8_t         got[MR_BATCH_HEADER];
    uint32_t        bytes = 0;
    struct mr_batch batch = {.base_offset = -1};
    enum mr_err     err = mr_core_rig_read(&rig, id, offset, sizeof got, got, &bytes);
    if (err == MR_OK && bytes >= sizeof got) {
        mr_batch_header_load(got, &batch);
    }
    bool is_right = offset / RECORDS == wrong ? err == MR_ERR_CORRUPT
                                              : err == MR_OK && batch.base_offset == offset / RECORDS * RECORDS;
    if (!is_right) {
        fail_msg("batch %u wrong by %lld: read at %u: %s, batch %lld", wrong, (long long)by, offset, mr_err_text(err),
                 (long long)batch.base_offset);
    }
}

/* Rising, where each read begins where the one before ended, and falling, where each is searched for. */
static void check(uint32_t wrong, int64_t by)
{
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    uint64_t id = mr_core_rig_open(&rig, "a", 0, false);
    for (uint32_t offset = 0; offset < BATCHES * RECORDS; offset++) {
        check_at(id, offset, wrong, by);
    }
    for (uint32_t offset = BATCHES * RECORDS; offset-- > 0;) {
        check_at(id, offset, wrong, by);
    }
    mr_core_rig_kill(&rig);
}

static void test_batch_with_a_wrong_base_offset_is_refused(void **state)
{
    (void)state;
    static const int64_t lies[] = {1, 2, 3, 4, 300, 1ll << 40, -1, -2, -3, -4, -300, INT64_MIN};
    struct mr_sim_fs    *whole = rig.fs;
    uint32_t             batches[] = {0, 1, 17, 18, 19, 20, 21, count - 2, count - 1};
    for (uint32_t index = 0; index < sizeof batches / sizeof batches[0]; index++) {
        for (uint32_t lie = 0; lie < sizeof lies / sizeof lies[0]; lie++) {
            uint8_t *at = segment + starts[batches[index]];
            uint64_t right = mr_load_be64(at);
            rig.fs = mr_sim_fs_clone(whole);
            mr_store_be64(at, right + (uint64_t)lies[lie]);
            mr_sim_fs_put(rig.fs, SEGMENT, segment, size);
            mr_store_be64(at, right);
            check(batches[index], lies[lie]);
            mr_sim_fs_destroy(rig.fs);
        }
    }
    rig.fs = whole;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_batch_with_a_wrong_base_offset_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
