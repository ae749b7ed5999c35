#include "metadata/log_dirs.h"

#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

bool mr_log_dirs_init(struct mr_control *control, const struct mr_control_params *params)
{
    struct mr_log_dirs *all = MR_HEAP_NEW(&control->heap, struct mr_log_dirs);
    if (all == NULL) {
        return false;
    }
    control->log_dirs = all;
    mr_list_init(&all->assigns);
    mr_list_init(&all->assigning);
    all->count = params->dir_count > 0 ? params->dir_count : 1;
    all->dirs[0] = (struct mr_log_dir){.path = params->log_dir, .id = params->directory_id};
    mr_assert(all->count == mr_endpoint_dirs(control->endpoints));
    for (uint32_t dir = 0; dir < params->dir_count; dir++) {
        all->dirs[dir] = params->dirs[dir];
        control->meta->dirs[dir].id = params->dirs[dir].id;
    }
    control->meta->dir_count = all->count > 1 ? all->count : 0;
    return true;
}

uint32_t mr_log_dirs_core(const struct mr_control *control, uint32_t dir, struct mr_str topic, uint32_t partition)
{
    uint32_t cores = mr_endpoint_dir_cores(control->endpoints);
    return dir * cores + mr_storage_owner(topic, (int32_t)partition, cores);
}

/* Kafka draws none of the first hundred ids: they mean "not said", "lost" and the like. */
static bool is_reserved(const struct mr_uuid *id)
{
    static const uint8_t zeros[15];
    return memcmp(id->bytes, zeros, sizeof zeros) == 0 && id->bytes[15] < 100;
}

int32_t mr_log_dirs_home(const struct mr_control *control, const struct mr_meta_partition *partition)
{
    const struct mr_log_dirs *all = control->log_dirs;
    int32_t                   slot = 0;
    if (all->count == 1) {
        return 0;
    }
    while (slot < partition->replicas.count && partition->replicas.ids[slot] != control->node_id) {
        slot++;
    }
    if (slot >= partition->directory_count || is_reserved(&partition->directories[slot])) {
        return MR_LOG_DIR_UNSAID;
    }
    for (uint32_t dir = 0; dir < all->count; dir++) {
        if (mr_uuid_equal(&all->dirs[dir].id, &partition->directories[slot])) {
            return (int32_t)dir;
        }
    }
    return MR_LOG_DIR_OTHER;
}

uint32_t mr_log_dirs_place(struct mr_control *control)
{
    struct mr_log_dirs *all = control->log_dirs;
    uint32_t            best = 0;
    for (uint32_t dir = 1; dir < all->count && !mr_bug("one-directory"); dir++) {
        bool is_fewer = control->meta->dirs[dir].partitions + all->placed[dir] <
                        control->meta->dirs[best].partitions + all->placed[best];
        best = is_fewer && !all->dirs[dir].is_offline ? dir : best;
    }
    all->placed[best]++;
    return best;
}

int32_t mr_log_dirs_ids(const struct mr_control *control, struct mr_uuid ids[MR_DIRS_MAX])
{
    const struct mr_log_dirs *all = control->log_dirs;
    int32_t                   count = 0;
    for (uint32_t dir = 0; dir < all->count; dir++) {
        int32_t at = count;
        if (all->dirs[dir].is_offline) {
            continue;
        }
        for (; at > 0 && memcmp(ids[at - 1].bytes, all->dirs[dir].id.bytes, sizeof ids[0].bytes) > 0; at--) {
            ids[at] = ids[at - 1];
        }
        ids[at] = all->dirs[dir].id;
        count++;
    }
    return count;
}

uint32_t mr_log_dirs_offline(const struct mr_control *control)
{
    uint32_t count = 0;
    for (uint32_t dir = 0; dir < control->log_dirs->count; dir++) {
        count += control->log_dirs->dirs[dir].is_offline;
    }
    return count;
}

/* ---- a directory fails ---- */

struct offline_job {
    struct mr_control_op callback;
    struct mr_storage_op op;
};

static void refused(struct mr_control *control, struct mr_now now, struct mr_control_op *callback)
{
    struct offline_job *job = (struct offline_job *)(void *)callback;
    (void)now;
    MR_HEAP_DELETE(&control->heap, job);
}

/* All its cores refuse everything from now on: what one of them could still do nobody could find after a start. */
static void refuse(struct mr_control *control, uint32_t dir)
{
    uint32_t cores = mr_endpoint_dir_cores(control->endpoints);
    for (uint32_t core = dir * cores; core < (dir + 1) * cores; core++) {
        struct offline_job *job = MR_HEAP_NEW(&control->heap, struct offline_job);
        if (job == NULL) {
            mr_control_fail(control, "no memory to take a log directory offline");
            return;
        }
        job->callback.done = refused;
        job->op.kind = MR_STORAGE_OFFLINE;
        mr_control_submit(control, core, &job->op, &job->callback);
    }
}

/* Whose logs are there: clients are told where they ask, and by the metadata. */
static uint32_t take_offline(struct mr_control *control, uint32_t dir)
{
    struct mr_meta *meta = control->meta;
    uint32_t        count = 0;
    for (struct mr_meta_topic *topic = mr_meta_topic_walk(meta, NULL); topic != NULL;
         topic = mr_meta_topic_walk(meta, topic)) {
        for (uint32_t index = 0; index < topic->partition_count; index++) {
            struct mr_meta_partition *partition = &topic->partitions[index];
            if (partition->log_state == MR_META_LOG_OPEN &&
                mr_endpoint_dir(control->endpoints, partition->storage_core) == dir) {
                partition->log_state = MR_META_LOG_OFFLINE;
                mr_meta_topic_changed(meta, topic);
                count++;
            }
        }
    }
    return count;
}

void mr_log_dirs_fail(struct mr_control *control, uint32_t dir, const char *why)
{
    struct mr_log_dirs *all = control->log_dirs;
    mr_assert(0 < dir && dir < all->count);
    if (all->dirs[dir].is_offline) {
        return;
    }
    all->dirs[dir].is_offline = true;
    all->is_registration_due = control->phase >= MR_PHASE_OPEN;
    refuse(control, dir);
    uint32_t count = take_offline(control, dir);
    mr_log(control->log, MR_LOG_ERROR,
           "a log directory is offline, the others are served dir=%s partitions=%u why=%s", all->dirs[dir].path,
           count, why);
}

/* ---- records ---- */

static void forget(struct mr_control *control, struct mr_now now, struct mr_log_dir_assign *assign)
{
    (void)now;
    MR_HEAP_DELETE(&control->heap, assign);
}

void mr_log_dirs_decide_soon(struct mr_control *control, struct mr_log_dir_assign *assign)
{
    mr_list_add_tail(&control->log_dirs->assigns, &assign->link);
}

bool mr_log_dirs_assign(struct mr_control *control, const struct mr_uuid *topic_id, uint32_t partition, uint32_t dir)
{
    struct mr_log_dir_assign *assign = MR_HEAP_NEW(&control->heap, struct mr_log_dir_assign);
    if (assign == NULL) {
        return false;
    }
    assign->topic_id = *topic_id;
    assign->partition = (int32_t)partition;
    assign->dir = dir;
    assign->done = forget;
    mr_log_dirs_decide_soon(control, assign);
    return true;
}

bool mr_log_dirs_is_due(const struct mr_control *control)
{
    const struct mr_log_dirs *all = control->log_dirs;
    return all->is_registration_due || !mr_list_is_empty(&all->assigns);
}

static void decide_registration(const struct mr_ctl *ctl, struct mr_meta_records *records)
{
    struct mr_uuid                              ids[MR_DIRS_MAX];
    const struct mr_meta_broker                *self = mr_meta_broker(ctl->meta, ctl->node_id);
    struct mr_broker_registration_change_record record;
    if (self == NULL || ctl->meta->metadata_version < MR_META_VERSION_DIRECTORIES) {
        return;
    }
    mr_msg_defaults(&mr_msg_broker_registration_change_record, &record);
    record.broker_id = ctl->node_id;
    record.broker_epoch = self->epoch;
    record.log_dirs = ids;
    record.log_dirs_count = mr_log_dirs_ids(ctl->control, ids);
    mr_meta_records_add(records, &mr_msg_broker_registration_change_record,
                        mr_meta_registration_change_version(ctl->meta->metadata_version), &record);
}

static void decide_assign(const struct mr_ctl *ctl, const struct mr_log_dir_assign *assign,
                          struct mr_meta_records *records)
{
    struct mr_uuid              directories[MR_CTL_REPLICAS_MAX];
    const struct mr_meta_topic *topic = mr_meta_topic_by_id(ctl->meta, &assign->topic_id);
    if (topic == NULL || ctl->meta->metadata_version < MR_META_VERSION_DIRECTORIES) {
        return; /* deleted meanwhile; or the records have no place for it, and every start looks for the log */
    }
    const struct mr_meta_partition *partition = &topic->partitions[assign->partition];
    int32_t                         count = partition->replicas.count;
    mr_assert(count <= MR_CTL_REPLICAS_MAX);
    for (int32_t slot = 0; slot < count; slot++) {
        bool is_known = slot < partition->directory_count;
        directories[slot] = is_known ? partition->directories[slot] : (struct mr_uuid){.bytes = {[15] = 1}};
        if (partition->replicas.ids[slot] == ctl->node_id) {
            directories[slot] = ctl->control->log_dirs->dirs[assign->dir].id;
        }
    }
    struct mr_partition_change_record record;
    mr_msg_defaults(&mr_msg_partition_change_record, &record);
    record.topic_id = assign->topic_id;
    record.partition_id = assign->partition;
    record.directories = directories;
    record.directories_count = count;
    mr_meta_records_add(records, &mr_msg_partition_change_record,
                        mr_meta_partition_record_version(ctl->meta->metadata_version), &record);
}

void mr_log_dirs_decide(const struct mr_ctl *ctl, struct mr_meta_records *records)
{
    struct mr_log_dirs *all = ctl->control->log_dirs;
    struct mr_list     *link;
    if (all->is_registration_due) {
        decide_registration(ctl, records);
        all->is_registration_due = false;
    }
    while (records->count < MR_META_RECORDS_MAX && (link = mr_list_pop(&all->assigns)) != NULL) {
        decide_assign(ctl, MR_LIST_ENTRY(link, struct mr_log_dir_assign, link), records);
        mr_list_add_tail(&all->assigning, link);
    }
}

void mr_log_dirs_durable(struct mr_control *control, struct mr_now now)
{
    struct mr_list *link;
    while ((link = mr_list_pop(&control->log_dirs->assigning)) != NULL) {
        struct mr_log_dir_assign *assign = MR_LIST_ENTRY(link, struct mr_log_dir_assign, link);
        assign->done(control, now, assign);
    }
}
