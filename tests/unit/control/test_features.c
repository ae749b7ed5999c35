/* features: UpdateFeatures: what may be finalised, all or nothing, and that it stays. */
#include "control_fixture.h"
#include "control_private.h"
#include "metadata/meta.h"
#include "test.h"

typedef struct mr_update_features_request_feature_update_key update_in;

static struct mr_update_features_response update_all(struct fixture *f, int16_t version,
                                                     update_in *updates, int32_t count,
                                                     bool is_validation)
{
    struct mr_update_features_request request = {.feature_updates = updates,
                                                 .feature_updates_count = count,
                                                 .validate_only = is_validation};
    struct mr_update_features_response response;
    mr_rig_call(f->rig, MR_API_UPDATE_FEATURES, version, &request, &f->arena, &response);
    return response;
}

static int16_t update(struct fixture *f, const char *feature, int16_t level, int8_t type)
{
    update_in one = {
        .feature = mr_str(feature), .max_version_level = level, .upgrade_type = type};
    return update_all(f, 2, &one, 1, false).error_code;
}

static int16_t level(struct fixture *f, const char *feature)
{
    return mr_image_feature_level(f->rig->image, mr_str(feature));
}

/* One after another, on a cluster at metadata.version 33 and nothing else. */
static void test_which_levels_may_be_finalised(void **state)
{
    enum { UP = 1, DOWN = 2, UNSAFE = 3 };
    static const struct {
        const char *feature;
        int16_t level;
        int8_t type;
        bool is_fine;
        int16_t after;
    } cases[] = {
        {"group.version", 0, UP, true, 0},
        {"group.version", 2, UP, false, 0},
        {"group.version", -1, DOWN, false, 0},
        {"group.version", 1, DOWN, false, 0},
        {"group.version", 1, 0, false, 0},
        {"group.version", 1, 4, false, 0},
        {"group.version", 1, UP, true, 1},
        {"group.version", 1, UP, true, 1},
        {"group.version", 0, UP, false, 1},
        {"group.version", 0, DOWN, true, 0},
        {"transaction.version", 2, UP, true, 2},
        {"transaction.version", 1, UNSAFE, true, 1},
        {"transaction.version", 3, UP, false, 1},
        {"share.version", 1, UP, false, 0},
        {"share.version", 0, UP, true, 0},
        {"no.such.version", 1, UP, false, 0},
        {"no.such.version", 0, UP, false, 0},
        {"metadata.version", 34, UP, false, 33},
        {"metadata.version", 32, DOWN, false, 33},
        {"metadata.version", 32, UNSAFE, false, 33},
        {"metadata.version", 6, UNSAFE, false, 33},
        {"metadata.version", 33, UP, true, 33},
    };
    struct fixture *f = *state;
    for (size_t at = 0; at < sizeof cases / sizeof cases[0]; at++) {
        int16_t error = update(f, cases[at].feature, cases[at].level, cases[at].type);
        assert_int_equal(error, cases[at].is_fine ? 0 : MR_KAFKA_INVALID_UPDATE_VERSION);
        assert_int_equal(level(f, cases[at].feature), cases[at].after);
    }
}

static void test_one_refusal_refuses_all_and_validation_changes_nothing(void **state)
{
    struct fixture *f = *state;
    update_in updates[] = {
        {.feature = MR_STR("group.version"), .max_version_level = 1, .upgrade_type = 1},
        {.feature = MR_STR("transaction.version"), .max_version_level = 3, .upgrade_type = 1},
    };
    struct mr_update_features_response response = update_all(f, 2, updates, 2, false);
    assert_int_equal(response.error_code, MR_KAFKA_INVALID_UPDATE_VERSION);
    assert_int_equal(level(f, "group.version"), 0);
    updates[1].max_version_level = 2;
    assert_int_equal(update_all(f, 2, updates, 2, true).error_code, 0);
    assert_int_equal(level(f, "group.version"), 0);
    response = update_all(f, 1, updates, 2, false);
    assert_int_equal(response.error_code, 0);
    assert_int_equal(response.results_count, 2);
    assert_int_equal(level(f, "group.version"), 1);
    assert_int_equal(level(f, "transaction.version"), 2);
}

/* Of two updates of a feature the last one counts, as in Kafka's map. */
static void test_the_last_update_of_a_feature_counts(void **state)
{
    struct fixture *f = *state;
    update_in updates[] = {
        {.feature = MR_STR("group.version"), .max_version_level = 7, .upgrade_type = 1},
        {.feature = MR_STR("group.version"), .max_version_level = 1, .upgrade_type = 1},
    };
    struct mr_update_features_response response = update_all(f, 0, updates, 2, false);
    assert_int_equal(response.error_code, 0);
    assert_int_equal(response.results_count, 1);
    assert_int_equal(level(f, "group.version"), 1);
}

static void test_too_many_features_are_refused(void **state)
{
    struct fixture *f = *state;
    update_in updates[101];
    for (int32_t at = 0; at < 101; at++) {
        updates[at] = (update_in){
            .feature = MR_STR("group.version"), .max_version_level = 1, .upgrade_type = 1};
    }
    struct mr_update_features_response response = update_all(f, 2, updates, 101, false);
    assert_int_equal(response.error_code, MR_KAFKA_INVALID_REQUEST);
    assert_true(response.error_message.len > 0);
    assert_int_equal(update_all(f, 2, updates, 100, false).error_code, 0);
}

static void test_levels_stay(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(update(f, "group.version", 1, 1), 0);
    int64_t epoch = f->rig->image->offset;
    mr_rig_destroy(f->rig);
    f->rig = mr_rig_create(f->store);
    mr_rig_run(f->rig);
    assert_int_equal(level(f, "group.version"), 1);
    assert_true(f->rig->image->offset > epoch);
}

int main(void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_which_levels_may_be_finalised),
        TEST(test_one_refusal_refuses_all_and_validation_changes_nothing),
        TEST(test_the_last_update_of_a_feature_counts),
        TEST(test_too_many_features_are_refused),
        TEST(test_levels_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
