/*
 * msg: decode, encode, measure, print and find any message that the rows describe (schema.h).
 *
 * One interpreter walks the tables for every message and version; there is no code per message.
 * Bytes come from a reader over a span chain and go to a writer that collects small values into
 * pieces of an arena and takes RECORDS over as spans:
 *
 *      in    |header......top|ic, partition, |records.........|   spans of receive buffers
 *      out   |piece of the arena            ||records as given||piece ...   spans to send
 *
 * Memory: everything that a decode or encode needs comes from the caller's arena, and nothing is
 * reserved because a peer declared a length: a count is first held against the bytes that are left.
 * Decoded strings, bytes and records point into the reader's spans (a value that straddles two
 * spans is copied into the arena): they live as long as both. Threads: any, one per call; pure.
 */
#ifndef MILLRACE_KAFKA_MSG_H
#define MILLRACE_KAFKA_MSG_H

#include "millrace/base/arena.h"
#include "millrace/base/err.h"
#include "millrace/base/fmt.h"
#include "millrace/base/span.h"
#include "millrace/kafka/messages.h"

/* ---- reading -------------------------------------------------------------------------------- */

struct mr_reader {
    const uint8_t        *at;   /* next byte in the current span */
    const uint8_t        *end;  /* of the current span           */
    const struct mr_span *next; /* the spans after it            */
    uint32_t              next_count;
    uint32_t              left; /* bytes, in all spans           */
};

/* The chain's spans must stay until reading is done. */
void mr_reader_init(struct mr_reader *reader, const struct mr_chain *chain);

/* The same over one run of bytes. */
void mr_reader_init_bytes(struct mr_reader *reader, const void *data, uint32_t len);

static inline uint32_t mr_reader_left(const struct mr_reader *reader)
{
    return reader->left;
}

/* Single values, for what stands around messages (frames, prefixes). TRUNCATED at the end. */
enum mr_err mr_reader_int16(struct mr_reader *reader, int16_t *value);
enum mr_err mr_reader_int32(struct mr_reader *reader, int32_t *value);
enum mr_err mr_reader_uvarint(struct mr_reader *reader, uint32_t *value);
enum mr_err mr_reader_skip(struct mr_reader *reader, uint32_t len);

/* The next `len` bytes as a chain; the span list comes from `scratch`. */
enum mr_err mr_reader_chain(struct mr_reader *reader, uint32_t len, struct mr_arena *scratch,
                            struct mr_chain *chain);

/*
 * Read one message of `version` into `out`, a struct mr_<message>; every member is set, fields that
 * the version lacks to their defaults. Unknown tagged fields are skipped.
 *
 * The reader stands after the message afterwards; bytes that follow are the caller's business
 * (mr_reader_left). Errors: UNSUPPORTED_VERSION, TRUNCATED, MALFORMED, NO_MEMORY (scratch is too
 * small for this message); `out` and the reader are then undefined, scratch holds what was taken.
 */
enum mr_err mr_msg_decode(const struct mr_msg *msg, int16_t version, struct mr_reader *reader,
                          struct mr_arena *scratch, void *out);

/* ---- writing -------------------------------------------------------------------------------- */

struct mr_writer {
    struct mr_arena *scratch;
    struct mr_span  *spans; /* result                                                      */
    uint32_t         span_count;
    uint32_t         span_max;
    uint8_t         *at;    /* next free byte of the open piece, whose span is the last    */
    uint8_t         *end;   /* of the open piece; at == end when none is open              */
    uint64_t         bytes; /* written so far                                              */
    bool             is_open;
    bool             is_counting; /* only `bytes` moves                                    */
    uint8_t          sink[16];    /* where values go meanwhile                             */
};

/*
 * Everything written becomes at most `span_max` spans in `spans`, the caller's array; pieces come
 * from `scratch`, from which nobody else should take while the writer is open (pieces would be
 * split, nothing worse).
 */
void mr_writer_init(struct mr_writer *writer, struct mr_arena *scratch, struct mr_span *spans,
                    uint32_t span_max);

/* A writer that only counts: `bytes` is what would have been written. */
static inline struct mr_writer mr_writer_counter(void)
{
    return (struct mr_writer){.is_counting = true};
}

/* What was written, less than 2^32 bytes (asserted); gives the unused end of the last piece back to
 * scratch. The spans and pieces are as they were: the chain points to them. */
struct mr_chain mr_writer_finish(struct mr_writer *writer);

/* Room for `len` bytes in one piece, to be filled (or patched) by the caller; NULL when scratch or
 * spans are used up. */
uint8_t *mr_writer_reserve(struct mr_writer *writer, uint32_t len);

/* Append one value in wire form. Errors: MR_NO_MEMORY when scratch or spans are used up. */
enum mr_err mr_writer_int16(struct mr_writer *writer, int16_t value);
enum mr_err mr_writer_int32(struct mr_writer *writer, int32_t value);
enum mr_err mr_writer_uvarint(struct mr_writer *writer, uint32_t value);
enum mr_err mr_writer_bytes(struct mr_writer *writer, const void *data, uint32_t len); /* a copy */
enum mr_err mr_writer_chain(struct mr_writer *writer, const struct mr_chain *chain);  /* as spans */

/*
 * Write the struct mr_<message> `in` in `version`. RECORDS are not copied: their bytes must stay
 * until the spans have been used.
 *
 * Errors: UNSUPPORTED_VERSION; UNSUPPORTED_FIELD (a field without IGNORABLE has a value that the
 * version cannot carry, or a null where the version has none); INVALID (a string over 32767 bytes);
 * NO_MEMORY (scratch or span array used up). The writer is then undefined.
 */
enum mr_err mr_msg_encode(const struct mr_msg *msg, int16_t version, const void *in,
                          struct mr_writer *writer);

/* How many bytes mr_msg_encode would write, RECORDS included. Errors as there, but NO_MEMORY. */
enum mr_err mr_msg_size(const struct mr_msg *msg, int16_t version, const void *in, uint32_t *bytes);

/*
 * Parts of a message, for one that is made piece by piece: of a struct in it what stands before its
 * array `split`, the array's count, some of its items, and what stands behind it, tagged fields too.
 * In this order they are the bytes that mr_msg_encode would write. Errors as there.
 */
enum mr_err mr_msg_encode_before(const struct mr_msg *msg, int16_t version,
                                 const struct mr_struct *desc, const struct mr_field *split,
                                 const void *in, struct mr_writer *writer);
enum mr_err mr_msg_encode_after(const struct mr_msg *msg, int16_t version,
                                const struct mr_struct *desc, const struct mr_field *split,
                                const void *in, struct mr_writer *writer);
enum mr_err mr_msg_encode_count(const struct mr_msg *msg, int16_t version,
                                const struct mr_field *array, int32_t count,
                                struct mr_writer *writer);
enum mr_err mr_msg_encode_items(const struct mr_msg *msg, int16_t version,
                                const struct mr_field *array, const void *items, int32_t count,
                                struct mr_writer *writer);

/* ---- printing ------------------------------------------------------------------------------- */

/*
 * Append the message as one line of JSON, as Kafka's JsonConverter classes do: camelCase names,
 * only the fields of `version`, tagged ones only when they differ from their default, ids as 22
 * characters, BYTES in base64, RECORDS as their size. Text that does not fit is cut (is_cut).
 *
 * Errors: UNSUPPORTED_VERSION, UNSUPPORTED_FIELD, as mr_msg_encode; the text is then unfinished.
 */
enum mr_err mr_msg_print(const struct mr_msg *msg, int16_t version, const void *in,
                         struct mr_text *text);

/* Bytes from one item of an array to the next, in memory. */
uint32_t mr_fields_item_size(const struct mr_field *array);

/* ---- defaults, finding ---------------------------------------------------------------------- */

/* Set every member to Kafka's default (empty arrays, "", 0 or as the row says). */
void mr_struct_defaults(const struct mr_struct *desc, void *out);

static inline void mr_msg_defaults(const struct mr_msg *msg, void *out)
{
    mr_struct_defaults(msg->root, out);
}

/* MR_DEFAULTS(produce_response, &response): typed, for messages and the structs in them. */
#define MR_DEFAULTS(name_, out_)                                                                   \
    do {                                                                                           \
        struct mr_##name_ *mr_defaults_out_ = (out_);                                              \
        mr_struct_defaults(&mr_struct_##name_, mr_defaults_out_);                                  \
    } while (0)

static inline bool mr_msg_has_version(const struct mr_msg *msg, int16_t version)
{
    return msg->version_min <= version && version <= msg->version_max;
}

static inline bool mr_msg_is_flexible(const struct mr_msg *msg, int16_t version)
{
    return version >= msg->flexible_since;
}

/* Every message of the rows, in the order of schema/all.def. */
extern const struct mr_msg *const mr_msg_all[];
extern const uint32_t             mr_msg_count;

/* NULL when the rows have none. `key` is an API key, a metadata record id or a record type. */
const struct mr_msg *mr_msg_find(enum mr_msg_sort sort, int16_t key);
const struct mr_msg *mr_msg_find_name(struct mr_str name);

#endif
