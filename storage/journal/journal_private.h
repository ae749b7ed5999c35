/*
 * journal_private: the inside of the journal, shared by its files and by nobody else.
 *
 *   commit.c         bytes of a commit and its entries: build, check
 *   journal_file.c   file headers; preparing files
 *   journal_state.c  the state file: records, blocks, checkpoint slots
 *   recycle.c        from "drained" to "ready", step by step
 *   journal.c        which commit is open, in flight, durable
 *   journal_replay.c recovery, with replay_*.c and a header of their own
 */
#ifndef MILLRACE_JOURNAL_PRIVATE_H
#define MILLRACE_JOURNAL_PRIVATE_H

#include "journal/journal.h"
#include "millrace/base/bytes.h"
#include "millrace/base/prng.h"

#define MR_JOURNAL_VERSION 1u
#define MR_JOURNAL_RINGS   64u /* as many as cores: MR_CORES_MAX */
#define MR_JOURNAL_NAME    64u /* room for a private file's name */

/* ---- commit.c ---- */

#define MR_COMMIT_HEAD   96u
#define MR_COMMIT_ENTRY  64u /* an entry's head */
#define MR_COMMIT_FIRST  1u  /* flag: no commit of this incarnation is before it */
#define MR_COMMIT_MAGIC  0x54494d4d4f43524dull /* "MRCOMMIT" */

/* What every byte of a ring is bound to. */
struct mr_commit_key {
    struct mr_uuid directory_id;
    uint32_t       ring;
    uint64_t       generation; /* random, of the file: seeds every CRC in it */
};

struct mr_commit_head {
    uint32_t crc;
    uint32_t heads_crc;
    uint64_t seq;
    uint64_t flushed_seq;
    uint32_t prev_crc;
    uint32_t entry_count;
    uint32_t length; /* head and entries, without the padding */
    uint64_t incarnation;
    uint32_t flags;
    uint32_t opened; /* OPEN entries of the incarnation in the commits before this one */
};

/* Blocks of lent memory that belong at `at` of the commit; the buffer is not used there. */
struct mr_commit_piece {
    uint32_t at;
    uint32_t len;
    uint8_t *data;
    void    *owner;
};

#define MR_COMMIT_PIECES    64u          /* of one commit; what is lent beyond is copied */
#define MR_COMMIT_PIECE_MIN (16u << 10)  /* a shorter run of blocks is copied */

struct mr_commit {
    uint8_t *buffer; /* 4 KiB-aligned, MR_JOURNAL_COMMIT_MAX */
    struct mr_commit_piece *pieces; /* MR_COMMIT_PIECES, by `at` */
    uint32_t piece_count;
    uint32_t used;
    uint32_t entry_count;
    uint32_t heads_crc;
    uint32_t seed; /* CRC of the generation of the file it goes into */
    uint64_t seq;
    uint64_t pos; /* in that file */
    uint32_t opened; /* OPEN entries before it */
    bool     is_early;
};

uint32_t mr_commit_seed(uint64_t generation);
uint32_t mr_commit_padded(uint32_t length);
/* What an entry takes at most. */
uint32_t mr_commit_entry_room(uint32_t payload_bytes);
/* Adds an entry; there is room (asserted). */
void     mr_commit_add(struct mr_commit *commit, uint64_t log_id, const struct mr_journal_entry *entry,
                       const struct mr_journal_payload *payload, uint32_t payload_bytes);
/* The commit as it is written, in at most MR_COMMIT_WRITES pieces of memory; returns how many. */
#define MR_COMMIT_WRITES (2 * MR_COMMIT_PIECES + 1)
uint32_t mr_commit_writes(const struct mr_commit *commit, struct mr_disk_piece *out);
uint32_t mr_commit_seal(struct mr_commit *commit, const struct mr_commit_key *key,
                        const struct mr_commit_head *head);

/* Whether `bytes` begin with a commit head of this ring and generation; length is within `room`. */
bool mr_commit_head_check(const uint8_t *bytes, uint64_t room, const struct mr_commit_key *key,
                          struct mr_commit_head *head);
/* One entry of a sealed commit; false when head or payload is damaged. *bytes: of the entry when its head
 * is sound, else 0. */
struct mr_commit_entry {
    struct mr_journal_entry entry;
    uint64_t                log_id;
    const uint8_t          *payload;
    uint32_t                payload_bytes;
};
bool mr_commit_entry_check(const uint8_t *at, uint64_t room, uint32_t seed, struct mr_commit_entry *out,
                           uint32_t *bytes);
/* The whole commit: its head was checked. */
bool mr_commit_body_check(const uint8_t *bytes, const struct mr_commit_head *head, uint32_t seed);

/* OPEN's payload. A directory name becomes a path: it must be one component and nothing special. */
bool mr_commit_name_check(struct mr_str name);
#define MR_COMMIT_OPEN_MAX (24u + MR_JOURNAL_DIR_NAME_MAX)
uint32_t mr_commit_open_store(uint8_t *out, const struct mr_journal_log *log);
bool     mr_commit_open_load(const uint8_t *payload, uint32_t bytes, struct mr_journal_log_name *name);

/* ---- journal_file.c ---- */

enum mr_journal_file_state {
    MR_JOURNAL_FILE_ABSENT,
    MR_JOURNAL_FILE_PREPARING,
    MR_JOURNAL_FILE_READY,  /* written through, empty, with a generation of its own */
    MR_JOURNAL_FILE_ACTIVE, /* the open commit goes there */
    MR_JOURNAL_FILE_FULL,   /* holds live commits only */
};

struct mr_journal_file {
    enum mr_journal_file_state state;
    int32_t                    handle;
    uint64_t                   generation;
    uint64_t                   number;    /* of its use; grows; 0: never used */
    uint64_t                   first_seq; /* FULL, ACTIVE */
    uint64_t                   end_seq;   /* last sequence in it */
    uint64_t                   used;      /* bytes, header included */
};

void mr_journal_file_name(char name[MR_JOURNAL_NAME], uint32_t ring, uint32_t index);
void mr_journal_file_head(uint8_t block[MR_JOURNAL_BLOCK], const struct mr_commit_key *key,
                          uint64_t incarnation);
bool mr_journal_file_head_check(const uint8_t *block, const struct mr_uuid *directory_id, uint32_t ring,
                                uint64_t *generation);

/* ---- journal_state.c ---- */

#define MR_STATE_SLOT_STEP   65536u
#define MR_STATE_DATA        131072u /* blocks begin here */
#define MR_STATE_BLOCK_HEAD  64u
#define MR_STATE_BLOCK_MAX   (4u << 20)
#define MR_STATE_RECORD_HEAD 192u

struct mr_state_slot {
    uint64_t number;
    uint64_t incarnation;
    uint64_t start_seq;   /* what is below is in segments, synced */
    uint64_t durable_seq; /* the chain reaches at least here */
    uint64_t end_pos;     /* of the blocks that count */
    uint32_t files;       /* bit n: file n may hold commits */
    uint64_t file_bytes;  /* of each of them */
};

struct mr_journal_state_out {
    uint8_t *block;
    uint32_t used;   /* of the block */
    uint32_t record; /* where the current record begins */
    uint32_t count;
    bool     is_over; /* the current record does not fit */
};

/* Where a state record stands in its ring's chain: it contains everything before entry `index` of `seq`. */
struct mr_state_stamp {
    uint64_t seq;
    uint32_t index;
};

#define MR_STATE_LOST      1u /* record flag: offsets [lost_from, lost_to) are gone */
#define MR_STATE_NAME_ONLY 2u /* record flag: no state is known */

struct mr_state_record {
    struct mr_journal_state_view view;
    struct mr_state_stamp        stamp;
    uint32_t                     flags;
    int64_t                      lost_from;
    int64_t                      lost_to;
};

void mr_journal_state_name(char name[MR_JOURNAL_NAME], uint32_t ring);
#define MR_STATE_BASE     "millrace-state-base"
#define MR_STATE_BASE_NEW "millrace-state-base-new"

void mr_journal_state_slot_store(uint8_t block[MR_JOURNAL_BLOCK], const struct mr_uuid *directory_id,
                                 uint32_t ring, const struct mr_state_slot *slot);
bool mr_journal_state_slot_load(const uint8_t *block, const struct mr_uuid *directory_id, uint32_t ring,
                                struct mr_state_slot *slot);

void mr_journal_state_begin_block(struct mr_journal_state_out *out, uint8_t *block);
void mr_journal_state_begin(struct mr_journal_state_out *out, const struct mr_journal_log_name *name,
                            struct mr_state_stamp stamp);
void mr_journal_state_set_lost(struct mr_journal_state_out *out, uint32_t flags, int64_t from, int64_t to);
/* False: it did not fit; the block is as before the record. */
bool mr_journal_state_end(struct mr_journal_state_out *out);
/* Returns the padded size of the block. */
uint32_t mr_journal_state_end_block(struct mr_journal_state_out *out, const struct mr_uuid *directory_id,
                                    uint64_t incarnation, uint64_t number);
/* The size of the block at `bytes`, or 0 when there is none. */
uint32_t mr_journal_state_block_check(const uint8_t *bytes, uint64_t room,
                                      const struct mr_uuid *directory_id, uint64_t incarnation,
                                      uint64_t number);
/* Walk the records of a checked block; *at begins with 0. False at the end (or at damage: a lie under a CRC). */
bool mr_journal_state_next(const uint8_t *block, uint32_t *at, struct mr_state_record *record);

/* ---- recycle.c, journal.c ---- */

enum mr_recycle_step {
    MR_RECYCLE_IDLE,
    MR_RECYCLE_SETTLE,  /* what was added so far becomes durable */
    MR_RECYCLE_SYNC_FS, /* segments */
    MR_RECYCLE_CREATE,  /* the new state file, when the old one has grown */
    MR_RECYCLE_GATHER,  /* a block of records waits until its contents are durable */
    MR_RECYCLE_WRITE,   /* the block */
    MR_RECYCLE_SYNC,    /* the state file */
    MR_RECYCLE_SLOT,    /* the checkpoint */
    MR_RECYCLE_SYNC_NEW, /* slot and blocks of the new file */
    MR_RECYCLE_RENAME,
    MR_RECYCLE_SYNC_DIR,
    MR_RECYCLE_CLOSE, /* the old state file */
    MR_RECYCLE_HEAD,  /* the file gets its new generation */
};

struct mr_recycle {
    enum mr_recycle_step        step;
    bool                        is_busy; /* `op` is with the disk */
    struct mr_disk_op           op;
    uint32_t                    file; /* index */
    uint64_t                    end_seq;
    uint64_t                    wait_seq;
    uint64_t                    not_before_ns;
    bool                        is_rewriting;
    bool                        is_gathered; /* no log is left */
    int32_t                     new_handle;
    struct mr_list              kept; /* logs with entries above end_seq */
    struct mr_list             *next; /* rewriting: the next of journal->all */
    struct mr_journal_state_out out;
    uint32_t                    block_bytes;
    uint64_t                    generation;
};

enum mr_prepare_step {
    MR_PREPARE_IDLE,
    MR_PREPARE_SPACE,
    MR_PREPARE_OPEN,
    MR_PREPARE_FILL, /* zeros, a piece at a time */
    MR_PREPARE_SYNC,
    MR_PREPARE_SYNC_DIR,
    MR_PREPARE_HEAD,
    MR_PREPARE_SETTLE, /* no checkpoint is under way */
    MR_PREPARE_LIST,   /* a slot that counts the file among those in use */
    MR_PREPARE_UNDO_CLOSE, /* no space: away with it */
    MR_PREPARE_UNDO,
};

struct mr_prepare {
    enum mr_prepare_step step;
    bool                 is_busy;
    struct mr_disk_op    op;
    uint32_t             file;
    uint64_t             filled;
    uint64_t             not_before_ns;
    char                 name[MR_JOURNAL_NAME];
};

enum mr_commit_step {
    MR_COMMIT_IDLE,
    MR_COMMIT_WRITING,
    MR_COMMIT_SYNCING,
};

struct mr_journal {
    struct mr_journal_params params;
    struct mr_uuid           directory_id;
    struct mr_prng           prng;
    int32_t                  root;
    uint64_t                 incarnation;
    uint64_t                 file_bytes;
    uint32_t                 direct; /* MR_DISK_DIRECT, or 0 where it is refused */
    struct mr_now            now;

    struct mr_journal_file files[MR_JOURNAL_FILES_MAX];
    uint32_t               active;
    uint64_t               next_number;
    bool                   is_roll_wanted;

    struct mr_commit    commits[2];
    struct mr_commit   *open;
    struct mr_commit   *flying;
    int32_t             flying_handle;
    enum mr_commit_step step;
    struct mr_disk_op   commit_op;
    struct mr_disk_piece commit_writes[MR_COMMIT_WRITES];
    uint32_t            last_crc;
    uint64_t            written_seq;
    uint64_t            durable_seq;
    uint64_t            start_seq;
    uint32_t            opened; /* OPEN entries of this incarnation */
    uint64_t            cover_at_ns;
    bool                is_covered; /* the commit in flight is the empty one */

    struct mr_list dirty;
    struct mr_list all;

    struct mr_prepare prepare;
    struct mr_recycle recycle;
    uint8_t          *zeros;      /* MR_JOURNAL_FILL bytes, never written */
    uint8_t          *head_block; /* for file headers: prepare and recycle one each */
    uint8_t          *recycle_block;
    uint8_t          *state_block;
    int32_t           state_handle;
    uint64_t          state_end;
    uint64_t          state_live; /* bytes after the last rewriting */
    uint64_t          state_blocks;
    uint64_t          slot_number;
    uint32_t          listed; /* bit n: a durable slot says that file n is in use, or the next one will */
    char              state_name[MR_JOURNAL_NAME];
    char              state_new_name[MR_JOURNAL_NAME];

    bool                    is_opened;
    bool                    is_offline;
    bool                    is_growth_short; /* no space for another file */
    bool                    is_state_short;  /* no space for a checkpoint: nothing can be recycled */
    bool                    is_starved;
    struct mr_journal_stats stats;
};

#define MR_JOURNAL_FILL (256u << 10)

uint64_t mr_journal_draw(struct mr_journal *journal);
/* The next slot, as one that begins with start_seq, into `block`; returns where in the state file it belongs. */
uint64_t mr_journal_next_slot(struct mr_journal *journal, uint64_t start_seq, uint8_t block[MR_JOURNAL_BLOCK]);
/* Index of the oldest FULL file, of any READY file; MR_JOURNAL_FILES_MAX: none. */
uint32_t mr_journal_oldest(const struct mr_journal *journal);
uint32_t mr_journal_ready(const struct mr_journal *journal);
bool     mr_journal_file_turn(struct mr_journal *journal);
void     mr_journal_file_done(struct mr_journal *journal);
uint64_t mr_journal_file_deadline_ns(const struct mr_journal *journal);
enum mr_err mr_journal_file_prepare_now(struct mr_journal *journal, uint32_t index);
bool     mr_recycle_turn(struct mr_journal *journal);
void     mr_recycle_done(struct mr_journal *journal);
void     mr_recycle_start(struct mr_journal *journal, uint32_t file);

#endif
