#include "boot/memory.h"
#include "boot/threads.h"
#include "boot/wait_uring.h"
#include "cli/cli.h"
#include "millrace/base/bug.h"
#include "observe/log_writer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const char help[] =
    "millrace recover DIR [--accept-loss] [--config FILE] [--set KEY=VALUE]...\n"
    "\n"
    "Drain the journal of a log directory whose broker is not running into its segments, and leave "
    "it as\n"
    "a clean stop leaves it: Apache Kafka can then start on it. Progress goes to stderr.\n"
    "\n"
    "  --accept-loss          logs of which corruption took entries are served again, with what is\n"
    "                         left of them; without it they stay offline and this command fails\n"
    "\n" MR_CLI_CONFIG_HELP "\n"
    "Exit codes: 0 drained, 1 failed (the directory is as it was, or recovery can be repeated), 2 "
    "wrong\n"
    "arguments or configuration.\n";

/* One storage core and an endpoint that plays control, in this thread. */
struct recovery {
    struct mr_endpoints endpoints;
    struct mr_port ports[3]; /* data (unused), storage, control */
    struct mr_doorbell bell;
    struct mr_wait *wait;
    struct mr_log log;
    struct mr_storage_core *core;
    _Atomic uint64_t hurry;
};

static struct mr_now read_clocks(void)
{
    struct timespec mono;
    struct timespec real;
    clock_gettime(CLOCK_MONOTONIC, &mono);
    clock_gettime(CLOCK_REALTIME, &real);
    return (struct mr_now){.mono_ns = (uint64_t)mono.tv_sec * MR_NS_PER_S + (uint64_t)mono.tv_nsec,
                           .unix_ms = (int64_t)real.tv_sec * 1000 + real.tv_nsec / 1000000};
}

static void flush(struct mr_port *port)
{
    uint64_t woken[(MR_ENDPOINTS_MAX + 63) / 64] = {0};
    (void)mr_port_flush(port, woken);
}

/*
 * Recovering blocks inside one turn, and nothing comes back before it is done. But every byte passes the
 * disk seam: progress is told from there, once a second.
 */
static struct {
    const struct mr_disk_ops *inner;
    struct mr_disk_ops ops;
    const char *what;
    uint64_t began_ns;
    uint64_t told_ns;
    uint64_t read_bytes;
    uint64_t written_bytes;
} watched;

static void watch_count(const struct mr_disk_op *op)
{
    uint64_t now_ns = read_clocks().mono_ns;
    watched.read_bytes += op->kind == MR_DISK_READ ? op->len : 0;
    watched.written_bytes += op->kind == MR_DISK_WRITE ? op->len : 0;
    if (now_ns - watched.told_ns < MR_NS_PER_S || mr_bug("silent-recover")) {
        return;
    }
    watched.told_ns = now_ns;
    fprintf(stderr, "millrace recover: %s, %llu s, %llu KiB read, %llu KiB written\n", watched.what,
            (unsigned long long)((now_ns - watched.began_ns) / MR_NS_PER_S),
            (unsigned long long)(watched.read_bytes >> 10),
            (unsigned long long)(watched.written_bytes >> 10));
}

static void watch_submit(struct mr_disk *disk, struct mr_disk_op *op)
{
    watch_count(op);
    watched.inner->submit(disk, op);
}

static void watch_run(struct mr_disk *disk, struct mr_disk_op *op)
{
    watch_count(op);
    watched.inner->run(disk, op);
}

static void watch(struct mr_disk *disk)
{
    watched.inner = disk->ops;
    watched.ops = *disk->ops;
    watched.ops.submit = watch_submit;
    watched.ops.run = disk->ops->run == NULL ? NULL : watch_run;
    watched.began_ns = watched.told_ns = read_clocks().mono_ns;
    disk->ops = &watched.ops;
}

/* Send one operation and turn the core until its answer is there. */
static enum mr_err run(struct recovery *r, struct mr_storage_op *op, const char *what)
{
    struct mr_port *control = &r->ports[2];
    struct mr_plane_msg msg = {.kind = MR_PLANE_STORAGE_OP, .u.op = op};
    struct mr_plane_msg answer;
    watched.what = what;
    mr_port_send(control, 1, &msg);
    flush(control);
    for (;;) {
        struct mr_now now = read_clocks();
        r->log.unix_ms = now.unix_ms;
        bool is_busy = mr_storage_core_turn(r->core, now);
        flush(&r->ports[1]);
        (void)mr_log_writer_drain();
        while (mr_port_receive(control, &answer)) {
            if (answer.kind == MR_PLANE_STORAGE_DONE && answer.u.op == op) {
                return op->err;
            }
        }
        uint64_t until_ns =
            mr_earlier(mr_storage_core_deadline_ns(r->core), now.mono_ns + MR_NS_PER_S);
        mr_wait(r->wait, is_busy || until_ns <= now.mono_ns ? 0 : until_ns);
    }
}

static bool prepare(struct recovery *r, const struct mr_cli *cli, const struct mr_plan *plan,
                    const char *log_dir)
{
    static struct mr_arena arena;
    int os_errno = 0;
    uint64_t seed = 0;
    uint64_t ring_bytes = 16ull << 20; /* two rings and their overflow */
    if (!mr_doorbell_init(&r->bell) ||
        !mr_memory_arena(&arena, plan->storage_core_bytes + plan->disk_bytes + plan->wait_bytes +
                                     plan->log_bytes + ring_bytes)) {
        mr_cli_complain(cli, "no memory: %s", strerror(errno));
        return false;
    }
    for (uint32_t self = 0; self < 3; self++) {
        r->ports[self].self = self;
        r->ports[self].endpoint_count = 3;
    }
    mr_port_connect(&r->ports[2], &r->ports[1], &arena, 1024, 1024);
    mr_port_connect(&r->ports[1], &r->ports[2], &arena, 1024, 1024);
    mr_log_init(&r->log, &arena, plan->log_lines, "recover");
    mr_log_writer_add(&r->log);
    r->wait =
        mr_wait_uring_init(mr_arena_get_fresh(&arena, mr_wait_uring_bytes(plan->wait_entries), 64),
                           plan->wait_entries, &r->bell, &os_errno);
    if (r->wait == NULL || getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        mr_cli_complain(cli, "io_uring cannot be set up: %s", strerror(os_errno));
        return false;
    }
    r->endpoints = (struct mr_endpoints){.data_count = 1, .storage_count = 1};
    const struct mr_storage_params params = {
        .plan = &plan->storage,
        .endpoints = &r->endpoints,
        .core = 0,
        .port = &r->ports[1],
        .disk = mr_disk_uring_init(mr_arena_get(&arena, mr_disk_uring_bytes(), 64), r->wait),
        .log = &r->log,
        .arena = &arena,
        .log_dir = log_dir,
        .node_id = (int32_t)cli->config.node_id,
        .seed = seed,
        .stop_hurry = &r->hurry,
    };
    if (params.disk != NULL) {
        watch(params.disk);
    }
    r->core = params.disk == NULL ? NULL : mr_storage_core_init(&params);
    if (r->core == NULL) {
        mr_cli_complain(cli, "the storage core cannot be set up");
    }
    return r->core != NULL;
}

int mr_cmd_recover(int argc, char **argv)
{
    static bool is_loss_accepted;
    static const struct mr_cli_option options[] = {
        {.name = "--accept-loss", .flag = &is_loss_accepted}, {.name = NULL}};
    static struct mr_cli cli = {.command = "recover", .rest_max = 1, .options = options};
    static struct mr_plan plan;
    static struct recovery recovery;
    static struct mr_recover_op recover;
    static struct mr_stop_op stop;
    struct mr_cli_meta meta;
    char why[1024];
    if (mr_cli_is_answered(argc, argv, help)) {
        return MR_CLI_OK;
    }
    if (!mr_cli_read(&cli, argc, argv) || !mr_cli_plan(&cli, &plan)) {
        return MR_CLI_USAGE;
    }
    if (cli.rest_count != 1) {
        mr_cli_complain(&cli, "name the log directory; see millrace recover --help");
        return MR_CLI_USAGE;
    }
    if (!mr_wait_uring_probe(why, sizeof why)) {
        mr_cli_complain(&cli, "%s", why);
        return MR_CLI_FAILED;
    }
    if (!mr_cli_meta_load(&cli, cli.rest[0], &meta)) {
        return MR_CLI_FAILED;
    }
    if (!meta.is_there) {
        mr_cli_complain(&cli, "%s is not a log directory (it has no meta.properties)", cli.rest[0]);
        return MR_CLI_FAILED;
    }
    cli.config.node_id = meta.node_id; /* the directory knows whose it is */
    if (!prepare(&recovery, &cli, &plan, cli.rest[0])) {
        return MR_CLI_FAILED;
    }
    recover.op.kind = MR_STORAGE_RECOVER;
    enum mr_err err = run(&recovery, &recover.op, "reading the journal");
    if (err != MR_OK) {
        mr_cli_complain(&cli, "%s: %s", cli.rest[0],
                        recover.why[0] != '\0' ? recover.why : mr_err_text(err));
        return MR_CLI_FAILED;
    }
    stop.op.kind = MR_STORAGE_STOP;
    stop.is_last = true;
    stop.broker_epoch = -1;
    stop.is_loss_accepted = is_loss_accepted;
    err = run(&recovery, &stop.op, "closing");
    (void)mr_log_writer_drain();
    if (err != MR_OK) {
        mr_cli_complain(&cli, "%s: not closed cleanly: %s; run it again", cli.rest[0],
                        mr_err_text(err));
        return MR_CLI_FAILED;
    }
    if (stop.lost_logs > 0 && !is_loss_accepted) {
        mr_cli_complain(&cli, "%s: %u logs lost entries and stay offline; see --accept-loss",
                        cli.rest[0], stop.lost_logs);
        return MR_CLI_FAILED;
    }
    printf("recovered %s logs=%u journal_bytes=%llu%s\n", cli.rest[0], recover.log_count,
           (unsigned long long)recover.redone_bytes,
           recover.was_clean ? " (it was clean already)" : "");
    return MR_CLI_OK;
}
