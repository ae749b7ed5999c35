/*
 * consumer_reconcile: one member towards its target.
 *
 * What it has and shall keep, it keeps; what it has and shall not keep it must give back first, at
 * its old epoch; only then it gets the rest, as far as others have given that back.
 */
#include "coord/group/consumer.h"
#include "millrace/base/bug.h"

struct work {
    const struct mr_consumer_member *member;
    const struct mr_parts *owned; /* NULL: not told */
    struct mr_arena *scratch;
    struct mr_consumer_current *next;
};

/* Does the member say, by silence too, that it still has some of these? */
static bool still_has(const struct work *work, const struct mr_parts *set)
{
    return work->owned == NULL || mr_parts_touch(work->owned, set);
}

static void enter(struct work *work, enum mr_consumer_state state, int32_t epoch)
{
    work->next->state = state;
    work->next->previous_epoch = work->member->epoch;
    work->next->epoch = epoch;
}

/* The topics of the member by id: what it subscribes to of its target counts. */
static bool is_wanted(const struct work *work, const struct mr_part *part)
{
    const struct mr_image *image = work->member->group->shard->env->image;
    const struct mr_image_topic *topic =
        image == NULL ? NULL : mr_image_topic_by_id(image, &part->topic_id);
    return topic != NULL && mr_consumer_subscribes(work->member, topic->name);
}

static bool reserve(struct work *work, struct mr_parts *set, uint32_t count)
{
    return mr_parts_begin(set, count, work->scratch);
}

static void add(struct mr_parts *set, const struct mr_part *part)
{
    set->items[set->count++] = *part;
}

static int16_t compute(struct work *work)
{
    const struct mr_consumer_member *member = work->member;
    const struct mr_consumer *consumer = member->group->consumer;
    struct mr_consumer_current *next = work->next;
    bool is_unreleased = false;
    bool is_any_new = false;
    if (!reserve(work, &next->assigned, member->assigned.count + member->target.count) ||
        !reserve(work, &next->pending, member->assigned.count)) {
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    for (uint32_t at = 0; at < member->assigned.count; at++) {
        const struct mr_part *part = &member->assigned.items[at];
        bool is_kept = mr_parts_has(&member->target, part) && is_wanted(work, part);
        add(is_kept ? &next->assigned : &next->pending, part);
    }
    bool must_give_back = next->pending.count > 0 && still_has(work, &next->pending);
    if (must_give_back && !mr_bug("no-revocation")) {
        enter(work, MR_CONSUMER_UNREVOKED, member->epoch);
        return MR_KAFKA_NONE;
    }
    for (uint32_t at = 0; at < member->target.count; at++) {
        struct mr_part part = member->target.items[at];
        if (mr_parts_has(&member->assigned, &part) || !is_wanted(work, &part)) {
            continue;
        }
        const struct mr_consumer_member *owner = mr_consumer_owner(member->group, &part);
        if (owner != NULL && owner != member && !mr_bug("assign-owned")) {
            is_unreleased = true;
            continue;
        }
        part.epoch = consumer->assignment_epoch;
        add(&next->assigned, &part);
        is_any_new = true;
    }
    next->pending.count = 0;
    if (is_any_new) {
        mr_parts_settle(&next->assigned);
    }
    enter(work, is_unreleased ? MR_CONSUMER_UNRELEASED : MR_CONSUMER_STABLE,
          consumer->assignment_epoch);
    return MR_KAFKA_NONE;
}

/* No new target, but topics that it does not subscribe to any more: those go at once. */
static int16_t drop_unwanted(struct work *work)
{
    const struct mr_consumer_member *member = work->member;
    struct mr_consumer_current *next = work->next;
    struct mr_parts dropped;
    if (!reserve(work, &next->assigned, member->assigned.count) ||
        !reserve(work, &dropped, member->assigned.count) ||
        !reserve(work, &next->pending, member->assigned.count + member->pending.count)) {
        return MR_KAFKA_UNKNOWN_SERVER_ERROR;
    }
    for (uint32_t at = 0; at < member->assigned.count; at++) {
        const struct mr_part *part = &member->assigned.items[at];
        add(is_wanted(work, part) ? &next->assigned : &dropped, part);
    }
    for (uint32_t at = 0; at < member->pending.count; at++) {
        add(&next->pending, &member->pending.items[at]);
    }
    if (dropped.count == 0) {
        next->assigned = member->assigned;
        return MR_KAFKA_NONE;
    }
    if (still_has(work, &dropped)) {
        for (uint32_t at = 0; at < dropped.count; at++) {
            add(&next->pending, &dropped.items[at]);
        }
        mr_parts_settle(&next->pending);
        enter(work, MR_CONSUMER_UNREVOKED, member->epoch);
    }
    return MR_KAFKA_NONE;
}

int16_t mr_consumer_reconcile(const struct mr_consumer_member *member,
                              const struct mr_parts *owned, struct mr_arena *scratch,
                              struct mr_consumer_current *next)
{
    struct work work = {.member = member, .owned = owned, .scratch = scratch, .next = next};
    *next = (struct mr_consumer_current){
        .epoch = member->epoch,
        .previous_epoch = member->previous_epoch,
        .state = member->state,
        .assigned = member->assigned,
        .pending = member->pending,
    };
    switch (member->state) {
    case MR_CONSUMER_STABLE:
        return member->epoch != member->group->consumer->assignment_epoch ? compute(&work)
                                                                          : drop_unwanted(&work);
    case MR_CONSUMER_UNREVOKED:
        return still_has(&work, &member->pending) && !mr_bug("give-back-unasked")
                   ? drop_unwanted(&work)
                   : compute(&work);
    case MR_CONSUMER_UNRELEASED:
        return compute(&work);
    case MR_CONSUMER_UNKNOWN:
        return owned == NULL || owned->count > 0 ? MR_KAFKA_FENCED_MEMBER_EPOCH : compute(&work);
    }
    mr_unreachable("no such state");
}
