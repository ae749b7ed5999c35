/*
 * assignor_mixed: balanced first, sticky second, for members that subscribe to different topics.
 *
 *   1. everybody keeps what it has of the topics it still subscribes to
 *   2. topic by topic, hardest first, what is open goes to the least loaded subscribers
 *   3. topic by topic, partitions move from the most to the least loaded subscribers, until no move
 *      makes the two more equal, or ROUNDS_MAX rounds are over
 *
 * One topic is levelled like water: the subscribers stand in order of their load; a low range of
 * equal level at the left rises with each partition given, a high one at the right sinks with each
 * partition taken.
 *
 *            ^ low             high
 *      load  |               [##<-   ]
 *            | [...->  ]   ##[#######]
 *            | [#######]#####[#######]
 *            +------------------------> subscribers
 */
#include "coord/group/assignor.h"
#include "millrace/base/sort.h"

#define ROUNDS_MAX 16

struct mix {
    const struct mr_assignor_spec *spec;
    uint32_t *owners;
    uint32_t *loads;       /* partitions per member */
    uint32_t *order;       /* topics, hardest first */
    uint32_t *subscribers; /* members of topic t: from starts[t] to starts[t + 1], ascending */
    uint32_t *starts;
    uint32_t *line; /* the subscribers of the topic at hand, by load */
    uint32_t *given; /* partitions of the topic at hand, by owner */
    uint32_t *held_from; /* by member: its run in `given`; valid where held_to is above it */
    uint32_t *held_to;
};

/* The levels of one topic; all indexes are into the line. */
struct level {
    uint32_t count;
    uint32_t low_end; /* exclusive */
    int64_t low;
    uint32_t next_low;
    uint32_t high_begin; /* inclusive */
    uint32_t high_end;   /* exclusive; behind it stand those who have nothing to give */
    int64_t high;
    int64_t next_high;
};

static uint32_t subscriber_count(const struct mix *mix, uint32_t topic)
{
    return mix->starts[topic + 1] - mix->starts[topic];
}

/* More partitions per subscriber first, then fewer subscribers. Exact where Kafka divides. */
static bool is_harder(const void *user, const void *a, const void *b)
{
    const struct mix *mix = user;
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    uint64_t share_x = (uint64_t)mix->spec->topics[x].partition_count * subscriber_count(mix, y);
    uint64_t share_y = (uint64_t)mix->spec->topics[y].partition_count * subscriber_count(mix, x);
    if (share_x != share_y) {
        return share_x > share_y;
    }
    uint32_t count_x = subscriber_count(mix, x);
    uint32_t count_y = subscriber_count(mix, y);
    return count_x != count_y ? count_x < count_y : x < y;
}

static bool is_lighter(const void *user, const void *a, const void *b)
{
    const struct mix *mix = user;
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return mix->loads[x] != mix->loads[y] ? mix->loads[x] < mix->loads[y] : x < y;
}

static bool is_before_owned(const void *user, const void *a, const void *b)
{
    const uint32_t *owners = user;
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return owners[x] != owners[y] ? owners[x] < owners[y] : x < y;
}

/* ---- levels ---- */

static int64_t load_at(const struct mix *mix, uint32_t place)
{
    return mix->loads[mix->line[place]];
}

/* How much more the most loaded subscriber has than the least loaded one. */
static int64_t level_begin(struct level *level, struct mix *mix, uint32_t topic)
{
    uint32_t count = subscriber_count(mix, topic);
    memcpy(mix->line, &mix->subscribers[mix->starts[topic]], sizeof *mix->line * count);
    mr_sort(mix->line, count, sizeof *mix->line, is_lighter, mix);
    *level = (struct level){
        .count = count,
        .low = load_at(mix, 0) - 1,
        .high_begin = count,
        .high_end = count,
        .high = load_at(mix, count - 1) + 1,
        .next_high = (int64_t)count - 1,
    };
    return load_at(mix, count - 1) - load_at(mix, 0);
}

/* Who gets the next partition. */
static uint32_t level_give(struct level *level, const struct mix *mix)
{
    if (level->next_low >= level->low_end) {
        level->low++;
        while (level->low_end < level->count && load_at(mix, level->low_end) == level->low) {
            level->low_end++;
        }
        level->next_low = 0;
    }
    return mix->line[level->next_low++];
}

/* From whom the next partition is taken; NOBODY: there is none left. */
static uint32_t level_take(struct level *level, const struct mix *mix)
{
    if (level->next_high < (int64_t)level->high_begin) {
        if (level->high_end <= level->high_begin && level->high_begin > 0) {
            level->high = load_at(mix, level->high_begin - 1);
        } else {
            level->high--;
        }
        while (level->high_begin > 0 && load_at(mix, level->high_begin - 1) == level->high) {
            level->high_begin--;
        }
        level->next_high = (int64_t)level->high_end - 1;
    }
    return level->next_high < 0 ? MR_ASSIGNOR_NOBODY : mix->line[level->next_high--];
}

/* Who was taken from last has nothing: it goes behind the end. */
static void level_exclude(struct level *level, struct mix *mix)
{
    uint32_t place = (uint32_t)(level->next_high + 1);
    uint32_t member = mix->line[place];
    mix->line[place] = mix->line[level->high_end - 1];
    mix->line[level->high_end - 1] = member;
    level->high_end--;
}

/* ---- the three steps ---- */

static void give(struct mix *mix, uint32_t partition, uint32_t member)
{
    if (mix->owners[partition] != MR_ASSIGNOR_NOBODY) {
        mix->loads[mix->owners[partition]]--;
    }
    mix->owners[partition] = member;
    mix->loads[member]++;
}

static void keep_owned(struct mix *mix)
{
    const struct mr_assignor_spec *spec = mix->spec;
    for (uint32_t at = 0; at < spec->member_count; at++) {
        const struct mr_assignor_member *member = &spec->members[at];
        uint32_t topic = 0; /* both lists ascend */
        for (uint32_t index = 0; index < member->owned_count; index++) {
            uint32_t partition = member->owned[index];
            while (topic < member->topic_count &&
                   spec->topics[member->topics[topic]].first +
                           spec->topics[member->topics[topic]].partition_count <=
                       partition) {
                topic++;
            }
            if (topic < member->topic_count &&
                spec->topics[member->topics[topic]].first <= partition) {
                give(mix, partition, at);
            }
        }
    }
}

static void give_open(struct mix *mix)
{
    for (uint32_t index = 0; index < mix->spec->topic_count; index++) {
        const struct mr_assignor_topic *topic = &mix->spec->topics[mix->order[index]];
        struct level level;
        (void)level_begin(&level, mix, mix->order[index]);
        for (uint32_t at = topic->first; at < topic->first + topic->partition_count; at++) {
            if (mix->owners[at] == MR_ASSIGNOR_NOBODY) {
                give(mix, at, level_give(&level, mix));
            }
        }
    }
}

/* Partitions of the topic in runs of one owner each. */
static void group_by_owner(struct mix *mix, const struct mr_assignor_topic *topic, uint32_t index)
{
    for (uint32_t at = mix->starts[index]; at < mix->starts[index + 1]; at++) {
        mix->held_from[mix->subscribers[at]] = mix->held_to[mix->subscribers[at]] = 0;
    }
    for (uint32_t at = 0; at < topic->partition_count; at++) {
        mix->given[at] = topic->first + at;
    }
    mr_sort(mix->given, topic->partition_count, sizeof *mix->given, is_before_owned, mix->owners);
    for (uint32_t at = 0; at < topic->partition_count; at++) {
        uint32_t owner = mix->owners[mix->given[at]];
        mix->held_from[owner] = mix->held_to[owner] == 0 ? at : mix->held_from[owner];
        mix->held_to[owner] = at + 1;
    }
}

/* False: nothing could be made better. */
static bool balance_topic(struct mix *mix, uint32_t index)
{
    const struct mr_assignor_topic *topic = &mix->spec->topics[index];
    struct level level;
    bool is_any = false;
    if (level_begin(&level, mix, index) <= 1) {
        return false;
    }
    group_by_owner(mix, topic, index);
    for (;;) {
        uint32_t from;
        while ((from = level_take(&level, mix)) != MR_ASSIGNOR_NOBODY &&
               mix->held_to[from] <= mix->held_from[from]) {
            level_exclude(&level, mix);
        }
        if (from == MR_ASSIGNOR_NOBODY) {
            return is_any;
        }
        uint32_t partition = mix->given[--mix->held_to[from]];
        uint32_t to = level_give(&level, mix);
        if (level.high - level.low <= 1) {
            return is_any;
        }
        give(mix, partition, to);
        is_any = true;
    }
}

static void balance(struct mix *mix)
{
    uint32_t last = MR_ASSIGNOR_NOBODY; /* where something was moved last */
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        for (uint32_t index = 0; index < mix->spec->topic_count; index++) {
            uint32_t topic = mix->order[index];
            if (subscriber_count(mix, topic) < 2) {
                continue;
            }
            if (topic == last) {
                return; /* once around without a move */
            }
            if (balance_topic(mix, topic) || last == MR_ASSIGNOR_NOBODY) {
                last = topic;
            }
        }
    }
}

/* ---- set up ---- */

static void list_subscribers(struct mix *mix)
{
    const struct mr_assignor_spec *spec = mix->spec;
    memset(mix->starts, 0, sizeof *mix->starts * (spec->topic_count + 2));
    for (uint32_t at = 0; at < spec->member_count; at++) {
        for (uint32_t index = 0; index < spec->members[at].topic_count; index++) {
            mix->starts[spec->members[at].topics[index] + 2]++;
        }
    }
    for (uint32_t topic = 0; topic < spec->topic_count; topic++) {
        mix->starts[topic + 2] += mix->starts[topic + 1];
    }
    /* starts[t + 1] is where the next subscriber of t goes, and ends as the end of t. */
    for (uint32_t at = 0; at < spec->member_count; at++) {
        for (uint32_t index = 0; index < spec->members[at].topic_count; index++) {
            mix->subscribers[mix->starts[spec->members[at].topics[index] + 1]++] = at;
        }
    }
}

bool mr_assignor_mixed(const struct mr_assignor_spec *spec, struct mr_arena *scratch,
                       uint32_t *owners)
{
    uint32_t pairs = 0;
    uint32_t longest = 0;
    for (uint32_t at = 0; at < spec->member_count; at++) {
        pairs += spec->members[at].topic_count;
    }
    for (uint32_t at = 0; at < spec->topic_count; at++) {
        longest = spec->topics[at].partition_count > longest ? spec->topics[at].partition_count
                                                             : longest;
    }
    struct mix mix = {
        .spec = spec,
        .owners = owners,
        .loads = MR_ARENA_TRY(scratch, uint32_t, spec->member_count),
        .order = MR_ARENA_TRY(scratch, uint32_t, spec->topic_count + 1u),
        .subscribers = MR_ARENA_TRY(scratch, uint32_t, pairs + 1u),
        .starts = MR_ARENA_TRY(scratch, uint32_t, spec->topic_count + 2u),
        .line = MR_ARENA_TRY(scratch, uint32_t, spec->member_count),
        .given = MR_ARENA_TRY(scratch, uint32_t, longest + 1u),
        .held_from = MR_ARENA_TRY(scratch, uint32_t, spec->member_count),
        .held_to = MR_ARENA_TRY(scratch, uint32_t, spec->member_count),
    };
    if (mix.loads == NULL || mix.order == NULL || mix.subscribers == NULL || mix.starts == NULL ||
        mix.line == NULL || mix.given == NULL || mix.held_from == NULL || mix.held_to == NULL) {
        return false;
    }
    memset(owners, 0xff, sizeof *owners * spec->partition_count);
    memset(mix.loads, 0, sizeof *mix.loads * spec->member_count);
    list_subscribers(&mix);
    for (uint32_t at = 0; at < spec->topic_count; at++) {
        mix.order[at] = at;
    }
    mr_sort(mix.order, spec->topic_count, sizeof *mix.order, is_harder, &mix);
    keep_owned(&mix);
    give_open(&mix);
    balance(&mix);
    return true;
}
