/* sim_states: see the header. */
#include "sim_states.h"

#include "coord/txn/transaction.h"

uint32_t mr_sim_states_of(const struct mr_control *control)
{
    const struct mr_coord *coord = control->txn_coord;
    uint32_t               states = 0;
    for (uint32_t index = 0; index < coord->shard_count; index++) {
        const struct mr_coord_shard *shard = coord->shards[index];
        if (shard == NULL || shard->state != MR_COORD_ACTIVE) {
            continue;
        }
        const struct mr_table *ids = &mr_transaction_shard_of(shard)->ids;
        for (struct mr_table_node *node = mr_table_walk(ids, NULL); node != NULL; node = mr_table_walk(ids, node)) {
            states |= 1u << MR_TABLE_ENTRY(node, struct mr_transaction, node)->now.state;
        }
    }
    return states;
}

const char *mr_sim_states_name(uint32_t state)
{
    static const char *const names[MR_SIM_STATES] = {"Empty",        "Ongoing",        "PrepareCommit",
                                                     "PrepareAbort", "CompleteCommit", "CompleteAbort"};
    return names[state];
}
