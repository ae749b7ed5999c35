/*
 * log_list: what the names in a partition's directory tell: its segments, which of them is the active one, what is left
 * over. And the names themselves.
 */
#include "log/log_load.h"

#include "log/offset_index.h"
#include "millrace/side_car.h"

bool mr_log_file_parse(const char *name, const char *suffix, int64_t *base)
{
    uint64_t value = 0;
    for (int at = 0; at < 20; at++) {
        if (name[at] < '0' || name[at] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(name[at] - '0');
    }
    *base = (int64_t)value;
    return value <= INT64_MAX && strlen(name + 20) == strlen(suffix) &&
           memcmp(name + 20, suffix, strlen(suffix)) == 0;
}

bool mr_log_dir_parse(struct mr_str name, struct mr_str *topic, int32_t *partition)
{
    int32_t dash = name.len - 1;
    int64_t number = 0;
    while (dash > 0 && name.data[dash] != '-') {
        dash--;
    }
    if (dash <= 0 || dash + 1 == name.len || name.len - dash > 11 || dash > MR_TOPIC_NAME_MAX) {
        return false;
    }
    for (int32_t at = dash + 1; at < name.len; at++) {
        if (name.data[at] < '0' || name.data[at] > '9') {
            return false;
        }
        number = number * 10 + (name.data[at] - '0');
    }
    *topic = (struct mr_str){.data = name.data, .len = dash};
    *partition = (int32_t)number;
    return number <= INT32_MAX;
}

/* Segments come in any order from LIST: insert by base. */
static enum mr_err add_segment(struct mr_storage_core *core, struct mr_partition *p, int64_t base, uint64_t size)
{
    if (size > INT32_MAX) {
        return MR_ERR_CORRUPT;
    }
    struct mr_segment *segment = mr_segment_new(core, p, base);
    if (segment == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    segment->size = (uint32_t)size;
    segment->written = (uint32_t)size;
    segment->allocated = (uint32_t)size;
    segment->is_time_known = false;
    mr_segment_sort(segment);
    return MR_OK;
}

struct mr_segment *mr_log_list_segment(const struct mr_partition *p, int64_t base)
{
    struct mr_segment *segment = mr_segment_find(p, base);
    return segment != NULL && segment->base == base ? segment : NULL;
}

static enum mr_err list_name(struct mr_storage_core *core, struct mr_task *task,
                             const struct mr_disk_list_entry *entry)
{
    struct mr_partition       *p = task->partition;
    const struct mr_log_known *known = mr_log_load_known(task);
    int64_t                    base = 0;
    if (mr_log_file_parse(entry->name, ".log", &base)) {
        enum mr_err err = add_segment(core, p, base, entry->size);
        if (err == MR_OK) {
            mr_log_list_segment(p, base)->has_file = true;
        }
        return err;
    }
    bool is_snapshot = mr_log_file_parse(entry->name, ".snapshot", &base);
    if (is_snapshot && task->load != NULL && task->load->snapshot_end != NULL && base > *task->load->snapshot_end) {
        *task->load->snapshot_end = base;
    }
    if (is_snapshot && base > task->x &&
        entry->size >= MR_PRODUCER_SNAPSHOT_HEAD && /* not one that was cut */
        (known == NULL || base <= known->offset) &&
        (!mr_log_load_is_verified(task) || base <= task->load->recovery_point)) {
        task->x = base;
        task->y = (int64_t)entry->size;
    }
    p->is_unfinished |= mr_str_equal(mr_str(entry->name), MR_STR(MR_COPY_MARK));
    p->has_epoch_file |= mr_str_equal(mr_str(entry->name), MR_STR("leader-epoch-checkpoint"));
    return MR_OK;
}

/* The second round, when all segments are there. Indexes without entries are not read. */
static void list_index(struct mr_task *task, const struct mr_disk_list_entry *entry)
{
    const struct mr_partition *p = task->partition;
    struct mr_segment         *segment = NULL;
    int64_t                    base = 0;
    if (mr_log_file_parse(entry->name, ".index", &base) && (segment = mr_log_list_segment(p, base)) != NULL) {
        segment->has_index_files |= entry->size % MR_OFFSET_INDEX_ENTRY == 0;
        if (segment == p->active) {
            task->index_bytes = (uint32_t)entry->size;
        }
    } else if (mr_log_file_parse(entry->name, ".timeindex", &base) && base == p->active->base) {
        task->time_bytes = (uint32_t)entry->size;
    } else if (mr_log_file_parse(entry->name, ".txnindex", &base) && (segment = mr_log_list_segment(p, base)) != NULL) {
        segment->aborted_file = entry->size < UINT32_MAX ? (uint32_t)entry->size : UINT32_MAX;
    }
}

/* The active segment is the last one, or the one in which the log is known to end. */
static enum mr_err choose_active(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition       *p = task->partition;
    const struct mr_log_known *known = mr_log_load_known(task);
    if (known != NULL && mr_log_list_segment(p, known->base) == NULL) {
        enum mr_err err = add_segment(core, p, known->base, known->pos); /* all of it is in the journal */
        if (err != MR_OK) {
            return err;
        }
    }
    if (mr_list_is_empty(&p->segments) && task->load == NULL && task->x > 0) {
        mr_log(core->log, MR_LOG_ERROR, "a log has lost all its segments since it was closed dir=%s was=%lld", p->dir_name,
               (long long)task->x);
        return MR_ERR_CORRUPT; /* there were records, as the snapshot of their producers tells */
    }
    if (mr_list_is_empty(&p->segments)) {
        return MR_ERR_NOT_FOUND;
    }
    p->active = MR_LIST_ENTRY(p->segments.prev, struct mr_segment, link);
    if (known != NULL) {
        p->active = mr_log_list_segment(p, known->base);
        p->active->size = known->pos;
        p->active->written = known->pos;
    }
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        segment->is_sealed = segment->base < p->active->base;
        segment->is_seal_done = segment->is_sealed;
    }
    p->log_start = MR_LIST_ENTRY(p->segments.next, struct mr_segment, link)->base;
    p->end = (struct mr_place){.offset = p->active->base, .base = p->active->base};
    return MR_OK;
}

/*
 * Files of segments that were being deleted or made by compaction when the broker went away, indexes whose segment is gone, and snapshots of
 * earlier stops: as Kafka, the newest one and those of segments stay.
 */
bool mr_log_list_is_left_over(const struct mr_task *task, const char *name)
{
    const struct mr_partition *p = task->partition;
    static const char *const kinds[] = {".log", ".index", ".timeindex", ".txnindex", MR_SIDE_SUFFIX, ".snapshot"};
    int64_t                  base = 0;
    for (uint32_t index = 0; index < sizeof kinds / sizeof kinds[0]; index++) {
        char deleted[24];
        char cleaned[24];
        mr_fmt(deleted, sizeof deleted, "%s.deleted", kinds[index]);
        mr_fmt(cleaned, sizeof cleaned, "%s.cleaned", kinds[index]);
        if (mr_log_file_parse(name, deleted, &base) || mr_log_file_parse(name, cleaned, &base)) {
            return true;
        }
        bool is_index = index >= 1 && index <= 4;
        if (is_index && mr_log_file_parse(name, kinds[index], &base) && mr_log_list_segment(p, base) == NULL) {
            return true;
        }
    }
    return mr_log_file_parse(name, ".snapshot", &base) && base != task->x && mr_log_list_segment(p, base) == NULL;
}

enum mr_err mr_log_list_take(struct mr_storage_core *core, struct mr_task *task)
{
    const uint8_t *begin = mr_page_memory(&core->cache, task->page);
    const uint8_t *end = begin + task->io.op.done_bytes;
    task->x = -1;
    task->a = 0;
    task->c = task->io.op.done_bytes;
    if (task->io.op.size != 0) {
        return MR_ERR_TOO_LARGE; /* names that did not fit */
    }
    enum mr_err err = MR_OK;
    for (const uint8_t *at = begin; at < end && err == MR_OK;) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)at;
        err = entry->is_directory != 0 ? MR_OK : list_name(core, task, entry);
        at += entry->entry_bytes;
    }
    err = err != MR_OK ? err : choose_active(core, task);
    for (const uint8_t *at = begin; at < end && err == MR_OK;) {
        const struct mr_disk_list_entry *entry = (const struct mr_disk_list_entry *)(const void *)at;
        if (entry->is_directory == 0) {
            list_index(task, entry);
        }
        at += entry->entry_bytes;
    }
    return err;
}
