#include "storage_core.h"

#include "log/clean_txn.h"

size_t mr_clean_txns_bytes(void)
{
    return MR_CLEAN_TXNS_MAX * (sizeof(struct mr_clean_txn) + 16 + 4 * sizeof(struct mr_map_slot)) + 1024;
}

void mr_clean_txns_init(struct mr_clean_txns *txns, struct mr_arena *arena)
{
    mr_pool_init(&txns->pool, arena, sizeof(struct mr_clean_txn), MR_CLEAN_TXNS_MAX, 16);
    mr_map_init(&txns->by_producer, arena, MR_CLEAN_TXNS_MAX);
    mr_list_init(&txns->list);
}

static void forget(struct mr_clean_txns *txns, struct mr_clean_txn *txn)
{
    (void)mr_map_remove(&txns->by_producer, (uint64_t)txn->producer_id);
    mr_list_remove(&txn->link);
    mr_pool_put(&txns->pool, txn);
}

void mr_clean_txns_clear(struct mr_clean_txns *txns)
{
    while (!mr_list_is_empty(&txns->list)) {
        forget(txns, MR_LIST_ENTRY(txns->list.next, struct mr_clean_txn, link));
    }
}

/* Whether a marker at or behind the batch aborts it. Each entry tells up to where all was decided when it was made: from
 * one on that reaches beyond the batch, none can concern it. */
static bool is_aborted_at(const struct mr_segment *segment, const struct mr_batch *batch)
{
    int64_t last = mr_batch_last_offset(batch);
    for (; segment != NULL; segment = mr_segment_next(segment)) {
        MR_LIST_EACH(link, &segment->aborted) {
            const struct mr_aborted *aborted = MR_LIST_ENTRY(link, struct mr_aborted, link);
            if (aborted->last_offset < last) {
                continue;
            }
            if (aborted->producer_id == batch->producer_id && aborted->first_offset <= batch->base_offset) {
                return true;
            }
            if (aborted->stable_offset > last) {
                return false;
            }
        }
    }
    return false;
}

enum mr_err mr_clean_txn_data(struct mr_clean_txns *txns, const struct mr_segment *segment,
                              const struct mr_batch *batch, bool *is_aborted)
{
    struct mr_clean_txn *txn = mr_map_find(&txns->by_producer, (uint64_t)batch->producer_id);
    if (txn == NULL) {
        txn = mr_pool_get(&txns->pool);
        if (txn == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        txn->producer_id = batch->producer_id;
        txn->is_aborted = is_aborted_at(segment, batch);
        bool is_added = mr_map_add(&txns->by_producer, (uint64_t)txn->producer_id, txn);
        mr_assert(is_added); /* it has room for as many as the pool */
        mr_list_add_tail(&txns->list, &txn->link);
    }
    *is_aborted = txn->is_aborted;
    return MR_OK;
}

static const struct mr_aborted *aborted_by(const struct mr_segment *segment, int64_t marker)
{
    MR_LIST_EACH(link, &segment->aborted) {
        const struct mr_aborted *aborted = MR_LIST_ENTRY(link, struct mr_aborted, link);
        if (aborted->last_offset == marker) {
            return aborted;
        }
    }
    return NULL;
}

bool mr_clean_txn_marker(struct mr_clean_txns *txns, const struct mr_segment *segment, const struct mr_batch *batch,
                         const uint8_t *bytes, const struct mr_aborted **aborted)
{
    struct mr_marker marker;
    *aborted = NULL;
    if (batch->record_count == 0) {
        return true; /* emptied before */
    }
    if (!mr_marker_load(bytes, mr_batch_bytes(batch), &marker)) {
        return false; /* a control batch of another kind */
    }
    struct mr_clean_txn *txn = mr_map_find(&txns->by_producer, (uint64_t)batch->producer_id);
    if (txn == NULL) {
        return true;
    }
    if (!marker.is_commit && txn->is_aborted) {
        *aborted = aborted_by(segment, batch->base_offset);
    }
    forget(txns, txn);
    return false;
}
