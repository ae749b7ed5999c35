/*
 * log_ops: operations that need no file: ends of epochs, configuration, sizes, DeleteRecords.
 */
#include "log/log_walk.h"

#include "millrace/base/bug.h"

static struct mr_partition *find_open(struct mr_storage_core *core, uint64_t log_id, enum mr_err *err)
{
    struct mr_partition *p = mr_core_find(core, log_id);
    *err = core->is_offline || core->is_stopped                    ? MR_ERR_DIR_OFFLINE
           : p == NULL                                             ? MR_ERR_UNKNOWN_LOG
           : p->state == MR_PARTITION_OFFLINE                      ? MR_ERR_DIR_OFFLINE
           : p->state != MR_PARTITION_OPEN                         ? MR_ERR_UNKNOWN_LOG
                                                                   : MR_OK;
    return *err == MR_OK ? p : NULL;
}

void mr_epoch_end_start(struct mr_storage_core *core, struct mr_epoch_end_op *op)
{
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_epoch_end_entry *entry = &op->entries[index];
        entry->end_epoch = -1;
        entry->end_offset = -1;
        struct mr_partition *p = find_open(core, entry->log_id, &entry->err);
        if (p == NULL) {
            continue;
        }
        entry->err = mr_read_epoch_check(p, entry->current_leader_epoch);
        if (entry->err == MR_OK) {
            mr_epoch_cache_end(&p->epochs, entry->leader_epoch, p->high_watermark.offset, &entry->end_epoch,
                               &entry->end_offset);
        }
    }
    mr_core_answer(core, &op->op);
}

void mr_txn_check_start(struct mr_storage_core *core, struct mr_txn_check_op *op)
{
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_txn_check_entry *entry = &op->entries[index];
        struct mr_partition       *p = find_open(core, entry->log_id, &entry->err);
        entry->guard = 0;
        if (p != NULL) {
            entry->err = mr_txn_allow(core, p, entry);
        }
    }
    mr_core_answer(core, &op->op);
}

void mr_producers_start(struct mr_storage_core *core, struct mr_producers_op *op)
{
    struct mr_partition *p = find_open(core, op->log_id, &op->op.err);
    op->info_count = 0;
    if (p != NULL) {
        MR_LIST_EACH(link, &p->producers.list) {
            const struct mr_producer *producer = MR_LIST_ENTRY(link, struct mr_producer, of_log);
            if (op->info_count == op->info_max) {
                break;
            }
            op->infos[op->info_count++] = (struct mr_producer_info){
                .producer_id = producer->id,
                .producer_epoch = producer->epoch,
                .coordinator_epoch = producer->coordinator_epoch,
                .last_timestamp = producer->last_timestamp,
                .txn_first_offset = producer->txn_first_offset,
                .last_sequence = producer->batch_count == 0
                                     ? -1
                                     : producer->batches[producer->batch_count - 1].last_sequence,
            };
        }
    }
    mr_core_answer(core, &op->op);
}

void mr_configure_start(struct mr_storage_core *core, struct mr_configure_op *op)
{
    struct mr_partition *p = find_open(core, op->log_id, &op->op.err);
    if (p != NULL) {
        mr_partition_configure(p, op->config);
        if (op->leader_epoch > p->leader_epoch) {
            p->leader_epoch = op->leader_epoch;
        }
    }
    mr_core_answer(core, &op->op);
}

/* The file system is asked when the last answer is older. */
#define STAT_AGE_NS MR_NS_PER_S

void mr_log_stat_start(struct mr_storage_core *core, struct mr_log_stat_op *op)
{
    if (!core->is_offline && core->now.mono_ns >= core->space_asked_ns + STAT_AGE_NS) {
        mr_list_add_tail(&core->stat_waiting, &op->op.link);
        mr_space_ask(core);
        return;
    }
    mr_log_stat_answer(core, op);
}

void mr_log_stat_answer(struct mr_storage_core *core, struct mr_log_stat_op *op)
{
    for (uint32_t index = 0; index < op->entry_count; index++) {
        struct mr_log_stat_entry *entry = &op->entries[index];
        struct mr_partition      *p = find_open(core, entry->log_id, &entry->err);
        entry->size_bytes = 0;
        if (p == NULL) {
            continue;
        }
        entry->size_bytes = mr_partition_bytes(p);
        entry->log_start_offset = p->log_start;
        entry->log_end_offset = p->end.offset;
        entry->high_watermark = p->high_watermark.offset;
    }
    op->space_total_bytes = core->space_total;
    op->space_free_bytes = core->space_free;
    mr_core_answer(core, &op->op);
}

/* MR_AGAIN: no room in the journal now; *seq: what the answer waits for. */
static enum mr_err delete_records(struct mr_storage_core *core, struct mr_delete_records_entry *entry, uint64_t *seq)
{
    enum mr_err          err;
    struct mr_partition *p = find_open(core, entry->log_id, &err);
    if (p == NULL) {
        return err;
    }
    if (p->is_held) {
        return MR_ERR_NOT_LEADER;
    }
    bool    is_all = entry->offset == -1 || mr_bug("start-at-the-watermark");
    int64_t offset = is_all ? p->high_watermark.offset : entry->offset;
    if (offset < 0 || offset > p->high_watermark.offset) {
        return MR_ERR_OFFSET_OUT_OF_RANGE;
    }
    if (!p->config.is_cleanup_delete) {
        return MR_ERR_POLICY_VIOLATION;
    }
    if (offset > p->log_start && !mr_bug("ignore-delete-records")) {
        struct mr_journal_entry start = {.kind = MR_JOURNAL_LOG_START, .offset = offset};
        err = mr_journal_add(core->journal, &p->jlog, &start, NULL, seq);
        if (err != MR_OK) {
            return err;
        }
        mr_partition_log_start(core, p, offset, *seq);
    }
    /* Also when it starts there already: whoever asked before may wait for that entry still. */
    *seq = p->log_start_seq > *seq ? p->log_start_seq : *seq;
    entry->low_watermark = p->log_start;
    return MR_OK;
}

void mr_delete_records_start(struct mr_storage_core *core, struct mr_delete_records_op *op)
{
    op->op.pending = 0;
    op->op.seq = 0;
    for (uint32_t index = 0; index < op->entry_count; index++) {
        op->entries[index].low_watermark = -1;
    }
    mr_delete_records_continue(core, op);
}

/* op->op.pending counts the entries that are done, op->op.seq is the last LOG_START. */
void mr_delete_records_continue(struct mr_storage_core *core, struct mr_delete_records_op *op)
{
    for (; op->op.pending < op->entry_count; op->op.pending++) {
        struct mr_delete_records_entry *entry = &op->entries[op->op.pending];
        entry->err = delete_records(core, entry, &op->op.seq);
        if (entry->err == MR_AGAIN) {
            mr_core_again(core, &op->op);
            return;
        }
    }
    if (op->op.seq == 0) {
        mr_core_answer(core, &op->op);
    } else {
        mr_core_ack_later(core, &op->op, op->op.seq, false);
    }
}
