/* sim_disk: see the header. Plain and small rather than fast: linear directories, whole files in memory. */
#include "sim_disk.h"

#include "millrace/base/hash.h"
#include "millrace/base/prng.h"

#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 320u

struct node;

struct name {
    char         text[NAME_SIZE];
    struct node *node; /* NULL: free slot */
};

struct names {
    struct name *items;
    uint32_t     count;
    uint32_t     size;
};

/* One change of a directory: `gone` disappears and `text` appears, either may be empty. */
struct change {
    char         gone[NAME_SIZE];
    char         text[NAME_SIZE];
    struct node *node;
};

struct node {
    struct node *next; /* all nodes of the device */
    struct node *twin; /* while cloning */
    bool         is_directory;
    int64_t      mtime_ms;
    uint32_t     lock_owner; /* 1 + the handle that has it locked; 0: none */

    /* a file: both images have `room` bytes; bytes behind a size are zero */
    uint8_t *now;
    uint8_t *platter;
    uint8_t *dirty; /* per sector: now differs from what is known to be durable */
    uint64_t room;
    uint64_t size_now;
    uint64_t size_platter;

    /* a directory */
    struct names   names_now;
    struct names   names_platter;
    struct change *changes;
    uint32_t       change_count;
    uint32_t       change_size;
};

struct handle {
    struct node *node;
    uint32_t     flags;
    char         name[NAME_SIZE];
};

/* A sector as it was when a flush was submitted. */
struct saved {
    struct node *node;
    uint64_t     sector;
    uint8_t      bytes[MR_SIM_SECTOR];
};

struct flush {
    struct saved *saved;
    uint32_t      saved_count;
    uint32_t      saved_size;
    struct node  *node; /* NULL: all */
    uint64_t      size;
};

/* A write that was under way when power went, kept for the cut. */
struct ghost {
    struct ghost *next;
    struct node  *node;
    uint64_t      pos;
    uint32_t      len;
    uint8_t       bytes[];
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

struct mr_sim_fs {
    struct mr_prng prng;
    struct node   *nodes;
    struct node   *root;
    struct handle *handles;
    uint32_t       handle_count;
    struct ghost  *ghosts;

    uint64_t clock_ns;
    uint64_t latency_min_ns;
    uint64_t latency_max_ns;
    bool     is_shuffled;

    uint64_t            op_count;
    uint64_t            die_at;
    bool                is_dead;
    bool                has_fault;
    struct mr_sim_fault fault;
    uint64_t            capacity;
    bool                is_direct_refused;
    uint32_t            disk_count;
};

struct sim_disk {
    struct mr_disk    disk;
    struct mr_sim_fs *fs;
    struct pending   *pending; /* by due time, then in order of submission */
};

static void *grow(void *old, uint32_t *size, uint32_t count, size_t item)
{
    if (count < *size) {
        return old;
    }
    *size = *size == 0 ? 8 : *size * 2;
    void *bigger = realloc(old, *size * item);
    mr_assert(bigger != NULL);
    return bigger;
}

static void *fresh(size_t bytes)
{
    void *memory = calloc(1, bytes);
    mr_assert(memory != NULL);
    return memory;
}

/* ---- Nodes ---- */

static struct node *node_create(struct mr_sim_fs *fs, bool is_directory)
{
    struct node *node = fresh(sizeof *node);
    node->is_directory = is_directory;
    node->next = fs->nodes;
    node->mtime_ms = (int64_t)(fs->clock_ns / 1000000);
    fs->nodes = node;
    return node;
}

static void node_room(struct node *node, uint64_t bytes)
{
    if (bytes <= node->room) {
        return;
    }
    uint64_t room = node->room == 0 ? 65536 : node->room;
    while (room < bytes) {
        room *= 2;
    }
    node->now = realloc(node->now, room);
    node->platter = realloc(node->platter, room);
    node->dirty = realloc(node->dirty, room / MR_SIM_SECTOR);
    mr_assert(node->now != NULL && node->platter != NULL && node->dirty != NULL);
    memset(node->now + node->room, 0, room - node->room);
    memset(node->platter + node->room, 0, room - node->room);
    memset(node->dirty + node->room / MR_SIM_SECTOR, 0, (room - node->room) / MR_SIM_SECTOR);
    node->room = room;
}

static void node_write(struct node *node, uint64_t pos, const uint8_t *bytes, uint64_t len)
{
    if (len == 0) {
        return;
    }
    node_room(node, pos + len);
    memcpy(node->now + pos, bytes, len);
    memset(node->dirty + pos / MR_SIM_SECTOR, 1,
           (pos + len - 1) / MR_SIM_SECTOR - pos / MR_SIM_SECTOR + 1);
    if (node->size_now < pos + len) {
        node->size_now = pos + len;
    }
}

static void node_truncate(struct node *node, uint64_t size)
{
    if (size < node->size_now) {
        for (uint64_t at = size; at < node->size_now;) {
            uint64_t end = (at / MR_SIM_SECTOR + 1) * MR_SIM_SECTOR;
            end = end < node->size_now ? end : node->size_now;
            memset(node->now + at, 0, end - at);
            node->dirty[at / MR_SIM_SECTOR] = 1;
            at = end;
        }
    } else {
        node_room(node, size);
    }
    node->size_now = size;
}

static void node_settle_sector(struct node *node, uint64_t sector)
{
    memcpy(node->platter + sector * MR_SIM_SECTOR, node->now + sector * MR_SIM_SECTOR, MR_SIM_SECTOR);
    node->dirty[sector] = 0;
}

static void node_settle(struct node *node)
{
    for (uint64_t sector = 0; sector < node->room / MR_SIM_SECTOR; sector++) {
        if (node->dirty[sector] != 0) {
            node_settle_sector(node, sector);
        }
    }
    node->size_platter = node->size_now;
}

/* ---- Names ---- */

static struct node *names_find(const struct names *names, const char *text, size_t len)
{
    for (uint32_t index = 0; index < names->count; index++) {
        const struct name *name = &names->items[index];
        if (name->node != NULL && strlen(name->text) == len && memcmp(name->text, text, len) == 0) {
            return name->node;
        }
    }
    return NULL;
}

static void names_del(struct names *names, const char *text)
{
    for (uint32_t index = 0; index < names->count; index++) {
        if (names->items[index].node != NULL && strcmp(names->items[index].text, text) == 0) {
            names->items[index] = names->items[--names->count];
            return;
        }
    }
}

static void names_set(struct names *names, const char *text, struct node *node)
{
    names_del(names, text);
    names->items = grow(names->items, &names->size, names->count, sizeof *names->items);
    struct name *name = &names->items[names->count++];
    mr_assert(strlen(text) < sizeof name->text);
    strcpy(name->text, text);
    name->node = node;
}

static void names_apply(struct names *names, const struct change *change)
{
    if (change->gone[0] != '\0') {
        names_del(names, change->gone);
    }
    if (change->text[0] != '\0') {
        names_set(names, change->text, change->node);
    }
}

static void directory_change(struct node *directory, const char *gone, const char *text,
                             struct node *node)
{
    directory->changes =
        grow(directory->changes, &directory->change_size, directory->change_count, sizeof(struct change));
    struct change *change = &directory->changes[directory->change_count++];
    *change = (struct change){.node = node};
    if (gone != NULL) {
        strcpy(change->gone, gone);
    }
    if (text != NULL) {
        strcpy(change->text, text);
    }
    names_apply(&directory->names_now, change);
}

/* The first `count` unsynced changes reach the platter. */
static void directory_settle(struct node *directory, uint32_t count)
{
    for (uint32_t index = 0; index < count; index++) {
        names_apply(&directory->names_platter, &directory->changes[index]);
    }
    directory->change_count -= count;
    if (count > 0) {
        memmove(directory->changes, directory->changes + count,
                directory->change_count * sizeof(struct change));
    }
}

/* Walk all but the last component of `path`; the last one is left in `leaf` (empty: the directory itself). */
static struct node *walk(const struct mr_sim_fs *fs, struct node *from, const char *path, char *leaf)
{
    struct node *at = from != NULL ? from : fs->root;
    leaf[0] = '\0';
    while (at != NULL) {
        while (*path == '/') {
            path++;
        }
        size_t len = strcspn(path, "/");
        if (len == 0 || len >= NAME_SIZE) {
            return len == 0 ? at : NULL;
        }
        const char *after = path + len;
        while (*after == '/') {
            after++;
        }
        if (len == 1 && path[0] == '.') {
            path = after;
            continue;
        }
        if (*after == '\0') {
            memcpy(leaf, path, len);
            leaf[len] = '\0';
            return at->is_directory ? at : NULL;
        }
        at = at->is_directory ? names_find(&at->names_now, path, len) : NULL;
        path = after;
    }
    return NULL;
}

static struct node *lookup(const struct mr_sim_fs *fs, struct node *from, const char *path)
{
    char         leaf[NAME_SIZE];
    struct node *directory = walk(fs, from, path, leaf);
    if (directory == NULL || leaf[0] == '\0') {
        return directory;
    }
    return names_find(&directory->names_now, leaf, strlen(leaf));
}

/* ---- The device ---- */

struct mr_sim_fs *mr_sim_fs_create(uint64_t seed)
{
    struct mr_sim_fs *fs = fresh(sizeof *fs);
    fs->prng.state = seed;
    fs->die_at = UINT64_MAX;
    fs->root = node_create(fs, true);
    return fs;
}

static void node_free(struct node *node)
{
    free(node->now);
    free(node->platter);
    free(node->dirty);
    free(node->names_now.items);
    free(node->names_platter.items);
    free(node->changes);
    free(node);
}

static void ghosts_free(struct mr_sim_fs *fs)
{
    while (fs->ghosts != NULL) {
        struct ghost *next = fs->ghosts->next;
        free(fs->ghosts);
        fs->ghosts = next;
    }
}

void mr_sim_fs_destroy(struct mr_sim_fs *fs)
{
    mr_assert(fs->disk_count == 0);
    while (fs->nodes != NULL) {
        struct node *next = fs->nodes->next;
        node_free(fs->nodes);
        fs->nodes = next;
    }
    ghosts_free(fs);
    free(fs->handles);
    free(fs);
}

static void names_clone(struct names *to, const struct names *from)
{
    *to = (struct names){0};
    for (uint32_t index = 0; index < from->count; index++) {
        names_set(to, from->items[index].text, from->items[index].node->twin);
    }
}

struct mr_sim_fs *mr_sim_fs_clone(const struct mr_sim_fs *from)
{
    struct mr_sim_fs *fs = fresh(sizeof *fs);
    *fs = *from;
    fs->nodes = NULL;
    fs->handles = NULL;
    fs->handle_count = 0;
    fs->ghosts = NULL;
    fs->disk_count = 0;
    for (struct node *node = from->nodes; node != NULL; node = node->next) {
        struct node *twin = node_create(fs, node->is_directory);
        node->twin = twin;
        twin->mtime_ms = node->mtime_ms;
        if (node->room > 0) {
            node_room(twin, node->room);
            memcpy(twin->now, node->now, node->room);
            memcpy(twin->platter, node->platter, node->room);
            memcpy(twin->dirty, node->dirty, node->room / MR_SIM_SECTOR);
        }
        twin->size_now = node->size_now;
        twin->size_platter = node->size_platter;
    }
    for (struct node *node = from->nodes; node != NULL; node = node->next) {
        names_clone(&node->twin->names_now, &node->names_now);
        names_clone(&node->twin->names_platter, &node->names_platter);
        for (uint32_t index = 0; index < node->change_count; index++) {
            struct node *twin = node->twin;
            twin->changes =
                grow(twin->changes, &twin->change_size, twin->change_count, sizeof(struct change));
            twin->changes[twin->change_count] = node->changes[index];
            struct node *target = node->changes[index].node;
            twin->changes[twin->change_count++].node = target != NULL ? target->twin : NULL;
        }
    }
    fs->root = from->root->twin;
    for (struct ghost *ghost = from->ghosts; ghost != NULL; ghost = ghost->next) {
        struct ghost *copy = fresh(sizeof *copy + ghost->len);
        memcpy(copy, ghost, sizeof *copy + ghost->len);
        copy->node = ghost->node->twin;
        copy->next = fs->ghosts;
        fs->ghosts = copy;
    }
    return fs;
}

void mr_sim_fs_latency(struct mr_sim_fs *fs, uint64_t min_ns, uint64_t max_ns, bool is_shuffled)
{
    fs->latency_min_ns = min_ns;
    fs->latency_max_ns = max_ns;
    fs->is_shuffled = is_shuffled;
}

void mr_sim_fs_set_clock(struct mr_sim_fs *fs, uint64_t now_ns)
{
    fs->clock_ns = now_ns > fs->clock_ns ? now_ns : fs->clock_ns;
}

uint64_t mr_sim_fs_clock(const struct mr_sim_fs *fs)
{
    return fs->clock_ns;
}

uint64_t mr_sim_fs_op_count(const struct mr_sim_fs *fs)
{
    return fs->op_count;
}

void mr_sim_fs_die_at(struct mr_sim_fs *fs, uint64_t n)
{
    fs->die_at = n;
}

bool mr_sim_fs_is_dead(const struct mr_sim_fs *fs)
{
    return fs->is_dead;
}

void mr_sim_fs_fail(struct mr_sim_fs *fs, const struct mr_sim_fault *fault)
{
    fs->fault = *fault;
    fs->has_fault = true;
}

void mr_sim_fs_heal(struct mr_sim_fs *fs)
{
    fs->has_fault = false;
}

void mr_sim_fs_capacity(struct mr_sim_fs *fs, uint64_t bytes)
{
    fs->capacity = bytes;
}

/* Files without a name count until the process that has them open ends; the simulation never frees them. */
static uint64_t used_below(const struct node *directory)
{
    uint64_t used = 0;
    for (uint32_t index = 0; index < directory->names_now.count; index++) {
        const struct node *node = directory->names_now.items[index].node;
        used += node->is_directory ? used_below(node) : (node->size_now + 4095) / 4096 * 4096;
    }
    return used;
}

uint64_t mr_sim_fs_used(const struct mr_sim_fs *fs)
{
    return used_below(fs->root);
}

static bool has_space(const struct mr_sim_fs *fs, const struct node *node, uint64_t end)
{
    return fs->capacity == 0 || end <= node->size_now ||
           mr_sim_fs_used(fs) + (end - node->size_now) <= fs->capacity;
}

void mr_sim_fs_refuse_direct(struct mr_sim_fs *fs)
{
    fs->is_direct_refused = true;
}

/* ---- Operations ---- */

static struct sim_disk *sim_of(struct mr_disk *disk)
{
    return (struct sim_disk *)(void *)disk;
}

static struct handle *handle_of(struct mr_sim_fs *fs, int32_t file)
{
    if (file < 0 || (uint32_t)file >= fs->handle_count || fs->handles[file].node == NULL) {
        return NULL;
    }
    return &fs->handles[file];
}

static struct node *directory_of(struct mr_sim_fs *fs, int32_t dir)
{
    if (dir == MR_DISK_ROOT) {
        return fs->root;
    }
    struct handle *handle = handle_of(fs, dir);
    mr_assert(handle != NULL);
    return handle->node;
}

static const char *op_name(struct mr_sim_fs *fs, const struct mr_disk_op *op)
{
    if (op->name != NULL) {
        return op->name;
    }
    struct handle *handle = handle_of(fs, op->file);
    return handle != NULL ? handle->name : "";
}

static void flush_save(struct flush *flush, struct node *node)
{
    for (uint64_t sector = 0; sector < node->room / MR_SIM_SECTOR; sector++) {
        if (node->dirty[sector] != 0) {
            flush->saved = grow(flush->saved, &flush->saved_size, flush->saved_count, sizeof(struct saved));
            struct saved *saved = &flush->saved[flush->saved_count++];
            saved->node = node;
            saved->sector = sector;
            memcpy(saved->bytes, node->now + sector * MR_SIM_SECTOR, MR_SIM_SECTOR);
        }
    }
}

static void flush_apply(struct flush *flush)
{
    for (uint32_t index = 0; index < flush->saved_count; index++) {
        struct saved *saved = &flush->saved[index];
        uint8_t      *now = saved->node->now + saved->sector * MR_SIM_SECTOR;
        memcpy(saved->node->platter + saved->sector * MR_SIM_SECTOR, saved->bytes, MR_SIM_SECTOR);
        if (memcmp(now, saved->bytes, MR_SIM_SECTOR) == 0) {
            saved->node->dirty[saved->sector] = 0;
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
        saved->node->dirty[saved->sector] = 0;
    }
}

static enum mr_err do_open(struct mr_sim_fs *fs, struct mr_disk_op *op)
{
    char         leaf[NAME_SIZE];
    struct node *directory = walk(fs, directory_of(fs, op->dir), op->name, leaf);
    if (directory == NULL) {
        return MR_ERR_NOT_FOUND;
    }
    if ((op->flags & MR_DISK_DIRECT) != 0 && fs->is_direct_refused) {
        return MR_ERR_INVALID;
    }
    struct node *node = leaf[0] == '\0' ? directory : names_find(&directory->names_now, leaf, strlen(leaf));
    bool         is_creating = (op->flags & MR_DISK_CREATE) != 0;
    if (node == NULL && !is_creating) {
        return MR_ERR_NOT_FOUND;
    }
    if (node != NULL && is_creating && (op->flags & MR_DISK_EXCLUSIVE) != 0) {
        return MR_ERR_EXISTS;
    }
    if (node == NULL) {
        node = node_create(fs, false);
        directory_change(directory, NULL, leaf, node);
    }
    if (node->is_directory != ((op->flags & MR_DISK_DIRECTORY) != 0)) {
        return MR_ERR_IO;
    }
    if ((op->flags & MR_DISK_TRUNC) != 0) {
        node_truncate(node, 0);
    }
    uint32_t index = 0;
    while (index < fs->handle_count && fs->handles[index].node != NULL) {
        index++;
    }
    if (index == fs->handle_count) {
        fs->handles = realloc(fs->handles, (fs->handle_count + 1) * sizeof(struct handle));
        mr_assert(fs->handles != NULL);
        fs->handle_count++;
    }
    struct handle *handle = &fs->handles[index];
    *handle = (struct handle){.node = node, .flags = op->flags};
    strcpy(handle->name, leaf);
    op->file = (int32_t)index;
    return MR_OK;
}

static bool is_aligned(const struct handle *handle, const struct mr_disk_op *op)
{
    return (handle->flags & MR_DISK_DIRECT) == 0 ||
           (op->pos % 4096 == 0 && op->len % 4096 == 0 && (uintptr_t)op->buffer % 4096 == 0);
}

static enum mr_err do_write(struct mr_sim_fs *fs, struct mr_disk_op *op, uint32_t len)
{
    struct handle *handle = handle_of(fs, op->file);
    mr_assert(handle != NULL && (handle->flags & MR_DISK_READ_ONLY) == 0);
    struct node *node = handle->node;
    if (!is_aligned(handle, op)) {
        return MR_ERR_INVALID;
    }
    if (!has_space(fs, node, op->pos + len)) {
        return MR_ERR_NO_SPACE;
    }
    node_write(node, op->pos, op->buffer, len);
    node->mtime_ms = (int64_t)(fs->clock_ns / 1000000);
    op->done_bytes = len;
    if ((op->flags & MR_DISK_DSYNC) != 0 && len > 0) {
        for (uint64_t sector = op->pos / MR_SIM_SECTOR; sector <= (op->pos + len - 1) / MR_SIM_SECTOR;
             sector++) {
            node_settle_sector(node, sector);
        }
        if (node->size_platter < op->pos + len) {
            node->size_platter = op->pos + len;
        }
    }
    return MR_OK;
}

static enum mr_err do_list(struct mr_sim_fs *fs, struct mr_disk_op *op)
{
    struct handle *handle = handle_of(fs, op->file);
    mr_assert(handle != NULL && handle->node->is_directory);
    const struct names *names = &handle->node->names_now;
    op->done_bytes = 0;
    op->size = 0;
    for (uint32_t index = 0; index < names->count; index++) {
        const struct name *name = &names->items[index];
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
    struct node *node;
    if (op->name != NULL) {
        node = lookup(fs, directory_of(fs, op->dir), op->name);
    } else {
        struct handle *handle = handle_of(fs, op->file);
        mr_assert(handle != NULL);
        node = handle->node;
    }
    if (node == NULL) {
        return MR_ERR_NOT_FOUND;
    }
    op->size = node->size_now;
    op->mtime_ms = node->mtime_ms;
    op->is_directory = node->is_directory;
    if (op->name == NULL && node->is_directory) {
        op->space_total_bytes = fs->capacity != 0 ? fs->capacity : 1ull << 40;
        uint64_t used = mr_sim_fs_used(fs);
        op->space_free_bytes = used < op->space_total_bytes ? op->space_total_bytes - used : 0;
    }
    return MR_OK;
}

static enum mr_err do_names(struct mr_sim_fs *fs, struct mr_disk_op *op)
{
    char         leaf[NAME_SIZE];
    struct node *directory = walk(fs, directory_of(fs, op->dir), op->name, leaf);
    if (directory == NULL || leaf[0] == '\0') {
        return MR_ERR_NOT_FOUND;
    }
    struct node *node = names_find(&directory->names_now, leaf, strlen(leaf));
    if (op->kind == MR_DISK_MKDIR) {
        if (node != NULL) {
            return MR_ERR_EXISTS;
        }
        directory_change(directory, NULL, leaf, node_create(fs, true));
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
        directory_change(directory, leaf, NULL, NULL);
        return MR_OK;
    }
    char         new_leaf[NAME_SIZE];
    struct node *target = walk(fs, directory_of(fs, op->dir), op->new_name, new_leaf);
    if (target == directory) {
        directory_change(directory, leaf, new_leaf, node);
        return MR_OK;
    }
    if (target == NULL) {
        return MR_ERR_NOT_FOUND;
    }
    /* Between directories: the new name first, so that a crash may show both but never none. */
    directory_change(target, NULL, new_leaf, node);
    directory_change(directory, leaf, NULL, NULL);
    return MR_OK;
}

static void settle_all(struct mr_sim_fs *fs)
{
    for (struct node *node = fs->nodes; node != NULL; node = node->next) {
        node_settle(node);
        directory_settle(node, node->change_count);
    }
}

/* The effect, at the moment of completion. */
static enum mr_err execute(struct mr_sim_fs *fs, struct mr_disk_op *op, struct flush *flush)
{
    struct handle *handle = handle_of(fs, op->file);
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
            memcpy(op->buffer, handle->node->now + op->pos, op->done_bytes);
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
        directory_settle(handle->node, handle->node->change_count);
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
            node_truncate(handle->node, op->pos + op->len64);
        }
        return MR_OK;
    case MR_DISK_TRUNCATE:
        mr_assert(handle != NULL);
        if (!has_space(fs, handle->node, op->pos)) {
            return MR_ERR_NO_SPACE;
        }
        node_truncate(handle->node, op->pos);
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

static void ghost_add(struct mr_sim_fs *fs, const struct mr_disk_op *op)
{
    struct handle *handle = handle_of(fs, op->file);
    if (op->kind != MR_DISK_WRITE || handle == NULL || op->len == 0) {
        return;
    }
    struct ghost *ghost = fresh(sizeof *ghost + op->len);
    ghost->node = handle->node;
    ghost->pos = op->pos;
    ghost->len = op->len;
    memcpy(ghost->bytes, op->buffer, op->len);
    ghost->next = fs->ghosts;
    fs->ghosts = ghost;
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
    pending->short_bytes = fault->short_bytes;
    fs->has_fault = fault->is_sticky;
}

static void sim_submit(struct mr_disk *base, struct mr_disk_op *op)
{
    struct sim_disk  *disk = sim_of(base);
    struct mr_sim_fs *fs = disk->fs;
    struct pending   *pending = fresh(sizeof *pending);
    op->err = MR_OK;
    op->os_errno = 0;
    op->done_bytes = 0;
    pending->op = op;
    base->in_flight++;
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
            struct node *node = handle_of(fs, op->file)->node;
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

static void pending_finish(struct mr_sim_fs *fs, struct pending *pending)
{
    struct mr_disk_op *op = pending->op;
    if (fs->is_dead) {
        op->err = MR_ERR_IO;
        if (pending->was_under_way) {
            ghost_add(fs, op);
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
    struct sim_disk  *disk = sim_of(base);
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
    struct sim_disk *disk = sim_of(base);
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
    struct sim_disk *disk = fresh(sizeof *disk);
    disk->disk.ops = &sim_ops;
    disk->fs = fs;
    fs->disk_count++;
    return &disk->disk;
}

/* Operations in flight become ghosts: they may or may not have happened. */
void mr_sim_disk_destroy(struct mr_disk *base)
{
    struct sim_disk *disk = sim_of(base);
    while (disk->pending != NULL) {
        struct pending *pending = disk->pending;
        disk->pending = pending->next;
        if (pending->was_under_way) {
            ghost_add(disk->fs, pending->op);
        }
        free(pending->flush.saved);
        free(pending);
    }
    disk->fs->disk_count--;
    free(disk);
}

uint64_t mr_sim_disk_next_ns(const struct mr_disk *base)
{
    const struct sim_disk *disk = (const struct sim_disk *)(const void *)base;
    return disk->pending != NULL ? disk->pending->due_ns : UINT64_MAX;
}

/* ---- Power ---- */

static void handles_drop(struct mr_sim_fs *fs)
{
    mr_assert(fs->disk_count == 0);
    fs->handle_count = 0;
    fs->has_fault = false;
    fs->is_dead = false;
    fs->die_at = UINT64_MAX;
    for (struct node *node = fs->nodes; node != NULL; node = node->next) {
        node->lock_owner = 0;
    }
}

/* After a cut: what was on the platter is all there is. */
static void node_reboot(struct node *node)
{
    uint64_t size = node->size_platter;
    if (node->room > size) {
        memset(node->platter + size, 0, node->room - size);
    }
    if (node->room > 0) {
        memcpy(node->now, node->platter, node->room);
        memset(node->dirty, 0, node->room / MR_SIM_SECTOR);
    }
    node->size_now = size;
    if (node->is_directory) {
        node->change_count = 0;
        node->names_now.count = 0;
        for (uint32_t index = 0; index < node->names_platter.count; index++) {
            names_set(&node->names_now, node->names_platter.items[index].text,
                      node->names_platter.items[index].node);
        }
    }
}

static void cut_node(struct node *node, enum mr_sim_cut cut, struct mr_prng *prng)
{
    bool is_random = cut == MR_SIM_CUT_RANDOM;
    if (cut == MR_SIM_CUT_DROP) {
        return;
    }
    for (uint64_t sector = 0; sector < node->room / MR_SIM_SECTOR; sector++) {
        if (node->dirty[sector] != 0 && (!is_random || mr_prng_below(prng, 2) == 0)) {
            node_settle_sector(node, sector);
        }
    }
    if (node->size_platter != node->size_now && (!is_random || mr_prng_below(prng, 2) == 0)) {
        node->size_platter = node->size_now;
    }
    directory_settle(node, is_random ? (uint32_t)mr_prng_below(prng, node->change_count + 1ull)
                                     : node->change_count);
}

static void cut_ghost(struct ghost *ghost, enum mr_sim_cut cut, struct mr_prng *prng)
{
    struct node *node = ghost->node;
    if (cut == MR_SIM_CUT_DROP || cut == MR_SIM_CUT_KEEP) {
        return;
    }
    /* Into an existing range, or extending: whether the size grows is a lot of its own. */
    uint64_t end = ghost->pos + ghost->len;
    if (end > node->size_platter) {
        if (cut != MR_SIM_CUT_FLIGHT && mr_prng_below(prng, 2) == 0) {
            end = node->size_platter;
        } else {
            node_room(node, end);
            node->size_platter = end;
        }
    }
    for (uint64_t at = ghost->pos; at < end; at += MR_SIM_SECTOR) {
        uint64_t len = end - at < MR_SIM_SECTOR ? end - at : MR_SIM_SECTOR;
        uint64_t lot = cut == MR_SIM_CUT_FLIGHT ? 1 : mr_prng_below(prng, 8);
        if (lot == 0) {
            for (uint64_t index = 0; index < len; index++) {
                node->platter[at + index] = (uint8_t)mr_prng_next(prng);
            }
        } else if (lot <= 4) {
            memcpy(node->platter + at, ghost->bytes + (at - ghost->pos), len);
        }
    }
}

void mr_sim_fs_power_cut(struct mr_sim_fs *fs, enum mr_sim_cut cut, uint64_t seed)
{
    struct mr_prng prng = {.state = seed};
    handles_drop(fs);
    for (struct node *node = fs->nodes; node != NULL; node = node->next) {
        cut_node(node, cut, &prng);
    }
    for (struct ghost *ghost = fs->ghosts; ghost != NULL; ghost = ghost->next) {
        cut_ghost(ghost, cut, &prng);
    }
    ghosts_free(fs);
    for (struct node *node = fs->nodes; node != NULL; node = node->next) {
        node_reboot(node);
    }
}

void mr_sim_fs_process_kill(struct mr_sim_fs *fs, uint64_t seed)
{
    struct mr_prng prng = {.state = seed};
    handles_drop(fs);
    for (struct ghost *ghost = fs->ghosts; ghost != NULL; ghost = ghost->next) {
        if (mr_prng_below(&prng, 2) == 0) {
            node_write(ghost->node, ghost->pos, ghost->bytes, ghost->len);
        }
    }
    ghosts_free(fs);
}

/* ---- For tests ---- */

void mr_sim_fs_put(struct mr_sim_fs *fs, const char *path, const void *bytes, size_t len)
{
    struct node *at = fs->root;
    char         part[NAME_SIZE];
    for (;;) {
        while (*path == '/') {
            path++;
        }
        size_t part_len = strcspn(path, "/");
        mr_assert(part_len > 0 && part_len < NAME_SIZE);
        memcpy(part, path, part_len);
        part[part_len] = '\0';
        bool         is_last = path[part_len] == '\0';
        struct node *next = names_find(&at->names_now, part, part_len);
        if (next == NULL) {
            next = node_create(fs, !is_last);
            directory_change(at, NULL, part, next);
            directory_settle(at, at->change_count);
        }
        at = next;
        if (is_last) {
            break;
        }
        path += part_len;
    }
    node_truncate(at, 0);
    node_write(at, 0, bytes, len);
    node_settle(at);
}

int64_t mr_sim_fs_get(const struct mr_sim_fs *fs, const char *path, void *bytes, size_t max)
{
    struct node *node = lookup(fs, NULL, path);
    if (node == NULL || node->is_directory) {
        return -1;
    }
    size_t len = node->size_now < max ? node->size_now : max;
    if (len > 0) {
        memcpy(bytes, node->now, len);
    }
    return (int64_t)node->size_now;
}

size_t mr_sim_fs_names(const struct mr_sim_fs *fs, const char *path, char *to, size_t max)
{
    struct node *node = lookup(fs, NULL, path);
    size_t       len = 0;
    for (uint32_t index = 0; node != NULL && index < node->names_now.count; index++) {
        const struct name *name = &node->names_now.items[index];
        size_t             bytes = strlen(name->text) + 1;
        if (name->node != NULL && len + bytes <= max) {
            memcpy(to + len, name->text, bytes);
            len += bytes;
        }
    }
    return len;
}

void mr_sim_fs_remove(struct mr_sim_fs *fs, const char *path)
{
    char         leaf[NAME_SIZE];
    struct node *directory = walk(fs, NULL, path, leaf);
    if (directory != NULL && leaf[0] != '\0') {
        directory_change(directory, leaf, NULL, NULL);
        directory_settle(directory, directory->change_count);
    }
}

void mr_sim_fs_rot(struct mr_sim_fs *fs, const char *path, uint64_t pos, uint32_t len, uint8_t with)
{
    struct node *node = lookup(fs, NULL, path);
    mr_assert(node != NULL && pos + len <= node->size_now);
    for (uint64_t at = pos; at < pos + len; at++) {
        node->now[at] ^= with;
        node->platter[at] ^= with;
    }
}

static uint64_t digest_node(const struct node *node)
{
    static const struct mr_hash_key key = {.k0 = 1, .k1 = 2};
    if (!node->is_directory) {
        return mr_hash_bytes(&key, node->now, node->size_now) ^ node->size_now;
    }
    uint64_t sum = 1;
    for (uint32_t index = 0; index < node->names_now.count; index++) {
        const struct name *name = &node->names_now.items[index];
        uint64_t           parts[2] = {mr_hash_bytes(&key, name->text, strlen(name->text)),
                                       digest_node(name->node)};
        sum += mr_hash_bytes(&key, parts, sizeof parts); /* a sum: the order of names says nothing */
    }
    return sum;
}

uint64_t mr_sim_fs_digest(const struct mr_sim_fs *fs)
{
    return digest_node(fs->root);
}
