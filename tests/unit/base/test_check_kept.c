/* check_kept: a log of which retention left too much is found, others pass. */
#include "test.h"

#include "check_kept.h"

#include <string.h>

#define KEEP 1000

static struct mr_sim_fs *fs;

static int setup(void **state)
{
    (void)state;
    fs = mr_sim_fs_create(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_sim_fs_destroy(fs);
    return 0;
}

static void put(const char *path, size_t len)
{
    static uint8_t bytes[4096];
    mr_sim_fs_put(fs, path, bytes, len);
}

static bool is_good(void)
{
    char why[200] = "";
    bool is_found = !mr_check_kept_topic(fs, "/data", "t", KEEP, why, sizeof why);
    assert_int_equal(is_found, why[0] != '\0');
    return !is_found;
}

static void test_what_is_kept_passes(void **state)
{
    (void)state;
    put("/data/t-0/00000000000000000007.log", 4000); /* the first is needed for retention.bytes */
    put("/data/t-0/00000000000000000009.log", KEEP - 1);
    put("/data/t-1/00000000000000000000.log", 4000); /* the active one */
    put("/data/t-2/00000000000000000000.log.deleted", 4000);
    put("/data/t-2/00000000000000000005.log", 4000);
    put("/data/t-3.0123-delete/00000000000000000000.log", 4000);
    put("/data/t-3.0123-delete/00000000000000000005.log", 4000);
    put("/data/other-0/00000000000000000000.log", 4000);
    put("/data/other-0/00000000000000000005.log", 4000);
    assert_true(is_good());
}

static void test_segment_that_had_to_go_is_found(void **state)
{
    (void)state;
    put("/data/t-0/00000000000000000009.log", KEEP);
    put("/data/t-0/00000000000000000007.log", 1);
    assert_false(is_good());
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_kept_passes),
        TEST(test_segment_that_had_to_go_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
