#include "boot/http_load.h"

#include "boot/shared_object.h"
#include "millrace/base/bug.h"
#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"
#include "millrace/net/address.h"

#include <netinet/in.h>
#include <string.h>

#define KEY "millrace.metrics.listener"

static bool parse_port(struct mr_str text, uint16_t *out)
{
    uint32_t port = 0;
    for (int32_t at = 0; at < text.len && port <= UINT16_MAX; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') {
            return false;
        }
        port = port * 10 + (uint32_t)(text.data[at] - '0');
    }
    *out = (uint16_t)port;
    return text.len > 0 && port > 0 && port <= UINT16_MAX;
}

bool mr_http_load_address(struct mr_str text, struct sockaddr_storage *out, char *why, size_t why_size)
{
    struct mr_address address;
    uint16_t port = 0;
    int32_t colon = text.len - 1;
    while (colon >= 0 && text.data[colon] != ':') {
        colon--;
    }
    struct mr_str host = {.data = text.data, .len = colon < 0 ? 0 : colon};
    bool is_bracketed = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    if (is_bracketed) {
        host = (struct mr_str){.data = host.data + 1, .len = host.len - 2};
    }
    struct mr_str rest = {.data = text.data + colon + 1, .len = text.len - colon - 1};
    if (colon < 0 || !mr_address_parse(host, &address) || !parse_port(rest, &port) ||
        is_bracketed == mr_address_is_ip4(&address)) {
        mr_fmt(why, why_size, KEY "=%.*s: expected an address and a port, as 127.0.0.1:9404 or [::1]:9404", text.len, text.data);
        return false;
    }
    memset(out, 0, sizeof *out);
    if (mr_address_is_ip4(&address)) {
        struct sockaddr_in ip4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&ip4.sin_addr, address.bytes + 12, 4);
        memcpy(out, &ip4, sizeof ip4);
    } else {
        struct sockaddr_in6 ip6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&ip6.sin6_addr, address.bytes, sizeof address.bytes);
        memcpy(out, &ip6, sizeof ip6);
    }
    return true;
}

bool mr_http_load(const struct mr_config *config, struct mr_http_params *params, char *why, size_t why_size)
{
    static const char absent[] = KEY ": this build has no HTTP (no millrace-http.so beside the program); install "
                                     "libmicrohttpd-dev and build again, or leave it empty";
    char cause[256] = "";
    struct mr_str text = config->millrace_metrics_listener;
    union {
        void *symbol;
        mr_http_open_fn *open;
    } entry;
    if (text.len <= 0) {
        return true;
    }
    if (!mr_http_load_address(text, &params->address, why, why_size)) {
        return false;
    }
    entry.symbol = mr_shared_object("millrace-http.so", MR_HTTP_OPEN_SYMBOL, absent, why, why_size);
    if (entry.symbol == NULL) {
        return false;
    }
    if (!entry.open(params, cause, sizeof cause) && !mr_bug("ignore-the-listener")) {
        mr_fmt(why, why_size, KEY "=%.*s: cannot listen: %s", text.len, text.data, cause);
        return false;
    }
    return true;
}
