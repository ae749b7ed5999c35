/*
 * codec_peer: our codec behind a pipe, for CodecOracle.java, which asks and judges.
 *
 * Integers are big-endian; text and bytes stand behind an int32 length.
 *
 *   'L'                                           -> count, then name, sort, key, min, max, flex
 *   'M' name version seed count                   -> count times bytes, JSON: random values of ours
 *   'C' name version seed bytes JSON              -> "" or what is wrong with decoding these bytes
 *   'A'                                           -> count, then the rows of api.def
 *   'E'                                           -> name, retriable of the error codes -1..999
 *   'Q'                                           end
 *
 * A test program: it may block, and it stops on a broken pipe.
 */
#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"
#include "random_msg.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES (8u << 20)
#define TEXT_BYTES  (4u << 20)
#define SPAN_MAX    8192u

static struct mr_arena question; /* what the oracle sent                    */
static struct mr_arena values;   /* random values and decoded ones          */
static struct mr_arena scratch;  /* pieces of encodes                       */
static struct mr_span  spans[SPAN_MAX];
static char           *printed;

union any {
    uint8_t     bytes[1024];
    max_align_t align;
};

static void stop(const char *why)
{
    fprintf(stderr, "codec_peer: %s\n", why);
    exit(1);
}

static void make_arena(struct mr_arena *arena)
{
    void *memory = malloc(ARENA_BYTES);
    if (memory == NULL) {
        stop("no memory");
    }
    mr_arena_init(arena, memory, ARENA_BYTES);
}

static void get(void *to, size_t len)
{
    if (len > 0 && fread(to, len, 1, stdin) != 1) {
        stop("the pipe ended within a question");
    }
}

static int16_t get_int16(void)
{
    uint8_t bytes[2];
    get(bytes, sizeof bytes);
    return (int16_t)mr_load_be16(bytes);
}

static uint32_t get_uint32(void)
{
    uint8_t bytes[4];
    get(bytes, sizeof bytes);
    return mr_load_be32(bytes);
}

static uint64_t get_uint64(void)
{
    uint8_t bytes[8];
    get(bytes, sizeof bytes);
    return mr_load_be64(bytes);
}

static struct mr_str get_text(void)
{
    uint32_t len = get_uint32();
    if (len > ARENA_BYTES / 2) {
        stop("a question is too long");
    }
    char *text = MR_ARENA_GET(&question, char, len + 1);
    get(text, len);
    return (struct mr_str){.data = text, .len = (int32_t)len};
}

static void put(const void *from, size_t len)
{
    if (len > 0 && fwrite(from, len, 1, stdout) != 1) {
        stop("cannot answer");
    }
}

static void put_int16(int16_t value)
{
    uint8_t bytes[2];
    mr_store_be16(bytes, (uint16_t)value);
    put(bytes, sizeof bytes);
}

static void put_uint32(uint32_t value)
{
    uint8_t bytes[4];
    mr_store_be32(bytes, value);
    put(bytes, sizeof bytes);
}

static void put_bytes(const void *bytes, size_t len)
{
    put_uint32((uint32_t)len);
    put(bytes, len);
}

static void put_text(const char *text)
{
    put_bytes(text, strlen(text));
}

static const struct mr_msg *get_msg(void)
{
    const struct mr_msg *msg = mr_msg_find_name(get_text());
    if (msg == NULL) {
        stop("no such message");
    }
    return msg;
}

static enum mr_err print(const struct mr_msg *msg, int16_t version, const void *in, size_t *len)
{
    struct mr_text text;
    mr_text_init(&text, printed, TEXT_BYTES);
    enum mr_err err = mr_msg_print(msg, version, in, &text);
    *len = text.len;
    return err;
}

/* Encoded bytes in one piece, from scratch; NULL with an error. */
static const uint8_t *encode(const struct mr_msg *msg, int16_t version, const void *in,
                             uint32_t *len, enum mr_err *err)
{
    struct mr_writer writer;
    uint32_t         size = 0;
    mr_arena_reset(&scratch);
    mr_writer_init(&writer, &scratch, spans, SPAN_MAX);
    *err = mr_msg_encode(msg, version, in, &writer);
    if (*err == MR_OK) {
        *err = mr_msg_size(msg, version, in, &size);
    }
    if (*err != MR_OK) {
        return NULL;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    if (size != chain.bytes) {
        stop("mr_msg_size differs from mr_msg_encode");
    }
    uint8_t *bytes = MR_ARENA_GET(&scratch, uint8_t, chain.bytes + 1);
    mr_chain_copy(&chain, 0, bytes, chain.bytes);
    *len = chain.bytes;
    return bytes;
}

static void answer_list(void)
{
    static const char *const sorts[] = {
        [MR_MSG_HEADER] = "HEADER",
        [MR_MSG_REQUEST] = "REQUEST",
        [MR_MSG_RESPONSE] = "RESPONSE",
        [MR_MSG_METADATA_RECORD] = "METADATA_RECORD",
        [MR_MSG_COORDINATOR_KEY] = "COORDINATOR_KEY",
        [MR_MSG_COORDINATOR_VALUE] = "COORDINATOR_VALUE",
        [MR_MSG_DATA] = "DATA",
    };
    put_uint32(mr_msg_count);
    for (uint32_t index = 0; index < mr_msg_count; index++) {
        const struct mr_msg *msg = mr_msg_all[index];
        put_text(msg->name);
        put_text(sorts[msg->sort]);
        put_int16(msg->key);
        put_int16(msg->version_min);
        put_int16(msg->version_max);
        put_int16(msg->flexible_since);
    }
}

static void answer_make(void)
{
    const struct mr_msg *msg = get_msg();
    int16_t              version = get_int16();
    struct mr_prng       prng = {.state = get_uint64()};
    for (uint32_t left = get_uint32(); left > 0; left--) {
        union any   in;
        uint32_t    len = 0;
        size_t      text_len = 0;
        enum mr_err err;
        mr_arena_reset(&values);
        mr_random_msg(&prng, msg, version, &values, &in);
        const uint8_t *bytes = encode(msg, version, &in, &len, &err);
        if (err != MR_OK || print(msg, version, &in, &text_len) != MR_OK) {
            stop("a random value of ours cannot be written");
        }
        put_bytes(bytes, len);
        put_bytes(printed, text_len);
    }
}

/* Decode bytes in a block of exactly their size (from malloc, so that ASan guards the end). */
static enum mr_err decode_exact(const struct mr_msg *msg, int16_t version, const void *bytes,
                                uint32_t len, void *out)
{
    struct mr_reader reader;
    void            *block = malloc(len > 0 ? len : 1);
    if (block == NULL) {
        stop("no memory");
    }
    memcpy(block, bytes, len);
    mr_arena_reset(&values);
    mr_reader_init_bytes(&reader, block, len);
    enum mr_err err = mr_msg_decode(msg, version, &reader, &values, out);
    free(block);
    return err;
}

/* What is wrong, into `complaint`; nothing when all is well. */
static void check(const struct mr_msg *msg, int16_t version, struct mr_prng *prng,
                  struct mr_str bytes, struct mr_str json, struct mr_text *complaint)
{
    union any        out;
    uint32_t         len = (uint32_t)bytes.len;
    struct mr_reader reader;
    mr_arena_reset(&values);
    struct mr_chain chain = mr_random_chain(prng, bytes.data, len, &values);
    mr_reader_init(&reader, &chain);
    enum mr_err err = mr_msg_decode(msg, version, &reader, &values, &out);
    if (err != MR_OK) {
        mr_text_fmt(complaint, "we refuse: %s", mr_err_text(err));
        return;
    }
    if (mr_reader_left(&reader) != 0) {
        mr_text_fmt(complaint, "we leave %u bytes over", mr_reader_left(&reader));
        return;
    }
    size_t text_len = 0;
    err = print(msg, version, &out, &text_len);
    if (err != MR_OK || text_len != (size_t)json.len || memcmp(printed, json.data, text_len) != 0) {
        mr_text_fmt(complaint, "our JSON is %s, Kafka's %.*s", printed, json.len, json.data);
        return;
    }
    uint32_t       again_len = 0;
    const uint8_t *again = encode(msg, version, &out, &again_len, &err);
    if (again == NULL || again_len != len || memcmp(again, bytes.data, len) != 0) {
        mr_text_fmt(complaint, "we write other bytes: %s, %u instead of %u", mr_err_text(err),
                    again_len, len);
        return;
    }
    for (uint32_t cut = 0; cut < len; cut++) {
        err = decode_exact(msg, version, bytes.data, cut, &out);
        if (err != MR_ERR_TRUNCATED && err != MR_ERR_MALFORMED) {
            mr_text_fmt(complaint, "cut to %u of %u bytes: %s", cut, len, mr_err_text(err));
            return;
        }
    }
}

static void answer_check(void)
{
    const struct mr_msg *msg = get_msg();
    int16_t              version = get_int16();
    struct mr_prng       prng = {.state = get_uint64()};
    struct mr_str        bytes = get_text();
    struct mr_str        json = get_text();
    /* Short, so that a whole round of complaints fits into the pipe while nobody reads them. */
    char           buffer[240];
    struct mr_text complaint;
    mr_text_init(&complaint, buffer, sizeof buffer);
    check(msg, version, &prng, bytes, json, &complaint);
    put_bytes(buffer, complaint.len);
}

static void answer_apis(void)
{
    put_uint32(mr_api_count);
    for (uint32_t index = 0; index < mr_api_count; index++) {
        const struct mr_api *api = &mr_api_all[index];
        uint8_t              headers[64];
        size_t               len = 0;
        put_text(api->name);
        put_int16(api->key);
        put_int16(api->version_min);
        put_int16(api->version_max);
        put_int16(api->listed_min);
        for (int16_t version = api->version_min; version <= api->version_max; version++) {
            headers[len++] = (uint8_t)mr_header_request_version(api, version);
            headers[len++] = (uint8_t)mr_header_response_version(api, version);
        }
        put_bytes(headers, len);
    }
}

static void answer_errors(void)
{
    for (int16_t code = -1; code < 1000; code++) {
        uint8_t is_retriable = mr_errors_is_retriable(code) ? 1 : 0;
        put_text(mr_errors_name(code));
        put(&is_retriable, 1);
    }
}

int main(void)
{
    make_arena(&question);
    make_arena(&values);
    make_arena(&scratch);
    printed = malloc(TEXT_BYTES);
    if (printed == NULL) {
        stop("no memory");
    }
    for (uint32_t index = 0; index < mr_msg_count; index++) {
        mr_assert(mr_msg_all[index]->root->size <= sizeof(union any));
    }
    for (;;) {
        uint8_t asked;
        get(&asked, 1);
        mr_arena_reset(&question);
        switch (asked) {
        case 'L':
            answer_list();
            break;
        case 'M':
            answer_make();
            break;
        case 'C':
            answer_check();
            break;
        case 'A':
            answer_apis();
            break;
        case 'E':
            answer_errors();
            break;
        case 'Q':
            return 0;
        default:
            stop("no such question");
        }
        fflush(stdout);
    }
}
