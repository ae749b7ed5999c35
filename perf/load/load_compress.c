#include "load_compress.h"

#include "millrace/base/bytes.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

static uint32_t gzip(const uint8_t *in, uint32_t in_len, uint8_t *out, uint32_t out_size)
{
    z_stream stream = {0};
    uint8_t *next = NULL;
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return 0;
    }
    memcpy(&next, &in, sizeof next); /* zlib's next_in is not const */
    stream.next_in = next;
    stream.avail_in = in_len;
    stream.next_out = out;
    stream.avail_out = out_size;
    int status = deflate(&stream, Z_FINISH);
    deflateEnd(&stream);
    return status == Z_STREAM_END ? (uint32_t)stream.total_out : 0;
}

/* A 16-byte head (magic, version 1, compatible with 1), then blocks of a length and raw snappy. */
static uint32_t snappy(const uint8_t *in, uint32_t in_len, uint8_t *out, uint32_t out_size)
{
    static const uint8_t head[16] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
    size_t               len = out_size;
    if (out_size < 20 + snappy_max_compressed_length(in_len)) {
        return 0;
    }
    memcpy(out, head, sizeof head);
    len -= 20;
    if (snappy_compress((const char *)in, in_len, (char *)out + 20, &len) != SNAPPY_OK) {
        return 0;
    }
    mr_store_be32(out + 16, (uint32_t)len);
    return (uint32_t)len + 20;
}

/* Kafka's reader knows no blocks that refer to the one before. */
static uint32_t lz4(const uint8_t *in, uint32_t in_len, uint8_t *out, uint32_t out_size)
{
    const LZ4F_preferences_t alone = {.frameInfo.blockMode = LZ4F_blockIndependent};
    size_t                   len = LZ4F_compressFrame(out, out_size, in, in_len, &alone);
    return LZ4F_isError(len) ? 0 : (uint32_t)len;
}

uint32_t mr_load_compress(int codec, const uint8_t *in, uint32_t in_len, uint8_t *out, uint32_t out_size)
{
    size_t len;
    switch (codec) {
    case 1:
        return gzip(in, in_len, out, out_size);
    case 2:
        return snappy(in, in_len, out, out_size);
    case 3:
        return lz4(in, in_len, out, out_size);
    case 4:
        len = ZSTD_compress(out, out_size, in, in_len, 3);
        return ZSTD_isError(len) ? 0 : (uint32_t)len;
    default:
        return 0;
    }
}
