#include "cli/cli.h"

#include <stdio.h>

static const char help[] =
    "millrace plan [--config FILE] [--set KEY=VALUE]...\n"
    "\n"
    "Print what `millrace start` would reserve with this configuration on this machine, and why.\n"
    "\n" MR_CLI_CONFIG_HELP;

static void say(void *user, const char *line)
{
    (void)user;
    puts(line);
}

int mr_cmd_plan(int argc, char **argv)
{
    struct mr_cli cli = {.command = "plan"};
    struct mr_plan plan;
    if (mr_cli_is_answered(argc, argv, help)) {
        return MR_CLI_OK;
    }
    if (!mr_cli_read(&cli, argc, argv) || !mr_cli_plan(&cli, &plan)) {
        return MR_CLI_USAGE;
    }
    mr_plan_print(&cli.config, &plan, say, NULL);
    return MR_CLI_OK;
}
