#include "metadata/meta_file.h"

#define READ_PIECE     (1u << 20) /* and of a write */
#define LIST_BYTES     (1u << 14) /* enough for a metadata directory; a full log directory needs more */
#define LIST_BYTES_MAX (1u << 28)

static void submit(struct mr_control *control, struct mr_meta_file *file,
                   enum mr_meta_file_step step, struct mr_disk_op op)
{
    file->step = step;
    file->op = op;
    file->op.user = file;
    mr_disk_submit(control->disk, &file->op);
}

static void begin(struct mr_meta_file *file, int32_t dir, const char *name, mr_meta_file_done *done)
{
    mr_assert(file->step == MR_META_FILE_IDLE && strlen(name) < MR_META_FILE_NAME);
    memset(file, 0, sizeof *file);
    memcpy(file->name, name, strlen(name) + 1);
    file->dir = dir;
    file->file = MR_DISK_NONE;
    file->done = done;
}

static void finish(struct mr_control *control, struct mr_now now, struct mr_meta_file *file)
{
    uint8_t *bytes = file->bytes;
    size_t   size = file->size;
    file->step = MR_META_FILE_IDLE;
    file->bytes = NULL;
    /* The function may begin the next file with this struct; what it wants to read is in a copy. */
    struct mr_meta_file view = *file;
    view.bytes = bytes;
    file->done(control, now, &view, view.err);
    mr_heap_free(&control->heap, bytes, size);
}

static void fail(struct mr_meta_file *file, enum mr_err err)
{
    if (file->err == MR_OK) {
        file->err = err;
        file->os_errno = file->op.os_errno;
    }
}

void mr_meta_file_load(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                       const char *name, mr_meta_file_done *done)
{
    begin(file, dir, name, done);
    submit(control, file, MR_META_FILE_LOAD_OPEN,
           (struct mr_disk_op){
               .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = dir, .name = file->name});
}

void mr_meta_file_store(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                        const char *name, const void *bytes, size_t len, mr_meta_file_done *done)
{
    uint8_t *copy = mr_heap_try(&control->heap, len);
    if (copy != NULL) {
        memcpy(copy, bytes, len);
    } /* else nothing is written, and that is an error */
    size_t size = copy == NULL ? 0 : len;
    mr_meta_file_store_heap(control, file, dir, name, copy, size, size, done);
}

void mr_meta_file_store_heap(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                             const char *name, uint8_t *bytes, size_t size, size_t len,
                             mr_meta_file_done *done)
{
    begin(file, dir, name, done);
    mr_assert(len <= size);
    file->bytes = bytes;
    file->size = size;
    file->len = len;
    mr_fmt(file->temporary, sizeof file->temporary, "%s.tmp", name);
    submit(control, file, MR_META_FILE_STORE_OPEN,
           (struct mr_disk_op){.kind = MR_DISK_OPEN,
                               .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                               .dir = dir,
                               .name = file->temporary});
}

static void list_submit(struct mr_control *control, struct mr_meta_file *file, size_t size)
{
    mr_heap_free(&control->heap, file->bytes, file->size);
    file->size = size;
    file->bytes = mr_heap_try(&control->heap, size);
    submit(control, file, MR_META_FILE_LIST,
           (struct mr_disk_op){.kind = MR_DISK_LIST,
                               .file = file->dir,
                               .buffer = file->bytes,
                               .len = file->bytes == NULL ? 0 : (uint32_t)size});
}

void mr_meta_file_list(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                       mr_meta_file_done *done)
{
    begin(file, dir, "", done);
    list_submit(control, file, LIST_BYTES);
}

size_t mr_meta_file_entry(const struct mr_meta_file *file, size_t at, struct mr_str *name)
{
    struct mr_disk_list_entry entry;
    memcpy(&entry, file->bytes + at, sizeof entry);
    const char *text = (const char *)file->bytes + at + sizeof entry;
    const void *end = memchr(text, '\0', entry.entry_bytes - sizeof entry);
    *name = entry.is_directory != 0 || end == NULL
                ? MR_STR_NULL
                : (struct mr_str){.data = text, .len = (int32_t)((const char *)end - text)};
    return at + entry.entry_bytes;
}

void mr_meta_file_unlink(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                         const char *name, mr_meta_file_done *done)
{
    begin(file, dir, name, done);
    submit(control, file, MR_META_FILE_UNLINK,
           (struct mr_disk_op){.kind = MR_DISK_UNLINK, .dir = dir, .name = file->name});
}

void mr_meta_file_close(struct mr_control *control, struct mr_meta_file *file, int32_t handle,
                        mr_meta_file_done *done)
{
    begin(file, MR_DISK_NONE, "", done);
    submit(control, file, MR_META_FILE_CLOSE,
           (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = handle});
}

void mr_meta_file_open_dir(struct mr_control *control, struct mr_meta_file *file, const char *path,
                           mr_meta_file_done *done)
{
    begin(file, MR_DISK_ROOT, "", done);
    submit(control, file, MR_META_FILE_OPEN_DIR,
           (struct mr_disk_op){.kind = MR_DISK_OPEN,
                               .flags = MR_DISK_READ_ONLY | MR_DISK_DIRECTORY,
                               .dir = MR_DISK_ROOT,
                               .name = path});
}

static void store_write(struct mr_control *control, struct mr_meta_file *file)
{
    size_t left = file->len - file->written;
    submit(control, file, MR_META_FILE_STORE_WRITE,
           (struct mr_disk_op){.kind = MR_DISK_WRITE,
                               .file = file->file,
                               .buffer = file->bytes + file->written,
                               .len = left < READ_PIECE ? (uint32_t)left : READ_PIECE,
                               .pos = file->written});
}

static void load_close(struct mr_control *control, struct mr_meta_file *file)
{
    submit(control, file, MR_META_FILE_LOAD_CLOSE,
           (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file->file});
}

static void load_read(struct mr_control *control, struct mr_meta_file *file)
{
    size_t left = file->size - file->len;
    submit(control, file, MR_META_FILE_LOAD_READ,
           (struct mr_disk_op){.kind = MR_DISK_READ,
                               .file = file->file,
                               .buffer = file->bytes + file->len,
                               .len = left < READ_PIECE ? (uint32_t)left : READ_PIECE,
                               .pos = file->len});
}

void mr_meta_file_reaped(struct mr_control *control, struct mr_now now, struct mr_disk_op *op)
{
    struct mr_meta_file *file = op->user;
    enum mr_err          err = op->err;
    mr_assert(op == &file->op);
    switch (file->step) {
    case MR_META_FILE_LOAD_OPEN:
        if (err != MR_OK) {
            fail(file, err);
            finish(control, now, file);
            return;
        }
        file->file = op->file;
        submit(control, file, MR_META_FILE_LOAD_STAT,
               (struct mr_disk_op){.kind = MR_DISK_STAT, .file = file->file});
        return;
    case MR_META_FILE_LOAD_STAT:
        if (err == MR_OK && op->size > 0) {
            file->size = op->size;
            file->bytes = mr_heap_try(&control->heap, file->size);
            err = file->bytes == NULL ? MR_ERR_NO_MEMORY : MR_OK;
        }
        if (err != MR_OK || file->size == 0) {
            fail(file, err);
            file->size = file->bytes == NULL ? 0 : file->size;
            load_close(control, file);
            return;
        }
        load_read(control, file);
        return;
    case MR_META_FILE_LOAD_READ:
        if (err != MR_OK) {
            fail(file, err);
        }
        file->len += op->done_bytes;
        if (err != MR_OK || op->done_bytes == 0 || file->len == file->size) {
            load_close(control, file);
            return;
        }
        load_read(control, file);
        return;
    case MR_META_FILE_LOAD_CLOSE:
        finish(control, now, file);
        return;
    case MR_META_FILE_STORE_OPEN:
        if (err != MR_OK) {
            fail(file, err);
            finish(control, now, file);
            return;
        }
        file->file = op->file;
        store_write(control, file);
        return;
    case MR_META_FILE_STORE_WRITE:
        fail(file, file->bytes == NULL ? MR_ERR_NO_MEMORY : err);
        if (err == MR_OK && op->done_bytes != op->len) {
            fail(file, MR_ERR_IO);
        }
        file->written += op->done_bytes;
        if (file->err == MR_OK && file->written < file->len) {
            store_write(control, file);
            return;
        }
        submit(control, file, MR_META_FILE_STORE_SYNC,
               (struct mr_disk_op){.kind = MR_DISK_SYNC, .file = file->file});
        return;
    case MR_META_FILE_STORE_SYNC:
        fail(file, err);
        submit(control, file, MR_META_FILE_STORE_CLOSE,
               (struct mr_disk_op){.kind = MR_DISK_CLOSE, .file = file->file});
        return;
    case MR_META_FILE_STORE_CLOSE:
        fail(file, err);
        if (file->err != MR_OK) {
            finish(control, now, file);
            return;
        }
        submit(control, file, MR_META_FILE_STORE_RENAME,
               (struct mr_disk_op){.kind = MR_DISK_RENAME,
                                   .dir = file->dir,
                                   .name = file->temporary,
                                   .new_name = file->name});
        return;
    case MR_META_FILE_STORE_RENAME:
        if (err != MR_OK) {
            fail(file, err);
            finish(control, now, file);
            return;
        }
        submit(control, file, MR_META_FILE_STORE_SYNC_DIR,
               (struct mr_disk_op){.kind = MR_DISK_SYNC_DIR, .file = file->dir});
        return;
    case MR_META_FILE_LIST:
        if (err == MR_OK && op->size > 0 && file->bytes != NULL && file->size < LIST_BYTES_MAX) {
            list_submit(control, file, file->size * 4); /* some entries did not fit */
            return;
        }
        fail(file, file->bytes == NULL ? MR_ERR_NO_MEMORY : err);
        file->len = file->err == MR_OK ? op->done_bytes : 0;
        finish(control, now, file);
        return;
    case MR_META_FILE_OPEN_DIR:
        fail(file, err);
        file->file = err == MR_OK ? op->file : MR_DISK_NONE;
        finish(control, now, file);
        return;
    case MR_META_FILE_CLOSE:
    case MR_META_FILE_UNLINK:
    case MR_META_FILE_STORE_SYNC_DIR:
        fail(file, err);
        finish(control, now, file);
        return;
    case MR_META_FILE_IDLE:
        break;
    }
    mr_unreachable("file step");
}
