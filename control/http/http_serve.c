/* http_serve: millrace-http.so: the only code that knows libmicrohttpd. */
#include "millrace/base/fmt.h"
#include "observe/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_MAX 16u
#define TIMEOUT_S       10u
#define CONNECTION_BYTES ((size_t)16 << 10) /* for a request's head */

static struct mr_http_params params;

bool mr_http_open(const struct mr_http_params *wanted, char *why, size_t why_size);

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, char *body, size_t len,
                             enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, body, mode);
    if (response == NULL) {
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **seen)
{
    static char refusal[] = "only GET\n";
    static char marker;
    (void)user;
    (void)version;
    (void)upload;
    if (*seen == NULL) {
        *seen = &marker; /* the head; the body, which nobody wants, follows */
        return MHD_YES;
    }
    if (*upload_size != 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        return reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, refusal, sizeof refusal - 1, MHD_RESPMEM_PERSISTENT);
    }
    char  *body = malloc(params.body_max);
    size_t len = 0;
    if (body == NULL) {
        return MHD_NO;
    }
    unsigned status = params.answer(path, body, params.body_max, &len);
    return reply(connection, status, body, len, MHD_RESPMEM_MUST_FREE);
}

bool mr_http_open(const struct mr_http_params *wanted, char *why, size_t why_size)
{
    bool is_ip6 = wanted->address.ss_family == AF_INET6;
    params = *wanted;
    errno = 0;
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_AUTO_INTERNAL_THREAD | (is_ip6 ? MHD_USE_IPv6 : 0u), 0, NULL, NULL, on_request, NULL, MHD_OPTION_SOCK_ADDR,
        (const struct sockaddr *)&params.address, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, MHD_OPTION_END);
    if (daemon == NULL) {
        mr_fmt(why, why_size, "%s", errno != 0 ? strerror(errno) : "libmicrohttpd does not say why");
    }
    return daemon != NULL;
}
