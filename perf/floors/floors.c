/* floors: millrace-floors: which floor, with which settings. */
#include "floors.h"

#include "millrace/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    int (*run)(const struct mr_floors_options *options);
    const char *text;
} floors[] = {
    {"serve", mr_floors_serve, "port=0 partitions=1 fetch.bytes=1MiB durable=FILE flush=1   a broker that drops, or only writes"},
    {"send", mr_floors_send, "bytes=1048576 seconds=1                                a plain send loop over loopback"},
    {"sends", mr_floors_sends, "seconds=1                                              ways to send what a cache holds, beside each other"},
    {"receive", mr_floors_receive, "seconds=1                                          ways of io_uring to receive requests"},
    {"disk", mr_floors_disk, "directory=. seconds=1                                  write, flush and read by size"},
    {"commit", mr_floors_commit, "directory=. seconds=1                                ways to make a commit durable, by size"},
    {"logs", mr_floors_logs, "directory=. seconds=1                                  a commit of 1 KiB for each of many logs: journal, or files"},
    {"cpu", mr_floors_cpu, "seconds=1                                              CRC-32C and memcpy"},
};
#define FLOOR_COUNT (sizeof floors / sizeof floors[0])

_Noreturn void mr_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "millrace-floors: broken invariant: %s:%d: %s\n", file, line, what);
    abort();
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t mr_floors_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t mr_floors_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static bool take(struct mr_floors_options *options, const char *argument)
{
    const struct {
        const char  *key;
        uint32_t    *number;
        const char **text;
        double      *real;
    } rows[] = {
        {"port=", &options->port, NULL, NULL},
        {"partitions=", &options->partitions, NULL, NULL},
        {"fetch.bytes=", &options->fetch_bytes, NULL, NULL},
        {"bytes=", &options->bytes, NULL, NULL},
        {"durable=", NULL, &options->durable, NULL},
        {"flush=", &options->flush, NULL, NULL},
        {"directory=", NULL, &options->directory, NULL},
        {"seconds=", NULL, NULL, &options->seconds},
    };
    for (size_t at = 0; at < sizeof rows / sizeof rows[0]; at++) {
        size_t len = strlen(rows[at].key);
        char  *end = NULL;
        if (strncmp(argument, rows[at].key, len) != 0) {
            continue;
        }
        if (rows[at].text != NULL) {
            *rows[at].text = argument + len;
            return true;
        }
        double value = strtod(argument + len, &end);
        if (rows[at].number != NULL) {
            *rows[at].number = (uint32_t)value;
        } else {
            *rows[at].real = value;
        }
        return end != argument + len && *end == '\0' && value >= 0 && value <= 1e9;
    }
    return false;
}

int main(int argc, char **argv)
{
    struct mr_floors_options options = {
        .partitions = 1, .fetch_bytes = 1 << 20, .flush = 1, .bytes = 1 << 20, .seconds = 1, .directory = "."};
    for (int at = 2; at < argc; at++) {
        if (!take(&options, argv[at])) {
            fprintf(stderr, "millrace-floors: %s is not a setting\n", argv[at]);
            return 2;
        }
    }
    for (size_t at = 0; argc > 1 && at < FLOOR_COUNT; at++) {
        if (strcmp(argv[1], floors[at].name) == 0) {
            return floors[at].run(&options);
        }
    }
    puts("millrace-floors FLOOR [KEY=VALUE...]: what the machine allows; JSON on stdout\n");
    for (size_t at = 0; at < FLOOR_COUNT; at++) {
        printf("  %-6s %s\n", floors[at].name, floors[at].text);
    }
    return argc > 1 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
}
