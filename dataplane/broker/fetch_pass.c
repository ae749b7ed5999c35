#include "broker/fetch_steps.h"
#include "data_core.h"

#define SPANS_MAX 8192u

void mr_fetch_pass_end(struct mr_fetch *fetch)
{
    struct mr_data_core *core = fetch->request->core;
    if (fetch->lents != NULL) {
        mr_data_core_release(core, fetch->lents);
    }
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link)->entry = NULL;
    }
    fetch->lents = NULL;
    if (fetch->block != NULL) {
        mr_scratch_put(&core->scratch, fetch->block);
        core->has_room = true;
    }
    fetch->block = NULL;
}

/* Aborted transactions that one answer can name. */
static uint32_t aborted_room(const struct mr_fetch *fetch)
{
    return fetch->isolation == MR_READ_COMMITTED ? MR_ABORTED_ROOM : 0;
}

/* What a pass is going to read. */
struct plan {
    uint32_t reads;   /* partitions that have a log */
    uint32_t answers; /* partitions that the answer may name */
    uint64_t bytes;   /* that they may return together */
};

static struct plan make_plan(struct mr_fetch *fetch)
{
    struct plan plan = {0};
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        const struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        fetch->request->core->stats.fetch_visits++;
        plan.answers++;
        if (partition->log_id != 0) {
            plan.reads++;
            plan.bytes += partition->bytes_max > 0 ? (uint32_t)partition->bytes_max : 0;
        }
    }
    plan.answers = fetch->is_full ? fetch->set->count : plan.answers;
    plan.bytes = plan.bytes < fetch->bytes_max ? plan.bytes : fetch->bytes_max;
    return plan;
}

/* One block for the pass and its answer. The entries of the reads, NULL: no memory now. */
static struct mr_read_entry *reserve(struct mr_fetch *fetch, const struct plan *plan)
{
    struct mr_scratch *scratch = &fetch->request->core->scratch;
    uint32_t core_count = fetch->request->core->endpoints->storage_count;
    uint64_t spans = plan->bytes / 4096 + 4ull * plan->reads + 16;
    fetch->span_max = spans < SPANS_MAX ? (uint32_t)spans : SPANS_MAX;
    fetch->copy_max = plan->reads < 32 ? plan->reads * 2048 : 65536;
    size_t bytes = sizeof(struct mr_read_op) * core_count + sizeof(struct mr_lent) * core_count +
                   sizeof(struct mr_read_entry) * plan->reads + fetch->copy_max +
                   fetch->span_max * (sizeof(struct mr_lent_span) + 3 * sizeof(struct mr_span)) +
                   aborted_room(fetch) * (sizeof(struct mr_aborted_range) +
                                          2 * sizeof(struct mr_fetch_response_aborted_transaction)) +
                   plan->answers * (sizeof(struct mr_fetch_response_partition_data) +
                                    sizeof(struct mr_fetch_response_fetchable_topic_response) +
                                    2 * sizeof(struct mr_span) + MR_TOPIC_NAME_MAX + 160) +
                   4096;
    size_t got;
    fetch->block = mr_scratch_get(scratch, bytes, &got);
    if (fetch->block == NULL) {
        return NULL;
    }
    mr_arena_init(&fetch->arena, fetch->block, got);
    fetch->ops = MR_ARENA_TRY(&fetch->arena, struct mr_read_op, core_count);
    struct mr_read_entry *entries = MR_ARENA_TRY(&fetch->arena, struct mr_read_entry, plan->reads);
    fetch->spans = MR_ARENA_TRY(&fetch->arena, struct mr_lent_span, fetch->span_max);
    fetch->copies = MR_ARENA_TRY(&fetch->arena, uint8_t, fetch->copy_max);
    fetch->aborted = MR_ARENA_TRY(&fetch->arena, struct mr_aborted_range, aborted_room(fetch));
    mr_assert(fetch->ops != NULL && entries != NULL && fetch->spans != NULL);
    memset(fetch->ops, 0, sizeof *fetch->ops * core_count);
    return entries;
}

/* Each core gets its part of the entries, in the order of the partitions. */
static void deal_out(struct mr_fetch *fetch, struct mr_read_entry *entries)
{
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        const struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        if (partition->log_id != 0) {
            fetch->ops[partition->storage_core].entry_count++;
        }
    }
    for (uint32_t at = 0; at < fetch->request->core->endpoints->storage_count; at++) {
        fetch->ops[at].entries = entries;
        entries += fetch->ops[at].entry_count;
        fetch->ops[at].entry_count = 0;
    }
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        partition->entry = NULL;
        if (partition->log_id == 0) {
            fetch->is_any_error = true;
            continue;
        }
        struct mr_read_op *op = &fetch->ops[partition->storage_core];
        partition->entry = &op->entries[op->entry_count++];
        *partition->entry = (struct mr_read_entry){
            .log_id = partition->log_id,
            .offset = partition->offset,
            .bytes_max = partition->bytes_max > 0 ? (uint32_t)partition->bytes_max : 0,
            .current_leader_epoch = partition->leader_epoch,
            .is_first_batch_whole = true,
        };
    }
}

enum mr_err mr_fetch_pass_begin(struct mr_fetch *fetch)
{
    struct plan plan = make_plan(fetch);
    struct mr_read_entry *entries = reserve(fetch, &plan);
    if (entries == NULL) {
        return MR_AGAIN;
    }
    fetch->aborted_used = 0;
    fetch->span_count = 0;
    fetch->copy_used = 0;
    fetch->bytes = 0;
    fetch->next_core = 0;
    fetch->is_any_error = false;
    fetch->lents = NULL;
    deal_out(fetch, entries);
    fetch->is_reading = true;
    mr_relief_reading(fetch);
    return MR_OK;
}

void mr_fetch_pass_take(struct mr_fetch *fetch)
{
    if (fetch->next_core == 0) {
        return;
    }
    struct mr_read_op *op = &fetch->ops[fetch->next_core - 1];
    fetch->span_count += op->span_count;
    fetch->copy_used += op->copy_used;
    fetch->aborted_used += op->aborted_count;
    for (uint32_t at = 0; at < op->entry_count; at++) {
        fetch->is_any_error |= op->entries[at].err != MR_OK;
        fetch->bytes += op->entries[at].err == MR_OK ? op->entries[at].bytes : 0;
    }
    if (op->span_count > 0) {
        struct mr_lent *lent = MR_ARENA_TRY(&fetch->arena, struct mr_lent, 1);
        mr_assert(lent != NULL);
        *lent = (struct mr_lent){.next = fetch->lents,
                                 .spans = op->spans,
                                 .span_count = op->span_count,
                                 .storage_core = fetch->next_core - 1};
        fetch->lents = lent;
    }
}

bool mr_fetch_pass_ask(struct mr_fetch *fetch)
{
    uint32_t core_count = fetch->request->core->endpoints->storage_count;
    mr_fetch_pass_take(fetch);
    while (fetch->next_core < core_count && fetch->ops[fetch->next_core].entry_count == 0) {
        fetch->next_core++;
    }
    if (fetch->next_core == core_count) {
        return false;
    }
    struct mr_read_op *op = &fetch->ops[fetch->next_core];
    op->op.kind = MR_STORAGE_READ;
    op->bytes_max = fetch->bytes < fetch->bytes_max ? fetch->bytes_max - fetch->bytes : 0;
    op->isolation = fetch->isolation;
    op->spans = fetch->spans + fetch->span_count;
    op->span_max = fetch->span_max - fetch->span_count;
    op->copy_buffer = fetch->copies + fetch->copy_used;
    op->copy_max = fetch->copy_max - fetch->copy_used;
    op->aborted = fetch->aborted + fetch->aborted_used;
    op->aborted_max = aborted_room(fetch) - fetch->aborted_used;
    for (uint32_t at = 0; fetch->bytes > 0 && at < op->entry_count; at++) {
        op->entries[at].is_first_batch_whole = false;
    }
    mr_request_storage(fetch->request, fetch->next_core++, &op->op);
    return true;
}

void mr_fetch_pass_settle(struct mr_fetch *fetch)
{
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        const struct mr_read_entry *entry = partition->entry;
        if (entry == NULL || entry->err != MR_OK) {
            continue;
        }
        partition->high_watermark = entry->high_watermark;
        partition->last_stable_offset = entry->last_stable_offset;
        partition->log_start = entry->log_start_offset;
    }
}

bool mr_fetch_is_any_missed(const struct mr_fetch *fetch)
{
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        const struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        if (partition->entry == NULL && partition->log_id != 0) {
            return true;
        }
    }
    return false;
}

/* The end that this reader sees of what was read. */
static int64_t end_for(const struct mr_fetch *fetch, const struct mr_read_entry *entry)
{
    return fetch->isolation == MR_READ_COMMITTED ? entry->last_stable_offset : entry->high_watermark;
}

/* Whether there is something to read that found no room beside the others. */
static bool is_left_out(const struct mr_fetch *fetch, const struct mr_fetch_partition *partition)
{
    const struct mr_read_entry *entry = partition->entry;
    if (entry == NULL || entry->err != MR_OK || entry->bytes > 0 || fetch->bytes == 0) {
        return false;
    }
    return partition->offset < end_for(fetch, entry);
}

bool mr_fetch_is_any_left_out(const struct mr_fetch *fetch)
{
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        if (is_left_out(fetch, MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link))) {
            return true;
        }
    }
    return false;
}

bool mr_fetch_is_unsaid(const struct mr_fetch_partition *partition)
{
    return partition->high_watermark != partition->told_high_watermark ||
           partition->log_start != partition->told_log_start;
}

bool mr_fetch_watch_all(struct mr_fetch *fetch)
{
    bool is_all = true;
    MR_LIST_EACH_SAFE(link, after, &fetch->set->dirty)
    {
        struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        const struct mr_read_entry *entry = partition->entry;
        if (entry == NULL || entry->err != MR_OK || is_left_out(fetch, partition)) {
            continue; /* what was left out stays dirty: the next fetch reads it, moved or not */
        }
        bool is_armed = mr_watch_arm(fetch->request->core, partition, end_for(fetch, entry),
                                     fetch->isolation);
        is_all &= is_armed;
        /* An incremental answer is made of the dirty ones: what is unsaid stays among them. */
        bool is_news = !fetch->is_full && mr_fetch_is_unsaid(partition);
        if (is_armed && entry->bytes == 0 && !is_news) {
            partition->entry = NULL;
            mr_list_remove(&partition->dirty_link);
        }
    }
    return is_all;
}
