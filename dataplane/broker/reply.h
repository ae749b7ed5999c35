/*
 * reply: a response struct becomes the spans that are sent: length, header, body; records as lent.
 */
#ifndef MILLRACE_REPLY_H
#define MILLRACE_REPLY_H

#include "broker/request.h"
#include "millrace/kafka/errors.h"

/*
 * Encode `response` (a struct of the API's response) into the request's arena and answer with it.
 *
 *   record_bytes, record_spans   what RECORDS in it add: they are not copied
 *
 * MR_AGAIN: no memory now; cannot be when the handler has reserved enough with mr_request_more.
 * Any other error is a response that its version cannot carry: ours to avoid (asserted).
 */
enum mr_err mr_reply_message(struct mr_request *request, const void *response,
                             uint32_t record_bytes, uint32_t record_spans);

/* The same in a given version, for ApiVersions' answer to a version it does not know. */
enum mr_err mr_reply_version(struct mr_request *request, const void *response, int16_t version);

/* Answer with bytes that somebody else encoded: our length and header before them. */
enum mr_err mr_reply_chain(struct mr_request *request, const struct mr_chain *body);

/* Memory for encoding a response whose size is known to be at most `bytes`. */
static inline size_t mr_reply_room(size_t bytes, uint32_t record_spans)
{
    return bytes + 256 + sizeof(struct mr_span) * (2 * (size_t)record_spans + 8);
}

#endif
