#include "cli/cli.h"

#include "boot/config_load.h"
#include "boot/memory.h"
#include "boot/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_ARENA (64ull << 20) /* address space: up to a score of files */

void mr_cli_complain(const struct mr_cli *cli, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "millrace %s: ", cli->command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

bool mr_cli_is_answered(int argc, char **argv, const char *help)
{
    for (int index = 0; index < argc; index++) {
        if (strcmp(argv[index], "--help") == 0 || strcmp(argv[index], "-h") == 0) {
            fputs(help, stdout);
            return true;
        }
        if (strcmp(argv[index], "--version") == 0) {
            printf("millrace %s, speaks the protocol of Apache Kafka 4.4\n", MR_VERSION);
            return true;
        }
    }
    return false;
}

static void say(void *user, enum mr_config_say kind, const char *line)
{
    mr_cli_complain(user, "%s%s", kind == MR_CONFIG_SAY_WARNING ? "warning: " : "", line);
}

/* The value of option `name` at argv[*at]: after '=' or the next argument. NULL: not this option. */
static const char *value_of(const struct mr_cli *cli, const char *name, int argc, char **argv,
                            int *at, bool *is_bad)
{
    size_t len = strlen(name);
    const char *argument = argv[*at];
    if (strncmp(argument, name, len) != 0) {
        return NULL;
    }
    if (argument[len] == '=') {
        return argument + len + 1;
    }
    if (argument[len] != '\0') {
        return NULL;
    }
    if (*at + 1 == argc) {
        mr_cli_complain(cli, "%s needs a value", name);
        *is_bad = true;
        return NULL;
    }
    return argv[++*at];
}

static bool read_option(struct mr_cli *cli, int argc, char **argv, int *at)
{
    bool is_bad = false;
    for (const struct mr_cli_option *option = cli->options; option != NULL && option->name != NULL;
         option++) {
        if (option->flag != NULL) {
            if (strcmp(argv[*at], option->name) == 0) {
                *option->flag = true;
                return true;
            }
            continue;
        }
        const char *value = value_of(cli, option->name, argc, argv, at, &is_bad);
        if (value != NULL) {
            *option->value = value;
            return true;
        }
        if (is_bad) {
            return false;
        }
    }
    if (argv[*at][0] == '-') {
        mr_cli_complain(cli, "%s is not an option; see millrace %s --help", argv[*at],
                        cli->command);
        return false;
    }
    if (cli->rest_count == cli->rest_max) {
        mr_cli_complain(cli, "%s is one argument too many; see millrace %s --help", argv[*at],
                        cli->command);
        return false;
    }
    cli->rest[cli->rest_count++] = argv[*at];
    return true;
}

bool mr_cli_read(struct mr_cli *cli, int argc, char **argv)
{
    if (!mr_memory_arena(&cli->arena, CONFIG_ARENA)) {
        mr_cli_complain(cli, "no memory: %s", strerror(errno));
        return false;
    }
    struct mr_config_load load = {
        .config = &cli->config, .arena = &cli->arena, .say = say, .user = cli};
    bool is_bad = false;
    mr_config_load_begin(&load);
    /* Files first: an argument is the more deliberate of the two. */
    for (int index = 0; index < argc; index++) {
        const char *path = value_of(cli, "--config", argc, argv, &index, &is_bad);
        if (is_bad || (path != NULL && !mr_config_load_file(&load, path))) {
            return false;
        }
    }
    for (int index = 0; index < argc; index++) {
        if (value_of(cli, "--config", argc, argv, &index, &is_bad) != NULL) {
            continue;
        }
        const char *set = value_of(cli, "--set", argc, argv, &index, &is_bad);
        if (is_bad || (set != NULL && !mr_config_load_set(&load, set)) ||
            (set == NULL && !read_option(cli, argc, argv, &index))) {
            return false;
        }
    }
    return mr_config_load_end(&load);
}

bool mr_cli_plan(struct mr_cli *cli, struct mr_plan *plan)
{
    char why[MR_CONFIG_LINE_MAX];
    struct mr_plan_machine machine;
    mr_memory_machine(&machine);
    if (!mr_plan_make(&cli->config, &machine, plan, why, sizeof why)) {
        mr_cli_complain(cli, "%s", why);
        return false;
    }
    plan->wait_bytes = mr_threads_wait_bytes(plan);
    mr_plan_measure(&cli->config, plan);
    return true;
}

/* ---- meta.properties ---- */

static bool load_small(const char *dir, const char *name, char *text, size_t size, size_t *len)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    ssize_t got = read(file, text, size);
    int os_errno = errno;
    close(file);
    errno = os_errno;
    *len = got < 0 ? 0 : (size_t)got;
    return got >= 0;
}

static void take_meta(struct mr_cli_meta *meta, const char *text, size_t len)
{
    char out[4096];
    struct mr_properties p = {.text = text, .len = len, .line = 1, .out = out};
    struct mr_str key;
    struct mr_str value;
    while (mr_properties_next(&p, &key, &value)) {
        if (mr_str_equal(key, MR_STR("cluster.id")) &&
            value.len < (int32_t)sizeof meta->cluster_id) {
            memcpy(meta->cluster_id, value.data, (size_t)value.len);
            meta->cluster_id[value.len] = '\0';
        } else if (mr_str_equal(key, MR_STR("node.id")) && value.len > 0 && value.len < 11) {
            char digits[12] = {0};
            memcpy(digits, value.data, (size_t)value.len);
            meta->node_id = strtoll(digits, NULL, 10);
        } else if (mr_str_equal(key, MR_STR("directory.id"))) {
            meta->has_directory_id = mr_uuid_parse(value, &meta->directory_id);
        } else if (mr_str_equal(key, MR_STR("version"))) {
            meta->is_guarded = value.len > 1 && memcmp(value.data, "1-", 2) == 0;
        }
    }
}

uint32_t mr_cli_dirs(const struct mr_cli *cli, struct mr_cli_dirs *dirs)
{
    struct mr_str names[MR_DIRS_MAX];
    uint32_t count = mr_config_log_dirs(&cli->config, names);
    for (uint32_t index = 0; index < count; index++) {
        snprintf(dirs->paths[index], sizeof dirs->paths[index], "%.*s", (int)names[index].len, names[index].data);
    }
    return count;
}

bool mr_cli_meta_load(const struct mr_cli *cli, const char *log_dir, struct mr_cli_meta *meta)
{
    char text[4096];
    size_t len = 0;
    *meta = (struct mr_cli_meta){.node_id = -1};
    if (!load_small(log_dir, "meta.properties", text, sizeof text, &len)) {
        if (errno == ENOENT) {
            return true;
        }
        mr_cli_complain(cli, "%s/meta.properties: %s", log_dir, strerror(errno));
        return false;
    }
    meta->is_there = true;
    take_meta(meta, text, len);
    if (meta->is_guarded && meta->cluster_id[0] == '\0' &&
        load_small(log_dir, "millrace-meta-properties", text, sizeof text, &len)) {
        take_meta(meta, text, len);
        meta->is_guarded = true;
    }
    return true;
}
