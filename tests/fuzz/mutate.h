/*
 * mutate: mutations that know what the bytes mean, for the fuzz targets.
 *
 * A message is decoded by its rows, one thing in its tree is drawn anew, and it is encoded again: behind a wrong
 * length nothing would be reached. A script is a list of items, which come, go, change places and are changed by their
 * target. One time in five the bytes are left to libFuzzer, which knows nothing.
 *
 * Memory: static, overwritten by the next call. Thread: one.
 */
#ifndef MILLRACE_TESTS_MUTATE_H
#define MILLRACE_TESTS_MUTATE_H

#include "millrace/base/prng.h"
#include "millrace/kafka/msg.h"

/* libFuzzer's own; fuzz_main has a poor one. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);

/* What libFuzzer calls instead of it, where a target has one. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);

struct mr_prng mr_mutate_prng(unsigned seed);

/*
 * The `len` bytes as a message of that version, with some things in it drawn anew; a new message when they are none.
 * Returns the bytes written to `out`, 0 when they are more than `max`.
 */
uint32_t mr_mutate_msg(struct mr_prng *prng, const struct mr_msg *msg, int16_t version,
                       const uint8_t *bytes, uint32_t len, uint8_t *out, uint32_t max);

/* ---- Scripts:  | kind u8 | who u8 | len u16, little-endian | bytes ...   one after the other ---- */

#define MR_SCRIPT_HEAD 4u

struct mr_script_item {
    uint8_t kind;
    uint8_t who;
    const uint8_t *bytes;
    uint32_t len;
};

/* The next item; false at the end, which a torn item is too. */
bool mr_script_next(const uint8_t **at, const uint8_t *end, struct mr_script_item *item);

/* Change `item`, or make it new when item->bytes is NULL: kind, who and len are set, the bytes written to `out`. */
typedef void mr_mutate_item_fn(struct mr_prng *prng, struct mr_script_item *item, uint8_t *out,
                               uint32_t max);

#define MR_SCRIPT_ITEM_MAX 4096u

size_t mr_mutate_script(struct mr_prng *prng, uint8_t *data, size_t size, size_t size_max,
                        mr_mutate_item_fn *fn);

#endif
