#include "check_acked.h"

#include "millrace/base/fmt.h"
#include "millrace/base/time.h"

#define ASKED_NS (2 * MR_NS_PER_S) /* a core asks at most a second after an append, and the disk takes its time */

void mr_check_acked_init(struct mr_check_acked *check, struct mr_arena *arena, uint64_t offsets_max,
                         uint64_t values_max)
{
    *check = (struct mr_check_acked){.arena = arena, .offsets_max = offsets_max, .values_max = values_max};
    check->logs = MR_ARENA_GET(arena, struct mr_check_log, MR_CHECK_LOGS);
    check->values = MR_ARENA_GET(arena, struct mr_check_value, values_max);
}

static bool is_doomed(const struct mr_check_acked *check, const struct mr_uuid *topic)
{
    for (uint32_t index = 0; index < check->doomed_count; index++) {
        if (mr_uuid_equal(&check->doomed[index], topic)) {
            return true;
        }
    }
    return false;
}

uint32_t mr_check_acked_log(struct mr_check_acked *check, const struct mr_uuid *topic, uint32_t partition)
{
    for (uint32_t index = 0; index < check->log_count; index++) {
        const struct mr_check_log *log = &check->logs[index];
        if (log->partition == partition && mr_uuid_equal(&log->topic, topic)) {
            return index;
        }
    }
    if (check->log_count == MR_CHECK_LOGS) {
        return MR_CHECK_NO_LOG;
    }
    struct mr_check_log *log = &check->logs[check->log_count];
    *log = (struct mr_check_log){
        .topic = *topic, .partition = partition, .is_deletion_asked = is_doomed(check, topic), .retention_bytes = -1};
    log->seen = MR_ARENA_GET(check->arena, uint64_t, check->offsets_max);
    log->acked = MR_ARENA_GET(check->arena, uint64_t, check->offsets_max);
    return check->log_count++;
}

uint64_t mr_check_acked_new_value(struct mr_check_acked *check, uint32_t log, uint32_t producer,
                                  bool is_idempotent, uint32_t bytes)
{
    mr_assert(check->value_next < check->values_max && log < check->log_count && producer < MR_CHECK_PRODUCERS);
    check->values[check->value_next] = (struct mr_check_value){
        .log = log, .producer = (uint16_t)producer, .is_idempotent = is_idempotent, .bytes = bytes};
    return check->value_next++;
}

/* Note a violation, the first one: what follows is its echo. */
static void found(struct mr_check_acked *check, uint32_t log, int64_t offset, const char *what, int64_t value)
{
    if (mr_check_acked_is_ok(check)) {
        mr_fmt(check->why, sizeof check->why, "log %u partition %u offset %lld: %s %lld", log,
               log < check->log_count ? check->logs[log].partition : 0, (long long)offset, what,
               (long long)value);
    }
}

/* The log, or NULL when the place or the value is impossible. */
static struct mr_check_log *place(struct mr_check_acked *check, uint32_t log, int64_t offset, uint64_t value)
{
    if (log >= check->log_count || offset < 0 || (uint64_t)offset >= check->offsets_max) {
        found(check, log, offset, "an impossible place for value", (int64_t)value);
    } else if (value >= check->value_next) {
        found(check, log, offset, "nobody sent value", (int64_t)value);
    } else if (check->values[value].log != log) {
        found(check, log, offset, "sent to another log: value", (int64_t)value);
    }
    return mr_check_acked_is_ok(check) ? &check->logs[log] : NULL;
}

/* Whether something else was acknowledged or seen there. */
static bool is_other(struct mr_check_acked *check, const struct mr_check_log *log, int64_t offset, uint64_t value)
{
    uint64_t acked = log->acked[offset];
    uint64_t seen = log->seen[offset];
    if ((acked != 0 && acked != value + 1) || (seen != 0 && seen != value + 1)) {
        uint64_t before = acked != 0 && acked != value + 1 ? acked : seen;
        found(check, (uint32_t)(log - check->logs), offset, "two values: it was another before", (int64_t)before - 1);
        return true;
    }
    return false;
}

void mr_check_acked_ack(struct mr_check_acked *check, uint32_t index, int64_t offset, uint64_t value)
{
    struct mr_check_log *log = place(check, index, offset, value);
    if (log == NULL || is_other(check, log, offset, value)) {
        return;
    }
    check->acked_count += log->acked[offset] == 0;
    log->acked[offset] = value + 1;
    if (log->acked_end <= offset) {
        log->acked_end = offset + 1;
    }
}

void mr_check_acked_floor(struct mr_check_acked *check, bool is_below, uint64_t now_ns)
{
    if (is_below && check->below_ns == 0) {
        for (uint32_t index = 0; index < check->log_count; index++) {
            check->logs[index].below_acked_ns = 0;
        }
    }
    check->below_ns = !is_below ? 0 : check->below_ns == 0 ? now_ns : check->below_ns;
}

void mr_check_acked_appended(struct mr_check_acked *check, uint32_t index, uint64_t sent_ns, uint64_t now_ns)
{
    struct mr_check_log *log = &check->logs[index];
    if (check->below_ns == 0 || sent_ns < check->below_ns) {
        return;
    }
    if (log->below_acked_ns == 0) {
        log->below_acked_ns = now_ns;
    } else if (sent_ns > log->below_acked_ns + ASKED_NS) {
        found(check, index, log->acked_end, "appended though the disk has been below its floor for ms:",
              (int64_t)((sent_ns - check->below_ns) / MR_NS_PER_MS));
    }
}

void mr_check_acked_stored(struct mr_check_acked *check, uint64_t value)
{
    mr_assert(value < check->value_next);
    check->values[value].is_stored = true;
}

/* The log is read from start to end for the last time. */
static void see_final(struct mr_check_acked *check, struct mr_check_log *log, int64_t offset, uint64_t number)
{
    struct mr_check_value *value = &check->values[number];
    uint32_t               index = (uint32_t)(log - check->logs);
    value->final_count++;
    if (!value->is_idempotent) {
        return;
    }
    if (value->final_count > 1) {
        found(check, index, offset, "twice in the log: value", (int64_t)number);
        return;
    }
    uint64_t *last = &log->last_value[value->producer];
    if (*last > number) {
        found(check, index, offset, "out of the producer's order: value", (int64_t)number);
        return;
    }
    *last = number + 1;
}

void mr_check_acked_see(struct mr_check_acked *check, uint32_t index, int64_t start, int64_t offset,
                        uint64_t value, bool is_final)
{
    struct mr_check_log *log = place(check, index, offset, value);
    if (log == NULL || is_other(check, log, offset, value)) {
        return;
    }
    if (offset < start) {
        found(check, index, offset, "seen although DeleteRecords was answered: value", (int64_t)value);
        return;
    }
    log->seen[offset] = value + 1;
    if (is_final) {
        see_final(check, log, offset, value);
    }
}

void mr_check_acked_watermark(struct mr_check_acked *check, uint32_t index, int64_t floor, int64_t watermark)
{
    struct mr_check_log *log = &check->logs[index];
    if (watermark < floor) {
        found(check, index, floor, "the high watermark was here and is now", watermark);
    }
    if (log->watermark < watermark) {
        log->watermark = watermark;
    }
}

void mr_check_acked_delete_asked(struct mr_check_acked *check, uint32_t index, int64_t offset)
{
    struct mr_check_log *log = &check->logs[index];
    log->start_asked = offset > log->start_asked ? offset : log->start_asked;
}

void mr_check_acked_start(struct mr_check_acked *check, uint32_t index, int64_t start)
{
    struct mr_check_log *log = &check->logs[index];
    log->start_final = start;
    if (start > log->start_asked && log->retention_bytes < 0) {
        found(check, index, start, "the log begins here, later than anybody asked for:", log->start_asked);
    } else if (start < log->start_done) {
        found(check, index, start, "the log begins here, before what DeleteRecords was answered with:",
              log->start_done);
    }
}

void mr_check_acked_delete_done(struct mr_check_acked *check, uint32_t index, int64_t offset, int64_t low)
{
    struct mr_check_log *log = &check->logs[index];
    mr_check_acked_start(check, index, low);
    if (low < offset) {
        found(check, index, offset, "DeleteRecords up to here was answered with", low);
    }
    log->start_done = low > log->start_done ? low : log->start_done;
}

void mr_check_acked_retention(struct mr_check_acked *check, uint32_t index, int64_t bytes)
{
    check->logs[index].retention_bytes = bytes;
}

/* ---- Damage ---- */

void mr_check_acked_damage(struct mr_check_acked *check, uint32_t index, int64_t first, int64_t end)
{
    struct mr_check_log *log = &check->logs[index];
    mr_assert(first < end);
    if (log->damage_count == MR_CHECK_DAMAGES) { /* one more: the last one is that much larger */
        struct mr_check_damage *last = &log->damages[MR_CHECK_DAMAGES - 1];
        last->first = first < last->first ? first : last->first;
        last->end = end > last->end ? end : last->end;
        return;
    }
    log->damages[log->damage_count++] = (struct mr_check_damage){.first = first, .end = end};
}

bool mr_check_acked_is_damaged(const struct mr_check_acked *check, uint32_t index)
{
    return check->logs[index].damage_count > 0;
}

/* The end of the damage that `offset` lies in; -1: it lies in none. */
static int64_t damage_end(const struct mr_check_log *log, int64_t offset)
{
    int64_t end = -1;
    for (uint32_t index = 0; index < log->damage_count; index++) {
        const struct mr_check_damage *damage = &log->damages[index];
        if (damage->first <= offset && offset < damage->end && damage->end > end) {
            end = damage->end;
        }
    }
    return end;
}

int64_t mr_check_acked_error(struct mr_check_acked *check, uint32_t index, int64_t offset, int16_t error)
{
    int64_t end = damage_end(&check->logs[index], offset);
    if (end < 0) {
        found(check, index, offset, "nothing is damaged here, and it was answered with error", error);
    }
    return end;
}

void mr_check_acked_topic_deletion_asked(struct mr_check_acked *check, const struct mr_uuid *topic)
{
    if (!is_doomed(check, topic)) {
        mr_assert(check->doomed_count < MR_CHECK_LOGS);
        check->doomed[check->doomed_count++] = *topic;
    }
    for (uint32_t index = 0; index < check->log_count; index++) {
        if (mr_uuid_equal(&check->logs[index].topic, topic)) {
            check->logs[index].is_deletion_asked = true;
        }
    }
}

void mr_check_acked_final(struct mr_check_acked *check, uint32_t log)
{
    check->logs[log].is_final = true;
}

/* At least retention.bytes are left, if records are as large as they can be. What is spoiled nobody has counted. */
static void finish_retention(struct mr_check_acked *check, uint32_t index)
{
    const struct mr_check_log *log = &check->logs[index];
    int64_t                    left = 0;
    if (log->damage_count > 0) {
        return;
    }
    for (int64_t offset = log->start_final; offset < log->watermark; offset++) {
        left += MR_CHECK_OVERHEAD + (log->seen[offset] == 0 ? 0 : check->values[log->seen[offset] - 1].bytes);
    }
    if (log->start_final > log->start_asked && left < log->retention_bytes) {
        found(check, index, log->start_final, "the log begins here, and retention.bytes are not left, but", left);
    }
}

/* Everything acknowledged in this log was in its final read. */
static void finish_log(struct mr_check_acked *check, uint32_t index)
{
    const struct mr_check_log *log = &check->logs[index];
    if (!log->is_final) {
        if (!log->is_deletion_asked) {
            found(check, index, 0, "the log is gone, with records up to", log->acked_end);
        }
        return;
    }
    int64_t start = log->start_asked;
    if (log->retention_bytes >= 0) {
        finish_retention(check, index);
        start = log->start_final > start ? log->start_final : start;
    }
    for (int64_t offset = start; offset < log->acked_end; offset++) {
        uint64_t acked = log->acked[offset];
        if (acked != 0 && check->values[acked - 1].final_count == 0 && damage_end(log, offset) < 0) {
            found(check, index, offset, "acknowledged and lost: value", (int64_t)acked - 1);
        }
    }
}

bool mr_check_acked_finish(struct mr_check_acked *check)
{
    for (uint32_t index = 0; index < check->log_count; index++) {
        finish_log(check, index);
    }
    for (uint64_t number = 0; number < check->value_next; number++) {
        const struct mr_check_value *value = &check->values[number];
        const struct mr_check_log   *log = &check->logs[value->log];
        bool is_whole = log->is_final && log->start_asked == 0 && log->retention_bytes < 0 && log->damage_count == 0;
        if (value->is_stored && value->final_count == 0 && is_whole) {
            found(check, value->log, -1, "said to be stored, and lost: value", (int64_t)number);
        }
    }
    return mr_check_acked_is_ok(check);
}
