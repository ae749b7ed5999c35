/*
 * txn_state: begin, decide, read back. The .txnindex files are txn_index.c's.
 */
#include "storage_core.h"

#include "millrace/base/bug.h"

#define OPEN_MAX    1000u /* in one log, when the plan says nothing */
#define ABORTED_MAX 65536u

static uint32_t open_max(const struct mr_storage_plan *plan)
{
    return plan->txns_open_max != 0 ? plan->txns_open_max : OPEN_MAX;
}

static uint32_t txn_count(const struct mr_storage_plan *plan)
{
    return plan->producers_max / 2 + open_max(plan);
}

static uint32_t aborted_count(const struct mr_storage_plan *plan)
{
    return plan->aborted_max != 0 ? plan->aborted_max : ABORTED_MAX;
}

size_t mr_txn_pools_bytes(const struct mr_storage_plan *plan)
{
    return (sizeof(struct mr_txn) + 16) * (size_t)txn_count(plan) +
           (sizeof(struct mr_txn_guard) + 16) * (size_t)MR_TXN_GUARDS_MAX +
           (sizeof(struct mr_aborted) + 16) * (size_t)aborted_count(plan) + 256;
}

void mr_txn_pools_init(struct mr_txn_pools *pools, struct mr_arena *arena, const struct mr_storage_plan *plan)
{
    *pools = (struct mr_txn_pools){.open_max = open_max(plan)};
    mr_pool_init(&pools->txns, arena, sizeof(struct mr_txn), txn_count(plan), 16);
    mr_pool_init(&pools->guards, arena, sizeof(struct mr_txn_guard), MR_TXN_GUARDS_MAX, 16);
    mr_pool_init(&pools->aborted, arena, sizeof(struct mr_aborted), aborted_count(plan), 16);
    mr_list_init(&pools->guards_by_age);
}

void mr_txns_init(struct mr_txns *txns)
{
    *txns = (struct mr_txns){0};
    mr_list_init(&txns->undecided);
    mr_list_init(&txns->guards);
}

void mr_txn_end(struct mr_storage_core *core, struct mr_txns *txns, struct mr_txn *txn)
{
    mr_list_remove(&txn->link);
    mr_pool_put(&core->txns.txns, txn);
    txns->undecided_count--;
}

static void guard_end(struct mr_storage_core *core, struct mr_txn_guard *guard)
{
    mr_list_remove(&guard->link);
    mr_list_remove(&guard->by_age);
    mr_pool_put(&core->txns.guards, guard);
}

void mr_txns_clear(struct mr_storage_core *core, struct mr_partition *p)
{
    while (!mr_list_is_empty(&p->txns.undecided)) {
        mr_txn_end(core, &p->txns, MR_LIST_ENTRY(p->txns.undecided.next, struct mr_txn, link));
    }
    while (!mr_list_is_empty(&p->txns.guards)) {
        guard_end(core, MR_LIST_ENTRY(p->txns.guards.next, struct mr_txn_guard, link));
    }
}

bool mr_txn_begin(struct mr_storage_core *core, struct mr_txns *txns, int64_t producer_id, int64_t first_offset)
{
    struct mr_txn *txn = mr_pool_get(&core->txns.txns);
    if (txn == NULL) {
        return false;
    }
    *txn = (struct mr_txn){.producer_id = producer_id, .first_offset = first_offset, .last_offset = -1};
    struct mr_list *after = txns->undecided.prev;
    while (after != &txns->undecided && MR_LIST_ENTRY(after, struct mr_txn, link)->first_offset > first_offset) {
        after = after->prev;
    }
    mr_list_init(&txn->link);
    mr_list_add_head(after, &txn->link);
    txns->undecided_count++;
    return true;
}

bool mr_txns_rebuild(struct mr_storage_core *core, struct mr_partition *p)
{
    mr_txns_clear(core, p);
    MR_LIST_EACH(link, &p->producers.list) {
        const struct mr_producer *producer = MR_LIST_ENTRY(link, struct mr_producer, of_log);
        if (producer->txn_first_offset >= 0 && !mr_txn_begin(core, &p->txns, producer->id, producer->txn_first_offset)) {
            return false;
        }
    }
    return true;
}

/* ---- The stable part ---- */

int64_t mr_txn_stable(const struct mr_partition *p)
{
    int64_t stable = p->high_watermark.offset;
    if (!mr_list_is_empty(&p->txns.undecided) && !mr_bug("read-uncommitted")) {
        int64_t first = MR_LIST_ENTRY(p->txns.undecided.next, struct mr_txn, link)->first_offset;
        first = first < p->log_start ? p->log_start : first; /* DeleteRecords may pass it by */
        stable = first < stable ? first : stable;
    }
    return stable;
}

void mr_txn_seen(struct mr_storage_core *core, struct mr_partition *p)
{
    MR_LIST_EACH_SAFE(link, after, &p->txns.undecided) {
        struct mr_txn *txn = MR_LIST_ENTRY(link, struct mr_txn, link);
        if (txn->last_offset >= 0 && txn->last_offset < p->high_watermark.offset) {
            mr_txn_end(core, &p->txns, txn);
        }
    }
}

/* ---- Guards ---- */

static bool is_open(const struct mr_producer *producer, int16_t epoch)
{
    return producer != NULL && producer->txn_first_offset >= 0 && producer->epoch == epoch;
}

static struct mr_txn_guard *guard_find(const struct mr_partition *p, int64_t producer_id)
{
    MR_LIST_EACH(link, &p->txns.guards) {
        struct mr_txn_guard *guard = MR_LIST_ENTRY(link, struct mr_txn_guard, link);
        if (guard->producer_id == producer_id) {
            return guard;
        }
    }
    return NULL;
}

static struct mr_txn_guard *guard_new(struct mr_storage_core *core, struct mr_partition *p,
                                      const struct mr_txn_check_entry *entry)
{
    struct mr_txn_pools *pools = &core->txns;
    struct mr_txn_guard *guard = mr_pool_try(&pools->guards, MR_FAIL_guards);
    if (guard == NULL) {
        guard_end(core, MR_LIST_ENTRY(pools->guards_by_age.next, struct mr_txn_guard, by_age));
        guard = mr_pool_get(&pools->guards);
    }
    *guard = (struct mr_txn_guard){.token = ++pools->token,
                                   .producer_id = entry->producer_id,
                                   .epoch = entry->producer_epoch,
                                   .lowest_sequence = entry->base_sequence,
                                   .is_strict = entry->is_strict};
    mr_list_init(&guard->link);
    mr_list_init(&guard->by_age);
    mr_list_add_tail(&p->txns.guards, &guard->link);
    mr_list_add_tail(&pools->guards_by_age, &guard->by_age);
    return guard;
}

/* The key of the limit that keeps one more transaction out; NULL: none. */
static const char *lacking(const struct mr_txn_pools *pools, const struct mr_partition *p)
{
    if (pools->aborted.used + pools->txns.used >= pools->aborted.capacity) {
        return "millrace.transactions.aborted.max";
    }
    if (p->txns.undecided_count >= pools->open_max) {
        return "millrace.transactions.open.max";
    }
    return pools->txns.used >= pools->txns.capacity || mr_fail(MR_FAIL_txns) ? "millrace.producers.max" : NULL;
}

/*
 * Whether one more transaction may begin: there is room for it, and for its abort. Whoever is in has that for sure, so that
 * a marker never waits; others wait, until segments go that have aborted ones.
 */
static bool has_room(struct mr_storage_core *core, const struct mr_partition *p)
{
    struct mr_txn_pools *pools = &core->txns;
    const char          *limit = lacking(pools, p);
    if (limit != NULL && mr_log_may(&pools->brake, core->now.mono_ns, MR_NS_PER_S)) {
        mr_log(core->log, MR_LOG_WARN, "no room for more transactions: new ones wait dir=%s limit=%s", p->dir_name, limit);
    }
    return limit == NULL;
}

enum mr_err mr_txn_allow(struct mr_storage_core *core, struct mr_partition *p, struct mr_txn_check_entry *entry)
{
    const struct mr_producer *producer = mr_producer_find(&core->producers, &p->producers, entry->producer_id);
    entry->guard = 0;
    if (is_open(producer, entry->producer_epoch)) {
        return MR_OK;
    }
    if (producer != NULL && producer->epoch > entry->producer_epoch && !mr_bug("serve-zombies")) {
        return MR_ERR_INVALID_PRODUCER_EPOCH;
    }
    if (!has_room(core, p)) {
        return MR_ERR_TXN_LIMIT;
    }
    struct mr_txn_guard *guard = guard_find(p, entry->producer_id);
    if (guard != NULL && guard->epoch != entry->producer_epoch) {
        guard_end(core, guard);
        guard = NULL;
    }
    guard = guard == NULL ? guard_new(core, p, entry) : guard;
    if (entry->base_sequence < guard->lowest_sequence) {
        guard->lowest_sequence = entry->base_sequence;
    }
    entry->guard = guard->token;
    return MR_OK;
}

enum mr_err mr_txn_check_data(struct mr_storage_core *core, struct mr_partition *p,
                              const struct mr_append_entry *entry, const struct mr_batch *batch)
{
    const struct mr_producer *producer = mr_producer_find(&core->producers, &p->producers, batch->producer_id);
    if (is_open(producer, batch->producer_epoch) || mr_bug("unguarded")) {
        return MR_OK;
    }
    if (producer != NULL && producer->epoch > batch->producer_epoch && !mr_bug("serve-zombies")) {
        return MR_ERR_INVALID_PRODUCER_EPOCH;
    }
    const struct mr_txn_guard *guard = guard_find(p, batch->producer_id);
    if (guard == NULL || guard->token != entry->guard || guard->epoch != batch->producer_epoch) {
        return MR_ERR_INVALID_TXN_STATE;
    }
    if (!has_room(core, p)) {
        return MR_ERR_TXN_LIMIT;
    }
    if (batch->base_sequence > guard->lowest_sequence ||
        (guard->is_strict && producer == NULL && batch->base_sequence != 0)) {
        return MR_ERR_OUT_OF_ORDER_SEQUENCE;
    }
    return MR_OK;
}

/* ---- Markers ---- */

static bool marker_of(const struct mr_append_entry *entry, struct mr_marker *marker)
{
    uint8_t scratch[2 * MR_MARKER_BYTES_MAX];
    return entry->batch.bytes <= sizeof scratch &&
           mr_marker_load(mr_chain_view(&entry->batch, 0, entry->batch.bytes, scratch), entry->batch.bytes, marker);
}

enum mr_err mr_txn_check_marker(struct mr_storage_core *core, struct mr_partition *p,
                                const struct mr_append_entry *entry, const struct mr_batch *batch)
{
    const struct mr_producer *producer = mr_producer_find(&core->producers, &p->producers, batch->producer_id);
    struct mr_marker          marker;
    if (!marker_of(entry, &marker)) {
        return MR_ERR_INVALID_RECORD;
    }
    if (producer == NULL) {
        return MR_OK;
    }
    bool is_newer = batch->producer_epoch > producer->epoch;
    bool is_same = batch->producer_epoch == producer->epoch;
    bool is_repeat = is_same && (producer->txn_first_offset < 0 || batch->producer_epoch == INT16_MAX);
    if (!is_newer && !(entry->txn_version >= 2 ? is_repeat : is_same)) {
        return MR_ERR_INVALID_PRODUCER_EPOCH;
    }
    if (marker.coordinator_epoch < producer->coordinator_epoch) {
        return MR_ERR_COORDINATOR_FENCED;
    }
    bool is_full = core->txns.aborted.used == core->txns.aborted.capacity || mr_fail(MR_FAIL_aborted);
    bool is_short = !marker.is_commit && is_full;
    return is_short ? MR_ERR_NO_MEMORY : MR_OK; /* for a moment: the cleaner has copies */
}

enum mr_err mr_txn_check_copy(struct mr_storage_core *core, struct mr_partition *p,
                              const struct mr_append_entry *entry, const struct mr_batch *batch)
{
    struct mr_marker marker;
    if ((batch->attributes & MR_BATCH_CONTROL) != 0) {
        bool is_short = marker_of(entry, &marker) && !marker.is_commit &&
                        core->txns.aborted.used == core->txns.aborted.capacity;
        return is_short ? MR_ERR_NO_MEMORY : MR_OK;
    }
    const struct mr_producer *producer = mr_producer_find(&core->producers, &p->producers, batch->producer_id);
    bool is_begin = (batch->attributes & MR_BATCH_TRANSACTIONAL) != 0 &&
                    (producer == NULL || producer->txn_first_offset < 0);
    return is_begin && !has_room(core, p) ? MR_ERR_TXN_LIMIT : MR_OK;
}

/* What a marker at `offset` aborts. False: no transaction of the producer is open. */
static bool aborts(const struct mr_storage_core *core, const struct mr_partition *p, int64_t producer_id,
                   int64_t offset, struct mr_aborted *aborted)
{
    const struct mr_producer *producer = mr_producer_find(&core->producers, &p->producers, producer_id);
    if (producer == NULL || producer->txn_first_offset < 0) {
        return false;
    }
    *aborted = (struct mr_aborted){.producer_id = producer_id,
                                   .first_offset = producer->txn_first_offset,
                                   .last_offset = offset,
                                   .stable_offset = offset + 1};
    MR_LIST_EACH(link, &p->txns.undecided) {
        const struct mr_txn *txn = MR_LIST_ENTRY(link, struct mr_txn, link);
        if (txn->last_offset < 0 && txn->producer_id != producer_id) {
            aborted->stable_offset = txn->first_offset;
            break;
        }
    }
    return true;
}

enum mr_err mr_txn_journal(struct mr_storage_core *core, struct mr_partition *p, const struct mr_append_entry *entry,
                           const struct mr_batch *batch)
{
    struct mr_marker  marker;
    struct mr_aborted aborted;
    uint8_t           bytes[MR_ABORTED_ENTRY];
    if (!marker_of(entry, &marker) || marker.is_commit ||
        !aborts(core, p, batch->producer_id, batch->base_offset, &aborted)) {
        return MR_OK;
    }
    mr_aborted_store(&aborted, bytes);
    struct mr_journal_entry   head = {.kind = MR_JOURNAL_ABORTED,
                                      .offset = aborted.first_offset,
                                      .last_offset = aborted.last_offset,
                                      .segment_base = p->active->base};
    struct mr_journal_payload payload = {.prefix = bytes, .prefix_bytes = sizeof bytes, .bytes = UINT32_MAX};
    uint64_t                  seq = 0;
    enum mr_err               err = mr_journal_add(core->journal, &p->jlog, &head, &payload, &seq);
    if (err == MR_OK) {
        mr_demux_note_dirty(core, p, seq);
    }
    return err;
}

static void data_appended(struct mr_storage_core *core, struct mr_partition *p, const struct mr_batch *batch)
{
    struct mr_txn_guard *guard = guard_find(p, batch->producer_id);
    mr_producer_update(&core->producers, &p->producers, batch);
    const struct mr_producer *producer = mr_producer_find(&core->producers, &p->producers, batch->producer_id);
    if (guard != NULL) {
        guard_end(core, guard);
    }
    if (producer->txn_first_offset == batch->base_offset) {
        bool is_begun = mr_txn_begin(core, &p->txns, batch->producer_id, batch->base_offset);
        mr_assert(is_begun); /* asked for before the batch got its offset */
    }
}

void mr_txn_appended(struct mr_storage_core *core, struct mr_partition *p, const struct mr_append_entry *entry,
                     const struct mr_batch *batch)
{
    struct mr_marker marker;
    if ((batch->attributes & MR_BATCH_CONTROL) == 0) {
        data_appended(core, p, batch);
        return;
    }
    if (!marker_of(entry, &marker)) {
        return;
    }
    struct mr_aborted    aborted;
    bool                 is_open_now = aborts(core, p, batch->producer_id, batch->base_offset, &aborted);
    struct mr_txn_guard *guard = guard_find(p, batch->producer_id);
    if (is_open_now && !marker.is_commit && !mr_bug("forget-aborted")) {
        enum mr_err err = mr_aborted_add(core, p->active, &aborted);
        mr_assert(err == MR_OK); /* asked for before */
    }
    if (guard != NULL) {
        guard_end(core, guard);
    }
    (void)mr_producer_end_txn(&core->producers, &p->producers, batch, marker.coordinator_epoch);
    MR_LIST_EACH(link, &p->txns.undecided) {
        struct mr_txn *txn = MR_LIST_ENTRY(link, struct mr_txn, link);
        if (txn->producer_id == batch->producer_id && txn->last_offset < 0) {
            txn->last_offset = batch->base_offset;
            break;
        }
    }
}

/* ---- Recovery ---- */

bool mr_txn_replay(struct mr_storage_core *core, struct mr_partition *p, const struct mr_batch *batch,
                   const uint8_t *bytes, struct mr_aborted *aborted)
{
    struct mr_marker marker;
    if ((batch->attributes & MR_BATCH_CONTROL) == 0) {
        mr_producer_update(&core->producers, &p->producers, batch);
        return false;
    }
    if (bytes == NULL || !mr_marker_load(bytes, mr_batch_bytes(batch), &marker)) {
        return false;
    }
    int64_t first =
        mr_producer_end_txn(&core->producers, &p->producers, batch, marker.coordinator_epoch);
    *aborted = (struct mr_aborted){.producer_id = batch->producer_id,
                                   .first_offset = first,
                                   .last_offset = batch->base_offset,
                                   .stable_offset = batch->base_offset + 1};
    MR_LIST_EACH(link, &p->producers.list) { /* no list of what is undecided yet: by the producers */
        const struct mr_producer *other = MR_LIST_ENTRY(link, struct mr_producer, of_log);
        if (other->txn_first_offset >= 0 && other->txn_first_offset < aborted->stable_offset) {
            aborted->stable_offset = other->txn_first_offset;
        }
    }
    return first >= 0 && !marker.is_commit;
}

/* ---- Readers ---- */

/* The first aborted transaction, from a segment on, whose marker is at `offset` or later. */
static struct mr_list *first_aborted(const struct mr_partition *p, int64_t offset, struct mr_segment **segment)
{
    if (p->txns.aborted_count == 0) {
        return NULL;
    }
    struct mr_segment *at = mr_segment_find(p, offset);
    at = at == NULL ? MR_LIST_ENTRY(p->segments.next, struct mr_segment, link) : at;
    for (; at != NULL; at = mr_segment_next(at)) {
        MR_LIST_EACH(link, &at->aborted) {
            if (MR_LIST_ENTRY(link, struct mr_aborted, link)->last_offset >= offset) {
                *segment = at;
                return link;
            }
        }
    }
    return NULL;
}

static struct mr_list *next_aborted(struct mr_list *link, struct mr_segment **segment)
{
    link = link->next;
    while (link == &(*segment)->aborted) {
        *segment = mr_segment_next(*segment);
        if (*segment == NULL) {
            return NULL;
        }
        link = (*segment)->aborted.next;
    }
    return link;
}

int64_t mr_txn_bound(const struct mr_partition *p, int64_t offset, int64_t limit, uint32_t room)
{
    struct mr_segment *segment = NULL;
    struct mr_list    *link = first_aborted(p, offset, &segment);
    uint32_t           count = 0;
    int64_t            bound = offset; /* without any room: nothing */
    for (; link != NULL; link = next_aborted(link, &segment)) {
        const struct mr_aborted *aborted = MR_LIST_ENTRY(link, struct mr_aborted, link);
        if (count == room) {
            /* Whatever is decided after the last one that found room begins behind what was stable then. */
            return bound < limit ? bound : limit;
        }
        count += aborted->first_offset < limit;
        bound = aborted->stable_offset;
        if (aborted->stable_offset >= limit) {
            break;
        }
    }
    return limit;
}

void mr_txn_list_aborted(const struct mr_partition *p, struct mr_read_op *op, struct mr_read_entry *entry, int64_t end)
{
    struct mr_segment *segment = NULL;
    struct mr_list    *link = first_aborted(p, entry->offset, &segment);
    entry->aborted_first = op->aborted_count;
    entry->aborted_count = 0;
    for (; link != NULL && !mr_bug("no-aborted-list"); link = next_aborted(link, &segment)) {
        const struct mr_aborted *aborted = MR_LIST_ENTRY(link, struct mr_aborted, link);
        if (aborted->first_offset < end && op->aborted_count < op->aborted_max) {
            op->aborted[op->aborted_count++] = (struct mr_aborted_range){
                .producer_id = aborted->producer_id, .first_offset = aborted->first_offset};
            entry->aborted_count++;
        }
        if (aborted->stable_offset >= end) {
            break;
        }
    }
}
