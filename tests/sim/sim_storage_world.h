/*
 * sim_storage_world: the inside of sim_storage. sim_storage.c is a life of the core, its turns, start and end; model_send.c what is
 * asked of it, model_answer.c whether the answer fits, sim_liar.c its disk. tests/crash takes a run apart.
 *
 * A world is a device, what was promised about the logs on it, and, while it lives, a storage core. Thread: one.
 */
#ifndef MILLRACE_TESTS_SIM_STORAGE_WORLD_H
#define MILLRACE_TESTS_SIM_STORAGE_WORLD_H

#include "model_log.h"
#include "sim_disk.h"
#include "sim_storage.h"

#include "millrace/base/log.h"
#include "millrace/base/prng.h"
#include "millrace/storage.h"

#define SLOTS        4u  /* logs */
#define CALLS        12u /* operations under way */
#define ENTRIES      3u  /* of one operation */
#define SPANS        64u
#define HELD         16u /* lent spans that are kept for a while */
#define WATCHES      16u
#define RING_SLOTS   64u
#define SPILL_SLOTS  256u
#define CORES_MAX    3u
#define STEPS_MAX    300000u /* until an answer */
#define COPY_BYTES   16384u
#define READ_MAX     (1u << 20)
#define LOG_DIR      "/data"
#define KEYS_MAX     12u
#define DATA         0u /* the endpoint of who asks */

/* A partition, as control would know it. */
struct slot {
    struct mr_model_log  model;
    struct mr_log_config config;
    uint64_t             log_id;
    uint32_t             generation; /* of the topic id */
    int32_t              leader_epoch;
    uint32_t             deletes; /* DeleteRecords under way */
    bool                 is_there;
    bool                 is_dropping; /* or being opened: nothing else is sent to it */
    bool                 is_doomed;   /* a DROP was sent: after a crash it is sent again, as control does */
    bool                 is_keyed;    /* compacted: of each key at least the newest record stays */
    bool                 is_internal; /* written as a coordinator does */
    uint32_t             keys;
    bool                 has_tombstones;
    int64_t              newest[KEYS_MAX]; /* of what was read last from its beginning on */
    char                 topic[8];
};

/* What is expected of one entry. */
struct note {
    struct slot *slot;
    uint32_t     generation;
    enum mr_err  want;
    int64_t      base;
    int64_t      end;   /* after the batch, or after the one that it repeats */
    int64_t      floor; /* when it was sent */
    int64_t      start;
};

struct call {
    bool is_used;
    bool is_done;
    uint32_t core; /* that is asked: the owner of the logs in `notes`, where there are any */
    uint32_t count;
    struct note notes[ENTRIES];
    union {
        struct mr_storage_op        op;
        struct mr_append_op         append;
        struct mr_read_op           read;
        struct mr_list_offsets_op   list;
        struct mr_epoch_end_op      epoch;
        struct mr_delete_records_op delete;
        struct mr_log_stat_op       stat;
        struct mr_open_op           open;
        struct mr_drop_op           drop;
        struct mr_recover_op        recover;
        struct mr_stop_op           stop;
    } u;
    union {
        struct mr_append_entry         append[ENTRIES];
        struct mr_read_entry           read[ENTRIES];
        struct mr_list_offsets_entry   list[ENTRIES];
        struct mr_epoch_end_entry      epoch[ENTRIES];
        struct mr_delete_records_entry delete[ENTRIES];
        struct mr_log_stat_entry       stat[ENTRIES];
    } e;
    struct mr_span      batch_spans[ENTRIES][2];
    struct mr_lent_span spans[SPANS];
    uint8_t             copy[COPY_BYTES];
    uint8_t             batches[ENTRIES][MR_MODEL_BATCH_MAX];
};

struct held {
    struct mr_span span;
    uint64_t       page;
    uint32_t       core; /* whose page it is */
    uint32_t       crc;
};

struct watch {
    struct slot *slot;
    uint32_t     generation;
    int64_t      offset;
    uint64_t     token; /* 0: none */
};

/* The disk as the core sees it: the simulated one, and a lie. */
struct liar {
    struct mr_disk  disk;
    struct world   *world;
    struct mr_disk *honest;
    enum mr_sim_lie lie;
    struct mr_prng  prng;
    struct mr_list  unserved; /* operations that were "done" without doing */
};

/* A storage core, and what it stands on. */
struct shard {
    uint8_t                *memory; /* kept from life to life */
    size_t                  memory_bytes;
    struct mr_log           log;
    struct liar             liar;
    struct mr_storage_core *core;
};

struct world {
    struct mr_prng                prng;
    struct mr_sim_storage_result *result;
    enum mr_sim_lie               lie;
    bool                          is_verbose;
    struct mr_sim_fs             *fs;
    struct mr_now                 now;
    struct mr_storage_plan        plan;
    struct mr_endpoints           endpoints;
    struct slot                   slots[SLOTS];
    struct call                   calls[CALLS];
    struct held                   held[HELD];
    struct watch                  watches[WATCHES];
    uint64_t                      next_token;
    bool                          is_faulty; /* the disk may answer errors: so may the core */
    bool                          is_rotten; /* bytes of the journal were turned over: logs may be refused, and begin
                                                where they began at the last clean stop when a state is lost */
    bool                          is_clean;  /* the last life ended with a clean stop */
    bool                          is_full;   /* appends may be refused for lack of space, starts and stops may fail */
    bool                          is_serving; /* neither in a start nor in a stop */
    uint32_t                      traits;    /* enum mr_sim_trait */
    int64_t                       read_end;  /* behind the last batch that was read */
    uint8_t                      *bytes;     /* READ_MAX, and MR_MODEL_BATCH_MAX behind */
    void (*on_op)(struct world *w);          /* behind the submission of each disk operation; NULL: nobody looks */
    void                         *on_op_user;

    /* This life. */
    struct shard    shards[CORES_MAX];
    struct mr_port *ports[CORES_MAX + 2];
};

/* ---- For the files of which a run is made ---- */

static inline uint64_t draw(struct world *w, uint64_t bound)
{
    return mr_prng_below(&w->prng, bound);
}

static inline bool chance(struct world *w, uint64_t percent)
{
    return draw(w, 100) < percent;
}

static inline bool is_failed(const struct world *w)
{
    return w->result->why[0] != '\0';
}

/* What was expected holds no longer: the log is gone, or another's. */
static inline bool is_stale(const struct note *note)
{
    return note->generation != note->slot->generation || note->slot->is_dropping || !note->slot->is_there;
}

/* What was found wrong; the first is kept. */
__attribute__((format(printf, 2, 3))) void mr_sim_storage_fail(struct world *w, const char *format, ...);
#define fail(...) mr_sim_storage_fail(__VA_ARGS__)

static inline uint32_t core_of(const struct world *w, const struct slot *slot)
{
    return mr_storage_owner(mr_str(slot->topic), 0, w->endpoints.storage_count);
}

/* ---- sim_life.c: the storage cores of a life, and time ---- */

/* As many cores as w->endpoints says. At its end the process is gone; the device is as it was, with what was in flight. */
void mr_sim_life_begin(struct world *w);
void mr_sim_life_end(struct world *w);
void mr_sim_life_free(struct world *w); /* the memory that is kept for the next */

/* An operation that is not under way, or NULL. */
struct call *mr_sim_life_free_call(struct world *w);
void         mr_sim_life_send(struct world *w, struct call *call, enum mr_storage_kind kind);

/* One turn of each core, and when none had anything to do, time until one will. False: none ever will. */
bool mr_sim_life_step(struct world *w);
void mr_sim_life_pass(struct world *w, uint64_t at_ns);

/* Until everything that was sent is answered (J10): however the disk behaves, it must be. */
void mr_sim_life_settle(struct world *w);

/* Wait for an operation that is looked at by the caller; its result. */
enum mr_err mr_sim_life_finish(struct world *w, struct call *call);

/* ---- The other files ---- */

/* Over the honest disk of a new life. */
void mr_sim_liar_init(struct liar *liar, struct world *w);

/* An operation was answered; a watch fired. */
void mr_model_answer(struct world *w, struct call *call);
void mr_model_answer_moved(struct world *w, uint64_t token, int64_t high_watermark);

/* One thing that a client does; a read or a search by time. Nothing is sent when there is no log for it. */
void mr_model_send_any(struct world *w);
void mr_model_send_look(struct world *w);
void mr_model_send_open(struct world *w, struct call *call, struct slot *slot);
void mr_model_send_drop(struct world *w, struct call *call, struct slot *slot);
void mr_model_send_stat(struct world *w, struct slot *slot);

/* Of `only` from `offset` on; NULL: of some logs, from where the lot says. */
void mr_model_send_read(struct world *w, struct call *call, struct slot *only, int64_t offset, uint32_t bytes_max);

/* A new topic of an old name. */
void mr_model_send_new_slot(struct world *w, struct slot *slot);

/* Retention may have been at work until now. */
void mr_model_answer_retain(struct world *w, struct slot *slot);

/* ---- model_keyed.c: what a compacted log must still have ---- */

/* What a read of such a log got; nothing that is missing in it may be missing. */
void mr_model_keyed_read(struct world *w, const struct note *note, const struct mr_read_entry *entry, const uint8_t *got);

/* The first record at or behind `from` and before `to` that must be there; with a time, one of at least that time. -1:
 * none. */
int64_t mr_model_keyed_first(const struct slot *slot, int64_t from, int64_t to, int64_t timestamp);

/* It was read from its beginning to its end: each key has its newest record. */
void mr_model_keyed_folded(struct world *w, const struct slot *slot);

/* ---- check_epochs.c ---- */

/* Of a log that was stopped cleanly. */
void mr_check_epochs(struct world *w, const struct slot *slot);

/* ---- For who takes a run apart ---- */

/* A world as the seed draws it, on an empty device; result is filled in as it goes. */
struct world *mr_sim_storage_create(uint64_t seed, enum mr_sim_lie lie, uint32_t traits, bool is_verbose,
                                    struct mr_sim_storage_result *result);
void          mr_sim_storage_destroy(struct world *w);

/* All lives of it. */
void mr_sim_storage_lives(struct world *w);

/* Recover, open and read everything. False: it did not come up; what was found is in the result. */
bool mr_sim_storage_start(struct world *w);

/* So many things that clients do. */
void mr_sim_storage_live(struct world *w, uint64_t steps);

/* So many reads and searches by time, of everything that is there; all are answered. */
void mr_sim_storage_look(struct world *w, uint32_t count);

/* Everything is answered, and then time passes. */
void mr_sim_storage_rest(struct world *w, uint64_t ns);

/* A clean stop; true when it was one. The life is still to be ended. */
bool mr_sim_storage_stop(struct world *w);

/* The disk has space again, and the core has seen it. */
void mr_sim_storage_unfill(struct world *w);

/* What a power cut may take from logs that answer before the flush. */
void mr_sim_storage_forget_unflushed(struct world *w);

#endif
