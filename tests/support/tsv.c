#include "tsv.h"

#include <stdlib.h>
#include <string.h>

static _Noreturn void stop(const char *what, const char *which)
{
    fprintf(stderr, "tsv: %s: %s\n", what, which);
    abort();
}

void mr_tsv_open(struct mr_tsv *tsv, const char *path)
{
    *tsv = (struct mr_tsv){.file = fopen(path, "r"), .line = malloc(MR_TSV_LINE)};
    if (tsv->file == NULL || tsv->line == NULL) {
        stop("cannot be read", path);
    }
}

bool mr_tsv_next(struct mr_tsv *tsv)
{
    if (fgets(tsv->line, MR_TSV_LINE, tsv->file) == NULL) {
        fclose(tsv->file);
        free(tsv->line);
        *tsv = (struct mr_tsv){0};
        return false;
    }
    char *at = tsv->line;
    char *end = strchr(at, '\n');
    if (end == NULL) {
        stop("a line is too long or not ended", at);
    }
    *end = '\0';
    tsv->field_count = 0;
    while (at != NULL && tsv->field_count < MR_TSV_FIELDS) {
        tsv->fields[tsv->field_count++] = at;
        at = strchr(at, '\t');
        if (at != NULL) {
            *at++ = '\0';
        }
    }
    return true;
}

static uint8_t digit(char c, const char *hex)
{
    if (c >= '0' && c <= '9') {
        return (uint8_t)(c - '0');
    }
    if (c >= 'a' && c <= 'f') {
        return (uint8_t)(c - 'a' + 10);
    }
    stop("not hex", hex);
}

uint32_t mr_tsv_bytes(const char *hex, uint8_t *out, uint32_t size)
{
    size_t len = strlen(hex) / 2;
    if (len > size) {
        stop("too long", hex);
    }
    for (size_t at = 0; at < len; at++) {
        out[at] = (uint8_t)(digit(hex[2 * at], hex) << 4 | digit(hex[2 * at + 1], hex));
    }
    return (uint32_t)len;
}
