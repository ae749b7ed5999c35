#include "config_table.h"

#include "millrace/base/assert.h"

#include <float.h>
#include <limits.h>
#include <stddef.h>

#define ANY                         \
    {                               \
        .kind = MR_CONFIG_CHECK_ANY \
    }
#define RANGE(min_, max_)                                           \
    {                                                               \
        .kind = MR_CONFIG_CHECK_RANGE, .min = (min_), .max = (max_) \
    }
#define RANGE_OR(other_, min_, max_)                                                        \
    {                                                                                       \
        .kind = MR_CONFIG_CHECK_RANGE_OR, .min = (min_), .max = (max_), .other = (other_)   \
    }
#define REPLICAS                         \
    {                                    \
        .kind = MR_CONFIG_CHECK_REPLICAS \
    }
#define AT_LEAST(min_)                                                 \
    {                                                                  \
        .kind = MR_CONFIG_CHECK_RANGE, .min = (min_), .max = INT64_MAX \
    }
#define ONE_OF(...)                                                \
    {                                                              \
        .kind = MR_CONFIG_CHECK_ONE_OF, .choices = { __VA_ARGS__ } \
    }
#define EACH_OF(...)                                                \
    {                                                               \
        .kind = MR_CONFIG_CHECK_EACH_OF, .choices = { __VA_ARGS__ } \
    }

const struct mr_config_row mr_config_rows[MR_CONFIG_COUNT] = {
#define CONFIG(field_, name_, type_, default_, check_, dynamic_, differs_, text_) \
    {.key = {.name = name_,                                                       \
             .default_text = default_,                                            \
             .text = text_,                                                       \
             .type = MR_CONFIG_TYPE_##type_,                                      \
             .check = check_},                                                    \
     .dynamic = MR_CONFIG_##dynamic_,                                             \
     .differs = differs_,                                                         \
     .offset = offsetof(struct mr_config, field_)},
#define TOPIC_CONFIG(field_, name_, broker_field_, type_, default_, check_, text_)
#include "millrace/config.def"
#undef CONFIG
#undef TOPIC_CONFIG
};

const struct mr_topic_config_row mr_topic_config_rows[MR_TOPIC_CONFIG_COUNT] = {
#define CONFIG(field_, name_, type_, default_, check_, dynamic_, differs_, text_)
#define TOPIC_CONFIG(field_, name_, broker_field_, type_, default_, check_, text_) \
    {.key = {.name = name_,                                                        \
             .default_text = default_,                                             \
             .text = text_,                                                        \
             .type = MR_CONFIG_TYPE_##type_,                                       \
             .check = check_},                                                     \
     .broker = MR_CONFIG_##broker_field_},
#include "millrace/config.def"
#undef CONFIG
#undef TOPIC_CONFIG
};

/* ---- Finding ---- */

static bool is_name(const char *name, struct mr_str text)
{
    return mr_str_equal(mr_str(name), text);
}

enum mr_config_id mr_config_find(struct mr_str name)
{
    for (int id = 0; id < MR_CONFIG_COUNT; id++) {
        if (is_name(mr_config_rows[id].key.name, name)) {
            return (enum mr_config_id)id;
        }
    }
    return MR_CONFIG_none;
}

enum mr_topic_config_id mr_topic_config_find(struct mr_str name)
{
    for (int id = 0; id < MR_TOPIC_CONFIG_COUNT; id++) {
        if (is_name(mr_topic_config_rows[id].key.name, name)) {
            return (enum mr_topic_config_id)id;
        }
    }
    return MR_TOPIC_CONFIG_none;
}

#define NAME_MAX_LEN 80 /* longer than any key: longer names are not compared further */

/* Levenshtein's distance, one row at a time; both at most NAME_MAX_LEN long. */
static uint32_t edit_distance(struct mr_str a, struct mr_str b)
{
    uint32_t row[NAME_MAX_LEN + 1];
    for (int32_t j = 0; j <= b.len; j++) {
        row[j] = (uint32_t)j;
    }
    for (int32_t i = 1; i <= a.len; i++) {
        uint32_t diagonal = row[0];
        row[0] = (uint32_t)i;
        for (int32_t j = 1; j <= b.len; j++) {
            uint32_t replace = diagonal + (a.data[i - 1] != b.data[j - 1]);
            uint32_t change = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replace < change ? replace : change;
        }
    }
    return row[b.len];
}

enum mr_config_id mr_config_nearest(struct mr_str name)
{
    enum mr_config_id nearest = MR_CONFIG_none;
    if (name.len <= 0) {
        return nearest;
    }
    if (name.len > NAME_MAX_LEN) {
        name.len = NAME_MAX_LEN;
    }
    /* A third of the letters may be wrong: more, and the proposal would only be noise. */
    uint32_t least = (uint32_t)name.len / 3 + 2;
    for (int id = 0; id < MR_CONFIG_COUNT; id++) {
        struct mr_str key = mr_str(mr_config_rows[id].key.name);
        if (key.len > NAME_MAX_LEN) {
            continue;
        }
        uint32_t distance = edit_distance(name, key);
        if (distance < least) {
            least = distance;
            nearest = (enum mr_config_id)id;
        }
    }
    return nearest;
}

/* ---- Parsing and checking ---- */

static bool parse_int(struct mr_str text, int64_t min, int64_t max, int64_t *number)
{
    bool is_negative = text.len > 0 && text.data[0] == '-';
    int32_t at = text.len > 0 && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0;
    if (at == text.len) {
        return false;
    }
    int64_t value = 0; /* counted downwards, where there is one number more */
    for (; at < text.len; at++) {
        char c = text.data[at];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, c - '0', &value)) {
            return false;
        }
    }
    if (!is_negative && __builtin_sub_overflow(0, value, &value)) {
        return false;
    }
    *number = value;
    return min <= value && value <= max;
}

/* Decimal with fraction and exponent. Digits beyond what a double holds only scale. */
static bool parse_double(struct mr_str text, double *real)
{
    int32_t at = 0;
    double sign = 1;
    double value = 0;
    int exponent = 0;
    int digits = 0;
    if (at < text.len && (text.data[at] == '-' || text.data[at] == '+')) {
        sign = text.data[at++] == '-' ? -1 : 1;
    }
    for (; at < text.len && text.data[at] >= '0' && text.data[at] <= '9'; at++, digits++) {
        value = value * 10 + (text.data[at] - '0');
    }
    if (at < text.len && text.data[at] == '.') {
        for (at++; at < text.len && text.data[at] >= '0' && text.data[at] <= '9'; at++, digits++) {
            value = value * 10 + (text.data[at] - '0');
            exponent--;
        }
    }
    if (digits == 0 || digits > 300) {
        return false;
    }
    if (at < text.len && (text.data[at] == 'e' || text.data[at] == 'E')) {
        int64_t given = 0;
        struct mr_str rest = {.data = text.data + at + 1, .len = text.len - at - 1};
        if (!parse_int(rest, -400, 400, &given)) {
            return false;
        }
        exponent += (int)given;
        at = text.len;
    }
    for (; exponent > 0; exponent--) {
        /* Double.MAX_VALUE is a default of Kafka: the last step may round past the end. */
        value = value > DBL_MAX / 10 ? DBL_MAX : value * 10;
    }
    for (; exponent < 0; exponent++) {
        value /= 10;
    }
    *real = sign * value;
    return at == text.len;
}

static bool is_bool(struct mr_str text, const char *word)
{
    struct mr_str expected = mr_str(word);
    if (text.len != expected.len) {
        return false;
    }
    for (int32_t at = 0; at < text.len; at++) {
        if ((text.data[at] | 0x20) != expected.data[at]) {
            return false;
        }
    }
    return true;
}

static bool is_choice(const struct mr_config_check *check, struct mr_str text)
{
    for (const char *const *choice = check->choices; *choice != NULL; choice++) {
        if (is_name(*choice, text)) {
            return true;
        }
    }
    return false;
}

/* Both halves are digits. */
static bool is_replica(struct mr_str item)
{
    int32_t colon = 0;
    int64_t number;
    while (colon < item.len && item.data[colon] != ':') {
        colon++;
    }
    struct mr_str partition = {.data = item.data, .len = colon};
    struct mr_str broker = {.data = item.data + colon + 1, .len = item.len - colon - 1};
    return colon < item.len && item.data[0] != '+' && parse_int(partition, 0, INT32_MAX, &number) &&
           parse_int(broker, 0, INT32_MAX, &number);
}

static bool is_accepted_text(const struct mr_config_check *check, struct mr_str text)
{
    struct mr_str item;
    int32_t at = 0;
    switch (check->kind) {
    case MR_CONFIG_CHECK_ANY:
    case MR_CONFIG_CHECK_RANGE:
    case MR_CONFIG_CHECK_RANGE_OR:
        return true;
    case MR_CONFIG_CHECK_REPLICAS:
        while (!mr_str_equal(text, MR_STR("*")) && mr_str_list_next(text, &at, &item)) {
            if (!is_replica(item)) {
                return false;
            }
        }
        return true;
    case MR_CONFIG_CHECK_ONE_OF:
        return is_choice(check, text);
    case MR_CONFIG_CHECK_EACH_OF:
        while (mr_str_list_next(text, &at, &item)) {
            if (!is_choice(check, item)) {
                return false;
            }
        }
        return true;
    }
    mr_unreachable("check kind");
}

/* The type's own range, cut by the row's. */
static void number_range(const struct mr_config_key *key, int64_t *min, int64_t *max)
{
    *min = key->type == MR_CONFIG_TYPE_INT     ? INT32_MIN
           : key->type == MR_CONFIG_TYPE_SHORT ? INT16_MIN
                                               : INT64_MIN + 1; /* MR_CONFIG_NULL is no number */
    *max = key->type == MR_CONFIG_TYPE_INT     ? INT32_MAX
           : key->type == MR_CONFIG_TYPE_SHORT ? INT16_MAX
                                               : INT64_MAX;
    if (key->check.kind == MR_CONFIG_CHECK_RANGE || key->check.kind == MR_CONFIG_CHECK_RANGE_OR) {
        *min = key->check.min > *min ? key->check.min : *min;
        *max = key->check.max < *max ? key->check.max : *max;
    }
}

enum mr_err mr_config_parse(const struct mr_config_key *key, struct mr_str text,
                            struct mr_config_value *value)
{
    bool is_good = false;
    int64_t min;
    int64_t max;
    *value = (struct mr_config_value){.number = MR_CONFIG_NULL, .text = MR_STR_NULL};
    if (mr_str_is_null(text)) {
        value->is_null = true;
        return MR_OK;
    }
    text = mr_str_trim(text);
    switch (key->type) {
    case MR_CONFIG_TYPE_INT:
    case MR_CONFIG_TYPE_LONG:
    case MR_CONFIG_TYPE_SHORT:
        number_range(key, &min, &max);
        is_good = parse_int(text, min, max, &value->number) ||
                  (key->check.kind == MR_CONFIG_CHECK_RANGE_OR &&
                   parse_int(text, key->check.other, key->check.other, &value->number));
        break;
    case MR_CONFIG_TYPE_DOUBLE:
        is_good = parse_double(text, &value->real);
        if (is_good && key->check.kind == MR_CONFIG_CHECK_RANGE) {
            is_good =
                (double)key->check.min <= value->real && value->real <= (double)key->check.max;
        }
        break;
    case MR_CONFIG_TYPE_BOOL:
        value->boolean = is_bool(text, "true");
        is_good = value->boolean || is_bool(text, "false");
        break;
    case MR_CONFIG_TYPE_STRING:
    case MR_CONFIG_TYPE_CLASS:
    case MR_CONFIG_TYPE_LIST:
        value->text = text;
        is_good = is_accepted_text(&key->check, text);
        break;
    }
    return is_good ? MR_OK : MR_ERR_INVALID;
}

void mr_config_accepts(const struct mr_config_key *key, struct mr_text *text)
{
    int64_t min;
    int64_t max;
    switch (key->type) {
    case MR_CONFIG_TYPE_INT:
    case MR_CONFIG_TYPE_LONG:
    case MR_CONFIG_TYPE_SHORT:
        number_range(key, &min, &max);
        mr_text_fmt(text, "a whole number from %lld to %lld", (long long)min, (long long)max);
        if (key->check.kind == MR_CONFIG_CHECK_RANGE_OR) {
            mr_text_fmt(text, " or %lld", (long long)key->check.other);
        }
        return;
    case MR_CONFIG_TYPE_DOUBLE:
        if (key->check.kind == MR_CONFIG_CHECK_RANGE) {
            mr_text_fmt(text, "a number from %lld to %lld", (long long)key->check.min,
                        (long long)key->check.max);
        } else {
            mr_text_fmt(text, "a number");
        }
        return;
    case MR_CONFIG_TYPE_BOOL:
        mr_text_fmt(text, "true or false");
        return;
    case MR_CONFIG_TYPE_STRING:
    case MR_CONFIG_TYPE_CLASS:
    case MR_CONFIG_TYPE_LIST:
        break;
    }
    if (key->check.kind == MR_CONFIG_CHECK_ANY) {
        mr_text_fmt(text, key->type == MR_CONFIG_TYPE_LIST ? "a comma-separated list" : "a text");
        return;
    }
    if (key->check.kind == MR_CONFIG_CHECK_REPLICAS) {
        mr_text_fmt(text, "* or a comma-separated list of partition:broker");
        return;
    }
    if (key->check.kind == MR_CONFIG_CHECK_EACH_OF) {
        mr_text_fmt(text, "a comma-separated list of ");
    }
    for (const char *const *choice = key->check.choices; *choice != NULL; choice++) {
        const char *before = choice == key->check.choices ? "" : choice[1] == NULL ? " or " : ", ";
        mr_text_fmt(text, "%s%s", before, *choice);
    }
}

/* ---- The struct ---- */

static bool is_number(enum mr_config_type type)
{
    return type == MR_CONFIG_TYPE_INT || type == MR_CONFIG_TYPE_LONG ||
           type == MR_CONFIG_TYPE_SHORT;
}

struct mr_config_value mr_config_get(const struct mr_config *config, enum mr_config_id id)
{
    mr_assert(0 <= (int)id && (int)id < MR_CONFIG_COUNT);
    const struct mr_config_row *row = &mr_config_rows[id];
    const uint8_t *field = (const uint8_t *)config + row->offset;
    struct mr_config_value value = {.number = MR_CONFIG_NULL, .text = MR_STR_NULL};
    if (is_number(row->key.type)) {
        memcpy(&value.number, field, sizeof value.number);
        value.is_null = value.number == MR_CONFIG_NULL;
    } else if (row->key.type == MR_CONFIG_TYPE_DOUBLE) {
        memcpy(&value.real, field, sizeof value.real);
    } else if (row->key.type == MR_CONFIG_TYPE_BOOL) {
        memcpy(&value.boolean, field, sizeof value.boolean);
    } else {
        memcpy(&value.text, field, sizeof value.text);
        value.is_null = mr_str_is_null(value.text);
    }
    return value;
}

void mr_config_set(struct mr_config *config, enum mr_config_id id,
                   const struct mr_config_value *value)
{
    mr_assert(0 <= (int)id && (int)id < MR_CONFIG_COUNT);
    const struct mr_config_row *row = &mr_config_rows[id];
    uint8_t *field = (uint8_t *)config + row->offset;
    int64_t number = value->is_null ? MR_CONFIG_NULL : value->number;
    struct mr_str text = value->is_null ? MR_STR_NULL : value->text;
    if (is_number(row->key.type)) {
        memcpy(field, &number, sizeof number);
    } else if (row->key.type == MR_CONFIG_TYPE_DOUBLE) {
        memcpy(field, &value->real, sizeof value->real);
    } else if (row->key.type == MR_CONFIG_TYPE_BOOL) {
        memcpy(field, &value->boolean, sizeof value->boolean);
    } else {
        memcpy(field, &text, sizeof text);
    }
}

void mr_config_mark_given(struct mr_config *config, enum mr_config_id id)
{
    config->given[(unsigned)id / 64] |= 1ull << ((unsigned)id % 64);
}

static struct mr_str default_str(const struct mr_config_key *key)
{
    return key->default_text == NULL ? MR_STR_NULL : mr_str(key->default_text);
}

void mr_config_defaults(struct mr_config *config)
{
    *config = (struct mr_config){0};
    for (int id = 0; id < MR_CONFIG_COUNT; id++) {
        const struct mr_config_key *key = &mr_config_rows[id].key;
        struct mr_config_value value;
        enum mr_err err = mr_config_parse(key, default_str(key), &value);
        mr_assert(err == MR_OK); /* a row whose default its own check refuses */
        mr_config_set(config, (enum mr_config_id)id, &value);
    }
}

static bool is_null(int64_t number)
{
    return number == MR_CONFIG_NULL;
}

/* Units in milliseconds; -1 (for ever) stays -1. */
static int64_t scaled_ms(int64_t count, int64_t unit_ms)
{
    int64_t ms;
    if (count < 0) {
        return -1;
    }
    return __builtin_mul_overflow(count, unit_ms, &ms) ? INT64_MAX : ms;
}

void mr_config_derive(struct mr_config *config)
{
    const int64_t minute_ms = 60 * 1000;
    if (is_null(config->log_retention_ms)) {
        config->log_retention_ms = is_null(config->log_retention_minutes)
                                       ? scaled_ms(config->log_retention_hours, 60 * minute_ms)
                                       : scaled_ms(config->log_retention_minutes, minute_ms);
    }
    if (is_null(config->log_roll_ms)) {
        config->log_roll_ms = scaled_ms(config->log_roll_hours, 60 * minute_ms);
    }
    if (is_null(config->log_roll_jitter_ms)) {
        config->log_roll_jitter_ms = scaled_ms(config->log_roll_jitter_hours, 60 * minute_ms);
    }
    if (is_null(config->log_flush_interval_ms)) {
        config->log_flush_interval_ms = config->log_flush_scheduler_interval_ms;
    }
    if (!mr_config_is_given(config, MR_CONFIG_log_dirs) && !mr_str_is_null(config->log_dir)) {
        config->log_dirs = config->log_dir;
    }
    if (!mr_config_is_given(config, MR_CONFIG_node_id) && config->broker_id >= 0) {
        config->node_id = config->broker_id;
    }
    if (mr_str_is_null(config->advertised_listeners)) {
        config->advertised_listeners = config->listeners;
    }
    if (mr_str_is_null(config->controller_listener_names)) {
        config->controller_listener_names = MR_STR("CONTROLLER");
    }
    if (mr_str_is_null(config->inter_broker_listener_name)) {
        config->inter_broker_listener_name = config->security_inter_broker_protocol;
    }
    if (mr_str_is_null(config->metadata_log_dir)) {
        int32_t at = 0;
        (void)mr_str_list_next(config->log_dirs, &at, &config->metadata_log_dir);
    }
}

uint32_t mr_config_log_dirs(const struct mr_config *config, struct mr_str dirs[MR_DIRS_MAX])
{
    struct mr_str item;
    uint32_t count = 0;
    int32_t at = 0;
    if (!mr_str_is_null(config->metadata_log_dir)) {
        dirs[count++] = config->metadata_log_dir;
    }
    while (count < MR_DIRS_MAX && mr_str_list_next(config->log_dirs, &at, &item)) {
        if (count == 0 || !mr_str_equal(item, dirs[0])) {
            dirs[count++] = item;
        }
    }
    return count;
}

/* As Java prints doubles of the size that occurs here: at least one digit after the point. */
static void print_double(double real, struct mr_text *text)
{
    if (real >= 1.797e308) { /* DBL_MAX, give or take the rounding of its decimal text */
        mr_text_fmt(text, "1.7976931348623157E308");
        return;
    }
    if (real < 0) {
        mr_text_fmt(text, "-");
        real = -real;
    }
    if (real >= 9e15) {
        mr_text_fmt(text, "9.0E15"); /* beyond what a rate or ratio needs */
        return;
    }
    uint64_t whole = (uint64_t)real;
    uint64_t millionths = (uint64_t)((real - (double)whole) * 1e6 + 0.5);
    if (millionths == 1000000) {
        whole++;
        millionths = 0;
    }
    int width = 6;
    while (width > 1 && millionths % 10 == 0) {
        millionths /= 10;
        width--;
    }
    char digits[8];
    for (int at = width; at > 0; at--) {
        digits[at - 1] = (char)('0' + millionths % 10);
        millionths /= 10;
    }
    mr_text_fmt(text, "%llu.%.*s", (unsigned long long)whole, width, digits);
}

bool mr_config_print(const struct mr_config_key *key, const struct mr_config_value *value,
                     struct mr_text *text)
{
    if (value->is_null) {
        return false;
    }
    switch (key->type) {
    case MR_CONFIG_TYPE_INT:
    case MR_CONFIG_TYPE_LONG:
    case MR_CONFIG_TYPE_SHORT:
        mr_text_fmt(text, "%lld", (long long)value->number);
        return true;
    case MR_CONFIG_TYPE_DOUBLE:
        print_double(value->real, text);
        return true;
    case MR_CONFIG_TYPE_BOOL:
        mr_text_fmt(text, value->boolean ? "true" : "false");
        return true;
    case MR_CONFIG_TYPE_STRING:
    case MR_CONFIG_TYPE_CLASS:
    case MR_CONFIG_TYPE_LIST:
        mr_text_put(text, value->text.data, (size_t)value->text.len);
        return true;
    }
    mr_unreachable("config type");
}

struct mr_config_value mr_topic_config_default(const struct mr_config *config,
                                               enum mr_topic_config_id id)
{
    mr_assert(0 <= (int)id && (int)id < MR_TOPIC_CONFIG_COUNT);
    const struct mr_topic_config_row *row = &mr_topic_config_rows[id];
    struct mr_config_value value;
    if (row->broker != MR_CONFIG_none) {
        mr_assert(mr_config_rows[row->broker].key.type == row->key.type ||
                  (is_number(row->key.type) && is_number(mr_config_rows[row->broker].key.type)));
        return mr_config_get(config, row->broker);
    }
    enum mr_err err = mr_config_parse(&row->key, default_str(&row->key), &value);
    mr_assert(err == MR_OK);
    return value;
}
