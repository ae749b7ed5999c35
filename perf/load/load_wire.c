#include "load_wire.h"

#include "millrace/base/bytes.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "millrace/kafka/frame.h"
#include "millrace/kafka/header.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SCRATCH_BYTES (32u << 20)
#define ANSWER_MAX    (64u << 20)
#define TIMEOUT_S     60
#define READY_TRIES   600 /* a fresh broker may still be loading what it coordinates */
#define PAUSE_US      100000

static int connect_one(const struct addrinfo *found)
{
    int one = 1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    return fd;
}

int mr_load_wire_connect(const char *address, char *why, size_t why_size)
{
    char             host[256];
    const char      *colon = strrchr(address, ':');
    struct addrinfo  hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (colon == NULL || colon == address || (size_t)(colon - address) >= sizeof host) {
        snprintf(why, why_size, "%.200s is not HOST:PORT", address);
        return -1;
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    int status = getaddrinfo(host, colon + 1, &hints, &found);
    if (status != 0) {
        snprintf(why, why_size, "%.200s: %s", address, gai_strerror(status));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *one = found; one != NULL && fd < 0; one = one->ai_next) {
        fd = connect_one(one);
    }
    if (fd < 0) {
        snprintf(why, why_size, "cannot connect to %.200s: %s", address, strerror(errno));
    }
    freeaddrinfo(found);
    return fd;
}

static bool fail(struct mr_load_wire *wire, const char *what, const char *reason)
{
    snprintf(wire->error, sizeof wire->error, "%.200s: %s: %s", wire->address, what, reason);
    return false;
}

static bool send_all(struct mr_load_wire *wire, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(wire->fd, data, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return fail(wire, "send", strerror(errno));
        }
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

static bool receive(struct mr_load_wire *wire, uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t got = recv(wire->fd, data, len, MSG_WAITALL);
        if (got == 0) {
            return fail(wire, "receive", "the broker closed the connection");
        }
        if (got < 0) {
            return fail(wire, "receive", errno == EAGAIN ? "no answer within 60 s" : strerror(errno));
        }
        data += got;
        len -= (size_t)got;
    }
    return true;
}

static bool receive_frame(struct mr_load_wire *wire, uint32_t *len)
{
    uint8_t prefix[4];
    if (!receive(wire, prefix, sizeof prefix)) {
        return false;
    }
    *len = mr_load_be32(prefix);
    if (*len < 4 || *len > ANSWER_MAX) {
        return fail(wire, "receive", "what it answers is not Kafka's protocol");
    }
    if (*len > wire->in_size) {
        uint8_t *grown = realloc(wire->in, *len);
        if (grown == NULL) {
            return fail(wire, "receive", "out of memory");
        }
        wire->in = grown;
        wire->in_size = *len;
    }
    return receive(wire, wire->in, *len);
}

static bool send_request(struct mr_load_wire *wire, const struct mr_api *api, int16_t version, const void *request)
{
    struct mr_span   spans[64];
    struct mr_writer writer;
    mr_writer_init(&writer, &wire->scratch, spans, 64);
    uint8_t    *prefix = mr_frame_begin(&writer);
    enum mr_err err =
        mr_header_encode_request(&writer, api, version, ++wire->correlation, MR_STR("millrace-load"));
    err = err != MR_OK ? err : mr_msg_encode(api->request, version, request, &writer);
    err = err != MR_OK ? err : mr_frame_end(&writer, prefix);
    if (err != MR_OK) {
        return fail(wire, api->name, mr_err_text(err));
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    for (uint32_t index = 0; index < chain.span_count; index++) {
        if (!send_all(wire, chain.spans[index].data, chain.spans[index].len)) {
            return false;
        }
    }
    return true;
}

static bool call(struct mr_load_wire *wire, const struct mr_api *api, int16_t version, const void *request,
                 void *response)
{
    uint32_t         len = 0;
    int32_t          correlation;
    struct mr_reader reader;
    mr_arena_reset(&wire->scratch);
    if (!send_request(wire, api, version, request) || !receive_frame(wire, &len)) {
        return false;
    }
    mr_reader_init_bytes(&reader, wire->in, len);
    enum mr_err err = mr_reader_int32(&reader, &correlation);
    if (err == MR_OK && correlation != wire->correlation) {
        return fail(wire, api->name, "the answer belongs to another request");
    }
    if (err == MR_OK && mr_header_response_version(api, version) > 0) {
        err = mr_reader_skip(&reader, 1); /* no tagged fields are known in it */
    }
    err = err != MR_OK ? err : mr_msg_decode(api->response, version, &reader, &wire->scratch, response);
    return err == MR_OK || fail(wire, api->name, mr_err_text(err));
}

static bool ask_versions(struct mr_load_wire *wire)
{
    struct mr_api_versions_request  request;
    struct mr_api_versions_response response;
    MR_DEFAULTS(api_versions_request, &request);
    if (!call(wire, mr_api_find_row(MR_API_API_VERSIONS), 0, &request, &response)) {
        return false;
    }
    for (int32_t index = 0; index < response.api_keys_count; index++) {
        const struct mr_api_versions_response_api_version *api = &response.api_keys[index];
        if (api->api_key >= 0 && api->api_key < MR_LOAD_API_MAX) {
            wire->version_min[api->api_key] = api->min_version;
            wire->version_max[api->api_key] = api->max_version;
        }
    }
    return response.error_code == 0 || mr_load_wire_refused(wire, "ApiVersions", response.error_code);
}

bool mr_load_wire_open(struct mr_load_wire *wire, const char *address)
{
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    *wire = (struct mr_load_wire){.fd = -1};
    snprintf(wire->address, sizeof wire->address, "%.290s", address);
    for (int key = 0; key < MR_LOAD_API_MAX; key++) {
        wire->version_min[key] = -1;
        wire->version_max[key] = -1;
    }
    wire->scratch_memory = malloc(SCRATCH_BYTES);
    if (wire->scratch_memory == NULL) {
        return fail(wire, "open", "out of memory");
    }
    mr_arena_init(&wire->scratch, wire->scratch_memory, SCRATCH_BYTES);
    wire->fd = mr_load_wire_connect(address, wire->error, sizeof wire->error);
    if (wire->fd >= 0) {
        (void)setsockopt(wire->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        if (ask_versions(wire)) {
            return true;
        }
    }
    mr_load_wire_close(wire);
    return false;
}

void mr_load_wire_close(struct mr_load_wire *wire)
{
    if (wire->fd >= 0) {
        close(wire->fd);
    }
    free(wire->in);
    free(wire->scratch_memory);
    wire->fd = -1;
    wire->in = NULL;
    wire->in_size = 0;
    wire->scratch_memory = NULL;
}

int16_t mr_load_wire_version(const struct mr_load_wire *wire, int16_t key, int16_t most)
{
    const struct mr_api *api = mr_api_find_row(key);
    int16_t              version = api->version_max < most ? api->version_max : most;
    if (wire->version_max[key] < version) {
        version = wire->version_max[key];
    }
    return version < api->version_min || version < wire->version_min[key] ? -1 : version;
}

bool mr_load_wire_call(struct mr_load_wire *wire, int16_t key, int16_t most, const void *request, void *response)
{
    const struct mr_api *api = mr_api_find_row(key);
    int16_t              version = mr_load_wire_version(wire, key, most);
    if (version < 0) {
        return fail(wire, api->name, "the broker serves no version of it that we speak");
    }
    return call(wire, api, version, request, response);
}

bool mr_load_wire_refused(struct mr_load_wire *wire, const char *what, int16_t code)
{
    return fail(wire, what, mr_errors_name(code));
}

bool mr_load_wire_coordinator(struct mr_load_wire *wire, const char *broker, enum mr_load_coordinator type, struct mr_str key)
{
    struct mr_find_coordinator_request  request;
    struct mr_find_coordinator_response response;
    char                                address[300];
    for (int tries = 0; tries < READY_TRIES; tries++) {
        MR_DEFAULTS(find_coordinator_request, &request);
        request.key = key;
        request.key_type = (int8_t)type;
        if (!mr_load_wire_open(wire, broker) ||
            !mr_load_wire_call(wire, MR_API_FIND_COORDINATOR, 3, &request, &response)) {
            return false;
        }
        if (response.error_code == 0) {
            snprintf(address, sizeof address, "%.*s:%d", (int)response.host.len, response.host.data, response.port);
            mr_load_wire_close(wire);
            return mr_load_wire_open(wire, address);
        }
        mr_load_wire_close(wire);
        if (!mr_errors_is_retriable(response.error_code)) {
            return mr_load_wire_refused(wire, "find coordinator", response.error_code);
        }
        usleep(PAUSE_US);
    }
    return mr_load_wire_refused(wire, "find coordinator", MR_KAFKA_COORDINATOR_NOT_AVAILABLE);
}

bool mr_load_wire_producer_id(struct mr_load_wire *wire, struct mr_str transactional_id, int32_t timeout_ms, int64_t *id,
                              int16_t *epoch)
{
    struct mr_init_producer_id_request  request;
    struct mr_init_producer_id_response response;
    MR_DEFAULTS(init_producer_id_request, &request);
    request.transactional_id = transactional_id;
    request.transaction_timeout_ms = timeout_ms;
    for (int tries = 0; tries < READY_TRIES; tries++) {
        if (!mr_load_wire_call(wire, MR_API_INIT_PRODUCER_ID, 4, &request, &response)) {
            return false;
        }
        if (!mr_errors_is_retriable(response.error_code)) {
            break;
        }
        usleep(PAUSE_US);
    }
    *id = response.producer_id;
    *epoch = response.producer_epoch;
    return response.error_code == 0 || mr_load_wire_refused(wire, "InitProducerId", response.error_code);
}
