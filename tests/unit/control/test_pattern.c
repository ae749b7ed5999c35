/*
 * Patterns: what RE2/J takes and what it refuses, and that a match is of the whole name.
 */
#include "coord/group/pattern.h"
#include "test.h"

static struct mr_arena scratch;

static int setup(void **state)
{
    static uint8_t memory[1 << 20];
    (void)state;
    mr_arena_init(&scratch, memory, sizeof memory);
    return 0;
}

static bool matches(const char *text, const char *name)
{
    struct mr_pattern pattern;
    mr_arena_reset(&scratch);
    assert_null(mr_pattern_compile(&pattern, mr_str(text), &scratch));
    return mr_pattern_matches(&pattern, mr_str(name));
}

static void test_pattern_matches_whole_names(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name;
        bool is_match;
    } cases[] = {
        {"orders", "orders", true},
        {"orders", "orders2", false},
        {"orders", "my-orders", false},
        {"orders.*", "orders-eu", true},
        {"^orders-(eu|us)$", "orders-us", true},
        {"^orders-(eu|us)$", "orders-cn", false},
        {"a|b", "b", true},
        {"a|bc", "abc", false},
        {"[a-c]+\\d{2,3}", "abc123", true},
        {"[a-c]+\\d{2,3}", "abc1", false},
        {"(?i)ORDERS", "orders", true},
        {"(?P<x>o)rders", "orders", true},
        {"(?:o|p)rders", "prders", true},
        {"\\Qa.b\\E", "a.b", true},
        {"\\Qa.b\\E", "axb", false},
        {"[[:alpha:]]+", "abc", true},
        {"[^.]+", "a.b", false},
        {"x*?", "xx", true},
        {"", "", true},
        {"a{,2}", "a{,2}", true}, /* not a repetition: as it stands */
        {"\\pL+", "abc", true},
    };
    for (size_t at = 0; at < sizeof cases / sizeof cases[0]; at++) {
        if (matches(cases[at].text, cases[at].name) != cases[at].is_match) {
            fail_msg("%s on %s", cases[at].text, cases[at].name);
        }
    }
}

/* What PCRE2 alone would take must be refused too. */
static void test_pattern_beyond_re2_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "(a)\\1",  "(?=a)b", "(?!a)b",   "(?<=a)b", "(?<!a)b", "(?>a)", "a*+",   "a++",
        "a?+",     "a{2}+",  "a**",      "(?R)",    "(?1)",    "(?#x)", "(*ACCEPT)",
        "\\Ka",    "\\G",    "\\R",      "\\Xa",    "\\ka",    "(?P=x)", "(?|a)",
        "a{1001}", "a{2,1}", "(a",       "a)",      "[a",      "*a",     "\\",
        "\\ga",    "\\Z",    "(?C1)a",   "[b-a]",   "(?'x'a)", "\\h",
    };
    struct mr_pattern pattern;
    for (size_t at = 0; at < sizeof bad / sizeof bad[0]; at++) {
        mr_arena_reset(&scratch);
        if (mr_pattern_compile(&pattern, mr_str(bad[at]), &scratch) == NULL) {
            fail_msg("%s was accepted", bad[at]);
        }
    }
}

/* A pattern that would run for ever ends, and matches nothing. */
static void test_pattern_explosion_ends(void **state)
{
    (void)state;
    assert_false(matches("(a+)+b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"));
    assert_false(matches("(a|aa)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"));
    char deep[2001];
    memset(deep, '(', 1000);
    memset(deep + 1000, ')', 1000);
    deep[2000] = 0;
    struct mr_pattern pattern;
    mr_arena_reset(&scratch);
    assert_non_null(mr_pattern_compile(&pattern, mr_str(deep), &scratch));
    mr_arena_init(&scratch, scratch.base, 100); /* no memory is no crash */
    assert_non_null(mr_pattern_compile(&pattern, mr_str("a+"), &scratch));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pattern_matches_whole_names, setup),
        cmocka_unit_test_setup(test_pattern_beyond_re2_is_refused, setup),
        cmocka_unit_test_setup(test_pattern_explosion_ends, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
