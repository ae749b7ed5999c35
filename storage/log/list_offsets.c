/*
 * list_offsets: the ends of a log at once; the first record at or after a time by a search (time_search.c), one
 * entry after the other.
 */
#include "log/log_walk.h"

/* False: the entry is searched for, and the operation goes on when that ends. */
static bool list(struct mr_storage_core *core, struct mr_list_offsets_op *op, struct mr_list_offsets_entry *entry)
{
    struct mr_partition *p = mr_core_find(core, entry->log_id);
    entry->offset = -1;
    entry->offset_timestamp = -1;
    entry->leader_epoch = -1;
    if (core->is_offline || (p != NULL && p->state == MR_PARTITION_OFFLINE)) {
        entry->err = MR_ERR_DIR_OFFLINE;
        return true;
    }
    if (p == NULL || p->state != MR_PARTITION_OPEN) {
        entry->err = MR_ERR_UNKNOWN_LOG;
        return true;
    }
    entry->err = mr_read_epoch_check(p, entry->current_leader_epoch);
    if (entry->err != MR_OK) {
        return true;
    }
    switch (entry->timestamp) {
    case MR_LIST_LATEST:
        entry->offset = entry->isolation == MR_READ_COMMITTED ? mr_txn_stable(p) : p->high_watermark.offset;
        entry->leader_epoch = mr_epoch_cache_latest(&p->epochs);
        return true;
    case MR_LIST_EARLIEST:
    case MR_LIST_EARLIEST_LOCAL:
        entry->offset = p->log_start;
        mr_list_offsets_found(p, entry, MR_OK);
        return true;
    case MR_LIST_LATEST_TIERED:
    case MR_LIST_EARLIEST_PENDING:
        return true; /* no tiered storage: nothing */
    default:
        if (!mr_time_search_start(core, op, p)) {
            mr_core_again(core, &op->op);
        }
        return false;
    }
}

void mr_list_offsets_found(const struct mr_partition *p, struct mr_list_offsets_entry *entry, enum mr_err err)
{
    entry->err = err;
    if (entry->isolation == MR_READ_COMMITTED && entry->timestamp != MR_LIST_EARLIEST &&
        entry->timestamp != MR_LIST_EARLIEST_LOCAL && entry->offset >= mr_txn_stable(p)) {
        entry->offset = -1; /* what is found behind the stable part is not there yet */
        entry->offset_timestamp = -1;
    }
    if (err == MR_OK && entry->offset >= 0) {
        entry->leader_epoch = mr_epoch_cache_at(&p->epochs, entry->offset);
    }
}

/* op->op.pending counts the entries that are done. */
void mr_list_offsets_continue(struct mr_storage_core *core, struct mr_list_offsets_op *op)
{
    while (op->op.pending < op->entry_count) {
        if (!list(core, op, &op->entries[op->op.pending])) {
            return;
        }
        op->op.pending++;
    }
    mr_core_answer(core, &op->op);
}

void mr_list_offsets_start(struct mr_storage_core *core, struct mr_list_offsets_op *op)
{
    op->op.pending = 0;
    mr_list_offsets_continue(core, op);
}
