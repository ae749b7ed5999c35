/*
 * side_car: <base>.mrx beside a sealed segment: what its bytes were when all of it had been read and found good.
 *
 *   | head | block 0: 1,023 sums | block 1 | ...      a block is 4 KiB; a sum covers a chunk of 16 KiB of the segment
 *
 * Every sum begins from the topic id, the partition, the segment's base and size, and the change time of its file, then
 * from the chunk's place: equal bytes elsewhere have another sum. So a write that was lost, one that went to the wrong
 * place, another topic's segment and a rotten byte that no batch's CRC covers are all told. The change time (ctime)
 * cannot be set by anyone: a segment that Apache Kafka cut or compacted meanwhile has another one, and its side-car is
 * stale, which is no damage.
 *
 * The head is written last and blocks have sums of their own, so that a side-car that a crash tore is none. It is derived:
 * nothing depends on it, and one that is missing, stale or damaged is made again (scrub.h).
 *
 * Pure. Layout: docs/FORMATS.md. Source: architecture.md 4.5.
 */
#ifndef MILLRACE_SIDE_CAR_H
#define MILLRACE_SIDE_CAR_H

#include "millrace/base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_SIDE_SUFFIX ".mrx"
#define MR_SIDE_CHUNK  (16u << 10)
#define MR_SIDE_BLOCK  4096u
#define MR_SIDE_SUMS   1023u /* in a block */

struct mr_side_id {
    struct mr_uuid topic_id;
    uint32_t       partition;
    uint32_t       size; /* of the segment's file */
    int64_t        base;
    int64_t        changed_ns; /* of the segment's file: mr_disk_op */
};

enum mr_side_fit {
    MR_SIDE_STALE, /* torn, damaged, or of a file that has changed since */
    MR_SIDE_FITS,
    MR_SIDE_FOREIGN, /* of this very file, which belongs to another log or place */
};

/* What all sums begin from. */
uint32_t mr_side_seed(const struct mr_side_id *id);
/* Of the `len` bytes that are the segment's chunk of that number. */
uint32_t mr_side_sum(uint32_t seed, uint32_t chunk, const uint8_t *bytes, uint32_t len);

/* The head's block; it is written last. */
void             mr_side_head_store(const struct mr_side_id *id, uint8_t head[MR_SIDE_BLOCK]);
/* The file's own words; false: it has none that can be believed. */
bool             mr_side_head_load(const uint8_t *head, uint32_t len, struct mr_side_id *id);
/* Of a segment that is this now. */
enum mr_side_fit mr_side_head_fits(const uint8_t *head, uint32_t len, const struct mr_side_id *id);

/* A sum in its block. */
void     mr_side_block_set(uint8_t block[MR_SIDE_BLOCK], uint32_t index, uint32_t sum);
uint32_t mr_side_block_get(const uint8_t *block, uint32_t index);
/* Close block `number`; whether one that was read is whole. */
void mr_side_block_seal(uint32_t seed, uint32_t number, uint8_t block[MR_SIDE_BLOCK]);
bool mr_side_block_is_whole(uint32_t seed, uint32_t number, const uint8_t *block, uint32_t len);

static inline uint32_t mr_side_chunks(uint64_t size)
{
    return (uint32_t)((size + MR_SIDE_CHUNK - 1) / MR_SIDE_CHUNK);
}

static inline uint64_t mr_side_block_pos(uint32_t number)
{
    return (uint64_t)(number + 1) * MR_SIDE_BLOCK;
}

/* How many bytes of the segment are in the chunk. */
static inline uint32_t mr_side_chunk_bytes(uint64_t size, uint32_t chunk)
{
    uint64_t left = size - (uint64_t)chunk * MR_SIDE_CHUNK;
    return left < MR_SIDE_CHUNK ? (uint32_t)left : MR_SIDE_CHUNK;
}

#endif
