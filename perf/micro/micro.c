/*
 * micro: the pure core on fixed work, for counting: perf/count.py runs it under callgrind (instructions)
 * and under DHAT (bytes copied), and reads what it asked of the disk.
 *
 *   millrace-micro CASE TIMES       do the work of CASE so many times; prints the disk's part in it
 *   millrace-micro list             cases, the function that is looked at, what one time is, its record bytes
 *
 * The rigs of the tests play everybody around the core; only what happens inside the named function is
 * collected. The difference between two TIMES is free of warming up.
 */
#include "core_rig.h"
#include "data_rig.h"
#include "sim_transport.h"

#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATA_TURN    "mr_data_core_turn"
#define STORAGE_TURN "mr_storage_core_turn"
#define PARTITIONS   100
#define LARGE_RECORDS 64u
#define LARGE_BYTES   (61u + LARGE_RECORDS * 1009u) /* the batch that they make */

/* ---- the data core ---- */

/* The rig's storage keeps what it is given in a few megabytes: it forgets before it is full. */
static void forget(struct mr_data_rig *rig)
{
    rig->logs[0].len = 0;
}

static void produce(uint32_t times, uint32_t records, uint32_t value_bytes)
{
    struct mr_data_rig        *rig = mr_data_rig_create();
    struct mr_sim_peer        *peer = mr_data_rig_join(rig);
    struct mr_produce_response response;
    int32_t                    correlation;
    for (uint32_t time = 0; time < times; time++) {
        mr_data_rig_produce_to(rig, peer, (int32_t)time, -1, MR_STR("t"), 0, records, value_bytes);
        if (!mr_data_rig_answer(rig, peer, 0, 9, &correlation, &response) ||
            response.responses[0].partition_responses[0].error_code != 0) {
            fprintf(stderr, "millrace-micro: a produce was not answered\n");
            exit(1);
        }
        forget(rig);
    }
}

static void produce_small(uint32_t times)
{
    produce(times, 1, 100);
}

static void produce_batch(uint32_t times)
{
    produce(times, 100, 100);
}

static void produce_large(uint32_t times)
{
    produce(times, LARGE_RECORDS, 1000);
}

static void fetch_of(uint32_t times, uint32_t records, uint32_t value_bytes)
{
    struct mr_data_rig       *rig = mr_data_rig_create();
    struct mr_sim_peer       *peer = mr_data_rig_join(rig);
    struct mr_produce_response produced;
    struct mr_fetch_response   response;
    int32_t                    correlation;
    mr_data_rig_produce_to(rig, peer, 0, -1, MR_STR("t"), 0, records, value_bytes);
    (void)mr_data_rig_answer(rig, peer, 0, 9, &correlation, &produced);
    for (uint32_t time = 0; time < times; time++) {
        mr_data_rig_fetch(peer, (int32_t)time,
                          (struct mr_data_rig_fetch){.session_epoch = -1, .count = 1, .max_bytes = 1 << 20, .min_bytes = 1});
        if (!mr_data_rig_answer(rig, peer, 1, 12, &correlation, &response) ||
            response.responses[0].partitions[0].records.bytes == 0) {
            fprintf(stderr, "millrace-micro: a fetch was not answered\n");
            exit(1);
        }
    }
}

static void fetch(uint32_t times)
{
    fetch_of(times, 1, 100);
}

static void fetch_large(uint32_t times)
{
    fetch_of(times, LARGE_RECORDS, 1000);
}

/* ---- the storage core ---- */

/* What a core asks of its disk, counted on the way. */
static const struct mr_disk_ops *disk_ops;
static struct {
    uint64_t writes, write_bytes, flushes;
} asked;

static void count_and_submit(struct mr_disk *disk, struct mr_disk_op *op)
{
    asked.writes += op->kind == MR_DISK_WRITE;
    asked.write_bytes += op->kind == MR_DISK_WRITE ? op->len : 0;
    asked.flushes += op->kind == MR_DISK_SYNC || (op->flags & MR_DISK_DSYNC) != 0;
    disk_ops->submit(disk, op);
}

static void count_disk(struct mr_disk *disk)
{
    static struct mr_disk_ops counting;
    disk_ops = disk->ops;
    counting = *disk_ops;
    counting.submit = count_and_submit;
    disk->ops = &counting;
}

/* `entries` appends in one turn: one commit. */
static void commit(uint32_t times, uint32_t entries, uint32_t records, uint32_t value_bytes)
{
    static struct mr_core_rig     rig;
    static struct mr_append_op    ops[64];
    static struct mr_append_entry appends[64];
    mr_core_rig_init(&rig);
    if (mr_core_rig_start(&rig) != MR_OK) {
        exit(1);
    }
    uint64_t       log_id = mr_core_rig_open(&rig, "t", 0, false);
    struct mr_span span = {.data = rig.bytes,
                           .len = mr_core_rig_batch(&rig, records, value_bytes, rig.now.unix_ms)};
    count_disk(rig.disk);
    for (uint32_t time = 0; time < times; time++) {
        uint32_t answers = rig.answers;
        for (uint32_t at = 0; at < entries; at++) {
            appends[at] = (struct mr_append_entry){
                .log_id = log_id, .batch = {.spans = &span, .span_count = 1, .bytes = span.len}, .leader_epoch = -1};
            ops[at] = (struct mr_append_op){
                .op.kind = MR_STORAGE_APPEND, .acks = -1, .entry_count = 1, .entries = &appends[at]};
            mr_core_rig_send(&rig, MR_CORE_RIG_DATA, &ops[at].op);
        }
        while (rig.answers < answers + entries) {
            if (!mr_core_rig_turn(&rig)) {
                mr_core_rig_advance(&rig, 1); /* room in the journal may come with time */
            }
        }
        if (appends[0].err != MR_OK) {
            fprintf(stderr, "millrace-micro: an append failed: %s\n", mr_err_text(appends[0].err));
            exit(1);
        }
    }
}

static void commit_one(uint32_t times)
{
    commit(times, 1, 1, 100);
}

static void commit_many(uint32_t times)
{
    commit(times, 64, 1, 100);
}

static void commit_large(uint32_t times)
{
    commit(times, 16, LARGE_RECORDS, 1000);
}

/* ---- the codec ---- */

static uint8_t bytes[1 << 20];
static uint8_t scratch[4 << 20];

/* A metadata answer with so many partitions: about six values each. */
static uint32_t encode_metadata(struct mr_metadata_response *response)
{
    struct mr_arena  arena;
    struct mr_span   spans[64];
    struct mr_writer writer;
    mr_arena_init(&arena, scratch, sizeof scratch);
    mr_writer_init(&writer, &arena, spans, 64);
    if (mr_msg_encode(&mr_msg_metadata_response, 12, response, &writer) != MR_OK) {
        exit(1);
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_chain_copy(&chain, 0, bytes, chain.bytes);
    return chain.bytes;
}

static uint32_t make_metadata(struct mr_metadata_response *response)
{
    static struct mr_metadata_response_topic     topic;
    static struct mr_metadata_response_partition partitions[PARTITIONS];
    static int32_t                               nodes[1] = {1};
    MR_DEFAULTS(metadata_response, response);
    MR_DEFAULTS(metadata_response_topic, &topic);
    for (int32_t at = 0; at < PARTITIONS; at++) {
        MR_DEFAULTS(metadata_response_partition, &partitions[at]);
        partitions[at].partition_index = at;
        partitions[at].replica_nodes = partitions[at].isr_nodes = nodes;
        partitions[at].replica_nodes_count = partitions[at].isr_nodes_count = 1;
    }
    topic.name = MR_STR("topic");
    topic.partitions = partitions;
    topic.partitions_count = PARTITIONS;
    response->topics = &topic;
    response->topics_count = 1;
    return encode_metadata(response);
}

static void encode(uint32_t times)
{
    struct mr_metadata_response response;
    for (uint32_t time = 0; time < times; time++) {
        (void)make_metadata(&response);
    }
}

static void decode(uint32_t times)
{
    struct mr_metadata_response response;
    uint32_t                    len = make_metadata(&response);
    for (uint32_t time = 0; time < times; time++) {
        struct mr_arena  arena;
        struct mr_reader reader;
        mr_arena_init(&arena, scratch, sizeof scratch);
        mr_reader_init_bytes(&reader, bytes, len);
        if (mr_msg_decode(&mr_msg_metadata_response, 12, &reader, &arena, &response) != MR_OK) {
            exit(1);
        }
    }
}

/* ---- the program ---- */

static const struct {
    const char *name;
    const char *function;
    uint32_t    units;       /* that one time is divided by */
    uint32_t    batch_bytes; /* that one time moves; 0: copies are not looked at */
    void (*run)(uint32_t times);
    const char *text;
} cases[] = {
    {"produce-small", DATA_TURN, 1, 0, produce_small, "data core, one Produce of 1 record of 100 B, to its answer"},
    {"produce-batch", DATA_TURN, 1, 0, produce_batch, "data core, one Produce of 100 records of 100 B, framing checked"},
    {"produce-large", DATA_TURN, 1, LARGE_BYTES, produce_large,
     "data core, one Produce of a 64 KB batch, framing checked"},
    {"fetch", DATA_TURN, 1, 0, fetch, "data core, one Fetch of a hot partition, to its answer"},
    {"fetch-large", DATA_TURN, 1, LARGE_BYTES, fetch_large, "data core, one Fetch of a hot 64 KB batch, to its answer"},
    {"commit-1", STORAGE_TURN, 1, 0, commit_one, "storage core, a commit of one append, to its answer"},
    {"commit-64", STORAGE_TURN, 64, 0, commit_many, "storage core, each append of a commit of 64"},
    {"commit-large", STORAGE_TURN, 16, 16 * LARGE_BYTES, commit_large,
     "storage core, each append of a commit of 16 batches of 64 KB, 1 MB"},
    {"encode", "mr_msg_encode", PARTITIONS, 0, encode, "codec, a partition of a Metadata answer (7 values) written"},
    {"decode", "mr_msg_decode", PARTITIONS, 0, decode, "codec, the same read"},
};
#define CASE_COUNT (sizeof cases / sizeof cases[0])

int main(int argc, char **argv)
{
    for (size_t at = 0; at < CASE_COUNT; at++) {
        if (argc == 2 && strcmp(argv[1], "list") == 0) {
            printf("%s\t%s\t%u\t%u\t%s\n", cases[at].name, cases[at].function, cases[at].units,
                   cases[at].batch_bytes, cases[at].text);
        } else if (argc == 3 && strcmp(argv[1], cases[at].name) == 0) {
            cases[at].run((uint32_t)strtoul(argv[2], NULL, 10));
            printf("writes %llu write_bytes %llu flushes %llu\n", (unsigned long long)asked.writes,
                   (unsigned long long)asked.write_bytes, (unsigned long long)asked.flushes);
            return 0;
        }
    }
    return argc == 2 && strcmp(argv[1], "list") == 0 ? 0 : 2;
}
