/*
 * forward: to control and back.
 */
#include "broker/forward.h"

#include "broker/produce.h"
#include "broker/reply.h"
#include "data_core.h"

static void send_to_control(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    struct mr_plane_msg msg = {.kind = MR_PLANE_REQUEST, .u.forward = &request->forward};
    request->forward.session_slot = request;
    request->is_forwarded = true;
    mr_port_send(core->port, mr_endpoint_control(core->endpoints), &msg);
}

enum mr_err mr_forward_send(struct mr_request *request)
{
    struct mr_session *session = request->session;
    enum mr_err err =
        mr_request_more(request, sizeof(struct mr_span) * (request->body.next_count + 2));
    if (err != MR_OK) {
        return err;
    }
    request->forward = (struct mr_forward){
        .conn_id = session->id,
        .data_endpoint = request->core->port->self,
        .api_key = request->header.key,
        .api_version = request->header.version,
        .correlation_id = request->header.correlation_id,
        .client_id = request->header.client_id,
        .client_host = mr_str(session->conn->peer),
        .listener = session->conn->listener,
        .session = session,
    };
    /* the connection may close while control reads: the address moves into the request */
    memcpy(request->peer, session->conn->peer, sizeof request->peer);
    request->forward.client_host.data = request->peer;
    struct mr_reader reader = request->body;
    err =
        mr_reader_chain(&reader, mr_reader_left(&reader), &request->arena, &request->forward.body);
    if (err != MR_OK) {
        return err == MR_ERR_NO_MEMORY ? MR_AGAIN : err;
    }
    session->is_forwarded = true;
    send_to_control(request);
    return MR_OK;
}

void mr_forward_done(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    struct mr_plane_msg msg = {.kind = MR_PLANE_REPLY_DONE,
                               .u.cookie = request->forward.reply_cookie};
    request->is_reply_lent = false;
    mr_port_send(core->port, mr_endpoint_control(core->endpoints), &msg);
}

enum mr_err mr_forward_ask(struct mr_request *request, int16_t api_key, int16_t version,
                           const struct mr_msg *msg, const void *in)
{
    struct mr_span *spans = MR_ARENA_TRY(&request->arena, struct mr_span, 8);
    if (spans == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    struct mr_writer writer;
    mr_writer_init(&writer, &request->arena, spans, 8);
    enum mr_err err = mr_msg_encode(msg, version, in, &writer);
    if (err != MR_OK) {
        return err;
    }
    request->forward = (struct mr_forward){
        .conn_id = 0, /* not the client's own words */
        .data_endpoint = request->core->port->self,
        .api_key = api_key,
        .api_version = version,
        .client_id = MR_STR("millrace-produce"),
        .client_host = MR_STR(""),
        .body = mr_writer_finish(&writer),
    };
    send_to_control(request);
    return MR_OK;
}

/* Control has answered what was asked on behalf of a Produce. No words: it had no memory, or stops. */
static void asked_done(struct mr_request *request, const struct mr_forward *forward)
{
    static const struct mr_chain nothing;
    const struct mr_chain *reply = forward->is_close_wanted ? &nothing : &forward->reply;
    mr_produce_txn_answered(request, reply);
    mr_forward_done(request);
}

void mr_forward_reply(struct mr_data_core *core, struct mr_forward *forward)
{
    struct mr_request *request = forward->session_slot;
    mr_assert(request->core == core && request->is_forwarded);
    request->is_forwarded = false;
    request->is_reply_lent = true;
    if (request->session != NULL && request->header.key == MR_API_PRODUCE) {
        asked_done(request, forward);
        return;
    }
    mr_request_release_frame(request);
    if (request->session == NULL) {
        mr_request_free(request);
        return;
    }
    if (forward->is_close_wanted) {
        mr_session_close(request->session, MR_OK);
        return;
    }
    if (forward->is_silent) {
        mr_session_answered(request);
        return;
    }
    if (request->session->is_closing) {
        return;
    }
    if (mr_reply_chain(request, &forward->reply) != MR_OK) {
        mr_session_close(request->session, MR_ERR_NO_MEMORY);
    }
}

/* ---- automatic creation ---- */

#define CREATING_MAX 8u /* requests of our own under way */

struct creating {
    struct mr_str *names;
    uint32_t count;
};

static bool is_creating(const struct mr_data_core *core, struct mr_str name)
{
    MR_LIST_EACH(link, &core->creating)
    {
        const struct creating *creating = MR_LIST_ENTRY(link, struct mr_request, link)->work;
        for (uint32_t index = 0; index < creating->count; index++) {
            if (mr_str_equal(creating->names[index], name)) {
                return true;
            }
        }
    }
    return false;
}

static bool build(struct mr_request *request, struct creating *creating)
{
    struct mr_create_topics_request in;
    MR_DEFAULTS(create_topics_request, &in);
    in.timeout_ms = 30000;
    in.topics = MR_ARENA_TRY(&request->arena, struct mr_create_topics_request_creatable_topic,
                             creating->count);
    if (in.topics == NULL) {
        return false;
    }
    in.topics_count = (int32_t)creating->count;
    for (uint32_t index = 0; index < creating->count; index++) {
        MR_DEFAULTS(create_topics_request_creatable_topic, &in.topics[index]);
        in.topics[index].name = creating->names[index];
        in.topics[index].num_partitions = -1;
        in.topics[index].replication_factor = -1;
    }
    struct mr_span *spans = MR_ARENA_TRY(&request->arena, struct mr_span, 8);
    if (spans == NULL) {
        return false;
    }
    struct mr_writer writer;
    mr_writer_init(&writer, &request->arena, spans, 8);
    if (mr_msg_encode(&mr_msg_create_topics_request, MR_MAX_create_topics_request, &in, &writer) !=
        MR_OK) {
        return false;
    }
    request->forward = (struct mr_forward){
        .conn_id = 0, /* no connection */
        .data_endpoint = request->core->port->self,
        .api_key = MR_API_CREATE_TOPICS,
        .api_version = MR_MAX_create_topics_request,
        .client_id = MR_STR("millrace-auto-create"),
        .client_host = MR_STR(""),
        .body = mr_writer_finish(&writer),
    };
    return true;
}

void mr_forward_create_topics(struct mr_data_core *core, const struct mr_str *names, uint32_t count)
{
    uint32_t under_way = 0;
    MR_LIST_EACH(link, &core->creating)
    {
        under_way++;
    }
    struct mr_request *request = under_way < CREATING_MAX ? mr_request_new(core) : NULL;
    if (request == NULL ||
        mr_request_more(request,
                        sizeof(struct creating) +
                            count * (sizeof(struct mr_str) + 2 * MR_TOPIC_NAME_MAX +
                                     sizeof(struct mr_create_topics_request_creatable_topic) + 32) +
                            1024) != MR_OK) {
        if (request != NULL) {
            mr_request_free(request);
        }
        return; /* the client asks again */
    }
    struct creating *creating = MR_ARENA_TRY(&request->arena, struct creating, 1);
    *creating = (struct creating){.names = MR_ARENA_TRY(&request->arena, struct mr_str, count)};
    for (uint32_t index = 0; index < count; index++) {
        char *copy = MR_ARENA_TRY(&request->arena, char, names[index].len);
        mr_assert(copy != NULL);
        if (is_creating(core, names[index])) {
            continue;
        }
        memcpy(copy, names[index].data, (size_t)names[index].len);
        creating->names[creating->count++] = (struct mr_str){.data = copy, .len = names[index].len};
    }
    request->is_internal = true;
    request->work = creating;
    if (creating->count == 0 || !build(request, creating)) {
        mr_request_free(request);
        return;
    }
    mr_list_add_tail(&core->creating, &request->link);
    send_to_control(request);
}
