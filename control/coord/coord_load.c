/*
 * coord_load: reads partitions of __consumer_offsets from their start and replays them, a slice per
 * read, a few partitions at a time.
 */
#include "coord/coord_runtime.h"

#define READS_MAX   4
#define SLICE_BYTES (256 * 1024)
#define RETRY_MS    1000

static void load_done(struct mr_control *control, struct mr_now now, void *user,
                      const struct mr_control_read_result *result);

static void load_next(struct mr_coord_shard *shard, struct mr_now now)
{
    struct mr_coord *coord = shard->coord;
    if (mr_control_read(coord->control, shard->log, shard->load_offset, SLICE_BYTES, load_done,
                        shard)) {
        shard->is_reading = true;
        coord->loading_count++;
    } else {
        shard->retry_ns = mr_deadline_ms(now.mono_ns, RETRY_MS);
    }
}

void mr_coord_load_some(struct mr_coord *coord, struct mr_now now)
{
    for (uint32_t index = 0; index < coord->shard_count && coord->loading_count < READS_MAX;
         index++) {
        struct mr_coord_shard *shard = coord->shards[index];
        if (shard == NULL || shard->is_reading || shard->retry_ns > now.mono_ns) {
            continue;
        }
        if (shard->state == MR_COORD_BROKEN && shard->durable == shard->sealed) {
            shard->state = MR_COORD_LOADING;
            shard->load_offset = 0;
            if (!mr_group_shard_init(&shard->groups, &coord->env, index)) {
                shard->state = MR_COORD_BROKEN;
                shard->retry_ns = mr_deadline_ms(now.mono_ns, RETRY_MS);
                continue;
            }
        }
        if (shard->state == MR_COORD_LOADING) {
            load_next(shard, now);
        }
    }
}

/* Replay whole batches. *next: the offset after the last of them. */
static enum mr_err replay_slice(struct mr_coord_shard *shard,
                                const struct mr_control_read_result *result, int64_t *next)
{
    struct mr_coord *coord = shard->coord;
    uint32_t at = 0;
    while (result->len - at >= MR_BATCH_HEADER) {
        struct mr_batch batch;
        mr_batch_header_load(result->bytes + at, &batch);
        if (batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS ||
            mr_batch_bytes(&batch) > result->len - at) {
            break;
        }
        if ((batch.attributes & (MR_BATCH_CONTROL | MR_BATCH_TRANSACTIONAL)) == 0) {
            struct mr_record_iter iter;
            struct mr_record record;
            mr_arena_reset(&coord->scratch);
            enum mr_err err = mr_record_iter_init(&iter, result->bytes + at, mr_batch_bytes(&batch),
                                                  &coord->scratch);
            while (err == MR_OK && (err = mr_record_iter_next(&iter, &record)) == MR_OK) {
                err = mr_group_replay(&shard->groups, record.key, record.value);
                if (err == MR_ERR_MALFORMED || err == MR_ERR_TRUNCATED) {
                    mr_log(coord->control->log, MR_LOG_WARN,
                           "a record of __consumer_offsets cannot be read partition=%u offset=%lld",
                           shard->index, (long long)record.offset);
                    err = MR_OK;
                }
            }
            if (err != MR_ERR_NOT_FOUND) {
                return err;
            }
        }
        at += mr_batch_bytes(&batch);
        *next = mr_batch_last_offset(&batch) + 1;
    }
    return at > 0 ? MR_OK : MR_ERR_CORRUPT;
}

static void load_done(struct mr_control *control, struct mr_now now, void *user,
                      const struct mr_control_read_result *result)
{
    struct mr_coord_shard *shard = user;
    struct mr_coord *coord = shard->coord;
    shard->is_reading = false;
    coord->loading_count--;
    if (shard->state != MR_COORD_LOADING || coord->is_stopped) {
        return;
    }
    enum mr_err err = result->err;
    if (err == MR_ERR_OFFSET_OUT_OF_RANGE && shard->load_offset < result->log_start_offset) {
        shard->load_offset = result->log_start_offset;
        load_next(shard, now);
        return;
    }
    if (err == MR_OK && result->len == 0) {
        struct mr_coord_out out;
        shard->state = MR_COORD_ACTIVE;
        shard->is_purge_wanted = true; /* a crash may have come between a topic's end and theirs */
        mr_arena_reset(&coord->scratch);
        mr_coord_out_init(&out, &coord->scratch, now);
        mr_group_loaded(&shard->groups, &out);
        mr_coord_apply(shard, &out);
        if (shard->load_offset > 0) {
            mr_log(control->log, MR_LOG_INFO,
                   "groups are loaded partition=%u groups=%u end_offset=%lld", shard->index,
                   shard->groups.groups.used, (long long)shard->load_offset);
        }
        return;
    }
    err = err != MR_OK ? err : replay_slice(shard, result, &shard->load_offset);
    if (err == MR_OK) {
        load_next(shard, now);
        return;
    }
    mr_log(control->log, MR_LOG_ERROR,
           "groups cannot be loaded partition=%u offset=%lld error=\"%s\"", shard->index,
           (long long)shard->load_offset, mr_err_text(err));
    shard->retry_ns = mr_deadline_ms(now.mono_ns, RETRY_MS);
    mr_coord_break(shard, now, MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
}
