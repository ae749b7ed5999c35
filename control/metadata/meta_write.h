/*
 * meta_write: the state of the cluster as the records that make it, in the order in which Kafka writes an image: features,
 * brokers, topics with their partitions, configs, producer ids. A slice at a time, while nothing changes it.
 *
 * What replay only counts (mr_meta.ignored) is not in it: a state with such records is not to be written.
 *
 * Thread: control. Source: Apache Kafka 4.4, MetadataImage.write and the images below it.
 */
#ifndef MILLRACE_CONTROL_META_WRITE_H
#define MILLRACE_CONTROL_META_WRITE_H

#include "metadata/meta.h"

/* Where the next slice begins; all zero: at the beginning. */
struct mr_meta_cursor {
    int                            part;
    uint32_t                       index; /* of a feature, broker, partition or config */
    struct mr_meta_topic          *topic;
    const struct mr_meta_resource *resource;
};

/* Add at least one record and about `max`. Returns whether there are more. */
bool mr_meta_write(const struct mr_meta *meta, struct mr_meta_cursor *cursor, uint32_t max,
                   struct mr_meta_records *records);

#endif
