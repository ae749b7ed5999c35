/* check_epochs: after a clean stop leader-epoch-checkpoint says of each batch which epoch it is of (Kafka reads it). */
#include "sim_storage_world.h"

#include "millrace/base/fmt.h"

#include <stdlib.h>

#define TEXT_BYTES  16384u
#define EPOCHS_MAX  512u

struct epoch_start {
    int32_t epoch;
    int64_t offset;
};

/* "0", the number of entries, and a line of epoch and start offset for each. UINT32_MAX: it is something else. */
static uint32_t parse(const char *text, struct epoch_start *starts)
{
    char *at;
    long  version = strtol(text, &at, 10);
    long  count = strtol(at, &at, 10);
    if (version != 0 || count < 0 || count > (long)EPOCHS_MAX) {
        return UINT32_MAX;
    }
    for (long index = 0; index < count; index++) {
        starts[index].epoch = (int32_t)strtol(at, &at, 10);
        starts[index].offset = strtoll(at, &at, 10);
        bool is_rising = index == 0 || (starts[index].epoch > starts[index - 1].epoch &&
                                        starts[index].offset > starts[index - 1].offset);
        if (!is_rising) {
            return UINT32_MAX;
        }
    }
    return at[0] == '\n' && at[1] == '\0' ? (uint32_t)count : UINT32_MAX;
}

static int32_t epoch_at(const struct epoch_start *starts, uint32_t count, int64_t offset)
{
    int32_t epoch = -1;
    for (uint32_t index = 0; index < count && starts[index].offset <= offset; index++) {
        epoch = starts[index].epoch;
    }
    return epoch;
}

void mr_check_epochs(struct world *w, const struct slot *slot)
{
    static struct epoch_start  starts[EPOCHS_MAX];
    char                       text[TEXT_BYTES] = "";
    char                       path[64];
    const struct mr_model_log *model = &slot->model;
    mr_fmt(path, sizeof path, LOG_DIR "/%s-0/leader-epoch-checkpoint", slot->topic);
    int64_t  bytes = mr_sim_fs_get(w->fs, path, text, sizeof text - 1);
    uint32_t count = bytes < 0 ? 0 : parse(text, starts);
    if (count == UINT32_MAX) {
        fail(w, "%s makes no sense: %.100s", path, text);
        return;
    }
    for (uint32_t index = 0; index < model->batch_count; index++) {
        const struct mr_model_batch *batch = &model->batches[index];
        int32_t                      epoch = epoch_at(starts, count, batch->base);
        if (batch->base >= model->start_asked && epoch != batch->epoch) {
            fail(w, "%s: offset %lld is of epoch %d, not %d", path, (long long)batch->base, batch->epoch, epoch);
            return;
        }
    }
}
