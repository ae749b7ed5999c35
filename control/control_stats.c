/* control_stats: what the control thread counts, for metrics. */
#include "control_private.h"
#include "coord/coord_runtime.h"
#include "metadata/image.h"
#include "metadata/log_dirs.h"

void mr_control_stats(const struct mr_control *control, struct mr_control_stats *out)
{
    const struct mr_image *image = control->images->current;
    *out = (struct mr_control_stats){
        .requests_open = control->requests_open,
        .operations_open = control->ops_open,
        .heap_used = control->heap.used_bytes,
        .heap_bytes = control->heap.size,
        .timers = control->timers.count,
        .timers_max = control->timers.capacity,
        .is_serving = mr_control_state(control) == MR_CONTROL_SERVING,
        .dirs_offline = mr_log_dirs_offline(control) + control->is_dir_offline,
    };
    if (image != NULL) {
        out->topics = image->topic_count;
        out->metadata_offset = (uint64_t)image->offset;
        for (uint32_t topic = 0; topic < image->topic_count; topic++) {
            out->partitions += image->topics[topic]->partition_count;
        }
    }
    for (uint32_t shard = 0; shard < control->coord->shard_count; shard++) {
        if (control->coord->shards[shard] != NULL) {
            out->groups += control->coord->shards[shard]->groups.groups.used;
        }
    }
}
