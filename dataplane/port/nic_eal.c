/*
 * nic_eal: DPDK's environment (EAL) out of our configuration, and what it logs.
 *
 * No telemetry, no files shared with other processes, no core pinned: the broker has its own threads, and they go
 * where the broker's configuration says. Signals are blocked while it starts, because the thread that it makes for
 * interrupts would otherwise take the broker's SIGTERM.
 */
#include "nic_dpdk.h"

#include "millrace/base/fmt.h"

#include <rte_eal.h>
#include <rte_log.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define ARGUMENTS_MAX 64

static char said[4096]; /* a stream that starts again at the front when it is full */

void mr_nic_eal_said(char *out, size_t size)
{
    size_t at = 0;
    for (const char *from = said; *from != '\0' && at + 2 < size; from++) {
        out[at++] = *from == '\n' ? ';' : *from;
    }
    while (at > 0 && (out[at - 1] == ';' || out[at - 1] == ' ')) {
        at--;
    }
    out[at] = '\0';
}

static ssize_t keep_line(void *unused, const char *text, size_t len)
{
    (void)unused;
    size_t used = strlen(said);
    size_t keep = len < sizeof said - 1 ? len : sizeof said - 1;
    if (used + keep >= sizeof said) {
        used = 0;
    }
    memcpy(said + used, text, keep);
    said[used + keep] = '\0';
    return (ssize_t)len;
}

static bool keep_logs(void)
{
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = keep_line});
    if (stream == NULL) {
        return false;
    }
    (void)setvbuf(stream, NULL, _IONBF, 0);
    return rte_openlog_stream(stream) == 0;
}

/* One logical core that may run wherever this process may. */
static void lcores(char *out, size_t size)
{
    cpu_set_t cpus;
    struct mr_text text;
    mr_text_init(&text, out, size);
    mr_text_fmt(&text, "0@(");
    bool is_first = true;
    for (unsigned cpu = 0; sched_getaffinity(0, sizeof cpus, &cpus) == 0 && cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &cpus)) {
            mr_text_fmt(&text, is_first ? "%u" : ",%u", cpu);
            is_first = false;
        }
    }
    mr_text_fmt(&text, ")");
}

/* Appends the words of `text`, which loses its blanks. */
static int split(char *text, char **arguments, int count)
{
    char *rest = text;
    for (char *word; (word = strsep(&rest, " ")) != NULL && count < ARGUMENTS_MAX - 1;) {
        if (*word != '\0') {
            arguments[count++] = word;
        }
    }
    return count;
}

/* Memory without hugepages is address space until it is used, but DPDK's 64 MiB are too few for several lanes. */
static void memory(const struct mr_nic_params *params, char *out, size_t size)
{
    uint64_t frames = params->buffers + 6144u; /* of nic_pools.c, at the most */
    uint64_t lane = frames * (params->mtu + 768u) + MR_NIC_SEGMENTS * 256u;
    bool is_said = strncmp(params->eal, "-m ", 3) == 0 || strstr(params->eal, " -m ") != NULL;
    bool is_asked = strstr(params->eal, "--no-huge") != NULL && !is_said;
    out[0] = '\0';
    if (is_asked) {
        mr_fmt(out, size, "-m %llu", (unsigned long long)(params->lanes * (lane >> 20) + 32));
    }
}

bool mr_nic_eal_start(const struct mr_nic_params *params, char *why, size_t why_size)
{
    static char cores[4 * CPU_SETSIZE];
    static char ours[] = "millrace --no-telemetry --no-shconf --log-level=5 --iova-mode=va --lcores";
    static char given[sizeof params->eal];
    static char *arguments[ARGUMENTS_MAX];
    static char megabytes[32];
    memory(params, megabytes, sizeof megabytes);
    lcores(cores, sizeof cores);
    int count = split(ours, arguments, 0);
    arguments[count++] = cores;
    count = split(megabytes, arguments, count);
    memcpy(given, params->eal, sizeof given);
    count = split(given, arguments, count);
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_good = keep_logs() && rte_eal_init(count, arguments) >= 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!is_good) {
        char text[512];
        mr_nic_eal_said(text, sizeof text);
        mr_fmt(why, why_size, "DPDK does not start (millrace.dpdk.eal=%s): %s", params->eal, text);
    }
    return is_good;
}
