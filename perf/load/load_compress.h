/*
 * load_compress: Kafka's codecs in the direction that a producer needs (batch.h has the other one).
 */
#ifndef MILLRACE_PERF_LOAD_COMPRESS_H
#define MILLRACE_PERF_LOAD_COMPRESS_H

#include <stdint.h>

/* Codec as in a batch's attributes: 1 gzip, 2 snappy (Xerial's framing, as Java clients write), 3 lz4 frame,
 * 4 zstd. Returns the bytes written, 0 when `out_size` does not suffice or the library fails. Any thread. */
uint32_t mr_load_compress(int codec, const uint8_t *in, uint32_t in_len, uint8_t *out, uint32_t out_size);

#endif
