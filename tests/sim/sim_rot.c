#include "sim_rot.h"

#include "millrace/base/fmt.h"
#include "millrace/batch.h"
#include "millrace/side_car.h"
#include "sim_broker.h"

#include <stdlib.h>
#include <string.h>

#define NAMES_BYTES 32768u
#define PATH_BYTES  400u
#define FILE_BYTES  (8u << 20)

#define BLOCK      4096u /* what the broker writes */
#define CRC_FROM   21u   /* the first byte that a batch's CRC covers */

static uint8_t contents[FILE_BYTES]; /* between two statements only */
static uint8_t moved[FILE_BYTES];    /* likewise: with blocks of another segment */

static uint64_t lot(struct mr_sim_swarm *swarm, enum mr_sim_trouble trouble, uint64_t bound)
{
    return mr_sim_swarm_draw(swarm, trouble, bound);
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text);
    size_t end_len = strlen(end);
    return len >= end_len && memcmp(text + len - end_len, end, end_len) == 0;
}

/* ---- Choosing a file ---- */

/* One of the names in `directory` that begin and end so, by lot; false: there is none. */
static bool choose(const struct mr_sim_fs *fs, const char *directory, const char *begin, const char *end,
                   uint64_t number, char path[PATH_BYTES])
{
    static char names[NAMES_BYTES];
    size_t      len = mr_sim_fs_names(fs, directory, names, sizeof names);
    uint64_t    count = 0;
    for (uint32_t pass = 0; pass < 2; pass++) {
        uint64_t seen = 0;
        for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
            if (memcmp(names + at, begin, strlen(begin)) != 0 || !ends_with(names + at, end)) {
                continue;
            }
            if (pass == 1 && seen == number % count) {
                mr_fmt(path, PATH_BYTES, "%s/%s", directory, names + at);
                return true;
            }
            seen++;
        }
        count = seen;
        if (count == 0) {
            return false;
        }
    }
    return false;
}

/* A partition's directory of a client's topic. */
static bool choose_directory(const struct mr_sim_fs *fs, uint64_t number, char path[PATH_BYTES])
{
    return choose(fs, MR_SIM_LOG_DIR, "sim-", "", number, path) && !ends_with(path, "-delete");
}

/* ---- Segments ---- */

/* The log of this directory; MR_CHECK_NO_LOG: it is nobody's any more. */
static uint32_t log_of(const struct mr_sim_fs *fs, struct mr_check_acked *check, const char *directory)
{
    static const char key[] = "topic_id: ";
    char              path[PATH_BYTES + 32];
    char              text[128] = "";
    struct mr_uuid    id;
    mr_fmt(path, sizeof path, "%s/partition.metadata", directory);
    (void)mr_sim_fs_get(fs, path, text, sizeof text - 1);
    const char *at = strstr(text, key);
    const char *dash = strrchr(directory, '-');
    if (at == NULL || strlen(at) < sizeof key - 1 + MR_UUID_TEXT || dash == NULL) {
        return MR_CHECK_NO_LOG;
    }
    struct mr_str id_text = {.data = at + sizeof key - 1, .len = MR_UUID_TEXT};
    return mr_uuid_parse(id_text, &id) ? mr_check_acked_log(check, &id, (uint32_t)atoi(dash + 1)) : MR_CHECK_NO_LOG;
}

/* Whole batches from the start of the file that make sense; returns where they end. */
static uint32_t whole_batches(uint32_t len)
{
    uint32_t at = 0;
    while (at + MR_BATCH_HEADER <= len) {
        struct mr_batch batch;
        mr_batch_header_load(contents + at, &batch);
        bool is_good = batch.magic == 2 && batch.batch_length >= MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS &&
                       mr_batch_bytes(&batch) <= len - at;
        if (!is_good) {
            break;
        }
        at += mr_batch_bytes(&batch);
    }
    return at;
}

/* The batch at byte `pos`, and where it begins. */
static uint32_t batch_at(uint32_t pos, struct mr_batch *batch)
{
    uint32_t at = 0;
    for (;;) {
        mr_batch_header_load(contents + at, batch);
        if (pos < at + mr_batch_bytes(batch)) {
            return at;
        }
        at += mr_batch_bytes(batch);
    }
}

/* What is between the segment's batch at `pos` and the next one's is spoiled. Of the bytes that no CRC covers only the
 * base offset: that of a batch between others. */
static uint32_t spoil(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm, const char *path, uint32_t pos, uint32_t max)
{
    static const uint32_t sizes[] = {1, 1, 64, 512};
    uint32_t len = sizes[lot(swarm, MR_SIM_TROUBLE_rot, 4)];
    len = len < max ? len : max;
    switch (lot(swarm, MR_SIM_TROUBLE_rot, 3)) {
    case 0:
        mr_sim_fs_rot(fs, path, pos, len, (uint8_t)(1u << lot(swarm, MR_SIM_TROUBLE_rot, 8)));
        break;
    case 1:
        mr_sim_fs_spoil(fs, path, pos, len, 0);
        break;
    default:
        mr_sim_fs_spoil(fs, path, pos, len, 0xff);
        break;
    }
    return len;
}

/* The batches that lie in the chunks of these bytes: a side-car tells a chunk, and all of it is refused. */
static void damage_chunks(struct mr_check_acked *check, uint32_t log, uint32_t from, uint32_t to, uint32_t len, bool is_head)
{
    struct mr_batch batch;
    int64_t         first = INT64_MAX;
    int64_t         end = 0;
    from -= from % MR_SIDE_CHUNK;
    to += MR_SIDE_CHUNK - 1 - (to - 1) % MR_SIDE_CHUNK;
    for (uint32_t at = batch_at(from, &batch); at < to && at < len; at += mr_batch_bytes(&batch)) {
        (void)batch_at(at, &batch);
        first = batch.base_offset < first ? batch.base_offset : first;
        end = mr_batch_last_offset(&batch) + 1 > end ? mr_batch_last_offset(&batch) + 1 : end;
    }
    mr_check_acked_damage(check, log, first, is_head ? INT64_MAX : end);
}

bool mr_sim_rot_segment(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm, struct mr_check_acked *check)
{
    char            directory[PATH_BYTES];
    char            path[PATH_BYTES];
    struct mr_batch batch;
    uint64_t        which = lot(swarm, MR_SIM_TROUBLE_rot, 1000);
    if (!choose_directory(fs, which, directory) || !choose(fs, directory, "", ".log", which / 7, path)) {
        return false;
    }
    uint32_t log = log_of(fs, check, directory);
    int64_t  len = mr_sim_fs_get(fs, path, contents, sizeof contents);
    uint32_t end = whole_batches((uint32_t)(len > (int64_t)sizeof contents ? (int64_t)sizeof contents : len));
    if (log == MR_CHECK_NO_LOG || end == 0 || check->logs[log].damage_count == MR_CHECK_DAMAGES) {
        return false;
    }
    uint32_t pos = (uint32_t)lot(swarm, MR_SIM_TROUBLE_rot, end);
    uint32_t start = batch_at(pos, &batch);
    uint32_t in_batch = pos - start;
    if (batch.base_offset < 0 || batch.base_offset > INT32_MAX || batch.last_offset_delta < 0) {
        return false; /* it has rotted before */
    }
    bool     is_last = start + mr_batch_bytes(&batch) == end; /* nothing behind it shows its base offset */
    uint32_t max = start + mr_batch_bytes(&batch) - pos;
    if (in_batch < 8 && !is_last) {
        max = 8 - in_batch;
    } else if (in_batch < 8 || (in_batch >= 12 && in_batch < 16)) {
        pos = start + 16; /* the magic */
        max = mr_batch_bytes(&batch) - 16;
    } else if (in_batch < 12) {
        pos = start + 8;
        max = 1;
    }
    uint32_t len_spoilt = spoil(fs, swarm, path, pos, max);
    /* Behind a head that is not one nothing of the segment can be found. */
    bool is_head = pos < start + MR_BATCH_HEADER;
    damage_chunks(check, log, pos, pos + len_spoilt, end, is_head);
    return true;
}

/* ---- Writes that went elsewhere ---- */

/*
 * Whether what `bytes` has in [from, to) shows by itself that it does not belong there: no batch begins where the one before
 * it ends, or not with an offset that may come next, or its CRC is wrong. `base` is the segment's.
 */
static bool shows(const uint8_t *bytes, uint32_t len, uint32_t from, int64_t base)
{
    uint32_t at = 0;
    while (len - at >= MR_BATCH_HEADER) {
        struct mr_batch batch;
        mr_batch_header_load(bytes + at, &batch);
        if (batch.magic != 2 || batch.batch_length < MR_BATCH_HEADER - MR_BATCH_LENGTH_BIAS || batch.base_offset < base ||
            mr_batch_bytes(&batch) > len - at || batch.last_offset_delta < 0 ||
            batch.crc != mr_crc32c(0, bytes + at + CRC_FROM, mr_batch_bytes(&batch) - CRC_FROM)) {
            return true;
        }
        at += mr_batch_bytes(&batch);
        if (at > from) {
            return false;
        }
        base = mr_batch_last_offset(&batch) + 1;
    }
    return false;
}

/* Some blocks of what is in `contents` as another segment has them, by lot; false: it shows nowhere. */
static bool misplace(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm, const char *path, uint32_t end, bool has_sums,
                     uint32_t *from, uint32_t *to)
{
    static uint8_t others[FILE_BYTES];
    char           directory[PATH_BYTES];
    char           source[PATH_BYTES];
    uint64_t       which = lot(swarm, MR_SIM_TROUBLE_misplace, 1000);
    uint32_t       blocks = 1u << lot(swarm, MR_SIM_TROUBLE_misplace, 4);
    if (!choose_directory(fs, which, directory) || !choose(fs, directory, "", ".log", which / 7, source)) {
        return false;
    }
    int64_t  size = mr_sim_fs_get(fs, source, others, sizeof others);
    uint32_t size_blocks = size < BLOCK ? 0 : (uint32_t)size / BLOCK;
    *from = (uint32_t)lot(swarm, MR_SIM_TROUBLE_misplace, end / BLOCK) * BLOCK;
    *to = *from + blocks * BLOCK < end / BLOCK * BLOCK ? *from + blocks * BLOCK : end / BLOCK * BLOCK;
    uint32_t at = lot(swarm, MR_SIM_TROUBLE_misplace, 2) == 0 ? *from : (uint32_t)lot(swarm, MR_SIM_TROUBLE_misplace, 64) * BLOCK;
    uint32_t bytes = *to - *from;
    if (size_blocks < blocks || at > size_blocks * BLOCK - bytes || memcmp(contents + *from, others + at, bytes) == 0) {
        return false;
    }
    memcpy(moved, contents, end);
    memcpy(moved + *from, others + at, bytes);
    if (!has_sums && !shows(moved, end, *from, strtoll(strrchr(path, '/') + 1, NULL, 10))) {
        return false;
    }
    mr_sim_fs_overwrite(fs, path, *from, moved + *from, bytes);
    return true;
}

bool mr_sim_rot_misplace(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm, struct mr_check_acked *check)
{
    char     directory[PATH_BYTES];
    char     path[PATH_BYTES];
    char     side[PATH_BYTES];
    uint32_t from, to;
    uint64_t which = lot(swarm, MR_SIM_TROUBLE_misplace, 1000);
    if (!choose_directory(fs, which, directory) || !choose(fs, directory, "", ".log", which / 7, path)) {
        return false;
    }
    uint32_t log = log_of(fs, check, directory);
    int64_t  len = mr_sim_fs_get(fs, path, contents, sizeof contents);
    uint32_t end = whole_batches((uint32_t)(len > (int64_t)sizeof contents ? (int64_t)sizeof contents : len));
    if (log == MR_CHECK_NO_LOG || end < BLOCK || check->logs[log].damage_count == MR_CHECK_DAMAGES) {
        return false;
    }
    mr_fmt(side, sizeof side, "%.*s" MR_SIDE_SUFFIX, (int)(strlen(path) - sizeof ".log" + 1), path);
    bool has_sums = mr_sim_fs_get(fs, side, NULL, 0) > 0;
    if (!misplace(fs, swarm, path, end, has_sums, &from, &to)) {
        return false;
    }
    damage_chunks(check, log, from, to, end, true);
    return true;
}

/* ---- What is made from them ---- */

bool mr_sim_rot_derived(struct mr_sim_fs *fs, struct mr_sim_swarm *swarm)
{
    static const struct {
        const char *end;
        bool        has_proof; /* a wrong byte shows, or what it says does: it may be changed, not only cut */
    } kinds[] = {{".index", true}, {".timeindex", false}, {".snapshot", true}, {"leader-epoch-checkpoint", false}};
    char     directory[PATH_BYTES];
    char     path[PATH_BYTES];
    uint64_t which = lot(swarm, MR_SIM_TROUBLE_rot_derived, 1000);
    uint64_t kind = lot(swarm, MR_SIM_TROUBLE_rot_derived, 4);
    uint64_t way = lot(swarm, MR_SIM_TROUBLE_rot_derived, 3);
    if (!choose_directory(fs, which, directory) || !choose(fs, directory, "", kinds[kind].end, which / 7, path)) {
        return false;
    }
    int64_t size = mr_sim_fs_get(fs, path, contents, 0);
    if (way == 0 || size == 0) {
        mr_sim_fs_remove(fs, path);
    } else if (way == 1 || !kinds[kind].has_proof) {
        mr_sim_fs_cut_file(fs, path, kind < 3 ? lot(swarm, MR_SIM_TROUBLE_rot_derived, (uint64_t)size) : 0);
    } else {
        uint64_t pos = lot(swarm, MR_SIM_TROUBLE_rot_derived, (uint64_t)size);
        mr_sim_fs_rot(fs, path, pos, 1, (uint8_t)(1u << lot(swarm, MR_SIM_TROUBLE_rot_derived, 8)));
    }
    return true;
}
