/*
 * purgatory: fetches that wait for bytes or for time, and the watches that end the waiting.
 *
 * A watch is one shot: storage answers MOVED once, when the high watermark passes an offset. A fetch
 * that waits is read again at most once per turn, however many of its partitions moved, so once
 * per commit. A MOVED may come after the watch was given up: its token carries a generation.
 *
 * Thread: the data core.
 */
#ifndef MILLRACE_PURGATORY_H
#define MILLRACE_PURGATORY_H

#include "broker/fetch_session.h"
#include "millrace/base/list.h"
#include "millrace/base/pool.h"
#include "millrace/base/timer.h"
#include "millrace/dataplane.h"

struct mr_watch {
    struct mr_fetch_partition *partition;
    uint64_t log_id;
    uint32_t storage_core;
    uint32_t generation;
};

struct mr_purgatory {
    struct mr_pool watches;
    struct mr_list waiting; /* struct mr_fetch.link */
    struct mr_list moved;   /* to be read again before this turn ends */
};

/* One Fetch request while it is served. */
struct mr_fetch {
    struct mr_request *request;
    struct mr_fetch_set *set;
    struct mr_fetch_set own; /* without a session */
    struct mr_list link;     /* purgatory, waiting or moved; relief, reading */
    struct mr_timer timer;
    uint64_t deadline_ns;
    uint32_t bytes_min;
    uint32_t bytes_max;
    enum mr_isolation isolation;
    int16_t error;      /* of the whole request */
    int32_t session_id; /* told in the answer */
    bool is_full;       /* every partition is answered, not only what changed */
    bool is_over;       /* no more waiting */

    /* the pass of reading under way */
    void *block;           /* its memory, also of the answer */
    struct mr_arena arena; /* in it */
    struct mr_lent_span *spans;
    uint32_t span_max;
    uint32_t span_count;
    uint8_t *copies;
    uint32_t copy_max;
    uint32_t copy_used;
    struct mr_aborted_range *aborted; /* of a committed read */
    uint32_t aborted_used;
    struct mr_read_op *ops; /* per storage core; sent one after the other */
    struct mr_lent *lents;
    uint32_t next_core;
    uint32_t bytes;
    uint64_t read_since_ns;
    bool is_reading;
    bool is_any_error;
};

size_t mr_purgatory_memory(const struct mr_data_plan *plan);
void mr_purgatory_init(struct mr_data_core *core, struct mr_arena *arena);

/* Wake when the end of the partition's log that readers of this isolation see passes `offset`. False: no watch
 * left. */
bool mr_watch_arm(struct mr_data_core *core, struct mr_fetch_partition *partition, int64_t offset,
                  enum mr_isolation isolation);
void mr_watch_disarm(struct mr_data_core *core, struct mr_fetch_partition *partition);

/* One entry of a MR_PLANE_MOVED. */
void mr_purgatory_moved(struct mr_data_core *core, uint64_t token);

/* Wait until something moves or the deadline comes; `poll_ns` bounds the sleep when a watch is missing. */
void mr_purgatory_wait(struct mr_fetch *fetch, uint64_t until_ns);
void mr_purgatory_leave(struct mr_fetch *fetch);

/* Read again what moved in this turn. */
void mr_purgatory_run(struct mr_data_core *core);

/* A new image, or the end: every fetch that waits is looked at. */
void mr_purgatory_wake_all(struct mr_data_core *core, bool is_over);

/* handle_fetch.c */
void mr_fetch_again(struct mr_fetch *fetch);      /* waiting is over or something moved */
void mr_fetch_cancel(struct mr_request *request); /* its connection closes: stop waiting */
void mr_fetch_drop(struct mr_request *request);   /* the request ends */

#endif
