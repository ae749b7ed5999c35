#include "linkem_judge.h"

#include "millrace/base/bytes.h"

#include <string.h>

#define ETHER 14u
#define FLAG_SYN 2u

bool mr_linkem_judge_is_tcp(const uint8_t *frame, uint32_t len)
{
    return len >= ETHER + 40 && mr_load_be16(frame + 12) == 0x0800 && frame[ETHER + 9] == 6;
}

/* The first range that ends at or behind `at`. */
static uint32_t find(const struct mr_linkem_judge *j, uint64_t at)
{
    uint32_t low = 0;
    uint32_t high = j->range_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (j->ranges[middle].end < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool has_all(const struct mr_linkem_judge *j, uint64_t start, uint64_t end)
{
    uint32_t at = find(j, end);
    return at < j->range_count && j->ranges[at].start <= start;
}

static void add(struct mr_linkem_judge *j, uint64_t start, uint64_t end)
{
    uint32_t first = find(j, start);
    uint32_t behind = first;
    while (behind < j->range_count && j->ranges[behind].start <= end) {
        start = j->ranges[behind].start < start ? j->ranges[behind].start : start;
        end = j->ranges[behind].end > end ? j->ranges[behind].end : end;
        behind++;
    }
    if (behind == first && j->range_count == MR_LINKEM_RANGES) {
        return; /* more holes than can be remembered: what fills them will look needed */
    }
    memmove(&j->ranges[first + 1], &j->ranges[behind], sizeof j->ranges[0] * (j->range_count - behind));
    j->range_count = j->range_count + 1 - (behind - first);
    j->ranges[first] = (struct mr_linkem_range){start, end};
}

static void take_text(struct mr_linkem_judge *j, uint32_t seq, uint32_t len, bool is_dropped)
{
    if (!j->is_based) {
        j->is_based = true;
        j->base = seq;
    }
    int32_t ahead = (int32_t)(seq - (j->base + (uint32_t)j->end));
    uint64_t start = j->end + (uint64_t)(int64_t)ahead;
    uint64_t end = start + len;
    if (end > 1ull << 62) {
        return; /* below the first byte: a keepalive */
    }
    j->segments++;
    j->bytes += len;
    if (start < j->end) {
        j->again++;
        j->needless += has_all(j, start, end);
    }
    j->end = end > j->end ? end : j->end;
    if (!is_dropped) {
        add(j, start, end);
    }
}

void mr_linkem_judge_frame(struct mr_linkem_judge *j, const uint8_t *frame, uint32_t len, bool is_dropped)
{
    if (!mr_linkem_judge_is_tcp(frame, len)) {
        return;
    }
    uint32_t ip = (frame[ETHER] & 15u) * 4;
    uint32_t total = mr_load_be16(frame + ETHER + 2);
    if (total > len - ETHER || ip < 20 || ip + 20 > total) {
        return;
    }
    const uint8_t *tcp = frame + ETHER + ip;
    uint32_t header = (uint32_t)(tcp[12] >> 4) * 4;
    if (header < 20 || ip + header >= total || (tcp[13] & FLAG_SYN) != 0) {
        return;
    }
    take_text(j, mr_load_be32(tcp + 4), total - ip - header, is_dropped);
}
