/*
 * index_mend: after a crash, the indexes of a segment that was sealed while the journal still held its SEAL,
 * and of an active one that had none.
 *
 *   .timeindex   believed up to the first entry that does not fit: the last believed one is (T, R)
 *   .index       believed likewise, but not beyond R: its last believed one is a batch at a position
 *   .log         from that batch on every header makes the entries again; the largest time is the last one
 *
 * What is read is what the dead process had in memory, and not the segment: a page of entries at most, unless the
 * largest time lies further back, or the files are missing. Blocking; for recovery only.
 *
 * Of an active segment whose files told all but what its last block holds, entries follow from there on (mr_index_rest).
 */
#include "storage_core.h"

#include "millrace/log_scan.h"
#include "log/offset_index.h"
#include "log/time_index.h"

struct mend {
    struct mr_storage_core      *core;
    struct mr_segment           *segment;
    int64_t                      relative_max;
    struct mr_time_index_entry   time;  /* relative -1: none */
    struct mr_offset_index_entry place; /* likewise */
};

static enum mr_err open_file(const struct mend *m, const char *suffix, uint32_t flags, int32_t *file)
{
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(m->segment, suffix, name);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = flags, .dir = m->core->root, .name = name};
    enum mr_err       err = mr_core_disk(m->core, &op);
    *file = op.file;
    return err;
}

static enum mr_err read_at(const struct mend *m, int32_t file, uint64_t pos, uint32_t len, uint32_t *got)
{
    struct mr_disk_op op = {
        .kind = MR_DISK_READ, .file = file, .buffer = m->core->scratch, .len = len, .pos = pos};
    enum mr_err err = mr_core_disk(m->core, &op);
    *got = op.done_bytes;
    return err;
}

static void close_file(const struct mend *m, int32_t file)
{
    struct mr_disk_op op = {.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(m->core, &op);
}

static uint32_t believe_times(struct mend *m, const uint8_t *entries, uint32_t count)
{
    count = mr_time_index_check(entries, count, m->time, m->relative_max);
    if (count > 0) {
        m->time = mr_time_index_load(entries + (size_t)(count - 1) * MR_TIME_INDEX_ENTRY);
    }
    return count;
}

static uint32_t believe_places(struct mend *m, const uint8_t *entries, uint32_t count)
{
    count = mr_offset_index_check(entries, count, m->place, m->time.relative, m->segment->size);
    if (count > 0) {
        m->place = mr_offset_index_load(entries + (size_t)(count - 1) * MR_OFFSET_INDEX_ENTRY);
    }
    return count;
}

/* The file keeps the entries that are believed, and no others. */
static enum mr_err believe(struct mend *m, const char *suffix, uint32_t entry_bytes,
                           uint32_t (*check)(struct mend *, const uint8_t *, uint32_t), uint32_t *bytes)
{
    int32_t     file = MR_DISK_NONE;
    uint32_t    len = MR_SCRATCH_BYTES / entry_bytes * entry_bytes;
    uint32_t    believed = len;
    enum mr_err err = open_file(m, suffix, MR_DISK_CREATE, &file);
    if (err != MR_OK) {
        return err;
    }
    for (*bytes = 0; err == MR_OK && believed == len; *bytes += believed) {
        uint32_t got = 0;
        err = read_at(m, file, *bytes, len, &got);
        believed = err == MR_OK ? check(m, m->core->scratch, got / entry_bytes) * entry_bytes : 0;
    }
    struct mr_disk_op cut = {.kind = MR_DISK_TRUNCATE, .file = file, .pos = *bytes};
    err = err == MR_OK ? mr_core_disk(m->core, &cut) : err;
    close_file(m, file);
    return err;
}

static void found(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    (void)control;
    struct mend *m = context;
    mr_segment_index(m->core, m->segment, batch, pos, mr_batch_bytes(batch));
}

static enum mr_err scan_from(struct mend *m, int32_t file, uint64_t pos, int64_t offset)
{
    struct mr_log_scan scan;
    enum mr_err        err = MR_OK;
    mr_log_scan_init(&scan, pos, m->segment->size, offset, false);
    while (err == MR_OK && scan.state == MR_LOG_SCAN_GOING) {
        uint32_t got = 0;
        err = read_at(m, file, scan.at, MR_SCRATCH_BYTES, &got);
        if (err == MR_OK) {
            (void)mr_log_scan_feed(&scan, m->core->scratch, got, found, m);
        }
    }
    return err;
}

/* Whether the batch of the last believed entry is where that says. */
static bool is_place_true(const struct mend *m, int32_t file)
{
    struct mr_batch batch;
    uint32_t        got = 0;
    if (read_at(m, file, m->place.pos, MR_BATCH_HEADER, &got) != MR_OK || got < MR_BATCH_HEADER) {
        return false;
    }
    mr_batch_header_load(m->core->scratch, &batch);
    return batch.last_offset_delta >= 0 && batch.base_offset >= m->segment->base &&
           mr_batch_last_offset(&batch) == m->segment->base + m->place.relative;
}

/* Forget what is in memory of the indexes: it comes from the files and the batches. */
static void begin(struct mend *m, uint32_t index_bytes, uint32_t time_bytes)
{
    struct mr_segment *segment = m->segment;
    struct mr_page   **pages[] = {&segment->index_page, &segment->time_page};
    for (uint32_t which = 0; which < 2; which++) {
        if (*pages[which] != NULL) {
            mr_page_pool_put(&m->core->cache, *pages[which]);
            *pages[which] = NULL;
        }
    }
    bool is_time = m->time.relative >= 0;
    segment->index_bytes = index_bytes;
    segment->time_bytes = time_bytes;
    segment->since_index = 0;
    segment->last_relative = m->place.relative;
    segment->last_time = m->time.timestamp;
    segment->last_time_relative = m->time.relative;
    segment->max_timestamp = m->time.timestamp;
    segment->max_timestamp_offset = is_time ? segment->base + m->time.relative : -1;
}

static enum mr_err make_entries(struct mend *m, int32_t file)
{
    static const struct mr_time_index_entry   no_time = {.timestamp = -1, .relative = -1};
    static const struct mr_offset_index_entry no_place = {.relative = -1};
    uint32_t    index_bytes = 0;
    uint32_t    time_bytes = 0;
    enum mr_err err = believe(m, ".timeindex", MR_TIME_INDEX_ENTRY, believe_times, &time_bytes);
    err = err != MR_OK ? err : believe(m, ".index", MR_OFFSET_INDEX_ENTRY, believe_places, &index_bytes);
    if (err == MR_OK && (m->place.relative < 0 || !is_place_true(m, file))) {
        /* All of it, from the first batch on: nothing is believed. */
        m->time = no_time;
        m->place = no_place;
        m->relative_max = -1;
        err = believe(m, ".timeindex", MR_TIME_INDEX_ENTRY, believe_times, &time_bytes);
        err = err != MR_OK ? err : believe(m, ".index", MR_OFFSET_INDEX_ENTRY, believe_places, &index_bytes);
    }
    begin(m, index_bytes, time_bytes);
    return err != MR_OK ? err : scan_from(m, file, m->place.relative < 0 ? 0 : m->place.pos, m->segment->base);
}

enum mr_err mr_index_mend(struct mr_storage_core *core, struct mr_segment *segment)
{
    const struct mr_segment *next = mr_segment_next(segment);
    struct mend              m = {
                     .core = core,
                     .segment = segment,
                     .relative_max = (next != NULL ? next->base : segment->partition->end.offset) - 1 - segment->base,
                     .time = {.timestamp = -1, .relative = -1},
                     .place = {.relative = -1},
    };
    int32_t     file = MR_DISK_NONE;
    enum mr_err err = open_file(&m, ".log", MR_DISK_READ_ONLY, &file);
    if (err != MR_OK) {
        return err;
    }
    err = make_entries(&m, file);
    close_file(&m, file);
    if (next != NULL) {
        mr_segment_index_end(core, segment);
    }
    mr_segment_index_flush(core, segment);
    segment->is_time_known = true;
    segment->is_mend_due = false;
    return err;
}

enum mr_err mr_index_rest(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mend m = {.core = core, .segment = segment};
    int32_t     file = MR_DISK_NONE;
    enum mr_err err = open_file(&m, ".log", MR_DISK_READ_ONLY, &file);
    if (err == MR_OK) {
        err = scan_from(&m, file, segment->rest_at, segment->base);
        close_file(&m, file);
    }
    segment->rest_at = MR_NO_REST;
    return err;
}
