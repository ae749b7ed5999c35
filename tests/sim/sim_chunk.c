/* sim_chunk: see sim_fs.h. A clone of the device costs a count per piece of its files, not their bytes. */
#include "sim_fs.h"

#include <stdlib.h>
#include <string.h>

static void release(struct mr_sim_chunk *chunk)
{
    if (chunk != NULL && --chunk->refs == 0) {
        free(chunk);
    }
}

static void grow(struct mr_sim_node *node, uint64_t count)
{
    if (count <= node->chunk_count) {
        return;
    }
    node->chunks = realloc(node->chunks, count * sizeof(struct mr_sim_chunk *));
    mr_assert(node->chunks != NULL);
    for (uint64_t index = node->chunk_count; index < count; index++) {
        node->chunks[index] = NULL;
    }
    node->chunk_count = count;
}

struct mr_sim_chunk *mr_sim_chunk_own(struct mr_sim_node *node, uint64_t index)
{
    grow(node, index + 1);
    struct mr_sim_chunk *chunk = node->chunks[index];
    if (chunk == NULL) {
        chunk = mr_sim_node_memory(sizeof *chunk);
        chunk->refs = 1;
    } else if (chunk->refs > 1) {
        struct mr_sim_chunk *copy = malloc(sizeof *copy);
        mr_assert(copy != NULL);
        *copy = *chunk;
        copy->refs = 1;
        chunk->refs--;
        chunk = copy;
    }
    chunk->is_settled = false;
    node->chunks[index] = chunk;
    return chunk;
}

const struct mr_sim_chunk *mr_sim_chunk_of(const struct mr_sim_node *node, uint64_t sector, uint32_t *at)
{
    uint64_t index = sector / MR_SIM_CHUNK_SECTORS;
    *at = (uint32_t)(sector % MR_SIM_CHUNK_SECTORS);
    return index < node->chunk_count ? node->chunks[index] : NULL;
}

/* How far the chunk at `pos` goes, at most `len`. */
static uint64_t part_of(uint64_t pos, uint64_t len)
{
    uint64_t left = MR_SIM_CHUNK - pos % MR_SIM_CHUNK;
    return left < len ? left : len;
}

void mr_sim_chunk_read(const struct mr_sim_node *node, bool is_platter, uint64_t pos, void *to, uint64_t len)
{
    uint8_t *out = to;
    for (uint64_t part; len > 0; pos += part, out += part, len -= part) {
        uint64_t                   index = pos / MR_SIM_CHUNK;
        const struct mr_sim_chunk *chunk = index < node->chunk_count ? node->chunks[index] : NULL;
        part = part_of(pos, len);
        if (chunk == NULL) {
            memset(out, 0, part);
        } else {
            memcpy(out, (is_platter ? chunk->platter : chunk->now) + pos % MR_SIM_CHUNK, part);
        }
    }
}

void mr_sim_chunk_put_now(struct mr_sim_node *node, uint64_t pos, const uint8_t *bytes, uint64_t len)
{
    for (uint64_t part; len > 0; pos += part, bytes += part, len -= part) {
        part = part_of(pos, len);
        memcpy(mr_sim_chunk_own(node, pos / MR_SIM_CHUNK)->now + pos % MR_SIM_CHUNK, bytes, part);
    }
}

void mr_sim_chunk_put_platter(struct mr_sim_node *node, uint64_t pos, const uint8_t *bytes, uint64_t len)
{
    for (uint64_t part; len > 0; pos += part, bytes += part, len -= part) {
        part = part_of(pos, len);
        memcpy(mr_sim_chunk_own(node, pos / MR_SIM_CHUNK)->platter + pos % MR_SIM_CHUNK, bytes, part);
    }
}

void mr_sim_chunk_soil(struct mr_sim_node *node, uint64_t sector, uint32_t write)
{
    mr_sim_chunk_own(node, sector / MR_SIM_CHUNK_SECTORS)->dirty[sector % MR_SIM_CHUNK_SECTORS] = write;
}

void mr_sim_chunk_settle(struct mr_sim_node *node, uint64_t sector)
{
    struct mr_sim_chunk *chunk = mr_sim_chunk_own(node, sector / MR_SIM_CHUNK_SECTORS);
    uint32_t             at = (uint32_t)(sector % MR_SIM_CHUNK_SECTORS);
    memcpy(chunk->platter + at * MR_SIM_SECTOR, chunk->now + at * MR_SIM_SECTOR, MR_SIM_SECTOR);
    chunk->raw[at] = 0;
    chunk->dirty[at] = 0;
}

void mr_sim_chunk_reboot(struct mr_sim_node *node, uint64_t size)
{
    uint64_t kept = (size + MR_SIM_CHUNK - 1) / MR_SIM_CHUNK;
    while (node->chunk_count > kept) {
        release(node->chunks[--node->chunk_count]);
    }
    for (uint64_t index = 0; index < node->chunk_count; index++) {
        bool is_last = size / MR_SIM_CHUNK == index;
        if (node->chunks[index] == NULL || (node->chunks[index]->is_settled && !is_last)) {
            continue;
        }
        struct mr_sim_chunk *chunk = mr_sim_chunk_own(node, index);
        if (is_last) {
            memset(chunk->platter + size % MR_SIM_CHUNK, 0, MR_SIM_CHUNK - size % MR_SIM_CHUNK);
        }
        memcpy(chunk->now, chunk->platter, MR_SIM_CHUNK);
        memset(chunk->dirty, 0, sizeof chunk->dirty);
        memset(chunk->raw, 0, sizeof chunk->raw);
        chunk->is_settled = true;
    }
}

void mr_sim_chunk_share(struct mr_sim_node *to, const struct mr_sim_node *from)
{
    grow(to, from->chunk_count);
    for (uint64_t index = 0; index < from->chunk_count; index++) {
        to->chunks[index] = from->chunks[index];
        if (to->chunks[index] != NULL) {
            to->chunks[index]->refs++;
        }
    }
}

void mr_sim_chunk_free(struct mr_sim_node *node)
{
    for (uint64_t index = 0; index < node->chunk_count; index++) {
        release(node->chunks[index]);
    }
    free(node->chunks);
}

uint64_t mr_sim_chunk_next_dirty(const struct mr_sim_node *node, uint64_t sector)
{
    for (uint64_t end = node->chunk_count * MR_SIM_CHUNK_SECTORS; sector < end;) {
        uint32_t                   at;
        const struct mr_sim_chunk *chunk = mr_sim_chunk_of(node, sector, &at);
        if (chunk == NULL || chunk->is_settled) {
            sector += MR_SIM_CHUNK_SECTORS - at;
        } else if (chunk->dirty[at] != 0) {
            return sector;
        } else {
            sector++;
        }
    }
    return UINT64_MAX;
}

uint32_t mr_sim_chunk_dirty(const struct mr_sim_node *node, uint64_t sector)
{
    uint32_t                   at;
    const struct mr_sim_chunk *chunk = mr_sim_chunk_of(node, sector, &at);
    return chunk == NULL ? 0 : chunk->dirty[at];
}
