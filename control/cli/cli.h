/*
 * cli: the commands of `millrace`, and what they share: arguments, configuration, exit codes.
 *
 * Answers go to stdout, everything else to stderr. Thread: main.
 */
#ifndef MILLRACE_CONTROL_CLI_H
#define MILLRACE_CONTROL_CLI_H

#include "config_table.h"
#include "millrace/base/arena.h"
#include "millrace/plan.h"

#include <stdbool.h>

enum mr_cli_exit {
    MR_CLI_OK = 0,
    MR_CLI_FAILED = 1,
    MR_CLI_USAGE = 2, /* wrong arguments or configuration: nothing was tried */
};

int mr_cmd_start(int argc, char **argv);
int mr_cmd_format(int argc, char **argv);
int mr_cmd_plan(int argc, char **argv);
int mr_cmd_dump(int argc, char **argv);
int mr_cmd_recover(int argc, char **argv);

/* Whether argv has --help or --version; prints what was asked for. */
bool mr_cli_is_answered(int argc, char **argv, const char *help);

/*
 * Options beside --config and --set that a command knows. `value` receives the next argument (or what
 * follows `=`); `flag` is set. The list ends with a NULL name.
 */
struct mr_cli_option {
    const char *name; /* "--cluster-id" */
    const char **value;
    bool *flag;
};

/*
 * Read arguments: --config and --set into `config` (in their order, --config first), others by `options`,
 * the rest into `rest`. False: said on stderr what is wrong; the exit code is MR_CLI_USAGE.
 */
struct mr_cli {
    const char *command; /* "start" */
    const struct mr_cli_option *options;
    struct mr_config config;
    struct mr_arena arena;
    char *rest[64];
    int rest_count;
    int rest_max; /* in: arguments without dashes that are allowed */
};
bool mr_cli_read(struct mr_cli *cli, int argc, char **argv);

/* stderr: "millrace start: ..." */
__attribute__((format(printf, 2, 3))) void mr_cli_complain(const struct mr_cli *cli,
                                                           const char *format, ...);

/* Plan and measure for this machine; false: complained. */
bool mr_cli_plan(struct mr_cli *cli, struct mr_plan *plan);

/* meta.properties of a log directory. */
struct mr_cli_meta {
    bool is_there;
    bool is_guarded; /* the journal may be non-empty */
    char cluster_id[128];
    int64_t node_id; /* -1: none */
    struct mr_uuid directory_id;
    bool has_directory_id;
};
/* The directories of log.dirs, that of the metadata log first; how many. */
struct mr_cli_dirs {
    char paths[MR_DIRS_MAX][MR_CONFIG_DIR_MAX + 1];
};
uint32_t mr_cli_dirs(const struct mr_cli *cli, struct mr_cli_dirs *dirs);

/* False: complained. A directory or file that does not exist is not an error: is_there is false. */
bool mr_cli_meta_load(const struct mr_cli *cli, const char *log_dir, struct mr_cli_meta *meta);

#define MR_CLI_CONFIG_HELP                                                                   \
    "  --config FILE          a server.properties with Kafka's names, and millrace.* keys\n" \
    "  --set KEY=VALUE        one key; may be given again, the later one wins\n"

#endif
