/*
 * fuzz_conn: connections of a data core as a script: requests whole and in pieces, any bytes, time that passes, answers
 * that are taken slowly or never, storage and control that keep their answers, peers that go away.
 *
 * At the end every peer is gone and everybody has answered: then nothing may be left: no connection, no receive
 * buffer, no lent page, no waiting request; a watch only for a partition in the cache of fetch sessions.
 */
#include "data_rig.h"
#include "millrace/base/bytes.h"
#include "millrace/kafka/api.h"
#include "mutate.h"
#include "sim_transport.h"
#include "wire_client.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PEERS 4u
#define LOG_FULL \
    (256u        \
     << 10) /* a log is emptied between inputs, and holds so much that a script cannot fill it */
#define BODY_MAX   4000u
#define FRAME_HEAD 16u /* length, key, version, correlation, client id "c", no tags */

enum step {
    STEP_REQUEST, /* api u8 | version u8 | body ... as one frame */
    STEP_PART,    /* likewise, without its last byte */
    STEP_BYTES,   /* anything */
    STEP_TIME,    /* so many milliseconds as `len` says, times 16 */
    STEP_TAKE,    /* the peer takes so many bytes */
    STEP_RESET,   /* the peer goes */
    STEP_PIECES,  /* deliveries of at most len + 1 bytes */
    STEP_ROOM,    /* the transport takes so many pieces of answers */
    STEP_HOLD,    /* storage keeps its answers, or gives the oldest */
    STEP_REPLY,   /* control answers the oldest request */
    STEP_RUN,
    STEP_COUNT,
};

static struct mr_data_rig *rig;
static struct mr_sim_net
    *net; /* net, where the leak checker sees it: it does not look into mapped memory */
static struct mr_sim_peer *peers[PEERS];

/* ---- The mutator ---- */

/* A Produce to "t" that is right, or a Fetch of it: what mutations alone would take long to find. */
static uint32_t typical(struct mr_prng *prng, uint8_t *out)
{
    const uint8_t *frame;
    uint32_t len;
    int32_t partition = (int32_t)mr_prng_below(prng, MR_DATA_RIG_LOGS);
    if (mr_prng_below(prng, 2) == 0) {
        struct mr_chain batch = mr_wire_batch(1 + (uint32_t)mr_prng_below(prng, 3),
                                              (uint32_t)mr_prng_below(prng, 1000), 1700000000000);
        frame = mr_wire_produce(0, (int16_t)(1 - (int)mr_prng_below(prng, 3)), MR_STR("t"),
                                partition, batch, &len);
    } else {
        struct mr_fetch_request in;
        struct mr_fetch_request_fetch_topic topic;
        struct mr_fetch_request_fetch_partition part;
        MR_DEFAULTS(fetch_request, &in);
        MR_DEFAULTS(fetch_request_fetch_topic, &topic);
        MR_DEFAULTS(fetch_request_fetch_partition, &part);
        part.partition = partition;
        part.partition_max_bytes = 1 << 20;
        topic.topic = MR_STR("t");
        topic.partitions = &part;
        topic.partitions_count = 1;
        in.topics = &topic;
        in.topics_count = 1;
        in.session_epoch = (int32_t)mr_prng_below(prng, 3) - 1;
        in.max_wait_ms = (int32_t)mr_prng_below(prng, 1000);
        in.min_bytes = 1;
        frame = mr_wire_request(MR_API_FETCH, 12, 0, &in, &len);
    }
    out[0] = frame[5] == MR_API_FETCH; /* their places in mr_api_all */
    out[1] = (uint8_t)(frame[7] - mr_api_all[out[0]].version_min);
    memcpy(out + 2, frame + FRAME_HEAD, len - FRAME_HEAD);
    return 2 + len - FRAME_HEAD;
}

static void draw(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out, uint32_t max)
{
    bool is_new = item->bytes == NULL;
    if (is_new) {
        bool is_request = mr_prng_below(prng, 2) == 0;
        item->kind = is_request ? STEP_REQUEST : (uint8_t)mr_prng_below(prng, STEP_COUNT);
        item->who = (uint8_t)mr_prng_below(prng, PEERS);
    }
    if (item->kind % STEP_COUNT > STEP_PART) {
        item->len = 1 + (uint32_t)mr_prng_below(prng, mr_prng_below(prng, 4) == 0 ? max : 16);
        memset(out, (int)mr_prng_next(prng), item->len);
        return;
    }
    if (is_new && mr_prng_below(prng, 2) == 0) {
        item->len = typical(prng, out);
        return;
    }
    bool is_known = !is_new && item->len >= 2 && mr_prng_below(prng, 8) != 0;
    out[0] = is_known ? item->bytes[0] : (uint8_t)mr_prng_below(prng, mr_api_count);
    out[1] = is_known ? item->bytes[1] : (uint8_t)mr_prng_next(prng);
    const struct mr_api *api = &mr_api_all[out[0] % mr_api_count];
    int16_t version =
        (int16_t)(api->version_min + out[1] % (api->version_max - api->version_min + 1));
    uint32_t max_body = max - 2 < BODY_MAX ? max - 2 : BODY_MAX;
    item->len = 2 + mr_mutate_msg(prng, api->request, version, is_known ? item->bytes + 2 : NULL,
                                  is_known ? item->len - 2 : 0, out + 2, max_body);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    return mr_mutate_script(&prng, data, size, size_max, draw);
}

/* ---- The script ---- */

static void adjust(struct mr_data_rig *made)
{
    made->plan.requests_max = 32;
    made->plan.receive_bytes = 512u << 10;
    made->plan.frame_bytes_max = 64u << 10;
    made->config.max_connections_per_ip = INT32_MAX;
}

static void send_request(struct mr_sim_peer *peer, const struct mr_script_item *item)
{
    static int32_t correlation;
    uint8_t bytes[MR_SCRIPT_ITEM_MAX + 64];
    if (item->len < 2 || item->len > MR_SCRIPT_ITEM_MAX) {
        return;
    }
    const struct mr_api *api = &mr_api_all[item->bytes[0] % mr_api_count];
    int16_t version =
        (int16_t)(api->version_min + item->bytes[1] % (api->version_max - api->version_min + 1));
    uint32_t len = 4;
    mr_store_be16(bytes + len, (uint16_t)api->key);
    mr_store_be16(bytes + len + 2, (uint16_t)version);
    mr_store_be32(bytes + len + 4, (uint32_t)correlation++);
    mr_store_be16(bytes + len + 8, UINT16_MAX); /* no client id */
    len += 10;
    if (mr_header_request_version(api, version) >= 2) {
        bytes[len++] = 0;
    }
    memcpy(bytes + len, item->bytes + 2, item->len - 2);
    len += item->len - 2;
    mr_store_be32(bytes, len - 4);
    mr_sim_peer_send(peer, bytes, item->kind % STEP_COUNT == STEP_PART ? len - 1 : len);
}

static void reply_one(void)
{
    if (rig->forward_count > 0) {
        struct mr_forward *forward = rig->forwards[0];
        rig->forward_count--;
        memmove(rig->forwards, rig->forwards + 1, rig->forward_count * sizeof rig->forwards[0]);
        forward->is_silent = true;
        mr_data_rig_reply(rig, forward);
    }
}

static void take(struct mr_sim_peer *peer, uint32_t bytes)
{
    uint8_t buffer[4096];
    while (bytes > 0) {
        uint32_t want = bytes < sizeof buffer ? bytes : (uint32_t)sizeof buffer;
        uint32_t got = mr_sim_peer_take(peer, buffer, want);
        if (got == 0) {
            return;
        }
        bytes -= got;
    }
}

static void hold(bool is_held)
{
    rig->is_storage_held = is_held;
    if (rig->held_count > 0) {
        mr_data_rig_storage_release(rig, 0);
    }
}

static struct mr_sim_peer *peer_at(uint32_t who)
{
    if (peers[who] == NULL || mr_sim_peer_is_closed(peers[who])) {
        if (peers[who] != NULL) {
            mr_data_rig_run(rig);
            mr_sim_peer_free(peers[who]);
        }
        peers[who] = mr_sim_net_connect(net, NULL);
    }
    return peers[who];
}

static void play(const struct mr_script_item *item)
{
    struct mr_sim_peer *peer = peer_at(item->who % PEERS);
    switch ((enum step)(item->kind % STEP_COUNT)) {
    case STEP_REQUEST:
    case STEP_PART:
        send_request(peer, item);
        break;
    case STEP_BYTES:
        mr_sim_peer_send(peer, item->bytes, item->len);
        break;
    case STEP_TIME:
        mr_data_rig_pass_ms(rig, (uint64_t)item->len * 16);
        break;
    case STEP_TAKE:
        take(peer, item->len);
        break;
    case STEP_RESET:
        mr_sim_peer_reset(peer);
        break;
    case STEP_PIECES:
        mr_sim_net_pieces(net, item->len + 1, false);
        break;
    case STEP_ROOM:
        mr_sim_net_send_limit(net, item->len + 1);
        break;
    case STEP_HOLD:
        hold((item->len & 1) != 0);
        break;
    case STEP_REPLY:
        reply_one();
        break;
    case STEP_RUN:
    case STEP_COUNT:
        break;
    }
    if (rig->held_count > MR_DATA_RIG_OPS / 2 || rig->forward_count > MR_DATA_RIG_OPS / 2) {
        hold(false);
        reply_one();
    }
    mr_data_rig_run(rig);
}

/* Everybody goes home; what is left then was forgotten. */
static void finish(void)
{
    for (uint32_t who = 0; who < PEERS; who++) {
        if (peers[who] != NULL) {
            mr_sim_peer_reset(peers[who]);
        }
    }
    rig->is_storage_held = false;
    mr_data_rig_run(rig);
    while (rig->held_count > 0 || rig->forward_count > 0) {
        hold(false);
        reply_one();
        mr_data_rig_run(rig);
    }
    mr_data_rig_pass_ms(rig, 3600000); /* fetches that wait end at their deadlines at the latest */
    for (uint32_t who = 0; who < PEERS; who++) {
        if (peers[who] != NULL) {
            mr_assert(mr_sim_peer_is_closed(peers[who]));
            mr_sim_peer_free(peers[who]);
            peers[who] = NULL;
        }
    }
    mr_assert(rig->lent == rig->releases);
    mr_assert(mr_sim_net_held(net) == 0);
    mr_assert(mr_list_is_empty(&rig->core->session_list));
    mr_assert(rig->core->requests.used == 0 && rig->core->scratch.used_bytes == 0);
    mr_assert(mr_data_rig_live_watches(rig) <= rig->core->fetch_sessions.partitions.used);
    for (uint32_t log = 0; log < rig->log_count; log++) {
        rig->logs[log].len = 0;
        rig->logs[log].end = 0;
    }
    mr_sim_net_pieces(net, 4096, false);
    mr_sim_net_send_limit(net, UINT32_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_script_item item;
    const uint8_t *at = data;
    if (rig == NULL) {
        rig = mr_data_rig_create_with(adjust);
        net = rig->net;
    }
    if (size > LOG_FULL) {
        return 0;
    }
    while (mr_script_next(&at, data + size, &item)) {
        play(&item);
    }
    finish();
    return 0;
}
