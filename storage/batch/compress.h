/*
 * compress: what the batch code needs to know about codecs beyond mr_decompress (batch.h).
 */
#ifndef MILLRACE_STORAGE_COMPRESS_H
#define MILLRACE_STORAGE_COMPRESS_H

#include "millrace/base/arena.h"
#include "millrace/base/err.h"
#include "millrace/base/span.h"

#include <stddef.h>
#include <stdint.h>

enum mr_batch_codec {
    MR_CODEC_NONE = 0,
    MR_CODEC_GZIP = 1,
    MR_CODEC_SNAPPY = 2,
    MR_CODEC_LZ4 = 3,
    MR_CODEC_ZSTD = 4,
};

/* The head of an lz4 frame as Kafka's clients begin it: independent blocks of 64 KiB, no sums but the head's own. */
#define MR_LZ4_HEAD            7u
#define MR_LZ4_BLOCK_IS_STORED 0x80000000u
void mr_lz4_head_store(uint8_t out[MR_LZ4_HEAD]);

/* Bytes of scratch that mr_decompress takes at most for its own state and for joining spans. */
size_t mr_decompress_scratch(int codec, const struct mr_chain *in);

/* Everything that is in it, at the end of scratch, which has to be large enough: MR_ERR_TOO_LARGE when it is not for what
 * comes out, MR_ERR_NO_MEMORY when it is not even for the codec's state. What was not needed is given back. */
enum mr_err mr_decompress_all(int codec, const struct mr_chain *in, struct mr_arena *scratch, struct mr_span *out);

/* The records of a whole batch as they are in it, in one piece if it is one, or over `spans` (as many as the batch has). */
struct mr_chain mr_batch_records(const struct mr_chain *batch, struct mr_span *spans);

#endif
