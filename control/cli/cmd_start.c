#include "boot/nic_load.h"
#include "boot/threads.h"
#include "boot/wait_uring.h"
#include "cli/cli.h"

#include "millrace/base/bug.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "millrace start [--config FILE] [--set KEY=VALUE]...\n"
    "\n"
    "Run the broker on a directory that `millrace format` (or Apache Kafka's kafka-storage) "
    "prepared.\n"
    "Logs go to stderr. SIGTERM or SIGINT stop it cleanly, a second one leaves at once.\n"
    "\n" MR_CLI_CONFIG_HELP
    "\n"
    "Exit codes: 0 stopped cleanly, 1 failed, 2 wrong arguments or configuration.\n";

static bool check_meta(const struct mr_cli *cli, const char *log_dir, struct mr_cli_meta *meta)
{
    if (!mr_cli_meta_load(cli, log_dir, meta)) {
        return false;
    }
    if (!meta->is_there) {
        mr_cli_complain(cli,
                        "%s is not formatted (it has no meta.properties); format it once with\n\n"
                        "    millrace format --set log.dirs=%s\n",
                        log_dir, log_dir);
        return false;
    }
    if (meta->cluster_id[0] == '\0' || !meta->has_directory_id) {
        mr_cli_complain(cli,
                        "%s/meta.properties lacks cluster.id or directory.id; it was written by "
                        "something too old, or damaged",
                        log_dir);
        return false;
    }
    if (meta->node_id != cli->config.node_id) {
        mr_cli_complain(cli, "%s belongs to node.id=%lld, the configuration says node.id=%lld",
                        log_dir, (long long)meta->node_id, (long long)cli->config.node_id);
        return false;
    }
    return true;
}

/* O_TMPFILE: the question leaves no name behind. */
static void check_direct(const struct mr_cli *cli, const char *log_dir)
{
    int file = open(log_dir, O_RDWR | O_TMPFILE | O_DIRECT | O_CLOEXEC, 0600);
    if (file < 0 && errno == EINVAL && !mr_bug("silent-buffering")) {
        mr_cli_complain(
            cli,
            "warning: the file system of %s refuses O_DIRECT; buffered writes and fdatasync "
            "are used, which is slower",
            log_dir);
    }
    if (file >= 0) {
        close(file);
    }
}

/*
 * Every directory of log.dirs is this node's, and no two are the same. One that cannot be read at all is left out, as
 * if it had failed while the broker ran; but not the first, which has the metadata log.
 */
static bool check_dirs(const struct mr_cli *cli, struct mr_threads_params *params, char *cluster_id, size_t size)
{
    static struct mr_cli_dirs dirs;
    params->dir_count = mr_cli_dirs(cli, &dirs);
    for (uint32_t index = 0; index < params->dir_count; index++) {
        struct mr_log_dir *dir = &params->dirs[index];
        struct mr_cli_meta meta;
        dir->path = dirs.paths[index];
        if (index > 0 && !mr_cli_meta_load(cli, dir->path, &meta)) {
            dir->is_offline = true;
            continue;
        }
        if (!check_meta(cli, dir->path, &meta)) {
            return false;
        }
        if (index == 0) {
            snprintf(cluster_id, size, "%s", meta.cluster_id);
        } else if (strcmp(cluster_id, meta.cluster_id) != 0) {
            mr_cli_complain(cli, "%s belongs to cluster.id=%s, %s to cluster.id=%s", dir->path, meta.cluster_id,
                            params->dirs[0].path, cluster_id);
            return false;
        }
        for (uint32_t before = 0; before < index; before++) {
            if (mr_uuid_equal(&params->dirs[before].id, &meta.directory_id)) {
                mr_cli_complain(cli, "%s and %s have the same directory.id: one is a copy of the other",
                                params->dirs[before].path, dir->path);
                return false;
            }
        }
        dir->id = meta.directory_id;
        check_direct(cli, dir->path);
    }
    return true;
}

/*
 * Whether the address can be bound, before recovery has taken its time. Without SO_REUSEPORT: two
 * brokers of one user would otherwise share a port and each get half of the connections.
 */
static bool check_port(const struct mr_cli *cli, const struct mr_endpoint *endpoint)
{
    char service[8];
    struct addrinfo *found = NULL;
    struct addrinfo wanted = {.ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    snprintf(service, sizeof service, "%u", endpoint->port);
    int err =
        getaddrinfo(endpoint->host[0] == '\0' ? NULL : endpoint->host, service, &wanted, &found);
    if (err != 0) {
        mr_cli_complain(cli, "listeners: the host %s is unknown: %s", endpoint->host,
                        gai_strerror(err));
        return false;
    }
    bool is_good = true;
    int one = 1;
    int socket_fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(socket_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* A broker that was killed a moment ago: its ring, and so its listener, ends a little after it. */
    int bound = socket_fd < 0 ? 0 : bind(socket_fd, found->ai_addr, found->ai_addrlen);
    for (int tries = 0; bound != 0 && errno == EADDRINUSE && tries < 40; tries++) {
        const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
        nanosleep(&pause, NULL);
        bound = bind(socket_fd, found->ai_addr, found->ai_addrlen);
    }
    if (bound != 0) {
        is_good = false;
        if (errno == EADDRINUSE) {
            mr_cli_complain(cli,
                            "port %u is in use; choose another one with\n\n"
                            "    --set listeners=PLAINTEXT://%s:%u\n",
                            endpoint->port, endpoint->host,
                            endpoint->port < 65535 ? endpoint->port + 1u : 1024u);
        } else {
            mr_cli_complain(cli, "listeners: %s:%u cannot be bound: %s", endpoint->host,
                            endpoint->port, strerror(errno));
        }
    }
    if (socket_fd >= 0) {
        close(socket_fd);
    }
    freeaddrinfo(found);
    return is_good;
}

static bool is_on_card(const struct mr_nic_params *card, const struct mr_endpoint *endpoint)
{
    struct mr_address address;
    if (endpoint->host[0] == '\0') {
        return true;
    }
    bool is_found = false;
    for (uint32_t index = 0; mr_address_parse(mr_str(endpoint->host), &address) && index < card->our_count; index++) {
        is_found = is_found || mr_address_equal(&address, &card->ours[index].address);
    }
    return is_found;
}

static bool open_card(const struct mr_cli *cli, const struct mr_plan *plan, struct mr_threads_params *params)
{
    static struct mr_nic_params card;
    char why[1024];
    if (!mr_nic_load_params(&cli->config, &card, why, sizeof why)) {
        mr_cli_complain(cli, "%s", why);
        return false;
    }
    for (uint32_t index = 0; index < params->listener_count; index++) {
        if (!is_on_card(&card, &params->listeners[index])) {
            mr_cli_complain(cli, "listeners: %s is not one of millrace.dpdk.addresses",
                            params->listeners[index].host);
            return false;
        }
    }
    params->nic_params = &card;
    card.lanes = plan->endpoints.data_count;
    bool is_good = getrandom(card.steer_key, sizeof card.steer_key, 0) == (ssize_t)sizeof card.steer_key;
    if (!is_good || !mr_nic_load(&card, params->lanes, why, sizeof why)) {
        mr_cli_complain(cli, "%s", is_good ? why : "no random numbers");
        return false;
    }
    return true;
}

/* Kernel sockets: that the addresses can be bound. A card: that it can be opened, and has the addresses. */
static bool check_listeners(const struct mr_cli *cli, const struct mr_plan *plan, struct mr_threads_params *params)
{
    if (mr_nic_load_is_wanted(&cli->config)) {
        return open_card(cli, plan, params);
    }
    for (uint32_t index = 0; index < params->listener_count; index++) {
        if (!check_port(cli, &params->listeners[index])) {
            return false;
        }
    }
    return true;
}

int mr_cmd_start(int argc, char **argv)
{
    struct mr_threads_params params = {0};
    static struct mr_cli cli = {.command = "start"};
    static struct mr_plan plan;
    char cluster_id[sizeof ((struct mr_cli_meta *)0)->cluster_id];
    char why[1024];
    if (mr_cli_is_answered(argc, argv, help)) {
        return MR_CLI_OK;
    }
    if (!mr_cli_read(&cli, argc, argv) || !mr_cli_plan(&cli, &plan)) {
        return MR_CLI_USAGE;
    }
    int listener_count =
        mr_plan_listeners(&cli.config, params.listeners, MR_THREADS_LISTENERS, why, sizeof why);
    if (listener_count < 0) {
        mr_cli_complain(&cli, "%s", why);
        return MR_CLI_USAGE;
    }
    params.listener_count = (uint32_t)listener_count;
    if (!mr_wait_uring_probe(why, sizeof why) && !mr_bug("skip-probe")) {
        mr_cli_complain(&cli, "%s", why);
        return MR_CLI_FAILED;
    }
    if (!check_dirs(&cli, &params, cluster_id, sizeof cluster_id)) {
        return MR_CLI_FAILED;
    }
    if (!check_listeners(&cli, &plan, &params)) {
        return MR_CLI_FAILED;
    }
    params.config = &cli.config;
    params.plan = &plan;
    params.cluster_id = mr_str(cluster_id);
    return mr_threads_run(&params);
}
