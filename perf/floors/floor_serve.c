/*
 * floor_serve: a broker that does nothing but speak.
 *
 *   dropping   Produce is answered at once
 *   durable    what one turn received is one O_DIRECT write and one flush; what arrives meanwhile is the
 *              next; then everything in the round is answered. Nothing can be durable with fewer steps.
 *              With flush=0 the write alone: the floor of what is answered before it is flushed
 *
 * Fetch gets the same batch again and again, at the offset that was asked for. Every topic exists.
 */
#include "floors.h"
#include "load_link.h"

#include "millrace/base/arena.h"
#include "millrace/base/bytes.h"
#include "millrace/base/time.h"
#include "millrace/batch.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/msg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_BYTES      (2u << 20)
#define FRAME_MAX     (128u << 20)
#define HALF_BYTES    (1u << 20) /* of answers of one connection: two halves in turn */
#define PIECES        4096u
#define SCRATCH_BYTES (32u << 20)
#define ROUND_BYTES   (64u << 20)
#define FILE_BYTES    (256u << 20)
#define ALIGN         4096u
#define SPANS_MAX     512u

struct served {
    struct mr_load_link link;
    struct served      *next_free;
    uint8_t            *out;
    uint32_t            half;      /* of `out` that is being filled       */
    uint32_t            half_used;
    uint64_t            pieces;    /* of answers, ever                    */
    uint64_t            left_at[2]; /* `pieces` when the half was left     */
    uint32_t            unsent;    /* pieces in a round of writing        */
};

struct answer {
    struct served *to;
    uint8_t       *data;
    uint32_t       len;
};

/* What is written together. */
struct round {
    uint8_t       *bytes;
    uint32_t       used;
    struct answer *answers;
    uint32_t       answer_count;
    uint32_t       answer_max;
};

struct server {
    const struct mr_floors_options *options;
    struct mr_load_loop             loop;
    struct mr_load_op               accept_op;
    struct mr_load_op               write_op;
    int                             listener;
    uint32_t                        port;
    int                             file;
    off_t                           file_at;
    struct round                    rounds[2];
    uint32_t                        filling;
    bool                            is_writing;
    int64_t                         offset;
    uint8_t                        *batch; /* of every fetch */
    uint32_t                        batch_bytes;
    int32_t                         batch_records;
    void                           *scratch;
    struct served                  *free_list;
    uint64_t                        requests;
    uint64_t                        writes;
};

static struct server          server;
static volatile sig_atomic_t is_ended;

/* ---- answers ---- */

/* The answers of one connection are laid end to end in one half, then in the other, once all that lay there
 * is sent: pieces leave in the order in which they came. */
static uint8_t *out_room(struct served *to, uint32_t len)
{
    if (len > HALF_BYTES - to->half_used) {
        uint64_t sent = to->pieces - to->unsent - to->link.out_count;
        uint32_t other = to->half ^ 1;
        if (len > HALF_BYTES || sent < to->left_at[other]) {
            return NULL;
        }
        to->left_at[to->half] = to->pieces;
        to->half = other;
        to->half_used = 0;
    }
    to->half_used += len;
    return to->out + to->half * HALF_BYTES + to->half_used - len;
}

/* A whole answer, or its pieces where records stay in place. */
static void encode_answer(struct served *to, const struct mr_header *header, const void *body, bool is_delayed)
{
    static struct mr_span spans[SPANS_MAX];
    struct mr_arena       arena;
    struct mr_writer      writer;
    uint8_t              *half = (uint8_t *)server.scratch + SCRATCH_BYTES / 2; /* the request is in the other */
    mr_arena_init(&arena, half, SCRATCH_BYTES / 2);
    mr_writer_init(&writer, &arena, spans, SPANS_MAX);
    uint8_t    *prefix = mr_frame_begin(&writer);
    enum mr_err err = mr_header_encode_response(&writer, header->api, header->version, header->correlation_id);
    err = err != MR_OK ? err : mr_msg_encode(header->api->response, header->version, body, &writer);
    err = err != MR_OK ? err : mr_frame_end(&writer, prefix);
    if (err != MR_OK) {
        fprintf(stderr, "millrace-floors: %s: %s\n", header->api->name, mr_err_text(err));
        mr_load_link_close(&to->link);
        return;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    for (uint32_t at = 0; at < chain.span_count; at++) {
        const struct mr_span *span = &chain.spans[at];
        bool is_shared = span->data >= server.batch && span->data < server.batch + server.batch_bytes;
        uint8_t *copy = is_shared ? NULL : out_room(to, span->len);
        if (!is_shared && copy == NULL) {
            mr_load_link_close(&to->link); /* a client that does not read its answers */
            return;
        }
        if (copy != NULL) {
            memcpy(copy, span->data, span->len);
        }
        to->pieces++;
        if (is_delayed) {
            struct round *round = &server.rounds[server.filling];
            round->answers[round->answer_count++] = (struct answer){.to = to, .data = copy, .len = span->len};
            to->unsent++;
        } else if (!mr_load_link_send(&to->link, is_shared ? span->data : copy, span->len)) {
            mr_load_link_close(&to->link);
            return;
        }
    }
    mr_load_link_flush(&to->link);
}

static void answer_versions(struct served *to, const struct mr_header *header)
{
    static const int16_t                     keys[][2] = {{MR_API_PRODUCE, 12}, {MR_API_FETCH, 12}, {MR_API_LIST_OFFSETS, 7},
                                                          {MR_API_METADATA, 12}, {MR_API_API_VERSIONS, 0},
                                                          {MR_API_CREATE_TOPICS, 7}, {MR_API_INIT_PRODUCER_ID, 4},
                                                          {MR_API_CREATE_PARTITIONS, 3}};
    enum { KEY_COUNT = sizeof keys / sizeof *keys };
    struct mr_api_versions_response             response;
    struct mr_api_versions_response_api_version versions[KEY_COUNT];
    MR_DEFAULTS(api_versions_response, &response);
    for (size_t at = 0; at < KEY_COUNT; at++) {
        MR_DEFAULTS(api_versions_response_api_version, &versions[at]);
        versions[at].api_key = keys[at][0];
        versions[at].min_version = mr_api_find_row(keys[at][0])->version_min;
        versions[at].max_version = keys[at][1];
    }
    response.api_keys = versions;
    response.api_keys_count = KEY_COUNT;
    encode_answer(to, header, &response, false);
}

static void answer_metadata(struct served *to, const struct mr_header *header, const struct mr_metadata_request *request,
                            struct mr_arena *arena)
{
    struct mr_metadata_response        response;
    struct mr_metadata_response_broker broker;
    struct mr_metadata_response_topic  topic;
    int32_t                            count = (int32_t)server.options->partitions;
    struct mr_metadata_response_partition *partitions = MR_ARENA_GET(arena, struct mr_metadata_response_partition, count);
    MR_DEFAULTS(metadata_response, &response);
    MR_DEFAULTS(metadata_response_broker, &broker);
    MR_DEFAULTS(metadata_response_topic, &topic);
    for (int32_t at = 0; at < count; at++) {
        MR_DEFAULTS(metadata_response_partition, &partitions[at]);
        partitions[at].partition_index = at;
        partitions[at].leader_id = 1;
    }
    broker.node_id = 1;
    broker.host = MR_STR("127.0.0.1");
    broker.port = (int32_t)server.port;
    topic.partitions = partitions;
    topic.partitions_count = count;
    response.brokers = &broker;
    response.brokers_count = 1;
    if (request->topics_count == 1) {
        topic.name = request->topics[0].name;
        response.topics = &topic;
        response.topics_count = 1;
    }
    encode_answer(to, header, &response, false);
}

static void answer_create(struct served *to, const struct mr_header *header, const struct mr_create_topics_request *request)
{
    struct mr_create_topics_response                        response;
    struct mr_create_topics_response_creatable_topic_result result;
    MR_DEFAULTS(create_topics_response, &response);
    MR_DEFAULTS(create_topics_response_creatable_topic_result, &result);
    if (request->topics_count == 1) {
        result.name = request->topics[0].name;
        response.topics = &result;
        response.topics_count = 1;
    }
    encode_answer(to, header, &response, false);
}

/* Whatever is asked for is there already. */
static void answer_grow(struct served *to, const struct mr_header *header, const struct mr_create_partitions_request *request)
{
    struct mr_create_partitions_response                                 response;
    struct mr_create_partitions_response_create_partitions_topic_result result;
    MR_DEFAULTS(create_partitions_response, &response);
    MR_DEFAULTS(create_partitions_response_create_partitions_topic_result, &result);
    if (request->topics_count == 1) {
        result.name = request->topics[0].name;
        response.results = &result;
        response.results_count = 1;
    }
    encode_answer(to, header, &response, false);
}

static void answer_offsets(struct served *to, const struct mr_header *header, const struct mr_list_offsets_request *request,
                           struct mr_arena *arena)
{
    struct mr_list_offsets_response                            response;
    struct mr_list_offsets_response_list_offsets_topic_response topic;
    int32_t count = request->topics_count == 1 ? request->topics[0].partitions_count : 0;
    struct mr_list_offsets_response_list_offsets_partition_response *partitions =
        MR_ARENA_GET(arena, struct mr_list_offsets_response_list_offsets_partition_response, count + 1);
    MR_DEFAULTS(list_offsets_response, &response);
    MR_DEFAULTS(list_offsets_response_list_offsets_topic_response, &topic);
    for (int32_t at = 0; at < count; at++) {
        MR_DEFAULTS(list_offsets_response_list_offsets_partition_response, &partitions[at]);
        partitions[at].partition_index = request->topics[0].partitions[at].partition_index;
        partitions[at].offset = 0;
    }
    topic.name = count > 0 ? request->topics[0].name : MR_STR("");
    topic.partitions = partitions;
    topic.partitions_count = count;
    response.topics = &topic;
    response.topics_count = 1;
    encode_answer(to, header, &response, false);
}

static void answer_produce(struct served *to, const struct mr_header *header, const struct mr_produce_request *request,
                           struct mr_arena *arena)
{
    struct mr_produce_response                response;
    struct mr_produce_response_topic_produce_response topic;
    int32_t count = request->topic_data_count == 1 ? request->topic_data[0].partition_data_count : 0;
    struct mr_produce_response_partition_produce_response *partitions =
        MR_ARENA_GET(arena, struct mr_produce_response_partition_produce_response, count + 1);
    MR_DEFAULTS(produce_response, &response);
    MR_DEFAULTS(produce_response_topic_produce_response, &topic);
    for (int32_t at = 0; at < count; at++) {
        MR_DEFAULTS(produce_response_partition_produce_response, &partitions[at]);
        partitions[at].index = request->topic_data[0].partition_data[at].index;
        partitions[at].base_offset = server.offset++;
    }
    topic.name = count > 0 ? request->topic_data[0].name : MR_STR("");
    topic.partition_responses = partitions;
    topic.partition_responses_count = count;
    response.responses = &topic;
    response.responses_count = 1;
    if (request->acks != 0) {
        encode_answer(to, header, &response, server.file >= 0);
    }
}

/* The batch's head with the offset asked for, and the rest of it in place. */
static void answer_fetch(struct served *to, const struct mr_header *header, const struct mr_fetch_request *request,
                         struct mr_arena *arena)
{
    struct mr_fetch_response                         response;
    struct mr_fetch_response_fetchable_topic_response topic;
    int32_t count = request->topics_count == 1 ? request->topics[0].partitions_count : 0;
    count = count < 64 ? count : 64;
    struct mr_fetch_response_partition_data *partitions = MR_ARENA_GET(arena, struct mr_fetch_response_partition_data, count + 1);
    struct mr_span *spans = MR_ARENA_GET(arena, struct mr_span, count * 2 + 2);
    MR_DEFAULTS(fetch_response, &response);
    MR_DEFAULTS(fetch_response_fetchable_topic_response, &topic);
    for (int32_t at = 0; at < count; at++) {
        const struct mr_fetch_request_fetch_partition *wanted = &request->topics[0].partitions[at];
        uint8_t *head = MR_ARENA_GET(arena, uint8_t, MR_BATCH_HEADER);
        memcpy(head, server.batch, MR_BATCH_HEADER);
        mr_store_be64(head, (uint64_t)wanted->fetch_offset);
        spans[at * 2] = (struct mr_span){.data = head, .len = MR_BATCH_HEADER};
        spans[at * 2 + 1] = (struct mr_span){.data = server.batch + MR_BATCH_HEADER, .len = server.batch_bytes - MR_BATCH_HEADER};
        MR_DEFAULTS(fetch_response_partition_data, &partitions[at]);
        partitions[at].partition_index = wanted->partition;
        partitions[at].high_watermark = wanted->fetch_offset + server.batch_records;
        partitions[at].last_stable_offset = partitions[at].high_watermark;
        partitions[at].records = (struct mr_chain){.spans = &spans[at * 2], .span_count = 2, .bytes = server.batch_bytes};
    }
    topic.topic = count > 0 ? request->topics[0].topic : MR_STR("");
    topic.partitions = partitions;
    topic.partitions_count = count;
    response.responses = &topic;
    response.responses_count = count > 0 ? 1 : 0;
    encode_answer(to, header, &response, false);
}

/* ---- rounds of writing ---- */

static void start_write(void)
{
    struct round *round = &server.rounds[server.filling];
    if (server.is_writing || round->answer_count == 0) {
        return;
    }
    uint32_t len = (round->used + ALIGN - 1) & ~(ALIGN - 1);
    if (server.file_at + (off_t)len > (off_t)FILE_BYTES) {
        server.file_at = 0;
    }
    struct io_uring_sqe *sqe = mr_load_loop_sqe(&server.loop);
    io_uring_prep_write(sqe, server.file, round->bytes, len, (uint64_t)server.file_at);
    io_uring_sqe_set_data(sqe, &server.write_op);
    if (server.options->flush != 0) {
        sqe->flags |= IOSQE_IO_LINK;
        io_uring_sqe_set_data(sqe, NULL); /* its failure cancels the flush */
        sqe = mr_load_loop_sqe(&server.loop);
        io_uring_prep_fsync(sqe, server.file, IORING_FSYNC_DATASYNC);
        io_uring_sqe_set_data(sqe, &server.write_op);
    }
    server.file_at += len;
    server.is_writing = true;
    server.writes++;
    server.filling ^= 1;
}

static void on_written(struct mr_load_op *op, int result)
{
    struct round *round = &server.rounds[server.filling ^ 1];
    (void)op;
    if (result < 0) {
        fprintf(stderr, "millrace-floors: write: %s\n", strerror(-result));
        is_ended = 1;
        return;
    }
    for (uint32_t at = 0; at < round->answer_count; at++) {
        struct answer *answer = &round->answers[at];
        answer->to->unsent--;
        if (!answer->to->link.is_closing) {
            (void)mr_load_link_send(&answer->to->link, answer->data, answer->len);
            mr_load_link_flush(&answer->to->link);
        }
    }
    round->answer_count = 0;
    round->used = 0;
    server.is_writing = false;
}

/* The request's bytes join the round; false: there is no room for it. */
static bool join_round(const uint8_t *body, uint32_t len)
{
    struct round *round = &server.rounds[server.filling];
    if (len > ROUND_BYTES - round->used || round->answer_count + SPANS_MAX > round->answer_max) {
        return false;
    }
    memcpy(round->bytes + round->used, body, len);
    round->used += len;
    return true;
}

/* ---- connections ---- */

static void on_frame(struct mr_load_link *link, const uint8_t *body, uint32_t len)
{
    struct served   *to = link->user;
    struct mr_arena  arena;
    struct mr_reader reader;
    struct mr_header header;
    union {
        struct mr_produce_request       produce;
        struct mr_fetch_request         fetch;
        struct mr_metadata_request      metadata;
        struct mr_list_offsets_request  offsets;
        struct mr_create_topics_request create;
        struct mr_create_partitions_request grow;
    } request;
    mr_arena_init(&arena, server.scratch, SCRATCH_BYTES / 2);
    mr_reader_init_bytes(&reader, body, len);
    server.requests++;
    if (mr_header_decode(&reader, &arena, &header) != MR_OK ||
        (header.key != MR_API_API_VERSIONS && header.key != MR_API_INIT_PRODUCER_ID &&
         mr_msg_decode(header.api->request, header.version, &reader, &arena, &request) != MR_OK)) {
        mr_load_link_close(link);
        return;
    }
    switch (header.key) {
    case MR_API_PRODUCE:
        if (server.file >= 0 && !join_round(body, len)) {
            fprintf(stderr, "millrace-floors: more than a round can hold: use fewer bytes in flight\n");
            mr_load_link_close(link);
            return;
        }
        answer_produce(to, &header, &request.produce, &arena);
        break;
    case MR_API_FETCH:
        answer_fetch(to, &header, &request.fetch, &arena);
        break;
    case MR_API_METADATA:
        answer_metadata(to, &header, &request.metadata, &arena);
        break;
    case MR_API_LIST_OFFSETS:
        answer_offsets(to, &header, &request.offsets, &arena);
        break;
    case MR_API_CREATE_TOPICS:
        answer_create(to, &header, &request.create);
        break;
    case MR_API_CREATE_PARTITIONS:
        answer_grow(to, &header, &request.grow);
        break;
    case MR_API_API_VERSIONS:
        answer_versions(to, &header);
        break;
    case MR_API_INIT_PRODUCER_ID: {
        struct mr_init_producer_id_response response;
        MR_DEFAULTS(init_producer_id_response, &response);
        response.producer_id = server.offset++;
        encode_answer(to, &header, &response, false);
        break;
    }
    default:
        mr_load_link_close(link);
        break;
    }
}

static void on_closed(struct mr_load_link *link, int err)
{
    struct served *to = link->user;
    (void)err;
    to->next_free = server.free_list; /* its memory may be in use by the caller: freed at the end */
    server.free_list = to;
}

static const struct mr_load_link_calls calls = {.frame = on_frame, .closed = on_closed};

static void accept_next(void);

static void on_accept(struct mr_load_op *op, int result)
{
    int            one = 1;
    struct served *to = calloc(1, sizeof *to);
    (void)op;
    if (result >= 0 && to != NULL && (to->out = malloc(2 * HALF_BYTES)) != NULL) {
        (void)setsockopt(result, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        (void)mr_load_link_open(&to->link, &server.loop, result, IN_BYTES, FRAME_MAX, PIECES, &calls, to);
    }
    accept_next();
}

static void accept_next(void)
{
    struct io_uring_sqe *sqe = mr_load_loop_sqe(&server.loop);
    io_uring_prep_accept(sqe, server.listener, NULL, NULL, 0);
    io_uring_sqe_set_data(sqe, &server.accept_op);
}

/* ---- the program ---- */

static bool open_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)server.options->port)};
    socklen_t          len = sizeof address;
    server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server.listener < 0 || bind(server.listener, (struct sockaddr *)&address, len) != 0 ||
        listen(server.listener, 4096) != 0 || getsockname(server.listener, (struct sockaddr *)&address, &len) != 0) {
        return false;
    }
    server.port = ntohs(address.sin_port);
    return true;
}

static bool open_file(void)
{
    server.file = -1;
    if (server.options->durable == NULL) {
        return true;
    }
    server.file = open(server.options->durable, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    for (int at = 0; at < 2; at++) {
        server.rounds[at].bytes = aligned_alloc(ALIGN, ROUND_BYTES);
        server.rounds[at].answer_max = 1 << 17;
        server.rounds[at].answers = calloc(server.rounds[at].answer_max, sizeof *server.rounds[at].answers);
        if (server.rounds[at].bytes == NULL || server.rounds[at].answers == NULL) {
            return false;
        }
        memset(server.rounds[at].bytes, 0, ROUND_BYTES);
    }
    bool is_done = server.file >= 0;
    for (off_t at = 0; is_done && at < (off_t)FILE_BYTES; at += 1 << 20) {
        is_done = pwrite(server.file, server.rounds[0].bytes, 1 << 20, at) == 1 << 20;
    }
    return is_done && fsync(server.file) == 0;
}

static bool make_batch(void)
{
    struct mr_batch_builder builder;
    uint8_t                 value[1024] = {0};
    server.batch = malloc(server.options->fetch_bytes + 4096);
    if (server.batch == NULL) {
        return false;
    }
    mr_batch_begin(&builder, server.batch, server.options->fetch_bytes + 4096, 0, 0);
    do {
        (void)mr_batch_add(&builder, 0, MR_BLOB_NULL, (struct mr_blob){.data = value, .len = sizeof value});
    } while (builder.used < server.options->fetch_bytes && !builder.is_full);
    server.batch_records = builder.batch.record_count;
    server.batch_bytes = mr_batch_end(&builder);
    return true;
}

static void on_signal(int number)
{
    (void)number;
    is_ended = 1;
}

int mr_floors_serve(const struct mr_floors_options *options)
{
    server.options = options;
    server.accept_op = (struct mr_load_op){.kind = MR_LOAD_OP_OTHER, .done = on_accept};
    server.write_op = (struct mr_load_op){.kind = MR_LOAD_OP_OTHER, .done = on_written};
    server.scratch = malloc(SCRATCH_BYTES);
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGINT, on_signal);
    if (server.scratch == NULL || !make_batch() || !open_file() || !open_listener() ||
        !mr_load_loop_init(&server.loop, 4096)) {
        fprintf(stderr, "millrace-floors: serve: %s\n", strerror(errno));
        return 1;
    }
    printf("listening on 127.0.0.1:%u\n", server.port);
    fflush(stdout);
    accept_next();
    while (!is_ended) {
        if (server.file >= 0) {
            start_write();
        }
        mr_load_loop_turn(&server.loop, server.loop.now_ns + MR_NS_PER_S);
    }
    printf("{\"requests\": %lu, \"writes\": %lu, \"enters\": %lu}\n", server.requests, server.writes, server.loop.enters);
    return 0;
}
