/*
 * disk_uring: the disk on a core's io_uring, and a helper thread for what does not belong there.
 *
 *   READ, WRITE, SYNC, OPEN, CLOSE                          the core's ring
 *   everything else, and whatever says MR_DISK_BACKGROUND   the helper, one after the other
 *   mr_disk_run (start and stop)                            system calls, here and now
 *
 * Nothing but commits may put flushes or extending writes on a storage core's ring: 64 queued
 * fsyncs raised a commit from 131 us to 1.4 ms (architecture 4.2.3). A finished chore is announced
 * through an eventfd that is read on the ring, so that it ends the core's wait like any completion.
 *
 * Several disks may share a thread's ring, one per log directory: whoever reaps takes what has arrived for all of them
 * and puts it where its owner finds it. Their helpers are their own: a directory whose disk hangs holds up no other.
 *
 * A short write is continued; so is a short read, until it ends at the end of the file.
 *
 * Threads: the core's, and the helper, which sees an op only between its two lists. The helper starts
 * with the first chore. Edge file: system calls, one mutex.
 */
#include "millrace/base/bug.h"
#include "millrace/storage.h"
#include "millrace/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h> /* renameat */
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LIST_CHUNK 32768u
#define FROM_HELPER (1ull << 63) /* in user_data: the address is a disk's, whose helper rings; no address has that bit */

struct disk_uring {
    struct mr_disk  disk;
    struct mr_wait *wait;
    struct mr_list  done; /* finished, not reaped */

    bool     has_helper;
    bool     is_armed; /* the read of `event_fd` is on the ring */
    int      event_fd;
    uint64_t event_value;

    /* shared with the helper, under the mutex */
    pthread_t       helper;
    pthread_mutex_t mutex;
    pthread_cond_t  has_chores;
    struct mr_list  chores;
    struct mr_list  chores_done;
    bool            is_stopping;
};

static struct disk_uring *disk_of(struct mr_disk *disk)
{
    return (struct disk_uring *)(void *)disk;
}

/* ---- System calls ---- */

static enum mr_err err_of(int code)
{
    switch (code) {
    case 0:
        return MR_OK;
    case ENOSPC:
    case EDQUOT:
        return MR_ERR_NO_SPACE;
    case ENOENT:
        return MR_ERR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return MR_ERR_EXISTS;
    case EINVAL:
    case EOPNOTSUPP: /* fallocate on a file system that has none */
        return MR_ERR_INVALID;
    default:
        return MR_ERR_IO;
    }
}

static void op_end(struct mr_disk_op *op, int code)
{
    op->os_errno = code;
    op->err = err_of(code);
}

static int op_dir(const struct mr_disk_op *op)
{
    return op->dir == MR_DISK_ROOT ? AT_FDCWD : op->dir;
}

static int open_flags(uint32_t flags)
{
    int os = O_CLOEXEC;
    if ((flags & MR_DISK_DIRECTORY) != 0) {
        return os | O_RDONLY | O_DIRECTORY;
    }
    os |= (flags & MR_DISK_READ_ONLY) != 0 ? O_RDONLY : O_RDWR;
    os |= (flags & MR_DISK_CREATE) != 0 ? O_CREAT : 0;
    os |= (flags & MR_DISK_EXCLUSIVE) != 0 ? O_EXCL : 0;
    os |= (flags & MR_DISK_TRUNC) != 0 ? O_TRUNC : 0;
    os |= (flags & MR_DISK_DIRECT) != 0 ? O_DIRECT : 0;
    return os;
}

static int64_t ms_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int do_write(struct mr_disk_op *op)
{
    int flags = (op->flags & MR_DISK_DSYNC) != 0 ? RWF_DSYNC : 0;
    while (op->done_bytes < op->len) {
        struct iovec part = {.iov_base = (uint8_t *)op->buffer + op->done_bytes,
                             .iov_len = op->len - op->done_bytes};
        ssize_t      got = pwritev2(op->file, &part, 1, (off_t)(op->pos + op->done_bytes), flags);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? errno : EIO;
        }
        op->done_bytes += (uint32_t)got;
    }
    return 0;
}

static int do_read(struct mr_disk_op *op)
{
    while (op->done_bytes < op->len) {
        ssize_t got = pread(op->file, (uint8_t *)op->buffer + op->done_bytes,
                            op->len - op->done_bytes, (off_t)(op->pos + op->done_bytes));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno == EINVAL && op->done_bytes > 0) {
            return 0; /* O_DIRECT, unaligned end of the file */
        }
        if (got < 0) {
            return errno;
        }
        if (got == 0) {
            return 0;
        }
        op->done_bytes += (uint32_t)got;
    }
    return 0;
}

static int do_stat(struct mr_disk_op *op)
{
    struct stat st;
    int rc = op->name != NULL ? fstatat(op_dir(op), op->name, &st, 0) : fstat(op->file, &st);
    if (rc != 0) {
        return errno;
    }
    op->size = (uint64_t)st.st_size;
    op->mtime_ms = ms_of(st.st_mtim);
    op->changed_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
    op->is_directory = S_ISDIR(st.st_mode);
    if (op->name == NULL && op->is_directory) {
        struct statvfs fs;
        if (fstatvfs(op->file, &fs) != 0) {
            return errno;
        }
        op->space_total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
        op->space_free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        if (fs.f_blocks == 0) { /* ramfs and its like do not count: that is not the same as full */
            op->space_total_bytes = INT64_MAX;
            op->space_free_bytes = INT64_MAX;
        }
    }
    return 0;
}

/* What getdents64 writes; the C library has no declaration of it. */
struct os_dirent {
    uint64_t       ino;
    int64_t        off;
    unsigned short reclen;
    unsigned char  type;
    char           name[];
};

/* A start reads thousands of small files, and a read that moves the access time writes an inode. */
static int do_open(struct mr_disk_op *op)
{
    int flags = open_flags(op->flags);
    if ((op->flags & MR_DISK_CREATE) == 0) {
        op->file = openat(op_dir(op), op->name, flags | O_NOATIME, 0644);
        if (op->file >= 0 || errno != EPERM) {
            return op->file < 0 ? errno : 0;
        }
    } /* EPERM: another user's file, where only its owner may ask for that */
    op->file = openat(op_dir(op), op->name, flags, 0644);
    return op->file < 0 ? errno : 0;
}

static int do_list(struct mr_disk_op *op)
{
    alignas(8) static _Thread_local uint8_t chunk[LIST_CHUNK];
    op->size = 0;
    if (lseek(op->file, 0, SEEK_SET) < 0) {
        return errno;
    }
    for (;;) {
        long got = syscall(SYS_getdents64, op->file, chunk, sizeof chunk);
        if (got < 0) {
            return errno;
        }
        if (got == 0) {
            return 0;
        }
        for (long at = 0; at < got;) {
            struct os_dirent *entry = (struct os_dirent *)(void *)(chunk + at);
            at += entry->reclen;
            if (entry->name[0] == '.' &&
                (entry->name[1] == '\0' || (entry->name[1] == '.' && entry->name[2] == '\0'))) {
                continue;
            }
            bool     is_directory = entry->type == 4; /* DT_DIR */
            bool     is_plain = entry->type == 8;     /* DT_REG */
            bool     is_number = entry->name[0] >= '0' && entry->name[0] <= '9';
            uint64_t size = 0;
            if (!is_directory && (!is_plain || is_number || (op->flags & MR_DISK_NUMBERED) == 0)) {
                struct stat st;
                if (fstatat(op->file, entry->name, &st, 0) != 0) {
                    if (errno == ENOENT) {
                        continue; /* gone meanwhile */
                    }
                    return errno;
                }
                is_directory = S_ISDIR(st.st_mode);
                size = is_directory ? 0 : (uint64_t)st.st_size;
            }
            uint32_t name_bytes = (uint32_t)strlen(entry->name) + 1;
            uint32_t need = ((uint32_t)sizeof(struct mr_disk_list_entry) + name_bytes + 7u) & ~7u;
            if (need > op->len - op->done_bytes) {
                op->size++;
                continue;
            }
            struct mr_disk_list_entry *out =
                (struct mr_disk_list_entry *)(void *)((uint8_t *)op->buffer + op->done_bytes);
            out->entry_bytes = need;
            out->is_directory = is_directory;
            out->size = size;
            memcpy(out->name, entry->name, name_bytes);
            op->done_bytes += need;
        }
    }
}

static int do_lock(struct mr_disk_op *op)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(op->file, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

static int os_result(int rc)
{
    return rc == 0 ? 0 : errno;
}

/* The whole operation with blocking calls. */
static void do_blocking(struct mr_disk_op *op)
{
    int code = 0;
    op->done_bytes = 0;
    switch (op->kind) {
    case MR_DISK_READ:
        code = do_read(op);
        break;
    case MR_DISK_WRITE:
        code = do_write(op);
        break;
    case MR_DISK_SYNC:
        code = os_result(fdatasync(op->file));
        break;
    case MR_DISK_SYNC_DIR:
        code = os_result(fsync(op->file));
        break;
    case MR_DISK_SYNC_FS:
        code = os_result(syncfs(op->file));
        break;
    case MR_DISK_ALLOCATE:
        code = os_result(fallocate(op->file, 0, (off_t)op->pos, (off_t)op->len64));
        break;
    case MR_DISK_TRUNCATE:
        code = os_result(ftruncate(op->file, (off_t)op->pos));
        break;
    case MR_DISK_OPEN:
        code = do_open(op);
        break;
    case MR_DISK_CLOSE:
        /* Whatever close says, the descriptor is gone. */
        code = os_result(close(op->file));
        break;
    case MR_DISK_STAT:
        code = do_stat(op);
        break;
    case MR_DISK_LIST:
        code = do_list(op);
        break;
    case MR_DISK_MKDIR:
        code = os_result(mkdirat(op_dir(op), op->name, 0755));
        break;
    case MR_DISK_RENAME:
        code = os_result(renameat(op_dir(op), op->name, op_dir(op), op->new_name));
        break;
    case MR_DISK_UNLINK:
        code = os_result(
            unlinkat(op_dir(op), op->name, (op->flags & MR_DISK_DIRECTORY) != 0 ? AT_REMOVEDIR : 0));
        break;
    case MR_DISK_LOCK:
        code = do_lock(op);
        break;
    }
    op_end(op, code);
    if (op->kind == MR_DISK_LOCK && (code == EAGAIN || code == EACCES)) {
        op->err = MR_ERR_LOCKED;
    }
}

/* ---- The helper ---- */

static void *helper_main(void *argument)
{
    struct disk_uring *disk = argument;
    pthread_mutex_lock(&disk->mutex);
    while (!disk->is_stopping) {
        struct mr_list *link = mr_list_pop(&disk->chores);
        if (link == NULL) {
            pthread_cond_wait(&disk->has_chores, &disk->mutex);
            continue;
        }
        pthread_mutex_unlock(&disk->mutex);
        do_blocking(MR_LIST_ENTRY(link, struct mr_disk_op, link));
        pthread_mutex_lock(&disk->mutex);
        mr_list_add_tail(&disk->chores_done, link);
        uint64_t one = 1;
        if (write(disk->event_fd, &one, sizeof one) < 0) {
            mr_unreachable("an eventfd takes 2^64 - 2 rings");
        }
    }
    pthread_mutex_unlock(&disk->mutex);
    return NULL;
}

static void helper_start(struct disk_uring *disk)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    disk->event_fd = eventfd(0, EFD_CLOEXEC);
    mr_assert(disk->event_fd >= 0);
    /* Signals are for the thread that waits for them. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&disk->helper, NULL, helper_main, disk);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    mr_assert(code == 0);
    disk->has_helper = true;
}

static void helper_arm(struct disk_uring *disk)
{
    if (!disk->is_armed) {
        struct io_uring_sqe *sqe = mr_wait_sqe(disk->wait);
        io_uring_prep_read(sqe, disk->event_fd, &disk->event_value, sizeof disk->event_value, 0);
        io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)disk | MR_WAIT_TAG_DISK | FROM_HELPER);
        disk->is_armed = true;
    }
}

static void helper_give(struct disk_uring *disk, struct mr_disk_op *op)
{
    if (!disk->has_helper) {
        helper_start(disk);
    }
    helper_arm(disk);
    pthread_mutex_lock(&disk->mutex);
    mr_list_add_tail(&disk->chores, &op->link);
    pthread_cond_signal(&disk->has_chores);
    pthread_mutex_unlock(&disk->mutex);
}

static void helper_take(struct disk_uring *disk)
{
    pthread_mutex_lock(&disk->mutex);
    for (struct mr_list *link; (link = mr_list_pop(&disk->chores_done)) != NULL;) {
        mr_list_add_tail(&disk->done, link);
    }
    pthread_mutex_unlock(&disk->mutex);
}

/* ---- The ring ---- */

_Static_assert(sizeof(struct mr_disk_piece) == sizeof(struct iovec) &&
                   offsetof(struct mr_disk_piece, data) == offsetof(struct iovec, iov_base) &&
                   offsetof(struct mr_disk_piece, len) == offsetof(struct iovec, iov_len),
               "pieces are given to the kernel as they are");

/* The first `bytes` of the pieces are written. */
static void pieces_skip(struct mr_disk_op *op, size_t bytes)
{
    while (op->piece_count > 0 && bytes >= op->pieces->len) {
        bytes -= op->pieces->len;
        op->pieces++;
        op->piece_count--;
    }
    if (bytes > 0) {
        mr_assert(op->piece_count > 0);
        op->pieces->data = (uint8_t *)op->pieces->data + bytes;
        op->pieces->len -= bytes;
    }
}

static void ring_give(struct disk_uring *disk, struct mr_disk_op *op)
{
    struct io_uring_sqe *sqe = mr_wait_sqe(disk->wait);
    uint8_t             *buffer = op->buffer;
    if (op->kind == MR_DISK_WRITE) {
        if (op->piece_count > 0) {
            io_uring_prep_writev(sqe, op->file, (const struct iovec *)(const void *)op->pieces, op->piece_count,
                                 op->pos + op->done_bytes);
        } else {
            io_uring_prep_write(sqe, op->file, buffer + op->done_bytes, op->len - op->done_bytes,
                                op->pos + op->done_bytes);
        }
        sqe->rw_flags = (op->flags & MR_DISK_DSYNC) != 0 && !mr_bug("no-flush") ? RWF_DSYNC : 0;
    } else if (op->kind == MR_DISK_READ) {
        io_uring_prep_read(sqe, op->file, buffer + op->done_bytes, op->len - op->done_bytes,
                           op->pos + op->done_bytes);
    } else if (op->kind == MR_DISK_SYNC) {
        io_uring_prep_fsync(sqe, op->file, IORING_FSYNC_DATASYNC);
    } else if (op->kind == MR_DISK_OPEN) {
        io_uring_prep_openat(sqe, op_dir(op), op->name, open_flags(op->flags), 0644);
    } else {
        mr_assert(op->kind == MR_DISK_CLOSE);
        io_uring_prep_close(sqe, op->file);
    }
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)op | MR_WAIT_TAG_DISK);
}

static bool is_for_ring(const struct mr_disk_op *op)
{
    if ((op->flags & MR_DISK_BACKGROUND) != 0) {
        return false;
    }
    switch (op->kind) {
    case MR_DISK_READ:
    case MR_DISK_WRITE:
    case MR_DISK_SYNC:
    case MR_DISK_CLOSE:
        return true;
    case MR_DISK_OPEN:
        return (op->flags & MR_DISK_CREATE) == 0;
    case MR_DISK_SYNC_DIR:
    case MR_DISK_SYNC_FS:
    case MR_DISK_ALLOCATE:
    case MR_DISK_TRUNCATE:
    case MR_DISK_STAT:
    case MR_DISK_LIST:
    case MR_DISK_MKDIR:
    case MR_DISK_RENAME:
    case MR_DISK_UNLINK:
    case MR_DISK_LOCK:
        return false;
    }
    return false;
}

/* A completion from the ring: false when the operation goes on (a short transfer, an interruption). */
static bool ring_finished(struct disk_uring *disk, struct mr_disk_op *op, int32_t res)
{
    if (res == -EINTR || res == -EAGAIN) {
        ring_give(disk, op);
        return false;
    }
    bool is_transfer = op->kind == MR_DISK_READ || op->kind == MR_DISK_WRITE;
    if (!is_transfer) {
        if (op->kind == MR_DISK_OPEN) {
            op->file = res;
        }
        op_end(op, res < 0 ? -res : 0);
        return true;
    }
    if (res < 0) {
        bool is_end = op->kind == MR_DISK_READ && res == -EINVAL && op->done_bytes > 0;
        op_end(op, is_end ? 0 : -res);
        return true;
    }
    op->done_bytes += (uint32_t)res;
    if (op->done_bytes == op->len || (res == 0 && op->kind == MR_DISK_READ)) {
        op_end(op, 0);
        return true;
    }
    if (res == 0) {
        op_end(op, EIO); /* a write without progress */
        return true;
    }
    if (op->piece_count > 0) {
        pieces_skip(op, (size_t)res);
    }
    ring_give(disk, op);
    return false;
}

/* ---- The seam ---- */

static void uring_submit(struct mr_disk *base, struct mr_disk_op *op)
{
    struct disk_uring *disk = disk_of(base);
    op->done_bytes = 0;
    op->os_errno = 0;
    op->err = MR_OK;
    op->disk = base;
    base->in_flight++;
    mr_assert(op->piece_count == 0 || (op->kind == MR_DISK_WRITE && is_for_ring(op)));
    if (is_for_ring(op)) {
        ring_give(disk, op);
    } else {
        helper_give(disk, op);
    }
}

/* A completion, perhaps another disk's of this ring. */
static void arrived(const struct mr_completion *completion)
{
    uint64_t  data = completion->user_data;
    uintptr_t address = (uintptr_t)(data & ~(FROM_HELPER | MR_WAIT_TAG_MASK));
    if ((data & FROM_HELPER) != 0) {
        struct disk_uring *disk = (struct disk_uring *)address; /* NOLINT(performance-no-int-to-ptr) */
        disk->is_armed = false;
        helper_take(disk);
        helper_arm(disk);
        return;
    }
    struct mr_disk_op *op = (struct mr_disk_op *)address; /* NOLINT(performance-no-int-to-ptr) */
    struct disk_uring *disk = disk_of(op->disk);
    if (ring_finished(disk, op, completion->res)) {
        mr_list_add_tail(&disk->done, &op->link);
    }
}

static uint32_t uring_reap(struct mr_disk *base, struct mr_disk_op **done, uint32_t max)
{
    struct disk_uring   *disk = disk_of(base);
    struct mr_completion completions[64];
    uint32_t             count = 0;
    while (count < max) {
        struct mr_list *link = mr_list_pop(&disk->done);
        if (link != NULL) {
            done[count++] = MR_LIST_ENTRY(link, struct mr_disk_op, link);
            continue;
        }
        uint32_t want = max - count < 64 ? max - count : 64;
        uint32_t got = mr_wait_take(disk->wait, MR_WAIT_TAG_DISK, completions, want);
        if (got == 0) {
            break;
        }
        for (uint32_t index = 0; index < got; index++) {
            arrived(&completions[index]);
        }
    }
    mr_assert(count <= base->in_flight);
    base->in_flight -= count;
    return count;
}

static void uring_wait(struct mr_disk *base)
{
    struct disk_uring *disk = disk_of(base);
    mr_assert(base->in_flight > 0);
    while (mr_list_is_empty(&disk->done) && mr_wait_ready(disk->wait, MR_WAIT_TAG_DISK) == 0) {
        mr_wait(disk->wait, MR_NEVER);
    }
}

static void uring_run(struct mr_disk *base, struct mr_disk_op *op)
{
    (void)base;
    op->os_errno = 0;
    op->err = MR_OK;
    do_blocking(op);
}

static const struct mr_disk_ops uring_ops = {
    .name = "uring",
    .submit = uring_submit,
    .reap = uring_reap,
    .wait = uring_wait,
    .run = uring_run,
};

bool mr_disk_uring_is_ready(const struct mr_disk *base)
{
    return !mr_list_is_empty(&((const struct disk_uring *)(const void *)base)->done);
}

size_t mr_disk_uring_bytes(void)
{
    return sizeof(struct disk_uring);
}

struct mr_disk *mr_disk_uring_init(void *memory, struct mr_wait *wait)
{
    struct disk_uring *disk = memory;
    *disk = (struct disk_uring){.disk.ops = &uring_ops, .wait = wait, .event_fd = -1};
    mr_list_init(&disk->done);
    mr_list_init(&disk->chores);
    mr_list_init(&disk->chores_done);
    pthread_mutex_init(&disk->mutex, NULL);
    pthread_cond_init(&disk->has_chores, NULL);
    return &disk->disk;
}

void mr_disk_uring_deinit(struct mr_disk *base)
{
    struct disk_uring *disk = disk_of(base);
    if (disk->has_helper) {
        pthread_mutex_lock(&disk->mutex);
        disk->is_stopping = true;
        pthread_cond_signal(&disk->has_chores);
        pthread_mutex_unlock(&disk->mutex);
        pthread_join(disk->helper, NULL);
        close(disk->event_fd);
    }
    pthread_cond_destroy(&disk->has_chores);
    pthread_mutex_destroy(&disk->mutex);
}
