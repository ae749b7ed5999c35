/*
 * meta_file: a small file whole: load it, or store it so that after any crash it is the old or the
 * new one (temporary name, fsync, rename, fsync of the directory, as Kafka does).
 *
 * A step machine over the disk seam: it submits one operation at a time and goes on when that is
 * reaped (mr_meta_file_reaped). Thread: control.
 */
#ifndef MILLRACE_CONTROL_META_FILE_H
#define MILLRACE_CONTROL_META_FILE_H

#include "control_private.h"

#define MR_META_FILE_NAME 560 /* a path of its own, or a name in a directory */

struct mr_meta_file;

/* The file's memory may be used until the function returns; then it is freed. */
typedef void mr_meta_file_done(struct mr_control *control, struct mr_now now,
                               struct mr_meta_file *file, enum mr_err err);

enum mr_meta_file_step {
    MR_META_FILE_IDLE,
    MR_META_FILE_LOAD_OPEN,
    MR_META_FILE_LOAD_STAT,
    MR_META_FILE_LOAD_READ,
    MR_META_FILE_LOAD_CLOSE,
    MR_META_FILE_STORE_OPEN,
    MR_META_FILE_STORE_WRITE,
    MR_META_FILE_STORE_SYNC,
    MR_META_FILE_STORE_CLOSE,
    MR_META_FILE_STORE_RENAME,
    MR_META_FILE_STORE_SYNC_DIR,
    MR_META_FILE_LIST,
    MR_META_FILE_OPEN_DIR,
    MR_META_FILE_CLOSE,
    MR_META_FILE_UNLINK,
};

struct mr_meta_file {
    struct mr_disk_op      op; /* op.user is this */
    enum mr_meta_file_step step;
    enum mr_err            err;
    int32_t                os_errno; /* of the first failure */
    int32_t                dir;
    int32_t                file;
    char                   name[MR_META_FILE_NAME];
    char                   temporary[MR_META_FILE_NAME + 4];
    uint8_t               *bytes; /* heap */
    size_t                 size;
    size_t                 len; /* LOAD: what was read; STORE: what is to be written */
    size_t                 written;
    mr_meta_file_done     *done;
};

/* One operation at a time per struct (asserted). `name` is copied. */
void mr_meta_file_load(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                       const char *name, mr_meta_file_done *done);

/* The bytes are copied. */
void mr_meta_file_store(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                        const char *name, const void *bytes, size_t len, mr_meta_file_done *done);

/* The `len` bytes at the start of `size` in the heap, which are the file's from now on. */
void mr_meta_file_store_heap(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                             const char *name, uint8_t *bytes, size_t size, size_t len,
                             mr_meta_file_done *done);

/* Entries of a directory (struct mr_disk_list_entry) in file->bytes, file->len of them in bytes. */
void mr_meta_file_list(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                       mr_meta_file_done *done);

/* Open a directory by its path, which must stay; the handle is file->file. */
void mr_meta_file_open_dir(struct mr_control *control, struct mr_meta_file *file, const char *path,
                           mr_meta_file_done *done);

/* After a list: the name of the file at `at`, a null string for a directory; where the next entry is. */
size_t mr_meta_file_entry(const struct mr_meta_file *file, size_t at, struct mr_str *name);

/* Remove a file; a crash may bring it back. */
void mr_meta_file_unlink(struct mr_control *control, struct mr_meta_file *file, int32_t dir,
                         const char *name, mr_meta_file_done *done);

/* Close a handle. */
void mr_meta_file_close(struct mr_control *control, struct mr_meta_file *file, int32_t handle,
                        mr_meta_file_done *done);

/* The disk has finished file->op. */
void mr_meta_file_reaped(struct mr_control *control, struct mr_now now, struct mr_disk_op *op);

#endif
