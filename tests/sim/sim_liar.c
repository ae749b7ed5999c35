/* sim_liar: a disk between the core and the simulated one, which says that it did what it did not. */
#include "sim_storage_world.h"

static void liar_submit(struct mr_disk *disk, struct mr_disk_op *op)
{
    struct liar *liar = (struct liar *)(void *)disk;
    bool is_skipped = false;
    switch (liar->lie) {
    case MR_SIM_LIE_FLUSH:
        op->flags &= ~(uint32_t)MR_DISK_DSYNC;
        is_skipped = op->kind == MR_DISK_SYNC || op->kind == MR_DISK_SYNC_FS;
        break;
    case MR_SIM_LIE_SYNC_FS:
        is_skipped = op->kind == MR_DISK_SYNC_FS;
        break;
    case MR_SIM_LIE_WRITE:
        is_skipped = op->kind == MR_DISK_WRITE && mr_prng_below(&liar->prng, 200) == 0;
        op->done_bytes = op->len;
        break;
    case MR_SIM_HONEST:
    case MR_SIM_LIE_READ:
    case MR_SIM_LIE_COUNT:
        break;
    }
    disk->in_flight++;
    if (is_skipped) {
        op->err = MR_OK;
        mr_list_add_tail(&liar->unserved, &op->link);
        return;
    }
    mr_disk_submit(liar->honest, op);
    if (liar->world->on_op != NULL) {
        liar->world->on_op(liar->world);
    }
}

static uint32_t liar_reap(struct mr_disk *disk, struct mr_disk_op **done, uint32_t max)
{
    struct liar *liar = (struct liar *)(void *)disk;
    uint32_t     count = 0;
    while (count < max && !mr_list_is_empty(&liar->unserved)) {
        done[count++] = MR_LIST_ENTRY(mr_list_pop(&liar->unserved), struct mr_disk_op, link);
    }
    count += mr_disk_reap(liar->honest, done + count, max - count);
    for (uint32_t index = 0; index < count; index++) {
        if (liar->lie == MR_SIM_LIE_READ && done[index]->kind == MR_DISK_READ && done[index]->done_bytes > 0 &&
            mr_prng_below(&liar->prng, 40) == 0) {
            uint8_t *bytes = done[index]->buffer;
            bytes[mr_prng_below(&liar->prng, done[index]->done_bytes)] ^= 4;
        }
    }
    disk->in_flight -= count;
    return count;
}

static void liar_wait(struct mr_disk *disk)
{
    struct liar *liar = (struct liar *)(void *)disk;
    if (mr_list_is_empty(&liar->unserved)) {
        liar->honest->ops->wait(liar->honest);
    }
}

static const struct mr_disk_ops liar_ops = {
    .name = "liar", .submit = liar_submit, .reap = liar_reap, .wait = liar_wait};

void mr_sim_liar_init(struct liar *liar, struct world *w)
{
    *liar = (struct liar){.disk.ops = &liar_ops, .world = w, .honest = mr_sim_disk_create(w->fs), .lie = w->lie};
    liar->prng.state = mr_prng_next(&w->prng);
    mr_list_init(&liar->unserved);
}
