/*
 * clean_keys: phases CLEAR and MAP of the cleaner: of each key in the dirty part the newest offset. Where the map is full,
 * the dirty part ends for this round.
 */
#include "log/cleaner.h"

#define CLEAR_SLOTS (64u << 10) /* of the map in one turn: 1.5 MiB */

struct put {
    struct mr_cleaner *c;
    bool               is_full;
};

static bool put_record(void *context, const struct mr_record *record)
{
    struct put *put = context;
    if (record->offset >= put->c->first_dirty && record->key.len >= 0 &&
        !mr_clean_map_put(&put->c->map, record->key, record->offset)) {
        put->c->end = record->offset;
        put->is_full = true;
        return false;
    }
    return true;
}

/* *is_full: the map has no room for all of it; c->end is where the first record without room is. */
static enum mr_err map_batch(struct mr_cleaner *c, const struct mr_batch *batch, const uint8_t *bytes, bool *is_full)
{
    struct put put = {.c = c};
    bool       is_aborted = false;
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        const struct mr_aborted *aborted;
        (void)mr_clean_txn_marker(&c->txns, c->source, batch, bytes, &aborted);
        return MR_OK;
    }
    if ((batch->attributes & MR_BATCH_TRANSACTIONAL) != 0) {
        enum mr_err err = mr_clean_txn_data(&c->txns, c->source, batch, &is_aborted);
        if (err != MR_OK) {
            return err;
        }
    }
    if (is_aborted || mr_batch_last_offset(batch) < c->first_dirty) {
        return MR_OK;
    }
    enum mr_err err = mr_clean_batch_walk(bytes, mr_batch_bytes(batch), &c->scratch, put_record, &put);
    *is_full = put.is_full;
    return err;
}

static enum mr_clean_progress take(struct mr_storage_core *core, struct mr_cleaner *c, const struct mr_batch *batch,
                                   const uint8_t *bytes)
{
    bool is_full = false;
    if (map_batch(c, batch, bytes, &is_full) != MR_OK) {
        return mr_clean_source_bad(core, c, "a batch cannot be read");
    }
    mr_clean_source_took(c, batch);
    if (is_full) {
        c->source_at = MR_CLEAN_OVER;
        c->source_end = c->end;
    }
    return MR_CLEAN_ON;
}

static enum mr_clean_progress over(struct mr_cleaner *c)
{
    mr_clean_txns_clear(&c->txns);
    c->group_base = mr_segment_find(c->p, c->p->log_start)->base;
    return mr_cleaner_phase(c, MR_CLEAN_GROUP);
}

enum mr_clean_progress mr_clean_keys(struct mr_storage_core *core, struct mr_cleaner *c)
{
    static const struct mr_clean_pass pass = {.take = take, .over = over};
    return mr_clean_source_step(core, c, &pass);
}

enum mr_clean_progress mr_clean_clear(struct mr_cleaner *c)
{
    if (!mr_clean_map_clear(&c->map, CLEAR_SLOTS)) {
        return MR_CLEAN_WAIT;
    }
    mr_clean_map_begin(&c->map, (uint64_t)(c->upper - c->first_dirty));
    c->end = c->upper;
    bool is_begun = mr_clean_source_begin(c, mr_segment_find(c->p, c->first_dirty), c->upper);
    return is_begun ? mr_cleaner_phase(c, MR_CLEAN_MAP) : mr_cleaner_undo(c, false);
}
