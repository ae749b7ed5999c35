/*
 * compress: gzip, snappy, lz4 and zstd behind one call, one shot, into a bounded output.
 *
 * No codec allocates: isa-l and zstd get their state from the caller's scratch, snappy needs none,
 * and the lz4 frame is parsed here because liblz4's frame context comes from malloc. The output is
 * one piece of memory, so it serves as every codec's window and a declared window costs nothing.
 * Nothing is sized by a declared length.
 *
 * Sources: RFC 1952; snappy-java's framing (16-byte header, blocks with a big-endian length);
 * lz4 frame format 1.6.1; RFC 8878.
 */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_initStaticDCtx */
#include "batch/compress.h"

#include "millrace/batch.h"

#include <isa-l/igzip_lib.h>
#include <lz4.h>
#include <snappy-c.h>
#include <zstd.h>
#include <zstd_errors.h>

#define STATE_ALIGN 64

size_t mr_decompress_scratch(int codec, const struct mr_chain *in)
{
    size_t join = in->span_count > 1 ? (size_t)in->bytes + STATE_ALIGN : 0;
    switch (codec) {
    case MR_CODEC_GZIP:
        return sizeof(struct inflate_state) + STATE_ALIGN;
    case MR_CODEC_ZSTD:
        return ZSTD_estimateDCtxSize() + STATE_ALIGN + join;
    default:
        return join;
    }
}

/* The chain in one piece: in place when it is, else a copy in scratch; NULL when that is too small. */
static const uint8_t *join(const struct mr_chain *in, struct mr_arena *scratch)
{
    static const uint8_t nothing[1];
    if (in->bytes == 0) {
        return nothing;
    }
    if (in->span_count == 1) {
        return in->spans[0].data;
    }
    uint8_t *copy = mr_arena_try(scratch, in->bytes, STATE_ALIGN);
    if (copy != NULL) {
        mr_chain_copy(in, 0, copy, in->bytes);
    }
    return copy;
}

static enum mr_err gzip_decompress(const struct mr_chain *in, uint8_t *out, uint32_t out_size,
                                   uint32_t *out_len, struct mr_arena *scratch)
{
    struct inflate_state *state = mr_arena_try(scratch, sizeof *state, STATE_ALIGN);
    if (state == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    uint32_t used = 0;
    bool     is_member_open = false;
    bool     is_any = false;
    for (uint32_t index = 0; index < in->span_count; index++) {
        const uint8_t *at = in->spans[index].data;
        uint32_t       left = in->spans[index].len;
        bool           is_held = false; /* the output ran full: there may be more inside the state */
        while (left > 0 || is_held) {
            if (!is_member_open) {
                /* A gzip file may be several members; the content is their concatenation. */
                isal_inflate_init(state);
                state->crc_flag = ISAL_GZIP;
                is_member_open = true;
                is_any = true;
            }
            union {
                const uint8_t *in;
                uint8_t       *out;
            } pun = {.in = at};
            /* With the room used up, one byte more tells a full output from a member that goes on. */
            uint8_t spare;
            bool    is_full = used == out_size;
            state->next_in = pun.out;
            state->avail_in = left;
            state->next_out = is_full ? &spare : out + used;
            state->avail_out = is_full ? 1 : out_size - used;
            if (isal_inflate(state) != ISAL_DECOMP_OK) {
                return MR_ERR_INVALID_RECORD;
            }
            if (is_full && state->avail_out == 0) {
                return MR_ERR_TOO_LARGE;
            }
            used = is_full ? used : out_size - state->avail_out;
            at += left - state->avail_in;
            left = state->avail_in;
            is_member_open = state->block_state != ISAL_BLOCK_FINISH;
            is_held = is_member_open && !is_full && used == out_size;
        }
    }
    if (is_member_open || !is_any) {
        return MR_ERR_INVALID_RECORD;
    }
    *out_len = used;
    return MR_OK;
}

static enum mr_err snappy_block(const uint8_t *at, size_t len, uint8_t *out, uint32_t out_size,
                                uint32_t *used)
{
    size_t block = 0;
    if (snappy_uncompressed_length((const char *)at, len, &block) != SNAPPY_OK) {
        return MR_ERR_INVALID_RECORD;
    }
    if (block > out_size - *used) {
        return MR_ERR_TOO_LARGE;
    }
    if (snappy_uncompress((const char *)at, len, (char *)out + *used, &block) != SNAPPY_OK) {
        return MR_ERR_INVALID_RECORD;
    }
    *used += (uint32_t)block;
    return MR_OK;
}

#define XERIAL_HEADER 16 /* 82 'S' 'N' 'A' 'P' 'P' 'Y' 00, version i32, compatible version i32 */

static enum mr_err snappy_decompress(const struct mr_chain *in, uint8_t *out, uint32_t out_size,
                                     uint32_t *out_len, struct mr_arena *scratch)
{
    static const uint8_t magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
    const uint8_t       *at = join(in, scratch);
    uint32_t             left = in->bytes;
    uint32_t             used = 0;
    if (at == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    if (left < XERIAL_HEADER || memcmp(at, magic, sizeof magic) != 0) {
        enum mr_err err = snappy_block(at, left, out, out_size, &used);
        *out_len = used;
        return err;
    }
    at += XERIAL_HEADER;
    left -= XERIAL_HEADER;
    while (left > 0) {
        if (left < 4) {
            return MR_ERR_INVALID_RECORD;
        }
        uint32_t len = mr_load_be32(at);
        if (len > left - 4) {
            return MR_ERR_INVALID_RECORD;
        }
        enum mr_err err = snappy_block(at + 4, len, out, out_size, &used);
        if (err != MR_OK) {
            return err;
        }
        at += 4 + len;
        left -= 4 + len;
    }
    *out_len = used;
    return MR_OK;
}

/* xxHash-32 of up to 15 bytes with seed 0: the check byte of an lz4 frame's descriptor. */
static uint32_t xxh32_short(const uint8_t *at, uint32_t len)
{
    uint32_t hash = 374761393u + len;
    for (; len >= 4; len -= 4, at += 4) {
        hash += mr_load_le32(at) * 3266489917u;
        hash = ((hash << 17) | (hash >> 15)) * 668265263u;
    }
    for (; len > 0; len--, at++) {
        hash += *at * 374761393u;
        hash = ((hash << 11) | (hash >> 21)) * 2654435761u;
    }
    hash = (hash ^ (hash >> 15)) * 2246822519u;
    hash = (hash ^ (hash >> 13)) * 3266489917u;
    return hash ^ (hash >> 16);
}

#define LZ4_FRAME_MAGIC     0x184d2204u
#define LZ4_VERSION_MASK    0xc0u
#define LZ4_INDEPENDENT     0x20u
#define LZ4_BLOCK_CHECKSUM  0x10u
#define LZ4_CONTENT_SIZE    0x08u
#define LZ4_CONTENT_SUM     0x04u
#define LZ4_DICTIONARY_ID   0x01u
#define LZ4_BLOCK_64K       4u

void mr_lz4_head_store(uint8_t out[MR_LZ4_HEAD])
{
    mr_store_le32(out, LZ4_FRAME_MAGIC);
    out[4] = 0x40u | LZ4_INDEPENDENT;
    out[5] = LZ4_BLOCK_64K << 4;
    out[6] = (uint8_t)(xxh32_short(out + 4, 2) >> 8);
}

static enum mr_err lz4_decompress(const struct mr_chain *in, uint8_t *out, uint32_t out_size,
                                  uint32_t *out_len, struct mr_arena *scratch)
{
    const uint8_t *at = join(in, scratch);
    uint32_t       left = in->bytes;
    uint32_t       used = 0;
    if (at == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    if (left < 7 || mr_load_le32(at) != LZ4_FRAME_MAGIC) {
        return MR_ERR_INVALID_RECORD;
    }
    uint8_t flags = at[4];
    uint8_t size_code = (at[5] >> 4) & 7u;
    if ((flags & LZ4_VERSION_MASK) != 0x40u || (flags & (LZ4_DICTIONARY_ID | 0x02u)) != 0 ||
        size_code < 4) {
        return MR_ERR_INVALID_RECORD;
    }
    uint32_t block_max = 1u << (8 + 2 * size_code);
    uint32_t descriptor = 2 + ((flags & LZ4_CONTENT_SIZE) != 0 ? 8u : 0u);
    if (left < 4 + descriptor + 1 || at[4 + descriptor] != (uint8_t)(xxh32_short(at + 4, descriptor) >> 8)) {
        return MR_ERR_INVALID_RECORD;
    }
    at += 4 + descriptor + 1;
    left -= 4 + descriptor + 1;
    for (;;) {
        if (left < 4) {
            return MR_ERR_INVALID_RECORD;
        }
        uint32_t head = mr_load_le32(at);
        uint32_t len = head & ~MR_LZ4_BLOCK_IS_STORED;
        at += 4;
        left -= 4;
        if (head == 0) {
            break; /* the end mark; a content checksum may follow, the batch's CRC covers us */
        }
        uint32_t tail = (flags & LZ4_BLOCK_CHECKSUM) != 0 ? 4 : 0;
        if (len > block_max || left < tail || len > left - tail) {
            return MR_ERR_INVALID_RECORD;
        }
        if ((head & MR_LZ4_BLOCK_IS_STORED) != 0) {
            if (len > out_size - used) {
                return MR_ERR_TOO_LARGE;
            }
            memcpy(out + used, at, len);
            used += len;
        } else {
            uint32_t room = out_size - used < block_max ? out_size - used : block_max;
            /* Linked blocks reach back into what was written before; up to 64 KiB. */
            uint32_t back = (flags & LZ4_INDEPENDENT) != 0 ? 0 : used < 65536 ? used : 65536;
            int      got =
                LZ4_decompress_safe_usingDict((const char *)at, (char *)out + used, (int)len,
                                              (int)room, (const char *)out + used - back, (int)back);
            if (got < 0) {
                return room < block_max ? MR_ERR_TOO_LARGE : MR_ERR_INVALID_RECORD;
            }
            used += (uint32_t)got;
        }
        at += len + tail;
        left -= len + tail;
    }
    *out_len = used;
    return MR_OK;
}

static enum mr_err zstd_decompress(const struct mr_chain *in, uint8_t *out, uint32_t out_size,
                                   uint32_t *out_len, struct mr_arena *scratch)
{
    size_t     state_bytes = ZSTD_estimateDCtxSize();
    void      *memory = mr_arena_try(scratch, state_bytes, STATE_ALIGN);
    ZSTD_DCtx *state = memory == NULL ? NULL : ZSTD_initStaticDCtx(memory, state_bytes);
    const uint8_t *at = state == NULL ? NULL : join(in, scratch);
    if (at == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    if (in->bytes == 0) {
        return MR_ERR_INVALID_RECORD; /* no frame at all, which the library takes for an empty one */
    }
    size_t got = ZSTD_decompressDCtx(state, out, out_size, at, in->bytes);
    if (ZSTD_isError(got)) {
        return ZSTD_getErrorCode(got) == ZSTD_error_dstSize_tooSmall ? MR_ERR_TOO_LARGE
                                                                     : MR_ERR_INVALID_RECORD;
    }
    *out_len = (uint32_t)got;
    return MR_OK;
}

enum mr_err mr_decompress(int codec, const struct mr_chain *in, uint8_t *out, uint32_t out_size,
                          uint32_t *out_len, struct mr_arena *scratch)
{
    *out_len = 0;
    switch (codec) {
    case MR_CODEC_NONE:
        if (in->bytes > out_size) {
            return MR_ERR_TOO_LARGE;
        }
        mr_chain_copy(in, 0, out, in->bytes);
        *out_len = in->bytes;
        return MR_OK;
    case MR_CODEC_GZIP:
        return gzip_decompress(in, out, out_size, out_len, scratch);
    case MR_CODEC_SNAPPY:
        return snappy_decompress(in, out, out_size, out_len, scratch);
    case MR_CODEC_LZ4:
        return lz4_decompress(in, out, out_size, out_len, scratch);
    case MR_CODEC_ZSTD:
        return zstd_decompress(in, out, out_size, out_len, scratch);
    default:
        return MR_ERR_UNSUPPORTED_CODEC;
    }
}

enum mr_err mr_decompress_all(int codec, const struct mr_chain *in, struct mr_arena *scratch, struct mr_span *out)
{
    size_t mark = scratch->used;
    size_t need = mr_decompress_scratch(codec, in);
    size_t room = scratch->size - scratch->used;
    if (room <= need) {
        return MR_ERR_NO_MEMORY;
    }
    size_t      size = room - need > INT32_MAX ? INT32_MAX : room - need;
    uint8_t    *bytes = mr_arena_try(scratch, size, 1);
    uint32_t    len = 0;
    enum mr_err err = mr_decompress(codec, in, bytes, (uint32_t)size, &len, scratch);
    scratch->used = err == MR_OK ? mark + len : mark; /* the codec's state lies behind the output */
    *out = (struct mr_span){.data = bytes, .len = len};
    return err;
}
