/* sim_power: what is left of the device when power goes, or the process. */
#include "sim_fs.h"

#include <string.h>

static void handles_drop(struct mr_sim_fs *fs)
{
    mr_assert(fs->disk_count == 0);
    fs->handle_count = 0;
    fs->has_fault = false;
    fs->is_dead = false;
    fs->die_at = UINT64_MAX;
    for (struct mr_sim_node *node = fs->nodes; node != NULL; node = node->next) {
        node->lock_owner = 0;
    }
}

/* After a cut: what was on the platter is all there is. */
static void node_reboot(struct mr_sim_node *node)
{
    uint64_t size = node->size_platter;
    if (size != node->size_now || mr_sim_chunk_next_dirty(node, 0) != UINT64_MAX) {
        node->changed = ++*node->write_count; /* the times of what was not synced are not durable either */
    }
    mr_sim_chunk_reboot(node, size);
    node->size_now = size;
    if (node->is_directory) {
        node->change_count = 0;
        node->names_now.count = 0;
        for (uint32_t index = 0; index < node->names_platter.count; index++) {
            mr_sim_node_name(&node->names_now, node->names_platter.items[index].text,
                      node->names_platter.items[index].node);
        }
    }
}

/* What is left of a cut's lots: `pivot` is the one write that is dropped or kept, or the first that survives. */
struct cutting {
    enum mr_sim_cut kind;
    struct mr_prng  prng;
    uint32_t        pivot;
    bool            is_settled; /* of this file the file system has written its journal in time */
};

static bool toss(struct cutting *cutting)
{
    return mr_prng_below(&cutting->prng, 2) == 0;
}

/* Any write whose sectors are not durable, each as likely as it has sectors. */
static uint32_t choose_pivot(const struct mr_sim_fs *fs, struct mr_prng *prng)
{
    uint32_t pivot = 0;
    uint64_t seen = 0;
    for (const struct mr_sim_node *node = fs->nodes; node != NULL; node = node->next) {
        for (uint64_t sector = 0; (sector = mr_sim_chunk_next_dirty(node, sector)) != UINT64_MAX; sector++) {
            if (mr_prng_below(prng, ++seen) == 0) {
                pivot = mr_sim_chunk_dirty(node, sector);
            }
        }
    }
    return pivot;
}

static bool survives(struct cutting *cutting, const struct mr_sim_node *node, uint64_t sector)
{
    uint32_t                   at;
    const struct mr_sim_chunk *chunk = mr_sim_chunk_of(node, sector, &at);
    uint32_t                   write = chunk->dirty[at];
    switch (cutting->kind) {
    case MR_SIM_CUT_UNWRITTEN:
        return cutting->is_settled || chunk->raw[at] == 0;
    case MR_SIM_CUT_RANDOM:
        return toss(cutting);
    case MR_SIM_CUT_DROP_ONE:
        return write != cutting->pivot;
    case MR_SIM_CUT_KEEP_ONE:
        return write == cutting->pivot;
    case MR_SIM_CUT_REORDER:
        return write >= cutting->pivot;
    case MR_SIM_CUT_DROP:
    case MR_SIM_CUT_KEEP:
    case MR_SIM_CUT_FLIGHT:
    case MR_SIM_CUT_TEAR:
    case MR_SIM_CUT_KINDS:
        break;
    }
    return cutting->kind != MR_SIM_CUT_DROP;
}

static void cut_node(struct mr_sim_node *node, struct cutting *cutting)
{
    bool is_by_lot = cutting->kind >= MR_SIM_CUT_RANDOM && cutting->kind != MR_SIM_CUT_UNWRITTEN;
    if (cutting->kind == MR_SIM_CUT_DROP) {
        return;
    }
    cutting->is_settled = cutting->kind == MR_SIM_CUT_UNWRITTEN && toss(cutting);
    for (uint64_t sector = 0; (sector = mr_sim_chunk_next_dirty(node, sector)) != UINT64_MAX; sector++) {
        if (survives(cutting, node, sector)) {
            mr_sim_chunk_settle(node, sector);
        }
    }
    if (node->size_platter != node->size_now && (!is_by_lot || toss(cutting))) {
        node->size_platter = node->size_now;
    }
    mr_sim_node_settle_names(node, is_by_lot ? (uint32_t)mr_prng_below(&cutting->prng, node->change_count + 1ull)
                                     : node->change_count);
}

/* Whether writes in flight may have happened: they are the latest ones. */
static bool has_flight(enum mr_sim_cut kind)
{
    return kind != MR_SIM_CUT_DROP && kind != MR_SIM_CUT_KEEP && kind != MR_SIM_CUT_KEEP_ONE &&
           kind != MR_SIM_CUT_UNWRITTEN;
}

static void cut_ghost(struct mr_sim_ghost *ghost, struct cutting *cutting)
{
    struct mr_sim_node *node = ghost->node;
    bool is_whole = cutting->kind == MR_SIM_CUT_FLIGHT || cutting->kind == MR_SIM_CUT_REORDER;
    /* Into an existing range, or extending: whether the size grows is a lot of its own. */
    uint64_t end = ghost->pos + ghost->len;
    if (end > node->size_platter) {
        if (!is_whole && toss(cutting)) {
            end = node->size_platter;
        } else {
            node->size_platter = end;
        }
    }
    for (uint64_t at = ghost->pos; at < end; at += MR_SIM_SECTOR) {
        uint64_t len = end - at < MR_SIM_SECTOR ? end - at : MR_SIM_SECTOR;
        uint64_t lot = is_whole ? 1 : mr_prng_below(&cutting->prng, 8);
        if (lot == 0) {
            uint8_t garbage[MR_SIM_SECTOR];
            for (uint64_t index = 0; index < len; index++) {
                garbage[index] = (uint8_t)mr_prng_next(&cutting->prng);
            }
            mr_sim_chunk_put_platter(node, at, garbage, len);
        } else if (lot <= 4) {
            mr_sim_chunk_put_platter(node, at, ghost->bytes + (at - ghost->pos), len);
        }
    }
}

void mr_sim_fs_power_cut(struct mr_sim_fs *fs, enum mr_sim_cut cut, uint64_t seed)
{
    struct cutting cutting = {.kind = cut, .prng.state = seed};
    handles_drop(fs);
    if (cut > MR_SIM_CUT_RANDOM) {
        cutting.pivot = choose_pivot(fs, &cutting.prng);
    }
    for (struct mr_sim_node *node = fs->nodes; node != NULL; node = node->next) {
        cut_node(node, &cutting);
    }
    for (struct mr_sim_ghost *ghost = fs->ghosts; ghost != NULL && has_flight(cut); ghost = ghost->next) {
        cut_ghost(ghost, &cutting);
    }
    mr_sim_fs_ghosts_free(fs);
    for (struct mr_sim_node *node = fs->nodes; node != NULL; node = node->next) {
        node_reboot(node);
    }
}

void mr_sim_fs_process_kill(struct mr_sim_fs *fs, uint64_t seed)
{
    struct mr_prng prng = {.state = seed};
    handles_drop(fs);
    for (struct mr_sim_ghost *ghost = fs->ghosts; ghost != NULL; ghost = ghost->next) {
        if (mr_prng_below(&prng, 2) == 0) {
            mr_sim_node_write(ghost->node, ghost->pos, ghost->bytes, ghost->len);
        }
    }
    mr_sim_fs_ghosts_free(fs);
}
