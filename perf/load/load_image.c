#include "load_image.h"

#include "load_compress.h"

#include "millrace/base/bytes.h"
#include "millrace/base/prng.h"
#include "millrace/batch.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"

#include <stdio.h>
#include <stdlib.h>

#define FILLER_BYTES  (1u << 20) /* in which the values of consecutive records lie one behind the other */
#define CRC_FROM      21u
#define CRC_AT        17u
#define PRODUCER_AT   43u
#define EPOCH_AT      51u
#define SEQUENCE_AT   53u
#define HEAD_BYTES    4096u /* header, topic and tags of a request, more than they ever need */
#define PLACE_BYTES   32u   /* around each batch */

static uint8_t *filler;

/* Words of a small vocabulary: compresses about as records of real life do, two to four to one. */
bool mr_load_image_prepare(const struct mr_load_options *options)
{
    char           words[512][8];
    struct mr_prng prng = {.state = options->seed};
    size_t         len = options->record_bytes + FILLER_BYTES;
    free(filler);
    filler = malloc(len);
    if (filler == NULL) {
        return false;
    }
    for (uint32_t word = 0; word < 512; word++) {
        for (uint32_t at = 0; at < 7; at++) {
            words[word][at] = (char)('a' + mr_prng_below(&prng, 26));
        }
        words[word][7] = ' ';
    }
    for (size_t at = 0; at < len; at += 8) {
        memcpy(filler + at, words[mr_prng_below(&prng, 512)], len - at < 8 ? len - at : 8);
    }
    return true;
}

struct mr_blob mr_load_image_filler(const struct mr_load_options *options, uint32_t index)
{
    return (struct mr_blob){.data = filler + (uint64_t)index * options->record_bytes % FILLER_BYTES,
                            .len = (int32_t)options->record_bytes};
}

void mr_load_image_key(const struct mr_load_options *options, uint32_t index, uint8_t *key)
{
    uint64_t number = index % options->keys;
    for (uint64_t at = options->key_bytes; at > 0; at--) {
        key[at - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

/* ---- one batch ---- */

static bool is_stamped(const struct mr_load_options *options)
{
    return options->e2e || options->verify;
}

/* Returns the bytes used, 0 when they do not suffice. */
static uint32_t build_batch(struct mr_load_image *image, uint8_t *bytes, uint32_t size, int64_t now_unix_ms)
{
    const struct mr_load_options *options = image->options;
    struct mr_batch_builder       builder;
    uint8_t                      *key = malloc(options->key_bytes + 1);
    struct mr_blob                key_blob = MR_BLOB_NULL;
    mr_batch_begin(&builder, bytes, size, 0, 0);
    for (uint32_t index = 0; index < options->records && key != NULL; index++) {
        if (options->key_bytes > 0) {
            mr_load_image_key(options, index, key);
            key_blob = (struct mr_blob){.data = key, .len = (int32_t)options->key_bytes};
        }
        if (!mr_batch_add(&builder, now_unix_ms, key_blob, mr_load_image_filler(options, index))) {
            free(key);
            return 0;
        }
        image->values_at[index] = builder.used - 1 - (uint32_t)options->record_bytes; /* 1: no headers */
    }
    free(key);
    builder.batch.producer_id = image->producer_id;
    builder.batch.producer_epoch = image->producer_epoch;
    builder.batch.attributes = options->transactional ? MR_BATCH_TRANSACTIONAL : 0;
    builder.batch.base_sequence = image->producer_id < 0 ? -1 : 0;
    return builder.batch.record_count == 0 ? 0 : mr_batch_end(&builder);
}

static void set_crc(uint8_t *batch, uint32_t len)
{
    mr_store_be32(batch + CRC_AT, mr_crc32c(0, batch + CRC_FROM, len - CRC_FROM));
}

/* The records of `plain` compressed behind its header; returns the new size, 0: failed. */
static uint32_t compress_batch(const struct mr_load_image *image, uint8_t *batch, uint32_t room)
{
    uint32_t len = mr_load_compress(image->options->compression, image->plain + MR_BATCH_HEADER,
                                    image->plain_bytes - MR_BATCH_HEADER, batch + MR_BATCH_HEADER,
                                    room - MR_BATCH_HEADER);
    if (len == 0) {
        return 0;
    }
    struct mr_batch header;
    mr_batch_header_load(image->plain, &header);
    header.batch_length = (int32_t)(MR_BATCH_HEADER + len - MR_BATCH_LENGTH_BIAS);
    header.attributes = (int16_t)(header.attributes | image->options->compression);
    mr_batch_header_store(&header, batch);
    set_crc(batch, MR_BATCH_HEADER + len);
    return MR_BATCH_HEADER + len;
}

static void stamp_batch(struct mr_load_image *image, uint8_t *batch, uint64_t number, int64_t stamp_unix_ns)
{
    for (uint32_t index = 0; index < image->options->records; index++) {
        uint8_t *value = batch + image->values_at[index];
        mr_store_be64(value, (uint64_t)stamp_unix_ns);
        mr_store_be64(value + 8, number + index);
        mr_store_be32(value + 16, image->producer);
        mr_store_be32(value + 20, index);
    }
}

/* ---- the request ---- */

static uint32_t uvarint_bytes(uint32_t value)
{
    uint32_t bytes = 1;
    for (; value >= 0x80; value >>= 7) {
        bytes++;
    }
    return bytes;
}

/* Encode the request around batches of `batch_bytes` bytes each and find the places in it. */
static enum mr_err encode(struct mr_load_image *image, const struct mr_load_image_params *params,
                          const uint8_t *batch, uint32_t batch_bytes, void *scratch, size_t scratch_size)
{
    uint32_t                                         count = image->place_count;
    struct mr_arena                                  arena;
    struct mr_writer                                 writer;
    struct mr_produce_request                        request;
    struct mr_produce_request_topic_produce_data     topic;
    struct mr_span                                   span = {.data = batch, .len = batch_bytes};
    mr_arena_init(&arena, scratch, scratch_size);
    struct mr_span *spans = MR_ARENA_GET(&arena, struct mr_span, count * 2 + 16);
    struct mr_produce_request_partition_produce_data *places =
        MR_ARENA_GET(&arena, struct mr_produce_request_partition_produce_data, count);
    MR_DEFAULTS(produce_request, &request);
    MR_DEFAULTS(produce_request_topic_produce_data, &topic);
    for (uint32_t index = 0; index < count; index++) {
        MR_DEFAULTS(produce_request_partition_produce_data, &places[index]);
        places[index].records = (struct mr_chain){.spans = &span, .span_count = 1, .bytes = batch_bytes};
    }
    topic.name = params->topic;
    topic.partition_data = places;
    topic.partition_data_count = (int32_t)count;
    request.transactional_id = params->transactional_id;
    request.acks = image->options->acks == MR_LOAD_ACKS_ALL ? -1 : (int16_t)image->options->acks;
    request.timeout_ms = 30000;
    request.topic_data = &topic;
    request.topic_data_count = 1;

    mr_writer_init(&writer, &arena, spans, count * 2 + 16);
    uint8_t    *prefix = mr_frame_begin(&writer);
    enum mr_err err = mr_header_encode_request(&writer, mr_api_find_row(MR_API_PRODUCE), image->version, 0,
                                               MR_STR("millrace-load"));
    err = err != MR_OK ? err : mr_msg_encode(&mr_msg_produce_request, image->version, &request, &writer);
    err = err != MR_OK ? err : mr_frame_end(&writer, prefix);
    if (err != MR_OK) {
        return err;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    uint32_t        place = 0;
    uint32_t        at = 0;
    for (uint32_t index = 0; index < chain.span_count; index++) {
        if (chain.spans[index].data == batch) {
            uint32_t before = image->version >= 9 ? uvarint_bytes(batch_bytes + 1) : 4;
            image->places[place++] =
                (struct mr_load_place){.batch_at = at, .batch_bytes = batch_bytes, .index_at = at - before - 4};
        }
        memcpy(image->bytes + at, chain.spans[index].data, chain.spans[index].len);
        at += chain.spans[index].len;
    }
    mr_assert(place == count);
    image->len = at;
    image->correlation_at = MR_FRAME_PREFIX + 4;
    return MR_OK;
}

bool mr_load_image_init(struct mr_load_image *image, const struct mr_load_image_params *params, enum mr_err *err)
{
    const struct mr_load_options *options = params->options;
    uint64_t record_room = options->record_bytes + options->key_bytes + 32;
    uint64_t room = MR_BATCH_HEADER + options->records * record_room + 1024;
    *image = (struct mr_load_image){.options = options,
                                    .producer = params->producer,
                                    .producer_id = params->producer_id,
                                    .producer_epoch = params->producer_epoch,
                                    .version = params->version,
                                    .place_count = (uint32_t)options->batches,
                                    .batch_room = (uint32_t)(room + room / 4 + 1024)};
    uint64_t count = image->place_count;
    size_t   scratch_size = HEAD_BYTES + count * 256;
    image->places = calloc(count, sizeof *image->places);
    image->values_at = calloc(options->records, sizeof *image->values_at);
    image->plain = malloc(room);
    image->bytes = malloc(HEAD_BYTES + count * (PLACE_BYTES + image->batch_room));
    uint8_t *packed = malloc(image->batch_room);
    void    *scratch = malloc(scratch_size);
    *err = MR_ERR_NO_MEMORY;
    if (image->places != NULL && image->values_at != NULL && image->plain != NULL && image->bytes != NULL &&
        packed != NULL && scratch != NULL) {
        image->plain_bytes = build_batch(image, image->plain, (uint32_t)room, params->now_unix_ms);
        uint32_t packed_bytes =
            options->compression == 0 ? image->plain_bytes : compress_batch(image, packed, image->batch_room);
        if (image->plain_bytes > 0 && packed_bytes > 0) {
            const uint8_t *batch = options->compression == 0 ? image->plain : packed;
            *err = encode(image, params, batch, packed_bytes, scratch, scratch_size);
        }
    }
    free(packed);
    free(scratch);
    if (*err != MR_OK) {
        mr_load_image_deinit(image);
    }
    return *err == MR_OK;
}

void mr_load_image_deinit(struct mr_load_image *image)
{
    free(image->places);
    free(image->values_at);
    free(image->plain);
    free(image->bytes);
    *image = (struct mr_load_image){0};
}

/* Put a batch of another size into its place; what follows moves. */
static bool replace_batch(struct mr_load_image *image, uint32_t place, const uint8_t *batch, uint32_t len)
{
    struct mr_load_place *p = &image->places[place];
    uint32_t              flexible = image->version >= 9;
    uint32_t              old_prefix = flexible ? uvarint_bytes(p->batch_bytes + 1) : 4;
    uint32_t              new_prefix = flexible ? uvarint_bytes(len + 1) : 4;
    int64_t               grown = (int64_t)len + new_prefix - p->batch_bytes - old_prefix;
    uint32_t              tail_at = p->batch_at + p->batch_bytes;
    memmove(image->bytes + tail_at + grown, image->bytes + tail_at, image->len - tail_at);
    uint8_t *prefix = image->bytes + p->index_at + 4;
    if (flexible) {
        for (uint32_t value = len + 1; value >= 0x80; value >>= 7) {
            *prefix++ = (uint8_t)(value | 0x80);
        }
        *prefix++ = (uint8_t)((len + 1) >> (7 * (new_prefix - 1)));
    } else {
        mr_store_be32(prefix, len);
        prefix += 4;
    }
    memcpy(prefix, batch, len);
    p->batch_at = p->index_at + 4 + new_prefix;
    p->batch_bytes = len;
    for (uint32_t next = place + 1; next < image->place_count; next++) {
        image->places[next].batch_at = (uint32_t)(image->places[next].batch_at + grown);
        image->places[next].index_at = (uint32_t)(image->places[next].index_at + grown);
    }
    image->len = (uint32_t)(image->len + grown);
    mr_store_be32(image->bytes, image->len - MR_FRAME_PREFIX);
    return true;
}

/* Stamps lie inside what is compressed: such a batch is made again for every send. */
static bool fill_compressed(struct mr_load_image *image, uint32_t place, const struct mr_load_stream *stream,
                            int64_t stamp_unix_ns)
{
    uint8_t *packed = malloc(image->batch_room);
    stamp_batch(image, image->plain, stream->number, stamp_unix_ns);
    uint32_t len = packed == NULL ? 0 : compress_batch(image, packed, image->batch_room);
    bool     is_done = len > 0 && replace_batch(image, place, packed, len);
    free(packed);
    return is_done;
}

bool mr_load_image_fill(struct mr_load_image *image, int32_t correlation, struct mr_load_stream *const *streams,
                        int64_t stamp_unix_ns)
{
    const struct mr_load_options *options = image->options;
    mr_store_be32(image->bytes + image->correlation_at, (uint32_t)correlation);
    for (uint32_t place = 0; place < image->place_count; place++) {
        struct mr_load_place  *p = &image->places[place];
        struct mr_load_stream *stream = streams[place];
        if (is_stamped(options) && options->compression != 0 &&
            !fill_compressed(image, place, stream, stamp_unix_ns)) {
            return false;
        }
        uint8_t *batch = image->bytes + p->batch_at;
        mr_store_be32(image->bytes + p->index_at, (uint32_t)stream->partition);
        if (is_stamped(options) && options->compression == 0) {
            stamp_batch(image, batch, stream->number, stamp_unix_ns);
        }
        if (image->producer_id >= 0) {
            mr_store_be64(batch + PRODUCER_AT, (uint64_t)image->producer_id);
            mr_store_be16(batch + EPOCH_AT, (uint16_t)image->producer_epoch);
            mr_store_be32(batch + SEQUENCE_AT, options->transactional ? 0 : (uint32_t)stream->sequence);
        }
        if (image->producer_id >= 0 || (is_stamped(options) && options->compression == 0)) {
            set_crc(batch, p->batch_bytes);
        }
        /* Sequences go from 2^31 - 1 on to 0. */
        stream->sequence = (int32_t)(((uint32_t)stream->sequence + (uint32_t)options->records) & INT32_MAX);
        stream->number += options->records;
    }
    return true;
}
