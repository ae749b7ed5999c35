#include "sim_idle.h"

/* A turn of a storage core: mail and completions are bounded, and each may begin a few operations. */
#define STORAGE_OPS_MAX 512u
#define CONTROL_OPS_MAX 64u
/* MR_CONTROL_WORK, and what one step may add to it. */
#define CONTROL_BYTES_MAX (128u << 10)
#define REQUESTS_MAX    64u /* what the site lets be open at once */

/* Lock, log directory and metadata's own; journal files, state and root of each core. */
#define FILES_FIXED    8u
#define FILES_PER_CORE 8u

void mr_sim_idle_read(const struct mr_sim_broker *broker, struct mr_sim_idle *idle)
{
    *idle = (struct mr_sim_idle){
        .storage_cores = broker->site->endpoints.storage_count,
        .net_buffers = mr_sim_net_held(broker->net),
        .files = mr_sim_fs_open_handles(broker->fs),
    };
    mr_sim_idle_data(broker->data, idle);
    mr_sim_idle_control(broker->control, idle);
    for (uint32_t core = 0; core < idle->storage_cores; core++) {
        mr_sim_idle_storage(broker->storage[core], idle);
    }
}

const char *mr_sim_idle_judge(const struct mr_sim_idle *idle)
{
    const struct {
        uint64_t    held;
        uint64_t    max;
        const char *what;
    } rows[] = {
        {idle->requests, 0, "requests of the data core are held at rest"},
        {idle->net_buffers, 0, "received buffers are held at rest"},
        {idle->control_requests, 0, "requests of control are held at rest"},
        {idle->control_ops, 0, "operations of control are open at rest"},
        {idle->tasks, 0, "tasks of a storage core are held at rest"},
        {idle->parked, 0, "operations wait in a storage core at rest"},
        {idle->pinned_bytes, 0, "pages are lent at rest"},
        {idle->cold_pages, 0, "pages of cold reads are held at rest"},
        {idle->files, FILES_FIXED + FILES_PER_CORE * idle->storage_cores, "files are open at rest that nobody uses"},
    };
    for (uint32_t index = 0; index < sizeof rows / sizeof rows[0]; index++) {
        if (rows[index].held > rows[index].max) {
            return rows[index].what;
        }
    }
    return NULL;
}

const char *mr_sim_idle_judge_work(const struct mr_sim_work *work)
{
    if (work->storage_ops > STORAGE_OPS_MAX) {
        return "a turn of a storage core began too many disk operations";
    }
    if (work->control_ops > CONTROL_OPS_MAX) {
        return "a turn of control began too many disk operations";
    }
    if (work->control_bytes > CONTROL_BYTES_MAX) {
        return "a turn of control made too many bytes of answers and records";
    }
    return work->data_requests > REQUESTS_MAX ? "a turn of the data core began too many requests" : NULL;
}
