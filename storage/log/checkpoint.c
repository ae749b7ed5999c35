#include "log/checkpoint.h"

#include <string.h>

#define LINE_BYTES 288u /* topic (249), partition, offset; the average line is far shorter */

/* Names are chosen by clients, but a collision costs a comparison only. */
static const struct mr_hash_key hash_key = {.k0 = 0x6d72636b, .k1 = 0x706f696e74};

size_t mr_checkpoint_bytes(uint32_t entry_max)
{
    size_t slots = 8;
    while (slots / 4 * 3 < entry_max) {
        slots *= 2;
    }
    return slots * sizeof(struct mr_map_slot) +
           (size_t)entry_max * (sizeof(struct mr_checkpoint_entry) + LINE_BYTES) + 256;
}

void mr_checkpoint_init(struct mr_checkpoint *checkpoint, struct mr_arena *arena, uint32_t entry_max)
{
    *checkpoint = (struct mr_checkpoint){.entry_max = entry_max, .text_max = entry_max * LINE_BYTES};
    mr_map_init(&checkpoint->by_name, arena, entry_max);
    checkpoint->entries =
        mr_arena_get_fresh(arena, entry_max * sizeof *checkpoint->entries, _Alignof(struct mr_checkpoint_entry));
    checkpoint->text = mr_arena_get_fresh(arena, checkpoint->text_max, 1);
}

/* A number that ends at `end_with`; what follows it is the rest. */
static bool take_number(char **at, const char *end, char end_with, int64_t *value)
{
    char    *from = *at;
    uint64_t number = 0;
    while (*at < end && **at >= '0' && **at <= '9' && *at - from < 19) {
        number = number * 10 + (uint64_t)(*(*at)++ - '0');
    }
    if (*at == from || *at == end || **at != end_with || number > INT64_MAX) {
        return false;
    }
    ++*at;
    *value = (int64_t)number;
    return true;
}

static bool add(struct mr_checkpoint *checkpoint, struct mr_str dir_name, int64_t offset)
{
    uint64_t hash = mr_hash_str(&hash_key, dir_name);
    if (checkpoint->entry_count == checkpoint->entry_max) {
        return false;
    }
    struct mr_checkpoint_entry *entry = &checkpoint->entries[checkpoint->entry_count++];
    *entry = (struct mr_checkpoint_entry){.dir_name = dir_name, .offset = offset};
    struct mr_checkpoint_entry *first = mr_map_find(&checkpoint->by_name, hash);
    if (first == NULL) {
        return mr_map_add(&checkpoint->by_name, hash, entry);
    }
    entry->next = first->next;
    first->next = entry;
    return true;
}

/* "topic partition offset\n": the first blank becomes the '-' of the directory's name. */
static bool take_line(struct mr_checkpoint *checkpoint, char **at, const char *end)
{
    char   *from = *at;
    int64_t partition = 0;
    int64_t offset = 0;
    char   *blank = memchr(from, ' ', (size_t)(end - from));
    if (blank == NULL || blank == from) {
        return false;
    }
    *at = blank + 1;
    if (!take_number(at, end, ' ', &partition)) {
        return false;
    }
    struct mr_str dir_name = {.data = from, .len = (int32_t)(*at - 1 - from)};
    *blank = '-';
    return take_number(at, end, '\n', &offset) && add(checkpoint, dir_name, offset);
}

static enum mr_err parse(struct mr_checkpoint *checkpoint, uint32_t len)
{
    char       *at = checkpoint->text;
    const char *end = at + len;
    int64_t     version = 0;
    int64_t     count = 0;
    if (!take_number(&at, end, '\n', &version) || version != 0 || !take_number(&at, end, '\n', &count)) {
        return MR_ERR_CORRUPT;
    }
    if (count > checkpoint->entry_max) {
        return MR_ERR_TOO_LARGE;
    }
    while (count-- > 0) {
        if (!take_line(checkpoint, &at, end)) {
            return MR_ERR_CORRUPT;
        }
    }
    return at == end ? MR_OK : MR_ERR_CORRUPT;
}

void mr_checkpoint_forget(struct mr_checkpoint *checkpoint)
{
    for (uint32_t index = 0; index < checkpoint->entry_count; index++) {
        (void)mr_map_remove(&checkpoint->by_name, mr_hash_str(&hash_key, checkpoint->entries[index].dir_name));
    }
    checkpoint->entry_count = 0;
}

enum mr_err mr_checkpoint_load(struct mr_checkpoint *checkpoint, struct mr_disk *disk, int32_t root,
                               const char *name)
{
    struct mr_disk_op open = {.kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = root, .name = name};
    enum mr_err       err = mr_disk_run(disk, &open);
    if (err != MR_OK) {
        return err;
    }
    struct mr_disk_op read = {.kind = MR_DISK_READ, .file = open.file, .buffer = checkpoint->text,
                              .len = checkpoint->text_max};
    struct mr_disk_op close = {.kind = MR_DISK_CLOSE, .file = open.file};
    err = mr_disk_run(disk, &read);
    (void)mr_disk_run(disk, &close);
    if (err == MR_OK && read.done_bytes == checkpoint->text_max) {
        err = MR_ERR_TOO_LARGE;
    }
    err = err == MR_OK ? parse(checkpoint, read.done_bytes) : err;
    if (err != MR_OK) {
        mr_checkpoint_forget(checkpoint);
    }
    return err;
}

int64_t mr_checkpoint_find(const struct mr_checkpoint *checkpoint, struct mr_str dir_name)
{
    const struct mr_checkpoint_entry *entry =
        mr_map_find(&checkpoint->by_name, mr_hash_str(&hash_key, dir_name));
    while (entry != NULL && !mr_str_equal(entry->dir_name, dir_name)) {
        entry = entry->next;
    }
    return entry == NULL ? -1 : entry->offset;
}
