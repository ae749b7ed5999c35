/*
 * forward: what control answers: out as a struct mr_forward over the ring, back with a reply.
 *
 * The frame stays with the request and is readable by control until it replies; the reply's bytes
 * are control's until REPLY_DONE. Thread: the data core.
 */
#ifndef MILLRACE_FORWARD_H
#define MILLRACE_FORWARD_H

#include "broker/request.h"

enum mr_err mr_forward_send(struct mr_request *request);

/* A MR_PLANE_REPLY. */
void mr_forward_reply(struct mr_data_core *core, struct mr_forward *forward);

/* The reply's bytes are not needed any more. */
void mr_forward_done(struct mr_request *request);

/* Ask control to create these topics with the broker's defaults; nobody waits for the answer. */
void mr_forward_create_topics(struct mr_data_core *core, const struct mr_str *names,
                              uint32_t count);

/* Ask control for something that a request of the client's needs: `in` in that version. The answer comes to
 * mr_produce_txn_answered. MR_ERR_NO_MEMORY: the arena has no room for it. */
enum mr_err mr_forward_ask(struct mr_request *request, int16_t api_key, int16_t version,
                           const struct mr_msg *msg, const void *in);

#endif
