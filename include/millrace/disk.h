/*
 * disk: the seam between us and files. Submit operations, reap completions; two implementations
 * (storage/disk/disk_uring.c for real files, tests/sim/sim_disk.c for faults on demand).
 *
 * Everything in a log directory goes through it, on every thread, or the simulator and the crash
 * points could not see it. An operation is a struct in its caller's memory that belongs to the disk
 * from submit until it is reaped; so do its buffer and names. Completions come in any order.
 *
 * Directories are named by a handle too: mr_disk_op.dir is a directory opened before (OPEN with
 * MR_DISK_DIRECTORY), or MR_DISK_ROOT when `name` is a path of its own.
 *
 * Errors: err is MR_OK, MR_ERR_IO, MR_ERR_NO_SPACE, MR_ERR_NOT_FOUND, MR_ERR_EXISTS, MR_ERR_LOCKED or
 * MR_ERR_INVALID (O_DIRECT or ALLOCATE refused); os_errno says more, for the log line. A short write is
 * continued by the implementation; a read that ends at the end of the file returns fewer bytes
 * in done_bytes without an error.
 *
 * Threads: one disk belongs to one thread.
 */
#ifndef MILLRACE_DISK_H
#define MILLRACE_DISK_H

#include "millrace/base/assert.h"
#include "millrace/base/err.h"
#include "millrace/base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mr_disk_kind {
    MR_DISK_READ,
    MR_DISK_WRITE,
    MR_DISK_SYNC,     /* fdatasync of one file */
    MR_DISK_SYNC_DIR, /* fsync of directory `file` */
    MR_DISK_SYNC_FS,  /* syncfs of the file system that holds `file` */
    MR_DISK_ALLOCATE, /* fallocate [pos, pos + len64), size extended */
    MR_DISK_TRUNCATE, /* to pos */
    MR_DISK_OPEN,     /* (dir, name) -> file */
    MR_DISK_CLOSE,
    MR_DISK_STAT,   /* (dir, name), or `file` when name is NULL -> size, mtime_ms, changed_ns, is_directory, space */
    MR_DISK_LIST,   /* directory `file` -> entries in buffer, see mr_disk_list_entry */
    MR_DISK_MKDIR,  /* (dir, name); MR_ERR_EXISTS when it is there */
    MR_DISK_RENAME, /* (dir, name) -> (dir, new_name); replaces */
    MR_DISK_UNLINK, /* (dir, name), a file or, with MR_DISK_DIRECTORY, an empty directory */
    MR_DISK_LOCK,   /* fcntl(F_OFD_SETLK) whole-file write lock on `file`; MR_ERR_LOCKED */
};

enum mr_disk_flag {
    MR_DISK_CREATE = 1,     /* OPEN: create when absent */
    MR_DISK_DIRECT = 2,     /* OPEN: O_DIRECT; buffers, positions and lengths 4 KiB-aligned then */
    MR_DISK_READ_ONLY = 4,  /* OPEN */
    MR_DISK_DIRECTORY = 8,  /* OPEN, UNLINK */
    MR_DISK_DSYNC = 16,     /* WRITE: durable when complete (RWF_DSYNC) */
    MR_DISK_EXCLUSIVE = 32, /* OPEN with CREATE: MR_ERR_EXISTS when present */
    MR_DISK_TRUNC = 64,     /* OPEN: O_TRUNC */
    MR_DISK_BACKGROUND = 128, /* any: not on the core's ring, where it would hold up commits: extending
                                 writes, syncs of segments (ALLOCATE, SYNC_FS, ... never are) */
    MR_DISK_NUMBERED = 256,   /* LIST: sizes are asked for only where the name begins with a digit */
};

/* Memory of a WRITE that lies in several places: written one behind the other. Laid out like struct iovec. */
struct mr_disk_piece {
    void  *data;
    size_t len;
};

#define MR_DISK_ROOT (-1)
#define MR_DISK_NONE (-1)

struct mr_disk;

struct mr_disk_op {
    /* what to do: the caller's */
    enum mr_disk_kind kind;
    uint32_t          flags;
    int32_t           file; /* handle; result of OPEN */
    int32_t           dir;
    const char       *name;
    const char       *new_name;
    void             *buffer; /* READ, WRITE, LIST */
    uint32_t          len;
    uint32_t          piece_count; /* WRITE: 0, or as many pieces instead of `buffer`, `len` bytes in all; each
                                      aligned as a buffer must be. Not with BACKGROUND, not by mr_disk_run. */
    struct mr_disk_piece *pieces;  /* the disk's until the operation is reaped, and changed by it */
    uint64_t          pos;
    uint64_t          len64;
    void             *user;

    /* what came of it */
    enum mr_err err;
    int32_t     os_errno;
    uint32_t    done_bytes;
    uint64_t    size; /* STAT; LIST: number of entries that did not fit */
    int64_t     mtime_ms;
    int64_t     changed_ns; /* when anything of the file changed last, its name too; nobody can set it (ctime) */
    bool        is_directory;
    uint64_t    space_total_bytes; /* STAT of a directory handle: the file system's */
    uint64_t    space_free_bytes;

    struct mr_list  link; /* the disk's, from submit to reap; the caller's otherwise */
    struct mr_disk *disk; /* the disk's */
};

/* LIST fills the buffer with these, each name followed by a zero byte, entries 8-byte aligned. */
struct mr_disk_list_entry {
    uint32_t entry_bytes; /* to the next one */
    uint32_t is_directory;
    uint64_t size; /* 0 for directories, and where it was not asked for */
    char     name[];
};

struct mr_disk_ops {
    const char *name; /* "uring", "sim" */

    /* Take the operation. It starts at once or with the core's next wait; never fails here. */
    void (*submit)(struct mr_disk *disk, struct mr_disk_op *op);

    /* Completed operations, at most `max`; returns how many. Never blocks. */
    uint32_t (*reap)(struct mr_disk *disk, struct mr_disk_op **done, uint32_t max);

    /* Block until at least one operation can be reaped; at least one must be in flight. Only for
     * start and stop (recovery, clean shutdown, format), never inside a turn. */
    void (*wait)(struct mr_disk *disk);

    /* Do one operation here and now, blocking; nothing is reaped for it. Start and stop only. NULL:
     * mr_disk_run submits and waits. */
    void (*run)(struct mr_disk *disk, struct mr_disk_op *op);
};

/* Embedded first in each implementation. */
struct mr_disk {
    const struct mr_disk_ops *ops;
    uint32_t                  in_flight;
};

static inline void mr_disk_submit(struct mr_disk *disk, struct mr_disk_op *op)
{
    disk->ops->submit(disk, op);
}

static inline uint32_t mr_disk_reap(struct mr_disk *disk, struct mr_disk_op **done, uint32_t max)
{
    return disk->ops->reap(disk, done, max);
}

/* Submit one operation and block until it is done. Nothing else may be in flight (asserted). */
static inline enum mr_err mr_disk_run(struct mr_disk *disk, struct mr_disk_op *op)
{
    struct mr_disk_op *done = NULL;
    mr_assert(disk->in_flight == 0);
    if (disk->ops->run != NULL) {
        disk->ops->run(disk, op);
        return op->err;
    }
    disk->ops->submit(disk, op);
    while (disk->ops->reap(disk, &done, 1) == 0) {
        disk->ops->wait(disk);
    }
    mr_assert(done == op);
    return op->err;
}

#endif
