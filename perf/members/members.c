/*
 * millrace-members: what a rebalance of a large group takes. Members are simulated, each with a connection of its own, and do
 * what the Java client does: they heartbeat at the interval, learn of a rebalance by a heartbeat's answer, revoke at once and
 * say so at once.
 *
 *   consumer   KIP-848, ConsumerGroupHeartbeat 0, assignor uniform; over when every member has the newest epoch and all
 *              partitions have an owner
 *   classic    cooperative: JoinGroup 5, SyncGroup 3; the leader takes away in one generation and gives in the next; over
 *              when every member is in the same generation and all partitions have an owner
 *
 * Three events, a line each, with microseconds until it is over and the broker's CPU until then in nanoseconds: all join at
 * once; one more joins; one leaves. Before the latter two every member's next heartbeat is set to a moment within the interval
 * that the seed draws. perf/rebalance.py runs it against two brokers in turns.
 *
 * One thread; one request of a member is open at a time. Whatever is not expected ends the program with a line.
 */
#include "millrace/base/bytes.h"
#include "millrace/base/prng.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"
#include "millrace/kafka/msg.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MEMBERS_MAX    1024u
#define PARTITIONS_MAX 4096u
#define ID_MAX         128
#define IN_BYTES       (1u << 20)
#define SCRATCH_BYTES  (8u << 20)
#define NS_PER_S       1000000000ull
#define LIMIT_S        120
#define SESSION_MS     60000
#define RETRY_NS       (20 * 1000000ull)

enum what { BEAT, JOIN, SYNC, LEAVE };

struct member {
    int       fd;
    enum what what; /* the last request */
    bool      is_open;
    bool      is_gone;
    bool      is_news; /* what it owns has changed since it last said so */
    char      id[ID_MAX];
    int32_t   epoch; /* or generation */
    uint64_t  due_ns;
    uint32_t  owned_count;
    int32_t   owned[PARTITIONS_MAX];
    uint8_t  *in;
    uint32_t  in_len;
};

static struct {
    struct mr_str  group, topic;
    struct mr_uuid topic_id;
    bool           is_classic;
    uint16_t       port;
    int            pid;
    uint32_t       partitions;
    uint32_t       count; /* members, with those that are gone */
    uint64_t       interval_ns;
    uint64_t       changed_ns;
    int            epoll;
    struct member *members[MEMBERS_MAX];
    uint8_t       *scratch;
    struct mr_arena arena;
} g;

static _Noreturn void fail(const char *what, int64_t detail)
{
    fprintf(stderr, "millrace-members: %s: %lld\n", what, (long long)detail);
    exit(1);
}

_Noreturn void mr_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "millrace-members: %s:%d: %s\n", file, line, what);
    abort();
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* CPU of the broker's threads. */
static uint64_t cpu_ns(void)
{
    char           name[300];
    uint64_t       sum = 0;
    struct dirent *entry;
    snprintf(name, sizeof name, "/proc/%d/task", g.pid);
    DIR *tasks = opendir(name);
    while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
        unsigned long long ran = 0;
        snprintf(name, sizeof name, "/proc/%d/task/%.20s/schedstat", g.pid, entry->d_name);
        FILE *file = fopen(name, "re");
        if (file != NULL) {
            sum += fscanf(file, "%llu", &ran) == 1 ? ran : 0;
            fclose(file);
        }
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
    return sum;
}

/* ---- requests ---- */

static void send_request(struct member *m, enum what what, int16_t key, int16_t version, const void *request)
{
    struct mr_span       spans[8];
    struct mr_writer     writer;
    const struct mr_api *api = mr_api_find(key);
    struct mr_arena      arena;
    mr_arena_init(&arena, g.scratch + SCRATCH_BYTES / 2, SCRATCH_BYTES / 2);
    mr_writer_init(&writer, &arena, spans, 8);
    uint8_t    *prefix = mr_frame_begin(&writer);
    enum mr_err err = mr_header_encode_request(&writer, api, version, 1, MR_STR("perf"));
    err = err == MR_OK ? mr_msg_encode(api->request, version, request, &writer) : err;
    err = err == MR_OK ? mr_frame_end(&writer, prefix) : err;
    if (err != MR_OK) {
        fail("a request cannot be encoded", key);
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    for (uint32_t index = 0; index < chain.span_count; index++) {
        if (send(m->fd, chain.spans[index].data, chain.spans[index].len, MSG_NOSIGNAL) !=
            (ssize_t)chain.spans[index].len) {
            fail("a request was not sent", errno);
        }
    }
    m->what = what;
    m->is_open = true;
}

/* Partitions as 32-bit numbers. */
static struct mr_blob numbers(const int32_t *partitions, uint32_t count)
{
    uint8_t *bytes = MR_ARENA_GET(&g.arena, uint8_t, count * 4 + 1);
    for (uint32_t index = 0; index < count; index++) {
        mr_store_be32(bytes + (size_t)index * 4, (uint32_t)partitions[index]);
    }
    return (struct mr_blob){.data = bytes, .len = (int32_t)(count * 4)};
}

static void join(struct member *m)
{
    struct mr_join_group_request_protocol protocol = {.name = MR_STR("cooperative"),
                                                      .metadata = numbers(m->owned, m->owned_count)};
    struct mr_join_group_request          request;
    MR_DEFAULTS(join_group_request, &request);
    request.group_id = g.group;
    request.session_timeout_ms = SESSION_MS;
    request.rebalance_timeout_ms = SESSION_MS;
    request.member_id = mr_str(m->id);
    request.protocol_type = MR_STR("perf");
    request.protocols = &protocol;
    request.protocols_count = 1;
    send_request(m, JOIN, MR_API_JOIN_GROUP, 5, &request);
}

static void sync_with(struct member *m, struct mr_sync_group_request_assignment *assignments, int32_t count)
{
    struct mr_sync_group_request request;
    MR_DEFAULTS(sync_group_request, &request);
    request.group_id = g.group;
    request.generation_id = m->epoch;
    request.member_id = mr_str(m->id);
    request.assignments = assignments;
    request.assignments_count = count;
    send_request(m, SYNC, MR_API_SYNC_GROUP, 3, &request);
}

static void consumer_beat(struct member *m, int32_t epoch)
{
    struct mr_consumer_group_heartbeat_request                  request;
    struct mr_consumer_group_heartbeat_request_topic_partitions owned = {
        .topic_id = g.topic_id, .partitions = m->owned, .partitions_count = (int32_t)m->owned_count};
    bool is_full = epoch == 0;
    MR_DEFAULTS(consumer_group_heartbeat_request, &request);
    request.group_id = g.group;
    request.member_id = mr_str(m->id);
    request.member_epoch = epoch;
    if (is_full) {
        request.rebalance_timeout_ms = SESSION_MS;
        request.subscribed_topic_names = &g.topic;
        request.subscribed_topic_names_count = 1;
    }
    if (is_full || m->is_news) {
        request.topic_partitions = &owned;
        request.topic_partitions_count = m->owned_count > 0 ? 1 : 0;
    }
    m->is_news = false;
    send_request(m, epoch == -1 ? LEAVE : BEAT, MR_API_CONSUMER_GROUP_HEARTBEAT, 0, &request);
}

static void beat(struct member *m)
{
    if (!g.is_classic) {
        consumer_beat(m, m->epoch);
        return;
    }
    struct mr_heartbeat_request request;
    MR_DEFAULTS(heartbeat_request, &request);
    request.group_id = g.group;
    request.generation_id = m->epoch;
    request.member_id = mr_str(m->id);
    send_request(m, BEAT, MR_API_HEARTBEAT, 3, &request);
}

static void start(struct member *m)
{
    if (g.is_classic) {
        join(m);
    } else {
        consumer_beat(m, 0);
    }
}

static void leave(struct member *m)
{
    m->is_gone = true;
    if (!g.is_classic) {
        consumer_beat(m, -1);
        return;
    }
    struct mr_leave_group_request request;
    MR_DEFAULTS(leave_group_request, &request);
    request.group_id = g.group;
    request.member_id = mr_str(m->id);
    send_request(m, LEAVE, MR_API_LEAVE_GROUP, 1, &request);
}

/* ---- the leader's assignment ---- */

struct claim {
    struct mr_str id;
    uint32_t      count; /* what it keeps, then what it has */
    int32_t       partitions[PARTITIONS_MAX];
};

static int by_count(const void *a, const void *b)
{
    const struct claim *const *left = a;
    const struct claim *const *right = b;
    int by_id = memcmp((*left)->id.data, (*right)->id.data,
                       (size_t)((*left)->id.len < (*right)->id.len ? (*left)->id.len : (*right)->id.len));
    return (*left)->count != (*right)->count ? ((*left)->count > (*right)->count ? -1 : 1) : by_id;
}

static void give(struct claim **claims, uint32_t count, uint32_t up_to, const int32_t *free, uint32_t *free_count)
{
    for (uint32_t index = count; index-- > 0;) { /* who has least comes first */
        while (*free_count > 0 && claims[index]->count < up_to) {
            claims[index]->partitions[claims[index]->count++] = free[--*free_count];
        }
    }
}

/* What each member gets now: what it keeps, and what nobody had. */
static void assign(struct member *m, const struct mr_join_group_response *joined)
{
    uint32_t       count = (uint32_t)joined->members_count;
    struct claim **claims = MR_ARENA_GET(&g.arena, struct claim *, count);
    struct mr_sync_group_request_assignment *out =
        MR_ARENA_GET(&g.arena, struct mr_sync_group_request_assignment, count);
    bool     is_claimed[PARTITIONS_MAX] = {false};
    int32_t  free[PARTITIONS_MAX];
    uint32_t free_count = 0;
    uint32_t least = g.partitions / count;
    uint32_t more = g.partitions % count;
    for (uint32_t index = 0; index < count; index++) {
        const struct mr_blob *metadata = &joined->members[index].metadata;
        claims[index] = MR_ARENA_GET(&g.arena, struct claim, 1);
        claims[index]->id = joined->members[index].member_id;
        for (int32_t at = 0; at < metadata->len / 4; at++) {
            int32_t partition = (int32_t)mr_load_be32(metadata->data + (size_t)at * 4);
            is_claimed[partition] = true;
            claims[index]->partitions[claims[index]->count++] = partition;
        }
    }
    for (uint32_t partition = g.partitions; partition-- > 0;) {
        if (!is_claimed[partition]) {
            free[free_count++] = (int32_t)partition;
        }
    }
    qsort(claims, count, sizeof(void *), by_count);
    for (uint32_t index = 0; index < count; index++) {
        uint32_t quota = least + (more > 0 ? 1 : 0);
        more -= more > 0 && claims[index]->count >= quota ? 1 : 0;
        claims[index]->count = claims[index]->count < quota ? claims[index]->count : quota;
    }
    give(claims, count, least, free, &free_count);
    give(claims, count, least + 1, free, &free_count);
    for (uint32_t index = 0; index < count; index++) {
        out[index] = (struct mr_sync_group_request_assignment){
            .member_id = claims[index]->id, .assignment = numbers(claims[index]->partitions, claims[index]->count)};
    }
    sync_with(m, out, (int32_t)count);
}

/* ---- answers ---- */

static void set_id(struct member *m, struct mr_str id)
{
    if (id.len >= ID_MAX) {
        fail("a member id is too long", id.len);
    }
    if (id.len > 0) {
        memcpy(m->id, id.data, (size_t)id.len);
        m->id[id.len] = '\0';
    }
}

static bool is_loading(int16_t error)
{
    return error == MR_KAFKA_COORDINATOR_LOAD_IN_PROGRESS || error == MR_KAFKA_COORDINATOR_NOT_AVAILABLE ||
           error == MR_KAFKA_NOT_COORDINATOR;
}

/* Whether partitions that it had are not among the new ones. */
static bool own(struct member *m, const int32_t *partitions, uint32_t count)
{
    bool is_kept[PARTITIONS_MAX] = {false};
    bool is_less = false;
    for (uint32_t index = 0; index < count; index++) {
        if ((uint32_t)partitions[index] >= g.partitions) {
            fail("a partition that is not there", partitions[index]);
        }
        is_kept[partitions[index]] = true;
    }
    for (uint32_t index = 0; index < m->owned_count; index++) {
        is_less |= !is_kept[m->owned[index]];
    }
    m->is_news = is_less || count != m->owned_count;
    m->owned_count = count;
    if (count > 0) {
        memcpy(m->owned, partitions, count * sizeof partitions[0]);
    }
    return is_less;
}

static void joined(struct member *m, const struct mr_join_group_response *response)
{
    set_id(m, response->member_id);
    if (response->error_code == MR_KAFKA_MEMBER_ID_REQUIRED || response->error_code == MR_KAFKA_REBALANCE_IN_PROGRESS) {
        join(m);
        return;
    }
    if (response->error_code != MR_KAFKA_NONE) {
        fail("JoinGroup", response->error_code);
    }
    m->epoch = response->generation_id;
    if (mr_str_equal(response->leader, mr_str(m->id))) {
        assign(m, response);
    } else {
        sync_with(m, NULL, 0);
    }
}

static void synced(struct member *m, const struct mr_sync_group_response *response)
{
    if (response->error_code == MR_KAFKA_REBALANCE_IN_PROGRESS) {
        join(m);
        return;
    }
    if (response->error_code != MR_KAFKA_NONE) {
        fail("SyncGroup", response->error_code);
    }
    uint32_t count = (uint32_t)response->assignment.len / 4;
    int32_t  given[PARTITIONS_MAX];
    for (uint32_t index = 0; index < count; index++) {
        given[index] = (int32_t)mr_load_be32(response->assignment.data + (size_t)index * 4);
    }
    m->due_ns = now_ns() + g.interval_ns;
    g.changed_ns = now_ns();
    if (own(m, given, count)) {
        join(m); /* revoked: whoever is to have it gets it in the next generation */
    }
}

static void told(struct member *m, const struct mr_consumer_group_heartbeat_response *response)
{
    m->due_ns = now_ns() + g.interval_ns;
    if (is_loading(response->error_code)) {
        m->due_ns = now_ns() + RETRY_NS;
        return;
    }
    if (response->error_code != MR_KAFKA_NONE) {
        fail("ConsumerGroupHeartbeat", response->error_code);
    }
    set_id(m, response->member_id);
    if (m->epoch != response->member_epoch) {
        m->epoch = response->member_epoch;
        g.changed_ns = now_ns();
    }
    const struct mr_consumer_group_heartbeat_response_assignment *assignment = response->assignment;
    if (assignment == NULL) {
        return;
    }
    bool is_some = assignment->topic_partitions_count > 0;
    (void)own(m, is_some ? assignment->topic_partitions[0].partitions : NULL,
              is_some ? (uint32_t)assignment->topic_partitions[0].partitions_count : 0);
    g.changed_ns = now_ns();
    beat(m);
}

static void beaten(struct member *m, int16_t error)
{
    if (error == MR_KAFKA_REBALANCE_IN_PROGRESS) {
        join(m);
    } else if (error != MR_KAFKA_NONE) {
        fail("Heartbeat", error);
    } else {
        m->due_ns = now_ns() + g.interval_ns;
    }
}

static void take(struct member *m, const uint8_t *bytes, uint32_t len)
{
    static const struct {
        int16_t key, version;
    } sent[] = {[BEAT] = {MR_API_HEARTBEAT, 3}, [JOIN] = {MR_API_JOIN_GROUP, 5}, [SYNC] = {MR_API_SYNC_GROUP, 3},
                [LEAVE] = {MR_API_LEAVE_GROUP, 1}};
    int16_t              key = g.is_classic ? sent[m->what].key : (int16_t)MR_API_CONSUMER_GROUP_HEARTBEAT;
    int16_t              version = g.is_classic ? sent[m->what].version : 0;
    const struct mr_api *api = mr_api_find(key);
    struct mr_reader     reader;
    int32_t              correlation;
    uint32_t             tags;
    m->is_open = false;
    if (m->is_gone) {
        return;
    }
    mr_arena_init(&g.arena, g.scratch, SCRATCH_BYTES / 2);
    void *response = mr_arena_get(&g.arena, api->response->root->size, 16);
    mr_reader_init_bytes(&reader, bytes, len);
    bool is_good = mr_reader_int32(&reader, &correlation) == MR_OK &&
                   (mr_header_response_version(api, version) == 0 || mr_reader_uvarint(&reader, &tags) == MR_OK) &&
                   mr_msg_decode(api->response, version, &reader, &g.arena, response) == MR_OK;
    if (!is_good) {
        fail("an answer cannot be read", key);
    }
    const struct mr_join_group_response *join_response = response;
    if (key == MR_API_CONSUMER_GROUP_HEARTBEAT) {
        told(m, response);
    } else if (key == MR_API_JOIN_GROUP && is_loading(join_response->error_code)) {
        usleep(10000);
        join(m);
    } else if (key == MR_API_JOIN_GROUP) {
        joined(m, response);
    } else if (key == MR_API_SYNC_GROUP) {
        synced(m, response);
    } else {
        beaten(m, ((const struct mr_heartbeat_response *)response)->error_code);
    }
}

static void receive(struct member *m)
{
    ssize_t got = recv(m->fd, m->in + m->in_len, IN_BYTES - m->in_len, 0);
    if (got <= 0) {
        fail("the broker closed a connection", errno);
    }
    m->in_len += (uint32_t)got;
    if (m->in_len >= 4 && m->in_len == 4 + mr_load_be32(m->in)) {
        uint32_t len = m->in_len - 4;
        m->in_len = 0;
        take(m, m->in + 4, len);
    }
}

/* ---- the group ---- */

static struct member *add(void)
{
    struct member     *m = calloc(1, sizeof *m);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(g.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int                on = 1;
    if (m == NULL || g.count == MEMBERS_MAX) {
        fail("too many members", g.count);
    }
    m->in = malloc(IN_BYTES);
    m->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(m->fd, (struct sockaddr *)&to, sizeof to) != 0) {
        fail("connect", errno);
    }
    setsockopt(m->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = m};
    epoll_ctl(g.epoll, EPOLL_CTL_ADD, m->fd, &event);
    g.members[g.count++] = m;
    return m;
}

static bool is_settled(void)
{
    bool     is_owned[PARTITIONS_MAX] = {false};
    uint32_t owned = 0;
    uint32_t here = 0;
    uint32_t least = UINT32_MAX;
    uint32_t most = 0;
    int32_t  epoch = 0;
    for (uint32_t index = 0; index < g.count; index++) {
        const struct member *m = g.members[index];
        if (m->is_gone) {
            continue;
        }
        if ((here++ > 0 && m->epoch != epoch) || (m->is_open && (m->what == JOIN || m->what == SYNC))) {
            return false;
        }
        epoch = m->epoch;
        least = m->owned_count < least ? m->owned_count : least;
        most = m->owned_count > most ? m->owned_count : most;
        for (uint32_t at = 0; at < m->owned_count; at++) {
            if (is_owned[m->owned[at]]) {
                return false;
            }
            is_owned[m->owned[at]] = true;
            owned++;
        }
    }
    return owned == g.partitions && most - least <= 1;
}

/* Send the heartbeats that are due, then take answers until the next one is. */
static void turn(bool is_beating)
{
    struct epoll_event events[64];
    uint64_t           now = now_ns();
    uint64_t           nearest = now + NS_PER_S;
    for (uint32_t index = 0; index < g.count && is_beating; index++) {
        struct member *m = g.members[index];
        if (m->is_open || m->is_gone) {
            continue;
        }
        if (m->due_ns <= now) {
            beat(m);
        } else if (m->due_ns < nearest) {
            nearest = m->due_ns;
        }
    }
    uint64_t        wait = nearest - now;
    struct timespec limit = {.tv_sec = (time_t)(wait / NS_PER_S), .tv_nsec = (long)(wait % NS_PER_S)};
    int             count = epoll_pwait2(g.epoll, events, 64, &limit, NULL);
    for (int index = 0; index < count; index++) {
        receive(events[index].data.ptr);
    }
}

static void until_settled(const char *name, uint64_t began, uint64_t cpu)
{
    while (g.changed_ns <= began || !is_settled()) {
        if (now_ns() > began + LIMIT_S * NS_PER_S) {
            fail("not settled in time", LIMIT_S);
        }
        turn(true);
    }
    printf("%s,%llu,%llu\n", name, (unsigned long long)(g.changed_ns - began) / 1000,
           (unsigned long long)(cpu_ns() - cpu));
    fflush(stdout);
}

static bool is_any_open(void)
{
    for (uint32_t index = 0; index < g.count; index++) {
        if (g.members[index]->is_open) {
            return true;
        }
    }
    return false;
}

/* A second later (assignments of a group keep a distance), heartbeats within the interval from now. */
static void rest(uint64_t seed)
{
    struct mr_prng lots = {.state = seed};
    usleep(1000000);
    while (is_any_open()) {
        turn(false);
    }
    uint64_t now = now_ns();
    for (uint32_t index = 0; index < g.count; index++) {
        g.members[index]->due_ns = now + mr_prng_below(&lots, g.interval_ns);
    }
}

static void events(uint32_t count, uint64_t seed)
{
    for (uint32_t index = 0; index < count; index++) {
        (void)add();
    }
    uint64_t cpu = cpu_ns();
    uint64_t began = now_ns();
    for (uint32_t index = 0; index < count; index++) {
        start(g.members[index]);
    }
    until_settled("all join", began, cpu);
    rest(seed);
    struct member *late = add();
    cpu = cpu_ns();
    began = now_ns();
    start(late);
    until_settled("one joins", began, cpu);
    rest(seed + 1);
    cpu = cpu_ns();
    began = now_ns();
    leave(g.members[count / 2]);
    until_settled("one leaves", began, cpu);
}

static void read_id(const char *hex)
{
    for (uint32_t index = 0; index < sizeof g.topic_id.bytes; index++) {
        const char byte[3] = {hex[index * 2], hex[index * 2 + 1], '\0'};
        g.topic_id.bytes[index] = (uint8_t)strtoul(byte, NULL, 16);
    }
}

int main(int argc, char **argv)
{
    if (argc != 11 || strlen(argv[6]) != 32) {
        fprintf(stderr, "millrace-members PORT PID classic|consumer GROUP TOPIC TOPIC-ID-HEX PARTITIONS MEMBERS INTERVAL-US SEED\n");
        return 2;
    }
    g.port = (uint16_t)atoi(argv[1]);
    g.pid = atoi(argv[2]);
    g.is_classic = strcmp(argv[3], "classic") == 0;
    g.group = mr_str(argv[4]);
    g.topic = mr_str(argv[5]);
    read_id(argv[6]);
    g.partitions = (uint32_t)atoi(argv[7]);
    g.interval_ns = strtoull(argv[9], NULL, 10) * 1000;
    g.epoll = epoll_create1(EPOLL_CLOEXEC);
    g.scratch = malloc(SCRATCH_BYTES);
    mr_arena_init(&g.arena, g.scratch, SCRATCH_BYTES / 2);
    if (g.partitions == 0 || g.partitions > PARTITIONS_MAX || g.interval_ns == 0) {
        fail("partitions, interval", g.partitions);
    }
    events((uint32_t)atoi(argv[8]), strtoull(argv[10], NULL, 10));
    return 0;
}
