/*
 * Incremental fetch sessions: what they answer, and how much work that is.
 */
#include "data_rig.h"
#include "millrace/base/bytes.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_transport.h"
#include "test.h"
#include "wire_client.h"

static struct mr_data_rig *w;

static int setup(void **state)
{
    (void)state;
    w = mr_data_rig_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_data_rig_destroy(w);
    return 0;
}

static void test_fetch_session_answers_only_what_changed(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    mr_data_rig_fetch(reader, 1,
                      (struct mr_data_rig_fetch){.count = MR_DATA_RIG_LOGS, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    int32_t id = got.session_id;
    assert_true(id > 0);
    assert_int_equal(got.responses[0].partitions_count, MR_DATA_RIG_LOGS);
    mr_data_rig_produce(w, writer, 1, 2);
    assert_true(mr_data_rig_answer(w, writer, 0, 9, &correlation, &made));
    uint32_t before = w->entries_read;
    mr_data_rig_fetch(
        reader, 2,
        (struct mr_data_rig_fetch){.session_id = id, .session_epoch = 1, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, 0);
    assert_int_equal(got.responses_count, 1);
    assert_int_equal(got.responses[0].partitions_count, 1);
    assert_int_equal(got.responses[0].partitions[0].partition_index, 2);
    assert_int_equal(w->entries_read - before, 1);
    /* the client moves on: nothing is left, nothing is told */
    mr_data_rig_fetch(reader, 3,
                      (struct mr_data_rig_fetch){.session_id = id,
                                                 .session_epoch = 2,
                                                 .first = 2,
                                                 .count = 1,
                                                 .offset = 1,
                                                 .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses_count, 0);
    before = w->entries_read;
    mr_data_rig_fetch(
        reader, 4,
        (struct mr_data_rig_fetch){.session_id = id, .session_epoch = 3, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(w->entries_read, before); /* a fetch at the end asks nobody */
    mr_data_rig_fetch(
        reader, 5,
        (struct mr_data_rig_fetch){.session_id = id, .session_epoch = 9, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, MR_KAFKA_INVALID_FETCH_SESSION_EPOCH);
    mr_data_rig_fetch(
        reader, 6,
        (struct mr_data_rig_fetch){.session_id = id ^ 1, .session_epoch = 4, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND);
    mr_data_rig_fetch(
        reader, 7, (struct mr_data_rig_fetch){.session_id = id, .session_epoch = -1, .count = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.session_id, 0);
    mr_data_rig_fetch(
        reader, 8,
        (struct mr_data_rig_fetch){.session_id = id, .session_epoch = 4, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.error_code, MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND);
}

/* What did not fit is read by the next fetch of the session, although nothing has moved. */
static void test_fetch_session_returns_later_what_did_not_fit(void **state)
{
    (void)state;
    int32_t correlation;
    bool is_seen[MR_DATA_RIG_LOGS] = {false};
    struct mr_fetch_response got;
    struct mr_produce_response made;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    for (int32_t i = 0; i < MR_DATA_RIG_LOGS; i++) {
        mr_data_rig_produce_to(w, writer, i, -1, MR_STR("t"), i, 1, 1000);
        assert_true(mr_data_rig_answer(w, writer, 0, 9, &correlation, &made));
    }
    struct mr_data_rig_fetch next = {.count = MR_DATA_RIG_LOGS, .min_bytes = 1, .max_bytes = 1500};
    for (int32_t i = 0; i < MR_DATA_RIG_LOGS; i++) {
        mr_data_rig_fetch(reader, i, next);
        assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
        uint32_t with_records = 0;
        next = (struct mr_data_rig_fetch){.session_id = got.session_id,
                                          .session_epoch = i + 1,
                                          .offset = 1, /* of the one that was read */
                                          .count = 1,
                                          .min_bytes = 1,
                                          .max_bytes = 1500};
        for (int32_t at = 0; got.responses_count > 0 && at < got.responses[0].partitions_count;
             at++) {
            const struct mr_fetch_response_partition_data *data = &got.responses[0].partitions[at];
            if (data->records.bytes > 0) {
                with_records++;
                next.first = (uint32_t)data->partition_index;
            }
        }
        assert_int_equal(with_records, 1);
        assert_false(is_seen[next.first]);
        is_seen[next.first] = true;
    }
}

static void test_fetch_session_tells_a_new_partition_after_a_vain_wait(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    mr_data_rig_fetch(reader, 1, (struct mr_data_rig_fetch){.count = 1, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    mr_data_rig_fetch(reader, 2,
                      (struct mr_data_rig_fetch){.session_id = got.session_id,
                                                 .session_epoch = 1,
                                                 .first = 1,
                                                 .count = 1,
                                                 .min_bytes = 1,
                                                 .max_wait_ms = 100});
    mr_data_rig_run(w);
    mr_data_rig_pass_ms(w, 101);
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses_count, 1); /* its high watermark is news, although it is 0 */
    assert_int_equal(got.responses[0].partitions[0].partition_index, 1);
}

static void test_fetch_sessions_full_serves_without_one(void **state)
{
    (void)state;
    int32_t correlation;
    struct mr_fetch_response got;
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    for (int32_t i = 0; i < 6; i++) {
        mr_data_rig_fetch(reader, i,
                          (struct mr_data_rig_fetch){.count = MR_DATA_RIG_LOGS, .min_bytes = 1});
        assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
        assert_int_equal(got.session_id != 0, i < 4);
        assert_int_equal(got.responses[0].partitions_count, MR_DATA_RIG_LOGS);
    }
    mr_data_rig_pass_ms(w, 121000); /* unused for long: evicted for a new one */
    mr_data_rig_fetch(reader, 9,
                      (struct mr_data_rig_fetch){.count = MR_DATA_RIG_LOGS, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_true(got.session_id != 0);
}

/* ---- how much work it is ---- */

enum { MANY = 1000, MOVED = 100 };

static void many_partitions(struct mr_data_rig *rig)
{
    rig->log_count = MANY;
    rig->plan.fetch_partitions_max = 2 * MANY;
}

static uint64_t visits(void)
{
    struct mr_data_stats stats;
    mr_data_core_stats(w->core, &stats);
    return stats.fetch_visits;
}

/* One request, so one commit, with a record for each of `count` partitions from `first` on. */
static void produce_many(struct mr_sim_peer *peer, uint32_t first, uint32_t count)
{
    struct mr_produce_request in;
    struct mr_produce_request_topic_produce_data topic;
    struct mr_produce_request_partition_produce_data data[MOVED];
    struct mr_produce_response made;
    int32_t correlation;
    struct mr_chain batch = mr_wire_batch(1, 10, w->now.unix_ms);
    MR_DEFAULTS(produce_request, &in);
    MR_DEFAULTS(produce_request_topic_produce_data, &topic);
    for (uint32_t at = 0; at < count; at++) {
        data[at] = (struct mr_produce_request_partition_produce_data){
            .index = (int32_t)(first + at), .records = batch};
    }
    topic.name = MR_STR("t");
    topic.partition_data = data;
    topic.partition_data_count = (int32_t)count;
    in.acks = -1;
    in.topic_data = &topic;
    in.topic_data_count = 1;
    mr_data_rig_ask(peer, 0, 9, 1, &in);
    assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
    assert_int_equal(made.responses[0].partition_responses[count - 1].error_code, 0);
}

/* A session over all partitions, read to their ends. Returns its id. */
static int32_t open_session(struct mr_sim_peer *reader)
{
    int32_t correlation;
    struct mr_fetch_response got;
    mr_data_rig_fetch(reader, 1, (struct mr_data_rig_fetch){.count = MANY, .min_bytes = 1});
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_true(got.session_id > 0);
    return got.session_id;
}

static void test_fetch_session_work_is_that_of_what_changed(void **state)
{
    static const struct {
        uint32_t moved;
        uint32_t visits_max; /* read, answered, and armed again with the next fetch */
    } cases[] = {{0, 0}, {1, 3}, {0, 3}, {MOVED, 3 * MOVED}};
    struct mr_fetch_response got;
    int32_t correlation;
    (void)state;
    mr_data_rig_destroy(w);
    w = mr_data_rig_create_with(many_partitions);
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    int32_t id = open_session(reader);
    assert_int_equal(mr_data_rig_live_watches(w), MANY);
    uint32_t last = 0;
    for (size_t at = 0; at < sizeof cases / sizeof cases[0]; at++) {
        uint32_t moved = cases[at].moved;
        if (moved > 0) {
            produce_many(writer, 500, moved);
        }
        uint64_t before = visits();
        uint32_t entries = w->entries_read;
        mr_data_rig_fetch(reader, 2,
                          (struct mr_data_rig_fetch){.session_id = id,
                                                     .session_epoch = (int32_t)at + 1,
                                                     .first = 500,
                                                     .count = last,
                                                     .offset = 1, /* of what was read */
                                                     .min_bytes = 1});
        assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
        assert_int_equal(got.responses_count, moved > 0);
        assert_true(visits() - before <= cases[at].visits_max);
        assert_true(w->entries_read - entries <= moved + last);
        last = moved;
    }
}

static void test_fetch_that_waits_is_woken_once_by_a_commit(void **state)
{
    struct mr_fetch_response got;
    int32_t correlation;
    (void)state;
    mr_data_rig_destroy(w);
    w = mr_data_rig_create_with(many_partitions);
    struct mr_sim_peer *reader = mr_data_rig_join(w);
    struct mr_sim_peer *writer = mr_data_rig_join(w);
    int32_t id = open_session(reader);
    mr_data_rig_fetch(
        reader, 2,
        (struct mr_data_rig_fetch){
            .session_id = id, .session_epoch = 1, .min_bytes = 1, .max_wait_ms = 60000});
    mr_data_rig_run(w);
    uint64_t before = visits();
    uint32_t reads = w->reads;
    uint32_t entries = w->entries_read;
    produce_many(writer, 0, MOVED);
    assert_int_equal(w->reads - reads, 1); /* one pass, although a hundred watches fired */
    assert_int_equal(w->entries_read - entries, MOVED);
    assert_true(visits() - before <= 2 * MOVED);
    assert_true(mr_data_rig_answer(w, reader, 1, 12, &correlation, &got));
    assert_int_equal(got.responses[0].partitions_count, MOVED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_fetch_session_answers_only_what_changed),
        TEST(test_fetch_session_returns_later_what_did_not_fit),
        TEST(test_fetch_session_tells_a_new_partition_after_a_vain_wait),
        TEST(test_fetch_session_work_is_that_of_what_changed),
        TEST(test_fetch_that_waits_is_woken_once_by_a_commit),
        TEST(test_fetch_sessions_full_serves_without_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
