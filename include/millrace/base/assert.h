/*
 * assert: broken invariants stop the process, in release builds too.
 *
 * An assertion is about our own code, never about bytes from outside: those are refused by a
 * check function with an error code. The handler is a function of the program (boot/panic.c) or
 * of the test (tests/support/test.h), so that a test can see an assertion fire.
 */
#ifndef MILLRACE_BASE_ASSERT_H
#define MILLRACE_BASE_ASSERT_H

/* Reports and never returns. Defined once per executable. */
_Noreturn void mr_panic(const char *file, int line, const char *what);

#define mr_assert(condition)                                                                       \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) {                                                   \
            mr_panic(__FILE__, __LINE__, #condition);                                              \
        }                                                                                          \
    } while (0)

/* Too expensive for release: checks that walk a structure. */
#ifdef MR_DEBUG
#define mr_dassert(condition) mr_assert(condition)
#else
#define mr_dassert(condition) ((void)sizeof(!(condition)))
#endif

/* Says to the reader that both truth values are expected here. */
#define mr_maybe(condition) ((void)sizeof(!(condition)))

#define mr_unreachable(why) mr_panic(__FILE__, __LINE__, "unreachable: " why)

#endif
