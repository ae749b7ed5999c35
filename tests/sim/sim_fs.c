/* sim_fs: the simulated device as a thing: made, copied, set up and looked into. */
#include "sim_fs.h"

#include "millrace/base/hash.h"

#include <stdlib.h>
#include <string.h>

/* ---- The device ---- */

struct mr_sim_fs *mr_sim_fs_create(uint64_t seed)
{
    struct mr_sim_fs *fs = mr_sim_node_memory(sizeof *fs);
    fs->prng.state = seed;
    fs->die_at = UINT64_MAX;
    fs->root = mr_sim_node_create(fs, true);
    return fs;
}

void mr_sim_fs_ghosts_free(struct mr_sim_fs *fs)
{
    while (fs->ghosts != NULL) {
        struct mr_sim_ghost *next = fs->ghosts->next;
        free(fs->ghosts);
        fs->ghosts = next;
    }
}

void mr_sim_fs_destroy(struct mr_sim_fs *fs)
{
    mr_assert(fs->disk_count == 0);
    while (fs->nodes != NULL) {
        struct mr_sim_node *next = fs->nodes->next;
        mr_sim_node_free(fs->nodes);
        fs->nodes = next;
    }
    mr_sim_fs_ghosts_free(fs);
    free(fs->handles);
    free(fs);
}

static void names_clone(struct mr_sim_names *to, const struct mr_sim_names *from)
{
    *to = (struct mr_sim_names){0};
    for (uint32_t index = 0; index < from->count; index++) {
        mr_sim_node_name(to, from->items[index].text, from->items[index].node->twin);
    }
}

struct mr_sim_fs *mr_sim_fs_clone(const struct mr_sim_fs *from)
{
    struct mr_sim_fs *fs = mr_sim_node_memory(sizeof *fs);
    *fs = *from;
    fs->nodes = NULL;
    fs->handles = NULL;
    fs->handle_count = 0;
    fs->ghosts = NULL;
    fs->disk_count = 0;
    fs->disks = NULL;
    for (struct mr_sim_node *node = from->nodes; node != NULL; node = node->next) {
        struct mr_sim_node *twin = mr_sim_node_create(fs, node->is_directory);
        node->twin = twin;
        twin->mtime_ms = node->mtime_ms;
        twin->changed = node->changed;
        mr_sim_chunk_share(twin, node);
        twin->size_now = node->size_now;
        twin->size_platter = node->size_platter;
    }
    for (struct mr_sim_node *node = from->nodes; node != NULL; node = node->next) {
        names_clone(&node->twin->names_now, &node->names_now);
        names_clone(&node->twin->names_platter, &node->names_platter);
        for (uint32_t index = 0; index < node->change_count; index++) {
            struct mr_sim_node *twin = node->twin;
            twin->changes =
                mr_sim_node_grow(twin->changes, &twin->change_size, twin->change_count, sizeof(struct mr_sim_change));
            twin->changes[twin->change_count] = node->changes[index];
            struct mr_sim_node *target = node->changes[index].node;
            twin->changes[twin->change_count++].node = target != NULL ? target->twin : NULL;
        }
    }
    fs->root = from->root->twin;
    for (struct mr_sim_ghost *ghost = from->ghosts; ghost != NULL; ghost = ghost->next) {
        struct mr_sim_ghost *copy = mr_sim_node_memory(sizeof *copy + ghost->len);
        memcpy(copy, ghost, sizeof *copy + ghost->len);
        copy->node = ghost->node->twin;
        copy->next = fs->ghosts;
        fs->ghosts = copy;
    }
    mr_sim_disk_flight(from, fs);
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

uint64_t mr_sim_fs_change_count(const struct mr_sim_fs *fs)
{
    return fs->change_count;
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
    fs->fault_count = 0;
    fs->has_fault = true;
}

uint64_t mr_sim_fs_faults(const struct mr_sim_fs *fs)
{
    return fs->fault_count;
}

void mr_sim_fs_heal(struct mr_sim_fs *fs)
{
    fs->has_fault = false;
}

void mr_sim_fs_capacity(struct mr_sim_fs *fs, uint64_t bytes)
{
    fs->capacity = bytes;
}

uint64_t mr_sim_fs_free(const struct mr_sim_fs *fs)
{
    uint64_t used = mr_sim_fs_used(fs);
    uint64_t total = fs->capacity != 0 ? fs->capacity : 1ull << 40;
    return used < total ? total - used : 0;
}

/* Files without a name count until the process that has them open ends; the simulation never frees them. */
static uint64_t used_below(const struct mr_sim_node *directory)
{
    uint64_t used = 0;
    for (uint32_t index = 0; index < directory->names_now.count; index++) {
        const struct mr_sim_node *node = directory->names_now.items[index].node;
        used += node->is_directory ? used_below(node) : (node->size_now + 4095) / 4096 * 4096;
    }
    return used;
}

uint64_t mr_sim_fs_used(const struct mr_sim_fs *fs)
{
    return used_below(fs->root);
}

void mr_sim_fs_refuse_direct(struct mr_sim_fs *fs)
{
    fs->is_direct_refused = true;
}

/* ---- For tests ---- */

void mr_sim_fs_put(struct mr_sim_fs *fs, const char *path, const void *bytes, size_t len)
{
    struct mr_sim_node *at = fs->root;
    char         part[MR_SIM_NAME_SIZE];
    for (;;) {
        while (*path == '/') {
            path++;
        }
        size_t part_len = strcspn(path, "/");
        mr_assert(part_len > 0 && part_len < MR_SIM_NAME_SIZE);
        memcpy(part, path, part_len);
        part[part_len] = '\0';
        bool         is_last = path[part_len] == '\0';
        struct mr_sim_node *next = mr_sim_node_find(&at->names_now, part, part_len);
        if (next == NULL) {
            next = mr_sim_node_create(fs, !is_last);
            mr_sim_node_change(at, NULL, part, next);
            mr_sim_node_settle_names(at, at->change_count);
        }
        at = next;
        if (is_last) {
            break;
        }
        path += part_len;
    }
    mr_sim_node_truncate(at, 0);
    mr_sim_node_write(at, 0, bytes, len);
    mr_sim_node_settle(at);
}

int64_t mr_sim_fs_get(const struct mr_sim_fs *fs, const char *path, void *bytes, size_t max)
{
    struct mr_sim_node *node = mr_sim_node_lookup(fs, NULL, path);
    if (node == NULL || node->is_directory) {
        return -1;
    }
    size_t len = node->size_now < max ? node->size_now : max;
    mr_sim_chunk_read(node, false, 0, bytes, len);
    return (int64_t)node->size_now;
}

size_t mr_sim_fs_names(const struct mr_sim_fs *fs, const char *path, char *to, size_t max)
{
    struct mr_sim_node *node = mr_sim_node_lookup(fs, NULL, path);
    size_t       len = 0;
    for (uint32_t index = 0; node != NULL && index < node->names_now.count; index++) {
        const struct mr_sim_name *name = &node->names_now.items[index];
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
    char         leaf[MR_SIM_NAME_SIZE];
    struct mr_sim_node *directory = mr_sim_node_walk(fs, NULL, path, leaf);
    if (directory != NULL && leaf[0] != '\0') {
        mr_sim_node_change(directory, leaf, NULL, NULL);
        mr_sim_node_settle_names(directory, directory->change_count);
    }
}

void mr_sim_fs_rot(struct mr_sim_fs *fs, const char *path, uint64_t pos, uint32_t len, uint8_t with)
{
    struct mr_sim_node *node = mr_sim_node_lookup(fs, NULL, path);
    mr_assert(node != NULL && pos + len <= node->size_now);
    for (uint64_t at = pos; at < pos + len; at++) {
        struct mr_sim_chunk *chunk = mr_sim_chunk_own(node, at / MR_SIM_CHUNK);
        chunk->now[at % MR_SIM_CHUNK] ^= with;
        chunk->platter[at % MR_SIM_CHUNK] ^= with;
    }
}

void mr_sim_fs_spoil(struct mr_sim_fs *fs, const char *path, uint64_t pos, uint32_t len, uint8_t with)
{
    struct mr_sim_node *node = mr_sim_node_lookup(fs, NULL, path);
    mr_assert(node != NULL && pos + len <= node->size_now);
    for (uint64_t at = pos; at < pos + len; at++) {
        mr_sim_chunk_put_now(node, at, &with, 1);
        mr_sim_chunk_put_platter(node, at, &with, 1);
    }
}

void mr_sim_fs_overwrite(struct mr_sim_fs *fs, const char *path, uint64_t pos, const void *bytes, uint32_t len)
{
    struct mr_sim_node *node = mr_sim_node_lookup(fs, NULL, path);
    mr_assert(node != NULL && pos + len <= node->size_now);
    mr_sim_chunk_put_now(node, pos, bytes, len);
    mr_sim_chunk_put_platter(node, pos, bytes, len);
}

void mr_sim_fs_cut_file(struct mr_sim_fs *fs, const char *path, uint64_t size)
{
    struct mr_sim_node *node = mr_sim_node_lookup(fs, NULL, path);
    mr_assert(node != NULL && !node->is_directory && size <= node->size_now);
    mr_sim_node_truncate(node, size);
    mr_sim_node_settle(node);
}

void mr_sim_fs_misread(struct mr_sim_fs *fs, const struct mr_sim_misread *misread)
{
    fs->misread = *misread;
}

uint64_t mr_sim_fs_misread_count(const struct mr_sim_fs *fs)
{
    return fs->misread_count;
}

uint32_t mr_sim_fs_open_handles(const struct mr_sim_fs *fs)
{
    uint32_t count = 0;
    for (uint32_t index = 0; index < fs->handle_count; index++) {
        count += fs->handles[index].node != NULL;
    }
    return count;
}

static uint64_t digest_node(const struct mr_sim_node *node)
{
    static const struct mr_hash_key key = {.k0 = 1, .k1 = 2};
    if (!node->is_directory) {
        uint8_t *bytes = mr_sim_node_memory(node->size_now + 1);
        mr_sim_chunk_read(node, false, 0, bytes, node->size_now);
        uint64_t digest = mr_hash_bytes(&key, bytes, node->size_now) ^ node->size_now;
        free(bytes);
        return digest;
    }
    uint64_t sum = 1;
    for (uint32_t index = 0; index < node->names_now.count; index++) {
        const struct mr_sim_name *name = &node->names_now.items[index];
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
