/*
 * handle_versions: ApiVersions, from api.def: exactly what is served.
 *
 * A version that we do not know is answered in version 0 with UNSUPPORTED_VERSION and our range, so
 * that the client can ask again (KIP-511). From version 5 a client may say which cluster and node it
 * means; the wrong one is told to begin anew (KIP-1242).
 */
#include "broker/dispatch.h"
#include "broker/reply.h"
#include "data_core.h"

#include "millrace/base/bug.h"

/*
 * The features of Kafka 4.4, and the levels at which this broker serves them; one that it does not
 * serve is known at level 0, and at no other.
 */
static const struct {
    const char *name;
    int16_t min;
    int16_t max;
} features[] = {
#define FEATURE(name_, min_, max_, served_, format_level_, format_needs_) {name_, min_, served_},
#include "millrace/features.def"
};
#define FEATURES (sizeof features / sizeof features[0])

enum mr_err mr_handle_versions_unsupported(struct mr_request *request)
{
    struct mr_api_versions_response out;
    struct mr_api_versions_response_api_version one;
    const struct mr_api *api = request->header.api;
    MR_DEFAULTS(api_versions_response, &out);
    out.error_code = MR_KAFKA_UNSUPPORTED_VERSION;
    one = (struct mr_api_versions_response_api_version){
        .api_key = api->key, .min_version = api->listed_min, .max_version = api->version_max};
    out.api_keys = &one;
    out.api_keys_count = 1;
    return mr_reply_version(request, &out, 0);
}

/* Kafka's rule for software names and versions: letters, digits, '-' and '.', not at the ends. */
static bool is_software_name(struct mr_str name)
{
    if (name.len < 1) {
        return false;
    }
    for (int32_t at = 0; at < name.len; at++) {
        char c = name.data[at];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool is_inner = at > 0 && at + 1 < name.len && (c == '-' || c == '.');
        if (!is_plain && !is_inner) {
            return false;
        }
    }
    return true;
}

static int16_t check(const struct mr_request *request, const struct mr_api_versions_request *in)
{
    const struct mr_image *image = request->core->image;
    if (request->header.version >= 3 && (!is_software_name(in->client_software_name) ||
                                         !is_software_name(in->client_software_version))) {
        return MR_KAFKA_INVALID_REQUEST;
    }
    bool is_other_cluster =
        !mr_str_is_null(in->cluster_id) && !mr_str_equal(in->cluster_id, image->cluster_id);
    bool is_other_node = in->node_id != -1 && in->node_id != image->node_id;
    if (request->header.version >= 5 && (is_other_cluster || is_other_node) &&
        !mr_bug("any-node")) {
        return MR_KAFKA_REBOOTSTRAP_REQUIRED;
    }
    return MR_KAFKA_NONE;
}

/* Clients below version 4 do not know that a range may begin at 0: to them it begins at 1, or the
 * feature is not there. */
static void list_features(struct mr_api_versions_response *out, int16_t version)
{
    int16_t least = version >= 4 ? 0 : 1;
    for (size_t index = 0; index < FEATURES; index++) {
        if (features[index].max >= least) {
            out->supported_features[out->supported_features_count++] =
                (struct mr_api_versions_response_supported_feature_key){
                    .name = mr_str(features[index].name),
                    .min_version = features[index].min > least ? features[index].min : least,
                    .max_version = features[index].max,
                };
        }
    }
}

enum mr_err mr_handle_versions(struct mr_request *request)
{
    const struct mr_image *image = request->core->image;
    struct mr_api_versions_request in;
    enum mr_err err = mr_request_decode(request, &in);
    if (err != MR_OK) {
        return err;
    }
    err = mr_request_more(request,
                          mr_api_count * sizeof(struct mr_api_versions_response_api_version) +
                              (image->feature_count + FEATURES) *
                                  (sizeof(struct mr_api_versions_response_supported_feature_key) +
                                   sizeof(struct mr_api_versions_response_finalized_feature_key)));
    if (err != MR_OK) {
        return err;
    }
    struct mr_api_versions_response out;
    MR_DEFAULTS(api_versions_response, &out);
    out.error_code = check(request, &in);
    if (out.error_code != MR_KAFKA_NONE) {
        return mr_reply_message(request, &out, 0, 0);
    }
    out.api_keys =
        MR_ARENA_TRY(&request->arena, struct mr_api_versions_response_api_version, mr_api_count);
    out.supported_features =
        MR_ARENA_TRY(&request->arena, struct mr_api_versions_response_supported_feature_key,
                     FEATURES);
    out.finalized_features =
        MR_ARENA_TRY(&request->arena, struct mr_api_versions_response_finalized_feature_key,
                     image->feature_count + 1);
    mr_assert(out.api_keys != NULL && out.supported_features != NULL &&
              out.finalized_features != NULL);
    for (uint32_t index = 0; index < mr_api_count; index++) {
        const struct mr_api *api = &mr_api_all[index];
        if (api->is_served) {
            out.api_keys[out.api_keys_count++] =
                (struct mr_api_versions_response_api_version){.api_key = api->key,
                                                              .min_version = api->listed_min,
                                                              .max_version = api->version_max};
        }
    }
    list_features(&out, request->header.version);
    for (uint32_t index = 0; index < image->feature_count; index++) {
        out.finalized_features[out.finalized_features_count++] =
            (struct mr_api_versions_response_finalized_feature_key){
                .name = image->features[index].name,
                .max_version_level = image->features[index].level,
                .min_version_level = image->features[index].level};
    }
    out.finalized_features_epoch = image->offset;
    return mr_reply_message(request, &out, 0, 0);
}
