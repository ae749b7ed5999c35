/*
 * docs/CONFIG.md against the rows: every key has exactly the line that its row makes, and there is no line
 * for a key that has no row.
 */
#include "config_table.h"
#include "test.h"

static char *document;

static void read_document(void)
{
    FILE *file = fopen(MR_SOURCE_DIR "/docs/CONFIG.md", "r");
    assert_non_null(file);
    document = calloc(1, 1 << 20);
    size_t len = fread(document, 1, (1 << 20) - 1, file);
    assert_true(len > 0);
    fclose(file);
}

static void put_default(struct mr_text *text, const char *value)
{
    if (value == NULL) {
        return;
    }
    mr_text_fmt(text, value[0] == '\0' ? "%s(empty)" : "`%s`", value);
}

static void put_accepted(struct mr_text *text, const struct mr_config_check *check)
{
    switch (check->kind) {
    case MR_CONFIG_CHECK_ANY:
        return;
    case MR_CONFIG_CHECK_RANGE:
        if (check->max == INT64_MAX) {
            mr_text_fmt(text, "at least %lld", (long long)check->min);
        } else {
            mr_text_fmt(text, "%lld to %lld", (long long)check->min, (long long)check->max);
        }
        return;
    case MR_CONFIG_CHECK_RANGE_OR:
        mr_text_fmt(text, "%lld, %lld to %lld", (long long)check->other, (long long)check->min,
                    (long long)check->max);
        return;
    case MR_CONFIG_CHECK_REPLICAS:
        mr_text_fmt(text, "`*` or list of partition:broker");
        return;
    case MR_CONFIG_CHECK_ONE_OF:
    case MR_CONFIG_CHECK_EACH_OF:
        mr_text_fmt(text, "%s", check->kind == MR_CONFIG_CHECK_EACH_OF ? "list of " : "");
        for (int index = 0; check->choices[index] != NULL; index++) {
            mr_text_fmt(text, "%s%s", index == 0 ? "" : ", ", check->choices[index]);
        }
        return;
    }
}

static void put_begin(struct mr_text *text, const struct mr_config_key *key)
{
    static const char *const types[] = {"int", "long", "short", "double", "bool", "string", "class", "list"};
    mr_text_fmt(text, "| `%s` | %s | ", key->name, types[key->type]);
    put_default(text, key->default_text);
    mr_text_fmt(text, " | ");
    put_accepted(text, &key->check);
}

static void assert_line(const char *line)
{
    if (strstr(document, line) == NULL) {
        fail_msg("docs/CONFIG.md lacks the line\n%s", line);
    }
}

static void test_config_doc_has_the_line_of_every_row(void **state)
{
    static const char *const modes[] = {"restart", "broker", "cluster"};
    char bytes[1024];
    struct mr_text text;
    (void)state;
    read_document();
    for (int id = 0; id < MR_CONFIG_COUNT; id++) {
        const struct mr_config_row *row = &mr_config_rows[id];
        mr_text_init(&text, bytes, sizeof bytes);
        put_begin(&text, &row->key);
        mr_text_fmt(&text, " | %s | %s | %s |\n", modes[row->dynamic], row->differs, row->key.text);
        assert_line(bytes);
    }
    for (int id = 0; id < MR_TOPIC_CONFIG_COUNT; id++) {
        const struct mr_topic_config_row *row = &mr_topic_config_rows[id];
        mr_text_init(&text, bytes, sizeof bytes);
        put_begin(&text, &row->key);
        mr_text_fmt(&text, " | ");
        put_default(&text,
                    row->broker == MR_CONFIG_none ? NULL : mr_config_rows[row->broker].key.name);
        mr_text_fmt(&text, " | %s |\n", row->key.text);
        assert_line(bytes);
    }
    int lines = 0;
    for (const char *at = document; (at = strstr(at, "\n| `")) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, (int)MR_CONFIG_COUNT + (int)MR_TOPIC_CONFIG_COUNT);
    free(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_doc_has_the_line_of_every_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
