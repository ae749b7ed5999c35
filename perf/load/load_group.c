#include "load_group.h"

#include "load_wire.h"

#include "millrace/base/time.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_US        50000
#define HEARTBEAT_US   1000000u
#define SESSION_MS     10000
#define ASSIGN_BYTES   (4u << 20)
#define MEMBER_ID_MAX  256
#define COMMIT_VERSION 8

struct membership {
    struct mr_load_member *member;
    struct mr_load_wire    wire;
    struct mr_arena        arena; /* of assignments */
    char                   member_id[MEMBER_ID_MAX];
    int32_t                generation;
};

static struct mr_str group_of(const struct membership *m)
{
    return mr_str(m->member->run->options->group);
}

/* One DATA message with its leading version, in the arena. */
static struct mr_blob encode_data(struct membership *m, const struct mr_msg *msg, const void *in)
{
    struct mr_span   spans[64];
    struct mr_writer writer;
    mr_writer_init(&writer, &m->arena, spans, 64);
    if (mr_writer_int16(&writer, 0) != MR_OK || mr_msg_encode(msg, 0, in, &writer) != MR_OK) {
        return MR_BLOB_NULL;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    uint8_t        *flat = MR_ARENA_TRY(&m->arena, uint8_t, chain.bytes);
    if (flat == NULL) {
        return MR_BLOB_NULL;
    }
    mr_chain_copy(&chain, 0, flat, chain.bytes);
    return (struct mr_blob){.data = flat, .len = (int32_t)chain.bytes};
}

/* Partitions place, place + of, place + 2 of, ... */
static struct mr_blob share(struct membership *m, int32_t place, int32_t of)
{
    struct mr_consumer_protocol_assignment_topic_partition topic;
    struct mr_consumer_protocol_assignment                 assignment;
    uint32_t partitions = m->member->run->topic->partition_count;
    MR_DEFAULTS(consumer_protocol_assignment_topic_partition, &topic);
    MR_DEFAULTS(consumer_protocol_assignment, &assignment);
    topic.topic = mr_str(m->member->run->topic->name);
    topic.partitions = MR_ARENA_TRY(&m->arena, int32_t, partitions);
    for (uint32_t at = (uint32_t)place; topic.partitions != NULL && at < partitions; at += (uint32_t)of) {
        topic.partitions[topic.partitions_count++] = (int32_t)at;
    }
    assignment.assigned_partitions = &topic;
    assignment.assigned_partitions_count = 1;
    return encode_data(m, &mr_msg_consumer_protocol_assignment, &assignment);
}

static int16_t join(struct membership *m, struct mr_join_group_response *response)
{
    struct mr_join_group_request           request;
    struct mr_join_group_request_protocol  protocol;
    struct mr_consumer_protocol_subscription subscription;
    struct mr_str                          topics[1] = {mr_str(m->member->run->topic->name)};
    mr_arena_reset(&m->arena);
    MR_DEFAULTS(join_group_request, &request);
    MR_DEFAULTS(join_group_request_protocol, &protocol);
    MR_DEFAULTS(consumer_protocol_subscription, &subscription);
    subscription.topics = topics;
    subscription.topics_count = 1;
    protocol.name = MR_STR("load");
    protocol.metadata = encode_data(m, &mr_msg_consumer_protocol_subscription, &subscription);
    request.group_id = group_of(m);
    request.session_timeout_ms = SESSION_MS;
    request.rebalance_timeout_ms = SESSION_MS;
    request.member_id = mr_str(m->member_id);
    request.protocol_type = MR_STR("consumer");
    request.protocols = &protocol;
    request.protocols_count = 1;
    if (!mr_load_wire_call(&m->wire, MR_API_JOIN_GROUP, 5, &request, response)) {
        return -1;
    }
    if (response->error_code == 0 || response->error_code == MR_KAFKA_MEMBER_ID_REQUIRED) {
        snprintf(m->member_id, sizeof m->member_id, "%.*s", (int)response->member_id.len, response->member_id.data);
        m->generation = response->generation_id;
    }
    return response->error_code;
}

/* What the leader gives everybody; the others give nothing. */
static int32_t assign(struct membership *m, const struct mr_join_group_response *joined,
                      struct mr_sync_group_request_assignment **shares)
{
    int32_t count = mr_str_equal(joined->leader, joined->member_id) ? joined->members_count : 0;
    *shares = MR_ARENA_TRY(&m->arena, struct mr_sync_group_request_assignment, count + 1);
    for (int32_t at = 0; *shares != NULL && at < count; at++) {
        MR_DEFAULTS(sync_group_request_assignment, &(*shares)[at]);
        char *id = MR_ARENA_TRY(&m->arena, char, joined->members[at].member_id.len + 1);
        if (id == NULL) {
            return 0;
        }
        memcpy(id, joined->members[at].member_id.data, (size_t)joined->members[at].member_id.len);
        (*shares)[at].member_id = (struct mr_str){.data = id, .len = joined->members[at].member_id.len};
        (*shares)[at].assignment = share(m, at, count);
    }
    return count;
}

/* Where reading goes on: what the group committed, else where the options say. */
static int64_t begin_offset(const struct mr_load_run *run, int32_t partition, int64_t committed)
{
    return committed >= 0                               ? committed
           : run->options->from == MR_LOAD_EARLIEST ? run->topic->starts[partition]
                                                        : run->topic->ends[partition];
}

static bool fetch_committed(struct membership *m, struct mr_load_owned *owned, uint32_t count)
{
    struct mr_offset_fetch_request       request;
    struct mr_offset_fetch_response      response;
    struct mr_offset_fetch_request_topic topic;
    int32_t *indexes = calloc(count + 1, sizeof *indexes);
    MR_DEFAULTS(offset_fetch_request, &request);
    MR_DEFAULTS(offset_fetch_request_topic, &topic);
    for (uint32_t at = 0; indexes != NULL && at < count; at++) {
        indexes[at] = owned[at].partition;
    }
    topic.name = mr_str(m->member->run->topic->name);
    topic.partition_indexes = indexes;
    topic.partition_indexes_count = (int32_t)count;
    request.group_id = group_of(m);
    request.topics = &topic;
    request.topics_count = 1;
    bool is_done = indexes != NULL && mr_load_wire_call(&m->wire, MR_API_OFFSET_FETCH, 5, &request, &response);
    for (uint32_t at = 0; is_done && at < count; at++) {
        owned[at].offset = begin_offset(m->member->run, owned[at].partition, -1);
        owned[at].committed = -1;
        for (int32_t found = 0; response.topics_count == 1 && found < response.topics[0].partitions_count; found++) {
            if (response.topics[0].partitions[found].partition_index == owned[at].partition) {
                owned[at].committed = response.topics[0].partitions[found].committed_offset;
                owned[at].offset = begin_offset(m->member->run, owned[at].partition, owned[at].committed);
            }
        }
    }
    free(indexes);
    return is_done;
}

/* Hand the partitions to the consumer. */
static bool take_assignment(struct membership *m, struct mr_blob bytes)
{
    struct mr_consumer_protocol_assignment assignment;
    struct mr_reader                       reader;
    struct mr_load_member                 *member = m->member;
    mr_reader_init_bytes(&reader, bytes.data, bytes.len < 2 ? 0 : (uint32_t)bytes.len);
    if (bytes.len < 2 || mr_reader_skip(&reader, 2) != MR_OK ||
        mr_msg_decode(&mr_msg_consumer_protocol_assignment, 0, &reader, &m->arena, &assignment) != MR_OK) {
        snprintf(m->wire.error, sizeof m->wire.error, "an assignment that cannot be read");
        return false;
    }
    uint32_t count = assignment.assigned_partitions_count == 1
                         ? (uint32_t)assignment.assigned_partitions[0].partitions_count
                         : 0;
    struct mr_load_owned *owned = calloc(count + 1, sizeof *owned);
    for (uint32_t at = 0; owned != NULL && at < count; at++) {
        int32_t partition = assignment.assigned_partitions[0].partitions[at];
        bool    is_ours = partition >= 0 && (uint32_t)partition < member->run->topic->partition_count;
        owned[at].partition = is_ours ? partition : 0;
    }
    if (owned == NULL || !fetch_committed(m, owned, count)) {
        free(owned);
        return false;
    }
    pthread_mutex_lock(&member->lock);
    free(member->owned);
    member->owned = owned;
    member->owned_count = count;
    member->is_revoked = false;
    pthread_mutex_unlock(&member->lock);
    atomic_fetch_add(&member->assignment, 1);
    return true;
}

static bool join_and_sync(struct membership *m)
{
    struct mr_join_group_response            joined;
    struct mr_sync_group_request             request;
    struct mr_sync_group_response            response;
    for (int tries = 0; tries < 600 && !atomic_load(&m->member->is_leaving); tries++) {
        int16_t code = join(m, &joined);
        if (code == 0) {
            MR_DEFAULTS(sync_group_request, &request);
            request.group_id = group_of(m);
            request.generation_id = m->generation;
            request.member_id = mr_str(m->member_id);
            request.assignments_count = assign(m, &joined, &request.assignments);
            if (!mr_load_wire_call(&m->wire, MR_API_SYNC_GROUP, 3, &request, &response)) {
                return false;
            }
            code = response.error_code;
            if (code == 0) {
                /* The answer's bytes are overwritten by the next call. */
                uint8_t *copy = MR_ARENA_TRY(&m->arena, uint8_t, response.assignment.len + 1);
                if (copy != NULL && response.assignment.len > 0) {
                    memcpy(copy, response.assignment.data, (size_t)response.assignment.len);
                }
                return copy != NULL &&
                       take_assignment(m, (struct mr_blob){.data = copy, .len = response.assignment.len});
            }
        }
        if (code == -1 && m->wire.error[0] != '\0') {
            return false;
        }
        if (code == MR_KAFKA_UNKNOWN_MEMBER_ID) {
            m->member_id[0] = '\0';
        } else if (code != MR_KAFKA_MEMBER_ID_REQUIRED && code != MR_KAFKA_REBALANCE_IN_PROGRESS &&
                   code != MR_KAFKA_ILLEGAL_GENERATION && !mr_errors_is_retriable(code)) {
            return mr_load_wire_refused(&m->wire, "join group", code);
        }
        usleep(code == MR_KAFKA_MEMBER_ID_REQUIRED ? 0 : TICK_US);
    }
    return atomic_load(&m->member->is_leaving) || mr_load_wire_refused(&m->wire, "join group", MR_KAFKA_REQUEST_TIMED_OUT);
}

static bool heartbeat(struct membership *m, int16_t *code)
{
    struct mr_heartbeat_request  request;
    struct mr_heartbeat_response response;
    MR_DEFAULTS(heartbeat_request, &request);
    request.group_id = group_of(m);
    request.generation_id = m->generation;
    request.member_id = mr_str(m->member_id);
    if (!mr_load_wire_call(&m->wire, MR_API_HEARTBEAT, 3, &request, &response)) {
        return false;
    }
    *code = response.error_code;
    return true;
}

static bool commit(struct membership *m)
{
    struct mr_offset_commit_request        request;
    struct mr_offset_commit_response       response;
    struct mr_offset_commit_request_topic  topic;
    struct mr_load_member                 *member = m->member;
    struct mr_offset_commit_request_partition *partitions = calloc(member->owned_count + 1, sizeof *partitions);
    MR_DEFAULTS(offset_commit_request, &request);
    MR_DEFAULTS(offset_commit_request_topic, &topic);
    pthread_mutex_lock(&member->lock);
    for (uint32_t at = 0; partitions != NULL && at < member->owned_count; at++) {
        if (member->owned[at].offset != member->owned[at].committed) {
            struct mr_offset_commit_request_partition *one = &partitions[topic.partitions_count++];
            MR_DEFAULTS(offset_commit_request_partition, one);
            one->partition_index = member->owned[at].partition;
            one->committed_offset = member->owned[at].committed = member->owned[at].offset;
        }
    }
    pthread_mutex_unlock(&member->lock);
    topic.name = mr_str(member->run->topic->name);
    topic.partitions = partitions;
    request.group_id = group_of(m);
    request.generation_id_or_member_epoch = m->generation;
    request.member_id = mr_str(m->member_id);
    request.topics = &topic;
    request.topics_count = 1;
    bool is_done = partitions != NULL;
    if (is_done && topic.partitions_count > 0) {
        is_done = mr_load_wire_call(&m->wire, MR_API_OFFSET_COMMIT, COMMIT_VERSION, &request, &response);
        atomic_fetch_add(&member->commits, is_done ? 1u : 0u);
    }
    free(partitions);
    return is_done;
}

/* From here on the consumer takes no more records, so that what is committed next is where it is. */
static void stop_taking(struct membership *m)
{
    pthread_mutex_lock(&m->member->lock);
    m->member->is_revoked = true;
    pthread_mutex_unlock(&m->member->lock);
}

static void leave(struct membership *m)
{
    struct mr_leave_group_request                 request;
    struct mr_leave_group_response                response;
    struct mr_leave_group_request_member_identity identity;
    MR_DEFAULTS(leave_group_request, &request);
    MR_DEFAULTS(leave_group_request_member_identity, &identity);
    identity.member_id = mr_str(m->member_id);
    request.group_id = group_of(m);
    request.member_id = identity.member_id;
    request.members = &identity;
    request.members_count = 1;
    /* Where members came as an array the lone id is not written, and the other way round. */
    if (mr_load_wire_version(&m->wire, MR_API_LEAVE_GROUP, 3) >= 3) {
        request.member_id = MR_STR("");
    } else {
        request.members_count = 0;
    }
    (void)mr_load_wire_call(&m->wire, MR_API_LEAVE_GROUP, 3, &request, &response);
}

static bool serve(struct membership *m)
{
    uint64_t commit_us = m->member->run->options->commit_ns / MR_NS_PER_US;
    for (uint64_t tick = 1; !atomic_load(&m->member->is_leaving); tick++) {
        int16_t code = 0;
        usleep(TICK_US);
        if (tick * TICK_US % HEARTBEAT_US == 0 && !heartbeat(m, &code)) {
            return false;
        }
        if (code == 0 && commit_us > 0 && tick * TICK_US % commit_us < TICK_US && !commit(m)) {
            return false;
        }
        if (code != 0) {
            stop_taking(m);
            m->member_id[0] = code == MR_KAFKA_UNKNOWN_MEMBER_ID ? '\0' : m->member_id[0];
            if ((code == MR_KAFKA_REBALANCE_IN_PROGRESS && commit_us > 0 && !commit(m)) || !join_and_sync(m)) {
                return false;
            }
        }
    }
    stop_taking(m);
    return commit_us == 0 || commit(m);
}

static void *member_main(void *argument)
{
    struct mr_load_member *member = argument;
    struct membership      m = {.member = member, .wire = {.fd = -1}};
    void                  *memory = malloc(ASSIGN_BYTES);
    mr_arena_init(&m.arena, memory, memory == NULL ? 0 : ASSIGN_BYTES);
    if (memory == NULL || !mr_load_wire_coordinator(&m.wire, member->run->options->broker, MR_LOAD_COORDINATOR_GROUP, group_of(&m)) || !join_and_sync(&m) || !serve(&m)) {
        snprintf(member->error, sizeof member->error, "group %.100s: %.300s", member->run->options->group, m.wire.error);
    } else {
        leave(&m);
    }
    mr_load_wire_close(&m.wire);
    free(memory);
    return NULL;
}

bool mr_load_member_start(struct mr_load_member *member, const struct mr_load_run *run)
{
    *member = (struct mr_load_member){.run = run};
    pthread_mutex_init(&member->lock, NULL);
    member->is_started = pthread_create(&member->thread, NULL, member_main, member) == 0;
    return member->is_started;
}

void mr_load_member_stop(struct mr_load_member *member)
{
    atomic_store(&member->is_leaving, true);
    if (member->is_started) {
        pthread_join(member->thread, NULL);
    }
    free(member->owned);
    member->owned = NULL;
}
