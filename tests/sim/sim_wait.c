/*
 * sim_wait: the wait of a world with one thread. Nothing sleeps: completions come straight from the
 * simulated transport and disk, and the world jumps to the next deadline itself. It keeps the queues so
 * that code which takes completions can be driven by a test (sim_wait.h).
 */
#include "sim_wait.h"

#include "millrace/base/assert.h"

#include <stddef.h>

void mr_sim_wait_init(struct mr_wait *wait)
{
    *wait = (struct mr_wait){.until_ns = MR_NEVER};
}

bool mr_sim_wait_complete(struct mr_wait *wait, struct mr_completion completion)
{
    uint64_t tag = completion.user_data & MR_WAIT_TAG_MASK;
    mr_assert(tag < MR_WAIT_TAG_COUNT);
    struct mr_sim_wait_queue *queue = &wait->queues[tag];
    if (queue->tail - queue->head == MR_SIM_WAIT_SLOTS) {
        return false;
    }
    queue->slots[queue->tail++ % MR_SIM_WAIT_SLOTS] = completion;
    return true;
}

struct io_uring *mr_wait_ring(struct mr_wait *wait)
{
    (void)wait;
    return NULL;
}

struct io_uring_sqe *mr_wait_sqe(struct mr_wait *wait)
{
    (void)wait;
    mr_unreachable("the simulated wait has no ring");
}

uint32_t mr_wait_ready(const struct mr_wait *wait, enum mr_wait_tag tag)
{
    return wait->queues[tag].tail - wait->queues[tag].head;
}

uint32_t mr_wait_take(struct mr_wait *wait, enum mr_wait_tag tag, struct mr_completion *out,
                      uint32_t max)
{
    struct mr_sim_wait_queue *queue = &wait->queues[tag];
    uint32_t count = 0;
    while (count < max && queue->head != queue->tail) {
        out[count++] = queue->slots[queue->head++ % MR_SIM_WAIT_SLOTS];
    }
    return count;
}

void mr_wait(struct mr_wait *wait, uint64_t until_ns)
{
    wait->wait_count++;
    wait->until_ns = until_ns;
}
