/*
 * compress: every codec in the forms that clients send, whole, cut short, damaged, and as bombs. What
 * Kafka's producer makes of a batch is in test_batch_iter.c; here the libraries themselves pack.
 */
#include "test.h"

#include "batch/compress.h"
#include "millrace/base/bytes.h"
#include "millrace/batch.h"
#include "random_msg.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#define ROOM     (8u << 20)
#define TEXT_MAX (2u << 20)

static struct mr_arena scratch;
static struct mr_arena spans;
static uint8_t        *plain;  /* what is packed */
static uint8_t        *packed;
static uint8_t        *out;

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&scratch, mr_test_memory(ROOM), ROOM);
    mr_arena_init(&spans, mr_test_memory(ROOM), ROOM);
    plain = mr_test_memory(TEXT_MAX);
    packed = mr_test_memory(2 * TEXT_MAX);
    out = mr_test_memory(TEXT_MAX);
    return 0;
}

static uint32_t pack_gzip(const uint8_t *in, uint32_t len, uint8_t *to)
{
    z_stream stream = {0};
    union {
        const uint8_t *in;
        uint8_t       *out;
    } pun = {.in = in};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = pun.out;
    stream.avail_in = len;
    stream.next_out = to;
    stream.avail_out = 2 * TEXT_MAX;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    uint32_t used = (uint32_t)stream.total_out;
    deflateEnd(&stream);
    return used;
}

static uint32_t pack_snappy(const uint8_t *in, uint32_t len, uint8_t *to)
{
    size_t used = 2 * TEXT_MAX;
    assert_int_equal(snappy_compress((const char *)in, len, (char *)to, &used), SNAPPY_OK);
    return (uint32_t)used;
}

/* snappy-java's stream: a header and blocks of 32 KiB. */
static uint32_t pack_xerial(const uint8_t *in, uint32_t len, uint8_t *to)
{
    static const uint8_t head[16] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
    memcpy(to, head, sizeof head);
    uint32_t used = sizeof head;
    for (uint32_t at = 0; at < len;) {
        uint32_t part = len - at < 32768 ? len - at : 32768;
        size_t   size = 65536;
        assert_int_equal(snappy_compress((const char *)in + at, part, (char *)to + used + 4, &size), SNAPPY_OK);
        mr_store_be32(to + used, (uint32_t)size);
        used += 4 + (uint32_t)size;
        at += part;
    }
    return used;
}

static uint32_t pack_lz4(const uint8_t *in, uint32_t len, uint8_t *to, LZ4F_preferences_t how)
{
    size_t used = LZ4F_compressFrame(to, 2 * TEXT_MAX, in, len, &how);
    assert_false(LZ4F_isError(used));
    return (uint32_t)used;
}

static uint32_t pack_lz4_plain(const uint8_t *in, uint32_t len, uint8_t *to)
{
    return pack_lz4(in, len, to,
                    (LZ4F_preferences_t){.frameInfo = {.blockMode = LZ4F_blockIndependent, .blockSizeID = LZ4F_max64KB}});
}

static uint32_t pack_lz4_linked(const uint8_t *in, uint32_t len, uint8_t *to)
{
    return pack_lz4(in, len, to,
                    (LZ4F_preferences_t){.frameInfo = {.blockMode = LZ4F_blockLinked, .blockSizeID = LZ4F_max64KB}});
}

static uint32_t pack_lz4_checked(const uint8_t *in, uint32_t len, uint8_t *to)
{
    return pack_lz4(in, len, to,
                    (LZ4F_preferences_t){.frameInfo = {.blockSizeID = LZ4F_max4MB,
                                                       .contentChecksumFlag = LZ4F_contentChecksumEnabled,
                                                       .blockChecksumFlag = LZ4F_blockChecksumEnabled,
                                                       .contentSize = len}});
}

static uint32_t pack_zstd(const uint8_t *in, uint32_t len, uint8_t *to)
{
    size_t used = ZSTD_compress(to, 2 * TEXT_MAX, in, len, 3);
    assert_false(ZSTD_isError(used));
    return (uint32_t)used;
}

static uint32_t pack_none(const uint8_t *in, uint32_t len, uint8_t *to)
{
    memcpy(to, in, len);
    return len;
}

static const struct form {
    const char *name;
    int         codec;
    uint32_t (*pack)(const uint8_t *in, uint32_t len, uint8_t *to);
    bool is_end_known; /* a cut anywhere is noticed */
} forms[] = {
    {"none", MR_CODEC_NONE, pack_none, false},
    {"gzip", MR_CODEC_GZIP, pack_gzip, true},
    {"snappy", MR_CODEC_SNAPPY, pack_snappy, true},
    {"xerial", MR_CODEC_SNAPPY, pack_xerial, false},
    {"lz4", MR_CODEC_LZ4, pack_lz4_plain, true},
    {"lz4 linked", MR_CODEC_LZ4, pack_lz4_linked, true},
    {"lz4 checked", MR_CODEC_LZ4, pack_lz4_checked, false}, /* the content's checksum is not needed */
    {"zstd", MR_CODEC_ZSTD, pack_zstd, true},
};
#define FORMS (sizeof forms / sizeof forms[0])

/* Half text that repeats, half noise: blocks of all kinds. */
static void fill(struct mr_prng *prng, uint32_t len)
{
    for (uint32_t at = 0; at < len; at++) {
        bool is_noise = at / 5000 % 2 == 1;
        plain[at] = is_noise ? (uint8_t)mr_prng_next(prng) : (uint8_t)("some words again, "[at % 18]);
    }
}

static enum mr_err unpack(const struct form *form, const struct mr_chain *in, uint32_t size, uint32_t *len)
{
    mr_arena_reset(&scratch);
    size_t      limit = mr_decompress_scratch(form->codec, in);
    enum mr_err err = mr_decompress(form->codec, in, out, size, len, &scratch);
    assert_true(scratch.used <= limit);
    return err;
}

static void test_decompress_gives_back_what_was_packed_however_it_is_cut(void **state)
{
    (void)state;
    static const uint32_t lens[] = {0, 1, 100, 4096, 32768, 65536, 65537, 300000, TEXT_MAX};
    struct mr_prng        prng = {.state = 4};
    for (size_t index = 0; index < FORMS; index++) {
        for (size_t which = 0; which < sizeof lens / sizeof lens[0]; which++) {
            uint32_t len = lens[which];
            fill(&prng, len);
            uint32_t       used = forms[index].pack(plain, len, packed);
            struct mr_span span = {packed, used};
            for (uint32_t round = 0; round < 4; round++) {
                mr_arena_reset(&spans);
                struct mr_chain chain = round == 0
                                            ? (struct mr_chain){.spans = &span, .span_count = 1, .bytes = used}
                                            : mr_random_chain(&prng, packed, used, &spans);
                uint32_t    got;
                enum mr_err err = unpack(&forms[index], &chain, len, &got); /* exactly as much room */
                if (err != MR_OK || got != len || memcmp(out, plain, len) != 0) {
                    fail_msg("%s, %u bytes: %s, %u", forms[index].name, len, mr_err_text(err), got);
                }
            }
        }
    }
}

static void test_decompress_one_byte_too_little_room_is_too_large(void **state)
{
    (void)state;
    static const uint32_t lens[] = {1, 100, 65536, 65537, 300000};
    struct mr_prng        prng = {.state = 5};
    for (size_t index = 0; index < FORMS; index++) {
        for (size_t which = 0; which < sizeof lens / sizeof lens[0]; which++) {
            fill(&prng, lens[which]);
            uint32_t        used = forms[index].pack(plain, lens[which], packed);
            struct mr_span  span = {packed, used};
            struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = used};
            uint32_t        got;
            assert_int_equal(unpack(&forms[index], &chain, lens[which] - 1, &got), MR_ERR_TOO_LARGE);
        }
    }
}

static void test_decompress_cut_short_is_an_error(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 6};
    for (size_t index = 0; index < FORMS; index++) {
        fill(&prng, 70000);
        uint32_t used = forms[index].pack(plain, 70000, packed);
        for (uint32_t cut = 0; cut < used; cut += cut < 100 || cut + 100 > used ? 1 : 997) {
            uint8_t *copy = malloc(cut > 0 ? cut : 1);
            assert_non_null(copy);
            memcpy(copy, packed, cut);
            struct mr_span  span = {copy, cut};
            struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = cut};
            uint32_t        got;
            enum mr_err     err = unpack(&forms[index], &chain, 70000, &got);
            if (forms[index].is_end_known && err != MR_ERR_INVALID_RECORD) {
                fail_msg("%s cut at %u of %u: %s", forms[index].name, cut, used, mr_err_text(err));
            }
            assert_true(err != MR_OK || got <= 70000);
            free(copy);
        }
    }
}

static void test_decompress_damage_is_refused_or_decodes_to_something_bounded(void **state)
{
    (void)state;
    struct mr_prng prng = {.state = 7};
    for (size_t index = 0; index < FORMS; index++) {
        fill(&prng, 20000);
        uint32_t used = forms[index].pack(plain, 20000, packed);
        uint8_t *copy = malloc(used);
        assert_non_null(copy);
        for (uint32_t round = 0; round < 500; round++) {
            memcpy(copy, packed, used);
            for (uint64_t flips = 1 + mr_prng_below(&prng, 4); flips > 0; flips--) {
                /* Early bytes matter most. */
                copy[mr_prng_below(&prng, mr_prng_below(&prng, used) + 1)] ^= (uint8_t)(1 + mr_prng_below(&prng, 255));
            }
            struct mr_span  span = {copy, used};
            struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = used};
            uint32_t        got;
            enum mr_err     err = unpack(&forms[index], &chain, 30000, &got);
            assert_true(err == MR_OK || err == MR_ERR_INVALID_RECORD || err == MR_ERR_TOO_LARGE);
            assert_true(err != MR_OK || got <= 30000);
        }
        free(copy);
    }
}

/* Two mebibytes of zeros in a few kilobytes: stopped by the room there is, not by what is declared. */
static void test_decompress_bombs_end_at_the_room_there_is(void **state)
{
    (void)state;
    memset(plain, 0, TEXT_MAX);
    for (size_t index = 1; index < FORMS; index++) {
        uint32_t        used = forms[index].pack(plain, TEXT_MAX, packed);
        struct mr_span  span = {packed, used};
        struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = used};
        uint32_t        got;
        out[10000] = 0x5a;
        assert_true(used < TEXT_MAX / 10);
        assert_int_equal(unpack(&forms[index], &chain, 10000, &got), MR_ERR_TOO_LARGE);
        assert_int_equal(out[10000], 0x5a);
    }
}

/* A frame that says it holds 2^60 bytes and wants a window of 2^30 costs nothing. */
static void test_decompress_zstd_declared_sizes_are_not_believed(void **state)
{
    (void)state;
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd,             /* magic */
                                    0xc0, 0xa0,                         /* 8-byte content size; window */
                                    0, 0, 0, 0, 0, 0, 0, 0x10,          /* 2^60 */
                                    0x19, 0, 0, 'a', 'b', 'c'};
    struct mr_span       span = {frame, sizeof frame};
    struct mr_chain      chain = {.spans = &span, .span_count = 1, .bytes = sizeof frame};
    uint32_t             got;
    enum mr_err          err = unpack(&forms[FORMS - 1], &chain, 10000, &got);
    assert_true(err == MR_ERR_TOO_LARGE || err == MR_ERR_INVALID_RECORD);
}

/* gzip allows several members one after the other; Java reads them all. */
static void test_decompress_gzip_members_are_joined(void **state)
{
    (void)state;
    uint32_t first = pack_gzip((const uint8_t *)"one,", 4, packed);
    uint32_t second = pack_gzip((const uint8_t *)"two", 3, packed + first);
    struct mr_span  span = {packed, first + second};
    struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = first + second};
    uint32_t        got;
    assert_int_equal(unpack(&forms[1], &chain, 100, &got), MR_OK);
    assert_int_equal(got, 7);
    assert_memory_equal(out, "one,two", 7);
}

static void test_decompress_unknown_codecs_are_refused(void **state)
{
    (void)state;
    struct mr_span  span = {plain, 10};
    struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = 10};
    for (int codec = 5; codec < 8; codec++) {
        uint32_t got;
        assert_int_equal(mr_decompress(codec, &chain, out, 100, &got, &scratch), MR_ERR_UNSUPPORTED_CODEC);
    }
}

/* What we pack, we and the codecs' own libraries unpack. */
static void test_what_is_packed_here_comes_out_again(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 100, 32768, 65536, 65537, 700000, TEXT_MAX};
    static const struct {
        int codec;
        int level;
    } ways[] = {
        {MR_CODEC_GZIP, MR_LEVEL_DEFAULT}, {MR_CODEC_GZIP, 1}, {MR_CODEC_GZIP, 9}, {MR_CODEC_SNAPPY, MR_LEVEL_DEFAULT},
        {MR_CODEC_LZ4, MR_LEVEL_DEFAULT},  {MR_CODEC_LZ4, 3},  {MR_CODEC_LZ4, 12}, {MR_CODEC_ZSTD, MR_LEVEL_DEFAULT},
        {MR_CODEC_ZSTD, -5},               {MR_CODEC_ZSTD, 6},
    };
    for (uint32_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        for (uint32_t size = 0; size < sizeof sizes / sizeof sizes[0]; size++) {
            for (int kind = 0; kind < 2; kind++) { /* text, and what does not shrink */
                uint64_t seed = 99;
                for (uint32_t at = 0; at < sizes[size]; at++) {
                    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                    plain[at] = kind == 0 ? (uint8_t)("millrace "[at % 9] + (int)(at / 5000 % 7)) : (uint8_t)(seed >> 40);
                }
                uint32_t packed_len = 0;
                uint32_t out_len = 0;
                scratch.used = 0;
                assert_int_equal(mr_compress(ways[way].codec, ways[way].level, plain, sizes[size], packed, 2 * TEXT_MAX,
                                             &packed_len, &scratch),
                                 MR_OK);
                struct mr_span  span = {.data = packed, .len = packed_len};
                struct mr_chain chain = {.spans = &span, .span_count = 1, .bytes = packed_len};
                scratch.used = 0;
                assert_int_equal(mr_decompress(ways[way].codec, &chain, out, TEXT_MAX, &out_len, &scratch), MR_OK);
                assert_int_equal(out_len, sizes[size]);
                assert_memory_equal(out, plain, out_len);
                assert_true(kind == 1 || sizes[size] < 1000 || packed_len < sizes[size] / 4);
                uint32_t cut = 0;
                scratch.used = 0;
                assert_int_equal(mr_compress(ways[way].codec, ways[way].level, plain, sizes[size], packed, packed_len - 1,
                                             &cut, &scratch),
                                 MR_ERR_TOO_LARGE);
            }
        }
    }
}

/* liblz4 reads the frame that is made by hand. */
static void test_lz4_frame_is_the_librarys(void **state)
{
    (void)state;
    uint32_t packed_len = 0;
    memset(plain, 'x', 200000);
    scratch.used = 0;
    assert_int_equal(mr_compress(MR_CODEC_LZ4, MR_LEVEL_DEFAULT, plain, 200000, packed, 2 * TEXT_MAX, &packed_len, &scratch),
                     MR_OK);
    LZ4F_dctx *context = NULL;
    assert_int_equal(LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)), 0);
    size_t out_size = TEXT_MAX;
    size_t in_size = packed_len;
    assert_int_equal(LZ4F_decompress(context, out, &out_size, packed, &in_size, NULL), 0);
    assert_int_equal(out_size, 200000);
    assert_memory_equal(out, plain, out_size);
    LZ4F_freeDecompressionContext(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decompress_gives_back_what_was_packed_however_it_is_cut),
        cmocka_unit_test(test_decompress_one_byte_too_little_room_is_too_large),
        cmocka_unit_test(test_decompress_cut_short_is_an_error),
        cmocka_unit_test(test_decompress_damage_is_refused_or_decodes_to_something_bounded),
        cmocka_unit_test(test_decompress_bombs_end_at_the_room_there_is),
        cmocka_unit_test(test_decompress_zstd_declared_sizes_are_not_believed),
        cmocka_unit_test(test_decompress_gzip_members_are_joined),
        cmocka_unit_test(test_decompress_unknown_codecs_are_refused),
        cmocka_unit_test(test_what_is_packed_here_comes_out_again),
        cmocka_unit_test(test_lz4_frame_is_the_librarys),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
