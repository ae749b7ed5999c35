/*
 * coord_fixture: the control plane with its real coordinators on a store of its own, one broker at a time, and what tests of
 * them begin with: a topic, and coordinators that have loaded.
 */
#ifndef MILLRACE_TESTS_COORD_FIXTURE_H
#define MILLRACE_TESTS_COORD_FIXTURE_H

#include "control_rig.h"
#include "coord/coord_runtime.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "test.h"

static struct mr_rig_store *store;
static struct mr_rig *rig;
static struct mr_arena arena;

static inline void start(void)
{
    rig = mr_rig_create(store);
    rig->config.group_initial_rebalance_delay_ms = 0;
    mr_rig_run(rig);
    assert_true(rig->is_listening);
}

static inline void restart(void)
{
    mr_rig_destroy(rig);
    start();
}

static inline int setup(void **state)
{
    (void)state;
    mr_arena_init(&arena, mr_test_memory(16u << 20), 16u << 20);
    store = mr_rig_store_create();
    start();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    mr_rig_destroy(rig);
    mr_rig_store_destroy(store);
    return 0;
}

/* "t", with two partitions. */
static inline void make_topic(void)
{
    struct mr_create_topics_request request;
    struct mr_create_topics_response response;
    struct mr_create_topics_request_creatable_topic topic;
    MR_DEFAULTS(create_topics_request, &request);
    MR_DEFAULTS(create_topics_request_creatable_topic, &topic);
    topic.name = MR_STR("t");
    topic.num_partitions = 2;
    topic.replication_factor = 1;
    request.topics = &topic;
    request.topics_count = 1;
    request.timeout_ms = 1000;
    mr_rig_call(rig, MR_API_CREATE_TOPICS, 7, &request, &arena, &response);
    assert_int_equal(response.topics[0].error_code, MR_KAFKA_NONE);
    mr_rig_run(rig);
}

/* FindCoordinator of groups (0) or transactions (1); makes the topic when there is none. */
static inline int16_t find(int8_t key_type, struct mr_str *message)
{
    struct mr_find_coordinator_request request;
    struct mr_find_coordinator_response response;
    struct mr_str key = MR_STR("g");
    MR_DEFAULTS(find_coordinator_request, &request);
    request.key_type = key_type;
    request.coordinator_keys = &key;
    request.coordinator_keys_count = 1;
    mr_rig_call(rig, MR_API_FIND_COORDINATOR, 6, &request, &arena, &response);
    assert_int_equal(response.coordinators_count, 1);
    if (message != NULL) {
        *message = response.coordinators[0].error_message;
    }
    if (response.coordinators[0].error_code == MR_KAFKA_NONE) {
        assert_int_equal(response.coordinators[0].node_id, rig->config.node_id);
    }
    return response.coordinators[0].error_code;
}

/* As a client: until there is a coordinator. */
static inline void find_until_there(int8_t key_type)
{
    int16_t error = find(key_type, NULL);
    for (uint32_t tries = 0; error == MR_KAFKA_COORDINATOR_NOT_AVAILABLE && tries < 10; tries++) {
        mr_rig_run(rig);
        error = find(key_type, NULL);
    }
    assert_int_equal(error, MR_KAFKA_NONE);
    mr_rig_run(rig);
}

#endif
