/*
 * classic_protocols: what the members of a classic group support, and which protocol they choose.
 */
#include "coord/group/classic.h"

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

bool mr_classic_names_add(struct mr_group *group, const struct mr_classic_protocols *protocols)
{
    struct mr_classic *classic = &group->classic_part;
    struct mr_heap *heap = mr_classic_env(group)->heap;
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

void mr_classic_names_drop(struct mr_group *group, const struct mr_classic_protocols *protocols)
{
    for (uint32_t index = 0; index < protocols->count; index++) {
        struct mr_classic_name *entry =
            find_name(&group->classic_part, protocols->items[index].name);
        if (entry != NULL && --entry->count == 0) {
            mr_list_remove(&entry->link);
            mr_heap_str_free(mr_classic_env(group)->heap, &entry->name);
            MR_HEAP_DELETE(mr_classic_env(group)->heap, entry);
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

struct mr_classic_protocols *mr_classic_protocols_new(
    struct mr_heap *heap, int32_t count, const struct mr_join_group_request_protocol *from)
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

void mr_classic_protocols_free(struct mr_heap *heap, struct mr_classic_protocols *protocols)
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

bool mr_classic_protocols_has(const struct mr_classic_protocols *protocols, struct mr_str name)
{
    for (uint32_t index = 0; index < protocols->count; index++) {
        if (mr_str_equal(protocols->items[index].name, name)) {
            return true;
        }
    }
    return false;
}

bool mr_classic_protocols_equal(const struct mr_classic_protocols *a,
                                const struct mr_classic_protocols *b)
{
    for (uint32_t index = 0; index < a->count && a->count == b->count; index++) {
        if (!mr_str_equal(a->items[index].name, b->items[index].name) ||
            !is_blob_equal(a->items[index].metadata, b->items[index].metadata)) {
            return false;
        }
    }
    return a->count == b->count;
}

bool mr_classic_is_same_protocols(const struct mr_classic_protocols *have,
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
bool mr_classic_is_supported(const struct mr_group *group, const struct mr_join_group_request *join)
{
    const struct mr_classic *classic = &group->classic_part;
    if (join->protocol_type.len <= 0 || join->protocols_count <= 0 ||
        join->protocols_count > MR_CLASSIC_PROTOCOLS_MAX) {
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
const struct mr_classic_name *mr_classic_choose(const struct mr_classic *classic)
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
