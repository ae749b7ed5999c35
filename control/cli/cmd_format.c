#include "cli/cli.h"
#include "millrace/base/bug.h"
#include "millrace/batch.h"
#include "millrace/kafka/msg.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define METADATA_VERSION     33 /* 4.4-IV2 */
#define METADATA_VERSION_MIN 7  /* 3.3-IV3, the oldest that Kafka 4.x reads */
#define METADATA_DIR         "__cluster_metadata-0"
#define CHECKPOINT           "00000000000000000000-0000000000.checkpoint"

static const char help[] =
    "millrace format [--cluster-id ID] [--ignore-formatted] [--feature metadata.version=N] "
    "[--config FILE]\n"
    "                [--set KEY=VALUE]...\n"
    "\n"
    "Prepare the directories of log.dirs: meta.properties and the first records of the metadata log "
    "as\n"
    "Apache Kafka's kafka-storage format leaves them, and the first journal file of each core. "
    "Nothing that exists is overwritten.\n"
    "\n"
    "  --cluster-id ID        the cluster's id; without it a random one\n"
    "  --ignore-formatted     a directory that is formatted already is no error: the others are prepared\n"
    "  --feature metadata.version=N  a level from 7 to 33, for a directory that an older Kafka is "
    "to\n"
    "                         start on too: 30 for Kafka 4.3; without it 33 "
    "(4.4-IV2)\n" MR_CLI_CONFIG_HELP "\n"
    "Exit codes: 0 formatted, 1 failed or formatted before, 2 wrong arguments or configuration.\n";

/* A random (version 4) id as Kafka draws them: not one of the reserved ones, no leading dash. */
static bool draw_uuid(struct mr_uuid *id)
{
    char text[MR_UUID_TEXT + 1];
    do {
        if (getrandom(id->bytes, sizeof id->bytes, 0) != (ssize_t)sizeof id->bytes) {
            return false;
        }
        id->bytes[6] = (uint8_t)((id->bytes[6] & 0x0f) | 0x40);
        id->bytes[8] = (uint8_t)((id->bytes[8] & 0x3f) | 0x80);
        mr_uuid_text(id, text);
    } while (text[0] == '-');
    return true;
}

/* ---- Files ---- */

static bool sync_dir(const char *path)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_good = dir >= 0 && fsync(dir) == 0;
    if (dir >= 0) {
        close(dir);
    }
    return is_good;
}

/* The whole file or none of it, after any crash: temporary name, fsync, rename, fsync of the directory. */
static bool store(const char *dir, const char *name, const void *bytes, size_t len)
{
    char path[600];
    char temporary[604];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) {
        return false;
    }
    ssize_t written = write(file, bytes, len);
    bool is_good = written == (ssize_t)len && fsync(file) == 0;
    is_good = close(file) == 0 && is_good;
    return is_good && rename(temporary, path) == 0 && sync_dir(dir);
}

/* The first journal file of a storage core, full of zeros: a start that finds it whole need not write it. */
static bool store_journal(const char *dir, uint32_t core, uint64_t bytes)
{
    static const uint8_t zeros[1u << 20];
    char path[600];
    snprintf(path, sizeof path, "%s/millrace-journal-%u-0", dir, core);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool is_good = file >= 0;
    for (uint64_t at = 0; is_good && at < bytes;) {
        size_t len = bytes - at < sizeof zeros ? (size_t)(bytes - at) : sizeof zeros;
        ssize_t written = write(file, zeros, len);
        is_good = written > 0;
        at += is_good ? (uint64_t)written : 0;
    }
    is_good = is_good && fsync(file) == 0;
    int err = errno;
    if (file >= 0) {
        (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED); /* it is used past the page cache */
        close(file);
    }
    if (!is_good) {
        (void)unlink(path);
    }
    errno = err;
    return is_good;
}

/* Create the directory and those above it. */
static bool make_dirs(const char *path)
{
    char part[600];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = part + 1; *slash != '\0'; slash++) {
        if (*slash == '/') {
            *slash = '\0';
            if (mkdir(part, 0755) != 0 && errno != EEXIST) {
                return false;
            }
            *slash = '/';
        }
    }
    return mkdir(part, 0755) == 0 || errno == EEXIST;
}

/* A name that a format which was interrupted, or the file system itself, may have left. */
static bool is_expected(const char *name)
{
    static const char *const names[] = {".", "..", "lost+found", METADATA_DIR,
                                        "meta.properties.tmp"};
    for (size_t index = 0; index < sizeof names / sizeof names[0]; index++) {
        if (strcmp(name, names[index]) == 0) {
            return true;
        }
    }
    return false;
}

/* Something that is not ours lies in `path`: its name, or "". */
static bool find_foreign(const char *path, const char *only, char *name, size_t size)
{
    DIR *dir = opendir(path);
    name[0] = '\0';
    if (dir == NULL) {
        return errno == ENOENT;
    }
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        bool is_own = only == NULL ? is_expected(entry->d_name)
                                   : entry->d_name[0] == '.' ||
                                         strncmp(entry->d_name, only, strlen(only)) == 0;
        if (!is_own) {
            snprintf(name, size, "%s", entry->d_name);
        }
    }
    closedir(dir);
    return true;
}

/* ---- The checkpoint ---- */

/* Control records: key {version 0, type}, value the message, whose first field is its version. */
static bool add_control(struct mr_batch_builder *builder, int64_t now_ms, uint8_t type,
                        const struct mr_msg *msg, const void *message, struct mr_arena *scratch)
{
    const uint8_t key[4] = {0, 0, 0, type};
    struct mr_span spans[4];
    struct mr_writer writer;
    uint8_t value[64];
    mr_writer_init(&writer, scratch, spans, 4);
    if (mr_msg_encode(msg, 0, message, &writer) != MR_OK) {
        return false;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.bytes <= sizeof value);
    mr_chain_copy(&chain, 0, value, chain.bytes);
    return mr_batch_add(builder, now_ms, (struct mr_blob){.data = key, .len = sizeof key},
                        (struct mr_blob){.data = value, .len = (int32_t)chain.bytes});
}

static bool add_record(struct mr_batch_builder *builder, int64_t now_ms, const struct mr_msg *msg,
                       int16_t version, const void *message, struct mr_arena *scratch)
{
    struct mr_span spans[8];
    struct mr_writer writer;
    uint8_t value[512];
    mr_writer_init(&writer, scratch, spans, 8);
    if (mr_writer_uvarint(&writer, 1) != MR_OK || /* version of the frame around metadata records */
        mr_writer_uvarint(&writer, (uint32_t)msg->key) != MR_OK ||
        mr_writer_uvarint(&writer, (uint32_t)version) != MR_OK ||
        mr_msg_encode(msg, version, message, &writer) != MR_OK) {
        return false;
    }
    struct mr_chain chain = mr_writer_finish(&writer);
    mr_assert(chain.bytes <= sizeof value);
    mr_chain_copy(&chain, 0, value, chain.bytes);
    return mr_batch_add(builder, now_ms, MR_BLOB_NULL,
                        (struct mr_blob){.data = value, .len = (int32_t)chain.bytes});
}

static void begin(struct mr_batch_builder *builder, uint8_t *bytes, uint32_t size, uint32_t used,
                  int64_t offset, int16_t attributes)
{
    mr_batch_begin(builder, bytes + used, size - used, offset, attributes);
    builder->batch.leader_epoch = 0;
}

/* Features at the level that Kafka's format gives them, from the metadata.version on that they need.
 * What stands at level 0 is not written. */
static const struct {
    const char *name;
    int16_t level;
    int16_t needs;
} features[] = {
#define FEATURE(name_, min_, max_, served_, format_level_, format_needs_)                          \
    {name_, format_level_, format_needs_},
#include "millrace/features.def"
};
#define FEATURES (sizeof features / sizeof features[0])

static bool add_feature(struct mr_batch_builder *builder, int64_t now_ms, struct mr_str name,
                        int16_t level, struct mr_arena *scratch)
{
    struct mr_feature_level_record record;
    MR_DEFAULTS(feature_level_record, &record);
    record.name = name;
    record.feature_level = level;
    return add_record(builder, now_ms, &mr_msg_feature_level_record, 0, &record, scratch);
}

/* What kafka-storage format leaves (4.4): header, the bootstrap records, footer; offsets from 0 on in
 * epoch 0. */
static uint32_t make_checkpoint(uint8_t *bytes, uint32_t size, int64_t now_ms,
                                int16_t metadata_version, struct mr_arena *scratch)
{
    struct mr_batch_builder builder;
    struct mr_snapshot_header_record header;
    struct mr_snapshot_footer_record footer;
    uint32_t used = 0;
    int64_t offset = 1;
    MR_DEFAULTS(snapshot_header_record, &header);
    MR_DEFAULTS(snapshot_footer_record, &footer);

    begin(&builder, bytes, size, used, 0, MR_BATCH_CONTROL);
    bool is_good =
        add_control(&builder, now_ms, 3, &mr_msg_snapshot_header_record, &header, scratch);
    used += mr_batch_end(&builder);
    begin(&builder, bytes, size, used, 1, 0);
    is_good = is_good && add_feature(&builder, now_ms, MR_STR("metadata.version"),
                                     metadata_version, scratch);
    offset++;
    for (size_t at = 0; at < FEATURES && is_good; at++) {
        if (features[at].level > 0 && metadata_version >= features[at].needs) {
            is_good = add_feature(&builder, now_ms, mr_str(features[at].name), features[at].level,
                                  scratch);
            offset++;
        }
    }
    used += mr_batch_end(&builder);
    begin(&builder, bytes, size, used, offset, MR_BATCH_CONTROL);
    is_good = is_good &&
              add_control(&builder, now_ms, 4, &mr_msg_snapshot_footer_record, &footer, scratch);
    used += mr_batch_end(&builder);
    return is_good ? used : 0;
}

/* ---- The command ---- */

/* What is missing is written by the start, so a full disk does not undo the rest. */
static void write_journals(const struct mr_cli *cli, const struct mr_plan *plan, const char *log_dir)
{
    for (uint32_t core = 0; core < mr_endpoint_dir_cores(&plan->endpoints); core++) {
        if (!store_journal(log_dir, core, plan->storage.journal_file_bytes)) {
            mr_cli_complain(cli, "%s: no journal file of %u KiB yet (%s); the start tries again",
                            log_dir, plan->storage.journal_file_bytes / 1024, strerror(errno));
            return;
        }
    }
    (void)sync_dir(log_dir);
}

static bool write_metadata(const char *log_dir, int16_t metadata_version, struct timespec now)
{
    static uint8_t checkpoint[4096];
    static uint8_t scratch_bytes[16384];
    struct mr_arena scratch;
    char metadata_dir[PATH_MAX];
    mr_arena_init(&scratch, scratch_bytes, sizeof scratch_bytes);
    if (snprintf(metadata_dir, sizeof metadata_dir, "%s/" METADATA_DIR, log_dir) >= (int)sizeof metadata_dir) {
        return false;
    }
    uint32_t len = make_checkpoint(checkpoint, sizeof checkpoint,
                                   (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                                   metadata_version, &scratch);
    return len > 0 && make_dirs(metadata_dir) && store(metadata_dir, CHECKPOINT, checkpoint, len);
}

/* A directory of the broker; the metadata log lies in one of them. */
static int write_all(const struct mr_cli *cli, const struct mr_plan *plan, const char *log_dir,
                     const char *cluster_id, int16_t metadata_version, bool has_metadata)
{
    struct mr_uuid directory_id;
    struct timespec now;
    char text[1024];
    char date[64];
    char directory_text[MR_UUID_TEXT + 1];
    struct tm tm;
    if (!draw_uuid(&directory_id)) {
        mr_cli_complain(cli, "no random numbers: %s", strerror(errno));
        return MR_CLI_FAILED;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    mr_uuid_text(&directory_id, directory_text);
    (void)gmtime_r(&now.tv_sec, &tm);
    (void)strftime(date, sizeof date, "%a %b %d %H:%M:%S UTC %Y", &tm);
    int text_len = snprintf(text, sizeof text,
                            "#\n#%s\ncluster.id=%s\ndirectory.id=%s\nnode.id=%lld\nversion=1\n",
                            date, cluster_id, directory_text, (long long)cli->config.node_id);
    /* meta.properties last: it is what makes the directory count as formatted. */
    if (!make_dirs(log_dir) ||
        (has_metadata && !write_metadata(log_dir, metadata_version, now)) ||
        !store(log_dir, "meta.properties", text, (size_t)text_len)) {
        mr_cli_complain(cli, "%s: %s", log_dir, strerror(errno));
        return MR_CLI_FAILED;
    }
    write_journals(cli, plan, log_dir);
    printf("formatted %s cluster.id=%s directory.id=%s node.id=%lld metadata.version=%d\n", log_dir,
           cluster_id, directory_text, (long long)cli->config.node_id, metadata_version);
    return MR_CLI_OK;
}

static bool is_good_cluster_id(const char *id)
{
    size_t len = strlen(id);
    for (size_t at = 0; at < len; at++) {
        if (id[at] <= ' ' || id[at] == '\\' || id[at] == 127) {
            return false;
        }
    }
    return 0 < len && len < 64;
}

/* "metadata.version=N". NULL: the newest; 0: not that, or not a level that is known. */
static int16_t read_feature(const char *feature)
{
    static const char name[] = "metadata.version=";
    char *end;
    if (feature == NULL) {
        return METADATA_VERSION;
    }
    if (strncmp(feature, name, sizeof name - 1) != 0) {
        return 0;
    }
    long level = strtol(feature + sizeof name - 1, &end, 10);
    return *end == '\0' && METADATA_VERSION_MIN <= level && level <= METADATA_VERSION
               ? (int16_t)level
               : 0;
}

/* Whether the directory may be formatted: it has nothing in it that is not ours. */
static bool check_empty(const struct mr_cli *cli, const char *log_dir)
{
    char foreign[256];
    char metadata_dir[PATH_MAX];
    snprintf(metadata_dir, sizeof metadata_dir, "%s/" METADATA_DIR, log_dir);
    if (!find_foreign(log_dir, NULL, foreign, sizeof foreign) ||
        (foreign[0] == '\0' && !find_foreign(metadata_dir, CHECKPOINT, foreign, sizeof foreign))) {
        mr_cli_complain(cli, "%s: %s", log_dir, strerror(errno));
        return false;
    }
    if (foreign[0] != '\0') {
        mr_cli_complain(cli, "%s is not empty (%s lies in it); choose an empty or new directory",
                        log_dir, foreign);
    }
    return foreign[0] == '\0';
}

/*
 * What there is to do with a directory: *is_due. All of them get the cluster's id that was asked for, or that a
 * directory has already; `cluster_id` is empty as long as nobody has said one.
 */
static bool look(const struct mr_cli *cli, const char *log_dir, bool is_formatted_fine, char *cluster_id, size_t size,
                 bool *is_due)
{
    struct mr_cli_meta meta;
    if (!mr_cli_meta_load(cli, log_dir, &meta)) {
        return false;
    }
    *is_due = !meta.is_there || mr_bug("format-again");
    if (*is_due) {
        return check_empty(cli, log_dir);
    }
    if (cluster_id[0] != '\0' && strcmp(cluster_id, meta.cluster_id) != 0) {
        mr_cli_complain(cli, "%s is formatted for another cluster: cluster.id=%s", log_dir, meta.cluster_id);
        return false;
    }
    if (!is_formatted_fine) {
        mr_cli_complain(cli, "%s is formatted already; --ignore-formatted makes that no error", log_dir);
        return false;
    }
    snprintf(cluster_id, size, "%s", meta.cluster_id);
    printf("formatted before %s cluster.id=%s\n", log_dir, meta.cluster_id);
    return true;
}

/* All directories are looked at before the first one is written. */
static int format_dirs(const struct mr_cli *cli, const struct mr_plan *plan, const char *cluster_id,
                       int16_t metadata_version, bool is_formatted_fine)
{
    static struct mr_cli_dirs dirs;
    bool is_due[MR_DIRS_MAX];
    char id[sizeof ((struct mr_cli_meta *)0)->cluster_id];
    uint32_t count = mr_cli_dirs(cli, &dirs);
    snprintf(id, sizeof id, "%s", cluster_id == NULL ? "" : cluster_id);
    for (uint32_t index = 0; index < count; index++) {
        if (!look(cli, dirs.paths[index], is_formatted_fine, id, sizeof id, &is_due[index])) {
            return MR_CLI_FAILED;
        }
    }
    struct mr_uuid drawn;
    if (id[0] == '\0' && !draw_uuid(&drawn)) {
        mr_cli_complain(cli, "no random numbers: %s", strerror(errno));
        return MR_CLI_FAILED;
    }
    if (id[0] == '\0') {
        mr_uuid_text(&drawn, id);
    }
    int code = MR_CLI_OK;
    for (uint32_t index = 0; index < count && code == MR_CLI_OK; index++) {
        code = is_due[index] ? write_all(cli, plan, dirs.paths[index], id, metadata_version, index == 0) : MR_CLI_OK;
    }
    return code;
}

int mr_cmd_format(int argc, char **argv)
{
    const char *cluster_id = NULL;
    const char *feature = NULL;
    bool is_formatted_fine = false;
    const struct mr_cli_option options[] = {
        {.name = "--cluster-id", .value = &cluster_id},
        {.name = "--feature", .value = &feature},
        {.name = "--ignore-formatted", .flag = &is_formatted_fine},
        {.name = NULL}};
    static struct mr_cli cli = {.command = "format"};
    static struct mr_plan plan;
    cli.options = options;
    if (mr_cli_is_answered(argc, argv, help)) {
        return MR_CLI_OK;
    }
    if (!mr_cli_read(&cli, argc, argv) || !mr_cli_plan(&cli, &plan)) {
        return MR_CLI_USAGE;
    }
    if (cluster_id != NULL && !is_good_cluster_id(cluster_id)) {
        mr_cli_complain(&cli, "--cluster-id %s: expected 1 to 63 visible characters", cluster_id);
        return MR_CLI_USAGE;
    }
    int16_t metadata_version = read_feature(feature);
    if (metadata_version == 0) {
        mr_cli_complain(
            &cli,
            "--feature %s: expected metadata.version=N, N from %d to %d; other features are not"
            " there yet",
            feature, METADATA_VERSION_MIN, METADATA_VERSION);
        return MR_CLI_USAGE;
    }
    return format_dirs(&cli, &plan, cluster_id, metadata_version, is_formatted_fine);
}
