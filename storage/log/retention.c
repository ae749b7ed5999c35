/*
 * retention: by time, by size; decided every five minutes. The log start moves first, in the journal; the
 * segments' files go when no live journal entry is in them (J6).
 */
#include "storage_core.h"

#define RETENTION_CHECK_NS (300 * MR_NS_PER_S)

static int64_t decide(const struct mr_storage_core *core, const struct mr_partition *p)
{
    int64_t start = p->log_start;
    int64_t total = 0;
    MR_LIST_EACH(link, &p->segments) {
        const struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        total += segment->is_gone ? 0 : segment->size;
    }
    MR_LIST_EACH(link, &p->segments) {
        struct mr_segment *segment = MR_LIST_ENTRY(link, struct mr_segment, link);
        struct mr_segment *next = mr_segment_next(segment);
        if (segment->is_gone) {
            continue;
        }
        if (next == NULL || next->base > p->high_watermark.offset) {
            break;
        }
        bool is_too_much = p->config.retention_bytes >= 0 && total - segment->size >= p->config.retention_bytes;
        bool is_too_old = p->config.retention_ms >= 0 && segment->is_time_known && segment->max_timestamp >= 0 &&
                          core->now.unix_ms - segment->max_timestamp > p->config.retention_ms;
        if (!is_too_much && !is_too_old) {
            break;
        }
        total -= segment->size;
        start = next->base;
    }
    return start;
}

void mr_retention_turn(struct mr_storage_core *core)
{
    if (core->retention_at_ns == 0) {
        core->retention_at_ns = core->now.mono_ns + RETENTION_CHECK_NS;
    }
    if (core->now.mono_ns < core->retention_at_ns || core->is_offline) {
        return;
    }
    core->retention_at_ns = core->now.mono_ns + RETENTION_CHECK_NS;
    mr_producers_expire(&core->producers, core->now.unix_ms, 86400000, 1000);
    MR_LIST_EACH(link, &core->partitions) {
        struct mr_partition *p = MR_LIST_ENTRY(link, struct mr_partition, link);
        if (p->state != MR_PARTITION_OPEN || !p->config.is_cleanup_delete) {
            continue;
        }
        int64_t start = decide(core, p);
        if (start > p->log_start) {
            struct mr_journal_entry entry = {.kind = MR_JOURNAL_LOG_START, .offset = start};
            if (mr_journal_add(core->journal, &p->jlog, &entry, NULL, NULL, NULL) == MR_OK) {
                mr_partition_log_start(core, p, start);
            }
        }
    }
}
