/*
 * ctl_features: UpdateFeatures: which levels are finalised. One refusal refuses the whole request.
 *
 * Source: Apache Kafka 4.4, KIP-584, 778, 1022; the words are ours.
 */
#include "metadata/controller.h"
#include "millrace/base/bug.h"
#include "millrace/kafka/messages.h"

#define UPDATES_MAX 100 /* of one request, each compared with those behind it; Kafka knows seven */

typedef struct mr_update_features_request_feature_update_key update_in;
typedef struct mr_update_features_response_updatable_feature_result update_out;

enum upgrade_type {
    UPGRADE = 1,
    SAFE_DOWNGRADE = 2,
    UNSAFE_DOWNGRADE = 3,
};

static const struct {
    const char *name;
    int16_t min;
    int16_t served;
} features[] = {
#define FEATURE(name_, min_, max_, served_, format_level_, format_needs_) {name_, min_, served_},
#include "millrace/features.def"
};
#define FEATURES (sizeof features / sizeof features[0])

/* Levels of metadata.version that gave records a form which the level before cannot read. */
static const int16_t forms[] = {7, 8, 11, 13, 14, 15, 17, 23, 30, 32, 33};

/* Whether a level between the lower (not included) and the upper one changed the form of records. */
static bool is_form_between(int16_t lower, int16_t upper)
{
    for (size_t index = 0; index < sizeof forms / sizeof forms[0]; index++) {
        if (lower < forms[index] && forms[index] <= upper) {
            return true;
        }
    }
    return false;
}

static struct mr_str refusal(const struct mr_ctl *ctl, struct mr_request *request,
                             const update_in *update, struct mr_str why)
{
    return mr_request_text(ctl->control, request, "Invalid update version %d for feature %.*s. %.*s",
                           update->max_version_level, update->feature.len, update->feature.data,
                           why.len, why.data);
}

/* Why the broker cannot have the feature at that level; null: it can. */
static struct mr_str unsupported(const struct mr_ctl *ctl, struct mr_request *request,
                                 const update_in *update)
{
    size_t at = 0;
    while (at < FEATURES && !mr_str_equal(update->feature, mr_str(features[at].name))) {
        at++;
    }
    if (at == FEATURES) {
        return MR_STR("There is no such feature.");
    }
    if (features[at].min <= update->max_version_level &&
        update->max_version_level <= features[at].served) {
        return MR_STR_NULL;
    }
    return features[at].served == 0
               ? MR_STR("This broker does not support this feature.")
               : mr_request_text(ctl->control, request,
                                 "This broker supports levels %d to %d only.", features[at].min,
                                 features[at].served);
}

/* Why the level may not be set; null: it may. */
static struct mr_str reason(const struct mr_ctl *ctl, struct mr_request *request,
                            const update_in *update)
{
    int16_t level = update->max_version_level;
    int16_t current = mr_meta_feature(ctl->meta, update->feature);
    if (update->upgrade_type < UPGRADE || update->upgrade_type > UNSAFE_DOWNGRADE) {
        return MR_STR("There is no such type of upgrade.");
    }
    if (level < 0) {
        return MR_STR("A level cannot be less than 0.");
    }
    struct mr_str why = unsupported(ctl, request, update);
    if (!mr_str_is_null(why)) {
        return why;
    }
    if (level < current && update->upgrade_type == UPGRADE) {
        return MR_STR("The level is finalised higher: ask for a downgrade.");
    }
    if (level > current && update->upgrade_type != UPGRADE) {
        return MR_STR("A downgrade cannot go to a higher level.");
    }
    if (level < current && mr_str_equal(update->feature, MR_STR("metadata.version")) &&
        is_form_between(level, current) && !mr_bug("downgrade-anything")) {
        return mr_request_text(ctl->control, request,
                               "From level %d down to %d metadata could be lost, which no type of "
                               "downgrade does.",
                               current, level);
    }
    return MR_STR_NULL;
}

/* Of several updates of one feature the last one counts. */
static bool is_last(const struct mr_update_features_request *in, int32_t at)
{
    for (int32_t later = at + 1; later < in->feature_updates_count; later++) {
        if (mr_str_equal(in->feature_updates[later].feature, in->feature_updates[at].feature)) {
            return false;
        }
    }
    return true;
}

static void write_level(struct mr_meta_records *records, const update_in *update)
{
    struct mr_feature_level_record record = {.name = update->feature,
                                             .feature_level = update->max_version_level};
    mr_meta_records_add(records, &mr_msg_feature_level_record, 0, &record);
}

/* Up to version 1 each feature has a result of its own, which says nothing new. */
static bool list_results(const struct mr_ctl *ctl, struct mr_request *request,
                         struct mr_update_features_response *out)
{
    const struct mr_update_features_request *in = request->message;
    out->results = MR_REQUEST_NEW(ctl->control, request, update_out, in->feature_updates_count);
    if (out->results == NULL) {
        return false;
    }
    for (int32_t at = 0; at < in->feature_updates_count; at++) {
        if (is_last(in, at)) {
            out->results[out->results_count++] =
                (update_out){.feature = in->feature_updates[at].feature,
                             .error_message = MR_STR("NONE")};
        }
    }
    return true;
}

const void *mr_ctl_features_update(const struct mr_ctl *ctl, struct mr_request *request,
                                   struct mr_meta_records *records)
{
    const struct mr_update_features_request *in = request->message;
    struct mr_meta_mark mark = mr_meta_records_mark(records);
    struct mr_update_features_response *out =
        MR_REQUEST_NEW(ctl->control, request, struct mr_update_features_response, 1);
    if (out == NULL) {
        return NULL;
    }
    MR_DEFAULTS(update_features_response, out);
    out->error_message = MR_STR_NULL;
    if (in->feature_updates_count > UPDATES_MAX) {
        out->error_code = MR_KAFKA_INVALID_REQUEST;
        out->error_message =
            mr_request_text(ctl->control, request, "More than %d features.", UPDATES_MAX);
        return out;
    }
    for (int32_t at = 0; at < in->feature_updates_count; at++) {
        const update_in *update = &in->feature_updates[at];
        struct mr_str why = is_last(in, at) ? reason(ctl, request, update) : MR_STR_NULL;
        if (!mr_str_is_null(why)) {
            mr_meta_records_rewind(records, mark);
            out->error_code = MR_KAFKA_INVALID_UPDATE_VERSION;
            out->error_message = refusal(ctl, request, update, why);
            return out;
        }
        if (is_last(in, at) && !in->validate_only && !mr_bug("forget-features")) {
            write_level(records, update);
        }
    }
    return request->forward->api_version > 1 || list_results(ctl, request, out) ? out : NULL;
}
