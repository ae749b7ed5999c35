#include "load_txn.h"

#include "load_produce.h"
#include "load_wire.h"

#include "millrace/base/time.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"

#include <stdio.h>

#define AGAIN_NS       MR_NS_PER_MS
#define END_VERSION    5
#define PRODUCE_LEAST  12
#define TIMEOUT_MS     60000

static void on_ended(struct mr_load_caller *caller, const void *answer)
{
    const struct mr_end_txn_response *response = answer;
    struct mr_load_txn               *txn = caller->user;
    char                              what[120];
    if (response->error_code == MR_KAFKA_CONCURRENT_TRANSACTIONS) {
        mr_load_txn_wait(txn);
        return;
    }
    if (response->error_code != 0) {
        snprintf(what, sizeof what, "transaction of %s: %s", txn->id, mr_errors_name(response->error_code));
        mr_load_worker_fail(caller->worker, what);
    }
    txn->is_ending = false;
    mr_load_producer_ended(txn->producer, response->producer_id, response->producer_epoch);
}

void mr_load_txn_end(struct mr_load_txn *txn)
{
    struct mr_end_txn_request   request;
    const struct mr_load_image *image = &txn->producer->requests[0].image;
    MR_DEFAULTS(end_txn_request, &request);
    request.transactional_id = mr_str(txn->id);
    request.producer_id = image->producer_id;
    request.producer_epoch = image->producer_epoch;
    request.committed = true;
    txn->is_ending = true;
    mr_load_caller_ask(&txn->caller, MR_API_END_TXN, END_VERSION, &request);
}

void mr_load_txn_wait(struct mr_load_txn *txn)
{
    struct mr_load_worker *worker = txn->caller.worker;
    txn->is_again = true;
    worker->due_ns[txn->producer->place] = worker->loop.now_ns + AGAIN_NS;
}

bool mr_load_txn_again(struct mr_load_txn *txn)
{
    txn->is_again = false;
    if (txn->is_ending) {
        mr_load_txn_end(txn);
    }
    return !txn->is_ending;
}

bool mr_load_txn_open(struct mr_load_txn *txn, struct mr_load_producer *producer, uint32_t index,
                      struct mr_load_image_params *params)
{
    struct mr_load_worker *worker = producer->worker;
    struct mr_load_wire    wire;
    *txn = (struct mr_load_txn){.producer = producer};
    txn->caller.what = "transaction";
    txn->caller.user = txn;
    txn->caller.answered = on_ended;
    snprintf(txn->id, sizeof txn->id, "load-%u", index);
    params->transactional_id = mr_str(txn->id);
    bool is_open =
        mr_load_wire_coordinator(&wire, worker->run->options->broker, MR_LOAD_COORDINATOR_TXN, params->transactional_id);
    if (is_open && (worker->run->produce_version < PRODUCE_LEAST ||
                    mr_load_wire_version(&wire, MR_API_END_TXN, END_VERSION) < END_VERSION)) {
        is_open = mr_load_wire_refused(&wire, "Produce 12 and EndTxn 5 (transaction.version 2)", MR_KAFKA_UNSUPPORTED_VERSION);
    }
    is_open = is_open && mr_load_wire_producer_id(&wire, params->transactional_id, TIMEOUT_MS, &params->producer_id,
                                                  &params->producer_epoch);
    if (!is_open) {
        snprintf(worker->error, sizeof worker->error, "%s", wire.error);
    }
    is_open = is_open && mr_load_caller_open(&txn->caller, worker, wire.address);
    mr_load_wire_close(&wire);
    return is_open;
}

void mr_load_txn_close(struct mr_load_txn *txn)
{
    mr_load_caller_close(&txn->caller);
}
