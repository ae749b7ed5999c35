/*
 * txn_mend: after a crash, the aborted transactions of a segment whose .txnindex was damaged: from its batches. What
 * was open where it begins, the snapshot of producers there tells, or one further back and the batches in between. Which
 * transactions are open meanwhile is kept apart from the log's producers, who are those of the log's end.
 *
 * Without any snapshot what was believed of the file is all that is known: it stays, and the log says so. Blocking; for
 * recovery only, when all bytes of the log are in files.
 */
#include "storage_core.h"

#include "millrace/log_scan.h"

struct mend {
    struct mr_storage_core *core;
    struct mr_segment      *segment; /* whose batches are read */
    struct mr_segment      *lost;    /* the one whose list is made */
    struct mr_txns          open;
    enum mr_err             err;
};

static struct mr_txn *open_of(const struct mend *m, int64_t producer_id)
{
    MR_LIST_EACH(link, &m->open.undecided) {
        struct mr_txn *txn = MR_LIST_ENTRY(link, struct mr_txn, link);
        if (txn->producer_id == producer_id) {
            return txn;
        }
    }
    return NULL;
}

static void begun(struct mend *m, int64_t producer_id, int64_t first_offset)
{
    if (open_of(m, producer_id) == NULL && !mr_txn_begin(m->core, &m->open, producer_id, first_offset)) {
        m->err = MR_ERR_NO_MEMORY;
    }
}

static void ended(struct mend *m, const struct mr_batch *batch, bool is_commit)
{
    struct mr_txn *txn = open_of(m, batch->producer_id);
    if (txn == NULL) {
        return;
    }
    struct mr_aborted aborted = {.producer_id = batch->producer_id,
                                 .first_offset = txn->first_offset,
                                 .last_offset = batch->base_offset,
                                 .stable_offset = batch->base_offset + 1};
    mr_txn_end(m->core, &m->open, txn);
    if (!mr_list_is_empty(&m->open.undecided)) {
        aborted.stable_offset = MR_LIST_ENTRY(m->open.undecided.next, struct mr_txn, link)->first_offset;
    }
    enum mr_err err = is_commit || m->segment != m->lost ? MR_OK : mr_aborted_add(m->core, m->lost, &aborted);
    m->err = m->err != MR_OK ? m->err : err;
}

static void found(void *context, const struct mr_batch *batch, uint32_t pos, const uint8_t *control)
{
    (void)pos;
    struct mend     *m = context;
    struct mr_marker marker;
    if (control != NULL && mr_marker_load(control, mr_batch_bytes(batch), &marker)) {
        ended(m, batch, marker.is_commit);
    } else if (control == NULL && (batch->attributes & MR_BATCH_TRANSACTIONAL) != 0) {
        begun(m, batch->producer_id, batch->base_offset);
    }
}

static enum mr_err open_file(struct mend *m, const char *suffix, int32_t *file)
{
    char name[MR_FILE_NAME_BYTES];
    mr_segment_name(m->segment, suffix, name);
    struct mr_disk_op op = {.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = m->core->root, .name = name};
    enum mr_err       err = mr_core_disk(m->core, &op);
    *file = op.file;
    return err;
}

static enum mr_err read_at(struct mend *m, int32_t file, uint64_t pos, uint32_t *got)
{
    struct mr_disk_op op = {
        .kind = MR_DISK_READ, .file = file, .buffer = m->core->scratch, .len = MR_SCRATCH_BYTES, .pos = pos};
    enum mr_err err = mr_core_disk(m->core, &op);
    *got = op.done_bytes;
    return err;
}

static void close_file(struct mend *m, int32_t file)
{
    struct mr_disk_op op = {.kind = MR_DISK_CLOSE, .file = file};
    (void)mr_core_disk(m->core, &op);
}

/* What was open where m->segment begins. MR_ERR_CORRUPT: nobody knows. */
static enum mr_err begin(struct mend *m)
{
    int32_t     file = MR_DISK_NONE;
    uint32_t    len = 0;
    enum mr_err err = m->segment->base == 0 ? MR_OK : open_file(m, ".snapshot", &file);
    if (err != MR_OK || m->segment->base == 0) {
        return err == MR_ERR_NOT_FOUND ? MR_ERR_CORRUPT : err;
    }
    err = read_at(m, file, 0, &len);
    close_file(m, file);
    if (err != MR_OK || !mr_producer_snapshot_is_whole(m->core->scratch, len)) {
        return err != MR_OK ? err : MR_ERR_CORRUPT;
    }
    for (uint32_t at = MR_PRODUCER_SNAPSHOT_HEAD; at < len; at += MR_PRODUCER_SNAPSHOT_ENTRY) {
        int64_t producer_id;
        int64_t first_offset = mr_producer_snapshot_txn((const uint8_t *)m->core->scratch + at, &producer_id);
        if (first_offset >= 0) {
            begun(m, producer_id, first_offset);
        }
    }
    return m->err;
}

static struct mr_segment *segment_before(const struct mr_segment *segment)
{
    struct mr_list *link = segment->link.prev;
    return link == &segment->partition->segments ? NULL : MR_LIST_ENTRY(link, struct mr_segment, link);
}

/* The nearest segment at whose base it is known what was open. */
static enum mr_err begin_before(struct mend *m)
{
    enum mr_err        err = begin(m);
    struct mr_segment *before = segment_before(m->segment);
    while (err == MR_ERR_CORRUPT && before != NULL && !before->is_gone) {
        m->segment = before;
        before = segment_before(before);
        err = begin(m);
    }
    return err;
}

static enum mr_err scan(struct mend *m)
{
    struct mr_log_scan scan;
    int32_t            file = MR_DISK_NONE;
    enum mr_err        err = m->segment->size == 0 ? MR_OK : open_file(m, ".log", &file);
    if (err != MR_OK || m->segment->size == 0) {
        return err;
    }
    mr_log_scan_init(&scan, 0, m->segment->size, m->segment->base, false);
    while (err == MR_OK && scan.state == MR_LOG_SCAN_GOING) {
        uint32_t got = 0;
        err = read_at(m, file, scan.at, &got);
        if (err == MR_OK) {
            (void)mr_log_scan_feed(&scan, m->core->scratch, got, found, m);
            err = m->err;
        }
    }
    close_file(m, file);
    return err;
}

static enum mr_err mend_segment(struct mr_storage_core *core, struct mr_segment *segment)
{
    struct mend m = {.core = core, .segment = segment, .lost = segment};
    mr_txns_init(&m.open);
    enum mr_err err = begin_before(&m);
    if (err == MR_OK) {
        mr_aborted_clear(core, segment);
        err = scan(&m);
        while (err == MR_OK && m.segment != segment) {
            m.segment = mr_segment_next(m.segment);
            err = scan(&m);
        }
    } else if (err == MR_ERR_CORRUPT) {
        mr_log(core->log, MR_LOG_ERROR,
               "aborted transactions may be missing: index and snapshots are lost dir=%s segment=%lld",
               segment->partition->dir_name, (long long)segment->base);
        err = MR_OK;
    }
    while (!mr_list_is_empty(&m.open.undecided)) {
        mr_txn_end(core, &m.open, MR_LIST_ENTRY(m.open.undecided.next, struct mr_txn, link));
    }
    return err;
}

enum mr_err mr_txn_mend(struct mr_storage_core *core, struct mr_partition *p)
{
    enum mr_err err = MR_OK;
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        if (segment->is_aborted_lost && !segment->is_gone && err == MR_OK) {
            err = mend_segment(core, segment);
        }
        segment->is_aborted_lost = false;
    }
    return err;
}
