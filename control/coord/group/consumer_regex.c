/*
 * consumer_regex: subscriptions by regular expression: which topics they stand for.
 *
 * A pattern is resolved once for all members that use it, and again when there may be other topics;
 * what it stands for is a record, so that a restart needs no matching.
 */
#include "coord/group/consumer.h"
#include "coord/group/pattern.h"

#include "millrace/base/bug.h"

#define PAUSE_MS    10000 /* between two resolutions of one pattern, as Kafka */
#define PER_STEP    4     /* patterns matched in one step */

struct mr_consumer_regex *mr_consumer_regex_find(const struct mr_group *group, struct mr_str text)
{
    if (group == NULL || group->consumer == NULL || text.len <= 0) {
        return NULL;
    }
    MR_LIST_EACH(link, &group->consumer->regexes)
    {
        struct mr_consumer_regex *regex = MR_LIST_ENTRY(link, struct mr_consumer_regex, link);
        if (mr_str_equal(regex->text, text)) {
            return regex;
        }
    }
    return NULL;
}

bool mr_consumer_regex_is_used(const struct mr_group *group, struct mr_str text,
                               const struct mr_consumer_member *except)
{
    MR_LIST_EACH(link, &group->consumer->members)
    {
        const struct mr_consumer_member *member =
            MR_LIST_ENTRY(link, struct mr_consumer_member, link);
        if (member != except && member->regex.len > 0 && mr_str_equal(member->regex, text)) {
            return true;
        }
    }
    return false;
}

/* ---- replay ---- */

static void regex_free(struct mr_group *group, struct mr_consumer_regex *regex)
{
    struct mr_heap *heap = group->shard->env->heap;
    mr_list_remove(&regex->link);
    mr_consumer_names_free(heap, regex->topics);
    mr_heap_str_free(heap, &regex->text);
    MR_HEAP_DELETE(heap, regex);
}

void mr_consumer_regex_free_all(struct mr_group *group)
{
    MR_LIST_EACH_SAFE(link, after, &group->consumer->regexes)
    {
        regex_free(group, MR_LIST_ENTRY(link, struct mr_consumer_regex, link));
    }
}

enum mr_err mr_consumer_regex_replay(struct mr_group *group, struct mr_str text,
                                     const struct mr_consumer_group_regular_expression_value *value)
{
    struct mr_heap *heap = group->shard->env->heap;
    struct mr_consumer_regex *regex = mr_consumer_regex_find(group, text);
    group->consumer->image_version = 0; /* other topics: the hash is to be looked at */
    if (value == NULL) {
        if (regex != NULL) {
            regex_free(group, regex);
        }
        return MR_OK;
    }
    if (regex == NULL) {
        regex = MR_HEAP_NEW(heap, struct mr_consumer_regex);
        if (regex == NULL || !mr_heap_str(heap, text, &regex->text)) {
            mr_heap_free(heap, regex, sizeof *regex);
            return MR_ERR_NO_MEMORY;
        }
        mr_list_add_tail(&group->consumer->regexes, &regex->link);
    }
    struct mr_consumer_names *topics =
        mr_consumer_names_new(heap, value->topics, value->topics_count);
    if (topics == NULL) {
        return MR_ERR_NO_MEMORY;
    }
    mr_consumer_names_free(heap, regex->topics);
    regex->topics = topics;
    regex->resolved_ms = value->timestamp;
    return MR_OK;
}

/* ---- resolving ---- */

struct topics {
    struct mr_str *names;
    uint32_t count;
};

/* NULL: fine; else what is wrong with the pattern. */
static const char *match_all(const struct mr_group_shard *shard, struct mr_str text,
                             struct mr_coord_out *out, struct topics *topics)
{
    const struct mr_image *image = shard->env->image;
    struct mr_pattern pattern;
    uint32_t most = image == NULL ? 0 : image->topic_count;
    *topics = (struct topics){.names = MR_COORD_NEW(out, struct mr_str, most)};
    size_t mark = out->scratch->used;
    const char *why = mr_pattern_compile(&pattern, text, out->scratch);
    if (why != NULL || topics->names == NULL) {
        return why != NULL ? why : "no memory";
    }
    for (uint32_t at = 0; at < most; at++) {
        if (mr_pattern_matches(&pattern, image->topics[at]->name)) {
            topics->names[topics->count++] = image->topics[at]->name;
        }
    }
    out->scratch->used = mark; /* what the matcher took */
    return NULL;
}

static bool record(const struct mr_group_shard *shard, struct mr_str group_id, struct mr_str text,
                   const struct topics *topics, struct mr_coord_out *out)
{
    const struct mr_consumer_group_regular_expression_key key = {
        .group_id = group_id,
        .regular_expression = text,
    };
    const struct mr_consumer_group_regular_expression_value value = {
        .topics = topics->names,
        .topics_count = (int32_t)topics->count,
        .version = shard->env->image == NULL ? 0 : shard->env->image->offset,
        .timestamp = out->now.unix_ms,
    };
    return mr_coord_out_record(out, shard->index, &mr_msg_consumer_group_regular_expression_key,
                               &key, &mr_msg_consumer_group_regular_expression_value, 0, &value);
}

bool mr_consumer_regex_gone(const struct mr_group *group, struct mr_str text,
                            struct mr_coord_out *out)
{
    const struct mr_consumer_group_regular_expression_key key = {
        .group_id = group->id,
        .regular_expression = text,
    };
    return mr_coord_out_record(out, group->shard->index,
                               &mr_msg_consumer_group_regular_expression_key, &key, NULL, 0, NULL);
}

bool mr_consumer_regex_resolve(const struct mr_group_shard *shard, struct mr_str group_id,
                               struct mr_str text, struct mr_coord_out *out, const char **why)
{
    struct topics topics;
    *why = match_all(shard, text, out, &topics);
    return *why != NULL || record(shard, group_id, text, &topics, out);
}

static bool is_due(const struct mr_group *group, const struct mr_consumer_regex *regex,
                   struct mr_now now)
{
    const struct mr_group_env *env = group->shard->env;
    int64_t checked_ms =
        regex->checked_ms > regex->resolved_ms ? regex->checked_ms : regex->resolved_ms;
    int64_t age_ms = now.unix_ms - checked_ms;
    if (age_ms < 0 || age_ms > env->consumer_regex_refresh_ms) {
        return true;
    }
    return regex->image_version != env->image->version && age_ms >= PAUSE_MS;
}

bool mr_consumer_regex_refresh(const struct mr_group *group, struct mr_coord_out *out)
{
    uint32_t matched = 0;
    if (group->shard->env->image == NULL || mr_bug("stale-patterns")) {
        return true;
    }
    MR_LIST_EACH(link, &group->consumer->regexes)
    {
        struct mr_consumer_regex *regex = MR_LIST_ENTRY(link, struct mr_consumer_regex, link);
        struct topics topics;
        if (!is_due(group, regex, out->now)) {
            continue;
        }
        if (matched++ == PER_STEP) {
            break;
        }
        regex->checked_ms = out->now.unix_ms;
        regex->image_version = group->shard->env->image->version;
        if (match_all(group->shard, regex->text, out, &topics) == NULL &&
            !mr_consumer_names_same(regex->topics, topics.names, (int32_t)topics.count) &&
            !record(group->shard, group->id, regex->text, &topics, out)) {
            return false;
        }
    }
    return true;
}
