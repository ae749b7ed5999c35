/*
 * api: one row per Kafka API (api.def): what ApiVersions lists, who handles it, who may call it.
 *
 * An API that is not served yet has message rows but no handler: ApiVersions does not list it, and
 * a request for it is refused as an unknown API.
 */
#ifndef MILLRACE_KAFKA_API_H
#define MILLRACE_KAFKA_API_H

#include "millrace/kafka/schema.h"

#include <stdbool.h>
#include <stdint.h>

enum mr_api_key {
#define API(key_, NAME_, ...) MR_API_##NAME_ = (key_),
#include "millrace/kafka/api.def"
#undef API
};

/* Who runs the handler: the data core that holds the connection, or the control thread. */
enum mr_api_plane {
    MR_PLANE_DATA,
    MR_PLANE_CONTROL,
};

/* Kafka's resource types and operations (AclBinding codes), as authorisation names them. */
enum mr_acl_resource {
    MR_RESOURCE_NONE = 0,
    MR_RESOURCE_TOPIC = 2,
    MR_RESOURCE_GROUP = 3,
    MR_RESOURCE_CLUSTER = 4,
    MR_RESOURCE_TRANSACTIONAL_ID = 5,
};

enum mr_acl_op {
    MR_OP_NONE = 0,
    MR_OP_READ = 3,
    MR_OP_WRITE = 4,
    MR_OP_CREATE = 5,
    MR_OP_DELETE = 6,
    MR_OP_ALTER = 7,
    MR_OP_DESCRIBE = 8,
    MR_OP_CLUSTER_ACTION = 9,
    MR_OP_DESCRIBE_CONFIGS = 10,
    MR_OP_ALTER_CONFIGS = 11,
    MR_OP_IDEMPOTENT_WRITE = 12,
};

struct mr_api {
    const char           *name; /* "Produce"                                                     */
    const struct mr_msg  *request;
    const struct mr_msg  *response;
    int16_t               key;
    int16_t               version_min; /* served                                                 */
    int16_t               version_max;
    int16_t               flexible_since; /* INT16_MAX: never                                    */
    int16_t               listed_min;     /* as ApiVersions says: 0 for Produce, else version_min */
    enum mr_api_plane     plane;
    enum mr_acl_resource  resource; /* the check every call of it needs; finer ones are handlers' */
    enum mr_acl_op        op;
    bool                  is_served;
};

/* Rows in ascending order of key. */
extern const struct mr_api mr_api_all[];
extern const uint32_t      mr_api_count;

/* The row of a served API; NULL for any other key. */
const struct mr_api *mr_api_find(int16_t key);

/* The row of any API that has rows, served or not; NULL for any other key. */
const struct mr_api *mr_api_find_row(int16_t key);

/* The rows of a request or response body; NULL for a key that has none. */
const struct mr_msg *mr_api_request_desc(int16_t key);
const struct mr_msg *mr_api_response_desc(int16_t key);

static inline bool mr_api_has_version(const struct mr_api *api, int16_t version)
{
    return api->version_min <= version && version <= api->version_max;
}

#endif
