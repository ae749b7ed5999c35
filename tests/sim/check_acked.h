/*
 * check_acked: what clients were promised about records, and whether the logs keep it.
 *
 * Every record that a simulated producer sends carries a value unique in the run. The checker knows of
 * each value who sent it where, of each (log, offset) what was acknowledged there and what was ever
 * seen, of each log how far it was readable and where it may begin. It finds:
 *
 *   an acknowledged record that is gone, or elsewhere          (reliability.md 1.2: A1, A2, A10)
 *   two values at one offset, over the life of the log         (A4)
 *   a value that nobody sent, or that was sent to another log  (A19)
 *   a value twice, or values of one producer out of order, where the producer is idempotent (A3, P5)
 *   a high watermark that moves backwards                      (A21)
 *   a log that begins later than anybody asked for, or than retention.bytes allows   (A20)
 *   DeleteRecords answered with less than it was asked for
 *   appends that go on though the disk has only its reserve left
 *   an error where nothing was damaged, bytes that are gone though they were not touched   (reliability.md S4)
 *
 * Damage: what the simulation spoiled in a segment is excused: it may be refused, for ever, and nothing else may.
 *
 * A log is a topic id and a partition: a topic that is deleted and made again has others.
 *
 * Memory: the caller's arena; a run is bounded. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_CHECK_ACKED_H
#define MILLRACE_TESTS_CHECK_ACKED_H

#include "millrace/base/arena.h"
#include "millrace/base/str.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_CHECK_LOGS      96u
#define MR_CHECK_PRODUCERS 64u
#define MR_CHECK_NO_LOG    UINT32_MAX
#define MR_CHECK_DAMAGES   16u /* of one log */
#define MR_CHECK_OVERHEAD  100u /* of one record in the log, at most: a batch of its own */

/* Records [first, end) were spoiled. */
struct mr_check_damage {
    int64_t first;
    int64_t end;
};

struct mr_check_log {
    struct mr_uuid topic;
    uint32_t       partition;
    uint64_t      *seen;  /* by offset: the value ever seen there + 1; 0: none */
    uint64_t      *acked; /* by offset: the value acknowledged there + 1 */
    int64_t        acked_end; /* highest acknowledged offset + 1 */
    int64_t        watermark; /* the highest that a client was told */
    int64_t        start_asked; /* the log may begin as late as this */
    int64_t        start_done;  /* and as early as this */
    bool           is_deletion_asked; /* it may be gone */
    bool           is_final; /* the final read has reached its end */
    int64_t        start_final;     /* where the log begins in the final read */
    int64_t        retention_bytes; /* of the log; -1: nothing goes by itself */
    uint64_t       below_acked_ns; /* when an append was first acknowledged though the disk was below its floor; 0: none was */
    uint32_t       damage_count;
    struct mr_check_damage damages[MR_CHECK_DAMAGES];
    uint64_t       last_value[MR_CHECK_PRODUCERS]; /* in the final read, of each producer, + 1 */
};

struct mr_check_value {
    uint32_t log;
    uint16_t producer;
    bool     is_idempotent;
    bool     is_stored; /* acknowledged without an offset */
    uint32_t bytes;
    uint8_t  final_count;
};

struct mr_check_acked {
    struct mr_arena       *arena;
    struct mr_check_log   *logs;
    uint32_t               log_count;
    struct mr_uuid         doomed[MR_CHECK_LOGS]; /* topics whose deletion was asked for */
    uint32_t               doomed_count;
    struct mr_check_value *values;
    uint64_t               offsets_max;
    uint64_t               values_max;
    uint64_t               value_next;
    uint64_t               acked_count;
    uint64_t               below_ns; /* since when the disk has less than its reserve; 0: it has more, or times are not judged */
    char                   why[256]; /* the first violation; "" while there is none */
};

void mr_check_acked_init(struct mr_check_acked *check, struct mr_arena *arena, uint64_t offsets_max,
                         uint64_t values_max);

/* The log of (topic, partition), known from now on; MR_CHECK_NO_LOG: there were too many. */
uint32_t mr_check_acked_log(struct mr_check_acked *check, const struct mr_uuid *topic, uint32_t partition);

/* A value to send, `bytes` long: unique; the producer sends it until it knows. */
uint64_t mr_check_acked_new_value(struct mr_check_acked *check, uint32_t log, uint32_t producer,
                                  bool is_idempotent, uint32_t bytes);

/* The broker acknowledged `value` at `offset`. */
void mr_check_acked_ack(struct mr_check_acked *check, uint32_t log, int64_t offset, uint64_t value);

/* Whether the disk has less than what is kept for everything but appends, now. */
void mr_check_acked_floor(struct mr_check_acked *check, bool is_below, uint64_t now_ns);

/* An append to the log that was sent at `sent_ns` was acknowledged. Who appends makes the broker ask how much is left: below the
 * floor one log gets in what comes before the answer, and no more. */
void mr_check_acked_appended(struct mr_check_acked *check, uint32_t log, uint64_t sent_ns, uint64_t now_ns);

/* The broker said that it has `value`, not where. */
void mr_check_acked_stored(struct mr_check_acked *check, uint64_t value);

/* A consumer was given `value` at `offset`; `start` is the log's start_done when it asked; is_final: in the last
 * read, from start to end. */
void mr_check_acked_see(struct mr_check_acked *check, uint32_t log, int64_t start, int64_t offset, uint64_t value,
                        bool is_final);

/* A client was told the high watermark; `floor` is what had been told to anybody when it asked. */
void mr_check_acked_watermark(struct mr_check_acked *check, uint32_t log, int64_t floor, int64_t watermark);

/* DeleteRecords up to `offset` was sent; it was answered with `low`; a log start was seen. */
void mr_check_acked_delete_asked(struct mr_check_acked *check, uint32_t log, int64_t offset);
void mr_check_acked_delete_done(struct mr_check_acked *check, uint32_t log, int64_t offset, int64_t low);
void mr_check_acked_start(struct mr_check_acked *check, uint32_t log, int64_t start);

/* The log has retention.bytes, from its first record on: its oldest records may go while `bytes` remain. */
void mr_check_acked_retention(struct mr_check_acked *check, uint32_t log, int64_t bytes);

/* Records [first, end) of the log were spoiled where they lie; end INT64_MAX: everything from there on. */
void mr_check_acked_damage(struct mr_check_acked *check, uint32_t log, int64_t first, int64_t end);

/* An error instead of the record at `offset`: where reading may go on. Not excused: a violation, and -1. */
int64_t mr_check_acked_error(struct mr_check_acked *check, uint32_t log, int64_t offset, int16_t error);

/* Whether anything of the log was spoiled: it may refuse appends. */
bool mr_check_acked_is_damaged(const struct mr_check_acked *check, uint32_t log);

/* DeleteTopics was sent. */
void mr_check_acked_topic_deletion_asked(struct mr_check_acked *check, const struct mr_uuid *topic);

/* The final read of this log is complete. */
void mr_check_acked_final(struct mr_check_acked *check, uint32_t log);

/* After the final read of everything: every acknowledgement was seen, nothing twice. */
bool mr_check_acked_finish(struct mr_check_acked *check);

static inline bool mr_check_acked_is_ok(const struct mr_check_acked *check)
{
    return check->why[0] == '\0';
}

#endif
