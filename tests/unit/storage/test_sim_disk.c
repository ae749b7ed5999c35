/* sim_disk: that it forgets exactly what was not made durable. */
#include "test.h"

#include "sim_disk.h"

#include <stdalign.h>

struct rig {
    struct mr_sim_fs *fs;
    struct mr_disk   *disk;
    int32_t           dir;
};

static enum mr_err run(struct rig *rig, struct mr_disk_op *op)
{
    return mr_disk_run(rig->disk, op);
}

static int32_t open_file(struct rig *rig, const char *name, uint32_t flags)
{
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = flags, .dir = rig->dir, .name = name};
    assert_int_equal(run(rig, &op), MR_OK);
    return op.file;
}

static void write_at(struct rig *rig, int32_t file, uint64_t pos, const char *text, uint32_t flags)
{
    char buffer[64];
    strcpy(buffer, text);
    struct mr_disk_op op = {.kind = MR_DISK_WRITE,
                            .flags = flags,
                            .file = file,
                            .pos = pos,
                            .buffer = buffer,
                            .len = (uint32_t)strlen(text)};
    assert_int_equal(run(rig, &op), MR_OK);
}

static void simple(struct rig *rig, enum mr_disk_kind kind, int32_t file)
{
    struct mr_disk_op op = {.kind = kind, .file = file};
    assert_int_equal(run(rig, &op), MR_OK);
}

static struct rig rig_create(void)
{
    struct rig rig = {.fs = mr_sim_fs_create(1)};
    mr_sim_fs_put(rig.fs, "/data/old", "old", 3);
    rig.disk = mr_sim_disk_create(rig.fs);
    struct mr_disk_op op = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_DIRECTORY, .dir = MR_DISK_ROOT, .name = "/data"};
    assert_int_equal(run(&rig, &op), MR_OK);
    rig.dir = op.file;
    return rig;
}

static void cut(struct rig *rig, enum mr_sim_cut how)
{
    mr_sim_disk_destroy(rig->disk);
    mr_sim_fs_power_cut(rig->fs, how, 7);
}

static void check(struct rig *rig, const char *path, const char *want)
{
    char    got[64] = {0};
    int64_t len = mr_sim_fs_get(rig->fs, path, got, sizeof got);
    if (want == NULL) {
        assert_int_equal(len, -1);
    } else {
        assert_int_equal(len, (int64_t)strlen(want));
        assert_string_equal(got, want);
    }
    mr_maybe(len);
}

static void test_write_unsynced_power_cut_loses_it(void **state)
{
    (void)state;
    struct rig rig = rig_create();
    int32_t    file = open_file(&rig, "old", 0);
    write_at(&rig, file, 0, "new", 0);
    cut(&rig, MR_SIM_CUT_DROP);
    check(&rig, "/data/old", "old");
    mr_sim_fs_destroy(rig.fs);
}

static void test_write_synced_survives_but_name_needs_its_directory(void **state)
{
    (void)state;
    struct rig rig = rig_create();
    int32_t    file = open_file(&rig, "fresh", MR_DISK_CREATE);
    write_at(&rig, file, 0, "abc", 0);
    simple(&rig, MR_DISK_SYNC, file);
    struct mr_sim_fs *before = mr_sim_fs_clone(rig.fs);
    simple(&rig, MR_DISK_SYNC_DIR, rig.dir);
    cut(&rig, MR_SIM_CUT_DROP);
    check(&rig, "/data/fresh", "abc");
    mr_sim_fs_destroy(rig.fs);
    rig.fs = before;
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_DROP, 1);
    check(&rig, "/data/fresh", NULL);
    check(&rig, "/data/old", "old");
    mr_sim_fs_destroy(rig.fs);
}

static void test_dsync_covers_its_range_only(void **state)
{
    (void)state;
    struct rig rig = rig_create();
    int32_t    file = open_file(&rig, "old", 0);
    write_at(&rig, file, 600, "lost", 0);
    write_at(&rig, file, 0, "NEW", MR_DISK_DSYNC);
    cut(&rig, MR_SIM_CUT_DROP);
    check(&rig, "/data/old", "NEW");
    mr_sim_fs_destroy(rig.fs);
}

static void test_sync_covers_what_was_complete_when_submitted(void **state)
{
    (void)state;
    struct rig         rig = rig_create();
    int32_t            file = open_file(&rig, "old", 0);
    char               second[] = "2nd";
    struct mr_disk_op *done[2];
    write_at(&rig, file, 0, "1st", 0);
    struct mr_disk_op sync = {.kind = MR_DISK_SYNC, .file = file};
    struct mr_disk_op write = {.kind = MR_DISK_WRITE, .file = file, .buffer = second, .len = 3};
    mr_sim_fs_latency(rig.fs, 10, 10, false);
    mr_disk_submit(rig.disk, &write);
    mr_disk_submit(rig.disk, &sync);
    mr_sim_fs_set_clock(rig.fs, mr_sim_fs_clock(rig.fs) + 10);
    assert_int_equal(mr_disk_reap(rig.disk, done, 2), 2);
    cut(&rig, MR_SIM_CUT_DROP);
    check(&rig, "/data/old", "1st");
    mr_sim_fs_destroy(rig.fs);
}

static void test_rename_is_atomic_and_lost_without_directory_sync(void **state)
{
    (void)state;
    struct rig rig = rig_create();
    int32_t    file = open_file(&rig, "tmp", MR_DISK_CREATE);
    write_at(&rig, file, 0, "new", 0);
    simple(&rig, MR_DISK_SYNC, file);
    simple(&rig, MR_DISK_SYNC_DIR, rig.dir);
    struct mr_disk_op op = {.kind = MR_DISK_RENAME, .dir = rig.dir, .name = "tmp", .new_name = "old"};
    assert_int_equal(run(&rig, &op), MR_OK);
    struct mr_sim_fs *kept = mr_sim_fs_clone(rig.fs);
    cut(&rig, MR_SIM_CUT_DROP);
    check(&rig, "/data/old", "old");
    check(&rig, "/data/tmp", "new");
    mr_sim_fs_destroy(rig.fs);
    rig.fs = kept;
    mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_KEEP, 1);
    check(&rig, "/data/old", "new");
    check(&rig, "/data/tmp", NULL);
    mr_sim_fs_destroy(rig.fs);
}

static void test_write_in_flight_at_the_cut_may_tear(void **state)
{
    (void)state;
    uint32_t old_count = 0;
    uint32_t new_count = 0;
    uint32_t else_count = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        static uint8_t    a[4096];
        static uint8_t    b[4096];
        struct mr_sim_fs *fs = mr_sim_fs_create(seed);
        memset(a, 'a', sizeof a);
        memset(b, 'b', sizeof b);
        mr_sim_fs_put(fs, "/f", a, sizeof a);
        struct mr_disk   *disk = mr_sim_disk_create(fs);
        struct mr_disk_op open = {.kind = MR_DISK_OPEN, .dir = MR_DISK_ROOT, .name = "/f"};
        assert_int_equal(mr_disk_run(disk, &open), MR_OK);
        struct mr_disk_op write = {
            .kind = MR_DISK_WRITE, .file = open.file, .buffer = b, .len = sizeof b, .flags = MR_DISK_DSYNC};
        mr_sim_fs_die_at(fs, 1);
        assert_int_equal(mr_disk_run(disk, &write), MR_ERR_IO);
        assert_true(mr_sim_fs_is_dead(fs));
        mr_sim_disk_destroy(disk);
        mr_sim_fs_power_cut(fs, MR_SIM_CUT_TEAR, seed);
        assert_int_equal(mr_sim_fs_get(fs, "/f", b, sizeof b), sizeof b);
        for (int sector = 0; sector < 8; sector++) {
            uint8_t c = b[sector * 512 + 100];
            old_count += c == 'a';
            new_count += c == 'b';
            else_count += c != 'a' && c != 'b';
        }
        mr_sim_fs_destroy(fs);
    }
    assert_true(old_count > 50 && new_count > 50 && else_count > 10);
}

static void test_cut_may_keep_only_what_was_written_last(void **state)
{
    (void)state;
    uint32_t only_last = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct rig rig = rig_create();
        char       got[3] = {0};
        mr_sim_fs_put(rig.fs, "/data/first", "..", 2);
        mr_sim_fs_put(rig.fs, "/data/last", "..", 2);
        int32_t first = open_file(&rig, "first", 0);
        int32_t last = open_file(&rig, "last", 0);
        write_at(&rig, first, 0, "aa", 0);
        write_at(&rig, last, 0, "bb", 0);
        mr_sim_disk_destroy(rig.disk);
        mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_REORDER, seed);
        bool has_first = mr_sim_fs_get(rig.fs, "/data/first", got, 2) == 2 && got[0] == 'a';
        bool has_last = mr_sim_fs_get(rig.fs, "/data/last", got, 2) == 2 && got[0] == 'b';
        assert_true(has_last || !has_first);
        only_last += has_last && !has_first;
        mr_sim_fs_destroy(rig.fs);
    }
    assert_in_range(only_last, 1, 200);
}

/* ext4: that a block was written is a matter of the file's own sync, whoever's flush saved the bytes. */
static void test_cut_may_forget_that_allocated_blocks_were_written(void **state)
{
    (void)state;
    uint32_t zeros = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct rig rig = rig_create();
        char       got[513] = {0};
        int32_t    file = open_file(&rig, "old", 0);
        struct mr_disk_op op = {.kind = MR_DISK_ALLOCATE, .file = file, .len64 = 8192};
        assert_int_equal(run(&rig, &op), MR_OK);
        write_at(&rig, file, 512, "synced", 0);
        simple(&rig, MR_DISK_SYNC, file);
        write_at(&rig, file, 512, "SYNCED", 0);
        write_at(&rig, file, 1024, "fresh", 0);
        mr_sim_disk_destroy(rig.disk);
        mr_sim_fs_power_cut(rig.fs, MR_SIM_CUT_UNWRITTEN, seed);
        assert_int_equal(mr_sim_fs_get(rig.fs, "/data/old", got, sizeof got - 1), 8192);
        assert_string_equal(got, "old");
        static char whole[8192];
        (void)mr_sim_fs_get(rig.fs, "/data/old", whole, sizeof whole);
        assert_memory_equal(whole + 512, "SYNCED", 6); /* it was written before: an overwrite, kept here */
        zeros += whole[1024] == 0;
        assert_true(whole[1024] == 0 || whole[1024] == 'f');
        mr_sim_fs_destroy(rig.fs);
    }
    assert_in_range(zeros, 5, 35);
}

static void test_misreads_change_what_is_read_and_nothing_else(void **state)
{
    (void)state;
    static uint8_t written[16384];
    static uint8_t got[16384];
    for (uint32_t at = 0; at < sizeof written; at++) {
        written[at] = (uint8_t)(1 + at / 512);
    }
    for (uint32_t wrong = 0; wrong < MR_SIM_WRONG_COUNT; wrong++) {
        struct rig rig = rig_create();
        mr_sim_fs_put(rig.fs, "/data/x.log", written, sizeof written);
        int32_t               file = open_file(&rig, "x.log", 0);
        uint32_t              changed = 0;
        struct mr_sim_misread misread = {.name_part = ".log", .one_in = 2, .kinds = 1u << wrong};
        mr_sim_fs_misread(rig.fs, &misread);
        for (uint32_t count = 0; count < 100; count++) {
            struct mr_disk_op op = {.kind = MR_DISK_READ, .file = file, .buffer = got, .len = sizeof got};
            assert_int_equal(run(&rig, &op), MR_OK);
            changed += memcmp(got, written, sizeof got) != 0;
        }
        assert_in_range(changed, 20, 80);
        assert_in_range(mr_sim_fs_misread_count(rig.fs), changed, 80);
        (void)mr_sim_fs_get(rig.fs, "/data/x.log", got, sizeof got);
        assert_memory_equal(got, written, sizeof got);
        mr_sim_disk_destroy(rig.disk);
        mr_sim_fs_destroy(rig.fs);
    }
}

static void test_faults_lock_list_and_space(void **state)
{
    (void)state;
    struct rig rig = rig_create();
    int32_t    a = open_file(&rig, ".lock", MR_DISK_CREATE);
    int32_t    b = open_file(&rig, ".lock", 0);
    simple(&rig, MR_DISK_LOCK, a);
    struct mr_disk_op op = {.kind = MR_DISK_LOCK, .file = b};
    assert_int_equal(run(&rig, &op), MR_ERR_LOCKED);
    simple(&rig, MR_DISK_CLOSE, a);
    simple(&rig, MR_DISK_LOCK, b);

    alignas(8) uint8_t buffer[512];
    op = (struct mr_disk_op){.kind = MR_DISK_LIST, .file = rig.dir, .buffer = buffer, .len = sizeof buffer};
    assert_int_equal(run(&rig, &op), MR_OK);
    assert_int_equal(op.size, 0);
    uint32_t seen = 0;
    for (uint32_t at = 0; at < op.done_bytes;) {
        struct mr_disk_list_entry *entry = (struct mr_disk_list_entry *)(void *)(buffer + at);
        seen += strcmp(entry->name, "old") == 0 ? 1u : 10u;
        at += entry->entry_bytes;
    }
    assert_int_equal(seen, 11);

    mr_sim_fs_capacity(rig.fs, 8192);
    op = (struct mr_disk_op){.kind = MR_DISK_ALLOCATE, .file = b, .len64 = 4096};
    assert_int_equal(run(&rig, &op), MR_OK);
    op.len64 = 8192;
    assert_int_equal(run(&rig, &op), MR_ERR_NO_SPACE);

    struct mr_sim_fault fault = {.kinds = 1u << MR_DISK_SYNC, .nth = 1, .err = MR_ERR_IO};
    mr_sim_fs_fail(rig.fs, &fault);
    simple(&rig, MR_DISK_SYNC, b);
    op = (struct mr_disk_op){.kind = MR_DISK_SYNC, .file = b};
    assert_int_equal(run(&rig, &op), MR_ERR_IO);
    simple(&rig, MR_DISK_SYNC, b);
    mr_sim_disk_destroy(rig.disk);
    mr_sim_fs_destroy(rig.fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_unsynced_power_cut_loses_it),
        cmocka_unit_test(test_write_synced_survives_but_name_needs_its_directory),
        cmocka_unit_test(test_dsync_covers_its_range_only),
        cmocka_unit_test(test_sync_covers_what_was_complete_when_submitted),
        cmocka_unit_test(test_rename_is_atomic_and_lost_without_directory_sync),
        cmocka_unit_test(test_write_in_flight_at_the_cut_may_tear),
        cmocka_unit_test(test_cut_may_keep_only_what_was_written_last),
        cmocka_unit_test(test_cut_may_forget_that_allocated_blocks_were_written),
        cmocka_unit_test(test_misreads_change_what_is_read_and_nothing_else),
        cmocka_unit_test(test_faults_lock_list_and_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
