/*
 * http: GET over HTTP/1.1, for metrics and health: the seam to millrace-http.so, which knows libmicrohttpd. It is loaded when
 * millrace.metrics.listener is set; what the library brings (TLS among it) costs nobody else anything.
 *
 * Threads: one of the library's own; `answer` is called there.
 */
#ifndef MILLRACE_CONTROL_HTTP_H
#define MILLRACE_CONTROL_HTTP_H

#include "millrace/base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define MR_HTTP_OPEN_SYMBOL "mr_http_open"

struct mr_http_params {
    struct sockaddr_storage address; /* to listen on */
    size_t body_max;                 /* bytes of the longest answer */
    /* The answer to GET `path`, at most `size` bytes into `body`; returns the status. */
    uint32_t (*answer)(const char *path, char *body, size_t size, size_t *len);
};

/* Listen and serve until the process ends. False: `why` says why not. */
typedef bool mr_http_open_fn(const struct mr_http_params *params, char *why, size_t why_size);

#endif
