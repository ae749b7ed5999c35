/*
 * sim_disk: a file system in memory that forgets what was not made durable, and the disk seam on it.
 *
 * What is kept apart, as on the weakest file system that we support:
 *
 *   data        per 512-byte sector: as read now, and as on the platter
 *   size        of the file: now, and durable
 *   names       per directory: now, and durable; changes become durable in their order
 *
 *   SYNC of a file     its data (writes completed before it was submitted) and its size; no name, no other file
 *   WRITE with DSYNC   that range, and the size as far as it needs it
 *   SYNC_DIR           the names in that directory
 *   SYNC_FS            everything
 *
 * Power cut: each sector written but not durable is old or new, a sector of a write in flight may also be
 * garbage; each unsynced size is old or new; of each directory's unsynced changes a prefix has happened; what was
 * written into allocated blocks may be there and not be found (unwritten extents).
 *
 * One mr_sim_fs is a device; each core has its mr_sim_disk on it. Everything is decided by the seed and the order
 * of calls. Faults are rules. Thread: one.
 * Source: reliability.md 2.4.
 */
#ifndef MILLRACE_TESTS_SIM_DISK_H
#define MILLRACE_TESTS_SIM_DISK_H

#include "millrace/disk.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_SIM_SECTOR 512u

struct mr_sim_fs;

struct mr_sim_fs *mr_sim_fs_create(uint64_t seed);
void              mr_sim_fs_destroy(struct mr_sim_fs *fs);

/* A device in the same state, without handles and operations; writes in flight on the disks stay uncertain in it. */
struct mr_sim_fs *mr_sim_fs_clone(const struct mr_sim_fs *fs);

/* The seam. Disks go before their device. */
struct mr_disk *mr_sim_disk_create(struct mr_sim_fs *fs);
void            mr_sim_disk_destroy(struct mr_disk *disk);

/* ---- Time ---- */

/* Operations take between min and max nanoseconds, by seed; 0, 0 (default): done at the next reap, in order. With
 * is_shuffled, those done at the same time are reaped in any order. */
void mr_sim_fs_latency(struct mr_sim_fs *fs, uint64_t min_ns, uint64_t max_ns, bool is_shuffled);
/* The device's clock; mr_disk's wait() moves it to the next completion by itself. */
void     mr_sim_fs_set_clock(struct mr_sim_fs *fs, uint64_t now_ns);
uint64_t mr_sim_fs_clock(const struct mr_sim_fs *fs);
/* When the next operation of this disk completes; UINT64_MAX: none in flight. */
uint64_t mr_sim_disk_next_ns(const struct mr_disk *disk);

/* ---- Faults ---- */

/* Operations submitted so far: what crash points count. */
uint64_t mr_sim_fs_op_count(const struct mr_sim_fs *fs);
/* Grows with whatever lets a cut leave another image: points between which it stays are one point. */
uint64_t mr_sim_fs_change_count(const struct mr_sim_fs *fs);

/* Before operation number n (the first is 0) starts, power is lost: it and all later ones answer MR_ERR_IO and
 * do nothing, except that a write may have been under way. UINT64_MAX: never. */
void mr_sim_fs_die_at(struct mr_sim_fs *fs, uint64_t n);
bool mr_sim_fs_is_dead(const struct mr_sim_fs *fs);

/* The n-th operation from now on whose kind is in the mask (1u << kind) fails; with is_sticky, those after it
 * too. `short_bytes` of a write happen before it fails. */
struct mr_sim_fault {
    uint32_t    kinds;
    uint64_t    nth;
    enum mr_err err;
    uint32_t    short_bytes;
    bool        is_sticky;
    const char *name_part; /* only files whose name contains it; NULL: all */
};
void mr_sim_fs_fail(struct mr_sim_fs *fs, const struct mr_sim_fault *fault);
void mr_sim_fs_heal(struct mr_sim_fs *fs);
/* How many operations failed by the fault that was set last. */
uint64_t mr_sim_fs_faults(const struct mr_sim_fs *fs);

/* One in `one_in` reads of files whose name contains `name_part` gets other bytes than the file has: a bit is wrong,
 * sectors are of another place in the file, or as they were before they were written. Never twice in a row. 0: none. */
enum mr_sim_wrong {
    MR_SIM_WRONG_BIT,
    MR_SIM_WRONG_PLACE,
    MR_SIM_WRONG_AGE,
    MR_SIM_WRONG_COUNT,
};
struct mr_sim_misread {
    const char *name_part;
    uint64_t    one_in;
    uint32_t    kinds; /* 1u << enum mr_sim_wrong */
};
void     mr_sim_fs_misread(struct mr_sim_fs *fs, const struct mr_sim_misread *misread);
uint64_t mr_sim_fs_misread_count(const struct mr_sim_fs *fs);

/* Bytes of data that fit; what would exceed it answers MR_ERR_NO_SPACE. 0: no limit. */
void mr_sim_fs_capacity(struct mr_sim_fs *fs, uint64_t bytes);
uint64_t mr_sim_fs_used(const struct mr_sim_fs *fs);
uint64_t mr_sim_fs_free(const struct mr_sim_fs *fs);

/* OPEN with MR_DISK_DIRECT answers MR_ERR_INVALID. */
void mr_sim_fs_refuse_direct(struct mr_sim_fs *fs);

/* ---- Power ---- */

enum mr_sim_cut {
    MR_SIM_CUT_DROP,   /* nothing that was not durable survives */
    MR_SIM_CUT_KEEP,   /* everything completed survives; writes in flight do not */
    MR_SIM_CUT_FLIGHT, /* everything survives, writes in flight included */
    MR_SIM_CUT_TEAR,   /* as KEEP, but writes in flight sector by sector: old, new, garbage */
    MR_SIM_CUT_RANDOM, /* everything by lot, sector by sector */
    MR_SIM_CUT_COUNT,  /* what a life draws from; the others are for crash points (tests/crash): */
    MR_SIM_CUT_DROP_ONE = MR_SIM_CUT_COUNT, /* one write is lost, sizes and names by lot */
    MR_SIM_CUT_KEEP_ONE,                    /* only one write survives, likewise */
    MR_SIM_CUT_REORDER,                     /* later writes survive, earlier ones do not, likewise */
    MR_SIM_CUT_UNWRITTEN, /* as KEEP, but by lot, file by file, blocks that were allocated and are not synced read as
                             zeros: the data is there, and that it was written is not (ext4's unwritten extents) */
    MR_SIM_CUT_KINDS,
};

/* Lose power and come back: what is readable afterwards is on the platter. Handles and operations are gone (the
 * disks on it must have been destroyed). Faults are healed. */
void mr_sim_fs_power_cut(struct mr_sim_fs *fs, enum mr_sim_cut cut, uint64_t seed);

/* The process ended, power stayed: handles, locks and operations are gone, data is as it was written. Writes
 * in flight happen or not, by seed. */
void mr_sim_fs_process_kill(struct mr_sim_fs *fs, uint64_t seed);

/* ---- For tests ---- */

/* All of them by path; durable at once; missing directories are made. */
void mr_sim_fs_put(struct mr_sim_fs *fs, const char *path, const void *bytes, size_t len);
/* Bytes readable now: the length, or -1 when absent; copies at most `max`. */
int64_t mr_sim_fs_get(const struct mr_sim_fs *fs, const char *path, void *bytes, size_t max);
/* The names in a directory, each with its zero byte; returns the bytes, at most `max`. */
size_t  mr_sim_fs_names(const struct mr_sim_fs *fs, const char *path, char *to, size_t max);
void    mr_sim_fs_remove(struct mr_sim_fs *fs, const char *path);
/* XOR a byte range on the platter and now: rot. */
void mr_sim_fs_rot(struct mr_sim_fs *fs, const char *path, uint64_t pos, uint32_t len, uint8_t with);
/* Other bytes there, on the platter and now. */
void mr_sim_fs_spoil(struct mr_sim_fs *fs, const char *path, uint64_t pos, uint32_t len, uint8_t with);
void mr_sim_fs_overwrite(struct mr_sim_fs *fs, const char *path, uint64_t pos, const void *bytes, uint32_t len);
/* Cut a file at `size`, on the platter and now. */
void mr_sim_fs_cut_file(struct mr_sim_fs *fs, const char *path, uint64_t size);
/* Files and directories that the process has open. */
uint32_t mr_sim_fs_open_handles(const struct mr_sim_fs *fs);
/* A hash of every name and all contents as readable now: equal trees have equal digests. */
uint64_t mr_sim_fs_digest(const struct mr_sim_fs *fs);

#endif
