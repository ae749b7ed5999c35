/*
 * Random pipelines against a serial reference: as seen by its client a connection is served one request after
 * the other, whatever the core does at the same time.
 *
 * Two cores with equal storages get the same requests. The reference gets one, answers it, and only then the
 * next. The other gets all of them on one connection, cut into random pieces, while storage and control
 * hold their answers back and give them in any order, send queues are full and the client reads slowly.
 * The bytes of all answers must be equal, and so must the logs afterwards.
 *
 * What would show an overlap that a client can see: appends are seen only when they are answered, so a Fetch
 * or ListOffsets that starts before the Produce before it is answered tells an older end; and the answer to
 * an OffsetCommit tells how far control could see the logs when the request came to it.
 */
#include "data_rig.h"
#include "millrace/base/bytes.h"
#include "millrace/base/prng.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"
#include "sim_transport.h"
#include "test.h"
#include "wire_client.h"

#define SEEDS         200u
#define ROUNDS        6u
#define REQUESTS_MAX  40u
#define BYTES_MAX     (2u << 20)
#define STEPS_MAX     200000u
#define WAIT_MS       40
#define CONTROL_BYTES 64u

/* A core, its control, and one connection to it. */
struct side {
    struct mr_data_rig *rig;
    struct mr_sim_peer *peer;
    uint32_t answered; /* forwards that control has answered */
    uint32_t seen;     /* forwards that control has looked at */
    uint8_t replies[MR_DATA_RIG_OPS][CONTROL_BYTES];
    struct mr_span spans[MR_DATA_RIG_OPS];
    uint8_t *bytes; /* what was answered */
    uint32_t len;
};

struct script {
    uint8_t *bytes;
    uint32_t len;
};

static struct mr_prng prng;

static uint32_t draw(uint32_t bound)
{
    return (uint32_t)mr_prng_below(&prng, bound);
}

/* ---- control ---- */

/* What a forwarded request does, when it comes: its answer carries what could be seen then. */
static void control_look(struct side *side)
{
    struct mr_data_rig *rig = side->rig;
    for (; side->seen < rig->forward_count; side->seen++) {
        struct mr_offset_commit_response out;
        struct mr_arena arena;
        struct mr_span spans[4];
        struct mr_writer writer;
        static uint8_t memory[1024];
        MR_DEFAULTS(offset_commit_response, &out);
        out.throttle_time_ms = (int32_t)side->seen;
        for (uint64_t log_id = 1; log_id <= MR_DATA_RIG_LOGS; log_id++) {
            out.throttle_time_ms =
                out.throttle_time_ms * 31 + (int32_t)mr_data_rig_visible_end(rig, log_id);
            out.throttle_time_ms &= 0xffffff;
        }
        mr_arena_init(&arena, memory, sizeof memory);
        mr_writer_init(&writer, &arena, spans, 4);
        assert_int_equal(mr_msg_encode(&mr_msg_offset_commit_response, 8, &out, &writer), MR_OK);
        struct mr_chain chain = mr_writer_finish(&writer);
        assert_in_range(chain.bytes, 1, CONTROL_BYTES);
        mr_chain_copy(&chain, 0, side->replies[side->seen], chain.bytes);
        side->spans[side->seen] =
            (struct mr_span){.data = side->replies[side->seen], .len = chain.bytes};
    }
}

static void control_answer(struct side *side)
{
    struct mr_span *span = &side->spans[side->answered];
    struct mr_forward *forward = side->rig->forwards[side->answered++];
    forward->reply = (struct mr_chain){.spans = span, .span_count = 1, .bytes = span->len};
    mr_data_rig_reply(side->rig, forward);
}

/* ---- a side ---- */

static void adjust(struct mr_data_rig *rig)
{
    rig->plan.receive_bytes = 64u << 20; /* pieces are counted, and here they may be tiny */
}

static struct side make_side(void)
{
    struct side side = {.rig = mr_data_rig_create_with(adjust)};
    side.bytes = mr_test_memory(BYTES_MAX);
    return side;
}

static void side_begin(struct side *side)
{
    side->peer = mr_data_rig_join(side->rig);
    side->len = 0;
    side->rig->forward_count = side->answered = side->seen = 0;
    mr_data_rig_run(side->rig);
}

static void take(struct side *side, uint32_t max)
{
    assert_true(side->len + max <= BYTES_MAX);
    side->len += mr_sim_peer_take(side->peer, side->bytes + side->len, max);
}

/* ---- the requests ---- */

static const uint8_t *offset_commit(int32_t correlation, uint32_t *len)
{
    struct mr_offset_commit_request in;
    MR_DEFAULTS(offset_commit_request, &in);
    in.group_id = MR_STR("g");
    return mr_wire_request(MR_API_OFFSET_COMMIT, 8, correlation, &in, len);
}

static const uint8_t *api_versions(int32_t correlation, uint32_t *len)
{
    struct mr_api_versions_request in;
    MR_DEFAULTS(api_versions_request, &in);
    in.client_software_name = MR_STR("test");
    in.client_software_version = MR_STR("1");
    return mr_wire_request(MR_API_API_VERSIONS, 4, correlation, &in, len);
}

static const uint8_t *metadata(int32_t correlation, uint32_t *len)
{
    struct mr_metadata_request in;
    MR_DEFAULTS(metadata_request, &in);
    in.topics_count = -1;
    return mr_wire_request(MR_API_METADATA, 12, correlation, &in, len);
}

static const uint8_t *list_offsets(int32_t correlation, uint32_t *len)
{
    struct mr_list_offsets_request in;
    struct mr_list_offsets_request_list_offsets_topic topic;
    struct mr_list_offsets_request_list_offsets_partition one;
    MR_DEFAULTS(list_offsets_request, &in);
    MR_DEFAULTS(list_offsets_request_list_offsets_topic, &topic);
    MR_DEFAULTS(list_offsets_request_list_offsets_partition, &one);
    one.partition_index = (int32_t)draw(MR_DATA_RIG_LOGS);
    one.timestamp = -1;
    topic.name = MR_STR("t");
    topic.partitions = &one;
    topic.partitions_count = 1;
    in.replica_id = -1;
    in.topics = &topic;
    in.topics_count = 1;
    return mr_wire_request(MR_API_LIST_OFFSETS, 7, correlation, &in, len);
}

static const uint8_t *produce(const struct side *reference, int32_t correlation, uint32_t *len)
{
    static const int16_t acks[] = {-1, -1, 1, 0};
    bool is_large = draw(12) == 0;
    struct mr_chain batch = mr_wire_batch(1 + draw(3), is_large ? 5000 + draw(15000) : draw(100),
                                          reference->rig->now.unix_ms);
    struct mr_str topic = draw(40) == 0 ? MR_STR("nowhere") : MR_STR("t");
    return mr_wire_produce(correlation, acks[draw(4)], topic, (int32_t)draw(MR_DATA_RIG_LOGS),
                           batch, len);
}

/* A session's id and next epoch, as the client knows them once it has been answered. */
struct fetcher {
    int32_t session_id;
    int32_t epoch;
};

static const uint8_t *fetch(const struct side *reference, const struct fetcher *fetcher,
                            int32_t correlation, uint32_t *len)
{
    struct mr_fetch_request in;
    struct mr_fetch_request_fetch_topic topic;
    struct mr_fetch_request_fetch_partition partitions[MR_DATA_RIG_LOGS];
    uint32_t first = draw(MR_DATA_RIG_LOGS);
    uint32_t count = 1 + draw(MR_DATA_RIG_LOGS - first);
    MR_DEFAULTS(fetch_request, &in);
    MR_DEFAULTS(fetch_request_fetch_topic, &topic);
    for (uint32_t at = 0; at < count; at++) {
        int64_t end = reference->rig->logs[first + at].end;
        MR_DEFAULTS(fetch_request_fetch_partition, &partitions[at]);
        partitions[at].partition = (int32_t)(first + at);
        partitions[at].fetch_offset = end > 4 && draw(3) > 0 ? end - draw(4) : end;
        partitions[at].partition_max_bytes = 1 << 16;
    }
    topic.topic = MR_STR("t");
    topic.partitions = partitions;
    topic.partitions_count = (int32_t)count;
    in.topics = &topic;
    in.topics_count = fetcher->epoch > 0 && draw(2) == 0 ? 0 : 1;
    in.max_wait_ms = draw(4) == 0 ? WAIT_MS : 0;
    in.min_bytes = 1;
    in.max_bytes = 1 << 16;
    in.session_id = fetcher->session_id;
    in.session_epoch = fetcher->epoch;
    return mr_wire_request(MR_API_FETCH, 12, correlation, &in, len);
}

/* ---- the reference ---- */

/* Serve one request alone. False: the connection is closed. */
static bool serve(struct side *side, const uint8_t *bytes, uint32_t len)
{
    mr_sim_peer_send(side->peer, bytes, len);
    mr_data_rig_run(side->rig);
    control_look(side);
    while (side->answered < side->rig->forward_count) {
        control_answer(side);
    }
    mr_data_rig_run(side->rig);
    mr_data_rig_pass_ms(side->rig, WAIT_MS + 1); /* a Fetch that waits has waited */
    for (uint32_t before = side->len + 1; before != side->len;) {
        before = side->len;
        take(side, 65536);
        mr_data_rig_run(side->rig);
    }
    return !mr_sim_peer_is_closed(side->peer);
}

/* The client learns its session from the answer, the last bytes of the reference. */
static void learn(const struct side *reference, uint32_t from, struct fetcher *fetcher)
{
    const uint8_t *answer = reference->bytes + from; /* size, correlation, tags, throttle */
    assert_true(reference->len - from >= 19);
    int16_t error = (int16_t)mr_load_be16(answer + 13);
    int32_t id = (int32_t)mr_load_be32(answer + 15);
    bool is_open = error == 0 && id != 0;
    *fetcher = is_open ? (struct fetcher){.session_id = id, .epoch = fetcher->epoch + 1}
                       : (struct fetcher){.epoch = draw(2) == 0 ? 0 : -1};
}

/* A pipeline is written while the reference serves it. */
static void write_script(struct side *reference, struct script *script)
{
    uint32_t count = 1 + draw(REQUESTS_MAX);
    struct fetcher fetcher = {.epoch = draw(2) == 0 ? 0 : -1};
    bool is_open = true;
    script->len = 0;
    for (uint32_t index = 0; index < count; index++) {
        const int32_t correlation = (int32_t)index;
        uint32_t kind = draw(12);
        uint32_t from = reference->len;
        uint32_t len = 0;
        const uint8_t *bytes = kind < 5    ? produce(reference, correlation, &len)
                               : kind < 8  ? fetch(reference, &fetcher, correlation, &len)
                               : kind < 9  ? list_offsets(correlation, &len)
                               : kind < 10 ? metadata(correlation, &len)
                               : kind < 11 ? offset_commit(correlation, &len)
                                           : api_versions(correlation, &len);
        assert_true(script->len + len <= BYTES_MAX);
        memcpy(script->bytes + script->len, bytes, len);
        script->len += len;
        if (is_open) { /* what comes behind the end of a connection has no effect */
            is_open = serve(reference, script->bytes + script->len - len, len);
            if (is_open && kind >= 5 && kind < 8) {
                learn(reference, from, &fetcher);
            }
        }
    }
}

/* ---- the pipeline ---- */

/* One thing happens, by lot. Returns the bytes that were sent. */
static uint32_t step(struct side *side, const uint8_t *bytes, uint32_t left)
{
    struct mr_data_rig *rig = side->rig;
    control_look(side);
    switch (draw(9)) {
    case 0:
    case 1: {
        uint32_t part = draw(3) == 0 ? left : draw(left < 400 ? left + 1 : 400);
        mr_sim_peer_send(side->peer, bytes, part);
        return part;
    }
    case 2:
        if (rig->held_count > 0) {
            mr_data_rig_storage_release(rig, draw(rig->held_count));
        }
        return 0;
    case 3:
        if (side->answered < side->seen) {
            control_answer(side);
        }
        return 0;
    case 4:
        take(side, 1 + draw(draw(2) == 0 ? 50 : 40000));
        return 0;
    case 5:
        rig->is_storage_held = draw(2) == 0;
        return 0;
    case 6:
        mr_data_rig_pass_ms(rig, draw(WAIT_MS));
        return 0;
    default:
        mr_data_rig_run(rig);
        return 0;
    }
}

static void expect_equal_answers(const struct side *side, const struct side *reference,
                                 uint64_t seed, uint32_t round)
{
    uint32_t same = 0;
    uint32_t first = 0; /* byte of the answer that holds the difference */
    uint32_t number = 0;
    while (same < side->len && same < reference->len &&
           side->bytes[same] == reference->bytes[same]) {
        same++;
    }
    if (same == side->len && same == reference->len) {
        return;
    }
    while (first + 4 < reference->len &&
           first + 4 + mr_load_be32(reference->bytes + first) <= same) {
        first += 4 + mr_load_be32(reference->bytes + first);
        number++;
    }
    fail_msg("seed %llu round %u: %u bytes of answers instead of %u, answer %u is different at %u",
             (unsigned long long)seed, round, side->len, reference->len, number, same - first);
}

static void test_random_pipelines_are_answered_as_if_served_serially(void **state)
{
    struct script script = {.bytes = mr_test_memory(BYTES_MAX)};
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct side reference = make_side();
        struct side side = make_side();
        prng = (struct mr_prng){.state = seed};
        mr_sim_net_pieces(side.rig->net, 8 + draw(3000), true);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            side_begin(&reference);
            side_begin(&side);
            write_script(&reference, &script);
            mr_sim_net_send_limit(side.rig->net, draw(2) == 0 ? 12 : UINT32_MAX);
            uint32_t sent = 0;
            bool is_over = false;
            for (uint32_t at = 0; at < STEPS_MAX && !is_over; at++) {
                sent += step(&side, script.bytes + sent, script.len - sent);
                is_over =
                    sent == script.len && side.len >= reference.len && side.rig->held_count == 0;
            }
            side.rig->is_storage_held = false;
            mr_data_rig_pass_ms(side.rig, WAIT_MS);
            take(&side, 1);
            expect_equal_answers(&side, &reference, seed, round);
            assert_int_equal(mr_sim_peer_is_closed(side.peer),
                             mr_sim_peer_is_closed(reference.peer));
            for (uint32_t log = 0; log < MR_DATA_RIG_LOGS; log++) {
                assert_int_equal(side.rig->logs[log].len, reference.rig->logs[log].len);
                assert_memory_equal(side.rig->logs[log].bytes, reference.rig->logs[log].bytes,
                                    side.rig->logs[log].len);
            }
            mr_sim_peer_reset(side.peer);
            mr_sim_peer_reset(reference.peer);
            mr_data_rig_run(side.rig);
            mr_data_rig_run(reference.rig);
            assert_int_equal(mr_sim_net_held(side.rig->net), 0);
            assert_int_equal(side.rig->lent, side.rig->releases);
        }
        mr_data_rig_destroy(side.rig);
        mr_data_rig_destroy(reference.rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_pipelines_are_answered_as_if_served_serially),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
