/* sim_idle_storage: see sim_idle.h. */
#include "sim_idle.h"

#include "storage_core.h"

static uint32_t list_count(const struct mr_list *list)
{
    uint32_t count = 0;
    MR_LIST_EACH(link, list) {
        count++;
    }
    return count;
}

void mr_sim_idle_storage(const struct mr_storage_core *core, struct mr_sim_idle *idle)
{
    idle->tasks += core->task_pool.used;
    idle->parked += list_count(&core->parked) + list_count(&core->again);
    idle->pinned_bytes += core->pinned_bytes;
    idle->cold_pages += core->cold.page_count - core->cold.free_pages;
    idle->files -= core->open_file_count;
}
