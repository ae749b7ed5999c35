/*
 * assignor_uniform: balanced and sticky, for members that all subscribe to the same topics.
 */
#include "coord/group/assignor.h"

#include "millrace/base/bug.h"

mr_assignor *mr_assignor_find(struct mr_str name)
{
    if (mr_str_equal(name, MR_STR("uniform"))) {
        return mr_assignor_uniform;
    }
    return mr_str_equal(name, MR_STR("range")) ? mr_assignor_range : NULL;
}

static bool is_same_subscription(const struct mr_assignor_member *a,
                                 const struct mr_assignor_member *b)
{
    return a->topic_count == b->topic_count &&
           (a->topic_count == 0 ||
            memcmp(a->topics, b->topics, sizeof *a->topics * a->topic_count) == 0);
}

/*
 * How many partitions a member ends with: the quota of all, and one more for as many members as
 * there are left over. Who comes first takes one, unless it would not fill it and enough come
 * behind it.
 */
static uint32_t quota_of(const struct mr_assignor_spec *spec, uint32_t at, uint32_t owned,
                         uint32_t *extra)
{
    if (mr_bug("assign-all-to-first")) {
        return at == 0 ? spec->partition_count : 0;
    }
    uint32_t quota = spec->partition_count / spec->member_count;
    if (*extra > 0 && (owned > quota || spec->member_count - at <= *extra)) {
        *extra -= 1;
        return quota + 1;
    }
    return quota;
}

bool mr_assignor_uniform(const struct mr_assignor_spec *spec, struct mr_arena *scratch,
                         uint32_t *owners)
{
    for (uint32_t at = 1; at < spec->member_count; at++) {
        if (!is_same_subscription(&spec->members[0], &spec->members[at])) {
            return mr_assignor_mixed(spec, scratch, owners);
        }
    }
    uint32_t *room = MR_ARENA_TRY(scratch, uint32_t, spec->member_count);
    uint32_t *open = MR_ARENA_TRY(scratch, uint32_t, spec->partition_count + 1u);
    if (room == NULL || open == NULL) {
        return false;
    }
    memset(owners, 0xff, sizeof *owners * spec->partition_count);
    for (uint32_t at = 0; at < spec->member_count; at++) {
        for (uint32_t index = 0; index < spec->members[at].owned_count; index++) {
            owners[spec->members[at].owned[index]] = at;
        }
    }
    uint32_t open_count = 0;
    for (uint32_t partition = 0; partition < spec->partition_count; partition++) {
        if (owners[partition] == MR_ASSIGNOR_NOBODY) {
            open[open_count++] = partition;
        }
    }
    uint32_t extra = spec->partition_count % spec->member_count;
    for (uint32_t at = 0; at < spec->member_count; at++) {
        const struct mr_assignor_member *member = &spec->members[at];
        uint32_t quota = quota_of(spec, at, member->owned_count, &extra);
        uint32_t kept = member->owned_count < quota ? member->owned_count : quota;
        for (uint32_t index = kept; index < member->owned_count; index++) {
            open[open_count++] = member->owned[index];
        }
        room[at] = quota - kept;
    }
    for (uint32_t at = 0, next = 0; at < spec->member_count; at++) {
        for (; room[at] > 0 && next < open_count; room[at]--) {
            owners[open[next++]] = at;
        }
    }
    return true;
}
