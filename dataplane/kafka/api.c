/*
 * api: the rows of api.def as a table, found by key.
 */
#include "millrace/kafka/api.h"

#include "millrace/kafka/messages.h"

#include <stddef.h>

#define NEVER  INT16_MAX
#define SERVED true
#define LATER  false

const struct mr_api mr_api_all[] = {
#define API(key_, NAME_, snake_, name_, min_, max_, flex_, listed_, plane_, resource_, op_, now_)  \
    {                                                                                              \
        .name = (name_),                                                                           \
        .request = &mr_msg_##snake_##_request,                                                     \
        .response = &mr_msg_##snake_##_response,                                                   \
        .key = (key_),                                                                             \
        .version_min = (min_),                                                                     \
        .version_max = (max_),                                                                     \
        .flexible_since = (flex_),                                                                 \
        .listed_min = (listed_),                                                                   \
        .plane = MR_PLANE_##plane_,                                                                \
        .resource = MR_RESOURCE_##resource_,                                                       \
        .op = MR_OP_##op_,                                                                         \
        .is_served = (now_),                                                                     \
    },
#include "millrace/kafka/api.def"
#undef API
};

const uint32_t mr_api_count = (uint32_t)(sizeof mr_api_all / sizeof mr_api_all[0]);

const struct mr_api *mr_api_find_row(int16_t key)
{
    uint32_t low = 0;
    uint32_t high = mr_api_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (mr_api_all[middle].key == key) {
            return &mr_api_all[middle];
        }
        if (mr_api_all[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const struct mr_api *mr_api_find(int16_t key)
{
    const struct mr_api *api = mr_api_find_row(key);
    return api != NULL && api->is_served ? api : NULL;
}

const struct mr_msg *mr_api_request_desc(int16_t key)
{
    const struct mr_api *api = mr_api_find_row(key);
    return api != NULL ? api->request : NULL;
}

const struct mr_msg *mr_api_response_desc(int16_t key)
{
    const struct mr_api *api = mr_api_find_row(key);
    return api != NULL ? api->response : NULL;
}
