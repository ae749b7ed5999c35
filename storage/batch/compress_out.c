/*
 * compress_out: records into what Kafka's producers would send: gzip, snappy in xerial framing, an lz4 frame, zstd.
 *
 * One shot into a bounded output, state from the caller's scratch, nothing is allocated. Levels are Kafka's; the default
 * is the codec's own.
 *
 * Sources: RFC 1952; snappy-java's framing; lz4 frame format 1.6.1; RFC 8878; KIP-390 for the levels.
 */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_initStaticCCtx */
#include "batch/compress.h"

#include "millrace/batch.h"

#include <lz4.h>
#include <lz4hc.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define STATE_ALIGN   64
#define GZIP_WINDOW   (15 + 16) /* 32 KiB, with gzip's header */
#define GZIP_MEMORY   8
#define LZ4_DEFAULT   9
#define LZ4_BLOCK     65536u
#define SNAPPY_BLOCK  32768u
#define ZSTD_DEFAULT  3

static voidpf zlib_get(voidpf arena, uInt items, uInt size)
{
    return mr_arena_try(arena, (size_t)items * size, STATE_ALIGN);
}

static void zlib_put(voidpf arena, voidpf memory)
{
    (void)arena; /* the whole arena is the caller's again afterwards */
    (void)memory;
}

static enum mr_err gzip_compress(int level, const uint8_t *in, uint32_t len, uint8_t *out, uint32_t out_size,
                                 uint32_t *out_len, struct mr_arena *scratch)
{
    z_stream stream = {.zalloc = zlib_get, .zfree = zlib_put, .opaque = scratch};
    union {
        const uint8_t *in;
        uint8_t       *out;
    } pun = {.in = in};
    int at = level == MR_LEVEL_DEFAULT ? Z_DEFAULT_COMPRESSION : level;
    if (deflateInit2(&stream, at, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        return MR_ERR_NO_MEMORY;
    }
    stream.next_in = pun.out;
    stream.avail_in = len;
    stream.next_out = out;
    stream.avail_out = out_size;
    int how = deflate(&stream, Z_FINISH);
    *out_len = (uint32_t)stream.total_out;
    (void)deflateEnd(&stream);
    return how == Z_STREAM_END ? MR_OK : MR_ERR_TOO_LARGE;
}

static enum mr_err snappy_compress_all(const uint8_t *in, uint32_t len, uint8_t *out, uint32_t out_size,
                                       uint32_t *out_len)
{
    static const uint8_t head[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
    uint32_t             used = sizeof head;
    if (out_size < used) {
        return MR_ERR_TOO_LARGE;
    }
    memcpy(out, head, sizeof head);
    for (uint32_t at = 0; at < len; at += SNAPPY_BLOCK) {
        uint32_t part = len - at < SNAPPY_BLOCK ? len - at : SNAPPY_BLOCK;
        size_t   most = snappy_max_compressed_length(part);
        size_t   got = most;
        if (out_size - used < 4 || out_size - used - 4 < most ||
            snappy_compress((const char *)in + at, part, (char *)out + used + 4, &got) != SNAPPY_OK) {
            return MR_ERR_TOO_LARGE;
        }
        mr_store_be32(out + used, (uint32_t)got);
        used += 4 + (uint32_t)got;
    }
    *out_len = used;
    return MR_OK;
}

/* Kafka's default is the fast compressor, any other level the one that looks longer. */
static int lz4_block(int level, void *state, const uint8_t *in, uint32_t len, uint8_t *out, uint32_t room)
{
    return level == MR_LEVEL_DEFAULT || level == LZ4_DEFAULT
               ? LZ4_compress_fast_extState(state, (const char *)in, (char *)out, (int)len, (int)room, 1)
               : LZ4_compress_HC_extStateHC(state, (const char *)in, (char *)out, (int)len, (int)room, level);
}

static enum mr_err lz4_compress(int level, const uint8_t *in, uint32_t len, uint8_t *out, uint32_t out_size,
                                uint32_t *out_len, struct mr_arena *scratch)
{
    bool     is_fast = level == MR_LEVEL_DEFAULT || level == LZ4_DEFAULT;
    void    *state = mr_arena_try(scratch, (size_t)(is_fast ? LZ4_sizeofState() : LZ4_sizeofStateHC()), STATE_ALIGN);
    uint32_t used = MR_LZ4_HEAD;
    if (state == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    if (out_size < used + 4) {
        return MR_ERR_TOO_LARGE;
    }
    mr_lz4_head_store(out);
    for (uint32_t at = 0; at < len; at += LZ4_BLOCK) {
        uint32_t part = len - at < LZ4_BLOCK ? len - at : LZ4_BLOCK;
        if (out_size - used < 8 + part) {
            return MR_ERR_TOO_LARGE;
        }
        /* A block that does not shrink is stored. */
        int got = lz4_block(level, state, in + at, part, out + used + 4, part - 1);
        if (got <= 0) {
            memcpy(out + used + 4, in + at, part);
        }
        mr_store_le32(out + used, got > 0 ? (uint32_t)got : part | MR_LZ4_BLOCK_IS_STORED);
        used += 4 + (got > 0 ? (uint32_t)got : part);
    }
    mr_store_le32(out + used, 0);
    *out_len = used + 4;
    return MR_OK;
}

static enum mr_err zstd_compress(int level, const uint8_t *in, uint32_t len, uint8_t *out, uint32_t out_size,
                                 uint32_t *out_len, struct mr_arena *scratch)
{
    int        at = level == MR_LEVEL_DEFAULT ? ZSTD_DEFAULT : level;
    size_t     state_bytes = ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(at, len, 0));
    void      *memory = mr_arena_try(scratch, state_bytes, STATE_ALIGN);
    ZSTD_CCtx *state = memory == NULL ? NULL : ZSTD_initStaticCCtx(memory, state_bytes);
    if (state == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    size_t got = ZSTD_compressCCtx(state, out, out_size, in, len, at);
    if (ZSTD_isError(got)) {
        return ZSTD_getErrorCode(got) == ZSTD_error_dstSize_tooSmall ? MR_ERR_TOO_LARGE : MR_ERR_NO_MEMORY;
    }
    *out_len = (uint32_t)got;
    return MR_OK;
}

enum mr_err mr_compress(int codec, int level, const uint8_t *in, uint32_t len, uint8_t *out, uint32_t out_size,
                        uint32_t *out_len, struct mr_arena *scratch)
{
    size_t      mark = scratch->used;
    enum mr_err err = MR_ERR_UNSUPPORTED_CODEC;
    *out_len = 0;
    switch (codec) {
    case MR_CODEC_GZIP:
        err = gzip_compress(level, in, len, out, out_size, out_len, scratch);
        break;
    case MR_CODEC_SNAPPY:
        err = snappy_compress_all(in, len, out, out_size, out_len);
        break;
    case MR_CODEC_LZ4:
        err = lz4_compress(level, in, len, out, out_size, out_len, scratch);
        break;
    case MR_CODEC_ZSTD:
        err = zstd_compress(level, in, len, out, out_size, out_len, scratch);
        break;
    default:
        break;
    }
    scratch->used = mark;
    return err;
}

uint64_t mr_compress_cost_ns(int codec, int level, uint32_t bytes)
{
    /* Of ordinary records, per byte, from the level up to which it holds; the last row of a codec holds for the rest. */
    static const struct {
        int8_t  codec;
        int     level_max;
        uint8_t ns;
    } costs[] = {
        {MR_CODEC_GZIP, 0, 40},    {MR_CODEC_GZIP, 3, 20},   {MR_CODEC_GZIP, 6, 40}, {MR_CODEC_GZIP, 9, 100},
        {MR_CODEC_SNAPPY, 99, 3},  {MR_CODEC_LZ4, 8, 20},    {MR_CODEC_LZ4, 9, 3},   {MR_CODEC_LZ4, 17, 50},
        {MR_CODEC_ZSTD, 3, 5},     {MR_CODEC_ZSTD, 9, 25},   {MR_CODEC_ZSTD, 16, 120}, {MR_CODEC_ZSTD, 22, 255},
    };
    uint64_t ns = 1; /* copied, and a CRC */
    for (uint32_t index = 0; index < sizeof costs / sizeof costs[0]; index++) {
        if (costs[index].codec == codec) {
            ns = costs[index].ns;
            if (level <= costs[index].level_max) {
                break;
            }
        }
    }
    return ns * bytes;
}
