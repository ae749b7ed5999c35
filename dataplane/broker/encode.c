/*
 * encode: compression.type of topics, within a budget of each turn.
 */
#include "broker/encode.h"

#include "broker/dispatch.h"
#include "data_core.h"
#include "millrace/batch.h"

#define TURN_NS     2000000u
#define ARENA_BYTES (64u << 20) /* a batch of 1 MiB at zstd's last level takes 25 MiB; touched as far as it is used */

/* At the front of a block: a span, so that the chain in the operation can point at it. */
struct kept {
    struct kept *next;
    struct mr_span span;
};

size_t mr_encode_memory(void)
{
    return ARENA_BYTES + 4096;
}

void mr_encode_init(struct mr_data_core *core, struct mr_arena *arena)
{
    mr_arena_init(&core->encode.arena, mr_arena_get_fresh(arena, ARENA_BYTES, 4096), ARENA_BYTES);
    mr_list_init(&core->encode.waiting);
}

bool mr_encode_is_over(const struct mr_data_core *core, const struct mr_log_config *config,
                       const struct mr_chain *batch)
{
    return core->encode.left_ns == 0 && mr_batch_recode_is_due(config, batch);
}

static void spend(struct mr_encode *encode, const struct mr_log_config *config, uint32_t bytes)
{
    uint64_t ns = mr_compress_cost_ns(config->compression_type, config->compression_level, bytes);
    encode->left_ns -= ns < encode->left_ns ? ns : encode->left_ns;
}

enum mr_err mr_encode_batch(struct mr_request *request, const struct mr_log_config *config,
                            const struct mr_chain *batch, struct mr_chain *out)
{
    struct mr_data_core *core = request->core;
    struct mr_encode *encode = &core->encode;
    struct mr_span anew;
    size_t got;
    mr_arena_reset(&encode->arena);
    enum mr_err err = mr_batch_recode(config, batch, &encode->arena, &anew);
    spend(encode, config, (uint32_t)encode->arena.used);
    if (err != MR_OK) {
        return err;
    }
    if (anew.len > config->max_message_bytes) {
        return MR_ERR_MESSAGE_TOO_LARGE;
    }
    struct kept *kept = mr_scratch_get(&core->scratch, sizeof *kept + anew.len, &got);
    if (kept == NULL) {
        return MR_AGAIN;
    }
    uint8_t *bytes = (uint8_t *)(kept + 1);
    memcpy(bytes, anew.data, anew.len);
    *kept = (struct kept){.next = request->encoded, .span = {.data = bytes, .len = anew.len}};
    request->encoded = kept;
    *out = (struct mr_chain){.spans = &kept->span, .span_count = 1, .bytes = anew.len};
    return MR_OK;
}

void mr_encode_wait(struct mr_request *request)
{
    mr_list_add_tail(&request->core->encode.waiting, &request->encoding);
}

void mr_encode_turn(struct mr_data_core *core)
{
    struct mr_list *link;
    core->encode.left_ns = TURN_NS;
    while (core->encode.left_ns > 0 && (link = mr_list_pop(&core->encode.waiting)) != NULL) {
        mr_handle_produce_on(MR_LIST_ENTRY(link, struct mr_request, encoding));
    }
}

void mr_encode_drop(struct mr_request *request)
{
    mr_list_remove(&request->encoding);
    while (request->encoded != NULL) {
        struct kept *kept = request->encoded;
        request->encoded = kept->next;
        mr_scratch_put(&request->core->scratch, kept);
    }
}
