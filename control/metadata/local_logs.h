/*
 * local_logs: the logs of this broker follow the state: partitions that got a replica here are
 * opened, changed configs reach storage, logs of removed topics are dropped.
 *
 *   state durable > mr_local_logs_follow > work list > OPEN, CONFIGURE per partition
 *                                        > drop list > DROP per partition, by name where it is not open
 *
 * With several log directories a log is opened where its partition's record says. When the broker starts it may lie in
 * another one (Apache Kafka moves logs, and so do people): then it is looked for in all that are there, and the record is
 * corrected. Where the directory is offline nothing is opened; nothing is made in place of a log that may be there.
 *
 * Work is pipelined: at most LOCAL_OPS operations are with storage. Each piece of work has a number
 * that rises; mr_local_logs_done_to says which numbers are done, so that an answer can wait for the
 * work that its request caused. A topic waits for the drops of an older topic of its name: both
 * have the same directory names.
 *
 * Thread: control.
 */
#ifndef MILLRACE_CONTROL_LOCAL_LOGS_H
#define MILLRACE_CONTROL_LOCAL_LOGS_H

#include "control_private.h"
#include "metadata/meta.h"

struct mr_local_logs {
    struct mr_list          work;  /* struct local_work, in order of number */
    struct mr_list          drops; /* struct local_drop, likewise */
    struct mr_table dropping; /* the same by name: a topic of that name waits */
    uint64_t                number;
    uint32_t                in_flight;
    uint64_t                failed; /* opens that failed and are tried again */
    struct mr_control_timer retry;
    bool                    is_stopped; /* nothing new is sent */
};

bool mr_local_logs_init(struct mr_control *control);

/* Look at what changed in the state (which must be durable) and queue the work. Returns the
 * number of the last work queued. */
uint64_t mr_local_logs_follow(struct mr_control *control, struct mr_now now);

/* Send what may be sent. Whether anything was. */
bool mr_local_logs_turn(struct mr_control *control, struct mr_now now);

/* Every work with this number or a lower one is done. */
bool mr_local_logs_done_to(const struct mr_local_logs *logs, uint64_t number);

/* Whether logs of a removed topic of this name are being dropped: its directories are not free yet. */
bool mr_local_logs_is_dropping(const struct mr_control *control, struct mr_str name);

/* Try the logs again that could not be opened; a timer does, too. */
void mr_local_logs_again(struct mr_control *control);

/* Send nothing new. */
void mr_local_logs_stop(struct mr_control *control);

#endif
