/*
 * control_fixture: a control_rig for each test, as cmocka's state: one broker's control plane on a store of its own.
 */
#ifndef MILLRACE_TESTS_CONTROL_FIXTURE_H
#define MILLRACE_TESTS_CONTROL_FIXTURE_H

#include "control_private.h"
#include "control_rig.h"
#include "metadata/image.h"
#include "test.h"

#include <stdlib.h>

struct fixture {
    struct mr_rig_store *store;
    struct mr_rig *rig; /* NULL: not made yet */
    struct mr_arena arena;
};

/* A store, and no broker: the caller makes the rig. */
static inline struct fixture *fixture_make(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->store = mr_rig_store_create();
    mr_arena_init(&f->arena, mr_test_memory(64 << 20), 64 << 20);
    return f;
}

static inline void restart(struct fixture *f)
{
    if (f->rig != NULL) {
        mr_rig_destroy(f->rig);
    }
    f->rig = mr_rig_create(f->store);
    mr_rig_run(f->rig);
}

static inline int setup(void **state)
{
    struct fixture *f = fixture_make();
    restart(f);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    mr_rig_destroy(f->rig);
    mr_rig_store_destroy(f->store);
    free(f);
    return 0;
}

/* CreateTopics of one topic. */
static inline struct mr_create_topics_response_creatable_topic_result create(struct fixture *f,
                                                                             const char *name,
                                                                             int32_t partitions,
                                                                             int16_t replicas)
{
    struct mr_create_topics_request_creatable_topic topic = {
        .name = mr_str(name), .num_partitions = partitions, .replication_factor = replicas};
    struct mr_create_topics_request request = {
        .topics = &topic, .topics_count = 1, .timeout_ms = 1000};
    struct mr_create_topics_response response;
    mr_rig_call(f->rig, MR_API_CREATE_TOPICS, 7, &request, &f->arena, &response);
    assert_int_equal(response.topics_count, 1);
    return response.topics[0];
}

static inline const struct mr_image_topic *find(struct fixture *f, const char *name)
{
    return mr_image_topic_by_name(f->rig->image, mr_str(name));
}

static inline int16_t delete_by_name(struct fixture *f, const char *name)
{
    struct mr_delete_topics_request_delete_topic_state topic = {.name = mr_str(name)};
    struct mr_delete_topics_request  request = {.topics = &topic, .topics_count = 1};
    struct mr_delete_topics_response response;
    mr_rig_call(f->rig, MR_API_DELETE_TOPICS, 6, &request, &f->arena, &response);
    assert_int_equal(response.responses_count, 1);
    return response.responses[0].error_code;
}

static inline int16_t alter(struct fixture *f, int8_t type, const char *resource,
                            const char *name, int8_t op, const char *value)
{
    struct mr_incremental_alter_configs_request_alterable_config config = {
        .name = mr_str(name),
        .config_operation = op,
        .value = value == NULL ? MR_STR_NULL : mr_str(value)};
    struct mr_incremental_alter_configs_request_alter_configs_resource target = {
        .resource_type = type,
        .resource_name = mr_str(resource),
        .configs = &config,
        .configs_count = 1};
    struct mr_incremental_alter_configs_request  request = {.resources = &target,
                                                            .resources_count = 1};
    struct mr_incremental_alter_configs_response response;
    mr_rig_call(f->rig, MR_API_INCREMENTAL_ALTER_CONFIGS, 1, &request, &f->arena, &response);
    assert_int_equal(response.responses_count, 1);
    return response.responses[0].error_code;
}

#endif
