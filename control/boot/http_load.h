/* http_load: millrace.metrics.listener: parsed, its shared object loaded, listening. Start-up, the main thread. */
#ifndef MILLRACE_CONTROL_HTTP_LOAD_H
#define MILLRACE_CONTROL_HTTP_LOAD_H

#include "millrace/config.h"
#include "observe/http.h"

/* "127.0.0.1:9404", "[::1]:9404". False: `why` says what was expected. */
bool mr_http_load_address(struct mr_str text, struct sockaddr_storage *out, char *why, size_t why_size);

/* Listen where the configuration says; nothing when it says nothing. False: `why` says why not. */
bool mr_http_load(const struct mr_config *config, struct mr_http_params *params, char *why, size_t why_size);

#endif
