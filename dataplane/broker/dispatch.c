/*
 * dispatch: api.def -> handler here, or ring to control.
 */
#include "broker/dispatch.h"

#include "broker/forward.h"
#include "data_core.h"

void mr_dispatch_header(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    enum mr_err err = mr_header_decode(&request->body, &request->arena, &request->header);
    if (err == MR_OK) {
        if (!request->session->is_proven) {
            mr_limits_proven(request->session);
        }
        return;
    }
    bool is_versions = err == MR_ERR_UNSUPPORTED_VERSION && request->header.api != NULL &&
                       request->header.key == MR_API_API_VERSIONS;
    if (is_versions) {
        request->is_version_unknown = true;
        return;
    }
    request->is_refused = true;
    core->stats.frames_refused++;
    if (mr_log_may(&core->brake_frame, core->now.mono_ns, MR_NS_PER_S)) {
        mr_log(core->log, MR_LOG_WARN,
               "request refused, connection closed peer=%s key=%d version=%d why=%s",
               request->session->conn->peer, request->header.key, request->header.version,
               mr_err_text(err));
    }
}

static enum mr_err start(struct mr_request *request)
{
    if (request->core->image == NULL) {
        return MR_ERR_CLOSED; /* not listening before the first image: cannot be */
    }
    if (request->is_version_unknown) {
        return mr_handle_versions_unsupported(request);
    }
    if (request->header.api->plane == MR_PLANE_CONTROL) {
        return mr_forward_send(request);
    }
    switch (request->header.key) {
    case MR_API_PRODUCE:
        return mr_handle_produce(request);
    case MR_API_FETCH:
        return mr_handle_fetch(request);
    case MR_API_LIST_OFFSETS:
        return mr_handle_offsets(request);
    case MR_API_METADATA:
        return mr_handle_metadata(request);
    case MR_API_API_VERSIONS:
        return mr_handle_versions(request);
    case MR_API_DELETE_RECORDS:
        return mr_handle_delete_records(request);
    case MR_API_OFFSET_FOR_LEADER_EPOCH:
        return mr_handle_epochs(request);
    case MR_API_DESCRIBE_CLUSTER:
        return mr_handle_cluster(request);
    case MR_API_DESCRIBE_TOPIC_PARTITIONS:
        return mr_handle_topic_partitions(request);
    default: /* an int16_t from outside, not an enum */
        return MR_ERR_NOT_FOUND;
    }
}

enum mr_err mr_dispatch_start(struct mr_request *request)
{
    struct mr_data_core *core = request->core;
    enum mr_err err = MR_ERR_MALFORMED;
    if (!request->is_refused) {
        mr_trace(core->trace, MR_EVENT_request_begin, (uint16_t)request->header.key,
                 (uint16_t)request->header.version);
        request->state = MR_REQUEST_RUNNING;
        err = start(request);
    }
    if (err == MR_OK) {
        return MR_OK;
    }
    if (err == MR_AGAIN) {
        request->state = MR_REQUEST_QUEUED;
        mr_request_rewind(request);
        return MR_AGAIN;
    }
    if (!request->is_refused) {
        core->stats.frames_refused++;
        if (mr_log_may(&core->brake_frame, core->now.mono_ns, MR_NS_PER_S)) {
            mr_log(core->log, MR_LOG_WARN,
                   "request refused, connection closed peer=%s api=%s version=%d why=%s",
                   request->session->conn->peer, request->header.api->name, request->header.version,
                   mr_err_text(err));
        }
    }
    request->is_close_after = true;
    mr_session_answered(request);
    return MR_OK;
}

void mr_dispatch_resume(struct mr_request *request)
{
    if (request->session == NULL && !request->is_internal) {
        mr_request_free(request); /* its connection is gone */
        return;
    }
    switch (request->header.key) {
    case MR_API_PRODUCE:
        mr_handle_produce_done(request);
        return;
    case MR_API_FETCH:
        mr_handle_fetch_done(request);
        return;
    case MR_API_LIST_OFFSETS:
        mr_handle_offsets_done(request);
        return;
    case MR_API_DELETE_RECORDS:
        mr_handle_delete_records_done(request);
        return;
    case MR_API_OFFSET_FOR_LEADER_EPOCH:
        mr_handle_epochs_done(request);
        return;
    default:
        mr_unreachable("only these ask storage");
    }
}
