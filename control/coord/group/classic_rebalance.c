/*
 * classic_rebalance: from a reason to a generation, and the timers that end its phases.
 */
#include "coord/group/classic.h"
#include "millrace/base/bug.h"

static bool is_everybody_here(const struct mr_classic *classic)
{
    return classic->joined_count == classic->member_count && classic->pending_count == 0;
}

/* Everybody is in a generation without an assignment. */
static void begin_generation(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    const struct mr_classic_name *chosen = mr_classic_choose(classic);
    if (chosen == NULL || !mr_classic_set_str(group, &classic->protocol, chosen->name)) {
        /* No memory for a name: try again after another phase. */
        mr_classic_rebalance_timer(group, mr_classic_rebalance_ms(classic), out->now);
        return;
    }
    classic->generation = mr_group_next_epoch(classic->generation);
    classic->state = MR_CLASSIC_COMPLETING;
    classic->is_initial = false;
    classic->state_ms = out->now.unix_ms;
    mr_log(mr_classic_env(group)->log, MR_LOG_INFO,
           "group has a generation group=%.*s generation=%d members=%u protocol=%.*s",
           group->id.len, group->id.data, classic->generation, classic->member_count,
           classic->protocol.len, classic->protocol.data);
    MR_LIST_EACH(link, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        struct mr_request *request = mr_classic_take_join(member);
        if (request != NULL) {
            mr_classic_answer_join(out, member, request, MR_COORD_NOW,
                                   mr_classic_leads(group, member), classic->leader, false);
        }
        mr_classic_session_again(member, out->now);
        member->is_new = false;
        member->is_sync_pending = true;
    }
    mr_classic_rebalance_timer(group, mr_classic_rebalance_ms(classic), out->now);
}

/* The join phase is over: with those who are here. */
static void complete_join(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    mr_assert(classic->state == MR_CLASSIC_PREPARING);
    mr_classic_rebalance_timer_off(group);
    MR_LIST_EACH_SAFE(link, after, &classic->members)
    {
        struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
        if (member->join == NULL && mr_str_is_null(member->instance_id)) {
            mr_classic_member_remove(member, out);
        }
    }
    if (classic->member_count == 0) {
        mr_log(mr_classic_env(group)->log, MR_LOG_INFO, "group is empty group=%.*s generation=%d",
               group->id.len, group->id.data, mr_group_next_epoch(classic->generation));
        if (!mr_group_record_empty(group, mr_group_next_epoch(classic->generation), out)) {
            mr_classic_rebalance_timer(group, MR_CLASSIC_NEW_MEMBER_MS, out->now);
        }
        return;
    }
    /* Static members stay without having joined, but only somebody who is here can lead. */
    const struct mr_classic_member *leader = mr_classic_find(group, classic->leader);
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
        if (joined == NULL || !mr_classic_set_str(group, &classic->leader, joined->id)) {
            mr_classic_rebalance_timer(group, mr_classic_rebalance_ms(classic), out->now);
            return;
        }
    }
    begin_generation(group, out);
}

void mr_classic_complete_join_if_all(struct mr_group *group, struct mr_coord_out *out)
{
    const struct mr_classic *classic = &group->classic_part;
    if (classic->state == MR_CLASSIC_PREPARING && !classic->is_initial &&
        is_everybody_here(classic)) {
        complete_join(group, out);
    }
}

void mr_classic_prepare_rebalance(struct mr_group *group, struct mr_coord_out *out, const char *why)
{
    struct mr_classic *classic = &group->classic_part;
    mr_assert(classic->state != MR_CLASSIC_PREPARING);
    if (classic->state == MR_CLASSIC_COMPLETING) {
        MR_LIST_EACH(link, &classic->members)
        {
            struct mr_classic_member *member = MR_LIST_ENTRY(link, struct mr_classic_member, link);
            (void)mr_classic_member_set_assignment(member, mr_classic_no_assignment);
            if (member->sync != NULL) {
                mr_classic_answer_sync(out, group, member->sync, MR_KAFKA_REBALANCE_IN_PROGRESS,
                                       mr_classic_no_assignment);
                member->sync = NULL;
                mr_classic_session_again(member, out->now);
            }
        }
    }
    MR_LIST_EACH(link, &classic->members)
    {
        MR_LIST_ENTRY(link, struct mr_classic_member, link)->is_sync_pending = false;
    }
    mr_classic_rebalance_timer_off(group);
    mr_log(mr_classic_env(group)->log, MR_LOG_INFO,
           "group rebalances group=%.*s generation=%d why=\"%s\"", group->id.len, group->id.data,
           classic->generation, why);
    classic->is_initial = classic->state == MR_CLASSIC_EMPTY;
    classic->state = MR_CLASSIC_PREPARING;
    classic->state_ms = out->now.unix_ms;
    if (classic->is_initial) {
        int32_t delay = mr_classic_env(group)->initial_delay_ms;
        int32_t longest = mr_classic_rebalance_ms(classic);
        classic->delay_ms = delay;
        classic->delay_left_ms = longest > delay ? longest - delay : 0;
        classic->has_new_member = false;
        mr_classic_rebalance_timer(group, delay, out->now);
    } else if (is_everybody_here(classic)) {
        complete_join(group, out);
    } else {
        mr_classic_rebalance_timer(group, mr_classic_rebalance_ms(classic), out->now);
    }
}

void mr_classic_rebalance_or_complete(struct mr_group *group, struct mr_coord_out *out,
                                      const char *why)
{
    if (group->classic_part.state == MR_CLASSIC_PREPARING) {
        mr_classic_complete_join_if_all(group, out);
    } else {
        mr_classic_prepare_rebalance(group, out, why);
    }
}

void mr_classic_rebalance_due(struct mr_group *group, struct mr_coord_out *out)
{
    struct mr_classic *classic = &group->classic_part;
    if (classic->state == MR_CLASSIC_PREPARING) {
        if (classic->is_initial && classic->has_new_member && classic->delay_left_ms > 0) {
            /* Who comes in a crowd brings others: another delay, up to the rebalance timeout. */
            int32_t before = classic->delay_ms;
            int32_t delay = mr_classic_env(group)->initial_delay_ms;
            classic->has_new_member = false;
            classic->delay_ms = delay < classic->delay_left_ms ? delay : classic->delay_left_ms;
            classic->delay_left_ms =
                classic->delay_left_ms > before ? classic->delay_left_ms - before : 0;
            mr_classic_rebalance_timer(group, classic->delay_ms, out->now);
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
            mr_classic_member_remove(member, out);
        }
    }
    if (is_any) {
        mr_classic_prepare_rebalance(group, out, "members sent no SyncGroup in time");
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
        mr_classic_member_remove(member, out);
        mr_classic_complete_join_if_all(group, out);
        return;
    }
    if (!member->is_new && (member->join != NULL || member->sync != NULL)) {
        return; /* who waits for us is alive; its session begins again with the answer */
    }
    mr_log(mr_classic_env(group)->log, MR_LOG_INFO, "group member is gone group=%.*s member=%.*s",
           group->id.len, group->id.data, member->id.len, member->id.data);
    mr_classic_member_remove(member, out);
    if (classic->state == MR_CLASSIC_PREPARING) {
        /* Kafka completes an initial rebalance here too when nobody is missing. */
        if (is_everybody_here(classic)) {
            complete_join(group, out);
        }
    } else {
        mr_classic_prepare_rebalance(group, out, "a session expired");
    }
}
