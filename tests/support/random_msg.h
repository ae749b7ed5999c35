/*
 * random_msg: a random value of any message, made from the rows, that one version can carry.
 */
#ifndef MILLRACE_RANDOM_MSG_H
#define MILLRACE_RANDOM_MSG_H

#include "millrace/base/arena.h"
#include "millrace/base/prng.h"
#include "millrace/kafka/msg.h"

/*
 * Fill `out`, a struct mr_<message>. Fields that `version` lacks get their default; nulls appear
 * where the version allows them; numbers prefer the ends of their range; texts are valid UTF-8 with
 * characters that JSON must escape. Everything else comes from `arena`, which must be large enough
 * (asserted; a mebibyte is).
 */
void mr_random_msg(struct mr_prng *prng, const struct mr_msg *msg, int16_t version,
                   struct mr_arena *arena, void *out);

/*
 * Draw anew one thing in `inout`, a value of that message which `version` can carry: a number, a text, a null, the
 * items of an array, somewhere in its tree. The tree's arrays are changed in place.
 */
void mr_random_change(struct mr_prng *prng, const struct mr_msg *msg, int16_t version,
                      struct mr_arena *arena, void *inout);

/* The bytes cut into spans at random places, empty spans among them; from `arena`. */
struct mr_chain mr_random_chain(struct mr_prng *prng, const void *bytes, uint32_t len,
                                struct mr_arena *arena);

#endif
