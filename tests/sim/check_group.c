#include "check_group.h"

#include "millrace/base/fmt.h"

void mr_check_group_init(struct mr_check_group *check, struct mr_arena *arena)
{
    *check = (struct mr_check_group){.newest = -1};
    check->generations = MR_ARENA_GET(arena, struct mr_check_generation, MR_CHECK_GROUP_GENERATIONS);
    check->commits = MR_ARENA_GET(arena, struct mr_check_commit, MR_CHECK_GROUP_COMMITS);
}

static void found(struct mr_check_group *check, const char *what, int64_t a, int64_t b)
{
    if (mr_check_group_is_ok(check)) {
        mr_fmt(check->why, sizeof check->why, "group: %s (%lld, %lld)", what, (long long)a, (long long)b);
    }
}

void mr_check_group_assigned(struct mr_check_group *check, int32_t generation, uint32_t member, uint32_t mask,
                             int32_t made_for)
{
    if (generation < 0 || generation >= MR_CHECK_GROUP_GENERATIONS) {
        found(check, "an impossible generation", generation, member);
        return;
    }
    if (mask != 0 && made_for != generation) {
        found(check, "an assignment made for another generation", generation, made_for);
    }
    for (uint32_t partition = 0; partition < MR_CHECK_GROUP_PARTITIONS; partition++) {
        uint32_t *owner = &check->generations[generation].owners[partition];
        if ((mask >> partition & 1u) == 0) {
            continue;
        }
        if (*owner != 0 && *owner != member + 1) {
            found(check, "two owners of a partition in generation", generation, partition);
        }
        *owner = member + 1;
    }
    check->newest = generation > check->newest ? generation : check->newest;
    check->assigned_count++;
}

uint32_t mr_check_group_commit(struct mr_check_group *check, int32_t generation, uint32_t partition)
{
    if (check->commit_count == MR_CHECK_GROUP_COMMITS) {
        return UINT32_MAX;
    }
    check->commits[check->commit_count] = (struct mr_check_commit){
        .partition = partition,
        .generation = generation,
        .is_late = generation < check->newest,
        .sent_at = ++check->event,
        .done_at = UINT64_MAX,
    };
    return check->commit_count++;
}

void mr_check_group_acked(struct mr_check_group *check, uint32_t commit)
{
    struct mr_check_commit *it = &check->commits[commit];
    it->is_acked = true;
    it->done_at = ++check->event;
    check->acked_count++;
    if (it->is_late) {
        found(check, "a commit of an old generation was accepted", it->generation, check->newest);
    }
}

void mr_check_group_refused(struct mr_check_group *check, uint32_t commit)
{
    check->commits[commit].is_refused = true;
    check->commits[commit].done_at = ++check->event;
}

uint64_t mr_check_group_read(struct mr_check_group *check)
{
    return ++check->event;
}

void mr_check_group_seen(struct mr_check_group *check, uint64_t sent_at, uint32_t partition, int64_t offset)
{
    uint64_t seen_done_at = 0; /* nothing: before every commit */
    if (offset >= (int64_t)check->commit_count || offset < -1) {
        found(check, "an offset that nobody committed", partition, offset);
        return;
    }
    if (offset >= 0) {
        const struct mr_check_commit *seen = &check->commits[offset];
        if (seen->partition != partition) {
            found(check, "the offset of another partition", partition, offset);
        }
        if (seen->is_refused) {
            found(check, "a commit that was refused is visible", partition, offset);
        }
        seen_done_at = seen->done_at;
    }
    for (uint32_t index = 0; index < check->commit_count; index++) {
        const struct mr_check_commit *other = &check->commits[index];
        if (other->partition == partition && other->is_acked && other->done_at < sent_at &&
            other->sent_at > seen_done_at) {
            found(check, "an acknowledged commit is lost", index, offset);
        }
    }
}
