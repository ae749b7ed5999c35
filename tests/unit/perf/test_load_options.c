/* Options: what is taken, what is refused, and whether the refusal names the thing. */
#include "load_options.h"
#include "test.h"

static struct mr_load_options options;
static char                   why[600];

static void test_load_options_units_are_understood(void **state)
{
    (void)state;
    mr_load_options_init(&options);
    assert_true(mr_load_options_set(&options, "duration=250ms", why, sizeof why));
    assert_int_equal(options.duration_ns, 250000000);
    assert_true(mr_load_options_set(&options, "record.bytes=2KiB", why, sizeof why));
    assert_int_equal(options.record_bytes, 2048);
    assert_true(mr_load_options_set(&options, "rate.bytes=50MB", why, sizeof why));
    assert_true(mr_load_options_rate(&options) > 24414 && mr_load_options_rate(&options) < 24415);
    assert_true(mr_load_options_set(&options, "acks=all", why, sizeof why));
    assert_int_equal(options.acks, MR_LOAD_ACKS_ALL);
    assert_true(mr_load_options_set(&options, "compression=zstd", why, sizeof why));
    assert_int_equal(options.compression, 4);
}

static void test_load_options_wrong_values_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *setting;
        const char *says;
    } cases[] = {
        {"in.flight=0", "in.flight=0"}, {"threads=x", "threads=x"},       {"acks=2", "0|1|all"},
        {"e2e=maybe", "yes or no"},     {"records=1.5", "records=1.5"},   {"nosuch=1", "no such key: nosuch"},
        {"rate", "no such key"},        {"duration=5 parsecs", "duration"}, {"compression=brotli", "none|gzip"},
    };
    mr_load_options_init(&options);
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        assert_false(mr_load_options_set(&options, cases[index].setting, why, sizeof why));
        assert_non_null(strstr(why, cases[index].says));
    }
}

static void test_load_options_scenario_names_the_line(void **state)
{
    (void)state;
    mr_load_options_init(&options);
    assert_true(mr_load_options_text(&options, "a.scn", "# comment\n\nrecords=7   # why\nproducers=3\n", why, sizeof why));
    assert_int_equal(options.records, 7);
    assert_int_equal(options.producers, 3);
    assert_false(mr_load_options_text(&options, "a.scn", "records=7\nbatches=none\n", why, sizeof why));
    assert_non_null(strstr(why, "a.scn:2: batches=none"));
}

static void test_load_options_contradictions_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"producers=0", "consumers=0", NULL}, {"idempotent=yes", "in.flight=6", NULL},
        {"idempotent=yes", "acks=1", NULL},   {"verify=yes", "record.bytes=10", NULL},
        {"e2e=yes", "consumers=0", NULL},     {"acks=0", "rate=0", NULL},
        {"rate=5", "rate.bytes=5", NULL},     {"acked.out=x", "verify=no", NULL},
    };
    for (size_t index = 0; index < sizeof cases / sizeof cases[0]; index++) {
        mr_load_options_init(&options);
        assert_true(mr_load_options_check(&options, why, sizeof why));
        assert_true(mr_load_options_set(&options, cases[index][0], why, sizeof why));
        assert_true(mr_load_options_set(&options, cases[index][1], why, sizeof why));
        assert_false(mr_load_options_check(&options, why, sizeof why));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_options_units_are_understood),
        cmocka_unit_test(test_load_options_wrong_values_are_named),
        cmocka_unit_test(test_load_options_scenario_names_the_line),
        cmocka_unit_test(test_load_options_contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
