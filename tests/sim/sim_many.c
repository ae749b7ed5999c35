#include "sim_many.h"

#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"

#define NAMES 8000

static struct mr_str names[NAMES];
static char          texts[NAMES][8];

static void make_names(void)
{
    for (uint32_t index = 0; index < NAMES && names[index].data == NULL; index++) {
        mr_fmt(texts[index], sizeof texts[index], "m%04u", index);
        names[index] = mr_str(texts[index]);
    }
}

static void describe_configs(struct mr_sim_actor *actor, uint64_t user, struct mr_now now)
{
    static struct mr_describe_configs_request_describe_configs_resource resources[NAMES];
    struct mr_describe_configs_request                                  request;
    MR_DEFAULTS(describe_configs_request, &request);
    for (uint32_t index = 0; index < NAMES; index++) {
        MR_DEFAULTS(describe_configs_request_describe_configs_resource, &resources[index]);
        resources[index].resource_type = 2;
        resources[index].resource_name = names[index];
    }
    request.resources = resources;
    request.resources_count = NAMES;
    mr_sim_actor_send(actor, MR_API_DESCRIBE_CONFIGS, 4, &request, user, true, now);
}

static void fetch_offsets(struct mr_sim_actor *actor, uint64_t user, struct mr_now now)
{
    static int32_t                       partitions[NAMES];
    struct mr_offset_fetch_request       request;
    struct mr_offset_fetch_request_topic topic = {
        .name = names[0], .partition_indexes = partitions, .partition_indexes_count = NAMES};
    for (int32_t index = 0; index < NAMES; index++) {
        partitions[index] = index;
    }
    MR_DEFAULTS(offset_fetch_request, &request);
    request.group_id = names[1];
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(actor, MR_API_OFFSET_FETCH, 7, &request, user, true, now);
}

void mr_sim_many_send(struct mr_sim_actor *actor, uint32_t kind, struct mr_now now)
{
    struct mr_describe_groups_request describe = {.groups = names, .groups_count = NAMES};
    struct mr_delete_groups_request   delete = {.groups_names = names, .groups_names_count = NAMES};
    struct mr_delete_topics_request   topics;
    uint64_t                          user = MR_SIM_MANY | kind;
    make_names();
    switch (kind) {
    case 0:
        mr_sim_actor_send(actor, MR_API_DESCRIBE_GROUPS, 5, &describe, user, true, now);
        return;
    case 1:
        mr_sim_actor_send(actor, MR_API_DELETE_GROUPS, 2, &delete, user, true, now);
        return;
    case 2:
        describe_configs(actor, user, now);
        return;
    case 3:
        MR_DEFAULTS(delete_topics_request, &topics);
        topics.topic_names = names;
        topics.topic_names_count = NAMES;
        mr_sim_actor_send(actor, MR_API_DELETE_TOPICS, 5, &topics, user, true, now);
        return;
    default:
        fetch_offsets(actor, user, now);
        return;
    }
}

/* How many there are, and the name of the last one; null: it has none. */
static int32_t count_of(const struct mr_sim_call *call, const void *response, struct mr_str *last)
{
    const struct mr_describe_groups_response  *groups = response;
    const struct mr_delete_groups_response    *deleted = response;
    const struct mr_describe_configs_response *configs = response;
    const struct mr_delete_topics_response    *topics = response;
    const struct mr_offset_fetch_response     *offsets = response;
    *last = names[NAMES - 1];
    switch (call->key) {
    case MR_API_DESCRIBE_GROUPS:
        *last = groups->groups_count > 0 ? groups->groups[groups->groups_count - 1].group_id : MR_STR_NULL;
        return groups->groups_count;
    case MR_API_DELETE_GROUPS:
        *last = deleted->results_count > 0 ? deleted->results[deleted->results_count - 1].group_id : MR_STR_NULL;
        return deleted->results_count;
    case MR_API_DESCRIBE_CONFIGS:
        *last = configs->results_count > 0 ? configs->results[configs->results_count - 1].resource_name : MR_STR_NULL;
        return configs->results_count;
    case MR_API_DELETE_TOPICS:
        *last = topics->responses_count > 0 ? topics->responses[topics->responses_count - 1].name : MR_STR_NULL;
        return topics->responses_count;
    default:
        mr_assert(call->key == MR_API_OFFSET_FETCH);
        return offsets->error_code != 0 ? NAMES : offsets->topics_count == 1 ? offsets->topics[0].partitions_count : -1;
    }
}

void mr_sim_many_answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response)
{
    struct mr_str last;
    int32_t       count = count_of(call, response, &last);
    if (count != NAMES || !mr_str_equal(last, names[NAMES - 1])) {
        mr_sim_actor_refuse(actor, "an answer to many names does not have all of them", count);
    }
}
