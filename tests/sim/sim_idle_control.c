/* sim_idle_control: see sim_idle.h. */
#include "sim_idle.h"

#include "control_private.h"

void mr_sim_idle_control(const struct mr_control *control, struct mr_sim_idle *idle)
{
    idle->control_requests = control->requests_open;
    idle->control_ops = control->ops_open;
}

uint64_t mr_sim_idle_control_work(const struct mr_control *control)
{
    return control->work;
}
