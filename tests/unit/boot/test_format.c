/*
 * millrace format, the command itself in a temporary directory: what it leaves, what it refuses, and that
 * nothing that exists is overwritten. Exit codes are an interface.
 */
#include "cli/cli.h"
#include "millrace/batch.h"
#include "test.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECKPOINT "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint"

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/mr-format-XXXXXX");
    return mkdtemp(root) == NULL;
}

static void remove_all(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        (void)unlink(path);
        return;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char below[600];
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            remove_all(below);
        }
    }
    closedir(dir);
    (void)rmdir(path);
}

static int remove_root(void **state)
{
    (void)state;
    remove_all(root);
    return 0;
}

static int format(const char *more, const char *value)
{
    char set[128];
    char *argv[] = {(char[]){"--set"}, set, NULL, NULL};
    char more_bytes[128];
    char value_bytes[128];
    int argc = 2;
    snprintf(set, sizeof set, "log.dirs=%s/a/b", root);
    if (more != NULL) {
        snprintf(more_bytes, sizeof more_bytes, "%s", more);
        argv[argc++] = more_bytes;
    }
    if (value != NULL) {
        snprintf(value_bytes, sizeof value_bytes, "%s", value);
        argv[argc++] = value_bytes;
    }
    return mr_cmd_format(argc, argv);
}

static size_t load(const char *name, char *bytes, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/a/b/%s", root, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(bytes, 1, size - 1, file);
    bytes[len] = '\0';
    fclose(file);
    return len;
}

static void test_format_leaves_identity_and_first_records(void **state)
{
    char meta_text[1024];
    char checkpoint[4096];
    struct mr_cli cli = {.command = "test"};
    struct mr_cli_meta meta;
    char path[128];
    static const char group_level[] = {14,  'g', 'r', 'o', 'u', 'p', '.', 'v',
                                       'e', 'r', 's', 'i', 'o', 'n', 0,   1};
    bool is_group_seen = false;
    (void)state;
    assert_int_equal(format("--cluster-id", "Some-Cluster"), MR_CLI_OK);
    (void)load("meta.properties", meta_text, sizeof meta_text);
    assert_non_null(strstr(meta_text, "\ncluster.id=Some-Cluster\n"));
    assert_non_null(strstr(meta_text, "\nnode.id=1\n"));
    assert_non_null(strstr(meta_text, "\nversion=1\n"));
    snprintf(path, sizeof path, "%s/a/b", root);
    assert_true(mr_cli_meta_load(&cli, path, &meta));
    assert_true(meta.is_there && meta.has_directory_id && !meta.is_guarded);
    assert_int_equal(meta.node_id, 1);

    size_t len = load(CHECKPOINT, checkpoint, sizeof checkpoint);
    int64_t next = 0;
    for (size_t at = 0; at < len;) {
        struct mr_batch batch;
        assert_true(len - at >= MR_BATCH_HEADER);
        mr_batch_header_load((const uint8_t *)checkpoint + at, &batch);
        assert_int_equal(batch.base_offset, next);
        assert_int_equal(batch.leader_epoch, 0);
        assert_int_equal(mr_crc32c(0, checkpoint + at + 21, mr_batch_bytes(&batch) - 21),
                         batch.crc);
        assert_int_equal((batch.attributes & MR_BATCH_CONTROL) != 0, next != 1);
        is_group_seen |= next == 1 && memmem(checkpoint + at, mr_batch_bytes(&batch), group_level,
                                             sizeof group_level) != NULL;
        next = mr_batch_last_offset(&batch) + 1;
        at += mr_batch_bytes(&batch);
    }
    assert_int_equal(next, 5);
    assert_true(is_group_seen);
    static const char transactions[] = "transaction.version\0\2";
    assert_non_null(memmem(checkpoint, sizeof checkpoint, transactions, sizeof transactions));
}

static void test_format_writes_the_level_that_was_asked_for(void **state)
{
    static const char record[] = {1,   12,  0,   17,  'm', 'e', 't', 'a', 'd', 'a', 't', 'a',
                                  '.', 'v', 'e', 'r', 's', 'i', 'o', 'n', 0,   30,  0};
    char checkpoint[4096];
    (void)state;
    assert_int_equal(format("--feature", "metadata.version=30"), MR_CLI_OK);
    size_t len = load(CHECKPOINT, checkpoint, sizeof checkpoint);
    assert_non_null(memmem(checkpoint, len, record, sizeof record));
}

static void test_format_twice_refuses_and_keeps_the_identity(void **state)
{
    char before[1024];
    char after[1024];
    (void)state;
    assert_int_equal(format(NULL, NULL), MR_CLI_OK);
    (void)load("meta.properties", before, sizeof before);
    assert_int_equal(format(NULL, NULL), MR_CLI_FAILED);
    assert_int_equal(format("--ignore-formatted", NULL), MR_CLI_OK);
    assert_int_equal(format("--cluster-id", "another"), MR_CLI_FAILED);
    (void)load("meta.properties", after, sizeof after);
    assert_string_equal(before, after);
}

static bool has(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return access(path, F_OK) == 0;
}

static void test_format_prepares_every_directory_once(void **state)
{
    char dirs[160];
    char set[200];
    char path[128];
    char ignore[] = "--ignore-formatted";
    struct mr_cli cli = {.command = "test"};
    struct mr_cli_meta first;
    struct mr_cli_meta second;
    (void)state;
    assert_int_equal(format(NULL, NULL), MR_CLI_OK);
    snprintf(path, sizeof path, "%s/a/b", root);
    assert_true(mr_cli_meta_load(&cli, path, &first));
    /* A second directory beside it: the first one is as it was, the cluster is the same. */
    snprintf(dirs, sizeof dirs, "log.dirs=%s/a/b,%s/c", root, root);
    snprintf(set, sizeof set, "%s", dirs);
    char *refused[] = {(char[]){"--set"}, set, NULL};
    assert_int_equal(mr_cmd_format(2, refused), MR_CLI_FAILED);
    assert_false(has("c"));
    char *argv[] = {(char[]){"--set"}, dirs, ignore, NULL};
    assert_int_equal(mr_cmd_format(3, argv), MR_CLI_OK);
    snprintf(path, sizeof path, "%s/c", root);
    assert_true(mr_cli_meta_load(&cli, path, &second));
    assert_string_equal(first.cluster_id, second.cluster_id);
    assert_false(mr_uuid_equal(&first.directory_id, &second.directory_id));
    assert_true(has("a/b/" CHECKPOINT));
    assert_false(has("c/__cluster_metadata-0"));
    assert_true(has("c/millrace-journal-0-0"));
}

static void test_format_refuses_a_directory_with_foreign_things(void **state)
{
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/a", root);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/a/b", root);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/a/b/letters", root);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(format(NULL, NULL), MR_CLI_FAILED);
    snprintf(path, sizeof path, "%s/a/b/meta.properties", root);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/a/b/letters", root);
    assert_int_equal(rmdir(path), 0);
    /* What an interrupted format left is no obstacle. */
    snprintf(path, sizeof path, "%s/a/b/__cluster_metadata-0", root);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(format(NULL, NULL), MR_CLI_OK);
}

static void test_format_wrong_arguments_try_nothing(void **state)
{
    char path[128];
    (void)state;
    assert_int_equal(format("--frob", NULL), MR_CLI_USAGE);
    assert_int_equal(format("--cluster-id", NULL), MR_CLI_USAGE);
    assert_int_equal(format("--cluster-id", "a b"), MR_CLI_USAGE);
    assert_int_equal(format("--feature", "metadata.version=34"), MR_CLI_USAGE);
    assert_int_equal(format("--feature", "group.version=1"), MR_CLI_USAGE);
    assert_int_equal(format("--set", "num.partitions=0"), MR_CLI_USAGE);
    assert_int_equal(format("--set", "process.roles=broker"), MR_CLI_USAGE);
    snprintf(path, sizeof path, "%s/a", root);
    assert_int_equal(access(path, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_format_leaves_identity_and_first_records, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(test_format_writes_the_level_that_was_asked_for, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(test_format_twice_refuses_and_keeps_the_identity, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(test_format_refuses_a_directory_with_foreign_things,
                                        make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_format_prepares_every_directory_once, make_root,
                                        remove_root),
        cmocka_unit_test_setup_teardown(test_format_wrong_arguments_try_nothing, make_root,
                                        remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
