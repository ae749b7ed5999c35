#include "check_acked.h"

#include "millrace/base/fmt.h"

void mr_check_acked_init(struct mr_check_acked *check, struct mr_arena *arena, uint64_t offsets_max,
                         uint64_t values_max)
{
    *check = (struct mr_check_acked){.offsets_max = offsets_max, .values_max = values_max};
    for (uint32_t partition = 0; partition < MR_CHECK_PARTITIONS; partition++) {
        check->seen[partition] = MR_ARENA_GET(arena, uint64_t, offsets_max);
        check->acked[partition] = MR_ARENA_GET(arena, uint64_t, offsets_max);
    }
    check->final_count = MR_ARENA_GET(arena, uint8_t, values_max);
}

uint64_t mr_check_acked_new_value(struct mr_check_acked *check)
{
    mr_assert(check->value_next < check->values_max);
    return check->value_next++;
}

/* Only the first violation counts: what follows is its echo. */
static bool is_place_bad(struct mr_check_acked *check, uint32_t partition, int64_t offset, uint64_t value,
                         const char *what)
{
    if (!mr_check_acked_is_ok(check)) {
        return true;
    }
    if (partition >= MR_CHECK_PARTITIONS || offset < 0 || (uint64_t)offset >= check->offsets_max) {
        mr_fmt(check->why, sizeof check->why, "%s at an impossible place: partition %u offset %lld", what,
               partition, (long long)offset);
        return true;
    }
    if (value >= check->value_next) {
        mr_fmt(check->why, sizeof check->why, "%s of a value that nobody sent: partition %u offset %lld value %llu",
               what, partition, (long long)offset, (unsigned long long)value);
        return true;
    }
    return false;
}

void mr_check_acked_ack(struct mr_check_acked *check, uint32_t partition, int64_t offset, uint64_t value)
{
    if (is_place_bad(check, partition, offset, value, "acknowledgement")) {
        return;
    }
    uint64_t *acked = &check->acked[partition][offset];
    uint64_t  seen = check->seen[partition][offset];
    if ((*acked != 0 && *acked != value + 1) || (seen != 0 && seen != value + 1)) {
        mr_fmt(check->why, sizeof check->why,
               "two values for partition %u offset %lld: acknowledged %llu, before it was %llu", partition,
               (long long)offset, (unsigned long long)value,
               (unsigned long long)((*acked != 0 ? *acked : seen) - 1));
        return;
    }
    check->acked_count += *acked == 0;
    *acked = value + 1;
    if (check->acked_end[partition] <= offset) {
        check->acked_end[partition] = offset + 1;
    }
}

void mr_check_acked_see(struct mr_check_acked *check, uint32_t partition, int64_t offset, uint64_t value,
                        bool is_final)
{
    if (is_place_bad(check, partition, offset, value, "delivery")) {
        return;
    }
    uint64_t *seen = &check->seen[partition][offset];
    uint64_t  acked = check->acked[partition][offset];
    if ((*seen != 0 && *seen != value + 1) || (acked != 0 && acked != value + 1)) {
        mr_fmt(check->why, sizeof check->why,
               "two values for partition %u offset %lld: delivered %llu, before it was %llu", partition,
               (long long)offset, (unsigned long long)value,
               (unsigned long long)((*seen != 0 ? *seen : acked) - 1));
        return;
    }
    *seen = value + 1;
    if (is_final && ++check->final_count[value] > 1) {
        mr_fmt(check->why, sizeof check->why, "value %llu is twice in the log: again at partition %u offset %lld",
               (unsigned long long)value, partition, (long long)offset);
    }
}

bool mr_check_acked_finish(struct mr_check_acked *check)
{
    for (uint32_t partition = 0; partition < MR_CHECK_PARTITIONS; partition++) {
        for (int64_t offset = 0; offset < check->acked_end[partition]; offset++) {
            uint64_t acked = check->acked[partition][offset];
            if (!mr_check_acked_is_ok(check)) {
                return false;
            }
            if (acked != 0 && check->final_count[acked - 1] != 1) {
                mr_fmt(check->why, sizeof check->why,
                       "acknowledged and lost: partition %u offset %lld value %llu", partition,
                       (long long)offset, (unsigned long long)(acked - 1));
                return false;
            }
        }
    }
    return mr_check_acked_is_ok(check);
}
