/*
 * golden: text that a test made, compared with a file under tests/golden.
 *
 * With MR_UPDATE set in the environment (`./dev test --update`) the file is written anew; `git diff` reviews it.
 */
#ifndef MILLRACE_TESTS_GOLDEN_H
#define MILLRACE_TESTS_GOLDEN_H

#include <stddef.h>

/* `name` below tests/golden, e.g. "paths/produce.trace". Fails the running test where they differ. */
void mr_golden_check(const char *name, const char *text, size_t len);

#endif
