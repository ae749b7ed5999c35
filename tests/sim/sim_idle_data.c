/* sim_idle_data: see sim_idle.h. */
#include "sim_idle.h"

#include "data_core.h"

void mr_sim_idle_data(const struct mr_data_core *core, struct mr_sim_idle *idle)
{
    idle->requests = core->requests.used;
}
