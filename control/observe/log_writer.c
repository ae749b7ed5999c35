#include "observe/log_writer.h"

#include "millrace/base/assert.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

static struct mr_log *logs[MR_LOG_WRITER_LOGS];
static uint32_t dropped_told[MR_LOG_WRITER_LOGS];
static uint32_t log_count;
static _Atomic int is_writing;

void mr_log_writer_add(struct mr_log *log)
{
    mr_assert(log_count < MR_LOG_WRITER_LOGS);
    logs[log_count++] = log;
}

static void write_all(const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t written = write(STDERR_FILENO, bytes, len);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return; /* nobody reads: the line is lost, the broker is not */
        }
        bytes += written;
        len -= (size_t)written;
    }
}

/* Days since 1970 to a date. Source: Hinnant, "chrono-compatible low-level date algorithms". */
static void civil(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

uint32_t mr_log_writer_format(const char *thread, const struct mr_log_line *line, char *out,
                              uint32_t size)
{
    static const char *const levels[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};
    const int64_t day_ms = 86400000;
    int64_t days = line->unix_ms / day_ms - (line->unix_ms % day_ms < 0);
    int64_t ms = line->unix_ms - days * day_ms;
    int64_t year;
    int month;
    int day;
    struct mr_text text;
    civil(days, &year, &month, &day);
    mr_text_init(&text, out, size - 1);
    mr_text_fmt(&text, "%04lld-%02d-%02dT%02d:%02d:%02d.%03dZ %s %s", (long long)year, month, day,
                (int)(ms / 3600000), (int)(ms / 60000 % 60), (int)(ms / 1000 % 60),
                (int)(ms % 1000), levels[line->level], thread);
    for (size_t pad = strlen(thread); pad < 10; pad++) {
        mr_text_put(&text, " ", 1);
    }
    mr_text_fmt(&text, " %.*s", (int)line->len, line->text);
    out[text.len] = '\n';
    out[text.len + 1] = '\0';
    return (uint32_t)text.len + 1;
}

uint32_t mr_log_writer_drain(void)
{
    char out[640];
    uint32_t count = 0;
    /* Two writers only at the end of the process; the later one leaves the work to the first. */
    if (atomic_exchange(&is_writing, 1) != 0) {
        return 0;
    }
    for (uint32_t index = 0; index < log_count; index++) {
        const struct mr_log_line *line;
        while ((line = mr_log_out(logs[index])) != NULL) {
            write_all(out, mr_log_writer_format(logs[index]->name, line, out, sizeof out));
            mr_log_retire(logs[index]);
            count++;
        }
        /* A plain read of the owner's counter: only shown, and an old value is shown right later. */
        uint32_t dropped = __atomic_load_n(&logs[index]->dropped, __ATOMIC_RELAXED);
        if (dropped != dropped_told[index]) {
            write_all(out, mr_fmt(out, sizeof out, "log lines lost thread=%s count=%u\n",
                                  logs[index]->name, dropped - dropped_told[index]));
            dropped_told[index] = dropped;
        }
    }
    atomic_store(&is_writing, 0);
    return count;
}

bool mr_log_writer_has_lines(void)
{
    for (uint32_t index = 0; index < log_count; index++) {
        if (mr_log_out(logs[index]) != NULL) {
            return true;
        }
    }
    return false;
}
