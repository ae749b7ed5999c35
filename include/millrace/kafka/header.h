/*
 * header: the request header that says which message follows, and the response header.
 *
 * Request header v1 before non-flexible versions of a request, v2 before flexible ones; response
 * header v0 and v1 likewise, but an ApiVersions response always has v0, because a client that asks
 * does not know yet what the broker speaks (KIP-511).
 */
#ifndef MILLRACE_KAFKA_HEADER_H
#define MILLRACE_KAFKA_HEADER_H

#include "millrace/base/arena.h"
#include "millrace/base/err.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"

struct mr_header {
    const struct mr_api *api; /* NULL: no such API is served                                 */
    int16_t              key;
    int16_t              version;
    int32_t              correlation_id;
    struct mr_str        client_id; /* may be null                                           */
};

/*
 * Read a request header; the reader then stands at the body.
 *
 * The version decides how the header itself ends, so an unknown key or a version out of range stops
 * before the client id: MR_ERR_UNSUPPORTED_VERSION with api, key, version, correlation_id set and a
 * null client_id. For ApiVersions the caller answers with v0 and error 35, for all else it closes,
 * as Kafka does. Other errors: TRUNCATED, MALFORMED, NO_MEMORY: close.
 */
enum mr_err mr_header_decode(struct mr_reader *reader, struct mr_arena *scratch,
                             struct mr_header *header);

/* Which header version goes with a version of an API. */
int16_t mr_header_request_version(const struct mr_api *api, int16_t version);
int16_t mr_header_response_version(const struct mr_api *api, int16_t version);

/* The response header of a request of `api` in `version`. Errors as mr_msg_encode. */
enum mr_err mr_header_encode_response(struct mr_writer *writer, const struct mr_api *api,
                                      int16_t version, int32_t correlation_id);

/* The request header for connections that we open. Errors as mr_msg_encode. */
enum mr_err mr_header_encode_request(struct mr_writer *writer, const struct mr_api *api,
                                     int16_t version, int32_t correlation_id,
                                     struct mr_str client_id);

#endif
