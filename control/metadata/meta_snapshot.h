/*
 * meta_snapshot: reads a checkpoint of the metadata log: `millrace format` and Kafka's format leave
 * one at offset 0, brokers leave later ones (ours: meta_checkpoint.h). And the control records in both.
 *
 *   [control: header, kraft version, voters] [data] ... [data] [control: footer]
 *
 * Without a footer the file is not whole and counts for nothing. Pure: works on bytes.
 * Source: Apache Kafka 4.4, KIP-630, KIP-853; kraft-broker facts, section 4.
 */
#ifndef MILLRACE_CONTROL_META_SNAPSHOT_H
#define MILLRACE_CONTROL_META_SNAPSHOT_H

#include "metadata/meta.h"
#include "millrace/batch.h"

/* Types of control records in KRaft logs: the second int16 of the key. */
enum mr_meta_control_type {
    MR_META_CONTROL_LEADER_CHANGE = 2,
    MR_META_CONTROL_SNAPSHOT_HEADER = 3,
    MR_META_CONTROL_SNAPSHOT_FOOTER = 4,
    MR_META_CONTROL_KRAFT_VERSION = 5,
    MR_META_CONTROL_VOTERS = 6,
};

/* What control records say, here or in the log. */
struct mr_meta_kraft {
    int16_t  version;
    uint8_t *voters; /* the value of the last VOTERS record, heap; NULL: none */
    int32_t  voters_len;
    bool     is_in_log; /* seen in the log, not only in the checkpoint at 0 */
    bool     has_footer;
};

/* Called for each data record. */
typedef enum mr_err mr_meta_record_fn(void *user, int64_t offset, struct mr_blob value);

/*
 * Walk the batches of a piece of log or checkpoint: CRC, then each data record to `fn`, each
 * control record into `kraft`.
 *
 *   offset_min    records below it are skipped (a batch may begin before the place asked for)
 *   last_epoch    [in out] raised to the leader epoch of the batches
 *   next_offset   [out] after the last batch
 *
 * Errors: those of `fn`; CORRUPT, TRUNCATED, INVALID_RECORD when the bytes are not whole batches.
 */
enum mr_err mr_meta_snapshot_walk(struct mr_heap *heap, const uint8_t *bytes, size_t len,
                                  int64_t offset_min, struct mr_meta_kraft *kraft,
                                  int32_t *last_epoch, int64_t *next_offset, mr_meta_record_fn *fn,
                                  void *user);

/* Add a control record to a batch: the message in version 0, or a value that is encoded already. False: it does not fit. */
bool mr_meta_control_add(struct mr_batch_builder *builder, int64_t timestamp_ms,
                         enum mr_meta_control_type type, const struct mr_msg *msg,
                         const void *message);
bool mr_meta_control_add_value(struct mr_batch_builder *builder, int64_t timestamp_ms,
                               enum mr_meta_control_type type, struct mr_blob value);

/* The (end offset, epoch) in the name of a checkpoint,
 * "00000000000000000000-0000000000.checkpoint". */
bool mr_meta_snapshot_name_parse(struct mr_str name, int64_t *end_offset, int32_t *epoch);

#endif
