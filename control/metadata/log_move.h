/*
 * log_move: logs on their way to another log directory (AlterReplicaLogDirs), while they are written.
 *
 *   from  |====== original ======|~~ appends go on ~~| HOLD |            | DROP
 *   to           | OPEN a copy | read, append | ... | rest | START | SETTLE
 *   metadata                                                    ^ the directory in the partition's record
 *
 * The copy is a log of its own beside the original, with the same name in the other directory and a mark. What the
 * original has is read and appended to it, a bounded piece at a time, until little is missing. Then the original takes no
 * more appends (producers are told NOT_LEADER_OR_FOLLOWER and ask again), the rest follows, and when all of it is durable
 * the partition's record names the other directory. That record is the move: whatever happens before it, the copy is
 * dropped, now or by the next start; whatever happens behind it, the original is. There is no moment at which neither
 * counts, and what counts is always complete.
 *
 * A stop gives up what is not decided yet. Source: Apache Kafka 4.4, KIP-113 and KIP-858. Thread: control.
 */
#ifndef MILLRACE_CONTROL_LOG_MOVE_H
#define MILLRACE_CONTROL_LOG_MOVE_H

#include "control_private.h"
#include "metadata/meta.h"

struct mr_log_moves {
    struct mr_list list;   /* in the order of asking */
    uint32_t       active; /* that have something under way */
};

bool mr_log_moves_init(struct mr_control *control);

/*
 * Move a partition's log to that directory; a move of it to another one is given up. Where it is already nothing
 * happens. MR_ERR_NO_MEMORY; MR_ERR_DIR_OFFLINE: the directory, or the log's own.
 */
enum mr_err mr_log_moves_ask(struct mr_control *control, const struct mr_meta_topic *topic, uint32_t partition,
                             uint32_t dir);

/* The copy of a partition's log in that directory, while it is made. */
bool mr_log_moves_copy(const struct mr_control *control, const struct mr_meta_topic *topic, uint32_t partition,
                       uint32_t dir, struct mr_log_ref *ref);

/* Begin what may begin. Whether anything did. */
bool mr_log_moves_turn(struct mr_control *control);

/* Give up what is not decided, end what is: before the storage cores stop. */
void mr_log_moves_stop(struct mr_control *control);

#endif
