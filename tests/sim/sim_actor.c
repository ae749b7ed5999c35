#include "sim_actor.h"

#include "millrace/base/fmt.h"
#include "millrace/base/bytes.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"

#define RESPONSE_BYTES 256u /* of the largest response struct itself */

void mr_sim_actor_init(struct mr_sim_actor *actor, const struct mr_sim_actor_ops *ops, struct mr_arena *arena,
                       uint64_t seed)
{
    *actor = (struct mr_sim_actor){.ops = ops, .prng = {.state = seed}, .correlation_next = 1};
    actor->in = mr_arena_get_fresh(arena, MR_SIM_ACTOR_BUFFER, 64);
    actor->out = mr_arena_get_fresh(arena, MR_SIM_ACTOR_BUFFER, 64);
    actor->scratch = mr_arena_get_fresh(arena, 2 * MR_SIM_ACTOR_HALF, 64);
}

bool mr_sim_actor_has_room(const struct mr_sim_actor *actor)
{
    return actor->call_count < MR_SIM_CALLS && actor->out_len < MR_SIM_ACTOR_BUFFER / 2;
}

void mr_sim_actor_send(struct mr_sim_actor *actor, int16_t key, int16_t version, const void *request,
                       uint64_t user, bool is_answered, struct mr_now now)
{
    struct mr_arena      arena;
    struct mr_span       spans[64];
    struct mr_writer     writer;
    const struct mr_api *api = mr_api_find(key);
    int32_t              correlation = actor->correlation_next++;
    mr_assert(api != NULL && mr_sim_actor_has_room(actor));
    mr_arena_init(&arena, actor->scratch + MR_SIM_ACTOR_HALF, MR_SIM_ACTOR_HALF);
    mr_writer_init(&writer, &arena, spans, 64);
    uint8_t *prefix = mr_frame_begin(&writer);
    enum mr_err err = mr_header_encode_request(&writer, api, version, correlation, mr_str(actor->ops->name));
    mr_assert(err == MR_OK);
    err = mr_msg_encode(api->request, version, request, &writer);
    mr_assert(err == MR_OK);
    err = mr_frame_end(&writer, prefix);
    mr_assert(err == MR_OK);
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.bytes <= MR_SIM_ACTOR_BUFFER - actor->out_len);
    mr_chain_copy(&chain, 0, actor->out + actor->out_len, chain.bytes);
    actor->out_len += chain.bytes;
    if (is_answered) {
        actor->calls[actor->call_count++] = (struct mr_sim_call){.correlation = correlation, .key = key,
                                                                 .version = version, .user = user,
                                                                 .sent_ns = now.mono_ns};
    }
}

/* One whole answer. */
static void take_frame(struct mr_sim_actor *actor, const uint8_t *bytes, uint32_t len, struct mr_now now)
{
    struct mr_reader reader;
    struct mr_arena  arena;
    int32_t          correlation = 0;
    uint32_t         tags = 0;
    mr_arena_init(&arena, actor->scratch, MR_SIM_ACTOR_HALF);
    mr_reader_init_bytes(&reader, bytes, len);
    if (mr_reader_int32(&reader, &correlation) != MR_OK || actor->call_count == 0 ||
        correlation != actor->calls[0].correlation) {
        mr_sim_actor_refuse(actor, "an answer to another request than the oldest", correlation);
        return;
    }
    struct mr_sim_call   call = actor->calls[0];
    const struct mr_api *api = mr_api_find(call.key);
    actor->call_count--;
    memmove(actor->calls, actor->calls + 1, actor->call_count * sizeof actor->calls[0]);
    void *response = mr_arena_get(&arena, RESPONSE_BYTES, 16);
    bool  is_tagged = mr_header_response_version(api, call.version) > 0;
    if ((is_tagged && (mr_reader_uvarint(&reader, &tags) != MR_OK || tags != 0)) ||
        mr_msg_decode(api->response, call.version, &reader, &arena, response) != MR_OK ||
        mr_reader_left(&reader) != 0) {
        mr_sim_actor_refuse(actor, "an answer that cannot be decoded", call.key);
        return;
    }
    actor->ops->answer(actor, &call, response, &arena, now);
}

void mr_sim_actor_feed(struct mr_sim_actor *actor, const void *bytes, uint32_t len, struct mr_now now)
{
    mr_assert(len <= MR_SIM_ACTOR_BUFFER - actor->in_len);
    memcpy(actor->in + actor->in_len, bytes, len);
    actor->in_len += len;
    uint32_t at = 0;
    while (actor->in_len - at >= 4 && actor->why[0] == '\0') {
        uint32_t frame = mr_load_be32(actor->in + at);
        if (frame > MR_SIM_ANSWER_MAX) {
            mr_sim_actor_refuse(actor, "an answer larger than anything asked for", frame);
            return;
        }
        if (actor->in_len - at - 4 < frame) {
            break;
        }
        take_frame(actor, actor->in + at + 4, frame, now);
        at += 4 + frame;
    }
    memmove(actor->in, actor->in + at, actor->in_len - at);
    actor->in_len -= at;
}

void mr_sim_actor_lost(struct mr_sim_actor *actor)
{
    uint32_t count = actor->call_count;
    actor->in_len = 0;
    actor->out_len = 0;
    actor->call_count = 0;
    for (uint32_t index = 0; index < count && actor->ops->lost != NULL; index++) {
        actor->ops->lost(actor, &actor->calls[index]);
    }
}

uint32_t mr_sim_actor_waiting(const struct mr_sim_actor *actor, int16_t key)
{
    uint32_t count = 0;
    for (uint32_t index = 0; index < actor->call_count; index++) {
        count += actor->calls[index].key == key;
    }
    return count;
}

void mr_sim_actor_refuse(struct mr_sim_actor *actor, const char *what, int64_t detail)
{
    if (actor->why[0] == '\0') {
        mr_fmt(actor->why, sizeof actor->why, "%s: %s (%lld)", actor->ops->name, what, (long long)detail);
    }
}

void mr_sim_actor_rest(struct mr_sim_actor *actor, struct mr_now now, uint64_t max_ns)
{
    actor->wake_ns = now.mono_ns + 1 + mr_prng_below(&actor->prng, max_ns);
}
