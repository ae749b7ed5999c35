/*
 * clean_out: the files of a segment that compaction makes: <base>.log.cleaned and its indexes, each through a buffer,
 * synced when they are complete.
 *
 * Written through the page cache, extending as they grow, on the background of the disk: nobody waits for them.
 */
#include "log/cleaner.h"

#include "log/offset_index.h"
#include "log/time_index.h"

const char *const mr_clean_suffixes[MR_CLEAN_KINDS] = {".index", ".timeindex", ".txnindex", ".log"};

static void cleaned_name(struct mr_cleaner *c, enum mr_clean_kind kind)
{
    mr_fmt(c->name, sizeof c->name, "%s/%020lld%s.cleaned", c->p->dir_name, (long long)c->group_base,
           mr_clean_suffixes[kind]);
}

/* ---- OPEN ---- */

/* at: the kind that is opened next. */
enum mr_clean_progress mr_clean_out_open(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (c->at > 0) {
        if (c->io.op.err != MR_OK) {
            return mr_cleaner_failed(core, c, "making a file of a compacted segment");
        }
        c->streams[c->at - 1] = (struct mr_clean_stream){.file = c->io.op.file,
                                                         .bytes = c->streams[c->at - 1].bytes,
                                                         .size = c->streams[c->at - 1].size};
    }
    if (c->at == MR_CLEAN_KINDS) {
        return mr_cleaner_phase(c, MR_CLEAN_COPY);
    }
    cleaned_name(c, (enum mr_clean_kind)c->at++);
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                   .flags = MR_DISK_CREATE | MR_DISK_TRUNC | MR_DISK_BACKGROUND,
                                   .dir = core->root,
                                   .name = c->name};
    return MR_CLEAN_IO;
}

/* ---- COPY: what is added ---- */

static bool has_room(const struct mr_clean_stream *stream, uint32_t bytes)
{
    return stream->size - stream->used >= bytes;
}

static void flush_op(struct mr_cleaner *c, struct mr_clean_stream *stream)
{
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_WRITE,
                                   .flags = MR_DISK_BACKGROUND,
                                   .file = stream->file,
                                   .buffer = stream->bytes,
                                   .len = stream->used,
                                   .pos = stream->pos};
    stream->pos += stream->used;
    stream->used = 0;
}

bool mr_clean_out_has_room(struct mr_cleaner *c, uint32_t bytes)
{
    static const uint32_t entries[MR_CLEAN_KINDS] = {MR_OFFSET_INDEX_ENTRY, 2 * MR_TIME_INDEX_ENTRY, MR_ABORTED_ENTRY, 0};
    for (uint32_t kind = 0; kind < MR_CLEAN_KINDS; kind++) {
        struct mr_clean_stream *stream = &c->streams[kind];
        if (!has_room(stream, kind == MR_CLEAN_LOG ? bytes : entries[kind]) && stream->used > 0) {
            flush_op(c, stream);
            return false;
        }
    }
    return true;
}

static void add_time(struct mr_cleaner *c)
{
    struct mr_segment      *anew = c->anew;
    struct mr_clean_stream *stream = &c->streams[MR_CLEAN_TIME];
    int64_t                 relative = anew->max_timestamp_offset - anew->base;
    if (anew->max_timestamp <= anew->last_time || relative <= anew->last_time_relative || relative > INT32_MAX) {
        return;
    }
    anew->last_time = anew->max_timestamp;
    anew->last_time_relative = (int32_t)relative;
    mr_time_index_store(stream->bytes + stream->used,
                        (struct mr_time_index_entry){.timestamp = anew->last_time, .relative = (int32_t)relative});
    stream->used += MR_TIME_INDEX_ENTRY;
    anew->time_bytes += MR_TIME_INDEX_ENTRY;
}

static void add_place(struct mr_cleaner *c, int64_t last_offset)
{
    struct mr_segment      *anew = c->anew;
    struct mr_clean_stream *stream = &c->streams[MR_CLEAN_INDEX];
    int64_t                 relative = last_offset - anew->base;
    if (relative > anew->last_relative && relative <= INT32_MAX) {
        anew->last_relative = (int32_t)relative;
        mr_offset_index_store(stream->bytes + stream->used,
                              (struct mr_offset_index_entry){.relative = (int32_t)relative, .pos = anew->size});
        stream->used += MR_OFFSET_INDEX_ENTRY;
        anew->index_bytes += MR_OFFSET_INDEX_ENTRY;
    }
}

void mr_clean_out_add(struct mr_cleaner *c, const uint8_t *bytes, uint32_t len)
{
    struct mr_segment *anew = c->anew;
    struct mr_batch    batch;
    mr_batch_header_load(bytes, &batch);
    if (anew->size == 0) {
        anew->first_timestamp = batch.max_timestamp;
    }
    if (batch.record_count > 0 && batch.max_timestamp > anew->max_timestamp) {
        anew->max_timestamp = batch.max_timestamp;
        anew->max_timestamp_offset = mr_batch_last_offset(&batch);
    }
    if (anew->since_index > c->p->config.index_interval_bytes) {
        add_place(c, mr_batch_last_offset(&batch));
        add_time(c);
        anew->since_index = 0;
    }
    anew->since_index += len;
    anew->size += len;
    c->streams[MR_CLEAN_LOG].used += len;
}

enum mr_err mr_clean_out_aborted(struct mr_storage_core *core, struct mr_cleaner *c, const struct mr_aborted *aborted)
{
    struct mr_clean_stream *stream = &c->streams[MR_CLEAN_TXN];
    enum mr_err             err = mr_aborted_add(core, c->anew, aborted);
    if (err == MR_OK) {
        c->anew->aborted_written++; /* before anybody reads the list */
        c->p->txns.aborted_unwritten--;
        mr_aborted_store(aborted, stream->bytes + stream->used);
        stream->used += MR_ABORTED_ENTRY;
    }
    return err;
}

/* ---- FINISH ---- */

enum finish_at {
    FINISH_FLUSH,
    FINISH_SYNC,
    FINISH_CLOSE,
    FINISH_STEPS,
};

/* at: stream and step. */
enum mr_clean_progress mr_clean_out_finish(struct mr_storage_core *core, struct mr_cleaner *c)
{
    if (c->at == 0) {
        add_time(c); /* the largest, as Kafka does when a segment ends */
    } else if (c->io.op.err != MR_OK) {
        return mr_cleaner_failed(core, c, "writing a compacted segment");
    }
    if (c->at == MR_CLEAN_KINDS * FINISH_STEPS) {
        return mr_cleaner_phase(c, MR_CLEAN_SWAP);
    }
    struct mr_clean_stream *stream = &c->streams[c->at / FINISH_STEPS];
    switch ((enum finish_at)(c->at++ % FINISH_STEPS)) {
    case FINISH_FLUSH:
        if (stream->used == 0) {
            return MR_CLEAN_ON;
        }
        flush_op(c, stream);
        break;
    case FINISH_SYNC:
        c->io.op = (struct mr_disk_op){.kind = MR_DISK_SYNC, .flags = MR_DISK_BACKGROUND, .file = stream->file};
        break;
    case FINISH_CLOSE:
        c->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = stream->file};
        stream->file = MR_DISK_NONE;
        break;
    case FINISH_STEPS:
        mr_unreachable("step of a stream");
    }
    return MR_CLEAN_IO;
}

/* ---- UNDO ---- */

/* at: first the streams are closed, then the names go; what cannot be removed goes at the next start. */
enum mr_clean_progress mr_clean_out_undo(struct mr_storage_core *core, struct mr_cleaner *c)
{
    while (c->at < MR_CLEAN_KINDS) {
        struct mr_clean_stream *stream = &c->streams[c->at++];
        if (stream->file != MR_DISK_NONE) {
            c->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = stream->file};
            stream->file = MR_DISK_NONE;
            return MR_CLEAN_IO;
        }
    }
    if (c->anew == NULL || c->at == 2 * MR_CLEAN_KINDS) {
        return MR_CLEAN_ON;
    }
    cleaned_name(c, (enum mr_clean_kind)(c->at++ - MR_CLEAN_KINDS));
    c->io.op = (struct mr_disk_op){
        .kind = MR_DISK_UNLINK, .flags = MR_DISK_BACKGROUND, .dir = core->root, .name = c->name};
    return MR_CLEAN_IO;
}
