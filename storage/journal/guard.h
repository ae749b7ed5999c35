/*
 * guard: keeps others, and ourselves, from misreading a log directory whose journal may hold data.
 *
 * While the journal may be non-empty, meta.properties says `version=1-millrace-journal-not-empty`:
 * Apache Kafka and its format tool then refuse before touching anything. The original is kept beside it as
 * `millrace-meta-properties`, a plain file in the root, which does not disturb Kafka. `.lock` is held with an
 * OFD whole-file write lock, which excludes Kafka's (Java's lock is an fcntl lock).
 * `.kafka_cleanshutdown` says that Kafka's files alone tell the truth; under the guard it says nothing.
 *
 *   start:  lock; load; guarded? recover : discard; guard set; marker removed
 *   stop:   everything in Kafka's files and synced, rings empty; marker; guard removed; unlock
 *
 * All of it blocks (start and stop only) and goes through the disk seam. Thread: one.
 * Source: architecture 4.4.15-16.
 */
#ifndef MILLRACE_GUARD_H
#define MILLRACE_GUARD_H

#include "millrace/base/err.h"
#include "millrace/base/str.h"
#include "millrace/disk.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_GUARD_META_MAX 4096u

struct mr_guard {
    struct mr_disk *disk;
    int32_t         root; /* handle of the log directory, open while the guard is */
    int32_t         lock; /* handle of `.lock`, or MR_DISK_NONE */
    struct mr_uuid  directory_id;
    bool            has_directory_id;
    int32_t         node_id; /* -1: none */
    char            cluster_id[64];
    bool            is_guarded;  /* the journal may be non-empty: recover */
    bool            was_clean;   /* .kafka_cleanshutdown was there, and no guard */
    int64_t         broker_epoch; /* from the marker, -1: none */
    char            why[256];    /* after an error: what and what to do */

    uint8_t  meta[MR_GUARD_META_MAX]; /* the original meta.properties */
    uint32_t meta_bytes;
};

/*
 * Open the directory, take the lock, read meta.properties (or the kept original) and the marker. Errors:
 * MR_ERR_LOCKED, MR_ERR_NOT_FOUND (not formatted), MR_ERR_CORRUPT, MR_ERR_IO; `why` says it in words.
 * `want_lock` is false for other cores of the same process, which only want the identity.
 */
enum mr_err mr_guard_open(struct mr_guard *guard, struct mr_disk *disk, const char *log_dir, bool want_lock);

/* Durable when it returns: keep the original, mark meta.properties. Before the first commit. */
enum mr_err mr_guard_set(struct mr_guard *guard);
/* Remove the clean-shutdown marker, durably; after the guard is set, before anything is written. */
enum mr_err mr_guard_unmark(struct mr_guard *guard);
/* Clean stop: the marker ({"version":0,"brokerEpoch":N}), then the original put back, each durable. */
enum mr_err mr_guard_mark(struct mr_guard *guard, int64_t broker_epoch);
enum mr_err mr_guard_remove(struct mr_guard *guard);
/* Close the handles; the lock goes with its handle. */
void mr_guard_close(struct mr_guard *guard);

#endif
