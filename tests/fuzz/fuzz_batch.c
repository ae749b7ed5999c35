/*
 * fuzz_batch: any bytes as a producer's batch: checked in every depth, walked record by record, and
 * decompressed. What batch_check accepts after looking at the records, batch_iter must be able to walk.
 *
 * The input: one byte of switches, one that says where the bytes are cut in two, then the batch. With SEAL its
 * length and CRC are made right first, or nothing behind them would ever be reached. The mutator takes a batch apart: it
 * changes the records themselves and packs them again in the same codec or another, or draws a field of the header.
 */
#include "batch/compress.h"
#include "millrace/batch.h"
#include "mutate.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEAL    0x01u
#define COMPACT 0x02u
#define WINDOW  0x04u
#define OLD     0x08u /* Produce before version 7 */
#define ROOM    (1u << 20)
#define BATCH   (1u << 17)

static struct mr_arena scratch;

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

/* Every record of an accepted batch, in order, and nothing behind the last. */
static void walk(const uint8_t *bytes, uint32_t len, bool is_accepted)
{
    struct mr_record_iter iter;
    struct mr_record      record;
    mr_arena_reset(&scratch);
    enum mr_err err = mr_record_iter_init(&iter, bytes, len, &scratch);
    must(!is_accepted || err == MR_OK || err == MR_ERR_NO_MEMORY);
    if (err != MR_OK) {
        return;
    }
    uint64_t sum = 0;
    int32_t  count = 0;
    while ((err = mr_record_iter_next(&iter, &record)) == MR_OK) {
        must(!is_accepted || record.offset == iter.batch.base_offset + count);
        count++;
        for (int32_t at = 0; at < record.key.len; at++) {
            sum += record.key.data[at];
        }
        for (int32_t at = 0; at < record.value.len; at++) {
            sum += record.value.data[at];
        }
        for (int32_t at = 0; at < record.headers.len; at++) {
            sum += record.headers.data[at];
        }
    }
    must(!is_accepted || (err == MR_ERR_NOT_FOUND && count == iter.batch.record_count));
    (void)*(volatile uint64_t *)&sum;
}

static void unpack(int codec, const uint8_t *bytes, uint32_t len)
{
    static uint8_t  out[1u << 16];
    struct mr_span  spans[] = {{bytes, len / 2}, {bytes + len / 2, len - len / 2}};
    struct mr_chain chain = {.spans = spans, .span_count = 2, .bytes = len};
    uint32_t        got = 0;
    mr_arena_reset(&scratch);
    enum mr_err err = mr_decompress(codec, &chain, out, sizeof out, &got, &scratch);
    must(err != MR_OK || got <= sizeof out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (scratch.base == NULL) {
        mr_arena_init(&scratch, malloc(ROOM), ROOM);
    }
    if (size < 2 || size > BATCH) {
        return 0;
    }
    uint32_t len = (uint32_t)size - 2;
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    memcpy(bytes, data + 2, len);
    if ((data[0] & SEAL) != 0 && len >= MR_BATCH_HEADER) {
        mr_store_be64(bytes, 0);
        mr_store_be32(bytes + 8, len - MR_BATCH_LENGTH_BIAS);
        bytes[16] = 2;
        mr_store_be32(bytes + 17, mr_crc32c(0, bytes + 21, len - 21));
    }
    uint32_t        cut = len == 0 ? 0 : data[1] * 7u % (len + 1);
    struct mr_span  spans[] = {{bytes, cut}, {bytes + cut, len - cut}};
    struct mr_chain chain = {.spans = spans, .span_count = 2, .bytes = len};
    for (int mode = MR_VALIDATE_FRAMING; mode <= MR_VALIDATE_FULL; mode++) {
        bool                    is_window = (data[0] & WINDOW) != 0;
        struct mr_log_config    config = {.max_message_bytes = BATCH,
                                          .timestamp_before_max_ms = is_window ? 1000 : INT64_MAX,
                                          .timestamp_after_max_ms = is_window ? 1000 : INT64_MAX,
                                          .is_cleanup_compact = (data[0] & COMPACT) != 0,
                                          .compression_type = (int8_t)(data[1] % 6 - 1),
                                          .compression_level = 1,
                                          .validate = (enum mr_validate)mode};
        struct mr_batch_rules   rules = {.config = &config,
                                         .now_unix_ms = 1700000000000,
                                         .produce_version = (data[0] & OLD) != 0 ? 3 : 12};
        struct mr_batch         batch;
        struct mr_batch_refusal refusal;
        mr_arena_reset(&scratch);
        enum mr_err err = mr_batch_check(&chain, &rules, &scratch, &batch, &refusal);
        must(refusal.record_error_count <= MR_BATCH_RECORD_ERRORS);
        if (err == MR_OK && mr_batch_recode_is_due(&config, &chain)) {
            struct mr_span anew;
            mr_arena_reset(&scratch);
            must(mr_batch_recode(&config, &chain, &scratch, &anew) == MR_OK);
            walk(anew.data, anew.len, true); /* it was validated in full */
        }
        bool is_plain = (batch.attributes & MR_BATCH_CODEC_MASK) == MR_CODEC_NONE;
        bool is_looked_into =
            mode == MR_VALIDATE_FULL || config.is_cleanup_compact || mr_batch_recode_is_due(&config, &chain) || (mode == MR_VALIDATE_FRAMING && is_plain);
        walk(bytes, len, err == MR_OK && is_looked_into);
    }
    if (len > MR_BATCH_HEADER) {
        unpack(1 + data[0] / 16 % 4, bytes + MR_BATCH_HEADER, len - MR_BATCH_HEADER);
    }
    free(bytes);
    return 0;
}

/* ---- The mutator ---- */

static uint32_t pack_gzip(const uint8_t *in, uint32_t len, uint8_t *out, uint32_t max)
{
    z_stream stream = {.next_out = out, .avail_out = max};
    union {
        const uint8_t *in;
        uint8_t *out;
    } pun = {.in = in}; /* zlib's pointer is not const */
    if (deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return 0;
    }
    stream.next_in = pun.out;
    stream.avail_in = len;
    bool is_whole = deflate(&stream, Z_FINISH) == Z_STREAM_END;
    uint32_t used = (uint32_t)stream.total_out;
    deflateEnd(&stream);
    return is_whole ? used : 0;
}

/* 0: it does not fit. */
static uint32_t pack(int codec, const uint8_t *in, uint32_t len, uint8_t *out, uint32_t max)
{
    size_t used = max;
    switch (codec) {
    case MR_CODEC_GZIP:
        return pack_gzip(in, len, out, max);
    case MR_CODEC_SNAPPY:
        return snappy_compress((const char *)in, len, (char *)out, &used) == SNAPPY_OK ? (uint32_t)used : 0;
    case MR_CODEC_LZ4:
        used = LZ4F_compressFrame(out, max, in, len, NULL);
        return LZ4F_isError(used) ? 0 : (uint32_t)used;
    case MR_CODEC_ZSTD:
        used = ZSTD_compress(out, max, in, len, 1);
        return ZSTD_isError(used) ? 0 : (uint32_t)used;
    default:
        memcpy(out, in, len);
        return len;
    }
}

/* The records of a batch as they were before they were packed; false: nobody can tell. */
static bool open_records(const uint8_t *batch, uint32_t len, uint8_t *out, uint32_t max, uint32_t *out_len)
{
    int codec = batch[22] & MR_BATCH_CODEC_MASK;
    struct mr_span span = {batch + MR_BATCH_HEADER, len - MR_BATCH_HEADER};
    struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = span.len};
    if (codec == MR_CODEC_NONE) {
        memcpy(out, span.data, span.len);
        *out_len = span.len;
        return true;
    }
    mr_arena_reset(&scratch);
    return codec <= MR_CODEC_ZSTD && mr_decompress(codec, &chain, out, max, out_len, &scratch) == MR_OK;
}

static void set_codec(uint8_t *batch, int codec)
{
    batch[22] = (uint8_t)((batch[22] & (0xff ^ MR_BATCH_CODEC_MASK)) | codec);
}

/* One field of the header; of the attributes all but the codec. */
static void draw_field(struct mr_prng *prng, uint8_t *batch)
{
    static const struct {
        uint8_t at, len;
    } fields[] = {{21, 1}, {22, 1}, {23, 4}, {27, 8}, {35, 8}, {43, 8}, {51, 2}, {53, 4}, {57, 4}};
    uint64_t field = mr_prng_below(prng, sizeof fields / sizeof fields[0]);
    int codec = batch[22] & MR_BATCH_CODEC_MASK;
    uint8_t fill = mr_prng_below(prng, 2) == 0 ? 0 : 0xff;
    memset(batch + fields[field].at, fill, fields[field].len);
    batch[fields[field].at + fields[field].len - 1] = (uint8_t)mr_prng_below(prng, 256);
    set_codec(batch, codec);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    static uint8_t plain[1u << 16], packed[1u << 17];
    struct mr_prng prng = mr_mutate_prng(seed);
    uint8_t *batch = data + 2;
    uint32_t plain_len;
    if (scratch.base == NULL) {
        mr_arena_init(&scratch, malloc(ROOM), ROOM);
    }
    if (mr_prng_below(&prng, 5) == 0 || size < 2 + MR_BATCH_HEADER || size > sizeof plain ||
        !open_records(batch, (uint32_t)size - 2, plain, sizeof plain, &plain_len)) {
        return LLVMFuzzerMutate(data, size, size_max);
    }
    int codec = batch[22] & MR_BATCH_CODEC_MASK;
    switch (mr_prng_below(&prng, 4)) {
    case 0:
        draw_field(&prng, batch);
        break;
    case 1:
        codec = (int)mr_prng_below(&prng, MR_CODEC_ZSTD + 1);
        break;
    default:
        plain_len = (uint32_t)LLVMFuzzerMutate(plain, plain_len, sizeof plain);
        break;
    }
    uint32_t packed_len = pack(codec, plain, plain_len, packed, sizeof packed);
    if (packed_len == 0 || size_max < 2 + MR_BATCH_HEADER + packed_len) {
        return LLVMFuzzerMutate(data, size, size_max);
    }
    data[0] |= SEAL;
    set_codec(batch, codec);
    memcpy(batch + MR_BATCH_HEADER, packed, packed_len);
    return 2 + MR_BATCH_HEADER + packed_len;
}
