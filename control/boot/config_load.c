#include "boot/config_load.h"

#include "config_table.h"
#include "millrace/base/bug.h"
#include "millrace/base/fmt.h"
#include "millrace/net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- Java properties ---- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

/* Skip blanks, empty lines and comments; false at the end of the text. */
static bool skip_to_entry(struct mr_properties *p)
{
    for (;;) {
        while (p->at < p->len &&
               (is_blank(p->text[p->at]) || p->text[p->at] == '\r' || p->text[p->at] == '\n')) {
            p->line += p->text[p->at] == '\n';
            p->at++;
        }
        if (p->at == p->len) {
            return false;
        }
        if (p->text[p->at] != '#' && p->text[p->at] != '!') {
            return true;
        }
        while (p->at < p->len && p->text[p->at] != '\n') {
            p->at++;
        }
    }
}

static int hex4(const char *text)
{
    int value = 0;
    for (int index = 0; index < 4; index++) {
        char c = (char)(text[index] | 0x20);
        int digit = text[index] >= '0' && text[index] <= '9' ? text[index] - '0'
                    : c >= 'a' && c <= 'f'                   ? c - 'a' + 10
                                                             : -1;
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

/* A code unit as UTF-8, at most as long as its escape. */
static char *put_utf8(char *out, int code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

/* One escape at p->at (the backslash); false when it continues the line, which then is skipped. */
static bool take_escape(struct mr_properties *p, char **out)
{
    p->at++;
    if (p->at == p->len) {
        return false;
    }
    char c = p->text[p->at++];
    if (c == '\r' && p->at < p->len && p->text[p->at] == '\n') {
        c = p->text[p->at++];
    }
    if (c == '\n' || c == '\r') {
        p->line++;
        while (p->at < p->len && is_blank(p->text[p->at])) {
            p->at++;
        }
        return false;
    }
    if (c == 'u' && p->len - p->at >= 4 && hex4(p->text + p->at) >= 0) {
        *out = put_utf8(*out, hex4(p->text + p->at));
        p->at += 4;
        return true;
    }
    *(*out)++ = (char)(c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 'f' ? '\f' : c);
    return true;
}

static bool is_line_end(const struct mr_properties *p)
{
    return p->at == p->len || p->text[p->at] == '\n' || p->text[p->at] == '\r';
}

bool mr_properties_next(struct mr_properties *p, struct mr_str *key, struct mr_str *value)
{
    if (!skip_to_entry(p)) {
        return false;
    }
    char *out = p->out;
    p->entry_line = p->line;
    key->data = out;
    while (!is_line_end(p) && p->text[p->at] != '=' && p->text[p->at] != ':' &&
           !is_blank(p->text[p->at])) {
        if (p->text[p->at] == '\\') {
            (void)take_escape(p, &out);
        } else {
            *out++ = p->text[p->at++];
        }
    }
    key->len = (int32_t)(out - key->data);
    bool has_separator = false;
    while (!is_line_end(p) &&
           (is_blank(p->text[p->at]) ||
            (!has_separator && (p->text[p->at] == '=' || p->text[p->at] == ':')))) {
        has_separator = has_separator || !is_blank(p->text[p->at]);
        p->at++;
    }
    value->data = out;
    while (!is_line_end(p)) {
        if (p->text[p->at] == '\\') {
            (void)take_escape(p, &out);
        } else {
            *out++ = p->text[p->at++];
        }
    }
    value->len = (int32_t)(out - value->data);
    p->out = out;
    return true;
}

/* ---- Keys ---- */

/* Keys of Kafka that mean something there and nothing here yet: not mistakes, so no neighbour is named. */
static const struct {
    const char *prefix;
    const char *why;
} not_yet[] = {
    {"ssl.", "TLS is not served yet"},
    {"sasl.", "SASL is not served yet"},
    {"listener.name.", "TLS and SASL are not served yet"},
    {"principal.builder.", "authentication is not served yet"},
    {"security.providers", "authentication is not served yet"},
    {"super.users", "authorisation is not served yet"},
    {"allow.everyone.", "authorisation is not served yet"},
    {"delegation.token.", "delegation tokens are not served yet"},
    {"group.consumer.", "the consumer group protocol is not served yet"},
    {"group.share.", "share groups are not served yet"},
    {"share.", "share groups are not served yet"},
    {"group.streams.", "streams groups are not served yet"},
    {"errors.deadletterqueue.", "share groups are not served yet"},
    {"remote.", "tiered storage is not there yet"},
    {"rlmm.config.", "tiered storage is not there yet"},
    {"rsm.config.", "tiered storage is not there yet"},
    {"follower.fetch.last.tiered.", "tiered storage is not there yet"},
    {"add.partitions.to.txn.", "transactions are not served yet"},
    {"kafka.metrics.", "metrics are not there yet"},
    {"internal.", "it is internal to Kafka"},
};

static const char *why_not_yet(struct mr_str key)
{
    for (size_t index = 0; index < sizeof not_yet / sizeof not_yet[0]; index++) {
        size_t len = strlen(not_yet[index].prefix);
        if ((size_t)key.len >= len && memcmp(key.data, not_yet[index].prefix, len) == 0) {
            return not_yet[index].why;
        }
    }
    return NULL;
}

static bool keep(struct mr_config_load *load, struct mr_str text, struct mr_str *kept)
{
    char *copy = mr_arena_try(load->arena, (size_t)text.len + 1, 1);
    if (copy == NULL) {
        load->say(load->user, MR_CONFIG_SAY_REFUSAL, "the configuration is too large");
        return false;
    }
    memcpy(copy, text.data, (size_t)text.len);
    copy[text.len] = '\0';
    *kept = (struct mr_str){.data = copy, .len = text.len};
    return true;
}

/* `where` is "server.properties:12: " or "--set ". */
static bool apply(struct mr_config_load *load, const char *where, struct mr_str key,
                  struct mr_str value)
{
    char line[MR_CONFIG_LINE_MAX];
    enum mr_config_id id = mr_config_find(key);
    if (id == MR_CONFIG_none) {
        const char *why = why_not_yet(key);
        enum mr_config_id near = mr_config_nearest(key);
        if (why != NULL) {
            mr_fmt(line, sizeof line, "%s%.*s has no effect: %s", where, (int)key.len, key.data,
                   why);
        } else if (near != MR_CONFIG_none) {
            mr_fmt(line, sizeof line,
                   "%s%.*s is not a key and has no effect; the nearest one is %s", where,
                   (int)key.len, key.data, mr_config_rows[near].key.name);
        } else {
            mr_fmt(line, sizeof line, "%s%.*s is not a key and has no effect", where, (int)key.len,
                   key.data);
        }
        load->say(load->user, MR_CONFIG_SAY_WARNING, line);
        return true;
    }
    struct mr_str kept;
    struct mr_config_value parsed;
    if (!keep(load, value, &kept)) {
        return false;
    }
    if (mr_config_parse(&mr_config_rows[id].key, kept, &parsed) != MR_OK) {
        struct mr_text text;
        mr_text_init(&text, line, sizeof line);
        mr_text_fmt(&text, "%s%.*s=%.*s: expected ", where, (int)key.len, key.data, (int)value.len,
                    value.data);
        mr_config_accepts(&mr_config_rows[id].key, &text);
        load->say(load->user, MR_CONFIG_SAY_REFUSAL, line);
        return mr_bug("believe-config");
    }
    mr_config_set(load->config, id, &parsed);
    mr_config_mark_given(load->config, id);
    return true;
}

void mr_config_load_begin(struct mr_config_load *load)
{
    mr_config_defaults(load->config);
}

bool mr_config_load_text(struct mr_config_load *load, const char *name, const char *text,
                         size_t len)
{
    char *out = mr_arena_try(load->arena, len + 1, 1);
    if (out == NULL) {
        load->say(load->user, MR_CONFIG_SAY_REFUSAL, "the configuration is too large");
        return false;
    }
    struct mr_properties p = {.text = text, .len = len, .line = 1, .out = out};
    struct mr_str key;
    struct mr_str value;
    while (mr_properties_next(&p, &key, &value)) {
        char where[512];
        mr_fmt(where, sizeof where, "%s:%u: ", name, p.entry_line);
        if (!apply(load, where, key, value)) {
            return false;
        }
    }
    return true;
}

static bool refuse_file(struct mr_config_load *load, const char *path, const char *why)
{
    char line[MR_CONFIG_LINE_MAX];
    mr_fmt(line, sizeof line, "%s: %s", path, why);
    load->say(load->user, MR_CONFIG_SAY_REFUSAL, line);
    return false;
}

bool mr_config_load_file(struct mr_config_load *load, const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return refuse_file(load, path, strerror(errno));
    }
    char *text = mr_arena_try(load->arena, MR_CONFIG_FILE_MAX, 1);
    size_t len = 0;
    ssize_t got = 1;
    while (text != NULL && len < MR_CONFIG_FILE_MAX && got > 0) {
        got = read(file, text + len, MR_CONFIG_FILE_MAX - len);
        len += got > 0 ? (size_t)got : 0;
    }
    int os_errno = errno;
    close(file);
    if (got < 0) {
        return refuse_file(load, path, strerror(os_errno));
    }
    if (text == NULL || len == MR_CONFIG_FILE_MAX) {
        return refuse_file(load, path, "larger than 1 MiB");
    }
    return mr_config_load_text(load, path, text, len);
}

bool mr_config_load_set(struct mr_config_load *load, const char *argument)
{
    const char *equals = strchr(argument, '=');
    if (equals == NULL || equals == argument) {
        char line[MR_CONFIG_LINE_MAX];
        mr_fmt(line, sizeof line, "--set %s: expected KEY=VALUE", argument);
        load->say(load->user, MR_CONFIG_SAY_REFUSAL, line);
        return false;
    }
    struct mr_str key = {.data = argument, .len = (int32_t)(equals - argument)};
    return apply(load, "--set ", key, mr_str(equals + 1));
}

/* ---- What must be true of several keys ---- */

static bool refuse(struct mr_config_load *load, const char *key, struct mr_str value,
                   const char *why)
{
    char line[MR_CONFIG_LINE_MAX];
    mr_fmt(line, sizeof line, "%s=%.*s: %s", key, (int)value.len, value.data, why);
    load->say(load->user, MR_CONFIG_SAY_REFUSAL, line);
    return false;
}

static bool list_has(struct mr_str list, struct mr_str wanted, int *count)
{
    struct mr_str item;
    int32_t at = 0;
    bool has = false;
    for (*count = 0; mr_str_list_next(list, &at, &item); (*count)++) {
        has = has || mr_str_equal(item, wanted);
    }
    return has;
}

/*
 * Clients must be able to connect to what they are told: an empty host becomes this machine's name, and
 * 0.0.0.0 refuses, both as in Kafka (which asks for the canonical name of the address).
 */
static bool advertise(struct mr_config_load *load)
{
    char bytes[2048];
    char machine[256] = "localhost";
    struct mr_text text;
    struct mr_str item;
    int32_t at = 0;
    mr_text_init(&text, bytes, sizeof bytes);
    if (gethostname(machine, sizeof machine - 1) != 0 || machine[0] == '\0') {
        mr_fmt(machine, sizeof machine, "localhost");
    }
    while (mr_str_list_next(load->config->advertised_listeners, &at, &item)) {
        const char *host = memmem(item.data, (size_t)item.len, "://", 3);
        int32_t host_at = host == NULL ? item.len : (int32_t)(host - item.data) + 3;
        bool is_empty = host_at < item.len && item.data[host_at] == ':';
        if (item.len - host_at >= 8 && memcmp(item.data + host_at, "0.0.0.0:", 8) == 0) {
            return refuse(load, "advertised.listeners", item,
                          "clients cannot connect to 0.0.0.0; set advertised.listeners to an "
                          "address they can reach");
        }
        mr_text_fmt(&text, "%s%.*s%s%.*s", text.len == 0 ? "" : ",", (int)host_at, item.data,
                    is_empty ? machine : "", (int)(item.len - host_at), item.data + host_at);
    }
    return !text.is_cut && keep(load, (struct mr_str){.data = bytes, .len = (int32_t)text.len},
                                &load->config->advertised_listeners);
}

/* Lists that the data cores read: what they would ignore is refused here. */
static bool check_addresses(struct mr_config_load *load)
{
    struct mr_network network;
    struct mr_str item;
    uint32_t limit;
    int32_t at = 0;
    while (mr_str_list_next(load->config->millrace_trusted_networks, &at, &item)) {
        if (!mr_network_parse(item, &network)) {
            return refuse(load, "millrace.trusted.networks", item,
                          "expected numeric networks, as 10.0.0.0/8 or fd00::/8");
        }
    }
    at = 0;
    while (mr_str_list_next(load->config->max_connections_per_ip_overrides, &at, &item)) {
        if (!mr_address_limit_parse(item, &network.address, &limit)) {
            return refuse(load, "max.connections.per.ip.overrides", item,
                          "expected address:count with a numeric address");
        }
    }
    return true;
}

/* The directories of log.dirs: each once, without blanks between them, short enough to become paths. */
static bool check_dirs(struct mr_config_load *load)
{
    struct mr_config *config = load->config;
    struct mr_str dirs[MR_DIRS_MAX];
    char bytes[MR_DIRS_MAX * (MR_CONFIG_DIR_MAX + 1)];
    struct mr_text text;
    struct mr_str item;
    uint32_t count = 0;
    int32_t at = 0;
    mr_text_init(&text, bytes, sizeof bytes);
    while (mr_str_list_next(config->log_dirs, &at, &item)) {
        if (count == MR_DIRS_MAX || item.len > MR_CONFIG_DIR_MAX) {
            return refuse(load, "log.dirs", item,
                          count == MR_DIRS_MAX ? "expected at most 32 directories"
                                               : "expected a shorter path");
        }
        for (uint32_t before = 0; before < count; before++) {
            if (mr_str_equal(dirs[before], item)) {
                return refuse(load, "log.dirs", item, "expected each directory once");
            }
        }
        dirs[count++] = item;
        mr_text_fmt(&text, "%s%.*s", count == 1 ? "" : ",", (int)item.len, item.data);
    }
    if (count == 0) {
        return refuse(load, "log.dirs", config->log_dirs, "expected a directory");
    }
    int metadata_count;
    if (!list_has(config->log_dirs, config->metadata_log_dir, &metadata_count)) {
        return refuse(load, "metadata.log.dir", config->metadata_log_dir,
                      "must be one of the directories of log.dirs");
    }
    struct mr_str kept;
    if (!keep(load, (struct mr_str){.data = bytes, .len = (int32_t)text.len}, &kept)) {
        return false;
    }
    config->log_dirs = kept;
    return true;
}

bool mr_config_load_end(struct mr_config_load *load)
{
    struct mr_config *config = load->config;
    int count;
    if (!mr_str_is_null(config->process_roles)) {
        bool has_broker = list_has(config->process_roles, MR_STR("broker"), &count);
        bool has_controller = list_has(config->process_roles, MR_STR("controller"), &count);
        if (!has_broker || !has_controller) {
            return refuse(
                load, "process.roles", config->process_roles,
                "clusters are not there yet; leave the key away or use broker,controller");
        }
    }
    mr_config_derive(config);
    if (!advertise(load)) {
        return false;
    }
    if (!check_dirs(load)) {
        return false;
    }
    if (!check_addresses(load)) {
        return false;
    }
    if (config->group_min_session_timeout_ms > config->group_max_session_timeout_ms) {
        return refuse(load, "group.min.session.timeout.ms", MR_STR("..."),
                      "must not be larger than group.max.session.timeout.ms");
    }
    return true;
}
