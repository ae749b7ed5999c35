/*
 * metadata: the cluster image, immutable, as all planes read it.
 *
 * Control builds an image by replaying metadata records and publishes it as MR_PLANE_IMAGE; a plane
 * uses the newest one it was given and says IMAGE_DONE about the one before, which may then be
 * freed. Topics are separate immutable objects shared by successive images, so an image of 10,000
 * topics costs its two pointer arrays. Nothing here is written after publication.
 */
#ifndef MILLRACE_METADATA_H
#define MILLRACE_METADATA_H

#include "millrace/base/hash.h"
#include "millrace/base/str.h"
#include "millrace/storage.h"

#include <stdbool.h>
#include <stdint.h>

struct mr_image_partition {
    int32_t        leader; /* -1: none */
    int32_t        leader_epoch;
    int32_t        partition_epoch;
    uint32_t       replica_count;
    uint32_t       isr_count;
    const int32_t *replicas;
    const int32_t *isr;

    /* the replica on this broker: */
    uint64_t log_id;       /* 0: none, or not open yet (then LEADER_NOT_AVAILABLE) */
    uint32_t storage_core; /* who owns it */
    bool     is_offline;   /* its log directory has failed: storage refuses what is asked of it */
};

struct mr_image_topic {
    struct mr_str                    name;
    struct mr_uuid                   id;
    bool                             is_internal;
    uint32_t                         partition_count;
    const struct mr_image_partition *partitions;
    struct mr_log_config             config; /* resolved */
};

struct mr_image_broker {
    int32_t       id;
    struct mr_str host; /* of the listener that clients use */
    int32_t       port;
    struct mr_str rack; /* null: none */
    bool          is_fenced;
};

struct mr_image_feature {
    struct mr_str name;
    int16_t       level;
};

/* Limits of connections as they are set now: by file, or at run time for this broker or for all. */
struct mr_image_limits {
    int64_t       connections; /* max.connections */
    int64_t       per_ip;      /* max.connections.per.ip */
    int64_t       rate;        /* max.connection.creation.rate */
    struct mr_str overrides;   /* max.connections.per.ip.overrides */
};

struct mr_image {
    uint64_t      version; /* rises with each publication */
    int64_t       offset;  /* of the last metadata record in it */
    struct mr_str cluster_id;
    int32_t       node_id;       /* this broker */
    int32_t       controller_id; /* a live broker, as Kafka answers */

    uint32_t                      broker_count;
    const struct mr_image_broker *brokers;
    uint32_t                      feature_count; /* finalized, level > 0 */
    const struct mr_image_feature *features;

    uint32_t                            topic_count;
    const struct mr_image_topic *const *topics;       /* sorted by name */
    const struct mr_image_topic *const *topics_by_id; /* sorted by id */

    bool is_auto_create; /* auto.create.topics.enable */

    const struct mr_image_limits *limits; /* NULL: as configured */
};

/* The level at which a feature is finalised; 0: it is not. */
static inline int16_t mr_image_feature_level(const struct mr_image *image, struct mr_str name)
{
    for (uint32_t index = 0; index < image->feature_count; index++) {
        if (mr_str_equal(image->features[index].name, name)) {
            return image->features[index].level;
        }
    }
    return 0;
}

/* NULL when absent. Cost: O(log topics). Any thread that holds the image. */
static inline const struct mr_image_topic *mr_image_topic_by_name(const struct mr_image *image,
                                                                  struct mr_str name)
{
    uint32_t from = 0;
    uint32_t to = image->topic_count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        int      order = mr_str_compare(image->topics[mid]->name, name);
        if (order == 0) {
            return image->topics[mid];
        }
        if (order < 0) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return NULL;
}

static inline const struct mr_image_topic *mr_image_topic_by_id(const struct mr_image *image,
                                                                const struct mr_uuid *id)
{
    uint32_t from = 0;
    uint32_t to = image->topic_count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        int      order = memcmp(image->topics_by_id[mid]->id.bytes, id->bytes, sizeof id->bytes);
        if (order == 0) {
            return image->topics_by_id[mid];
        }
        if (order < 0) {
            from = mid + 1;
        } else {
            to = mid;
        }
    }
    return NULL;
}

#endif
