/*
 * clean_source: what both passes of the cleaner read: the batches of segments, one after the other, each whole and with a
 * right CRC. What a pass does with one is its own (struct mr_clean_pass).
 */
#include "log/cleaner.h"

enum source_got {
    SOURCE_BATCH, /* whole, with a right CRC */
    SOURCE_END,
    SOURCE_IO,
    SOURCE_BAD,
};

static enum source_got bad(struct mr_storage_core *core, const struct mr_cleaner *c, const char *what)
{
    mr_log(core->log, MR_LOG_ERROR, "not compacted any more until the next start: %s dir=%s segment=%lld pos=%llu", what,
           c->p->dir_name, (long long)c->source->base, (unsigned long long)c->pos);
    return SOURCE_BAD;
}

static enum source_got open_file(struct mr_storage_core *core, struct mr_cleaner *c)
{
    c->source_at = MR_CLEAN_OPENING;
    mr_segment_name(c->source, ".log", c->name);
    c->io.op = (struct mr_disk_op){.kind = MR_DISK_OPEN,
                                   .flags = MR_DISK_READ_ONLY | (core->is_buffered ? 0u : (uint32_t)MR_DISK_DIRECT),
                                   .dir = core->root,
                                   .name = c->name};
    return SOURCE_IO;
}

/* How the operation before went. SOURCE_END: well. */
static enum source_got io_done(struct mr_storage_core *core, struct mr_cleaner *c)
{
    const struct mr_disk_op *op = &c->io.op;
    if (c->source_at == MR_CLEAN_OPENING) {
        if (op->err == MR_ERR_INVALID && (op->flags & MR_DISK_DIRECT) != 0) {
            core->is_buffered = true;
            return open_file(core, c);
        }
        c->source_at = MR_CLEAN_READY;
        c->source_file = op->file;
    } else if (c->source_at == MR_CLEAN_READING) {
        c->source_at = MR_CLEAN_READY;
        c->have = op->done_bytes;
    }
    if (op->err != MR_OK) {
        c->source_file = c->source_file == op->file ? c->source_file : MR_DISK_NONE;
        mr_core_read_failed(core, c->source, op);
        return bad(core, c, op->err == MR_ERR_NOT_FOUND ? "a segment has no file" : "a segment cannot be read");
    }
    return SOURCE_END;
}

static enum source_got read_more(struct mr_storage_core *core, struct mr_cleaner *c, uint64_t need)
{
    c->from = c->pos & ~(uint64_t)(MR_PAGE_BYTES - 1);
    uint64_t end = ((uint64_t)c->source->size + MR_PAGE_BYTES - 1) & ~(uint64_t)(MR_PAGE_BYTES - 1);
    uint32_t len = end - c->from < c->in_bytes ? (uint32_t)(end - c->from) : c->in_bytes;
    if (c->pos - c->from + need > len) {
        return bad(core, c, "a batch is larger than log.cleaner.io.buffer.size");
    }
    c->source_at = MR_CLEAN_READING;
    c->io.op = (struct mr_disk_op){
        .kind = MR_DISK_READ, .file = c->source_file, .buffer = c->in, .len = len, .pos = c->from};
    return SOURCE_IO;
}

/* No CRC covers the base offset and the leader epoch: the one must lie behind the batch before, and the batch before the
 * next segment; the other must have been. What is copied wrong stays wrong. */
static bool is_batch(const struct mr_cleaner *c, const struct mr_batch *batch)
{
    int64_t segment_end = mr_segment_next(c->source)->base;
    return batch->magic == 2 && batch->batch_length >= MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS &&
           batch->last_offset_delta >= 0 && batch->base_offset >= c->next_offset &&
           batch->base_offset < segment_end - batch->last_offset_delta && mr_partition_had_epoch(c->p, batch->leader_epoch) &&
           c->pos + mr_batch_bytes(batch) <= c->source->size;
}

/* The batch at pos. */
static enum source_got get(struct mr_storage_core *core, struct mr_cleaner *c, const uint8_t **bytes,
                           struct mr_batch *batch)
{
    if (c->source_at == MR_CLEAN_CLOSED) {
        return open_file(core, c);
    }
    bool was_read = c->source_at == MR_CLEAN_READING;
    if (c->source_at != MR_CLEAN_READY) {
        enum source_got got = io_done(core, c);
        if (got != SOURCE_END) {
            return got;
        }
    }
    if (c->pos >= c->source->size) {
        return SOURCE_END;
    }
    uint64_t end = c->from + c->have;
    uint64_t need = MR_BATCH_HEADER;
    if (c->have > 0 && c->pos >= c->from && c->pos + MR_BATCH_HEADER <= end) {
        *bytes = c->in + (c->pos - c->from);
        mr_batch_header_load(*bytes, batch);
        if (!is_batch(c, batch)) {
            return bad(core, c, "what is there is no batch");
        }
        need = mr_batch_bytes(batch);
        if (c->pos + need <= end) {
            bool is_right = c->is_known || mr_crc32c(0, *bytes + MR_BATCH_CHECKED_AT,
                                                     (size_t)need - MR_BATCH_CHECKED_AT) == batch->crc;
            return is_right ? SOURCE_BATCH : bad(core, c, "bad CRC");
        }
    }
    if (was_read && (c->pos & ~(uint64_t)(MR_PAGE_BYTES - 1)) == c->from && need <= c->in_bytes - MR_PAGE_BYTES) {
        return bad(core, c, "the file ends before its segment");
    }
    return read_more(core, c, need);
}

void mr_clean_source_took(struct mr_cleaner *c, const struct mr_batch *batch)
{
    /* A compressed one is unpacked, and packed again when something of it goes: by codec, in plain bytes. */
    static const uint8_t weights[MR_BATCH_CODEC_MASK + 1] = {1, 64, 12, 12, 24, 1, 1, 1};
    uint64_t             bytes = mr_batch_bytes(batch);
    uint64_t             work = bytes * weights[batch->attributes & MR_BATCH_CODEC_MASK];
    c->pos += bytes;
    c->next_offset = mr_batch_last_offset(batch) + 1;
    c->taken += bytes;
    c->is_known = false;
    c->budget -= work < c->budget ? work : c->budget;
}

enum mr_clean_progress mr_clean_source_bad(struct mr_storage_core *core, struct mr_cleaner *c, const char *what)
{
    (void)bad(core, c, what);
    return mr_cleaner_undo(c, true);
}

/* ---- Segment by segment ---- */

bool mr_clean_source_begin(struct mr_cleaner *c, struct mr_segment *segment, int64_t end)
{
    if (segment == NULL || segment->is_gone) {
        return false;
    }
    c->source = segment;
    c->source->users++;
    c->source_at = MR_CLEAN_CLOSED;
    c->source_end = end;
    c->pos = 0;
    c->next_offset = segment->base;
    c->have = 0;
    c->is_known = false;
    return true;
}

bool mr_clean_source_close(struct mr_cleaner *c)
{
    if (c->source == NULL) {
        return true;
    }
    if (c->source_file != MR_DISK_NONE) {
        c->io.op = (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = c->source_file};
        c->source_file = MR_DISK_NONE;
        return false;
    }
    c->source->users--;
    c->source = NULL;
    return true;
}

static enum mr_clean_progress next_segment(struct mr_cleaner *c, const struct mr_clean_pass *pass)
{
    struct mr_segment *next = mr_segment_next(c->source);
    if (!mr_clean_source_close(c)) {
        return MR_CLEAN_IO;
    }
    if (next->base >= c->source_end) {
        return pass->over(c);
    }
    return mr_clean_source_begin(c, next, c->source_end) ? MR_CLEAN_ON : mr_cleaner_undo(c, false);
}

enum mr_clean_progress mr_clean_source_step(struct mr_storage_core *core, struct mr_cleaner *c,
                                            const struct mr_clean_pass *pass)
{
    const uint8_t  *bytes = NULL;
    struct mr_batch batch;
    if (c->source_at == MR_CLEAN_OVER) {
        return next_segment(c, pass);
    }
    switch (get(core, c, &bytes, &batch)) {
    case SOURCE_IO:
        return MR_CLEAN_IO;
    case SOURCE_BAD:
        return mr_cleaner_undo(c, true);
    case SOURCE_END:
        c->source_at = MR_CLEAN_OVER;
        return MR_CLEAN_ON;
    case SOURCE_BATCH:
        return pass->take(core, c, &batch, bytes);
    }
    mr_unreachable("what a source gave");
}
