/*
 * guard: see the header. Crash cases, each step durable before the next begins:
 *
 *   set      1 the original is kept      2 meta.properties says "not empty"
 *            crash before 2: unguarded, nothing was committed yet
 *   remove   1 meta.properties is the original again
 *            crash before: guarded, the journal is recovered; after: Kafka's files are whole (the caller synced
 *            them), without the marker Kafka runs its own recovery on them
 *   mark     after remove
 *
 * Each file is written beside its place, synced, renamed, and its directory synced.
 */
#include "guard.h"

#include "journal_private.h"
#include "millrace/base/bug.h"
#include "millrace/base/fmt.h"

#define META         "meta.properties"
#define META_KEPT    "millrace-meta-properties"
#define META_NEW     "millrace-meta-new"
#define MARKER       ".kafka_cleanshutdown"
#define MARKER_NEW   "millrace-marker-new"
#define VERSION      "version="
#define GUARDED      "1-millrace-journal-not-empty"

static enum mr_err run(struct mr_guard *guard, struct mr_disk_op *op)
{
    return mr_disk_run(guard->disk, op);
}

__attribute__((format(printf, 3, 4))) static enum mr_err refuse(struct mr_guard *guard, enum mr_err err,
                                                                const char *format, ...)
{
    struct mr_text text;
    va_list        args;
    mr_text_init(&text, guard->why, sizeof guard->why);
    va_start(args, format);
    mr_text_vfmt(&text, format, args);
    va_end(args);
    return err;
}

static void close_file(struct mr_guard *guard, int32_t file)
{
    struct mr_disk_op op = {.kind = MR_DISK_CLOSE, .file = file};
    (void)run(guard, &op);
}

/* Read a small file whole. MR_ERR_TOO_LARGE when it is not small. */
static enum mr_err read_file(struct mr_guard *guard, const char *name, uint8_t *bytes, uint32_t max,
                             uint32_t *len)
{
    struct mr_disk_op open = {
        .kind = MR_DISK_OPEN, .flags = MR_DISK_READ_ONLY, .dir = guard->root, .name = name};
    enum mr_err err = run(guard, &open);
    if (err != MR_OK) {
        return err;
    }
    struct mr_disk_op read = {.kind = MR_DISK_READ, .file = open.file, .buffer = bytes, .len = max};
    err = run(guard, &read);
    close_file(guard, open.file);
    *len = read.done_bytes;
    return err == MR_OK && read.done_bytes == max ? MR_ERR_TOO_LARGE : err;
}

static enum mr_err sync_root(struct mr_guard *guard)
{
    struct mr_disk_op op = {.kind = MR_DISK_SYNC_DIR, .file = guard->root};
    return run(guard, &op);
}

/* Put `bytes` durably in place of `name`: all of them or what was there before. */
static enum mr_err replace_file(struct mr_guard *guard, const char *name, const char *new_name,
                                void *bytes, uint32_t len)
{
    struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_CREATE | MR_DISK_TRUNC,
                              .dir = guard->root,
                              .name = new_name};
    enum mr_err       err = run(guard, &open);
    if (err != MR_OK) {
        return err;
    }
    struct mr_disk_op write = {.kind = MR_DISK_WRITE, .file = open.file, .buffer = bytes, .len = len};
    struct mr_disk_op sync = {.kind = MR_DISK_SYNC, .file = open.file};
    err = run(guard, &write);
    if (err == MR_OK) {
        err = run(guard, &sync);
    }
    close_file(guard, open.file);
    if (err != MR_OK) {
        return err;
    }
    struct mr_disk_op rename = {
        .kind = MR_DISK_RENAME, .dir = guard->root, .name = new_name, .new_name = name};
    err = run(guard, &rename);
    return err == MR_OK ? sync_root(guard) : err;
}

static enum mr_err remove_file(struct mr_guard *guard, const char *name)
{
    struct mr_disk_op op = {.kind = MR_DISK_UNLINK, .dir = guard->root, .name = name};
    enum mr_err       err = run(guard, &op);
    if (err == MR_ERR_NOT_FOUND) {
        return MR_OK;
    }
    return err == MR_OK ? sync_root(guard) : err;
}

/* The value of `key` ("version=") in a properties file, without blanks at its ends; null when absent. */
static struct mr_str find_value(const uint8_t *bytes, uint32_t len, const char *key)
{
    size_t key_len = strlen(key);
    for (uint32_t at = 0; at < len;) {
        const uint8_t *end = memchr(bytes + at, '\n', len - at);
        uint32_t       line = end != NULL ? (uint32_t)(end - (bytes + at)) : len - at;
        const char    *text = (const char *)bytes + at;
        if (line > key_len && memcmp(text, key, key_len) == 0) {
            struct mr_str value = {.data = text + key_len, .len = (int32_t)(line - key_len)};
            while (value.len > 0 && (value.data[value.len - 1] == '\r' || value.data[value.len - 1] == ' ')) {
                value.len--;
            }
            return value;
        }
        at += line + 1;
    }
    return MR_STR_NULL;
}

/* The same file with another version. False when it has none or does not fit. */
static bool with_version(const uint8_t *bytes, uint32_t len, const char *version,
                         uint8_t out[MR_GUARD_META_MAX], uint32_t *out_len)
{
    struct mr_str old = find_value(bytes, len, VERSION);
    if (mr_str_is_null(old)) {
        return false;
    }
    uint32_t before = (uint32_t)((const uint8_t *)old.data - bytes);
    uint32_t after = len - before - (uint32_t)old.len;
    uint32_t version_len = (uint32_t)strlen(version);
    if (before + version_len + after > MR_GUARD_META_MAX) {
        return false;
    }
    memmove(out + before + version_len, bytes + before + (uint32_t)old.len, after);
    memmove(out, bytes, before);
    memcpy(out + before, version, version_len);
    *out_len = before + version_len + after;
    return true;
}

static int64_t number_of(struct mr_str text, int64_t fallback)
{
    int64_t value = 0;
    if (text.len <= 0 || text.len > 18) {
        return fallback;
    }
    for (int32_t at = 0; at < text.len; at++) {
        if (text.data[at] < '0' || text.data[at] > '9') {
            return fallback;
        }
        value = value * 10 + (text.data[at] - '0');
    }
    return value;
}

static enum mr_err load_meta(struct mr_guard *guard, const char *log_dir)
{
    enum mr_err err = read_file(guard, META, guard->meta, sizeof guard->meta, &guard->meta_bytes);
    if (err == MR_ERR_NOT_FOUND) {
        return refuse(guard, err, "%s has no meta.properties: run `millrace format` on it first", log_dir);
    }
    if (err != MR_OK) {
        return refuse(guard, err, "%s/meta.properties cannot be read: %s", log_dir, mr_err_text(err));
    }
    struct mr_str version = find_value(guard->meta, guard->meta_bytes, VERSION);
    guard->is_guarded = mr_str_equal(version, MR_STR(GUARDED));
    if (guard->is_guarded) {
        /* The kept copy is a comfort for people; what differs is the version alone. */
        uint8_t original[MR_GUARD_META_MAX];
        bool    is_fitting = with_version(guard->meta, guard->meta_bytes, "1", original, &guard->meta_bytes);
        mr_assert(is_fitting); /* it becomes shorter */
        memcpy(guard->meta, original, guard->meta_bytes);
    } else if (!mr_str_equal(version, MR_STR("1"))) {
        return refuse(guard, MR_ERR_CORRUPT, "%s/meta.properties has version '%.*s', known is 1", log_dir,
                      version.len > 0 ? (int)version.len : 0, version.len > 0 ? version.data : "");
    }
    struct mr_str cluster = find_value(guard->meta, guard->meta_bytes, "cluster.id=");
    if (cluster.len <= 0 || (size_t)cluster.len >= sizeof guard->cluster_id) {
        return refuse(guard, MR_ERR_CORRUPT, "%s/meta.properties has no usable cluster.id", log_dir);
    }
    memcpy(guard->cluster_id, cluster.data, (size_t)cluster.len);
    guard->cluster_id[cluster.len] = '\0';
    guard->node_id = (int32_t)number_of(find_value(guard->meta, guard->meta_bytes, "node.id="), -1);
    guard->has_directory_id = mr_uuid_parse(
        find_value(guard->meta, guard->meta_bytes, "directory.id="), &guard->directory_id);
    if (!guard->has_directory_id) {
        return refuse(guard, MR_ERR_CORRUPT, "%s/meta.properties has no usable directory.id", log_dir);
    }
    return MR_OK;
}

/* {"version":0,"brokerEpoch":N}, in whatever spacing. */
static void load_marker(struct mr_guard *guard)
{
    uint8_t  bytes[256];
    uint32_t len = 0;
    guard->broker_epoch = -1;
    enum mr_err err = read_file(guard, MARKER, bytes, sizeof bytes, &len);
    guard->was_clean = !guard->is_guarded && (err == MR_OK || err == MR_ERR_TOO_LARGE);
    static const char key[] = "\"brokerEpoch\"";
    for (uint32_t at = 0; at + sizeof key - 1 < len; at++) {
        if (memcmp(bytes + at, key, sizeof key - 1) == 0) {
            at += (uint32_t)sizeof key - 1;
            while (at < len && (bytes[at] == ' ' || bytes[at] == ':')) {
                at++;
            }
            uint32_t end = at;
            while (end < len && bytes[end] >= '0' && bytes[end] <= '9') {
                end++;
            }
            guard->broker_epoch =
                number_of((struct mr_str){.data = (const char *)bytes + at, .len = (int32_t)(end - at)}, -1);
            return;
        }
    }
}

enum mr_err mr_guard_open(struct mr_guard *guard, struct mr_disk *disk, const char *log_dir, bool want_lock)
{
    memset(guard, 0, sizeof *guard);
    guard->disk = disk;
    guard->root = MR_DISK_NONE;
    guard->lock = MR_DISK_NONE;
    struct mr_disk_op root = {.kind = MR_DISK_OPEN,
                              .flags = MR_DISK_DIRECTORY,
                              .dir = MR_DISK_ROOT,
                              .name = log_dir};
    enum mr_err       err = run(guard, &root);
    if (err != MR_OK) {
        return refuse(guard, err, "log directory %s cannot be opened: %s (errno %d)", log_dir,
                      mr_err_text(err), root.os_errno);
    }
    guard->root = root.file;
    if (want_lock) {
        struct mr_disk_op open = {.kind = MR_DISK_OPEN,
                                  .flags = MR_DISK_CREATE,
                                  .dir = guard->root,
                                  .name = ".lock"};
        err = run(guard, &open);
        guard->lock = err == MR_OK ? open.file : MR_DISK_NONE;
        struct mr_disk_op lock = {.kind = MR_DISK_LOCK, .file = guard->lock};
        if (err == MR_OK && !mr_bug("no-lock")) {
            err = run(guard, &lock);
        }
        if (err != MR_OK) {
            enum mr_err why = refuse(
                guard, err,
                err == MR_ERR_LOCKED
                    ? "log directory %s is in use by another broker (its .lock is held): stop that one first"
                    : "%s/.lock cannot be locked",
                log_dir);
            mr_guard_close(guard);
            return why;
        }
    }
    err = load_meta(guard, log_dir);
    if (err != MR_OK) {
        mr_guard_close(guard);
        return err;
    }
    load_marker(guard);
    return MR_OK;
}

enum mr_err mr_guard_set(struct mr_guard *guard)
{
    if (guard->is_guarded) {
        return MR_OK;
    }
    uint8_t     marked[MR_GUARD_META_MAX];
    uint32_t    len = 0;
    enum mr_err err = replace_file(guard, META_KEPT, META_NEW, guard->meta, guard->meta_bytes);
    if (err == MR_OK && !with_version(guard->meta, guard->meta_bytes, GUARDED, marked, &len)) {
        err = MR_ERR_TOO_LARGE;
    }
    if (err == MR_OK) {
        err = replace_file(guard, META, META_NEW, marked, len);
    }
    if (err != MR_OK) {
        return refuse(guard, err, "meta.properties cannot be guarded: %s", mr_err_text(err));
    }
    guard->is_guarded = true;
    return MR_OK;
}

enum mr_err mr_guard_unmark(struct mr_guard *guard)
{
    return remove_file(guard, MARKER);
}

enum mr_err mr_guard_remove(struct mr_guard *guard)
{
    if (!guard->is_guarded) {
        return MR_OK;
    }
    if (mr_bug("keep-guard")) {
        guard->is_guarded = false;
        return MR_OK;
    }
    enum mr_err err = replace_file(guard, META, META_NEW, guard->meta, guard->meta_bytes);
    if (err != MR_OK) {
        return refuse(guard, err, "meta.properties cannot be restored: %s", mr_err_text(err));
    }
    guard->is_guarded = false;
    return remove_file(guard, META_KEPT);
}

enum mr_err mr_guard_mark(struct mr_guard *guard, int64_t broker_epoch)
{
    char   text[64];
    size_t len = mr_fmt(text, sizeof text, "{\"version\":0,\"brokerEpoch\":%lld}", (long long)broker_epoch);
    return replace_file(guard, MARKER, MARKER_NEW, text, (uint32_t)len);
}

void mr_guard_close(struct mr_guard *guard)
{
    if (guard->lock != MR_DISK_NONE) {
        close_file(guard, guard->lock);
        guard->lock = MR_DISK_NONE;
    }
    if (guard->root != MR_DISK_NONE) {
        close_file(guard, guard->root);
        guard->root = MR_DISK_NONE;
    }
}
