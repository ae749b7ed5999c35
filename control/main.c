/* main: argument -> command. */
#include "cli/cli.h"

#include "millrace/base/bug.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *text;
} commands[] = {
    {"start", mr_cmd_start, "run the broker"},
    {"format", mr_cmd_format, "prepare a new data directory"},
    {"plan", mr_cmd_plan, "print what start would reserve, and why"},
    {"dump", mr_cmd_dump, "print segments, indexes, journal and metadata as text"},
    {"recover", mr_cmd_recover, "drain the journal of a stopped broker into its segments"},
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_usage(FILE *out)
{
    fputs("millrace COMMAND [OPTIONS]: a broker that speaks Kafka's protocol\n\n", out);
    for (size_t index = 0; index < COMMAND_COUNT; index++) {
        fprintf(out, "  %-8s  %s\n", commands[index].name, commands[index].text);
    }
    fputs("\nmillrace COMMAND --help says more; --version prints the version.\n", out);
}

#ifdef MR_BUGS
/* millrace --bug=NAME COMMAND ...: before anything is read, so that reading can be wrong too. */
static void take_bug(int *argc, char ***argv)
{
    static const char option[] = "--bug=";
    if (*argc > 1 && strncmp((*argv)[1], option, sizeof option - 1) == 0) {
        mr_bug_name = (*argv)[1] + sizeof option - 1;
        ++*argv;
        --*argc;
    }
}
#endif

int main(int argc, char **argv)
{
#ifdef MR_BUGS
    take_bug(&argc, &argv);
#endif
    if (argc < 2) {
        print_usage(stderr);
        return MR_CLI_USAGE;
    }
    for (size_t index = 0; index < COMMAND_COUNT; index++) {
        if (strcmp(argv[1], commands[index].name) == 0) {
            return commands[index].run(argc - 2, argv + 2);
        }
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return MR_CLI_OK;
    }
    if (mr_cli_is_answered(1, argv + 1, "")) {
        return MR_CLI_OK;
    }
    fprintf(stderr, "millrace: %s is not a command\n\n", argv[1]);
    print_usage(stderr);
    return MR_CLI_USAGE;
}
