/*
 * scatter: the partitions of one request over the storage cores that own their logs, and back.
 *
 *      request order    p0   p1   p2   p3          put: an entry, or refused here
 *                        |    x    |    |
 *      entries          [ of core 0 | core 1 ]     group: neighbours belong to one core
 *                            one operation each    send
 *
 * A handler puts every partition in the order of its request, sends, and when all cores have
 * answered asks for each partition's entry again, in the same order.
 *
 * Memory: the request's arena, reserved by the handler with mr_scatter_room. Thread: the data core.
 */
#ifndef MILLRACE_SCATTER_H
#define MILLRACE_SCATTER_H

#include "broker/request.h"

#define MR_SCATTER_NONE UINT32_MAX

union mr_scatter_op {
    struct mr_storage_op op;
    struct mr_append_op append;
    struct mr_list_offsets_op list_offsets;
    struct mr_epoch_end_op epoch_end;
    struct mr_delete_records_op delete_records;
    struct mr_txn_check_op txn_check;
};

struct mr_scatter {
    union mr_scatter_op *ops; /* per core */
    uint8_t *entries;
    uint8_t *grouped; /* as many, with more than one core */
    uint32_t *cores;  /* of each entry, in the order in which they were put; then its place */
    uint32_t *places; /* in request order: index into the entries, or MR_SCATTER_NONE */
    int16_t *errors;  /* in request order: Kafka's code of those refused here */
    uint32_t *firsts; /* per core: where its entries begin; one more at the end */
    uint32_t entry_bytes;
    uint32_t entry_count;
    uint32_t count; /* partitions put */
    uint32_t core_count;
};

/* Arena bytes for `count` partitions with entries of `entry_bytes`. */
size_t mr_scatter_room(uint32_t count, uint32_t core_count, uint32_t entry_bytes);

/* There is room (asserted). */
void mr_scatter_init(struct mr_scatter *scatter, struct mr_arena *arena, uint32_t count,
                     uint32_t core_count, uint32_t entry_bytes);

/* The next partition in request order: its entry, to be filled. */
void *mr_scatter_put(struct mr_scatter *scatter, uint32_t storage_core);
/* The next partition in request order is answered here. */
void mr_scatter_refuse(struct mr_scatter *scatter, int16_t error);

/* What was put is answered here after all, before anything is sent. */
void mr_scatter_withdraw(struct mr_scatter *scatter, uint32_t at, int16_t error);

/* Everything is put: entries of one core become neighbours, in the order in which they were put. */
void mr_scatter_group(struct mr_scatter *scatter);

/* Group, and hand an operation over to each core that has an entry: `like`, with the core's entries. */
void mr_scatter_send(struct mr_scatter *scatter, struct mr_request *request,
                     const union mr_scatter_op *like);

/* The entry of a partition, by its number in request order; NULL: it was refused (errors[]). */
static inline void *mr_scatter_entry(const struct mr_scatter *scatter, uint32_t at)
{
    uint32_t place = scatter->places[at];
    return place == MR_SCATTER_NONE ? NULL
                                    : scatter->entries + (size_t)place * scatter->entry_bytes;
}

#endif
