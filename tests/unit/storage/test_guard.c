/* guard: power cut at every step of set, remove and mark; the lock; directories that are not ours. */
#include "test.h"

#include "journal/guard.h"
#include "sim_disk.h"

static const char meta[] = "#\nversion=1\ncluster.id=c\nnode.id=7\ndirectory.id=AQIDBAUGBwgJCgsMDQ4PEA\n";

static struct mr_sim_fs *fresh(const char *text)
{
    struct mr_sim_fs *fs = mr_sim_fs_create(1);
    mr_sim_fs_put(fs, "/data/meta.properties", text, strlen(text));
    return fs;
}

static void test_guard_set_and_remove_restore_the_original_bytes(void **state)
{
    (void)state;
    struct mr_sim_fs *fs = fresh(meta);
    struct mr_disk   *disk = mr_sim_disk_create(fs);
    struct mr_guard   guard;
    char              got[512] = {0};
    assert_int_equal(mr_guard_open(&guard, disk, "/data", true), MR_OK);
    assert_int_equal(guard.node_id, 7);
    assert_string_equal(guard.cluster_id, "c");
    assert_int_equal(guard.directory_id.bytes[15], 16);
    assert_int_equal(mr_guard_set(&guard), MR_OK);
    mr_sim_fs_get(fs, "/data/meta.properties", got, sizeof got - 1);
    assert_non_null(strstr(got, "version=1-millrace-journal-not-empty\ncluster.id=c\n"));

    struct mr_guard other;
    assert_int_equal(mr_guard_open(&other, disk, "/data", true), MR_ERR_LOCKED);
    assert_non_null(strstr(other.why, "in use"));
    assert_int_equal(mr_guard_open(&other, disk, "/data", false), MR_OK);
    assert_true(other.is_guarded);
    mr_guard_close(&other);

    assert_int_equal(mr_guard_remove(&guard), MR_OK);
    memset(got, 0, sizeof got);
    mr_sim_fs_get(fs, "/data/meta.properties", got, sizeof got - 1);
    assert_string_equal(got, meta);
    assert_int_equal(mr_sim_fs_get(fs, "/data/millrace-meta-properties", got, 1), -1);
    assert_int_equal(mr_guard_mark(&guard, 42), MR_OK);
    mr_guard_close(&guard);
    assert_int_equal(mr_guard_open(&guard, disk, "/data", true), MR_OK);
    assert_true(guard.was_clean);
    assert_int_equal(guard.broker_epoch, 42);
    assert_int_equal(mr_guard_unmark(&guard), MR_OK);
    assert_int_equal(mr_sim_fs_get(fs, "/data/.kafka_cleanshutdown", got, 1), -1);
    mr_guard_close(&guard);
    mr_sim_disk_destroy(disk);
    mr_sim_fs_destroy(fs);
}

static void test_guard_power_cut_anywhere_leaves_guard_or_marker(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 80; n++) {
        for (int cut = 0; cut < MR_SIM_CUT_COUNT; cut++) {
            struct mr_sim_fs *fs = fresh(meta);
            struct mr_disk   *disk = mr_sim_disk_create(fs);
            struct mr_guard   guard;
            bool              was_set = false;
            bool              is_marking = false;
            mr_sim_fs_die_at(fs, n);
            if (mr_guard_open(&guard, disk, "/data", true) == MR_OK && mr_guard_set(&guard) == MR_OK) {
                was_set = true;
                is_marking = mr_guard_unmark(&guard) == MR_OK;
                if (is_marking && mr_guard_mark(&guard, 1) == MR_OK) {
                    (void)mr_guard_remove(&guard);
                }
            }
            mr_sim_disk_destroy(disk);
            mr_sim_fs_power_cut(fs, (enum mr_sim_cut)cut, n);
            disk = mr_sim_disk_create(fs);
            assert_int_equal(mr_guard_open(&guard, disk, "/data", true), MR_OK);
            assert_int_equal(guard.meta_bytes, sizeof meta - 1);
            assert_memory_equal(guard.meta, meta, sizeof meta - 1);
            assert_false(guard.is_guarded && guard.was_clean);
            if (was_set) { /* or it would be taken for a Kafka's that was killed */
                assert_true(guard.is_guarded || (is_marking && guard.was_clean));
            }
            mr_sim_disk_destroy(disk);
            mr_sim_fs_destroy(fs);
        }
    }
}

static void test_guard_foreign_directories_are_refused_with_words(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "version=0\nbroker.id=1\n", "version=1\nnode.id=1\n",
                                      "version=1\ncluster.id=c\nnode.id=1\ndirectory.id=short\n"};
    for (uint32_t index = 0; index < sizeof bad / sizeof bad[0]; index++) {
        struct mr_sim_fs *fs = fresh(bad[index]);
        struct mr_disk   *disk = mr_sim_disk_create(fs);
        struct mr_guard   guard;
        assert_int_equal(mr_guard_open(&guard, disk, "/data", true), MR_ERR_CORRUPT);
        assert_true(strlen(guard.why) > 10);
        assert_int_equal(mr_guard_open(&guard, disk, "/none", true), MR_ERR_NOT_FOUND);
        mr_sim_disk_destroy(disk);
        mr_sim_fs_destroy(fs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guard_set_and_remove_restore_the_original_bytes),
        cmocka_unit_test(test_guard_power_cut_anywhere_leaves_guard_or_marker),
        cmocka_unit_test(test_guard_foreign_directories_are_refused_with_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
