/*
 * scatter: put, group, send.
 */
#include "broker/scatter.h"

#include "data_core.h"

size_t mr_scatter_room(uint32_t count, uint32_t core_count, uint32_t entry_bytes)
{
    size_t copies = core_count > 1 ? 2 : 1;
    return copies * count * entry_bytes + count * (2 * sizeof(uint32_t) + sizeof(int16_t)) +
           core_count * (sizeof(union mr_scatter_op) + sizeof(uint32_t)) + 128;
}

void mr_scatter_init(struct mr_scatter *scatter, struct mr_arena *arena, uint32_t count,
                     uint32_t core_count, uint32_t entry_bytes)
{
    *scatter = (struct mr_scatter){.entry_bytes = entry_bytes, .core_count = core_count};
    scatter->ops = MR_ARENA_TRY(arena, union mr_scatter_op, core_count);
    scatter->entries = mr_arena_try(arena, (size_t)count * entry_bytes, 8);
    scatter->grouped =
        core_count > 1 ? mr_arena_try(arena, (size_t)count * entry_bytes, 8) : scatter->entries;
    scatter->firsts = MR_ARENA_TRY(arena, uint32_t, core_count + 1);
    scatter->cores = MR_ARENA_TRY(arena, uint32_t, count);
    scatter->places = MR_ARENA_TRY(arena, uint32_t, count);
    scatter->errors = MR_ARENA_TRY(arena, int16_t, count);
    mr_assert(scatter->errors != NULL && scatter->entries != NULL && scatter->grouped != NULL);
}

void *mr_scatter_put(struct mr_scatter *scatter, uint32_t storage_core)
{
    mr_assert(storage_core < scatter->core_count);
    uint32_t place = scatter->entry_count++;
    scatter->cores[place] = storage_core;
    scatter->errors[scatter->count] = 0;
    scatter->places[scatter->count++] = place;
    return scatter->entries + (size_t)place * scatter->entry_bytes;
}

void mr_scatter_refuse(struct mr_scatter *scatter, int16_t error)
{
    scatter->errors[scatter->count] = error;
    scatter->places[scatter->count++] = MR_SCATTER_NONE;
}

void mr_scatter_withdraw(struct mr_scatter *scatter, uint32_t at, int16_t error)
{
    uint32_t place = scatter->places[at];
    if (place == MR_SCATTER_NONE) {
        return;
    }
    uint32_t behind = --scatter->entry_count - place;
    uint8_t *hole = scatter->entries + (size_t)place * scatter->entry_bytes;
    memmove(hole, hole + scatter->entry_bytes, (size_t)behind * scatter->entry_bytes);
    memmove(scatter->cores + place, scatter->cores + place + 1, behind * sizeof *scatter->cores);
    for (uint32_t other = 0; other < scatter->count; other++) {
        if (scatter->places[other] != MR_SCATTER_NONE && scatter->places[other] > place) {
            scatter->places[other]--;
        }
    }
    scatter->places[at] = MR_SCATTER_NONE;
    scatter->errors[at] = error;
}

void mr_scatter_group(struct mr_scatter *scatter)
{
    uint32_t *firsts = scatter->firsts;
    memset(firsts, 0, (scatter->core_count + 1) * sizeof *firsts);
    if (scatter->core_count == 1) { /* they are neighbours already */
        firsts[1] = scatter->entry_count;
        return;
    }
    for (uint32_t entry = 0; entry < scatter->entry_count; entry++) {
        firsts[scatter->cores[entry] + 1]++;
    }
    for (uint32_t core = 0; core < scatter->core_count; core++) {
        firsts[core + 1] += firsts[core];
    }
    for (uint32_t entry = 0; entry < scatter->entry_count; entry++) {
        uint32_t to = firsts[scatter->cores[entry]]++;
        memcpy(scatter->grouped + (size_t)to * scatter->entry_bytes,
               scatter->entries + (size_t)entry * scatter->entry_bytes, scatter->entry_bytes);
        scatter->cores[entry] = to; /* from here on: where it went */
    }
    memmove(firsts + 1, firsts, scatter->core_count * sizeof *firsts); /* each is at its end */
    firsts[0] = 0;
    for (uint32_t at = 0; at < scatter->count; at++) {
        if (scatter->places[at] != MR_SCATTER_NONE) {
            scatter->places[at] = scatter->cores[scatter->places[at]];
        }
    }
    scatter->entries = scatter->grouped;
}

static void set_entries(union mr_scatter_op *op, void *entries, uint32_t count)
{
    switch (op->op.kind) {
    case MR_STORAGE_APPEND:
        op->append.entries = entries;
        op->append.entry_count = count;
        return;
    case MR_STORAGE_LIST_OFFSETS:
        op->list_offsets.entries = entries;
        op->list_offsets.entry_count = count;
        return;
    case MR_STORAGE_EPOCH_END:
        op->epoch_end.entries = entries;
        op->epoch_end.entry_count = count;
        return;
    case MR_STORAGE_DELETE_RECORDS:
        op->delete_records.entries = entries;
        op->delete_records.entry_count = count;
        return;
    case MR_STORAGE_TXN_CHECK:
        op->txn_check.entries = entries;
        op->txn_check.entry_count = count;
        return;
    case MR_STORAGE_READ: /* fetch asks one core after the other */
    case MR_STORAGE_RECOVER:
    case MR_STORAGE_OPEN:
    case MR_STORAGE_CONFIGURE:
    case MR_STORAGE_DROP:
    case MR_STORAGE_LOG_STAT:
    case MR_STORAGE_STOP:
    case MR_STORAGE_PRODUCERS:
    case MR_STORAGE_MOVE:
    case MR_STORAGE_OFFLINE:
        mr_unreachable("not scattered");
    }
}

void mr_scatter_send(struct mr_scatter *scatter, struct mr_request *request,
                     const union mr_scatter_op *like)
{
    mr_scatter_group(scatter);
    for (uint32_t core = 0; core < scatter->core_count; core++) {
        uint32_t first = scatter->firsts[core];
        uint32_t count = scatter->firsts[core + 1] - first;
        if (count > 0) {
            scatter->ops[core] = *like;
            set_entries(&scatter->ops[core],
                        scatter->entries + (size_t)first * scatter->entry_bytes, count);
            mr_request_storage(request, core, &scatter->ops[core].op);
        }
    }
}
