#include "check_keyed.h"

#include "millrace/base/fmt.h"

#define OFFSETS_MAX (MR_CHECK_KEYED_WRITES + 1)
#define NONE        MR_CHECK_KEYED_NONE

void mr_check_keyed_init(struct mr_check_keyed *check, struct mr_arena *arena, int64_t delete_retention_ms)
{
    *check = (struct mr_check_keyed){.delete_retention_ms = delete_retention_ms, .last_offset = -1};
    check->writes = mr_arena_get(arena, MR_CHECK_KEYED_WRITES * sizeof *check->writes, 16);
    check->at = mr_arena_get(arena, OFFSETS_MAX * sizeof *check->at, 16);
    for (uint32_t key = 0; key < MR_CHECK_KEYED_KEYS; key++) {
        check->newest[key] = NONE;
        check->dead[key] = -1;
    }
    mr_check_keyed_begin(check);
}

static void refuse(struct mr_check_keyed *check, const char *what, uint32_t key, int64_t offset)
{
    if (check->why[0] == '\0') {
        mr_fmt(check->why, sizeof check->why, "compacted log: %s (key %u, offset %lld)", what, key, (long long)offset);
    }
}

uint32_t mr_check_keyed_send(struct mr_check_keyed *check, uint32_t key, bool is_tombstone, int64_t now_ms)
{
    mr_assert(key < MR_CHECK_KEYED_KEYS && !mr_check_keyed_is_full(check));
    check->writes[check->count] =
        (struct mr_check_keyed_write){.key = key, .is_tombstone = is_tombstone, .offset = -1, .sent_ms = now_ms};
    return check->count++;
}

/* From now on this write is at this offset. */
static void settle(struct mr_check_keyed *check, uint32_t write, int64_t offset)
{
    struct mr_check_keyed_write *w = &check->writes[write];
    if (offset < 0 || offset >= (int64_t)OFFSETS_MAX) {
        refuse(check, "an offset beyond all that was sent", w->key, offset);
        return;
    }
    if (w->offset >= 0 && w->offset != offset) {
        refuse(check, "a record is at another offset than before", w->key, offset);
    } else if (check->at[offset] != 0 && check->at[offset] != write + 1) {
        refuse(check, "an offset has another record than before", w->key, offset);
    }
    w->offset = offset;
    check->at[offset] = write + 1;
    uint32_t newest = check->newest[w->key];
    if (newest == NONE || check->writes[newest].offset < offset) {
        check->newest[w->key] = write;
    }
}

void mr_check_keyed_acked(struct mr_check_keyed *check, uint32_t write, int64_t offset)
{
    settle(check, write, offset);
}

void mr_check_keyed_begin(struct mr_check_keyed *check)
{
    for (uint32_t key = 0; key < MR_CHECK_KEYED_KEYS; key++) {
        check->wanted[key] = check->newest[key];
        check->found[key] = -1;
    }
    check->last_offset = -1;
    check->missing = 0;
}

/* The tombstone at this offset: perhaps one of the key that nobody has heard of, the oldest, which may go first. */
static uint32_t find_tombstone(const struct mr_check_keyed *check, uint32_t key, int64_t offset)
{
    if (offset < (int64_t)OFFSETS_MAX && check->at[offset] != 0) {
        return check->at[offset] - 1;
    }
    for (uint32_t write = 0; write < check->count; write++) {
        const struct mr_check_keyed_write *w = &check->writes[write];
        if (w->key == key && w->is_tombstone && w->offset < 0) {
            return write;
        }
    }
    return NONE;
}

void mr_check_keyed_see(struct mr_check_keyed *check, uint32_t write, uint32_t key, int64_t offset)
{
    bool is_tombstone = write == NONE;
    if (offset <= check->last_offset) {
        refuse(check, "a reader goes backwards", key, offset);
        return;
    }
    check->missing += (uint64_t)(offset - check->last_offset - 1);
    check->last_offset = offset;
    write = is_tombstone && key < MR_CHECK_KEYED_KEYS ? find_tombstone(check, key, offset) : write;
    if (write >= check->count || check->writes[write].key != key || check->writes[write].is_tombstone != is_tombstone) {
        refuse(check, "a record that nobody sent", key, offset);
        return;
    }
    if (offset <= check->dead[key]) {
        refuse(check, "what was deleted is there again", key, offset);
    }
    settle(check, write, offset);
    check->found[key] = offset;
}

/* Whether what was at `offset` was a tombstone, or deleted by one, which may have gone. */
static bool is_deleted(const struct mr_check_keyed *check, uint32_t key, int64_t offset, int64_t now_ms)
{
    for (uint32_t write = 0; write < check->count; write++) {
        const struct mr_check_keyed_write *w = &check->writes[write];
        if (w->key == key && w->is_tombstone && (w->offset < 0 || w->offset >= offset) &&
            (now_ms - w->sent_ms >= check->delete_retention_ms || check->is_time_doubted)) {
            return true;
        }
    }
    return false;
}

void mr_check_keyed_end(struct mr_check_keyed *check, int64_t now_ms)
{
    for (uint32_t key = 0; key < MR_CHECK_KEYED_KEYS; key++) {
        uint32_t wanted = check->wanted[key];
        if (wanted == NONE || check->found[key] >= check->writes[wanted].offset) {
            continue;
        }
        int64_t offset = check->writes[wanted].offset;
        if (!is_deleted(check, key, offset, now_ms)) {
            refuse(check, check->writes[wanted].is_tombstone ? "a tombstone is gone too early" : "the newest value is gone",
                   key, offset);
        }
        check->dead[key] = offset;
    }
}
