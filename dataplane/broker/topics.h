/*
 * topics: how the handlers find a partition in the image, and Kafka's error when they do not.
 */
#ifndef MILLRACE_TOPICS_H
#define MILLRACE_TOPICS_H

#include "millrace/base/str.h"
#include "millrace/kafka/errors.h"
#include "millrace/metadata.h"

#include <stdbool.h>
#include <stdint.h>

struct mr_data_core;

/*
 * The partition that this broker leads and has open.
 *
 *   NONE                        `topic` and `partition` are set
 *   NOT_LEADER_OR_FOLLOWER      likewise, but it is led elsewhere, or its log is not open yet
 *   UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION   neither is set, or only `topic`
 */
int16_t mr_topics_find(const struct mr_data_core *core, bool is_by_id, struct mr_str name,
                       const struct mr_uuid *id, int32_t index, const struct mr_image_topic **topic,
                       const struct mr_image_partition **partition);

/* The partition as the image has it now, whoever leads it; NULL when there is none. */
const struct mr_image_partition *mr_topics_partition(const struct mr_data_core *core, bool is_by_id,
                                                     struct mr_str name, const struct mr_uuid *id,
                                                     int32_t index);

/* The broker that clients should turn to; NULL when the image does not know it. */
const struct mr_image_broker *mr_topics_broker(const struct mr_data_core *core, int32_t id);

/* Kafka's rule for names: 1 to 249 of [a-zA-Z0-9._-], not "." or "..". */
bool mr_topics_is_name(struct mr_str name);

/* Put names in ascending order, each once. Returns how many are left. Cost: n log n compares. */
uint32_t mr_topics_sort_names(struct mr_str *names, uint32_t count);

#endif
