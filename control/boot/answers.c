#include "boot/answers.h"

#include "boot/http_load.h"
#include "millrace/base/bug.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MS 1000u /* a thread that takes longer is stuck, or the machine is */

enum {
    STATUS_OK = 200,
    STATUS_NOT_FOUND = 404,
    STATUS_UNAVAILABLE = 503,
};

static struct mr_answers_params parts;
static double start_s;

/* ---- The process ---- */

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

/* Second number of /proc/self/statm: resident pages. */
static uint64_t resident_bytes(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof text);
    uint64_t pages = 0;
    ssize_t at = 0;
    while (at < len && text[at] != ' ') {
        at++;
    }
    for (at++; at < len && text[at] >= '0' && text[at] <= '9'; at++) {
        pages = pages * 10 + (uint64_t)(text[at] - '0');
    }
    if (fd >= 0) {
        close(fd);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t descriptors(void)
{
    uint64_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    if (directory != NULL) {
        closedir(directory);
        count -= 3; /* ".", ".." and the directory's own */
    }
    return count;
}

static void look_at_process(struct mr_metrics *metrics)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    metrics->process.start_s = start_s;
    metrics->process.cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    metrics->process.rss_bytes = resident_bytes();
    metrics->process.descriptors = descriptors();
}

/* ---- Answers ---- */

static uint32_t answer_metrics(struct mr_metrics *metrics, struct mr_text *out)
{
    look_at_process(metrics);
    mr_metrics_text(metrics, out);
    return STATUS_OK;
}

static uint32_t answer_health(struct mr_metrics *metrics, struct mr_text *out)
{
    (void)metrics;
    mr_text_fmt(out, "alive\n");
    return STATUS_OK;
}

static uint32_t answer_ready(struct mr_metrics *metrics, struct mr_text *out)
{
    return mr_metrics_is_ready(metrics, out) ? STATUS_OK : STATUS_UNAVAILABLE;
}

static uint32_t answer(const char *path, char *body, size_t size, size_t *len)
{
    static const struct {
        const char *path;
        uint32_t (*answer)(struct mr_metrics *metrics, struct mr_text *out);
    } rows[] = {{"/metrics", answer_metrics}, {"/health", answer_health}, {"/ready", answer_ready}};
    static struct mr_metrics metrics; /* the library has one thread */
    struct mr_text out;
    uint32_t status = STATUS_NOT_FOUND;
    mr_text_init(&out, body, size);
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        if (strcmp(path, rows[row].path) != 0) {
            continue;
        }
        status = STATUS_UNAVAILABLE;
        if (!atomic_load(parts.is_running)) {
            mr_text_fmt(&out, "the broker is starting\n");
        } else if (!mr_sampler_take(parts.sampler, parts.wake, ANSWER_MS, &metrics) && !mr_bug("always-healthy")) {
            mr_text_fmt(&out, "a thread of the broker has not answered within %u ms\n", ANSWER_MS);
        } else {
            status = rows[row].answer(&metrics, &out);
        }
    }
    if (status == STATUS_NOT_FOUND) {
        mr_text_fmt(&out, "there are /metrics, /health and /ready\n");
    }
    *len = out.len;
    return status;
}

bool mr_answers_start(const struct mr_config *config, const struct mr_answers_params *params, char *why, size_t why_size)
{
    struct timespec now;
    struct mr_http_params http = {.body_max = MR_METRICS_TEXT_BYTES, .answer = answer};
    parts = *params;
    clock_gettime(CLOCK_REALTIME, &now);
    start_s = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    return mr_http_load(config, &http, why, why_size);
}
