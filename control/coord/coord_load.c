/*
 * coord_load: reads partitions of a coordinator's topic from their start and replays them, a slice
 * per read, a few partitions at a time.
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
        if (shard->state == MR_COORD_BROKEN && shard->durable == shard->sealed && shard->pending == 0) {
            shard->state = MR_COORD_LOADING;
            shard->load_offset = 0;
            shard->load_count++;
            if (!coord->kind->shard_init(shard)) {
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

static enum mr_err replay_batch(struct mr_coord_shard *shard, const struct mr_batch *batch,
                                const uint8_t *bytes)
{
    struct mr_coord *coord = shard->coord;
    struct mr_record_iter iter;
    struct mr_record record;
    mr_arena_reset(&coord->scratch);
    enum mr_err err = mr_record_iter_init(&iter, bytes, mr_batch_bytes(batch), &coord->scratch);
    while (err == MR_OK && (err = mr_record_iter_next(&iter, &record)) == MR_OK) {
        err = coord->kind->replay(shard, batch, record.key, record.value);
        if (err == MR_ERR_MALFORMED || err == MR_ERR_TRUNCATED) {
            mr_log(coord->control->log, MR_LOG_WARN,
                   "a coordinator's record cannot be read topic=%s partition=%u offset=%lld",
                   coord->kind->topic, shard->index, (long long)record.offset);
            err = MR_OK;
        }
    }
    return err == MR_ERR_NOT_FOUND ? MR_OK : err;
}

/* Replay whole batches. *next: the offset after the last of them. */
static enum mr_err replay_slice(struct mr_coord_shard *shard,
                                const struct mr_control_read_result *result, int64_t *next)
{
    uint32_t at = 0;
    while (result->len - at >= MR_BATCH_HEADER) {
        struct mr_batch batch;
        mr_batch_header_load(result->bytes + at, &batch);
        if (batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS ||
            mr_batch_bytes(&batch) > result->len - at) {
            break;
        }
        enum mr_err err = replay_batch(shard, &batch, result->bytes + at);
        if (err != MR_OK) {
            return err;
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
    bool is_end = err == MR_OK && shard->load_offset >= result->high_watermark;
    if (err == MR_OK && result->len == 0 && is_end) {
        struct mr_coord_out out;
        shard->state = MR_COORD_ACTIVE;
        mr_arena_reset(&coord->scratch);
        mr_coord_out_init(&out, &coord->scratch, now);
        coord->kind->loaded(shard, &out);
        mr_coord_apply(shard, &out);
        if (shard->load_offset > 0) {
            mr_log(control->log, MR_LOG_INFO,
                   "%s are loaded partition=%u end_offset=%lld", coord->kind->what, shard->index,
                   (long long)shard->load_offset);
        }
        return;
    }
    err = err != MR_OK ? err : replay_slice(shard, result, &shard->load_offset);
    if (err == MR_OK) {
        load_next(shard, now);
        return;
    }
    mr_log(control->log, MR_LOG_ERROR,
           "%s cannot be loaded partition=%u offset=%lld error=\"%s\"", coord->kind->what,
           shard->index, (long long)shard->load_offset, mr_err_text(err));
    shard->retry_ns = mr_deadline_ms(now.mono_ns, RETRY_MS);
    mr_coord_break(shard, now, MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
}
