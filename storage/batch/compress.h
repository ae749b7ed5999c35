/*
 * compress: what the batch code needs to know about codecs beyond mr_decompress (batch.h).
 */
#ifndef MILLRACE_STORAGE_COMPRESS_H
#define MILLRACE_STORAGE_COMPRESS_H

#include "millrace/base/span.h"

#include <stddef.h>

enum mr_batch_codec {
    MR_CODEC_NONE = 0,
    MR_CODEC_GZIP = 1,
    MR_CODEC_SNAPPY = 2,
    MR_CODEC_LZ4 = 3,
    MR_CODEC_ZSTD = 4,
};

/* Bytes of scratch that mr_decompress takes at most for its own state and for joining spans. */
size_t mr_decompress_scratch(int codec, const struct mr_chain *in);

#endif
