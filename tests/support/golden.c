#include "golden.h"

#include "test.h"

/* Tests run in the repository's root (CMakeLists.txt). */
static FILE *open_golden(const char *name, const char *mode)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s", name);
    FILE *file = fopen(path, mode);
    if (file == NULL) {
        fail_msg("%s cannot be opened; MR_UPDATE=1 writes it", path);
    }
    return file;
}

void mr_golden_check(const char *name, const char *text, size_t len)
{
    if (getenv("MR_UPDATE") != NULL) {
        FILE *to = open_golden(name, "w");
        assert_int_equal(fwrite(text, 1, len, to), len);
        assert_int_equal(fclose(to), 0);
        return;
    }
    FILE *from = open_golden(name, "r");
    char *expected = calloc(1, len + 2);
    size_t got = fread(expected, 1, len + 1, from);
    fclose(from);
    for (size_t at = 0; at < len || at < got; at++) {
        if (at == len || at == got || text[at] != expected[at]) {
            size_t line = at;
            while (line > 0 && text[line - 1] != '\n') {
                line--;
            }
            fail_msg("tests/golden/%s is different from here on:\n%.*s\n", name,
                     (int)(len - line < 500 ? len - line : 500), text + line);
        }
    }
    free(expected);
}
