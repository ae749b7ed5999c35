/*
 * retention: which segments have had their time. Every log.retention.check.interval.ms all logs are looked at,
 * a few per turn. The rules are Kafka's (4.4), oldest segment first, up to the first that must stay:
 *
 *   below the log start   the next segment begins at or below it                any cleanup policy
 *   too much              without it the log still has retention.bytes          delete
 *   too old               its largest timestamp is retention.ms ago             delete
 *
 * With millrace.retention.clock=append a segment's last change counts instead of what its records say. A record from the
 * future keeps its segment, and all behind it, until its time has come: that is Kafka's rule too, but a line says so.
 *
 * What a time index says of a segment from before this start is not believed before the segment is deleted for it: the
 * batches are asked (time_search.c), and where they say otherwise the last change of the file counts.
 *
 * Nothing is too old while the wall clock is doubted (wall_clock.h): after a jump by more than five minutes, until it has
 * held for an hour or is back.
 *
 * A segment goes only when it ends at or below the high watermark; an empty active one stays, and when all would
 * go, a new one begins first. The log start moves in the journal; files follow it (burial.c).
 */
#include "storage_core.h"

#include "millrace/base/bug.h"

#define LOGS_PER_TURN      64u
#define FUTURE_MS          3600000 /* what is ahead by more than Kafka lets producers be: message.timestamp.after.max.ms */
#define FUTURE_EVERY_NS    (60 * MR_NS_PER_S)
#define PRODUCERS_PER_TURN 1000u

/* When a segment was new: its largest timestamp, or where none counts, its last change. */
static int64_t time_of(const struct mr_log_config *config, const struct mr_segment *segment)
{
    bool is_by_record = !config->is_retention_by_append || mr_bug("believe-record-times");
    return is_by_record && segment->max_timestamp >= 0 ? segment->max_timestamp : segment->changed_ms;
}

static void tell_of_the_future(struct mr_storage_core *core, const struct mr_partition *p,
                               const struct mr_segment *segment, int64_t ahead_ms)
{
    if (mr_log_may(&core->brake_future, core->now.mono_ns, FUTURE_EVERY_NS)) {
        mr_log(core->log, MR_LOG_WARN,
               "a record from the future keeps its segment and those behind it: millrace.retention.clock=append does not "
               "look at it dir=%s segment=%lld timestamp=%lld ahead_s=%lld",
               p->dir_name, (long long)segment->base, (long long)segment->max_timestamp, (long long)(ahead_ms / 1000));
    }
}

struct verdict {
    int64_t            start;    /* the log start after it */
    bool               is_all;   /* the active segment goes too */
    struct mr_segment *unknown;  /* its time must be learnt, or proven, first; NULL: the verdict is whole */
};

static struct verdict judge(struct mr_storage_core *core, const struct mr_partition *p)
{
    const struct mr_log_config *config = &p->config;
    struct verdict              verdict = {.start = p->log_start};
    int64_t                     total = mr_partition_bytes(p);
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        struct mr_segment *next = mr_segment_next(segment);
        int64_t            end = next == NULL ? p->end.offset : next->base;
        if (segment->is_gone) {
            continue;
        }
        if (end > p->high_watermark.offset || (next == NULL && segment->size == 0)) {
            break;
        }
        int64_t left = total - (mr_bug("retain-too-little") ? 0 : segment->size);
        bool    is_too_much = config->retention_bytes >= 0 && left >= config->retention_bytes;
        if (!is_too_much) {
            if (config->retention_ms < 0 || core->wall_clock.is_doubted) {
                break;
            }
            if (!segment->is_time_known) {
                verdict.unknown = segment->is_swapping ? NULL : segment;
                break;
            }
            int64_t age_ms = core->now.unix_ms - time_of(config, segment);
            if (age_ms <= config->retention_ms) {
                if (age_ms < -FUTURE_MS) {
                    tell_of_the_future(core, p, segment, -age_ms);
                }
                break;
            }
            if (segment->is_time_unproven && !config->is_retention_by_append ) {
                verdict.unknown = segment->is_swapping || mr_cleaner_is_gated(core, segment) ? NULL : segment;
                break;
            }
        }
        total -= segment->size;
        verdict.start = end;
        verdict.is_all = next == NULL;
    }
    return verdict;
}

static enum mr_err execute(struct mr_storage_core *core, struct mr_partition *p, const struct verdict *verdict)
{
    if (verdict->is_all) {
        if (p->tail == MR_TAIL_READING || p->part_of != NULL) {
            return MR_AGAIN;
        }
        enum mr_err err = mr_roll(core, p);
        if (err != MR_OK) {
            return err;
        }
    }
    struct mr_journal_entry entry = {.kind = MR_JOURNAL_LOG_START, .offset = verdict->start};
    uint64_t                seq = 0;
    enum mr_err             err = mr_journal_add(core->journal, &p->jlog, &entry, NULL, &seq);
    if (err == MR_OK) {
        mr_partition_log_start(core, p, verdict->start, seq);
    }
    return err;
}

/* MR_AGAIN: not now, ask again in a later turn. */
static enum mr_err check(struct mr_storage_core *core, struct mr_partition *p);

void mr_retention_proved(struct mr_storage_core *core, struct mr_partition *p, bool is_open)
{
    p->is_retaining = false;
    if (!is_open) {
        (void)check(core, p); /* what finds no room now finds it at the next check */
    }
}

static bool retain_step(struct mr_storage_core *core, struct mr_task *task)
{
    struct mr_partition *p = task->partition;
    if (!task->segment->is_time_known) {
        return mr_segment_time_learn(core, task, task->segment, 0);
    }
    mr_retention_proved(core, p, false);
    return false;
}

/* False: no task is free. */
static bool find_out(struct mr_storage_core *core, struct mr_partition *p, struct mr_segment *segment)
{
    p->is_retaining = true;
    if (segment->is_time_known) {
        return mr_time_prove_start(core, segment);
    }
    struct mr_task *task = mr_core_task(core, p, retain_step);
    if (task == NULL) {
        return false;
    }
    task->segment = segment;
    mr_core_task_start(core, task);
    return true;
}

static enum mr_err check(struct mr_storage_core *core, struct mr_partition *p)
{
    if (p->state != MR_PARTITION_OPEN || p->is_retaining || mr_bug("keep-segments")) {
        return MR_OK;
    }
    mr_partition_mark_gone(core, p);
    if (!p->config.is_cleanup_delete) {
        return MR_OK;
    }
    struct verdict verdict = judge(core, p);
    if (verdict.start > p->log_start) {
        enum mr_err err = execute(core, p, &verdict);
        if (err != MR_OK) {
            return err;
        }
    }
    if (verdict.unknown != NULL && !find_out(core, p, verdict.unknown)) {
        p->is_retaining = false;
        return MR_AGAIN;
    }
    return MR_OK;
}

static void look_at_clock(struct mr_storage_core *core)
{
    struct mr_wall_clock *clock = &core->wall_clock;
    switch (mr_wall_clock_look(clock, core->now)) {
    case MR_WALL_CLOCK_SAME:
        return;
    case MR_WALL_CLOCK_DOUBTED:
        mr_log(core->log, MR_LOG_WARN, "the wall clock jumped by %lld s: nothing is deleted for its age until it has held "
               "for an hour", (long long)(clock->jump_ms / 1000));
        return;
    case MR_WALL_CLOCK_BELIEVED:
        mr_log(core->log, MR_LOG_INFO, "the wall clock is believed again: retention by time goes on");
        return;
    }
}

static void expire_producers(struct mr_storage_core *core)
{
    if (core->now.mono_ns < core->producers_at_ns || core->wall_clock.is_doubted) {
        return;
    }
    bool is_more = mr_producers_expire(&core->producers, core->now.unix_ms, PRODUCERS_PER_TURN);
    core->producers_at_ns = mr_deadline_ms(core->now.mono_ns, is_more ? 1 : core->plan.producer_check_ms);
}

void mr_retention_turn(struct mr_storage_core *core)
{
    if (core->is_offline) {
        return;
    }
    if (core->retention_at_ns == 0) {
        int64_t first_ms = core->plan.retention_check_ms < core->plan.first_check_ms ? core->plan.retention_check_ms
                                                                                     : core->plan.first_check_ms;
        core->retention_at_ns = mr_deadline_ms(core->now.mono_ns, first_ms);
        core->producers_at_ns = mr_deadline_ms(core->now.mono_ns, core->plan.producer_check_ms);
    }
    look_at_clock(core);
    expire_producers(core);
    if (core->retention_next == NULL) {
        if (core->now.mono_ns < core->retention_at_ns) {
            return;
        }
        core->retention_at_ns = mr_deadline_ms(core->now.mono_ns, core->plan.retention_check_ms);
        core->retention_next = core->partitions.next;
    }
    for (uint32_t count = 0; count < LOGS_PER_TURN; count++) {
        if (core->retention_next == &core->partitions) {
            core->retention_next = NULL;
            return;
        }
        struct mr_partition *p = MR_LIST_ENTRY(core->retention_next, struct mr_partition, link);
        if (check(core, p) == MR_AGAIN) {
            return;
        }
        core->retention_next = core->retention_next->next;
    }
}

uint64_t mr_retention_deadline_ns(const struct mr_storage_core *core)
{
    /* A pass under way goes on soon, not at once: it may wait for room in the journal. */
    uint64_t at = core->retention_next != NULL ? core->now.mono_ns + MR_NS_PER_MS : core->retention_at_ns;
    return core->wall_clock.is_doubted ? at : mr_earlier(at, core->producers_at_ns);
}
