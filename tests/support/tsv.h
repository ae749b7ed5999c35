/*
 * tsv: the lines of a tab-separated file, as those under tests/golden, one after the other.
 *
 * A file that is missing, too long a line or wrong hex is a broken checkout: the test stops at once.
 */
#ifndef MILLRACE_TESTS_TSV_H
#define MILLRACE_TESTS_TSV_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define MR_TSV_FIELDS 8u
#define MR_TSV_LINE   (1u << 20)

struct mr_tsv {
    FILE    *file;
    char    *line;
    char    *fields[MR_TSV_FIELDS]; /* into `line`, valid until the next line */
    uint32_t field_count;
};

/* `path` as the test sees it; mr_tsv_next closes the file at its end. */
void mr_tsv_open(struct mr_tsv *tsv, const char *path);

/* The next line's fields; false at the end. */
bool mr_tsv_next(struct mr_tsv *tsv);

/* The bytes of a hex field; returns how many, at most `size`. */
uint32_t mr_tsv_bytes(const char *hex, uint8_t *out, uint32_t size);

#endif
