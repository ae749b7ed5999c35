/*
 * assignor_range: for each topic the partitions in order, cut into as many ranges as it has
 * subscribers: topics with equally many partitions and the same subscribers are cut alike.
 */
#include "coord/group/assignor.h"
#include "millrace/base/sort.h"

/* Static members first, by instance; then the others, by member id. */
static bool is_before(const void *user, const void *a, const void *b)
{
    const struct mr_assignor_spec *spec = user;
    const struct mr_assignor_member *x = &spec->members[*(const uint32_t *)a];
    const struct mr_assignor_member *y = &spec->members[*(const uint32_t *)b];
    bool is_static_x = !mr_str_is_null(x->instance_id);
    bool is_static_y = !mr_str_is_null(y->instance_id);
    if (is_static_x != is_static_y) {
        return is_static_x;
    }
    return is_static_x ? mr_str_compare(x->instance_id, y->instance_id) < 0
                       : mr_str_compare(x->id, y->id) < 0;
}

struct range {
    uint32_t subscribers; /* that have not got theirs yet */
    uint32_t next;        /* partition */
};

bool mr_assignor_range(const struct mr_assignor_spec *spec, struct mr_arena *scratch,
                       uint32_t *owners)
{
    uint32_t *order = MR_ARENA_TRY(scratch, uint32_t, spec->member_count);
    struct range *ranges = MR_ARENA_TRY(scratch, struct range, spec->topic_count + 1u);
    if (order == NULL || ranges == NULL) {
        return false;
    }
    memset(owners, 0xff, sizeof *owners * spec->partition_count);
    memset(ranges, 0, sizeof *ranges * spec->topic_count);
    for (uint32_t at = 0; at < spec->member_count; at++) {
        order[at] = at;
        for (uint32_t index = 0; index < spec->members[at].topic_count; index++) {
            ranges[spec->members[at].topics[index]].subscribers++;
        }
    }
    mr_sort(order, spec->member_count, sizeof *order, is_before, spec);
    for (uint32_t at = 0; at < spec->member_count; at++) {
        const struct mr_assignor_member *member = &spec->members[order[at]];
        for (uint32_t index = 0; index < member->topic_count; index++) {
            const struct mr_assignor_topic *topic = &spec->topics[member->topics[index]];
            struct range *range = &ranges[member->topics[index]];
            /* Of what is left the even share, rounded up: so the longer ranges come first. */
            uint32_t left = topic->partition_count - range->next;
            uint32_t share = (left + range->subscribers - 1) / range->subscribers;
            for (; share > 0; share--) {
                owners[topic->first + range->next++] = order[at];
            }
            range->subscribers--;
        }
    }
    return true;
}
