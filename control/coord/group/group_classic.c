/*
 * group_classic: the classic group protocol: join, sync, heartbeat, leave, and their timers.
 *
 *             join                all joined, or time              the leader's Sync
 *   Empty ------------> Preparing -----------------> Completing ---------------------> Stable
 *     ^                  |  ^  ^                          | join, leave, crash,           |
 *     |  nobody joined   |  |  +--------------------------+ no Sync in time               |
 *     +------------------+  +-------------------------------------------------------------+
 *       (record)                                                     (record)
 *
 * Two records settle a generation, and only replay makes the state Stable or Empty: the leader's
 * assignment, and the news that nobody is left. All else is conversation (group.h).
 *
 * A request that waits (join, sync) belongs to its member and is answered exactly once: when the
 * phase ends, when the member is replaced, removed or asks again, or when the shard is dropped.
 *
 * Source: behaviour of Apache Kafka 4.4.
 */
#include "coord/group/group.h"

#include "millrace/base/bug.h"

#define NEW_MEMBER_JOIN_MS (5 * 60 * 1000) /* a member that has never been in a generation */
#define PROTOCOLS_MAX      1000            /* names in one JoinGroup; real clients send below 10 */

/* ---- members ---- */

static struct mr_group_env *env_of(const struct mr_group *group)
{
    return group->shard->env;
}

static uint64_t member_hash(const struct mr_group *group, struct mr_str id)
{
    return mr_hash_str(&env_of(group)->hash_key, id) ^ group->node.hash;
}

/* A member or a pending id; NULL when absent. */
static struct mr_classic_member *find_any(const struct mr_group *group, struct mr_str id)
{
    for (struct mr_table_node *node =
             mr_table_first(&group->shard->members, member_hash(group, id));
         node != NULL; node = mr_table_next(node)) {
        struct mr_classic_member *member = MR_TABLE_ENTRY(node, struct mr_classic_member, node);
        if (member->group == group && mr_str_equal(member->id, id)) {
            return member;
        }
    }
    return NULL;
}

static struct mr_classic_member *find_member(const struct mr_group *group, struct mr_str id)
{
    struct mr_classic_member *member = find_any(group, id);
    return member == NULL || member->is_pending ? NULL : member;
}

static struct mr_classic_member *find_instance(const struct mr_group *group,
                                               struct mr_str instance_id)
{
    const struct mr_classic *classic = &group->classic_part;
    if (classic->static_count == 0) {
        return NULL;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (!mr_str_is_null(member->instance_id) &&
            mr_str_equal(member->instance_id, instance_id)) {
            return member;
        }
    }
    return NULL;
}

static bool is_leader(const struct mr_group *group, const struct mr_classic_member *member)
{
    return mr_str_equal(group->classic_part.leader, member->id);
}

int16_t mr_classic_check_member(const struct mr_group *group, struct mr_str member_id,
                                struct mr_str instance_id)
{
    const struct mr_classic_member *member = find_member(group, member_id);
    if (!mr_str_is_null(instance_id)) {
        if (member != NULL && mr_str_equal(member->instance_id, instance_id)) {
            return MR_KAFKA_NONE;
        }
        return find_instance(group, instance_id) == NULL || mr_bug("no-fencing")
                   ? MR_KAFKA_UNKNOWN_MEMBER_ID
                   : MR_KAFKA_FENCED_INSTANCE_ID;
    }
    return member == NULL ? MR_KAFKA_UNKNOWN_MEMBER_ID : MR_KAFKA_NONE;
}

/* ---- protocols ---- */

static struct mr_classic_name *find_name(const struct mr_classic *classic, struct mr_str name)
{
    MR_LIST_EACH(link, &classic->names)
    {
        struct mr_classic_name *entry = MR_LIST_ENTRY(link, struct mr_classic_name, link);
        if (mr_str_equal(entry->name, name)) {
            return entry;
        }
    }
    return NULL;
}

static bool names_add(struct mr_group *group, const struct mr_classic_protocols *protocols)
{
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = env_of(group)->heap;
    for (uint32_t index = 0; index < protocols->count; index++) {
        struct mr_classic_name *entry = find_name(classic, protocols->items[index].name);
        if (entry == NULL) {
            entry = MR_HEAP_NEW(heap, struct mr_classic_name);
            if (entry == NULL || !mr_heap_str(heap, protocols->items[index].name, &entry->name)) {
                mr_heap_free(heap, entry, sizeof *entry);
                return false;
            }
            mr_list_add_tail(&classic->names, &entry->link);
        }
        entry->count++;
    }
    return true;
}

static void names_drop(struct mr_group *group, const struct mr_classic_protocols *protocols)
{
    for (uint32_t index = 0; index < protocols->count; index++) {
        struct mr_classic_name *entry =
            find_name(&group->classic_part, protocols->items[index].name);
        if (entry != NULL && --entry->count == 0) {
            mr_list_remove(&entry->link);
            mr_heap_str_free(env_of(group)->heap, &entry->name);
            MR_HEAP_DELETE(env_of(group)->heap, entry);
        }
    }
}

/* A name twice would count twice: Kafka's collection keeps the first. */
static bool is_repeated(const struct mr_join_group_request_protocol *protocols, int32_t index)
{
    for (int32_t before = 0; before < index; before++) {
        if (mr_str_equal(protocols[before].name, protocols[index].name)) {
            return true;
        }
    }
    return false;
}

static struct mr_classic_protocols *protocols_new(struct mr_heap *heap, int32_t count,
                                                  const struct mr_join_group_request_protocol *from)
{
    size_t bytes =
        sizeof(struct mr_classic_protocols) + sizeof(struct mr_classic_protocol) * (size_t)count;
    for (int32_t index = 0; index < count; index++) {
        bytes += (size_t)from[index].name.len;
        bytes += from[index].metadata.len > 0 ? (size_t)from[index].metadata.len : 0;
    }
    struct mr_classic_protocols *protocols = mr_heap_try(heap, bytes);
    if (protocols == NULL) {
        return NULL;
    }
    protocols->bytes = bytes;
    protocols->count = 0;
    uint8_t *to = (uint8_t *)&protocols->items[count];
    for (int32_t index = 0; index < count; index++) {
        if (is_repeated(from, index)) {
            continue;
        }
        struct mr_classic_protocol *item = &protocols->items[protocols->count++];
        uint32_t name_bytes = (uint32_t)from[index].name.len;
        uint32_t metadata_bytes =
            from[index].metadata.len > 0 ? (uint32_t)from[index].metadata.len : 0;
        item->name = (struct mr_str){.data = (char *)to, .len = (int32_t)name_bytes};
        memcpy(to, from[index].name.data, name_bytes);
        to += name_bytes;
        item->metadata = (struct mr_blob){.data = to, .len = (int32_t)metadata_bytes};
        if (metadata_bytes > 0) {
            memcpy(to, from[index].metadata.data, metadata_bytes);
        }
        to += metadata_bytes;
    }
    return protocols;
}

static void protocols_free(struct mr_heap *heap, struct mr_classic_protocols *protocols)
{
    if (protocols != NULL) {
        mr_heap_free(heap, protocols, protocols->bytes);
    }
}

static bool is_blob_equal(struct mr_blob a, struct mr_blob b)
{
    int32_t a_len = a.len < 0 ? 0 : a.len;
    int32_t b_len = b.len < 0 ? 0 : b.len;
    return a_len == b_len && (a_len == 0 || memcmp(a.data, b.data, (size_t)a_len) == 0);
}

static bool is_same_protocols(const struct mr_classic_protocols *have,
                              const struct mr_join_group_request *join)
{
    uint32_t at = 0;
    for (int32_t index = 0; index < join->protocols_count; index++) {
        if (is_repeated(join->protocols, index)) {
            continue;
        }
        if (at == have->count || !mr_str_equal(have->items[at].name, join->protocols[index].name) ||
            !is_blob_equal(have->items[at].metadata, join->protocols[index].metadata)) {
            return false;
        }
        at++;
    }
    return at == have->count;
}

struct mr_blob mr_classic_metadata(const struct mr_classic_member *member, struct mr_str protocol)
{
    for (uint32_t index = 0; index < member->protocols->count; index++) {
        if (mr_str_equal(member->protocols->items[index].name, protocol)) {
            return member->protocols->items[index].metadata;
        }
    }
    return (struct mr_blob){.data = (const uint8_t *)"", .len = 0};
}

/* The joining member's type is the group's and everybody supports one of its protocols. */
static bool is_supported(const struct mr_group *group, const struct mr_join_group_request *join)
{
    const struct mr_classic *classic = &group->classic_part;
    if (join->protocol_type.len <= 0 || join->protocols_count <= 0 ||
        join->protocols_count > PROTOCOLS_MAX) {
        return false;
    }
    if (classic->state == MR_CLASSIC_EMPTY) {
        return true;
    }
    if (!mr_str_equal(classic->protocol_type, join->protocol_type)) {
        return false;
    }
    for (int32_t index = 0; index < join->protocols_count; index++) {
        const struct mr_classic_name *entry = find_name(classic, join->protocols[index].name);
        if ((entry == NULL ? 0 : entry->count) == classic->member_count) {
            return true;
        }
    }
    return false;
}

/* Votes: each member's is its first protocol that everybody supports. A tie goes to what the oldest
 * member prefers (in Kafka to whatever its hash map yields). NULL only without members. */
static const struct mr_classic_name *choose(const struct mr_classic *classic)
{
    const struct mr_classic_name *best = NULL;
    uint32_t best_votes = 0;
    MR_LIST_EACH(name_link, &classic->names)
    {
        const struct mr_classic_name *name = MR_LIST_ENTRY(name_link, struct mr_classic_name, link);
        if (name->count != classic->member_count) {
            continue;
        }
        uint32_t votes = 0;
        MR_LIST_EACH(link, &classic->members)
        {
            const struct mr_classic_member *member =
                MR_LIST_ENTRY(link, struct mr_classic_member, link);
            for (uint32_t index = 0; index < member->protocols->count; index++) {
                const struct mr_classic_name *liked =
                    find_name(classic, member->protocols->items[index].name);
                if (liked != NULL && liked->count == classic->member_count) {
                    votes += liked == name ? 1 : 0;
                    break;
                }
            }
        }
        if (votes > best_votes) {
            best = name;
            best_votes = votes;
        }
    }
    return best;
}

/* ---- answers ---- */

void mr_classic_join_error(const struct mr_request *request, int16_t error,
                           struct mr_join_group_response *response)
{
    MR_DEFAULTS(join_group_response, response);
    response->error_code = error;
    if (request->forward->api_version >= 7) {
        response->protocol_name = MR_STR_NULL;
    }
}

static void answer_join_error(struct mr_coord_out *out, const struct mr_group_shard *shard,
                              struct mr_request *request, struct mr_str member_id, int16_t error)
{
    struct mr_join_group_response *response = MR_COORD_NEW(out, struct mr_join_group_response, 1);
    if (response != NULL) {
        mr_classic_join_error(request, error, response);
        response->member_id = member_id;
    }
    mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
}

static void fill_members(const struct mr_group *group, struct mr_coord_out *out,
                         struct mr_join_group_response *response)
{
    const struct mr_classic *classic = &group->classic_part;
    response->members =
        MR_COORD_NEW(out, struct mr_join_group_response_member, classic->member_count);
    if (response->members == NULL) {
        return;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        response->members[response->members_count++] = (struct mr_join_group_response_member){
            .member_id = member->id,
            .group_instance_id = member->instance_id,
            .metadata = mr_classic_metadata(member, classic->protocol),
        };
    }
}

/* The generation as it is. */
static void answer_join(struct mr_coord_out *out, const struct mr_classic_member *member,
                        struct mr_request *request, enum mr_coord_when when, bool is_with_members,
                        struct mr_str leader, bool is_skip_assignment)
{
    const struct mr_group *group = member->group;
    const struct mr_classic *classic = &group->classic_part;
    struct mr_join_group_response *response = MR_COORD_NEW(out, struct mr_join_group_response, 1);
    if (response != NULL) {
        MR_DEFAULTS(join_group_response, response);
        response->generation_id = classic->generation;
        response->protocol_type = classic->protocol_type;
        response->protocol_name = classic->protocol;
        response->leader = mr_str_is_null(leader) ? MR_STR("") : leader;
        response->skip_assignment = is_skip_assignment;
        response->member_id = member->id;
        if (is_with_members) {
            fill_members(group, out, response);
            response = response->members == NULL ? NULL : response;
        }
    }
    mr_coord_out_answer(out, request, group->shard->index, when, response);
}

static void answer_sync(struct mr_coord_out *out, const struct mr_group *group,
                        struct mr_request *request, int16_t error, struct mr_blob assignment)
{
    struct mr_sync_group_response *response = MR_COORD_NEW(out, struct mr_sync_group_response, 1);
    if (response != NULL) {
        MR_DEFAULTS(sync_group_response, response);
        response->error_code = error;
        if (error == MR_KAFKA_NONE) {
            response->protocol_type = group->classic_part.protocol_type;
            response->protocol_name = group->classic_part.protocol;
            response->assignment = assignment;
        }
    }
    mr_coord_out_answer(out, request, group->shard->index,
                        error == MR_KAFKA_NONE ? MR_COORD_DURABLE : MR_COORD_NOW, response);
}

static const struct mr_blob no_assignment = {.data = (const uint8_t *)"", .len = 0};

/* ---- timers ---- */

static void session_begin(struct mr_classic_member *member, int64_t ms, struct mr_now now)
{
    mr_timer_set(env_of(member->group)->timers, &member->session.timer,
                 mr_deadline_ms(now.mono_ns, ms));
}

static void session_again(struct mr_classic_member *member, struct mr_now now)
{
    session_begin(member, member->session_ms, now);
}

void mr_classic_touch(const struct mr_group *group, struct mr_str member_id, struct mr_now now)
{
    struct mr_classic_member *member = find_member(group, member_id);
    if (member != NULL) {
        session_again(member, now);
    }
}

static void rebalance_timer(struct mr_group *group, int64_t ms, struct mr_now now)
{
    mr_timer_set(env_of(group)->timers, &group->classic_part.rebalance.timer,
                 mr_deadline_ms(now.mono_ns, ms));
}

static void rebalance_timer_off(struct mr_group *group)
{
    mr_timer_cancel(env_of(group)->timers, &group->classic_part.rebalance.timer);
}

static int32_t rebalance_ms(const struct mr_classic *classic)
{
    int32_t longest = 0;
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        longest = member->rebalance_ms > longest ? member->rebalance_ms : longest;
    }
    return longest;
}

/* ---- coming and going ---- */

static bool is_set_str(struct mr_group *group, struct mr_str *at, struct mr_str value)
{
    struct mr_str copy;
    if (!mr_heap_str(env_of(group)->heap, value, &copy)) {
        return false;
    }
    mr_heap_str_free(env_of(group)->heap, at);
    *at = copy;
    return true;
}

static void member_free(struct mr_classic_member *member)
{
    struct mr_group_env *env = env_of(member->group);
    mr_timer_cancel(env->timers, &member->session.timer);
    protocols_free(env->heap, member->protocols);
    mr_heap_str_free(env->heap, &member->id);
    mr_heap_str_free(env->heap, &member->instance_id);
    mr_heap_str_free(env->heap, &member->client_id);
    mr_heap_str_free(env->heap, &member->client_host);
    if (member->assignment.len > 0) {
        mr_heap_free(env->heap, (void *)(uintptr_t)member->assignment.data,
                     (size_t)member->assignment.len);
    }
    MR_HEAP_DELETE(env->heap, member);
    env->timers_reserved -= 2;
}

/* A member in no list yet. NULL: no memory or no room for its timers. */
static struct mr_classic_member *member_new(struct mr_group *group, struct mr_str id,
                                            struct mr_str instance_id, struct mr_str client_id,
                                            struct mr_str client_host)
{
    struct mr_group_env *env = env_of(group);
    if (env->timers_reserved + 2 > env->timers_max) {
        return NULL;
    }
    struct mr_classic_member *member = MR_HEAP_NEW(env->heap, struct mr_classic_member);
    if (member == NULL) {
        return NULL;
    }
    env->timers_reserved += 2;
    member->group = group;
    member->id = member->instance_id = member->client_id = member->client_host = MR_STR_NULL;
    member->assignment = no_assignment;
    mr_list_init(&member->link);
    member->session.timer.kind = MR_GROUP_TIMER_SESSION;
    member->session.fire = env->fire;
    member->session.user = member;
    if (!mr_heap_str(env->heap, id, &member->id) ||
        !mr_heap_str(env->heap, instance_id, &member->instance_id) ||
        !mr_heap_str(env->heap, client_id, &member->client_id) ||
        !mr_heap_str(env->heap, client_host, &member->client_host)) {
        /* What was not copied still points to the caller's bytes. */
        if (member->client_id.data == client_id.data) {
            member->client_id = MR_STR_NULL;
        }
        if (member->client_host.data == client_host.data) {
            member->client_host = MR_STR_NULL;
        }
        if (member->instance_id.data == instance_id.data) {
            member->instance_id = MR_STR_NULL;
        }
        if (member->id.data == id.data) {
            member->id = MR_STR_NULL;
        }
        member_free(member);
        return NULL;
    }
    mr_table_add(&group->shard->members, &member->node, member_hash(group, member->id));
    return member;
}

static bool member_set_assignment(struct mr_classic_member *member, struct mr_blob assignment)
{
    struct mr_heap *heap = env_of(member->group)->heap;
    struct mr_blob copy = no_assignment;
    if (assignment.len > 0) {
        uint8_t *bytes = mr_heap_try(heap, (size_t)assignment.len);
        if (bytes == NULL) {
            return false;
        }
        memcpy(bytes, assignment.data, (size_t)assignment.len);
        copy = (struct mr_blob){.data = bytes, .len = assignment.len};
    }
    if (member->assignment.len > 0) {
        mr_heap_free(heap, (void *)(uintptr_t)member->assignment.data,
                     (size_t)member->assignment.len);
    }
    member->assignment = copy;
    return true;
}

/* Put a member that has its protocols among the members. */
static bool member_enter(struct mr_classic_member *member, struct mr_str protocol_type)
{
    struct mr_group *group = member->group;
    struct mr_classic *classic = &group->classic_part;
    if (classic->member_count == 0 && !is_set_str(group, &classic->protocol_type, protocol_type)) {
        return false;
    }
    if (mr_str_is_null(classic->leader) && !is_set_str(group, &classic->leader, member->id)) {
        return false;
    }
    if (!names_add(group, member->protocols)) {
        return false;
    }
    mr_list_add_tail(&classic->members, &member->link);
    classic->member_count++;
    classic->static_count += mr_str_is_null(member->instance_id) ? 0 : 1;
    return true;
}

/* Take the waiting join of a member. */
static struct mr_request *take_join(struct mr_classic_member *member)
{
    struct mr_request *request = member->join;
    if (request != NULL) {
        member->join = NULL;
        member->group->classic_part.joined_count--;
    }
    return request;
}

static void await_join(struct mr_classic_member *member, struct mr_request *request,
                       struct mr_coord_out *out)
{
    /* An older join of the same member comes from a connection that its client has given up. */
    struct mr_request *older = take_join(member);
    if (older != NULL) {
        answer_join_error(out, member->group->shard, older, member->id,
                          MR_KAFKA_REBALANCE_IN_PROGRESS);
    }
    member->join = request;
    member->group->classic_part.joined_count++;
}

/* Answer what a member waits for, when it does not get it. */
static void member_refuse(struct mr_classic_member *member, struct mr_str join_id, int16_t error,
                          struct mr_coord_out *out)
{
    struct mr_request *join = take_join(member);
    if (join != NULL) {
        answer_join_error(out, member->group->shard, join, join_id, error);
    }
    if (member->sync != NULL) {
        answer_sync(out, member->group, member->sync, error, no_assignment);
        member->sync = NULL;
    }
}

/* Forget a member or a pending id. The leader's place goes to the oldest that is left. */
static void member_remove(struct mr_classic_member *member, struct mr_coord_out *out)
{
    struct mr_group *group = member->group;
    struct mr_classic *classic = &group->classic_part;
    mr_table_remove(&group->shard->members, &member->node);
    mr_list_remove(&member->link);
    if (member->is_pending) {
        classic->pending_count--;
        member_free(member);
        return;
    }
    if (member->join != NULL || member->sync != NULL) {
        mr_assert(out != NULL);
        member_refuse(member, MR_STR(""), MR_KAFKA_UNKNOWN_MEMBER_ID, out);
    }
    names_drop(group, member->protocols);
    classic->member_count--;
    classic->static_count -= mr_str_is_null(member->instance_id) ? 0 : 1;
    if (is_leader(group, member)) {
        struct mr_str next = MR_STR_NULL;
        if (!mr_list_is_empty(&classic->members)) {
            next = MR_LIST_ENTRY(classic->members.next, struct mr_classic_member, link)->id;
        }
        if (!is_set_str(group, &classic->leader, next)) {
            mr_heap_str_free(env_of(group)->heap, &classic->leader);
        }
    }
    member_free(member);
}

bool mr_classic_init(struct mr_classic *classic)
{
    classic->state = MR_CLASSIC_EMPTY;
    classic->state_ms = -1;
    classic->protocol_type = classic->protocol = classic->leader = MR_STR_NULL;
    mr_list_init(&classic->members);
    mr_list_init(&classic->pending);
    mr_list_init(&classic->names);
    return true;
}

void mr_classic_deinit(struct mr_group *group, struct mr_coord_out *out, int16_t error)
{
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = env_of(group)->heap;
    MR_LIST_EACH_SAFE(link, after, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (member->join != NULL || member->sync != NULL) {
            /* The step that removes a group has asked everybody to leave; only a drop has waiters.
             */
            mr_assert(out != NULL);
            struct mr_request *join = take_join(member);
            if (join != NULL) {
                mr_coord_out_refuse(out, join, error);
            }
            if (member->sync != NULL) {
                mr_coord_out_refuse(out, member->sync, error);
                member->sync = NULL;
            }
        }
        member_remove(member, out);
    }
    MR_LIST_EACH_SAFE(link, after, &classic->pending)
    {
        member_remove(MR_LIST_ENTRY(link, struct mr_classic_member, link), out);
    }
    rebalance_timer_off(group);
    mr_heap_str_free(heap, &classic->protocol_type);
    mr_heap_str_free(heap, &classic->protocol);
    mr_heap_str_free(heap, &classic->leader);
    mr_assert(mr_list_is_empty(&classic->names));
}

/* ---- a rebalance ---- */

static bool is_everybody_here(const struct mr_classic *classic)
{
    return classic->joined_count == classic->member_count && classic->pending_count == 0;
}

/* Everybody is in a generation without an assignment. */
static void begin_generation(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    const struct mr_classic_name *chosen = choose(classic);
    if (chosen == NULL || !is_set_str(group, &classic->protocol, chosen->name)) {
        /* No memory for a name: try again after another phase. */
        rebalance_timer(group, rebalance_ms(classic), out->now);
        return;
    }
    classic->generation++;
    classic->state = MR_CLASSIC_COMPLETING;
    classic->is_initial = false;
    classic->state_ms = out->now.unix_ms;
    mr_log(env_of(group)->log, MR_LOG_INFO,
           "group has a generation group=%.*s generation=%d members=%u protocol=%.*s",
           group->id.len, group->id.data, classic->generation, classic->member_count,
           classic->protocol.len, classic->protocol.data);
    MR_LIST_EACH(link, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        struct mr_request *request = take_join(member);
        if (request != NULL) {
            answer_join(out, member, request, MR_COORD_NOW, is_leader(group, member),
                        classic->leader, false);
        }
        session_again(member, out->now);
        member->is_new = false;
        member->is_sync_pending = true;
    }
    rebalance_timer(group, rebalance_ms(classic), out->now);
}

/* The join phase is over: with those who are here. */
static void complete_join(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    mr_assert(classic->state == MR_CLASSIC_PREPARING);
    rebalance_timer_off(group);
    MR_LIST_EACH_SAFE(link, after, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (member->join == NULL && mr_str_is_null(member->instance_id)) {
            member_remove(member, out);
        }
    }
    if (classic->member_count == 0) {
        mr_log(env_of(group)->log, MR_LOG_INFO, "group is empty group=%.*s generation=%d",
               group->id.len, group->id.data, classic->generation + 1);
        if (!mr_group_record_empty(group, classic->generation + 1, out)) {
            rebalance_timer(group, NEW_MEMBER_JOIN_MS, out->now);
        }
        return;
    }
    /* Static members stay without having joined, but only somebody who is here can lead. */
    const struct mr_classic_member *leader = find_member(group, classic->leader);
    if (leader == NULL || leader->join == NULL) {
        struct mr_classic_member *joined = NULL;
        MR_LIST_EACH(link, &classic->members)
        {
            struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            if (member->join != NULL) {
                joined = member;
                break;
            }
        }
        if (joined == NULL || !is_set_str(group, &classic->leader, joined->id)) {
            rebalance_timer(group, rebalance_ms(classic), out->now);
            return;
        }
    }
    begin_generation(group, out);
}

static void complete_join_if_all(struct mr_group *group, struct mr_coord_out *out)
{
    const struct mr_classic *classic = &group->classic_part;
    if (classic->state == MR_CLASSIC_PREPARING && !classic->is_initial &&
        is_everybody_here(classic)) {
        complete_join(group, out);
    }
}

static void prepare_rebalance(struct mr_group *group, struct mr_coord_out *out, const char *why)
{
    struct mr_classic *classic = &group->classic_part;
    mr_assert(classic->state != MR_CLASSIC_PREPARING);
    if (classic->state == MR_CLASSIC_COMPLETING) {
        MR_LIST_EACH(link, &classic->members)
        {
            struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            (void)member_set_assignment(member, no_assignment);
            if (member->sync != NULL) {
                answer_sync(out, group, member->sync, MR_KAFKA_REBALANCE_IN_PROGRESS,
                            no_assignment);
                member->sync = NULL;
                session_again(member, out->now);
            }
        }
    }
    MR_LIST_EACH(link, &classic->members)
    {
        MR_LIST_ENTRY(link, struct mr_classic_member, link)->is_sync_pending = false;
    }
    rebalance_timer_off(group);
    mr_log(env_of(group)->log, MR_LOG_INFO, "group rebalances group=%.*s generation=%d why=\"%s\"",
           group->id.len, group->id.data, classic->generation, why);
    classic->is_initial = classic->state == MR_CLASSIC_EMPTY;
    classic->state = MR_CLASSIC_PREPARING;
    classic->state_ms = out->now.unix_ms;
    if (classic->is_initial) {
        int32_t delay = env_of(group)->initial_delay_ms;
        int32_t longest = rebalance_ms(classic);
        classic->delay_ms = delay;
        classic->delay_left_ms = longest > delay ? longest - delay : 0;
        classic->has_new_member = false;
        rebalance_timer(group, delay, out->now);
    } else if (is_everybody_here(classic)) {
        complete_join(group, out);
    } else {
        rebalance_timer(group, rebalance_ms(classic), out->now);
    }
}

static void rebalance_or_complete(struct mr_group *group, struct mr_coord_out *out, const char *why)
{
    if (group->classic_part.state == MR_CLASSIC_PREPARING) {
        complete_join_if_all(group, out);
    } else {
        prepare_rebalance(group, out, why);
    }
}

void mr_classic_rebalance_due(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    if (classic->state == MR_CLASSIC_PREPARING) {
        if (classic->is_initial && classic->has_new_member && classic->delay_left_ms > 0) {
            /* Who comes in a crowd brings others: another delay, up to the rebalance timeout. */
            int32_t before = classic->delay_ms;
            int32_t delay = env_of(group)->initial_delay_ms;
            classic->has_new_member = false;
            classic->delay_ms = delay < classic->delay_left_ms ? delay : classic->delay_left_ms;
            classic->delay_left_ms =
                classic->delay_left_ms > before ? classic->delay_left_ms - before : 0;
            rebalance_timer(group, classic->delay_ms, out->now);
            return;
        }
        complete_join(group, out);
        return;
    }
    if (classic->state == MR_CLASSIC_EMPTY) {
        return;
    }
    bool is_any = false;
    MR_LIST_EACH_SAFE(link, after, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (member->is_sync_pending) {
            is_any = true;
            member_remove(member, out);
        }
    }
    if (is_any) {
        prepare_rebalance(group, out, "members sent no SyncGroup in time");
    }
}

void mr_classic_session_expired(struct mr_classic_member *member, struct mr_coord_out *out)
{
    struct mr_group *group = member->group;
    struct mr_classic *classic = &group->classic_part;
    if (mr_bug("immortal-members")) {
        return;
    }
    if (member->is_pending) {
        member_remove(member, out);
        complete_join_if_all(group, out);
        return;
    }
    if (!member->is_new && (member->join != NULL || member->sync != NULL)) {
        return; /* who waits for us is alive; its session begins again with the answer */
    }
    mr_log(env_of(group)->log, MR_LOG_INFO, "group member is gone group=%.*s member=%.*s",
           group->id.len, group->id.data, member->id.len, member->id.data);
    member_remove(member, out);
    if (classic->state == MR_CLASSIC_PREPARING) {
        /* Kafka completes an initial rebalance here too when nobody is missing. */
        if (is_everybody_here(classic)) {
            complete_join(group, out);
        }
    } else {
        prepare_rebalance(group, out, "a session expired");
    }
}

/* ---- JoinGroup ---- */

static int32_t join_rebalance_ms(const struct mr_request *request)
{
    const struct mr_join_group_request *join = request->message;
    return request->forward->api_version == 0 || join->rebalance_timeout_ms < 0
               ? join->session_timeout_ms
               : join->rebalance_timeout_ms;
}

/* "/127.0.0.1", as Java prints an address. */
static struct mr_str host_text(const struct mr_request *request, struct mr_coord_out *out)
{
    struct mr_str host = request->forward->client_host;
    char *text = mr_coord_scratch(out, (size_t)(host.len > 0 ? host.len : 0) + 1);
    if (text == NULL) {
        return MR_STR("/");
    }
    text[0] = '/';
    if (host.len > 0) {
        memcpy(text + 1, host.data, (size_t)host.len);
    }
    return (struct mr_str){.data = text, .len = (host.len > 0 ? host.len : 0) + 1};
}

/* `<prefix>-<uuid>`; null when there is no scratch or the id would be too long for a record. */
static struct mr_str new_member_id(const struct mr_group *group, const struct mr_request *request,
                                   struct mr_coord_out *out)
{
    static const char digits[] = "0123456789abcdef";
    const struct mr_join_group_request *join = request->message;
    struct mr_str prefix = mr_str_is_null(join->group_instance_id) ? request->forward->client_id
                                                                   : join->group_instance_id;
    size_t prefix_bytes = prefix.len > 0 ? (size_t)prefix.len : 0;
    char *text = mr_coord_scratch(out, prefix_bytes + 37);
    if (text == NULL || prefix_bytes + 37 > INT16_MAX) {
        return MR_STR_NULL;
    }
    struct mr_uuid id;
    env_of(group)->uuid(env_of(group)->uuid_user, &id);
    if (prefix_bytes > 0) {
        memcpy(text, prefix.data, prefix_bytes);
    }
    char *at = text + prefix_bytes;
    *at++ = '-';
    for (uint32_t index = 0; index < sizeof id.bytes; index++) {
        if (index == 4 || index == 6 || index == 8 || index == 10) {
            *at++ = '-';
        }
        *at++ = digits[id.bytes[index] >> 4];
        *at++ = digits[id.bytes[index] & 15];
    }
    return (struct mr_str){.data = text, .len = (int32_t)(at - text)};
}

static bool is_accepted(const struct mr_group *group, struct mr_str member_id)
{
    const struct mr_classic *classic = &group->classic_part;
    const struct mr_classic_member *member = find_member(group, member_id);
    int64_t max = env_of(group)->size_max;
    switch (classic->state) {
    case MR_CLASSIC_EMPTY:
        return true;
    case MR_CLASSIC_PREPARING:
        return (member != NULL && member->join != NULL) || classic->joined_count < max;
    case MR_CLASSIC_COMPLETING:
    case MR_CLASSIC_STABLE:
        return member != NULL || classic->member_count < max;
    }
    mr_unreachable("no such state");
}

static void add_member(struct mr_group *group, struct mr_str member_id, struct mr_request *request,
                       struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = env_of(group)->heap;
    struct mr_classic_protocols *protocols =
        protocols_new(heap, join->protocols_count, join->protocols);
    struct mr_str client_id =
        mr_str_is_null(request->forward->client_id) ? MR_STR("") : request->forward->client_id;
    struct mr_classic_member *pending = find_any(group, member_id);
    if (pending != NULL) {
        mr_assert(pending->is_pending);
        member_id = (struct mr_str){.data = mr_coord_scratch(out, (size_t)member_id.len),
                                    .len = member_id.len};
        if (member_id.data != NULL) {
            memcpy((char *)(uintptr_t)member_id.data, pending->id.data, (size_t)member_id.len);
            member_remove(pending, out);
        }
    }
    struct mr_classic_member *member = protocols == NULL || member_id.data == NULL
                                           ? NULL
                                           : member_new(group, member_id, join->group_instance_id,
                                                        client_id, host_text(request, out));
    if (member != NULL) {
        member->protocols = protocols;
        member->session_ms = join->session_timeout_ms;
        member->rebalance_ms = join_rebalance_ms(request);
        member->is_new = true;
        if (!member_enter(member, join->protocol_type)) {
            mr_table_remove(&group->shard->members, &member->node);
            member_free(member);
            member = NULL;
            protocols = NULL;
        }
    }
    if (member == NULL) {
        protocols_free(heap, protocols);
        answer_join_error(out, group->shard, request, join->member_id,
                          MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    if (classic->state == MR_CLASSIC_PREPARING && classic->is_initial) {
        classic->has_new_member = true;
    }
    await_join(member, request, out);
    session_begin(member, NEW_MEMBER_JOIN_MS, out->now);
    rebalance_or_complete(group, out, "a member joined");
}

/* Replace what a member supports, and its timeouts. */
static bool update_member(struct mr_classic_member *member, struct mr_request *request)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_group *group = member->group;
    struct mr_classic_protocols *protocols =
        protocols_new(env_of(group)->heap, join->protocols_count, join->protocols);
    if (protocols == NULL || !names_add(group, protocols)) {
        protocols_free(env_of(group)->heap, protocols);
        return false;
    }
    names_drop(group, member->protocols);
    protocols_free(env_of(group)->heap, member->protocols);
    member->protocols = protocols;
    member->session_ms = join->session_timeout_ms;
    member->rebalance_ms = join_rebalance_ms(request);
    return true;
}

static void rejoin(struct mr_classic_member *member, struct mr_request *request,
                   struct mr_coord_out *out, const char *why)
{
    if (!update_member(member, request)) {
        answer_join_error(out, member->group->shard, request, member->id,
                          MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    await_join(member, request, out);
    rebalance_or_complete(member->group, out, why);
}

/* A static member comes back without its member id: a restart. */
static void replace_static(struct mr_classic_member *member, struct mr_str new_id,
                           struct mr_request *request, struct mr_coord_out *out)
{
    struct mr_group *group = member->group;
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = env_of(group)->heap;
    struct mr_str old_id = member->id;
    struct mr_str id;
    struct mr_str new_leader = MR_STR_NULL;
    bool was_leader = is_leader(group, member);
    if (!mr_heap_str(heap, new_id, &id)) {
        answer_join_error(out, group->shard, request, MR_STR(""),
                          MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    if ((was_leader && !mr_heap_str(heap, new_id, &new_leader)) ||
        !update_member(member, request)) {
        mr_heap_str_free(heap, &id);
        answer_join_error(out, group->shard, request, MR_STR(""),
                          MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    member_refuse(member, old_id, MR_KAFKA_FENCED_INSTANCE_ID, out);

    /* The old id lives on in answers of this step. */
    char *old_text = mr_coord_scratch(out, (size_t)old_id.len + 1);
    if (old_text != NULL) {
        memcpy(old_text, old_id.data, (size_t)old_id.len);
    }
    struct mr_str old_leader = classic->leader;
    if (was_leader && old_text != NULL) {
        old_leader = (struct mr_str){.data = old_text, .len = old_id.len};
    }
    for (struct mr_coord_answer *answer = out->answers; answer != NULL; answer = answer->next) {
        struct mr_join_group_response *fenced = (void *)(uintptr_t)answer->response;
        if (fenced != NULL && answer->request->forward->api_key == MR_API_JOIN_GROUP &&
            fenced->member_id.data == old_id.data) {
            fenced->member_id =
                (struct mr_str){.data = old_text, .len = old_text == NULL ? -1 : old_id.len};
        }
    }

    mr_table_remove(&group->shard->members, &member->node);
    mr_heap_str_free(heap, &member->id);
    member->id = id;
    mr_table_add(&group->shard->members, &member->node, member_hash(group, id));
    if (was_leader) {
        mr_heap_str_free(heap, &classic->leader);
        classic->leader = new_leader;
    }
    session_again(member, out->now);

    switch (classic->state) {
    case MR_CLASSIC_STABLE: {
        const struct mr_classic_name *chosen = choose(classic);
        if (chosen == NULL || !mr_str_equal(chosen->name, classic->protocol)) {
            await_join(member, request, out);
            prepare_rebalance(group, out, "a static member came back with other protocols");
            return;
        }
        /* No rebalance: the new id is written down, and the generation goes on. Before version 9 a
         * client that reads its own id as leader would assign anew, so it is told the old one. */
        if (!mr_group_record_metadata(group, classic->generation, out, NULL)) {
            answer_join_error(out, group->shard, request, MR_STR(""),
                              MR_KAFKA_UNKNOWN_SERVER_ERROR);
            return;
        }
        if (request->forward->api_version >= 9) {
            bool leads = is_leader(group, member);
            answer_join(out, member, request, MR_COORD_DURABLE, leads, classic->leader, leads);
        } else {
            answer_join(out, member, request, MR_COORD_DURABLE, false, old_leader, false);
        }
        return;
    }
    case MR_CLASSIC_COMPLETING:
        await_join(member, request, out);
        prepare_rebalance(group, out, "a static member came back");
        return;
    case MR_CLASSIC_PREPARING:
        await_join(member, request, out);
        complete_join_if_all(group, out);
        return;
    case MR_CLASSIC_EMPTY:
        break;
    }
    mr_unreachable("a member of an empty group");
}

static void join_new(struct mr_group *group, struct mr_request *request, struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    struct mr_classic *classic = &group->classic_part;
    bool is_static = !mr_str_is_null(join->group_instance_id);
    struct mr_str id = new_member_id(group, request, out);
    if (mr_str_is_null(id)) {
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    if (is_static) {
        struct mr_classic_member *member = find_instance(group, join->group_instance_id);
        if (member != NULL) {
            replace_static(member, id, request, out);
        } else {
            add_member(group, id, request, out);
        }
        return;
    }
    if (request->forward->api_version < 4) {
        add_member(group, id, request, out);
        return;
    }
    /* KIP-394: who does not come back with the id does not hold up a rebalance for ever. */
    struct mr_classic_member *pending =
        member_new(group, id, MR_STR_NULL, MR_STR_NULL, MR_STR_NULL);
    if (pending == NULL) {
        answer_join_error(out, group->shard, request, MR_STR(""),
                          MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    pending->is_pending = true;
    mr_list_add_tail(&classic->pending, &pending->link);
    classic->pending_count++;
    session_begin(pending, join->session_timeout_ms, out->now);
    answer_join_error(out, group->shard, request, id, MR_KAFKA_MEMBER_ID_REQUIRED);
}

static void join_known(struct mr_group *group, struct mr_request *request, struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    const struct mr_classic *classic = &group->classic_part;
    struct mr_classic_member *member = find_any(group, join->member_id);
    if (member != NULL && member->is_pending) {
        if (!mr_str_is_null(join->group_instance_id)) {
            mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
            return;
        }
        add_member(group, join->member_id, request, out);
        return;
    }
    int16_t error = mr_classic_check_member(group, join->member_id, join->group_instance_id);
    if (error != MR_KAFKA_NONE) {
        answer_join_error(out, group->shard, request, join->member_id, error);
        return;
    }
    bool leads = is_leader(group, member);
    switch (classic->state) {
    case MR_CLASSIC_PREPARING:
        rejoin(member, request, out, "a member joined again");
        return;
    case MR_CLASSIC_COMPLETING:
        /* Its answer was lost, or it has changed its mind. */
        if (is_same_protocols(member->protocols, join)) {
            answer_join(out, member, request, MR_COORD_NOW, leads, classic->leader, false);
        } else {
            rejoin(member, request, out, "a member changed its metadata");
        }
        return;
    case MR_CLASSIC_STABLE:
        /* A leader joins because it saw a change in the topics. */
        if (leads || !is_same_protocols(member->protocols, join)) {
            rejoin(member, request, out,
                   leads ? "the leader joined again" : "a member changed its metadata");
        } else {
            answer_join(out, member, request, MR_COORD_NOW, false, classic->leader, false);
        }
        return;
    case MR_CLASSIC_EMPTY:
        answer_join_error(out, group->shard, request, join->member_id, MR_KAFKA_UNKNOWN_MEMBER_ID);
        return;
    }
}

void mr_classic_join(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out)
{
    const struct mr_join_group_request *join = request->message;
    const struct mr_group_env *env = shard->env;
    if (join->group_id.len <= 0) {
        answer_join_error(out, shard, request, join->member_id, MR_KAFKA_INVALID_GROUP_ID);
        return;
    }
    if (join->session_timeout_ms < env->min_session_ms ||
        join->session_timeout_ms > env->max_session_ms) {
        answer_join_error(out, shard, request, join->member_id, MR_KAFKA_INVALID_SESSION_TIMEOUT);
        return;
    }
    bool is_unknown = join->member_id.len == 0;
    struct mr_group *group = mr_group_find(shard, join->group_id);
    if (group == NULL) {
        if (!is_unknown) {
            answer_join_error(out, shard, request, join->member_id, MR_KAFKA_UNKNOWN_MEMBER_ID);
            return;
        }
        if (join->protocol_type.len <= 0 || join->protocols_count <= 0 ||
            join->protocols_count > PROTOCOLS_MAX) {
            answer_join_error(out, shard, request, MR_STR(""),
                              MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL);
            return;
        }
        if (!mr_group_has_room(env) || !mr_group_record_created(shard, join->group_id, out)) {
            answer_join_error(out, shard, request, MR_STR(""), MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
            return;
        }
        out->is_again = true; /* the record makes the group; then join it */
        return;
    }
    if (!is_accepted(group, join->member_id)) {
        /* As Kafka: a member that comes back too late loses its place. */
        struct mr_classic_member *member = find_any(group, join->member_id);
        if (member != NULL) {
            member_remove(member, out);
        }
        answer_join_error(out, shard, request, MR_STR(""), MR_KAFKA_GROUP_MAX_SIZE_REACHED);
        return;
    }
    if (is_unknown && !mr_group_has_room(env)) {
        answer_join_error(out, shard, request, MR_STR(""), MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
        return;
    }
    if (!is_supported(group, join)) {
        answer_join_error(out, shard, request, join->member_id,
                          MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL);
        return;
    }
    if (is_unknown) {
        join_new(group, request, out);
    } else {
        join_known(group, request, out);
    }
}

/* ---- SyncGroup ---- */

static bool is_other(struct mr_str given, struct mr_str have)
{
    return !mr_str_is_null(given) && !mr_str_is_null(have) && !mr_str_equal(given, have);
}

static int16_t check_sync(const struct mr_group *group, const struct mr_request *request)
{
    const struct mr_sync_group_request *sync = request->message;
    if (request->forward->api_version >= 5 &&
        (mr_str_is_null(sync->protocol_type) || mr_str_is_null(sync->protocol_name))) {
        return MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    }
    if (sync->group_id.len <= 0) {
        return MR_KAFKA_INVALID_GROUP_ID;
    }
    if (group == NULL || group->classic_part.state == MR_CLASSIC_EMPTY) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    const struct mr_classic *classic = &group->classic_part;
    int16_t error = mr_classic_check_member(group, sync->member_id, sync->group_instance_id);
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    if (sync->generation_id != classic->generation) {
        return MR_KAFKA_ILLEGAL_GENERATION;
    }
    if (is_other(sync->protocol_type, classic->protocol_type) ||
        is_other(sync->protocol_name, classic->protocol)) {
        return MR_KAFKA_INCONSISTENT_GROUP_PROTOCOL;
    }
    return classic->state == MR_CLASSIC_PREPARING ? MR_KAFKA_REBALANCE_IN_PROGRESS : MR_KAFKA_NONE;
}

static void sync_came(struct mr_group *group, struct mr_classic_member *member)
{
    member->is_sync_pending = false;
    MR_LIST_EACH(link, &group->classic_part.members)
    {
        if (MR_LIST_ENTRY(link, struct mr_classic_member, link)->is_sync_pending) {
            return;
        }
    }
    rebalance_timer_off(group);
}

static struct mr_blob assignment_of(const struct mr_sync_group_request *sync,
                                    struct mr_str member_id)
{
    for (int32_t index = sync->assignments_count; index-- > 0;) {
        if (mr_str_equal(sync->assignments[index].member_id, member_id) || mr_bug("same-assignment")) {
            return sync->assignments[index].assignment;
        }
    }
    return no_assignment;
}

/* The leader's word: everybody who waits has an assignment as soon as it is durable. */
static void settle_assignment(struct mr_group *group, struct mr_request *request,
                              struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    const struct mr_sync_group_request *sync = request->message;
    bool is_written = mr_group_record_metadata(group, classic->generation, out, sync);
    if (!is_written || mr_coord_out_bytes(out) > env_of(group)->record_bytes_max) {
        /* Too large for the log: as Kafka, everybody hears of it and begins again. */
        mr_coord_out_forget_records(out);
        MR_LIST_EACH(link, &classic->members)
        {
            struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            if (member->sync != NULL) {
                answer_sync(out, group, member->sync, MR_KAFKA_UNKNOWN_SERVER_ERROR, no_assignment);
                member->sync = NULL;
                session_again(member, out->now);
            }
        }
        prepare_rebalance(group, out, "the assignment is too large");
        return;
    }
    MR_LIST_EACH(link, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (member->sync != NULL) {
            answer_sync(out, group, member->sync, MR_KAFKA_NONE, assignment_of(sync, member->id));
            member->sync = NULL;
            session_again(member, out->now);
        }
    }
}

void mr_classic_sync(const struct mr_group_shard *shard, struct mr_request *request,
                     struct mr_coord_out *out)
{
    const struct mr_sync_group_request *sync = request->message;
    struct mr_group *group = mr_group_find(shard, sync->group_id);
    int16_t error = check_sync(group, request);
    if (error != MR_KAFKA_NONE) {
        struct mr_sync_group_response *response =
            MR_COORD_NEW(out, struct mr_sync_group_response, 1);
        if (response != NULL) {
            MR_DEFAULTS(sync_group_response, response);
            response->error_code = error;
        }
        mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
        return;
    }
    struct mr_classic_member *member = find_member(group, sync->member_id);
    sync_came(group, member);
    if (group->classic_part.state == MR_CLASSIC_STABLE) {
        answer_sync(out, group, request, MR_KAFKA_NONE, member->assignment);
        return;
    }
    mr_assert(group->classic_part.state == MR_CLASSIC_COMPLETING);
    if (member->sync != NULL) {
        answer_sync(out, group, member->sync, MR_KAFKA_REBALANCE_IN_PROGRESS, no_assignment);
    }
    member->sync = request;
    if (is_leader(group, member)) {
        settle_assignment(group, request, out);
    }
}

/* ---- Heartbeat ---- */

static int16_t heartbeat(const struct mr_group_shard *shard,
                         const struct mr_heartbeat_request *beat, struct mr_now now)
{
    if (beat->group_id.len <= 0) {
        return MR_KAFKA_INVALID_GROUP_ID;
    }
    struct mr_group *group = mr_group_find(shard, beat->group_id);
    if (group == NULL) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    int16_t error = mr_classic_check_member(group, beat->member_id, beat->group_instance_id);
    if (error != MR_KAFKA_NONE) {
        return error;
    }
    if (beat->generation_id != group->classic_part.generation) {
        return MR_KAFKA_ILLEGAL_GENERATION;
    }
    session_again(find_member(group, beat->member_id), now);
    return group->classic_part.state == MR_CLASSIC_PREPARING && !mr_bug("quiet-heartbeat")
               ? MR_KAFKA_REBALANCE_IN_PROGRESS
               : MR_KAFKA_NONE;
}

void mr_classic_heartbeat(const struct mr_group_shard *shard, struct mr_request *request,
                          struct mr_coord_out *out)
{
    struct mr_heartbeat_response *response = MR_COORD_NEW(out, struct mr_heartbeat_response, 1);
    if (response != NULL) {
        MR_DEFAULTS(heartbeat_response, response);
        response->error_code = heartbeat(shard, request->message, out->now);
    }
    mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
}

/* ---- LeaveGroup ---- */

static int16_t leave(struct mr_group *group, struct mr_str member_id, struct mr_str instance_id,
                     struct mr_coord_out *out)
{
    if (group == NULL) {
        return MR_KAFKA_UNKNOWN_MEMBER_ID;
    }
    if (mr_bug("ignore-leave")) {
        return MR_KAFKA_NONE;
    }
    struct mr_classic_member *member;
    if (member_id.len <= 0) {
        /* An administrator removes a static member by its instance. */
        member = mr_str_is_null(instance_id) ? NULL : find_instance(group, instance_id);
        if (member == NULL) {
            return MR_KAFKA_UNKNOWN_MEMBER_ID;
        }
    } else {
        member = find_any(group, member_id);
        if (member == NULL || !member->is_pending) {
            int16_t error = mr_classic_check_member(group, member_id, instance_id);
            if (error != MR_KAFKA_NONE) {
                return error;
            }
        }
    }
    mr_log(env_of(group)->log, MR_LOG_INFO, "group member leaves group=%.*s member=%.*s",
           group->id.len, group->id.data, member->id.len, member->id.data);
    member_remove(member, out);
    return MR_KAFKA_NONE;
}

void mr_classic_leave(const struct mr_group_shard *shard, struct mr_request *request,
                      struct mr_coord_out *out)
{
    const struct mr_leave_group_request *message = request->message;
    bool is_batch = request->forward->api_version >= 3;
    struct mr_leave_group_response *response = MR_COORD_NEW(out, struct mr_leave_group_response, 1);
    if (response == NULL) {
        mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
        return;
    }
    MR_DEFAULTS(leave_group_response, response);
    if (message->group_id.len <= 0) {
        response->error_code = MR_KAFKA_INVALID_GROUP_ID;
        mr_coord_out_answer(out, request, shard->index, MR_COORD_NOW, response);
        return;
    }
    struct mr_group *group = mr_group_find(shard, message->group_id);
    bool is_anybody_gone = false;
    if (!is_batch) {
        response->error_code = leave(group, message->member_id, MR_STR_NULL, out);
        is_anybody_gone = response->error_code == MR_KAFKA_NONE;
    } else {
        response->members = MR_COORD_NEW(out, struct mr_leave_group_response_member_response,
                                         message->members_count);
        if (response->members == NULL) {
            mr_coord_out_refuse(out, request, MR_KAFKA_UNKNOWN_SERVER_ERROR);
            return;
        }
        for (int32_t index = 0; index < message->members_count; index++) {
            const struct mr_leave_group_request_member_identity *who = &message->members[index];
            int16_t error = leave(group, who->member_id, who->group_instance_id, out);
            is_anybody_gone = is_anybody_gone || error == MR_KAFKA_NONE;
            response->members[response->members_count++] =
                (struct mr_leave_group_response_member_response){
                    .member_id = who->member_id,
                    .group_instance_id = who->group_instance_id,
                    .error_code = error,
                };
        }
    }
    if (is_anybody_gone && group->classic_part.state != MR_CLASSIC_EMPTY) {
        rebalance_or_complete(group, out, "a member left");
    }
    mr_coord_out_answer(out, request, shard->index, MR_COORD_DURABLE, response);
}

/* ---- replay ---- */

static enum mr_err settle_member(struct mr_group *group,
                                 const struct mr_group_metadata_value *value,
                                 const struct mr_group_metadata_value_member_metadata *from)
{
    struct mr_classic_member *member = find_member(group, from->member_id);
    if (member == NULL) {
        /* Only on loading, with the one protocol that was chosen. */
        struct mr_join_group_request_protocol protocol = {
            .name = mr_str_is_null(value->protocol) ? MR_STR("") : value->protocol,
            .metadata = from->subscription,
        };
        member = member_new(group, from->member_id, from->group_instance_id, from->client_id,
                            from->client_host);
        if (member == NULL) {
            return MR_ERR_NO_MEMORY;
        }
        member->protocols = protocols_new(env_of(group)->heap, 1, &protocol);
        if (member->protocols == NULL || !member_enter(member, value->protocol_type)) {
            mr_table_remove(&group->shard->members, &member->node);
            member_free(member);
            return MR_ERR_NO_MEMORY;
        }
        member->session_ms = from->session_timeout;
        member->rebalance_ms =
            from->rebalance_timeout < 0 ? from->session_timeout : from->rebalance_timeout;
    }
    return member_set_assignment(member, from->assignment) ? MR_OK : MR_ERR_NO_MEMORY;
}

static bool is_in(const struct mr_group_metadata_value *value,
                  const struct mr_classic_member *member)
{
    for (int32_t index = 0; index < value->members_count; index++) {
        if (mr_str_equal(value->members[index].member_id, member->id)) {
            return true;
        }
    }
    return false;
}

/* Whether the record is of exactly those who are members, in their order: so it is when it is our
 * own. */
static bool is_of_members(const struct mr_classic *classic,
                          const struct mr_group_metadata_value *value)
{
    int32_t at = 0;
    MR_LIST_EACH(link, &classic->members)
    {
        const struct mr_classic_member *member =
            MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (at == value->members_count || !mr_str_equal(value->members[at].member_id, member->id)) {
            return false;
        }
        at++;
    }
    return at == value->members_count;
}

enum mr_err mr_classic_settle(struct mr_group *group, const struct mr_group_metadata_value *value)
{
    struct mr_classic *classic = &group->classic_part;
    struct mr_str type = value->protocol_type.len <= 0 ? MR_STR_NULL : value->protocol_type;
    if (!is_of_members(classic, value)) {
        MR_LIST_EACH_SAFE(link, after, &classic->members)
        {
            struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            if (!is_in(value, member)) {
                member_remove(member, NULL);
            }
        }
    }
    for (int32_t index = 0; index < value->members_count; index++) {
        enum mr_err err = settle_member(group, value, &value->members[index]);
        if (err != MR_OK) {
            return err;
        }
    }
    if (!is_set_str(group, &classic->protocol_type, type) ||
        !is_set_str(group, &classic->protocol, value->protocol) ||
        !is_set_str(group, &classic->leader, value->leader)) {
        return MR_ERR_NO_MEMORY;
    }
    classic->generation = value->generation;
    classic->state_ms = value->current_state_timestamp;
    classic->is_initial = false;
    classic->state = classic->member_count == 0 ? MR_CLASSIC_EMPTY : MR_CLASSIC_STABLE;
    return MR_OK;
}

void mr_classic_loaded(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    MR_LIST_EACH(link, &classic->members)
    {
        session_again(MR_LIST_ENTRY(link, struct mr_classic_member, link), out->now);
    }
    if (classic->member_count > env_of(group)->size_max) {
        prepare_rebalance(group, out, "more members than group.max.size");
    }
}
