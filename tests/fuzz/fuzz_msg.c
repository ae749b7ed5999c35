/*
 * fuzz_msg: any bytes as any message in any version.
 *
 *   | sort | key | version | cut | body ...
 *
 * sort and key name the message (a key that does not exist picks one of the sort by its number), cut says where the
 * body is split into spans. What decodes must encode to bytes that decode, encode and print to the same again; memory
 * is bounded by the input; nothing may be read beyond what is given.
 */
#include "mutate.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES     (1u << 20)
#define TEXT_BYTES      (8u << 20)
#define SPAN_MAX        4096u
#define CHAIN_MAX       (1u << 20)
#define HEAD            4u

/* What decoding may take of the arena: one byte on the wire is at most one struct of an array. */
#define MEMORY_MIN      1024u
#define MEMORY_PER_BYTE 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

union any {
    uint8_t bytes[1024];
    max_align_t align;
};

/* Messages and versions that decoded: libFuzzer counts them as coverage, since all take the same code. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t decoded[1u << 14];

static struct mr_arena arena;   /* decoded from the input          */
static struct mr_arena scratch; /* written, and decoded once more  */
static struct mr_arena third;
static char *text_a;
static char *text_b;

static void *must(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void start(void)
{
    mr_arena_init(&arena, must(malloc(ARENA_BYTES)), ARENA_BYTES);
    mr_arena_init(&scratch, must(malloc(2 * ARENA_BYTES)), 2 * ARENA_BYTES);
    mr_arena_init(&third, must(malloc(2 * ARENA_BYTES)), 2 * ARENA_BYTES);
    text_a = must(malloc(TEXT_BYTES));
    text_b = must(malloc(TEXT_BYTES));
}

static const struct mr_msg *pick(uint8_t sort, uint8_t key)
{
    const struct mr_msg *msg = mr_msg_find((enum mr_msg_sort)(sort % (MR_MSG_DATA + 1)), key);
    return msg != NULL ? msg : mr_msg_all[(sort * 256u + key) % mr_msg_count];
}

static int16_t pick_version(const struct mr_msg *msg, uint8_t version)
{
    return (int16_t)(msg->version_min + version % (msg->version_max - msg->version_min + 1));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    struct mr_prng prng = mr_mutate_prng(seed);
    if (size_max <= HEAD || mr_prng_below(&prng, 5) == 0) {
        return LLVMFuzzerMutate(data, size, size_max);
    }
    if (size < HEAD) {
        memset(data + size, 0, HEAD - size);
        size = HEAD;
    }
    for (uint32_t at = 0; at < HEAD;
         at++) { /* another message now and then, another version or cut more often */
        if (mr_prng_below(&prng, at < 2 ? 64 : 8) == 0) {
            data[at] = (uint8_t)mr_prng_next(&prng);
        }
    }
    static uint8_t body[65536];
    const struct mr_msg *msg = pick(data[0], data[1]);
    uint32_t max = (uint32_t)(size_max - HEAD < sizeof body ? size_max - HEAD : sizeof body);
    uint32_t len = mr_mutate_msg(&prng, msg, pick_version(msg, data[2]), data + HEAD,
                                 (uint32_t)size - HEAD, body, max);
    memcpy(data + HEAD, body, len);
    if (len > 0 && mr_prng_below(&prng, 8) == 0) { /* a lie in it */
        len = (uint32_t)LLVMFuzzerMutate(data + HEAD, len, max);
    }
    return HEAD + len;
}

static void print(const struct mr_msg *msg, int16_t version, const void *in, char *buffer)
{
    struct mr_text text;
    mr_text_init(&text, buffer, TEXT_BYTES);
    mr_assert(mr_msg_print(msg, version, in, &text) == MR_OK);
    mr_assert(!text.is_cut);
}

/* Encode `in` into bytes of arena `to`; false: these are the spans of very many records. */
static bool encode(const struct mr_msg *msg, int16_t version, const void *in, struct mr_arena *to,
                   struct mr_span *out, struct mr_chain *written)
{
    struct mr_writer writer;
    uint32_t bytes;
    mr_arena_reset(to);
    mr_writer_init(&writer, to, out, SPAN_MAX);
    enum mr_err err = mr_msg_encode(msg, version, in, &writer);
    if (err == MR_ERR_NO_MEMORY) {
        return false;
    }
    mr_assert(err == MR_OK);
    *written = mr_writer_finish(&writer);
    mr_assert(mr_msg_size(msg, version, in, &bytes) == MR_OK && bytes == written->bytes);
    return true;
}

static bool is_equal(const struct mr_chain *a, const struct mr_chain *b)
{
    static uint8_t bytes_a[CHAIN_MAX];
    static uint8_t bytes_b[CHAIN_MAX];
    mr_assert(a->bytes <= CHAIN_MAX);
    if (a->bytes != b->bytes) {
        return false;
    }
    mr_chain_copy(a, 0, bytes_a, a->bytes);
    mr_chain_copy(b, 0, bytes_b, b->bytes);
    return memcmp(bytes_a, bytes_b, a->bytes) == 0;
}

/* What was decoded is encoded, decoded and encoded once more: the same bytes; sometimes printed: the same text. */
static void check_again(const struct mr_msg *msg, int16_t version, const void *first,
                        bool is_printed)
{
    static struct mr_span spans_a[SPAN_MAX];
    static struct mr_span spans_b[SPAN_MAX];
    struct mr_chain written;
    struct mr_chain again;
    struct mr_reader reader;
    union any second;
    if (!encode(msg, version, first, &scratch, spans_a, &written)) {
        return;
    }
    mr_reader_init(&reader, &written);
    enum mr_err err = mr_msg_decode(msg, version, &reader, &scratch, &second);
    if (err == MR_ERR_NO_MEMORY) {
        return;
    }
    mr_assert(err == MR_OK && mr_reader_left(&reader) == 0);
    if (encode(msg, version, &second, &third, spans_b, &again)) {
        mr_assert(is_equal(&written, &again));
    }
    if (is_printed) {
        print(msg, version, first, text_a);
        print(msg, version, &second, text_b);
        mr_assert(strcmp(text_a, text_b) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (text_a == NULL) {
        start();
    }
    if (size < HEAD || size > 65536) {
        return 0;
    }
    const struct mr_msg *msg = pick(data[0], data[1]);
    int16_t version = pick_version(msg, data[2]);
    uint32_t len = (uint32_t)size - HEAD;
    uint32_t cut = data[3] < len ? data[3] : len;
    const struct mr_span halves[2] = {{.data = data + HEAD, .len = cut},
                                      {.data = data + HEAD + cut, .len = len - cut}};
    const struct mr_chain chain = {.spans = halves, .span_count = 2, .bytes = len};
    struct mr_reader reader;
    union any first;
    mr_arena_reset(&arena);
    mr_reader_init(&reader, &chain);
    enum mr_err err = mr_msg_decode(msg, version, &reader, &arena, &first);
    mr_assert(arena.used <= MEMORY_MIN + (size_t)len * MEMORY_PER_BYTE);
    if (err == MR_OK) {
        decoded[(data[0] % (MR_MSG_DATA + 1) * 2048u + data[1] * 16u + (uint32_t)version) %
                sizeof decoded] = 1;
        check_again(msg, version, &first, data[3] % 16 == 0);
    }
    return 0;
}
