/* sim_node: see sim_fs.h. Plain and small rather than fast: linear directories. */
#include "sim_fs.h"

#include <stdlib.h>
#include <string.h>

/* ---- Memory ---- */

void *mr_sim_node_grow(void *old, uint32_t *size, uint32_t count, size_t item)
{
    if (count < *size) {
        return old;
    }
    *size = *size == 0 ? 8 : *size * 2;
    void *bigger = realloc(old, *size * item);
    mr_assert(bigger != NULL);
    return bigger;
}

void *mr_sim_node_memory(size_t bytes)
{
    void *memory = calloc(1, bytes);
    mr_assert(memory != NULL);
    return memory;
}

/* ---- Nodes ---- */

struct mr_sim_node *mr_sim_node_create(struct mr_sim_fs *fs, bool is_directory)
{
    struct mr_sim_node *node = mr_sim_node_memory(sizeof *node);
    node->is_directory = is_directory;
    node->next = fs->nodes;
    node->mtime_ms = (int64_t)(fs->clock_ns / 1000000);
    node->write_count = &fs->write_count;
    fs->nodes = node;
    return node;
}

void mr_sim_node_write(struct mr_sim_node *node, uint64_t pos, const uint8_t *bytes, uint64_t len)
{
    if (len == 0) {
        return;
    }
    mr_sim_chunk_put_now(node, pos, bytes, len);
    uint32_t write = ++*node->write_count;
    node->changed = write;
    for (uint64_t sector = pos / MR_SIM_SECTOR; sector <= (pos + len - 1) / MR_SIM_SECTOR; sector++) {
        mr_sim_chunk_soil(node, sector, write);
    }
    if (node->size_now < pos + len) {
        node->size_now = pos + len;
    }
}

void mr_sim_node_truncate(struct mr_sim_node *node, uint64_t size)
{
    static const uint8_t zeros[MR_SIM_SECTOR];
    uint32_t write = ++*node->write_count;
    node->changed = write;
    for (uint64_t at = size; at < node->size_now;) {
        uint64_t end = (at / MR_SIM_SECTOR + 1) * MR_SIM_SECTOR;
        end = end < node->size_now ? end : node->size_now;
        mr_sim_chunk_put_now(node, at, zeros, end - at);
        mr_sim_chunk_soil(node, at / MR_SIM_SECTOR, write);
        at = end;
    }
    node->size_now = size;
}

void mr_sim_node_allocate(struct mr_sim_node *node, uint64_t size)
{
    uint64_t first = (node->size_now + MR_SIM_SECTOR - 1) / MR_SIM_SECTOR;
    mr_sim_node_truncate(node, size);
    for (uint64_t sector = first; sector * MR_SIM_SECTOR < size; sector++) {
        mr_sim_chunk_own(node, sector / MR_SIM_CHUNK_SECTORS)->raw[sector % MR_SIM_CHUNK_SECTORS] = 1;
    }
}

void mr_sim_node_settle(struct mr_sim_node *node)
{
    uint64_t sector = 0;
    while ((sector = mr_sim_chunk_next_dirty(node, sector)) != UINT64_MAX) {
        mr_sim_chunk_settle(node, sector);
    }
    node->size_platter = node->size_now;
}

void mr_sim_node_free(struct mr_sim_node *node)
{
    mr_sim_chunk_free(node);
    free(node->names_now.items);
    free(node->names_platter.items);
    free(node->changes);
    free(node);
}

/* ---- Names ---- */

struct mr_sim_node *mr_sim_node_find(const struct mr_sim_names *names, const char *text, size_t len)
{
    for (uint32_t index = 0; index < names->count; index++) {
        const struct mr_sim_name *name = &names->items[index];
        if (name->node != NULL && strlen(name->text) == len && memcmp(name->text, text, len) == 0) {
            return name->node;
        }
    }
    return NULL;
}

static void names_del(struct mr_sim_names *names, const char *text)
{
    for (uint32_t index = 0; index < names->count; index++) {
        if (names->items[index].node != NULL && strcmp(names->items[index].text, text) == 0) {
            names->items[index] = names->items[--names->count];
            return;
        }
    }
}

void mr_sim_node_name(struct mr_sim_names *names, const char *text, struct mr_sim_node *node)
{
    names_del(names, text);
    names->items = mr_sim_node_grow(names->items, &names->size, names->count, sizeof *names->items);
    struct mr_sim_name *name = &names->items[names->count++];
    mr_assert(strlen(text) < sizeof name->text);
    strcpy(name->text, text);
    name->node = node;
}

static void names_apply(struct mr_sim_names *names, const struct mr_sim_change *change)
{
    if (change->gone[0] != '\0') {
        names_del(names, change->gone);
    }
    if (change->text[0] != '\0') {
        mr_sim_node_name(names, change->text, change->node);
    }
}

void mr_sim_node_change(struct mr_sim_node *directory, const char *gone, const char *text,
                             struct mr_sim_node *node)
{
    directory->changes =
        mr_sim_node_grow(directory->changes, &directory->change_size, directory->change_count, sizeof(struct mr_sim_change));
    struct mr_sim_change *change = &directory->changes[directory->change_count++];
    *change = (struct mr_sim_change){.node = node};
    if (gone != NULL) {
        strcpy(change->gone, gone);
    }
    if (text != NULL) {
        strcpy(change->text, text);
        node->changed = ++*node->write_count;
    }
    names_apply(&directory->names_now, change);
}

void mr_sim_node_settle_names(struct mr_sim_node *directory, uint32_t count)
{
    for (uint32_t index = 0; index < count; index++) {
        names_apply(&directory->names_platter, &directory->changes[index]);
    }
    directory->change_count -= count;
    if (count > 0) {
        memmove(directory->changes, directory->changes + count,
                directory->change_count * sizeof(struct mr_sim_change));
    }
}

struct mr_sim_node *mr_sim_node_walk(const struct mr_sim_fs *fs, struct mr_sim_node *from, const char *path, char *leaf)
{
    struct mr_sim_node *at = from != NULL ? from : fs->root;
    leaf[0] = '\0';
    while (at != NULL) {
        while (*path == '/') {
            path++;
        }
        size_t len = strcspn(path, "/");
        if (len == 0 || len >= MR_SIM_NAME_SIZE) {
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
        at = at->is_directory ? mr_sim_node_find(&at->names_now, path, len) : NULL;
        path = after;
    }
    return NULL;
}

struct mr_sim_node *mr_sim_node_lookup(const struct mr_sim_fs *fs, struct mr_sim_node *from, const char *path)
{
    char         leaf[MR_SIM_NAME_SIZE];
    struct mr_sim_node *directory = mr_sim_node_walk(fs, from, path, leaf);
    if (directory == NULL || leaf[0] == '\0') {
        return directory;
    }
    return mr_sim_node_find(&directory->names_now, leaf, strlen(leaf));
}
