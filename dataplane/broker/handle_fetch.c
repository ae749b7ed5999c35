/*
 * handle_fetch: read from many partitions, gather, wait, lend pages to the reply.
 *
 *   start > pass > answer            enough bytes, an error, or no time to wait
 *               \> wait > pass ...   MOVED, a new image, or the deadline
 *
 * A pass asks one storage core after the other, so that the byte budget of the request is spent in the
 * order of the partitions and no core reads what another has used up. Its memory is one block that
 * also holds the answer; a fetch that waits gives it back and holds no pages.
 *
 * Source: Kafka protocol guide, Fetch; KIP-74 (a first batch larger than the limits is returned),
 * KIP-227 (sessions), KIP-951 (current leader); behaviour of Apache Kafka 4.4.
 */
#include "broker/dispatch.h"
#include "broker/reply.h"
#include "broker/topics.h"
#include "data_core.h"
#include "millrace/base/bug.h"

#define SPANS_MAX 8192u
#define POLL_MS   50 /* how often to look when a watch is missing */

static enum mr_err pass_begin(struct mr_fetch *fetch);
static void answer(struct mr_fetch *fetch);

/* ---- the set of partitions ---- */

static void take_values(struct mr_fetch_partition *partition,
                        const struct mr_fetch_request_fetch_partition *in)
{
    partition->bytes_max = in->partition_max_bytes;
    partition->leader_epoch = in->current_leader_epoch;
    partition->last_fetched_epoch = in->last_fetched_epoch;
    partition->offset = in->fetch_offset;
}

/* Add or change what the request names in a session; false: no memory for all of it. */
static bool session_update(struct mr_data_core *core, struct mr_fetch_set *set,
                           const struct mr_fetch_request *in)
{
    for (int32_t t = 0; t < in->topics_count; t++) {
        const struct mr_fetch_request_fetch_topic *topic = &in->topics[t];
        struct mr_fetch_topic *held = NULL;
        for (int32_t p = 0; p < topic->partitions_count; p++) {
            struct mr_fetch_partition *partition = mr_fetch_session_add(
                core, set, &held, topic->topic, &topic->topic_id, topic->partitions[p].partition);
            if (partition == NULL) {
                return false;
            }
            held = partition->topic;
            take_values(partition, &topic->partitions[p]);
            mr_fetch_partition_dirty(partition);
            if (partition->log_id == 0) {
                mr_fetch_partition_resolve(core, partition);
            }
        }
    }
    for (int32_t t = 0; t < in->forgotten_topics_data_count; t++) {
        const struct mr_fetch_request_forgotten_topic *topic = &in->forgotten_topics_data[t];
        for (int32_t p = 0; p < topic->partitions_count; p++) {
            mr_fetch_session_remove(core, set, topic->topic, &topic->topic_id,
                                    topic->partitions[p]);
        }
    }
    return true;
}

static enum mr_err own_set(struct mr_request *request, struct mr_fetch *fetch,
                           const struct mr_fetch_request *in)
{
    uint32_t count = 0;
    for (int32_t t = 0; t < in->topics_count; t++) {
        count += (uint32_t)in->topics[t].partitions_count;
    }
    enum mr_err err =
        mr_request_more(request, (sizeof(struct mr_fetch_topic) + 8) * (size_t)in->topics_count +
                                     sizeof(struct mr_fetch_partition) * count + 64);
    if (err != MR_OK) {
        return err;
    }
    mr_fetch_set_init(&fetch->own, request->header.version >= 13);
    fetch->set = &fetch->own;
    for (int32_t t = 0; t < in->topics_count; t++) {
        struct mr_fetch_topic *topic = MR_ARENA_TRY(&request->arena, struct mr_fetch_topic, 1);
        mr_assert(topic != NULL);
        *topic = (struct mr_fetch_topic){.id = in->topics[t].topic_id, .name = in->topics[t].topic};
        for (int32_t p = 0; p < in->topics[t].partitions_count; p++) {
            struct mr_fetch_partition *partition =
                MR_ARENA_TRY(&request->arena, struct mr_fetch_partition, 1);
            mr_assert(partition != NULL);
            *partition = (struct mr_fetch_partition){
                .topic = topic, .index = in->topics[t].partitions[p].partition};
            mr_fetch_set_add(&fetch->own, partition);
            take_values(partition, &in->topics[t].partitions[p]);
        }
    }
    return MR_OK;
}

/*
 *   session id, epoch   meaning                                    the set
 *   any, -1             close the session, if any                  own
 *   any, 0              close it, then a full fetch asks for one   a new session, or own without a slot
 *   x, e > 0            incremental: only what changed is named    session x
 */
static enum mr_err find_set(struct mr_request *request, struct mr_fetch *fetch,
                            const struct mr_fetch_request *in)
{
    struct mr_data_core *core = request->core;
    bool is_by_id = request->header.version >= 13;
    struct mr_fetch_set *set = NULL;
    fetch->is_full = true;
    if (in->session_id != 0) {
        set = mr_fetch_session_find(core, in->session_id);
    }
    if (in->session_epoch > 0) {
        if (set == NULL) {
            fetch->error = MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND;
        } else if (set->is_by_id != is_by_id) {
            fetch->error = MR_KAFKA_FETCH_SESSION_TOPIC_ID_ERROR;
        } else if (set->epoch != in->session_epoch || set->user != NULL) {
            fetch->error = MR_KAFKA_INVALID_FETCH_SESSION_EPOCH;
        } else if (!session_update(core, set, in)) {
            /* the cache cannot hold what was added: the client starts over, then without a session */
            mr_fetch_session_close(core, set);
            fetch->error = MR_KAFKA_FETCH_SESSION_ID_NOT_FOUND;
        } else {
            set->epoch = set->epoch == INT32_MAX ? 1 : set->epoch + 1;
            set->used_ns = core->now.mono_ns;
            mr_list_remove(&set->link);
            mr_list_add_tail(&core->fetch_sessions.used, &set->link);
            fetch->set = set;
            fetch->session_id = set->id;
            fetch->is_full = false;
        }
        return MR_OK;
    }
    if (set != NULL) {
        mr_fetch_session_close(core, set);
    }
    if (in->session_epoch == 0 && request->header.version >= 7 && in->topics_count > 0) {
        set = mr_fetch_session_open(core, is_by_id);
        if (set != NULL && session_update(core, set, in)) {
            fetch->set = set;
            fetch->session_id = set->id;
            return MR_OK;
        }
        if (set != NULL) {
            mr_fetch_session_close(core, set);
        }
    }
    return own_set(request, fetch, in);
}

/* ---- start ---- */

enum mr_err mr_handle_fetch(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    struct mr_fetch_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    err = mr_request_more(request, sizeof(struct mr_fetch) + 1024);
    if (err != MR_OK) {
        return err;
    }
    struct mr_fetch *fetch = MR_ARENA_TRY(&request->arena, struct mr_fetch, 1);
    *fetch = (struct mr_fetch){.request = request};
    mr_list_init(&fetch->link);
    int64_t bytes_max =
        in.max_bytes < core->config->fetch_max_bytes ? in.max_bytes : core->config->fetch_max_bytes;
    fetch->bytes_max = bytes_max > 0 ? (uint32_t)bytes_max : 0;
    fetch->bytes_min = in.min_bytes > 0 ? (uint32_t)in.min_bytes : 0;
    if (mr_bug("ignore-min-bytes") && fetch->bytes_min > 1) {
        fetch->bytes_min = 1;
    }
    if (fetch->bytes_min > fetch->bytes_max) {
        fetch->bytes_min = fetch->bytes_max;
    }
    fetch->isolation = in.isolation_level == 1 ? MR_READ_COMMITTED : MR_READ_UNCOMMITTED;
    fetch->deadline_ns = mr_deadline_ms(core->now.mono_ns, in.max_wait_ms);
    /* A session moves on with its first effect: memory for the first pass is asked for before it. */
    if (core->scratch.used_bytes + mr_scratch_max(&core->scratch) >
        (size_t)core->scratch.block_count * MR_SCRATCH_BLOCK) {
        return MR_AGAIN;
    }
    err = find_set(request, fetch, &in);
    if (err != MR_OK) {
        return err;
    }
    request->fetch = fetch;
    if (fetch->error != MR_KAFKA_NONE) {
        struct mr_fetch_response out;
        MR_DEFAULTS(fetch_response, &out);
        out.error_code = fetch->error;
        return mr_reply_message(request, &out, 0, 0);
    }
    fetch->set->user = fetch;
    mr_fetch_set_resolve(core, fetch->set);
    fetch->is_over = in.max_wait_ms <= 0 || core->life == MR_DATA_DRAINING;
    err = pass_begin(fetch);
    if (err != MR_OK) {
        answer(fetch); /* nothing was read: empty, the client asks again */
    }
    return MR_OK;
}

/* ---- a pass ---- */

static void pass_end(struct mr_fetch *fetch)
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

/* Reserve what reading the dirty partitions and answering takes; nothing has been asked yet. */
static enum mr_err pass_begin(struct mr_fetch *fetch)
{
    struct mr_data_core *core = fetch->request->core;
    uint32_t core_count = core->endpoints->storage_count;
    uint32_t reads = 0;
    uint32_t dirty = 0;
    uint64_t wanted = 0;
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        const struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        core->stats.fetch_visits++;
        dirty++;
        if (partition->log_id != 0) {
            reads++;
            wanted += partition->bytes_max > 0 ? (uint32_t)partition->bytes_max : 0;
        }
    }
    wanted = wanted < fetch->bytes_max ? wanted : fetch->bytes_max;
    uint64_t spans = wanted / 4096 + 4ull * reads + 16;
    fetch->span_max = spans < SPANS_MAX ? (uint32_t)spans : SPANS_MAX;
    fetch->copy_max = reads < 32 ? reads * 2048 : 65536;
    uint32_t answers = fetch->is_full ? fetch->set->count : dirty;
    size_t bytes = sizeof(struct mr_read_op) * core_count + sizeof(struct mr_lent) * core_count +
                   sizeof(struct mr_read_entry) * reads + fetch->copy_max +
                   fetch->span_max * (sizeof(struct mr_lent_span) + 3 * sizeof(struct mr_span)) +
                   aborted_room(fetch) * (sizeof(struct mr_aborted_range) +
                                          2 * sizeof(struct mr_fetch_response_aborted_transaction)) +
                   answers * (sizeof(struct mr_fetch_response_partition_data) +
                              sizeof(struct mr_fetch_response_fetchable_topic_response) +
                              2 * sizeof(struct mr_span) + MR_TOPIC_NAME_MAX + 160) +
                   4096;
    size_t got;
    fetch->block = mr_scratch_get(&core->scratch, bytes, &got);
    if (fetch->block == NULL) {
        return MR_AGAIN;
    }
    mr_arena_init(&fetch->arena, fetch->block, got);
    fetch->ops = MR_ARENA_TRY(&fetch->arena, struct mr_read_op, core_count);
    struct mr_read_entry *entries = MR_ARENA_TRY(&fetch->arena, struct mr_read_entry, reads);
    fetch->spans = MR_ARENA_TRY(&fetch->arena, struct mr_lent_span, fetch->span_max);
    fetch->copies = MR_ARENA_TRY(&fetch->arena, uint8_t, fetch->copy_max);
    fetch->aborted = MR_ARENA_TRY(&fetch->arena, struct mr_aborted_range, aborted_room(fetch));
    fetch->aborted_used = 0;
    mr_assert(fetch->ops != NULL && entries != NULL && fetch->spans != NULL);
    memset(fetch->ops, 0, sizeof *fetch->ops * core_count);
    fetch->span_count = 0;
    fetch->copy_used = 0;
    fetch->bytes = 0;
    fetch->next_core = 0;
    fetch->is_any_error = false;
    fetch->lents = NULL;

    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        const struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        if (partition->log_id != 0) {
            fetch->ops[partition->storage_core].entry_count++;
        }
    }
    for (uint32_t index = 0; index < core_count; index++) {
        fetch->ops[index].entries = entries;
        entries += fetch->ops[index].entry_count;
        fetch->ops[index].entry_count = 0;
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
    fetch->is_reading = true;
    mr_relief_reading(fetch);
    mr_handle_fetch_done(fetch->request);
    return MR_OK;
}

/* What a core has answered: keep the pages in mind, note what was seen. */
static void pass_gather(struct mr_fetch *fetch, uint32_t index)
{
    struct mr_read_op *op = &fetch->ops[index];
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
                                 .storage_core = index};
        fetch->lents = lent;
    }
}

/* Every core has answered: remember what was seen beside the records. */
static void pass_settle(struct mr_fetch *fetch)
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

/* Whether a partition moved while others were being read: it is dirty and was not in the pass. */
static bool is_any_missed(const struct mr_fetch *fetch)
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

/* A fetch that left something out is as full as it will be: waiting would add nothing. */
static bool is_any_left_out(const struct mr_fetch *fetch)
{
    MR_LIST_EACH(link, &fetch->set->dirty)
    {
        if (is_left_out(fetch, MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link))) {
            return true;
        }
    }
    return false;
}

/* Whether the client knows less about the partition than was read of it. */
static bool is_unsaid(const struct mr_fetch_partition *partition)
{
    return partition->high_watermark != partition->told_high_watermark ||
           partition->log_start != partition->told_log_start;
}

/* Arm what has to wake this fetch. False: a watch is missing, so look again by the clock. */
static bool watch_all(struct mr_fetch *fetch)
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
        bool is_news = !fetch->is_full && is_unsaid(partition);
        if (is_armed && entry->bytes == 0 && !is_news) {
            partition->entry = NULL;
            mr_list_remove(&partition->dirty_link);
        }
    }
    return is_all;
}

void mr_handle_fetch_done(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    struct mr_fetch *fetch = request->fetch;
    uint32_t core_count = core->endpoints->storage_count;
    if (fetch->next_core > 0) {
        pass_gather(fetch, fetch->next_core - 1);
    }
    while (fetch->next_core < core_count && fetch->ops[fetch->next_core].entry_count == 0) {
        fetch->next_core++;
    }
    if (fetch->next_core < core_count) {
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
        mr_request_storage(request, fetch->next_core++, &op->op);
        return;
    }
    fetch->is_reading = false;
    mr_list_remove(&fetch->link);
    pass_settle(fetch);
    bool is_enough = fetch->is_over || fetch->is_any_error || fetch->bytes >= fetch->bytes_min ||
                     fetch->set->count == 0 || core->now.mono_ns >= fetch->deadline_ns ||
                     request->session == NULL || request->session->is_closing ||
                     is_any_left_out(fetch);
    if (is_enough) {
        answer(fetch);
        return;
    }
    bool is_missed = is_any_missed(fetch) || fetch->set->image_version != core->image->version;
    bool is_all = watch_all(fetch);
    uint64_t until = fetch->deadline_ns;
    pass_end(fetch);
    if (is_missed) {
        until = core->now.mono_ns; /* read again in the next turn */
    } else if (!is_all) {
        until = mr_earlier(until, mr_deadline_ms(core->now.mono_ns, POLL_MS));
    }
    mr_purgatory_wait(fetch, until);
}

void mr_fetch_again(struct mr_fetch *fetch)
{
    struct mr_data_core *core = fetch->request->core;
    mr_fetch_set_resolve(core, fetch->set);
    if (mr_list_is_empty(&fetch->set->dirty) && core->now.mono_ns < fetch->deadline_ns &&
        !fetch->is_over) {
        mr_purgatory_wait(fetch, fetch->deadline_ns);
        return;
    }
    if (pass_begin(fetch) != MR_OK) {
        answer(fetch);
    }
}

/* ---- the answer ---- */

static void fill_aborted(struct mr_fetch *fetch, const struct mr_read_op *op,
                         const struct mr_read_entry *entry,
                         struct mr_fetch_response_partition_data *out)
{
    if (entry->aborted_count == 0) {
        return;
    }
    out->aborted_transactions = MR_ARENA_TRY(
        &fetch->arena, struct mr_fetch_response_aborted_transaction, entry->aborted_count);
    mr_assert(out->aborted_transactions != NULL);
    for (uint32_t at = 0; at < entry->aborted_count; at++) {
        const struct mr_aborted_range *range = &op->aborted[entry->aborted_first + at];
        out->aborted_transactions[at] = (struct mr_fetch_response_aborted_transaction){
            .producer_id = range->producer_id, .first_offset = range->first_offset};
    }
    out->aborted_transactions_count = (int32_t)entry->aborted_count;
}

static void fill(struct mr_fetch *fetch, const struct mr_fetch_partition *partition,
                 struct mr_fetch_response_partition_data *out, uint32_t *record_bytes,
                 uint32_t *record_spans)
{
    struct mr_request *request = fetch->request;
    const struct mr_read_entry *entry = partition->entry;
    static const struct mr_span no_span;
    MR_DEFAULTS(fetch_response_partition_data, out);
    out->partition_index = partition->index;
    out->high_watermark = -1;
    out->records = (struct mr_chain){.spans = &no_span};
    out->error_code = partition->error;
    if (entry != NULL && entry->err != MR_OK) {
        out->error_code = mr_err_kafka(entry->err);
    }
    if (mr_bug("wrong-error-code") && out->error_code != 0) {
        out->error_code = MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    if (out->error_code != MR_KAFKA_NONE) {
        bool is_moved = out->error_code == MR_KAFKA_NOT_LEADER_OR_FOLLOWER ||
                        out->error_code == MR_KAFKA_FENCED_LEADER_EPOCH;
        const struct mr_image_partition *now =
            mr_topics_partition(request->core, fetch->set->is_by_id, partition->topic->name,
                                &partition->topic->id, partition->index);
        if (is_moved && now != NULL && request->header.version >= 12) {
            out->current_leader.leader_id = now->leader;
            out->current_leader.leader_epoch = now->leader_epoch;
        }
        return;
    }
    out->high_watermark = partition->high_watermark;
    out->last_stable_offset = partition->last_stable_offset;
    out->log_start_offset = partition->log_start;
    if (fetch->isolation == MR_READ_UNCOMMITTED) {
        out->aborted_transactions_count = -1;
    }
    if (entry == NULL || entry->bytes == 0) {
        return;
    }
    struct mr_span *spans = MR_ARENA_TRY(&fetch->arena, struct mr_span, entry->span_count);
    mr_assert(spans != NULL);
    const struct mr_read_op *op = &fetch->ops[partition->storage_core];
    fill_aborted(fetch, op, entry, out);
    for (uint32_t at = 0; at < entry->span_count; at++) {
        spans[at] = op->spans[entry->span_first + at].span;
    }
    out->records =
        (struct mr_chain){.spans = spans, .span_count = entry->span_count, .bytes = entry->bytes};
    *record_bytes += entry->bytes;
    *record_spans += entry->span_count;
}

static bool is_told(const struct mr_fetch *fetch, const struct mr_fetch_partition *partition)
{
    const struct mr_read_entry *entry = partition->entry;
    return fetch->is_full || partition->error != MR_KAFKA_NONE ||
           (entry != NULL && (entry->err != MR_OK || entry->bytes > 0)) || is_unsaid(partition);
}

struct gather {
    struct mr_fetch_response out;
    struct mr_fetch_response_partition_data *partitions;
    uint32_t count;
    const struct mr_fetch_topic *topic;
    uint32_t record_bytes;
    uint32_t record_spans;
};

static void gather_one(struct mr_fetch *fetch, struct gather *gather,
                       struct mr_fetch_partition *partition)
{
    fetch->request->core->stats.fetch_visits++;
    if (!is_told(fetch, partition)) {
        return;
    }
    struct mr_fetch_response_partition_data *to = &gather->partitions[gather->count++];
    if (gather->topic != partition->topic) {
        struct mr_fetch_response_fetchable_topic_response *topic =
            &gather->out.responses[gather->out.responses_count++];
        MR_DEFAULTS(fetch_response_fetchable_topic_response, topic);
        topic->topic = partition->topic->name;
        topic->topic_id = partition->topic->id;
        topic->partitions = to;
        gather->topic = partition->topic;
    }
    gather->out.responses[gather->out.responses_count - 1].partitions_count++;
    fill(fetch, partition, to, &gather->record_bytes, &gather->record_spans);
    partition->told_high_watermark = partition->high_watermark;
    partition->told_log_start = partition->log_start;
}

static void add_nodes(struct mr_fetch *fetch, struct gather *gather)
{
    struct mr_request *request = fetch->request;
    for (uint32_t at = 0; request->header.version >= 16 && at < gather->count; at++) {
        int32_t leader = gather->partitions[at].current_leader.leader_id;
        const struct mr_image_broker *broker =
            leader < 0 ? NULL : mr_topics_broker(request->core, leader);
        if (broker == NULL) {
            continue;
        }
        struct mr_fetch_response_node_endpoint *node =
            MR_ARENA_TRY(&fetch->arena, struct mr_fetch_response_node_endpoint, 1);
        if (node != NULL) {
            *node = (struct mr_fetch_response_node_endpoint){.node_id = broker->id,
                                                             .host = broker->host,
                                                             .port = broker->port,
                                                             .rack = broker->rack};
            gather->out.node_endpoints = node;
            gather->out.node_endpoints_count = 1;
        }
        return; /* one broker: there is at most one to tell */
    }
}

/* What was returned goes to the end, so that the others come first next time. */
static void rotate(struct mr_fetch_set *set)
{
    struct mr_list *last = set->dirty.prev;
    bool is_last = mr_list_is_empty(&set->dirty);
    for (struct mr_list *link = set->dirty.next, *after; !is_last; link = after) {
        after = link->next;
        is_last = link == last;
        struct mr_fetch_partition *partition =
            MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link);
        if (partition->entry != NULL && partition->entry->bytes > 0) {
            mr_list_remove(link);
            mr_list_add_tail(&set->dirty, link);
        }
        partition->entry = NULL;
    }
}

/* The request is done with its set: a session lives on, an own set's watches end. */
static void leave_set(struct mr_fetch *fetch)
{
    struct mr_fetch_set *set = fetch->set;
    struct mr_data_core *core = fetch->request->core;
    if (set == NULL) {
        return;
    }
    fetch->set = NULL;
    set->user = NULL;
    if (!set->is_session) {
        MR_LIST_EACH(link, &set->order)
        {
            mr_watch_disarm(core, MR_LIST_ENTRY(link, struct mr_fetch_partition, link));
        }
    } else if (set->is_dead) {
        mr_fetch_session_close(core, set);
    }
}

static void answer(struct mr_fetch *fetch)
{
    struct mr_request *request = fetch->request;
    struct gather gather = {0};
    MR_DEFAULTS(fetch_response, &gather.out);
    gather.out.session_id = fetch->session_id;
    uint32_t count = fetch->is_full ? fetch->set->count : 0;
    if (!fetch->is_full) {
        MR_LIST_EACH(link, &fetch->set->dirty)
        {
            count++;
        }
    }
    if (fetch->block != NULL) {
        request->lent = fetch->lents;
        fetch->lents = NULL;
        gather.partitions =
            MR_ARENA_TRY(&fetch->arena, struct mr_fetch_response_partition_data, count);
        gather.out.responses =
            MR_ARENA_TRY(&fetch->arena, struct mr_fetch_response_fetchable_topic_response, count);
        mr_assert(gather.partitions != NULL && gather.out.responses != NULL);
        if (fetch->is_full) {
            MR_LIST_EACH(link, &fetch->set->order)
            {
                gather_one(fetch, &gather, MR_LIST_ENTRY(link, struct mr_fetch_partition, link));
            }
        } else {
            MR_LIST_EACH(link, &fetch->set->dirty)
            {
                gather_one(fetch, &gather,
                           MR_LIST_ENTRY(link, struct mr_fetch_partition, dirty_link));
            }
        }
        add_nodes(fetch, &gather);
        request->arena = fetch->arena;
    }
    enum mr_err err =
        mr_reply_message(request, &gather.out, gather.record_bytes, gather.record_spans);
    if (fetch->set->is_session) {
        /* What is at its end leaves the dirty ones now: its watch is armed from here. */
        if (fetch->block != NULL) {
            watch_all(fetch);
        }
        rotate(fetch->set);
    }
    leave_set(fetch);
    mr_request_release_frame(request);
    if (err != MR_OK && request->session != NULL) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
    }
}

/* ---- the end ---- */

void mr_fetch_cancel(struct mr_request *request)
{
    struct mr_fetch *fetch = request->fetch;
    if (fetch == NULL || fetch->set == NULL || fetch->is_reading) {
        return; /* what is being read comes back soon and ends then */
    }
    mr_purgatory_leave(fetch);
    leave_set(fetch);
}

void mr_fetch_drop(struct mr_request *request)
{
    struct mr_fetch *fetch = request->fetch;
    if (fetch == NULL) {
        return;
    }
    mr_list_remove(&fetch->link);
    if (fetch->is_reading && fetch->next_core > 0) {
        pass_gather(fetch, fetch->next_core - 1); /* orphaned: what it was lent goes back */
    }
    if (fetch->lents != NULL) {
        mr_data_core_release(request->core, fetch->lents);
        fetch->lents = NULL;
    }
    if (request->lent != NULL) { /* the list lies in the block */
        mr_data_core_release(request->core, request->lent);
        request->lent = NULL;
    }
    leave_set(fetch);
    if (fetch->block != NULL) {
        mr_scratch_put(&request->core->scratch, fetch->block);
        fetch->block = NULL;
    }
    request->fetch = NULL;
}
