/*
 * fuzz_msg: any bytes as any message in any version.
 *
 *   | sort | key | version | cut | body ...
 *
 * sort and key name the message (a key that does not exist picks one of the sort by its number),
 * cut says where the body is split into spans. What decodes must print, and must encode to bytes
 * that decode to the same text again; nothing may be read or taken beyond what is given.
 */
#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES (1u << 20)
#define TEXT_BYTES  (8u << 20)
#define SPAN_MAX    4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

union any {
    uint8_t     bytes[1024];
    max_align_t align;
};

static struct mr_arena arena;   /* decoded from the input          */
static struct mr_arena scratch; /* written, and decoded once more  */
static struct mr_span  spans[SPAN_MAX];
static char           *text_a;
static char           *text_b;

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
    text_a = must(malloc(TEXT_BYTES));
    text_b = must(malloc(TEXT_BYTES));
}

static const struct mr_msg *pick(uint8_t sort, uint8_t key)
{
    const struct mr_msg *msg = mr_msg_find((enum mr_msg_sort)(sort % (MR_MSG_DATA + 1)), key);
    return msg != NULL ? msg : mr_msg_all[(sort * 256u + key) % mr_msg_count];
}

static void print(const struct mr_msg *msg, int16_t version, const void *in, char *buffer)
{
    struct mr_text text;
    mr_text_init(&text, buffer, TEXT_BYTES);
    mr_assert(mr_msg_print(msg, version, in, &text) == MR_OK);
    mr_assert(!text.is_cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (text_a == NULL) {
        start();
    }
    if (size < 4 || size > 65536) {
        return 0;
    }
    const struct mr_msg *msg = pick(data[0], data[1]);
    int                   versions = msg->version_max - msg->version_min + 1;
    int16_t               version = (int16_t)(msg->version_min + data[2] % versions);
    uint32_t              len = (uint32_t)size - 4;
    uint32_t              cut = data[3] < len ? data[3] : len;
    const struct mr_span  halves[2] = {{.data = data + 4, .len = cut},
                                       {.data = data + 4 + cut, .len = len - cut}};
    const struct mr_chain chain = {.spans = halves, .span_count = 2, .bytes = len};
    struct mr_reader      reader;
    union any             first;
    union any             second;
    mr_arena_reset(&arena);
    mr_reader_init(&reader, &chain);
    if (mr_msg_decode(msg, version, &reader, &arena, &first) != MR_OK) {
        return 0;
    }
    print(msg, version, &first, text_a);

    struct mr_writer writer;
    uint32_t         bytes;
    mr_arena_reset(&scratch);
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    enum mr_err err = mr_msg_encode(msg, version, &first, &writer);
    if (err == MR_ERR_NO_MEMORY) {
        return 0; /* the spans of very many records */
    }
    mr_assert(err == MR_OK);
    struct mr_chain written = mr_writer_finish(&writer);
    mr_assert(mr_msg_size(msg, version, &first, &bytes) == MR_OK && bytes == written.bytes);
    mr_reader_init(&reader, &written);
    err = mr_msg_decode(msg, version, &reader, &scratch, &second);
    if (err == MR_ERR_NO_MEMORY) {
        return 0;
    }
    mr_assert(err == MR_OK && mr_reader_left(&reader) == 0);
    print(msg, version, &second, text_b);
    mr_assert(strcmp(text_a, text_b) == 0);
    return 0;
}
