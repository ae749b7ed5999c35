/* sim_disk: the disk seam on the simulated device: what an operation does, when it is done, and how it fails. */
#include "sim_fs.h"

#include <stdlib.h>
#include <string.h>

/* A sector as it was when a flush was submitted. */
struct saved {
    struct mr_sim_node *node;
    uint64_t     sector;
    uint8_t      bytes[MR_SIM_SECTOR];
};

struct flush {
    struct saved *saved;
    uint32_t      saved_count;
    uint32_t      saved_size;
    struct mr_sim_node  *node; /* NULL: all */
    uint64_t      size;
};

struct pending {
    struct pending    *next;
    struct mr_disk_op *op;
    uint64_t           due_ns;
    enum mr_err        fault;
    uint32_t           short_bytes;
    bool               was_under_way; /* submitted while there was power */
    struct flush       flush;
};

struct mr_sim_disk {
    struct mr_disk      disk;
    struct mr_sim_disk *next; /* on its device */
    struct mr_sim_fs *fs;
    struct pending   *pending; /* by due time, then in order of submission */
};

static struct mr_sim_disk *sim_of(struct mr_disk *disk)
{
    return (struct mr_sim_disk *)(void *)disk;
}

static struct mr_sim_handle *handle_of(const struct mr_sim_fs *fs, int32_t file)
{
    if (file < 0 || (uint32_t)file >= fs->handle_count || fs->handles[file].node == NULL) {
        return NULL;
    }
    return &fs->handles[file];
}

static struct mr_sim_node *directory_of(struct mr_sim_fs *fs, int32_t dir)
{
    if (dir == MR_DISK_ROOT) {
        return fs->root;
    }
    struct mr_sim_handle *handle = handle_of(fs, dir);
    mr_assert(handle != NULL);
    return handle->node;
}

static const char *op_name(struct mr_sim_fs *fs, const struct mr_disk_op *op)
{
    if (op->name != NULL) {
        return op->name;
    }
    struct mr_sim_handle *handle = handle_of(fs, op->file);
    return handle != NULL ? handle->name : "";
}

static void flush_save(struct flush *flush, struct mr_sim_node *node)
{
    for (uint64_t sector = 0; (sector = mr_sim_chunk_next_dirty(node, sector)) != UINT64_MAX; sector++) {
        flush->saved = mr_sim_node_grow(flush->saved, &flush->saved_size, flush->saved_count, sizeof(struct saved));
        struct saved *saved = &flush->saved[flush->saved_count++];
        saved->node = node;
        saved->sector = sector;
        mr_sim_chunk_read(node, false, sector * MR_SIM_SECTOR, saved->bytes, MR_SIM_SECTOR);
    }
}

static void flush_apply(struct flush *flush)
{
    for (uint32_t index = 0; index < flush->saved_count; index++) {
        const struct saved  *saved = &flush->saved[index];
        struct mr_sim_chunk *chunk = mr_sim_chunk_own(saved->node, saved->sector / MR_SIM_CHUNK_SECTORS);
        uint32_t             at = (uint32_t)(saved->sector % MR_SIM_CHUNK_SECTORS);
        memcpy(chunk->platter + at * MR_SIM_SECTOR, saved->bytes, MR_SIM_SECTOR);
        chunk->raw[at] = 0;
        if (memcmp(chunk->now + at * MR_SIM_SECTOR, saved->bytes, MR_SIM_SECTOR) == 0) {
            chunk->dirty[at] = 0;
        }
    }
    if (flush->node != NULL) {
        flush->node->size_platter = flush->size;
    }
}

/* A flush failed: the kernel believes that these pages are clean now, so no later flush writes them. They can
 * still be read, until the power goes. */
static void flush_forget(const struct flush *flush)
{
    for (uint32_t index = 0; index < flush->saved_count; index++) {
        const struct saved *saved = &flush->saved[index];
        mr_sim_chunk_soil(saved->node, saved->sector, 0);
    }
}

static bool has_space(const struct mr_sim_fs *fs, const struct mr_sim_node *node, uint64_t end)
{
    return fs->capacity == 0 || end <= node->size_now ||
           mr_sim_fs_used(fs) + (end - node->size_now) <= fs->capacity;
}

static enum mr_err do_open(struct mr_sim_fs *fs, struct mr_disk_op *op)
{
    char         leaf[MR_SIM_NAME_SIZE];
    struct mr_sim_node *directory = mr_sim_node_walk(fs, directory_of(fs, op->dir), op->name, leaf);
    if (directory == NULL) {
        return MR_ERR_NOT_FOUND;
    }
    if ((op->flags & MR_DISK_DIRECT) != 0 && fs->is_direct_refused) {
        return MR_ERR_INVALID;
    }
    struct mr_sim_node *node = leaf[0] == '\0' ? directory : mr_sim_node_find(&directory->names_now, leaf, strlen(leaf));
    bool         is_creating = (op->flags & MR_DISK_CREATE) != 0;
    if (node == NULL && !is_creating) {
        return MR_ERR_NOT_FOUND;
    }
    if (node != NULL && is_creating && (op->flags & MR_DISK_EXCLUSIVE) != 0) {
        return MR_ERR_EXISTS;
    }
    if (node == NULL) {
        node = mr_sim_node_create(fs, false);
        mr_sim_node_change(directory, NULL, leaf, node);
    }
    if (node->is_directory != ((op->flags & MR_DISK_DIRECTORY) != 0)) {
        return MR_ERR_IO;
    }
    if ((op->flags & MR_DISK_TRUNC) != 0) {
        mr_sim_node_truncate(node, 0);
    }
    uint32_t index = 0;
    while (index < fs->handle_count && fs->handles[index].node != NULL) {
        index++;
    }
    if (index == fs->handle_count) {
        fs->handles = realloc(fs->handles, (fs->handle_count + 1) * sizeof(struct mr_sim_handle));
        mr_assert(fs->handles != NULL);
        fs->handle_count++;
    }
    struct mr_sim_handle *handle = &fs->handles[index];
    *handle = (struct mr_sim_handle){.node = node, .flags = op->flags};
    strcpy(handle->name, leaf);
    op->file = (int32_t)index;
    return MR_OK;
}

static bool is_aligned(const struct mr_sim_handle *handle, const struct mr_disk_op *op)
{
    bool is_good = op->pos % 4096 == 0 && op->len % 4096 == 0 &&
                   (op->piece_count > 0 || (uintptr_t)op->buffer % 4096 == 0);
    for (uint32_t index = 0; index < op->piece_count; index++) {
        is_good &= (uintptr_t)op->pieces[index].data % 4096 == 0 && op->pieces[index].len % 4096 == 0;
    }
    return (handle->flags & MR_DISK_DIRECT) == 0 || is_good;
}

/* The bytes of a write in one piece, as they are now. */
static void op_copy(const struct mr_disk_op *op, uint8_t *to)
{
    uint32_t at = 0;
    if (op->piece_count == 0) {
        memcpy(to, op->buffer, op->len);
        return;
    }
    for (uint32_t index = 0; index < op->piece_count; index++) {
        mr_assert(op->pieces[index].len <= op->len - at);
        memcpy(to + at, op->pieces[index].data, op->pieces[index].len);
        at += (uint32_t)op->pieces[index].len;
    }
    mr_assert(at == op->len);
}

static enum mr_err do_write(struct mr_sim_fs *fs, struct mr_disk_op *op, uint32_t len)
{
    struct mr_sim_handle *handle = handle_of(fs, op->file);
    mr_assert(handle != NULL && (handle->flags & MR_DISK_READ_ONLY) == 0);
    struct mr_sim_node *node = handle->node;
    if (!is_aligned(handle, op)) {
        return MR_ERR_INVALID;
    }
    if (!has_space(fs, node, op->pos + len)) {
        return MR_ERR_NO_SPACE;
    }
    if (op->piece_count == 0) {
        mr_sim_node_write(node, op->pos, op->buffer, len);
    } else {
        uint8_t *bytes = mr_sim_node_memory(op->len);
        op_copy(op, bytes);
        mr_sim_node_write(node, op->pos, bytes, len);
        free(bytes);
    }
    /* Of a wall clock that never jumps, begun where the world's is: a file is not older than its records. */
    node->mtime_ms = 1700000000000 + (int64_t)(fs->clock_ns / 1000000);
    op->done_bytes = len;
    if ((op->flags & MR_DISK_DSYNC) != 0 && len > 0) {
        for (uint64_t sector = op->pos / MR_SIM_SECTOR; sector <= (op->pos + len - 1) / MR_SIM_SECTOR;
             sector++) {
            mr_sim_chunk_settle(node, sector);
        }
        if (node->size_platter < op->pos + len) {
            node->size_platter = op->pos + len;
        }
    }
    return MR_OK;
}

static enum mr_err do_list(struct mr_sim_fs *fs, struct mr_disk_op *op)
{
    struct mr_sim_handle *handle = handle_of(fs, op->file);
    mr_assert(handle != NULL && handle->node->is_directory);
    const struct mr_sim_names *names = &handle->node->names_now;
    op->done_bytes = 0;
    op->size = 0;
    for (uint32_t index = 0; index < names->count; index++) {
        const struct mr_sim_name *name = &names->items[index];
        uint32_t name_bytes = (uint32_t)strlen(name->text) + 1;
        uint32_t need = ((uint32_t)sizeof(struct mr_disk_list_entry) + name_bytes + 7u) & ~7u;
        if (need > op->len - op->done_bytes) {
            op->size++;
            continue;
        }
        struct mr_disk_list_entry *entry =
            (struct mr_disk_list_entry *)(void *)((uint8_t *)op->buffer + op->done_bytes);
        entry->entry_bytes = need;
        entry->is_directory = name->node->is_directory;
        entry->size = name->node->is_directory ? 0 : name->node->size_now;
        memcpy(entry->name, name->text, name_bytes);
        op->done_bytes += need;
    }
    return MR_OK;
}

static enum mr_err do_stat(struct mr_sim_fs *fs, struct mr_disk_op *op)
{
    struct mr_sim_node *node;
    if (op->name != NULL) {
        node = mr_sim_node_lookup(fs, directory_of(fs, op->dir), op->name);
    } else {
        struct mr_sim_handle *handle = handle_of(fs, op->file);
        mr_assert(handle != NULL);
        node = handle->node;
    }
    if (node == NULL) {
        return MR_ERR_NOT_FOUND;
    }
    op->size = node->size_now;
    op->mtime_ms = node->mtime_ms;
    op->changed_ns = node->changed;
    op->is_directory = node->is_directory;
    if (op->name == NULL && node->is_directory) {
        op->space_total_bytes = fs->capacity != 0 ? fs->capacity : 1ull << 40;
        op->space_free_bytes = mr_sim_fs_free(fs);
    }
    return MR_OK;
}

static enum mr_err do_names(struct mr_sim_fs *fs, struct mr_disk_op *op)
{
    char         leaf[MR_SIM_NAME_SIZE];
    struct mr_sim_node *directory = mr_sim_node_walk(fs, directory_of(fs, op->dir), op->name, leaf);
    if (directory == NULL || leaf[0] == '\0') {
        return MR_ERR_NOT_FOUND;
    }
    struct mr_sim_node *node = mr_sim_node_find(&directory->names_now, leaf, strlen(leaf));
    if (op->kind == MR_DISK_MKDIR) {
        if (node != NULL) {
            return MR_ERR_EXISTS;
        }
        mr_sim_node_change(directory, NULL, leaf, mr_sim_node_create(fs, true));
        return MR_OK;
    }
    if (node == NULL) {
        return MR_ERR_NOT_FOUND;
    }
    if (op->kind == MR_DISK_UNLINK) {
        if (node->is_directory != ((op->flags & MR_DISK_DIRECTORY) != 0)) {
            return MR_ERR_IO;
        }
        if (node->is_directory && node->names_now.count > 0) {
            return MR_ERR_EXISTS;
        }
        mr_sim_node_change(directory, leaf, NULL, NULL);
        return MR_OK;
    }
    char         new_leaf[MR_SIM_NAME_SIZE];
    struct mr_sim_node *target = mr_sim_node_walk(fs, directory_of(fs, op->dir), op->new_name, new_leaf);
    if (target == directory) {
        mr_sim_node_change(directory, leaf, new_leaf, node);
        return MR_OK;
    }
    if (target == NULL) {
        return MR_ERR_NOT_FOUND;
    }
    /* Between directories: the new name first, so that a crash may show both but never none. */
    mr_sim_node_change(target, NULL, new_leaf, node);
    mr_sim_node_change(directory, leaf, NULL, NULL);
    return MR_OK;
}

static void settle_all(struct mr_sim_fs *fs)
{
    for (struct mr_sim_node *node = fs->nodes; node != NULL; node = node->next) {
        mr_sim_node_settle(node);
        mr_sim_node_settle_names(node, node->change_count);
    }
}

/* Some of the sectors that a read gets are not what the file has there. */
static void misread(struct mr_sim_fs *fs, const struct mr_sim_handle *handle, struct mr_disk_op *op)
{
    struct mr_sim_node *node = handle->node;
    uint8_t            *bytes = op->buffer;
    bool                was_misread = node->is_misread;
    node->is_misread = false;
    if (fs->misread.one_in == 0 || was_misread || op->done_bytes == 0 ||
        strstr(handle->name, fs->misread.name_part) == NULL || mr_prng_below(&fs->prng, fs->misread.one_in) != 0) {
        return;
    }
    node->is_misread = true;
    uint32_t wrong = (uint32_t)mr_prng_below(&fs->prng, MR_SIM_WRONG_COUNT);
    while ((fs->misread.kinds >> wrong & 1u) == 0) {
        wrong = (wrong + 1) % MR_SIM_WRONG_COUNT;
    }
    uint64_t at = mr_prng_below(&fs->prng, op->done_bytes);
    uint64_t first = (op->pos + at) / MR_SIM_SECTOR; /* the sectors that are wrong, in the file */
    uint64_t last = first + mr_prng_below(&fs->prng, 16);
    uint64_t other = mr_prng_below(&fs->prng, node->size_now / MR_SIM_SECTOR + 1);
    fs->misread_count++;
    if (wrong == MR_SIM_WRONG_BIT) {
        bytes[at] ^= (uint8_t)(1u << mr_prng_below(&fs->prng, 8));
        return;
    }
    for (uint64_t pos = op->pos; pos < op->pos + op->done_bytes; pos++) {
        uint64_t sector = pos / MR_SIM_SECTOR;
        if (sector < first || sector > last) {
            continue;
        }
        uint64_t from = (other + (sector - first)) * MR_SIM_SECTOR + pos % MR_SIM_SECTOR;
        bytes[pos - op->pos] = 0;
        if (wrong == MR_SIM_WRONG_PLACE) {
            mr_sim_chunk_read(node, false, from, &bytes[pos - op->pos], 1);
        } else if (mr_sim_chunk_dirty(node, sector) != 0) {
            mr_sim_chunk_read(node, true, pos, &bytes[pos - op->pos], 1);
        }
    }
}

/* The effect, at the moment of completion. */
static enum mr_err execute(struct mr_sim_fs *fs, struct mr_disk_op *op, struct flush *flush)
{
    struct mr_sim_handle *handle = handle_of(fs, op->file);
    switch (op->kind) {
    case MR_DISK_READ:
        mr_assert(handle != NULL);
        if (!is_aligned(handle, op)) {
            return MR_ERR_INVALID;
        }
        op->done_bytes = 0;
        if (op->pos < handle->node->size_now) {
            uint64_t left = handle->node->size_now - op->pos;
            op->done_bytes = left < op->len ? (uint32_t)left : op->len;
            mr_sim_chunk_read(handle->node, false, op->pos, op->buffer, op->done_bytes);
            misread(fs, handle, op);
        }
        return MR_OK;
    case MR_DISK_WRITE:
        return do_write(fs, op, op->len);
    case MR_DISK_SYNC:
        mr_assert(handle != NULL && !handle->node->is_directory);
        flush_apply(flush);
        return MR_OK;
    case MR_DISK_SYNC_DIR:
        mr_assert(handle != NULL && handle->node->is_directory);
        mr_sim_node_settle_names(handle->node, handle->node->change_count);
        return MR_OK;
    case MR_DISK_SYNC_FS:
        settle_all(fs);
        return MR_OK;
    case MR_DISK_ALLOCATE:
        mr_assert(handle != NULL);
        if (!has_space(fs, handle->node, op->pos + op->len64)) {
            return MR_ERR_NO_SPACE;
        }
        if (handle->node->size_now < op->pos + op->len64) {
            mr_sim_node_allocate(handle->node, op->pos + op->len64);
        }
        return MR_OK;
    case MR_DISK_TRUNCATE:
        mr_assert(handle != NULL);
        if (!has_space(fs, handle->node, op->pos)) {
            return MR_ERR_NO_SPACE;
        }
        mr_sim_node_truncate(handle->node, op->pos);
        return MR_OK;
    case MR_DISK_OPEN:
        return do_open(fs, op);
    case MR_DISK_CLOSE:
        mr_assert(handle != NULL);
        if (handle->node->lock_owner == (uint32_t)op->file + 1) {
            handle->node->lock_owner = 0;
        }
        handle->node = NULL;
        return MR_OK;
    case MR_DISK_STAT:
        return do_stat(fs, op);
    case MR_DISK_LIST:
        return do_list(fs, op);
    case MR_DISK_MKDIR:
    case MR_DISK_RENAME:
    case MR_DISK_UNLINK:
        return do_names(fs, op);
    case MR_DISK_LOCK:
        mr_assert(handle != NULL);
        if (handle->node->lock_owner != 0 && handle->node->lock_owner != (uint32_t)op->file + 1) {
            return MR_ERR_LOCKED;
        }
        handle->node->lock_owner = (uint32_t)op->file + 1;
        return MR_OK;
    }
    return MR_ERR_INVALID;
}

static void ghost_add(struct mr_sim_fs *fs, struct mr_sim_node *node, const struct mr_disk_op *op)
{
    if (op->kind != MR_DISK_WRITE || op->len == 0) {
        return;
    }
    struct mr_sim_ghost *ghost = mr_sim_node_memory(sizeof *ghost + op->len);
    ghost->node = node;
    ghost->pos = op->pos;
    ghost->len = op->len;
    op_copy(op, ghost->bytes);
    ghost->next = fs->ghosts;
    fs->ghosts = ghost;
}

void mr_sim_disk_flight(const struct mr_sim_fs *from, struct mr_sim_fs *copy)
{
    for (const struct mr_sim_disk *disk = from->disks; disk != NULL; disk = disk->next) {
        for (const struct pending *pending = disk->pending; pending != NULL; pending = pending->next) {
            const struct mr_sim_handle *handle = handle_of(from, pending->op->file);
            if (pending->was_under_way && handle != NULL) {
                ghost_add(copy, handle->node->twin, pending->op);
            }
        }
    }
}

static void fault_find(struct mr_sim_fs *fs, struct mr_disk_op *op, struct pending *pending)
{
    struct mr_sim_fault *fault = &fs->fault;
    if (!fs->has_fault || (fault->kinds & (1u << op->kind)) == 0) {
        return;
    }
    if (fault->name_part != NULL && strstr(op_name(fs, op), fault->name_part) == NULL) {
        return;
    }
    if (fault->nth > 0) {
        fault->nth--;
        return;
    }
    pending->fault = fault->err;
    fs->fault_count++;
    pending->short_bytes = fault->short_bytes;
    fs->has_fault = fault->is_sticky;
}

static void sim_submit(struct mr_disk *base, struct mr_disk_op *op)
{
    struct mr_sim_disk  *disk = sim_of(base);
    struct mr_sim_fs *fs = disk->fs;
    struct pending   *pending = mr_sim_node_memory(sizeof *pending);
    op->err = MR_OK;
    op->os_errno = 0;
    op->done_bytes = 0;
    pending->op = op;
    base->in_flight++;
    fs->change_count += op->kind == MR_DISK_WRITE;
    if (fs->op_count++ >= fs->die_at && !fs->is_dead) {
        fs->is_dead = true;
        pending->was_under_way = true;
    }
    if (!fs->is_dead) {
        pending->was_under_way = true;
        uint64_t range = fs->latency_max_ns - fs->latency_min_ns;
        pending->due_ns = fs->clock_ns + fs->latency_min_ns +
                          (range != 0 ? mr_prng_below(&fs->prng, range + 1) : 0);
        fault_find(fs, op, pending);
        if (op->kind == MR_DISK_SYNC && handle_of(fs, op->file) != NULL) {
            struct mr_sim_node *node = handle_of(fs, op->file)->node;
            flush_save(&pending->flush, node);
            pending->flush.node = node;
            pending->flush.size = node->size_now;
        }
    }
    struct pending **at = &disk->pending;
    while (*at != NULL && (*at)->due_ns <= pending->due_ns) {
        at = &(*at)->next;
    }
    pending->next = *at;
    *at = pending;
}

/* Kinds after which the disk is as it was. */
#define LEAVES_NO_TRACE \
    (1u << MR_DISK_READ | 1u << MR_DISK_STAT | 1u << MR_DISK_LIST | 1u << MR_DISK_CLOSE | 1u << MR_DISK_LOCK)

static void pending_finish(struct mr_sim_fs *fs, struct pending *pending)
{
    struct mr_disk_op *op = pending->op;
    fs->change_count += (LEAVES_NO_TRACE >> op->kind & 1u) == 0;
    if (fs->is_dead) {
        op->err = MR_ERR_IO;
        const struct mr_sim_handle *handle = handle_of(fs, op->file);
        if (pending->was_under_way && handle != NULL) {
            ghost_add(fs, handle->node, op);
        }
    } else if (pending->fault != MR_OK) {
        if (op->kind == MR_DISK_WRITE && pending->short_bytes > 0) {
            uint32_t len = pending->short_bytes < op->len ? pending->short_bytes : op->len;
            uint32_t flags = op->flags;
            op->flags &= ~(uint32_t)MR_DISK_DSYNC;
            (void)do_write(fs, op, len);
            op->flags = flags;
        }
        if (op->kind == MR_DISK_SYNC) {
            flush_forget(&pending->flush);
        }
        op->err = pending->fault;
    } else {
        op->err = execute(fs, op, &pending->flush);
    }
    op->os_errno = op->err == MR_OK             ? 0
                   : op->err == MR_ERR_NO_SPACE ? 28
                   : op->err == MR_ERR_NOT_FOUND ? 2
                                                : 5;
    if (op->kind == MR_DISK_OPEN && op->err != MR_OK) {
        op->file = MR_DISK_NONE;
    }
    free(pending->flush.saved);
}

static uint32_t sim_reap(struct mr_disk *base, struct mr_disk_op **done, uint32_t max)
{
    struct mr_sim_disk  *disk = sim_of(base);
    struct mr_sim_fs *fs = disk->fs;
    uint32_t          count = 0;
    while (count < max) {
        uint32_t ready = 0;
        for (struct pending *p = disk->pending; p != NULL && (p->due_ns <= fs->clock_ns || fs->is_dead);
             p = p->next) {
            ready++;
        }
        if (ready == 0) {
            break;
        }
        uint64_t         skip = fs->is_shuffled ? mr_prng_below(&fs->prng, ready) : 0;
        struct pending **at = &disk->pending;
        while (skip-- > 0) {
            at = &(*at)->next;
        }
        struct pending *pending = *at;
        *at = pending->next;
        pending_finish(fs, pending);
        done[count++] = pending->op;
        free(pending);
    }
    base->in_flight -= count;
    return count;
}

static void sim_wait(struct mr_disk *base)
{
    struct mr_sim_disk *disk = sim_of(base);
    mr_assert(disk->pending != NULL);
    if (!disk->fs->is_dead) {
        mr_sim_fs_set_clock(disk->fs, disk->pending->due_ns);
    }
}

static const struct mr_disk_ops sim_ops = {
    .name = "sim",
    .submit = sim_submit,
    .reap = sim_reap,
    .wait = sim_wait,
};

struct mr_disk *mr_sim_disk_create(struct mr_sim_fs *fs)
{
    struct mr_sim_disk *disk = mr_sim_node_memory(sizeof *disk);
    disk->disk.ops = &sim_ops;
    disk->fs = fs;
    disk->next = fs->disks;
    fs->disks = disk;
    fs->disk_count++;
    return &disk->disk;
}

/* Operations in flight become ghosts: they may or may not have happened. */
void mr_sim_disk_destroy(struct mr_disk *base)
{
    struct mr_sim_disk *disk = sim_of(base);
    while (disk->pending != NULL) {
        struct pending *pending = disk->pending;
        disk->pending = pending->next;
        const struct mr_sim_handle *handle = handle_of(disk->fs, pending->op->file);
        if (pending->was_under_way && handle != NULL) {
            ghost_add(disk->fs, handle->node, pending->op);
        }
        free(pending->flush.saved);
        free(pending);
    }
    struct mr_sim_disk **at = &disk->fs->disks;
    while (*at != disk) {
        at = &(*at)->next;
    }
    *at = disk->next;
    disk->fs->disk_count--;
    free(disk);
}

uint64_t mr_sim_disk_next_ns(const struct mr_disk *base)
{
    const struct mr_sim_disk *disk = (const struct mr_sim_disk *)(const void *)base;
    return disk->pending != NULL ? disk->pending->due_ns : UINT64_MAX;
}
