/*
 * sim_fs: the inside of the simulated device, for sim_*.c that make it up:
 *
 *   sim_chunk.c   what is in a file: two images, now and on the platter, in pieces that copies of the device share
 *   sim_node.c    files and directories
 *   sim_fs.c      the device: made, copied, looked into by tests
 *   sim_disk.c    the seam: operations, their time and their faults
 *   sim_power.c   what a power cut leaves
 */
#ifndef MILLRACE_TESTS_SIM_FS_H
#define MILLRACE_TESTS_SIM_FS_H

#include "millrace/base/prng.h"
#include "sim_disk.h"

#include <stddef.h>

#define MR_SIM_NAME_SIZE 320u

struct mr_sim_name {
    char         text[MR_SIM_NAME_SIZE];
    struct mr_sim_node *node; /* NULL: free slot */
};

struct mr_sim_names {
    struct mr_sim_name *items;
    uint32_t     count;
    uint32_t     size;
};

/* One change of a directory: `gone` disappears and `text` appears, either may be empty. */
struct mr_sim_change {
    char         gone[MR_SIM_NAME_SIZE];
    char         text[MR_SIM_NAME_SIZE];
    struct mr_sim_node *node;
};

#define MR_SIM_CHUNK         8192u
#define MR_SIM_CHUNK_SECTORS (MR_SIM_CHUNK / MR_SIM_SECTOR)

/* A piece of a file. Copies of a device share it until one of them writes there. */
struct mr_sim_chunk {
    uint32_t refs;
    bool     is_settled; /* both images are the same and nothing below is set */
    uint32_t dirty[MR_SIM_CHUNK_SECTORS]; /* 0, or the last write since the sector was known to be durable */
    uint8_t  raw[MR_SIM_CHUNK_SECTORS];   /* allocated, and that it was written since is not durable */
    uint8_t  now[MR_SIM_CHUNK];
    uint8_t  platter[MR_SIM_CHUNK];
};

struct mr_sim_node {
    struct mr_sim_node *next; /* all nodes of the device */
    struct mr_sim_node *twin; /* while cloning */
    bool         is_directory;
    int64_t      mtime_ms;
    uint32_t     changed; /* ctime: the device's count of writes at the last change of bytes, size or name */
    bool         is_misread; /* the last read of it lied: the next one will not */
    uint32_t     lock_owner; /* 1 + the handle that has it locked; 0: none */
    uint32_t    *write_count; /* the device's */

    /* a file: bytes behind a size are zero */
    struct mr_sim_chunk **chunks; /* NULL: zeros in both images, nothing dirty */
    uint64_t chunk_count;
    uint64_t size_now;
    uint64_t size_platter;

    /* a directory */
    struct mr_sim_names   names_now;
    struct mr_sim_names   names_platter;
    struct mr_sim_change *changes;
    uint32_t       change_count;
    uint32_t       change_size;
};

struct mr_sim_handle {
    struct mr_sim_node *node;
    uint32_t     flags;
    char         name[MR_SIM_NAME_SIZE];
};

/* A write that was under way when power went, kept for the cut. */
struct mr_sim_ghost {
    struct mr_sim_ghost *next;
    struct mr_sim_node  *node;
    uint64_t      pos;
    uint32_t      len;
    uint8_t       bytes[];
};

struct mr_sim_fs {
    struct mr_prng prng;
    struct mr_sim_node   *nodes;
    struct mr_sim_node   *root;
    struct mr_sim_handle *handles;
    uint32_t       handle_count;
    struct mr_sim_ghost  *ghosts;

    uint64_t clock_ns;
    uint64_t latency_min_ns;
    uint64_t latency_max_ns;
    bool     is_shuffled;

    uint64_t            op_count;
    uint32_t            write_count;  /* writes and truncations: the order in which sectors became dirty */
    uint64_t            change_count; /* whatever makes the images behind a cut others */
    uint64_t            die_at;
    bool                is_dead;
    bool                has_fault;
    struct mr_sim_fault fault;
    uint64_t            fault_count; /* operations that failed by it */
    uint64_t            capacity;
    bool                is_direct_refused;
    struct mr_sim_misread misread;
    uint64_t              misread_count;
    uint32_t            disk_count;
    struct mr_sim_disk *disks;
};

/* ---- Nodes ---- */

struct mr_sim_node *mr_sim_node_create(struct mr_sim_fs *fs, bool is_directory);
void                mr_sim_node_free(struct mr_sim_node *node);

void mr_sim_node_write(struct mr_sim_node *node, uint64_t pos, const uint8_t *bytes, uint64_t len);
/* Longer by blocks that were never written: ext4 keeps that in the inode, not in the data. */
void mr_sim_node_allocate(struct mr_sim_node *node, uint64_t size);
void mr_sim_node_truncate(struct mr_sim_node *node, uint64_t size);

/* What is there now is on the platter too, all of it. */
void mr_sim_node_settle(struct mr_sim_node *node);

/* ---- Chunks ---- */

/* For changing: it exists then, and is this file's alone. */
struct mr_sim_chunk *mr_sim_chunk_own(struct mr_sim_node *node, uint64_t index);

/* The chunk with this sector, to look at, and where in it the sector is; NULL: zeros, or behind the file. */
const struct mr_sim_chunk *mr_sim_chunk_of(const struct mr_sim_node *node, uint64_t sector, uint32_t *at);

/* Bytes of a range as they are now, or (is_platter) on the platter; zeros where nothing is. */
void mr_sim_chunk_read(const struct mr_sim_node *node, bool is_platter, uint64_t pos, void *to, uint64_t len);

/* Other bytes in one of the images; no sector becomes dirty. */
void mr_sim_chunk_put_now(struct mr_sim_node *node, uint64_t pos, const uint8_t *bytes, uint64_t len);
void mr_sim_chunk_put_platter(struct mr_sim_node *node, uint64_t pos, const uint8_t *bytes, uint64_t len);

/* A sector that is dirty from write number `write` on, and one that is on the platter now. */
void mr_sim_chunk_soil(struct mr_sim_node *node, uint64_t sector, uint32_t write);
void mr_sim_chunk_settle(struct mr_sim_node *node, uint64_t sector);

/* What is on the platter below `size` is all there is. */
void mr_sim_chunk_reboot(struct mr_sim_node *node, uint64_t size);

/* `to`, an empty file, has the content of `from`. */
void mr_sim_chunk_share(struct mr_sim_node *to, const struct mr_sim_node *from);
void mr_sim_chunk_free(struct mr_sim_node *node);

/* The first sector at or behind `sector` that is dirty; UINT64_MAX: none. */
uint64_t mr_sim_chunk_next_dirty(const struct mr_sim_node *node, uint64_t sector);
uint32_t mr_sim_chunk_dirty(const struct mr_sim_node *node, uint64_t sector);

/* ---- Names ---- */

struct mr_sim_node *mr_sim_node_find(const struct mr_sim_names *names, const char *text, size_t len);
void                mr_sim_node_name(struct mr_sim_names *names, const char *text, struct mr_sim_node *node);

/* `gone` disappears and `text` appears, either may be NULL; durable with the directory. */
void mr_sim_node_change(struct mr_sim_node *directory, const char *gone, const char *text,
                        struct mr_sim_node *node);

/* The first `count` unsynced changes reach the platter. */
void mr_sim_node_settle_names(struct mr_sim_node *directory, uint32_t count);

/* Walk all but the last component of `path`; the last one is left in `leaf` (empty: the directory itself). */
struct mr_sim_node *mr_sim_node_walk(const struct mr_sim_fs *fs, struct mr_sim_node *from, const char *path, char *leaf);
struct mr_sim_node *mr_sim_node_lookup(const struct mr_sim_fs *fs, struct mr_sim_node *from, const char *path);

/* ---- Memory ---- */

/* Room for one more than `count` items. */
void *mr_sim_node_grow(void *old, uint32_t *size, uint32_t count, size_t item);
void *mr_sim_node_memory(size_t bytes);

void mr_sim_fs_ghosts_free(struct mr_sim_fs *fs);

/* Writes in flight on the disks of a device become ghosts of its copy. */
void mr_sim_disk_flight(const struct mr_sim_fs *from, struct mr_sim_fs *copy);

#endif
