/*
 * somebody edited the files of a log directory: any of them, anywhere, after a clean stop or a kill. A start may refuse,
 * a log may be offline or shorter; nothing crashes, and no batch is served other than it was. What is only derived
 * (indexes, epochs, snapshots, checkpoints) costs no record.
 *
 *   MR_SEED=n build/dev/test_mutated_files      one round, with what the core logs
 */
#include "test.h"

#include "core_rig.h"
#include "millrace/base/fmt.h"
#include "millrace/base/prng.h"

#define LOGS    2u
#define BATCHES 60u /* of each log: two segments and some */
#define ROUNDS  400u
#define FILES   64u
#define BYTES   (2u << 20)

static const char *const topics[LOGS] = {"a", "b"};
static struct mr_core_rig rig;
static struct mr_prng     prng;

static uint32_t value_bytes(uint32_t index)
{
    return 200 + index % 7 * 90;
}

/* ---- The directories that are edited ---- */

static struct mr_sim_fs *bases[2]; /* stopped, killed */

static void fill(uint32_t from, uint32_t to)
{
    for (uint32_t log = 0; log < LOGS; log++) {
        uint64_t id = mr_core_rig_open(&rig, topics[log], 0, false);
        for (uint32_t index = from; index < to; index++) {
            assert_int_equal(mr_core_rig_append(&rig, id, 1, value_bytes(index), 1000 + index, NULL), MR_OK);
        }
    }
}

static int make_bases(void **state)
{
    (void)state;
    mr_core_rig_init(&rig);
    rig.config.segment_bytes = 12000;
    rig.config.index_interval_bytes = 500;
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    fill(0, BATCHES / 2);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    fill(BATCHES / 2, BATCHES);
    mr_core_rig_settle(&rig);
    mr_core_rig_kill(&rig);
    bases[1] = mr_sim_fs_clone(rig.fs);
    assert_int_equal(mr_core_rig_start(&rig), MR_OK);
    assert_int_equal(mr_core_rig_stop(&rig), MR_OK);
    mr_core_rig_kill(&rig);
    bases[0] = mr_sim_fs_clone(rig.fs);
    mr_sim_fs_destroy(rig.fs);
    rig.fs = NULL;
    return 0;
}

static int drop_bases(void **state)
{
    (void)state;
    mr_sim_fs_destroy(bases[0]);
    mr_sim_fs_destroy(bases[1]);
    return 0;
}

/* ---- Edits ---- */

static uint32_t add_names(char (*paths)[128], uint32_t count, const char *dir)
{
    static char names[65536];
    size_t      len = mr_sim_fs_names(rig.fs, dir, names, sizeof names);
    for (const char *name = names; name < names + len && count < FILES; name += strlen(name) + 1) {
        char path[128];
        mr_fmt(path, sizeof path, "%s/%s", dir, name);
        if (strcmp(name, "meta.properties") != 0 && mr_sim_fs_get(rig.fs, path, NULL, 0) >= 0) {
            memcpy(paths[count++], path, sizeof path);
        }
    }
    return count;
}

/* Whether records can be lost with the file. */
static bool is_truth(const char *path)
{
    return strstr(path, ".log") != NULL || strstr(path, "millrace-") != NULL || strstr(path, ".metadata") != NULL ||
           strstr(path, ".kafka_cleanshutdown") != NULL || strstr(path, "meta.properties") != NULL;
}

static uint64_t below(uint64_t bound)
{
    return mr_prng_below(&prng, bound == 0 ? 1 : bound);
}

static size_t edit(uint8_t *bytes, size_t len)
{
    size_t at = (size_t)below(below(2) == 0 ? len : len < 8192 ? len : 8192);
    size_t part = (size_t)below(below(2) == 0 ? 16 : 4096);
    part = part < len - at ? part : len - at;
    switch (below(6)) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << below(8));
        return len;
    case 1:
        memset(bytes + at, below(2) == 0 ? 0 : 0xff, part);
        return len;
    case 2: /* shorter */
        return at;
    case 3: /* longer, by a copy of itself */
        part = part < BYTES - len ? part : BYTES - len;
        memmove(bytes + len, bytes, part < len ? part : len);
        return len + (part < len ? part : len);
    case 4: /* a piece is somewhere else, too */
        memmove(bytes + at, bytes + below(len - part + 1), part);
        return len;
    default:
        for (size_t index = 0; index < part; index++) {
            bytes[at + index] = (uint8_t)mr_prng_next(&prng);
        }
        return len;
    }
}

/* Edit one to three files; false: none of them is needed for any record. */
static bool edit_files(char *about, size_t about_size)
{
    static uint8_t bytes[BYTES];
    char           paths[FILES][128];
    bool           is_needed = false;
    uint32_t       count = add_names(paths, 0, "/data");
    struct mr_text text;
    count = add_names(paths, count, "/data/a-0");
    mr_text_init(&text, about, about_size);
    for (uint64_t edits = 1 + below(3); edits > 0; edits--) {
        const char *path = paths[below(count)];
        int64_t     len = mr_sim_fs_get(rig.fs, path, bytes, sizeof bytes);
        is_needed |= is_truth(path);
        mr_text_fmt(&text, "%s ", path);
        if (len < 0 || below(10) == 0) {
            mr_sim_fs_remove(rig.fs, path);
        } else {
            mr_sim_fs_put(rig.fs, path, bytes, len == 0 ? 0 : edit(bytes, (size_t)len));
        }
    }
    return is_needed;
}

/* ---- What may come of it ---- */

/* All that is there is as it was sent; returns where it ends, -1: it is not served. */
static int64_t read_log(const char *topic, const char *about)
{
    static uint8_t    got[65536];
    struct mr_open_op op = {.op.kind = MR_STORAGE_OPEN, .topic = mr_str(topic), .config = &rig.config};
    memset(op.topic_id.bytes, 0x55, sizeof op.topic_id.bytes);
    op.topic_id.bytes[0] = (uint8_t)topic[0];
    if (mr_core_rig_do(&rig, &op.op) != MR_OK) {
        return -1;
    }
    for (int64_t offset = op.log_start_offset; offset < op.log_end_offset && offset < BATCHES; offset++) {
        uint32_t    bytes = 0;
        enum mr_err err = mr_core_rig_read(&rig, op.log_id, offset, 1000, got, &bytes);
        if (err != MR_OK || bytes < MR_BATCH_HEADER) {
            return -1; /* not served, and where that was needed somebody was told */
        }
        struct mr_batch batch;
        mr_batch_header_load(got, &batch);
        if (mr_batch_last_offset(&batch) < offset || bytes < mr_batch_bytes(&batch) ||
            mr_crc32c(0, got + 21, mr_batch_bytes(&batch) - 21u) != batch.crc) {
            fail_msg("%s: read of %s at %lld: another batch", about, topic, (long long)offset);
        }
    }
    (void)mr_core_rig_list(&rig, op.log_id, 1000 + BATCHES / 2);
    (void)mr_core_rig_append(&rig, op.log_id, 1, 300, 2000, NULL);
    (void)mr_core_rig_delete_records(&rig, op.log_id, 3);
    return op.log_end_offset;
}

static void round_of(uint64_t seed)
{
    char about[512];
    prng.state = seed;
    rig.fs = mr_sim_fs_clone(bases[below(2)]);
    bool is_needed = edit_files(about, sizeof about);
    if (mr_core_rig_start(&rig) == MR_OK) {
        for (uint32_t log = 0; log < LOGS; log++) {
            int64_t end = read_log(topics[log], about);
            if (!is_needed && end != BATCHES) {
                fail_msg("seed %llu, %s: %s ends at %lld", (unsigned long long)seed, about, topics[log], (long long)end);
            }
        }
        (void)mr_core_rig_stop(&rig);
    }
    mr_core_rig_kill(&rig);
    mr_sim_fs_destroy(rig.fs);
    rig.fs = NULL;
}

static void test_edited_files_harm_nobody_else(void **state)
{
    (void)state;
    const char *only = getenv("MR_SEED");
    uint64_t    first = only != NULL ? strtoull(only, NULL, 10) : 1;
    rig.is_log_shown = only != NULL;
    for (uint64_t seed = first; seed < first + (only != NULL ? 1 : ROUNDS); seed++) {
        round_of(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_edited_files_harm_nobody_else, make_bases, drop_bases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
