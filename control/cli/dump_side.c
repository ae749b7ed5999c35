/*
 * dump_side: side-cars, and what they and the batches say is lost of a sealed segment: what the scrubber finds, of files
 * that no broker has open.
 */
#include "cli/dump.h"
#include "millrace/scrub_scan.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_BYTES 4096
#define BASE_DIGITS 20

/* The file of another kind beside it. */
static bool beside(const struct mr_dump_file *file, const char *suffix, char path[PATH_BYTES])
{
    size_t stem = strlen(file->path) - strlen(strrchr(file->path, '.'));
    int    len = snprintf(path, PATH_BYTES, "%.*s%s", (int)stem, file->path, suffix);
    return len > 0 && len < PATH_BYTES;
}

/* ---- Whether a side-car is of the segment as it is ---- */

static bool is_of(const struct mr_side_id *id, const char *segment_path)
{
    struct stat st;
    return stat(segment_path, &st) == 0 && (uint64_t)st.st_size == id->size &&
           (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec == id->changed_ns;
}

/* The topic of the directory, as partition.metadata says; true when that says nothing. */
static bool is_same_topic(const struct mr_dump_file *file, const struct mr_uuid *topic_id)
{
    static const char   key[] = "topic_id: ";
    char                path[PATH_BYTES];
    char                text[512];
    struct mr_uuid      id;
    struct mr_dump_file metadata;
    size_t              dir = strlen(file->path) - strlen(file->name);
    snprintf(path, sizeof path, "%.*spartition.metadata", (int)dir, file->path);
    if (!mr_dump_map(path, &metadata)) {
        return true;
    }
    snprintf(text, sizeof text, "%.*s", (int)metadata.len, (const char *)metadata.bytes);
    mr_dump_unmap(&metadata);
    const char *at = strstr(text, key);
    struct mr_str word = {.data = at == NULL ? text : at + sizeof key - 1, .len = MR_UUID_TEXT};
    return at == NULL || strlen(word.data) < MR_UUID_TEXT || !mr_uuid_parse(word, &id) || mr_uuid_equal(&id, topic_id);
}

/* The chunk's sum in a side-car that is mapped; false: the block that has it is damaged or not there. */
static bool sum_of(const struct mr_dump_file *side, uint32_t seed, uint32_t chunk, uint32_t *sum)
{
    uint32_t number = chunk / MR_SIDE_SUMS;
    uint64_t pos = mr_side_block_pos(number);
    if (pos + MR_SIDE_BLOCK > side->len || !mr_side_block_is_whole(seed, number, side->bytes + pos, MR_SIDE_BLOCK)) {
        return false;
    }
    *sum = mr_side_block_get(side->bytes + pos, chunk % MR_SIDE_SUMS);
    return true;
}

static uint32_t len_of(const struct mr_dump_file *side)
{
    return side->len < UINT32_MAX ? (uint32_t)side->len : UINT32_MAX;
}

void mr_dump_side(const struct mr_dump_file *file, bool is_verifying)
{
    struct mr_side_id id;
    char              text[MR_UUID_TEXT + 1];
    char              path[PATH_BYTES];
    uint32_t          sum;
    if (!mr_side_head_load(file->bytes, len_of(file), &id)) {
        printf("| no head: it was being written, or it is damaged; it counts for nothing and is made again\n");
        return;
    }
    uint32_t seed = mr_side_seed(&id);
    bool     is_there = beside(file, ".log", path);
    bool     is_stale = !is_there || !is_of(&id, path);
    mr_uuid_text(&id.topic_id, text);
    printf("topic %s partition %" PRIu32 " base offset %" PRId64 " size %" PRIu32 " chunks %" PRIu32 "%s\n", text,
           id.partition, id.base, id.size, mr_side_chunks(id.size),
           is_stale ? " stale: the segment has changed since, or was copied" : "");
    for (uint32_t chunk = 0; is_verifying && chunk < mr_side_chunks(id.size); chunk += MR_SIDE_SUMS) {
        if (!sum_of(file, seed, chunk, &sum)) {
            mr_dump_wrong(file, "the checksum of the block of sums %" PRIu32 " does not match", chunk / MR_SIDE_SUMS);
        }
    }
    if (is_verifying && !is_stale && (!is_same_topic(file, &id.topic_id) || strtoll(file->name, NULL, 10) != id.base)) {
        mr_dump_wrong(file, "the segment beside it is another topic's or has another place");
    }
}

/* ---- What is lost ---- */

/* The base of the segment that follows in the directory; -1: none does. */
static int64_t next_base(const struct mr_dump_file *file, int64_t base)
{
    char    path[PATH_BYTES];
    int64_t next = -1;
    snprintf(path, sizeof path, "%.*s.", (int)(strlen(file->path) - strlen(file->name)), file->path);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char   *end = NULL;
        int64_t other = strtoll(entry->d_name, &end, 10);
        if (end == entry->d_name + BASE_DIGITS && strcmp(end, ".log") == 0 && other > base && (next < 0 || other < next)) {
            next = other;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return next;
}

static void compare_chunks(const struct mr_dump_file *file, struct mr_scrub_scan *scan)
{
    struct mr_dump_file side;
    struct mr_side_id   id;
    char                path[PATH_BYTES];
    if (!beside(file, ".mrx", path) || !mr_dump_map(path, &side)) {
        return;
    }
    bool     is_fit = mr_side_head_load(side.bytes, len_of(&side), &id) && is_of(&id, file->path);
    uint32_t seed = is_fit ? mr_side_seed(&id) : 0;
    for (uint32_t chunk = 0; is_fit && chunk < mr_side_chunks(file->len); chunk++) {
        uint32_t sum;
        uint32_t len = mr_side_chunk_bytes(file->len, chunk);
        if (sum_of(&side, seed, chunk, &sum) &&
            mr_side_sum(seed, chunk, file->bytes + (size_t)chunk * MR_SIDE_CHUNK, len) != sum) {
            mr_scrub_scan_bad(scan, chunk);
        }
    }
    mr_dump_unmap(&side);
}

static void lost(void *context, const struct mr_scrub_range *range)
{
    mr_dump_wrong(context, "offsets %" PRId64 " to %" PRId64 " are lost: bytes %" PRIu32 " to %" PRIu32, range->from,
                  range->to, range->from_pos, range->to_pos);
}

void mr_dump_side_damage(const struct mr_dump_file *file)
{
    static struct mr_scrub_scan scan;
    int64_t                     base = strtoll(file->name, NULL, 10);
    int64_t                     end = next_base(file, base);
    struct mr_dump_file         own = *file;
    if (end < 0 || file->len > INT32_MAX) {
        return; /* the active one: where it ends is the journal's to say */
    }
    mr_scrub_scan_init(&scan, base, end, (uint32_t)file->len, lost, &own);
    compare_chunks(file, &scan);
    while (!scan.is_over) {
        uint64_t at = mr_scrub_scan_at(&scan);
        mr_scrub_scan_feed(&scan, file->bytes + at, (uint32_t)(file->len - at));
    }
}
