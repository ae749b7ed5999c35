/*
 * model_log: what a log must be, so simply said that it is obviously right.
 *
 * A log is the list of the batches that were sent to it and accepted, in order; a batch is a handful of
 * numbers from which its bytes are made again whenever they are compared. Offsets, what producers
 * may do, where a timestamp is found and what lies behind an offset are read off that list. What a crash
 * may take is the tail of the list beyond `floor`: everything below was acknowledged or seen.
 */
#ifndef MILLRACE_TESTS_MODEL_LOG_H
#define MILLRACE_TESTS_MODEL_LOG_H

#include "millrace/batch.h"

#define MR_MODEL_BATCHES    1024u
#define MR_MODEL_BATCH_MAX  (80u << 10)

struct mr_model_batch {
    int64_t  base; /* assigned by the model */
    int32_t  epoch;
    uint64_t seed;
    int64_t  timestamp; /* of the first record */
    int64_t  producer_id; /* -1: none */
    int16_t  producer_epoch;
    int32_t  sequence;
    int32_t  count;
    uint32_t value_bytes; /* of each record */
    uint32_t keys;        /* records have one of so many keys; 0: none */
    bool     has_tombstones;
    uint32_t bytes;       /* of all; 0 until made once */
};

struct mr_model_log {
    struct mr_model_batch batches[MR_MODEL_BATCHES];
    uint32_t              batch_count;
    int64_t               end;         /* after all of them */
    int64_t               floor;       /* below it nothing may be lost */
    int64_t               start;       /* the log start that was promised */
    int64_t               start_asked; /* the highest that was asked for: a crash leaves one of the two */
};

/* Empty, beginning at 0. */
void mr_model_log_init(struct mr_model_log *log);

/* The bytes of a batch as they must be read: at most MR_MODEL_BATCH_MAX. Returns how many. */
uint32_t mr_model_batch_make(struct mr_model_batch *batch, uint8_t *out);

/* A record's key (below batch->keys), and whether it has no value. */
uint32_t mr_model_batch_key(const struct mr_model_batch *batch, int32_t index);
bool     mr_model_batch_is_tombstone(const struct mr_model_batch *batch, int32_t index);

/* Of those that have one: batch->value_bytes, all the same; `value` has MR_MODEL_BATCH_MAX bytes. */
void mr_model_batch_value(const struct mr_model_batch *batch, uint8_t *value);

/* The time of record `index` of a batch: not rising, so that the largest one is anywhere. */
int64_t mr_model_batch_time(const struct mr_model_batch *batch, int32_t index);

/*
 * What appending must answer: MR_OK and the base offset; MR_ERR_EXISTS and the base offset of the batch that
 * this one repeats; or the error. Changes nothing.
 */
enum mr_err mr_model_log_judge(const struct mr_model_log *log, const struct mr_model_batch *batch, int64_t *base);

/* What lies below `offset` was acknowledged or seen: it may not be lost any more. */
void mr_model_log_see(struct mr_model_log *log, int64_t offset);

/* Add a batch that was judged MR_OK; the last one was not taken after all. */
void mr_model_log_add(struct mr_model_log *log, const struct mr_model_batch *batch);
void mr_model_log_drop_last(struct mr_model_log *log);

/* The index of the batch that holds `offset`, or batch_count. */
uint32_t mr_model_log_find(const struct mr_model_log *log, int64_t offset);

/* The log ends at `end` now: false when that is inside a batch, lost something, or is beyond the end. */
bool mr_model_log_cut(struct mr_model_log *log, int64_t end);

/* The first record at or behind `from` (and before `to`) whose time is at least `timestamp`, or -1. */
int64_t mr_model_log_at_time(const struct mr_model_log *log, int64_t from, int64_t to, int64_t timestamp,
                             int64_t *found);

/* Where retention may have moved the log start by now. */
struct mr_model_retention {
    int64_t bytes; /* -1: all */
    int64_t ms;    /* -1: for ever */
};
int64_t mr_model_log_start_max(struct mr_model_log *log, const struct mr_model_retention *retention, int64_t now_ms);

#endif
