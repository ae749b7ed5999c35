/*
 * x
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

/* Random pipelines: every answer in the order asked, offsets as one after the other would give. */
static void test_random_pipelines_are_answered_as_if_served_serially(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 42};
    int64_t ends[MR_DATA_RIG_LOGS] = {0};
    mr_sim_net_pieces(w->net, 300, true);
    struct mr_sim_peer *peer = mr_data_rig_join(w);
    for (int round = 0; round < 60; round++) {
        struct {
            int kind;
            int32_t partition;
            int64_t offset;
        } asked[24];
        int count = 1 + (int)mr_prng_below(&prng, 24);
        mr_sim_net_send_limit(w->net, mr_prng_below(&prng, 2) == 0 ? 4 : UINT32_MAX);
        for (int i = 0; i < count; i++) {
            asked[i].kind = (int)mr_prng_below(&prng, 3);
            asked[i].partition = (int32_t)mr_prng_below(&prng, MR_DATA_RIG_LOGS);
            asked[i].offset = ends[asked[i].partition];
            int32_t correlation = round * 100 + i;
            if (asked[i].kind == 0) { /* a fetch at the end as it is in its turn */
                mr_data_rig_fetch(peer, correlation,
                                  (struct mr_data_rig_fetch){.session_epoch = -1,
                                                             .first = (uint32_t)asked[i].partition,
                                                             .count = 1,
                                                             .offset = asked[i].offset});
            } else {
                uint32_t records = 1 + (uint32_t)mr_prng_below(&prng, 3);
                mr_data_rig_produce_to(w, peer, correlation, asked[i].kind == 1 ? -1 : 1,
                                       MR_STR("t"), asked[i].partition, records, 30);
                ends[asked[i].partition] += records;
            }
            if (mr_prng_below(&prng, 4) == 0) {
                w->is_storage_held = !w->is_storage_held;
                mr_data_rig_run(w);
            }
        }
        w->is_storage_held = false;
        for (int i = 0; i < count; i++) {
            int32_t correlation;
            do { /* what was held is answered, in the order in which it came */
                mr_data_rig_run(w);
                for (uint32_t h = 0; h < w->held_count; h++) {
                    mr_data_rig_storage_answer(w, w->held[h]);
                }
                bool was_held = w->held_count > 0;
                w->held_count = 0;
                mr_data_rig_run(w);
                if (!was_held) {
                    break;
                }
            } while (true);
            if (asked[i].kind == 0) {
                struct mr_fetch_response got;
                assert_true(mr_data_rig_answer(w, peer, 1, 12, &correlation, &got));
                assert_int_equal(got.responses[0].partitions[0].error_code, 0);
                assert_int_equal(got.responses[0].partitions[0].high_watermark, asked[i].offset);
                assert_int_equal(got.responses[0].partitions[0].records.bytes, 0);
            } else {
                struct mr_produce_response made;
                assert_true(mr_data_rig_answer(w, peer, 0, 9, &correlation, &made));
                assert_int_equal(made.responses[0].partition_responses[0].base_offset,
                                 asked[i].offset);
            }
            assert_int_equal(correlation, round * 100 + i);
        }
    }
    assert_int_equal(mr_sim_net_held(w->net), 0);
    assert_int_equal(w->lent, w->releases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)
        TEST(test_random_pipelines_are_answered_as_if_served_serially),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
