/*
 * test: cmocka in the order it needs, and an assertion handler that a test can see.
 *
 * Name a test by subject, situation, expectation: test_ring_full_refuses_one_more.
 */
#ifndef MILLRACE_TESTS_TEST_H
#define MILLRACE_TESTS_TEST_H

/* cmocka 1.1 wants these four before its own header, in this order. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Zeroed memory of the test, from mmap, never given back: enough for any plan. */
void *mr_test_memory(size_t bytes);

/* Zeroed once more, as a new process would find it. */
void mr_test_memory_fresh(void *memory, size_t bytes);

#endif
