/*
 * Scrubbing on the simulated disk: every sealed segment gets a side-car that fits it, at any moment at which the process
 * or the power may go; what is damaged later is told with its exact offsets, is refused, and costs nothing beside it;
 * what others did to a segment is no damage.
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/side_car.h"
#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"

#define BATCHES 160u
#define RECORDS 3u
#define VALUE   300u
#define FIRST   "/data/a-0/00000000000000000000"
#define HOUR    3600000

static struct mr_core_rig rig;
static uint64_t           id;
static uint8_t            segment[1 << 20];
static uint32_t           starts[BATCHES + 1]; /* of the batches of the first segment */
static uint32_t           count;

static struct mr_storage_stats stats(void)
{
    struct mr_storage_stats all;
    mr_storage_core_stats(rig.core, &all);
    return all;
}

static void open_log(void)
{
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    id = mr_core_rig_open(&rig, "a", 0, false);
}

static void fill(void)
{
    for (uint32_t index = 0; index < BATCHES; index++) {
        assert_int_equal(mr_core_rig_append(&rig, id, RECORDS, VALUE, 1000 + index, NULL), MR_OK);
    }
}

static uint32_t files_that_end(const char *suffix)
{
    char     names[8192];
    uint32_t found = 0;
    size_t   len = mr_sim_fs_names(rig.fs, "/data/a-0", names, sizeof names);
    for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
        size_t name = strlen(names + at);
        found += name > strlen(suffix) && strcmp(names + at + name - strlen(suffix), suffix) == 0;
    }
    return found;
}

static void look(void)
{
    int64_t len = mr_sim_fs_get(rig.fs, FIRST ".log", segment, sizeof segment);
    count = 0;
    for (uint32_t at = 0; at < len; count++) {
        struct mr_batch batch;
        mr_batch_header_load(segment + at, &batch);
        starts[count] = at;
        at += mr_batch_bytes(&batch);
        starts[count + 1] = at;
    }
    assert_true(count > 20);
}

static void prepare(void)
{
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 60000;
    rig.config.index_interval_bytes = 2000;
    rig.plan.scrub_bytes_per_s = 100 << 20;
    rig.plan.scrub_interval_ms = HOUR;
}

/* A log with side-cars, as a clean stop left it. */
static int setup(void **state)
{
    (void)state;
    prepare();
    open_log();
    fill();
    mr_core_rig_advance(&rig, 1000);
    look();
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_core_rig_deinit(&rig);
    return 0;
}

/* Batches [first, last] of the first segment are refused, all others are served. */
static void check_served(uint32_t first, uint32_t last)
{
    for (uint32_t batch = 0; batch < BATCHES; batch++) {
        uint8_t     got[MR_BATCH_HEADER];
        uint32_t    bytes = 0;
        enum mr_err err = mr_core_rig_read(&rig, id, batch * RECORDS + 1, sizeof got, got, &bytes);
        bool        is_bad = batch >= first && batch <= last;
        if (err != (is_bad ? MR_ERR_CORRUPT : MR_OK) || (!is_bad && mr_load_be64(got) != batch * RECORDS)) {
            fail_msg("batch %u: %s, of %u..%u", batch, mr_err_text(err), first, last);
        }
    }
}

/* A pass over a damaged log: one range, told in words. */
static void check_told(uint32_t first, uint32_t last)
{
    char text[128];
    mr_core_rig_advance(&rig, 61000);
    assert_int_equal(stats().scrub_damaged, 1);
    mr_fmt(text, sizeof text, "from=%u to=%u ", first * RECORDS, (last + 1) * RECORDS - 1);
    if (strstr(rig.last_error, text) == NULL) {
        fail_msg("told: %s; expected: %s", rig.last_error, text);
    }
}

/* ---- Side-cars ---- */

static void test_sealed_segments_get_side_cars(void **state)
{
    (void)state;
    prepare();
    open_log();
    fill();
    mr_core_rig_advance(&rig, 1000);
    look();
    uint32_t sealed = (BATCHES - 1) / count;
    assert_true(sealed >= 2);
    assert_int_equal(files_that_end(".mrx"), sealed);
    assert_int_equal(stats().side_cars, sealed);
    assert_int_equal(stats().scrub_damaged, 0);
    assert_int_equal(mr_core_rig_file(&rig, "a-0/00000000000000000000.mrx"), 2 * MR_SIDE_BLOCK);
}

static void test_pass_compares_and_writes_nothing(void **state)
{
    (void)state;
    open_log();
    uint32_t sealed = files_that_end(".log") - 1;
    mr_core_rig_advance(&rig, 59000);
    assert_int_equal(stats().scrub_segments, 0);
    mr_core_rig_advance(&rig, 2000);
    assert_int_equal(stats().scrub_segments, sealed);
    assert_int_equal(stats().side_cars, 0);
    mr_core_rig_advance(&rig, HOUR + 61000);
    assert_int_equal(stats().scrub_segments, 2 * sealed);
    assert_int_equal(stats().scrub_damaged, 0);
}

static void test_rate_0_is_no_scrubber(void **state)
{
    (void)state;
    prepare();
    rig.plan.scrub_bytes_per_s = 0;
    open_log();
    fill();
    mr_core_rig_advance(&rig, 2 * HOUR);
    assert_int_equal(stats().scrub_segments, 0);
    assert_int_equal(files_that_end(".mrx"), 0);
}

static void test_rate_is_kept(void **state)
{
    (void)state;
    rig.plan.scrub_bytes_per_s = 30000;
    open_log();
    mr_core_rig_advance(&rig, 60500);
    uint64_t before = stats().scrub_bytes;
    mr_core_rig_advance(&rig, 4000);
    assert_in_range(stats().scrub_bytes - before, 59000, 120000); /* a segment at a time, here */
}

/* Kafka cut or rewrote a segment meanwhile: its change time is another one. */
static void test_stale_side_car_is_no_damage(void **state)
{
    (void)state;
    uint8_t before[MR_SIDE_BLOCK];
    uint8_t after[MR_SIDE_BLOCK];
    mr_sim_fs_get(rig.fs, FIRST ".mrx", before, sizeof before);
    segment[15] ^= 1; /* the epoch: no CRC covers it */
    mr_sim_fs_put(rig.fs, FIRST ".log", segment, starts[count]);
    open_log();
    mr_core_rig_advance(&rig, 61000);
    assert_int_equal(stats().scrub_damaged, 0);
    assert_int_equal(stats().side_cars, 1);
    mr_sim_fs_get(rig.fs, FIRST ".mrx", after, sizeof after);
    assert_memory_not_equal(before, after, sizeof before);
}

static void test_missing_empty_and_rotten_side_cars_are_made_again(void **state)
{
    (void)state;
    struct mr_sim_fs *whole = rig.fs;
    for (uint32_t pos = 0; pos < 2 * MR_SIDE_BLOCK; pos += 501) {
        rig.fs = mr_sim_fs_clone(whole);
        if (pos == 0) {
            mr_sim_fs_remove(rig.fs, FIRST ".mrx");
        } else if (pos == 501) {
            mr_sim_fs_cut_file(rig.fs, FIRST ".mrx", 0);
        } else {
            mr_sim_fs_rot(rig.fs, FIRST ".mrx", pos, 1, 4);
        }
        open_log();
        mr_core_rig_advance(&rig, 61000);
        assert_int_equal(stats().scrub_damaged, 0);
        assert_int_equal(stats().side_cars, 1);
        check_served(BATCHES, BATCHES);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

static void test_side_car_goes_with_its_segment(void **state)
{
    (void)state;
    rig.config.file_delete_delay_ms = 1000;
    open_log();
    assert_int_equal(mr_core_rig_delete_records(&rig, id, -1), MR_OK);
    mr_core_rig_advance(&rig, 20000);
    assert_int_equal(files_that_end(".log"), 1);
    assert_int_equal(files_that_end(".mrx") + files_that_end(".deleted"), 0);
}

/* Deletion at any step of a pass. */
static void test_deleted_while_it_is_read(void **state)
{
    (void)state;
    struct mr_sim_fs *whole = rig.fs;
    rig.config.file_delete_delay_ms = 0;
    for (uint32_t turns = 0; turns < 60; turns++) {
        rig.fs = mr_sim_fs_clone(whole);
        mr_sim_fs_remove(rig.fs, FIRST ".mrx");
        open_log();
        rig.now.mono_ns += 60 * MR_NS_PER_S;
        for (uint32_t turn = 0; turn < turns; turn++) {
            rig.now.mono_ns += MR_NS_PER_MS;
            (void)mr_core_rig_turn(&rig);
        }
        assert_int_equal(mr_core_rig_delete_records(&rig, id, -1), MR_OK);
        mr_core_rig_advance(&rig, 200000);
        assert_int_equal(files_that_end(".log"), 1);
        assert_int_equal(files_that_end(".mrx") + files_that_end(".deleted"), 0);
        assert_int_equal(mr_core_rig_drop(&rig, id), MR_OK);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

/* The power goes at any operation while side-cars are written; a stop comes at any of them. */
static void test_cut_at_any_operation_leaves_no_lie(void **state)
{
    (void)state;
    struct mr_sim_fs *whole = rig.fs;
    for (uint64_t op = 0; op < 40; op++) {
        rig.fs = mr_sim_fs_clone(whole);
        mr_sim_fs_remove(rig.fs, FIRST ".mrx");
        open_log();
        mr_sim_fs_die_at(rig.fs, mr_sim_fs_op_count(rig.fs) + op);
        mr_core_rig_advance(&rig, 61000);
        mr_core_rig_cut(&rig, (enum mr_sim_cut)(op % MR_SIM_CUT_COUNT), op);
        open_log();
        mr_core_rig_advance(&rig, 61000);
        assert_int_equal(stats().scrub_damaged, 0);
        assert_int_equal(files_that_end(".mrx"), files_that_end(".log") - 1);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

static void test_stop_while_it_is_read(void **state)
{
    (void)state;
    struct mr_sim_fs *whole = rig.fs;
    for (uint32_t turns = 0; turns < 30; turns++) {
        rig.fs = mr_sim_fs_clone(whole);
        mr_sim_fs_remove(rig.fs, FIRST ".mrx");
        open_log();
        rig.now.mono_ns += 60 * MR_NS_PER_S;
        for (uint32_t turn = 0; turn < turns; turn++) {
            rig.now.mono_ns += MR_NS_PER_MS;
            (void)mr_core_rig_turn(&rig);
        }
        assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
        mr_core_rig_kill(&rig);
        open_log();
        mr_core_rig_advance(&rig, 61000);
        assert_int_equal(stats().scrub_damaged, 0);
        assert_int_equal(files_that_end(".mrx"), files_that_end(".log") - 1);
        mr_core_rig_kill(&rig);
        mr_sim_fs_destroy(rig.fs);
    }
    rig.fs = whole;
}

/* ---- Damage ---- */

enum damage {
    DAMAGE_BIT,   /* in a record */
    DAMAGE_BASE,  /* the base offset, one too high */
    DAMAGE_EPOCH, /* the leader epoch: only a side-car knows it */
    DAMAGE_LOST,  /* a write that never came */
    DAMAGE_OTHER, /* the bytes of another batch, which is good by itself, under this one's offset */
    DAMAGE_KINDS,
};

static void harm(enum damage damage, uint32_t batch)
{
    uint32_t pos = starts[batch];
    switch (damage) {
    case DAMAGE_BIT:
        mr_sim_fs_rot(rig.fs, FIRST ".log", pos + 500, 1, 16);
        return;
    case DAMAGE_BASE:
        mr_sim_fs_rot(rig.fs, FIRST ".log", pos + 7, 1, 1);
        return;
    case DAMAGE_EPOCH:
        mr_sim_fs_rot(rig.fs, FIRST ".log", pos + 15, 1, 1);
        return;
    case DAMAGE_LOST:
        mr_sim_fs_spoil(rig.fs, FIRST ".log", pos, starts[batch + 1] - pos, 0);
        return;
    case DAMAGE_OTHER:
        for (uint32_t at = 8; at < starts[batch + 1] - pos; at++) {
            mr_sim_fs_rot(rig.fs, FIRST ".log", pos + at, 1, (uint8_t)(segment[pos + at] ^ segment[starts[batch + 1] + at]));
        }
        return;
    case DAMAGE_KINDS:
        break;
    }
    fail();
}

/* The batches that share a chunk with it: a side-car tells no more. */
static void chunk_of(uint32_t batch, uint32_t *first, uint32_t *last)
{
    uint32_t from = starts[batch] / MR_SIDE_CHUNK * MR_SIDE_CHUNK;
    uint32_t to = (starts[batch + 1] - 1) / MR_SIDE_CHUNK * MR_SIDE_CHUNK + MR_SIDE_CHUNK;
    *first = 0;
    *last = 0;
    for (uint32_t index = 0; index < count; index++) {
        *first = starts[index + 1] <= from ? index + 1 : *first;
        *last = starts[index] < to ? index : *last;
    }
}

static void test_damage_is_told_and_refused(void **state)
{
    (void)state;
    struct mr_sim_fs *whole = rig.fs;
    for (int damage = 0; damage < DAMAGE_KINDS; damage++) {
        for (uint32_t batch = 1; batch + 1 < count; batch += 7) {
            uint32_t first;
            uint32_t last;
            chunk_of(batch, &first, &last);
            rig.fs = mr_sim_fs_clone(whole);
            harm((enum damage)damage, batch);
            open_log();
            check_told(first, last);
            check_served(first, last);
            mr_core_rig_kill(&rig);
            mr_sim_fs_destroy(rig.fs);
        }
    }
    rig.fs = whole;
}

/* Without a side-car the batches tell: exactly the one, but not what no CRC covers. */
static void test_damage_without_a_side_car(void **state)
{
    (void)state;
    static const enum damage kinds[] = {DAMAGE_BIT, DAMAGE_BASE, DAMAGE_LOST};
    struct mr_sim_fs        *whole = rig.fs;
    for (uint32_t kind = 0; kind < 3; kind++) {
        for (uint32_t batch = 1; batch + 1 < count; batch += 7) {
            rig.fs = mr_sim_fs_clone(whole);
            mr_sim_fs_remove(rig.fs, FIRST ".mrx");
            harm(kinds[kind], batch);
            open_log();
            check_told(batch, batch);
            check_served(batch, batch);
            assert_int_equal(mr_core_rig_file(&rig, "a-0/00000000000000000000.mrx"), -1);
            mr_core_rig_kill(&rig);
            mr_sim_fs_destroy(rig.fs);
        }
    }
    rig.fs = whole;
}

static void test_segment_of_another_log_is_refused(void **state)
{
    (void)state;
    uint8_t           head[MR_SIDE_BLOCK];
    struct mr_side_id other;
    mr_sim_fs_get(rig.fs, FIRST ".mrx", head, sizeof head);
    assert_true(mr_side_head_load(head, sizeof head, &other));
    other.topic_id.bytes[3] ^= 1;
    mr_side_head_store(&other, head);
    mr_sim_fs_put(rig.fs, FIRST ".mrx", head, sizeof head);
    open_log();
    check_served(0, count - 1); /* before it has been scrubbed too */
    mr_core_rig_kill(&rig);
    open_log();
    check_told(0, count - 1);
    check_served(0, count - 1);
}

/* A device that answers wrongly now and then, but not twice. */
static void test_wrong_answer_of_the_device_is_no_damage(void **state)
{
    (void)state;
    open_log();
    struct mr_sim_misread misread = {.name_part = ".log", .one_in = 3, .kinds = UINT32_MAX};
    mr_sim_fs_misread(rig.fs, &misread);
    for (uint32_t pass = 0; pass < 40; pass++) {
        mr_core_rig_advance(&rig, HOUR + 61000);
    }
    assert_true(mr_sim_fs_misread_count(rig.fs) > 10);
    assert_int_equal(stats().scrub_damaged, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_sealed_segments_get_side_cars, teardown),
        cmocka_unit_test_setup_teardown(test_pass_compares_and_writes_nothing, setup, teardown),
        cmocka_unit_test_teardown(test_rate_0_is_no_scrubber, teardown),
        cmocka_unit_test_setup_teardown(test_rate_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stale_side_car_is_no_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_empty_and_rotten_side_cars_are_made_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_side_car_goes_with_its_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deleted_while_it_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_at_any_operation_leaves_no_lie, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_while_it_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_told_and_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_without_a_side_car, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segment_of_another_log_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_answer_of_the_device_is_no_damage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
