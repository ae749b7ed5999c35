#include "metadata/controller.h"

#include "admin/admin.h"
#include "metadata/local_logs.h"
#include "metadata/log_dirs.h"
#include "metadata/meta_log.h"
#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

#define DECISIONS_PER_TURN 64
#define BATCH_BYTES        (512u * 1024) /* more requests join a batch below this */
#define PRODUCER_ID_BLOCK  1000

static mr_ctl_decide decide_producer_id;

/* Who decides about a key; reads are answered from the durable state and write nothing. */
static const struct {
    int16_t             key;
    mr_ctl_decide      *decide;
    mr_control_handler *read;
} rows[] = {
    {MR_API_CREATE_TOPICS, mr_ctl_topics_create, NULL},
    {MR_API_DELETE_TOPICS, mr_ctl_topics_delete, NULL},
    {MR_API_CREATE_PARTITIONS, mr_ctl_partitions_create, NULL},
    {MR_API_ALTER_CONFIGS, mr_ctl_configs_alter, NULL},
    {MR_API_INCREMENTAL_ALTER_CONFIGS, mr_ctl_configs_alter_incremental, NULL},
    {MR_API_UPDATE_FEATURES, mr_ctl_features_update, NULL},
    {MR_API_INIT_PRODUCER_ID, decide_producer_id, NULL},
    {MR_API_ALTER_REPLICA_LOG_DIRS, NULL, mr_admin_alter_replica_log_dirs},
    {MR_API_DESCRIBE_CONFIGS, NULL, mr_admin_describe_configs},
    {MR_API_DESCRIBE_LOG_DIRS, NULL, mr_admin_describe_log_dirs},
    {MR_API_LIST_CONFIG_RESOURCES, NULL, mr_admin_list_config_resources},
};

bool mr_controller_init(struct mr_control *control)
{
    struct mr_controller *controller = MR_HEAP_NEW(&control->heap, struct mr_controller);
    if (controller == NULL) {
        return false;
    }
    control->controller = controller;
    mr_list_init(&controller->queue);
    mr_list_init(&controller->decided);
    mr_list_init(&controller->settling);
    mr_meta_records_init(&controller->records, &control->heap);
    for (size_t index = 0; index < sizeof rows / sizeof rows[0]; index++) {
        if (rows[index].key != MR_API_INIT_PRODUCER_ID) { /* the coordinator of transactions sorts them */
            mr_control_serve(control, rows[index].key, mr_controller_queue);
        }
    }
    controller->txn_ids.coming = -1;

    return true;
}

void mr_controller_queue(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    (void)now;
    mr_list_add_tail(&control->controller->queue, &request->link);
}

struct mr_ctl mr_controller_ctl(struct mr_control *control)
{
    memset(control->log_dirs->placed, 0, sizeof control->log_dirs->placed);
    return (struct mr_ctl){
        .meta = control->meta,
        .config = control->config,
        .node_id = control->node_id,
        .control = control,
    };
}

void mr_control_want_offsets_topic(struct mr_control *control, struct mr_now now)
{
    (void)now;
    control->controller->is_wanted[MR_CTL_OFFSETS] = true;
}

void mr_control_want_transactions_topic(struct mr_control *control, struct mr_now now)
{
    (void)now;
    control->controller->is_wanted[MR_CTL_TRANSACTIONS] = true;
}

/* ---- producer ids ---- */

/*
 * Ids come in blocks of 1,000: the record says where the next block begins, so a crash skips at
 * most the rest of one block, and no id is given twice. Returns where the block begins.
 */
static int64_t add_producer_ids(const struct mr_ctl *ctl, struct mr_meta_records *records)
{
    const struct mr_meta_broker  *self = mr_meta_broker(ctl->meta, ctl->node_id);
    int64_t                       start = ctl->meta->next_producer_id;
    struct mr_producer_ids_record record = {
        .broker_id = ctl->node_id,
        .broker_epoch = self == NULL ? -1 : self->epoch,
        .next_producer_id = start + PRODUCER_ID_BLOCK,
    };
    mr_meta_records_add(records, &mr_msg_producer_ids_record, 0, &record);
    return start;
}

/* For producers without a transactional id; the others are the coordinator's. */
static const void *decide_producer_id(const struct mr_ctl *ctl, struct mr_request *request,
                                      struct mr_meta_records *records)
{
    struct mr_controller                     *controller = ctl->control->controller;
    const struct mr_init_producer_id_request *in = request->message;
    struct mr_init_producer_id_response      *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_init_producer_id_response, 1);
    if (out == NULL) {
        return NULL;
    }
    mr_msg_defaults(&mr_msg_init_producer_id_response, out);
    out->producer_epoch = -1;
    if ((in->producer_id == -1) != (in->producer_epoch == -1)) {
        out->error_code = MR_KAFKA_INVALID_REQUEST;
        return out;
    }
    if (controller->producer_id_next == controller->producer_id_end) {
        int64_t start = add_producer_ids(ctl, records);
        if (records->is_failed) {
            return NULL;
        }
        /* Nobody hears of these ids before the record is durable: answers wait for the batch. */
        controller->producer_id_next = start;
        controller->producer_id_end = start + PRODUCER_ID_BLOCK;
    }
    out->producer_id = controller->producer_id_next++;
    if (mr_bug("same-producer-id")) {
        out->producer_id = 0;
    }
    out->producer_epoch = 0;
    return out;
}

/* Half of a block is left when the next one is asked for: it is there before it is needed. */
int64_t mr_controller_producer_id(struct mr_control *control)
{
    struct mr_controller *controller = control->controller;
    controller->txn_ids.is_wanted |=
        controller->txn_ids.end - controller->txn_ids.next < PRODUCER_ID_BLOCK / 2;
    return controller->txn_ids.next < controller->txn_ids.end ? controller->txn_ids.next : -1;
}

void mr_controller_producer_id_taken(struct mr_control *control)
{
    control->controller->txn_ids.next++;
}

static void decide_txn_ids(struct mr_control *control)
{
    struct mr_controller *controller = control->controller;
    struct mr_ctl         ctl = mr_controller_ctl(control);
    struct mr_meta_mark   mark = mr_meta_records_mark(&controller->records);
    controller->txn_ids.is_wanted = false;
    int64_t start = add_producer_ids(&ctl, &controller->records);
    if (controller->records.is_failed) {
        controller->records.is_failed = false;
        mr_meta_records_rewind(&controller->records, mark);
        return;
    }
    if (mr_meta_log_replay(control, &controller->records, mark)) {
        controller->txn_ids.coming = start;
    }
}

/* ---- deciding ---- */

static void batch_durable(struct mr_control *control, struct mr_now now)
{
    struct mr_controller *controller = control->controller;
    struct mr_list       *link;
    uint64_t              number = mr_local_logs_follow(control, now);
    mr_log_dirs_durable(control, now);
    if (controller->txn_ids.coming >= 0) {
        /* What is left of the block before it is lost, as after a crash. */
        controller->txn_ids.next = controller->txn_ids.coming;
        controller->txn_ids.end = controller->txn_ids.coming + PRODUCER_ID_BLOCK;
        controller->txn_ids.coming = -1;
    }
    while ((link = mr_list_pop(&controller->decided)) != NULL) {
        struct mr_request *request = MR_LIST_ENTRY(link, struct mr_request, link);
        request->number = number;
        mr_list_add_tail(&controller->settling, link);
    }
}

/* Whether the next one may be decided now. */
static bool decide_one(struct mr_control *control, struct mr_now now)
{
    struct mr_controller *controller = control->controller;
    struct mr_ctl         ctl = mr_controller_ctl(control);
    struct mr_request    *request = MR_LIST_ENTRY(controller->queue.next, struct mr_request, link);
    struct mr_meta_mark   mark = mr_meta_records_mark(&controller->records);
    size_t                row = 0;
    while (rows[row].key != request->forward->api_key) {
        row++;
        mr_assert(row < sizeof rows / sizeof rows[0]);
    }
    if (rows[row].read != NULL) {
        if (mark.count > 0) {
            return false; /* it would see what is not durable */
        }
        mr_list_remove(&request->link);
        rows[row].read(control, now, request);
        return true;
    }
    mr_list_remove(&request->link);
    const void *response = rows[row].decide(&ctl, request, &controller->records);
    if (controller->records.is_failed || response == NULL) {
        controller->records.is_failed = false;
        mr_meta_records_rewind(&controller->records, mark);
        mr_log(control->log, MR_LOG_WARN, "no memory for a metadata request, closing api_key=%d",
               request->forward->api_key);
        mr_control_reply_close(control, request);
        return true;
    }
    mr_control_reply_prepare(control, request, response);
    if (!mr_meta_log_replay(control, &controller->records, mark)) {
        return false;
    }
    if (controller->records.count > 0) {
        mr_list_add_tail(&controller->decided, &request->link);
    } else {
        mr_control_reply_send(control, request);
    }
    return true;
}

static void decide_internal_topic(struct mr_control *control, enum mr_ctl_internal which)
{
    struct mr_controller *controller = control->controller;
    struct mr_ctl         ctl = mr_controller_ctl(control);
    struct mr_meta_mark   mark = mr_meta_records_mark(&controller->records);
    controller->is_wanted[which] = false;
    mr_ctl_topics_create_internal(&ctl, which, &controller->records);
    if (controller->records.is_failed) {
        controller->records.is_failed = false;
        mr_meta_records_rewind(&controller->records, mark);
        return;
    }
    (void)mr_meta_log_replay(control, &controller->records, mark);
}

static void decide_log_dirs(struct mr_control *control)
{
    struct mr_controller *controller = control->controller;
    struct mr_ctl         ctl = mr_controller_ctl(control);
    struct mr_meta_mark   mark = mr_meta_records_mark(&controller->records);
    mr_log_dirs_decide(&ctl, &controller->records);
    if (controller->records.is_failed) {
        mr_control_fail(control, "no memory to write down where logs are (millrace.control.bytes)");
        return;
    }
    (void)mr_meta_log_replay(control, &controller->records, mark);
}

bool mr_controller_turn(struct mr_control *control, struct mr_now now)
{
    struct mr_controller *controller = control->controller;
    uint32_t              budget = DECISIONS_PER_TURN;
    bool                  is_any = false;
    if (control->phase == MR_PHASE_FAILED || mr_meta_log_is_busy(control->meta_log)) {
        return false;
    }
    for (int which = 0; which < MR_CTL_INTERNAL_COUNT; which++) {
        if (controller->is_wanted[which]) {
            decide_internal_topic(control, (enum mr_ctl_internal)which);
            is_any = true;
        }
    }
    if (controller->txn_ids.is_wanted) {
        decide_txn_ids(control);
        is_any = true;
    }
    if (mr_log_dirs_is_due(control) && control->phase >= MR_PHASE_OPEN) {
        decide_log_dirs(control);
        is_any = true;
    }
    while (!mr_list_is_empty(&controller->queue) && budget > 0 && !mr_control_has_worked(control) &&
           controller->records.used < BATCH_BYTES && control->phase != MR_PHASE_FAILED &&
           decide_one(control, now)) {
        budget--;
        is_any = true;
    }
    if (controller->records.count == 0 && control->phase != MR_PHASE_FAILED) {
        mr_log_dirs_durable(control, now); /* there was nothing to write: they are deleted, or the records are too old */
    }
    if (controller->records.count > 0 && control->phase != MR_PHASE_FAILED) {
        mr_meta_log_commit(control, now, &controller->records, batch_durable);
        mr_meta_records_rewind(&controller->records, (struct mr_meta_mark){0});
    }
    return is_any;
}

bool mr_controller_settle(struct mr_control *control)
{
    struct mr_controller *controller = control->controller;
    bool                  is_any = false;
    while (!mr_list_is_empty(&controller->settling)) {
        struct mr_request *request =
            MR_LIST_ENTRY(controller->settling.next, struct mr_request, link);
        if (!mr_local_logs_done_to(control->local_logs, request->number)) {
            break;
        }
        mr_list_remove(&request->link);
        mr_control_reply_send(control, request);
        is_any = true;
    }
    return is_any;
}

void mr_controller_abandon(struct mr_control *control)
{
    struct mr_controller *controller = control->controller;
    struct mr_list *lists[] = {&controller->queue, &controller->decided, &controller->settling};
    for (size_t index = 0; index < sizeof lists / sizeof lists[0]; index++) {
        struct mr_list *link;
        while ((link = mr_list_pop(lists[index])) != NULL) {
            mr_control_reply_close(control, MR_LIST_ENTRY(link, struct mr_request, link));
        }
    }
}
