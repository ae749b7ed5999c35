/*
 * image: makes the immutable cluster image of metadata.h out of the state, gives it to the data
 * cores, and frees what no core uses any more.
 *
 *   version   1         2              3
 *   topics    a b       a b' c         a c     b is retired at 2, b' at 3: free them
 *                                              when every data core uses 2, 3 or later
 *
 * Topics are made one by one when they change and shared by all images that contain them. Thread:
 * control; what is published is read by every data core.
 */
#ifndef MILLRACE_CONTROL_IMAGE_H
#define MILLRACE_CONTROL_IMAGE_H

#include "metadata/log_config.h"
#include "metadata/meta.h"

struct mr_images {
    struct mr_heap         *heap;
    const struct mr_config *config;
    struct mr_str           cluster_id;
    int32_t                 node_id;
    uint32_t                data_count;

    const struct mr_image *current; /* NULL: none yet */
    uint64_t               version;
    uint64_t               used[MR_CORES_MAX]; /* by each data core: this version or a later one */
    struct mr_list         retired;            /* in order of version */

    const struct mr_image_topic **by_name; /* the next image's topics */
    const struct mr_image_topic **by_id;
    uint32_t                      topic_count;
    uint32_t                      topic_room;

    struct mr_log_config_values defaults; /* of a topic that sets nothing */
    bool                        has_defaults;

    bool is_any_deleted; /* a topic that the image before had is not in this one */
};

void mr_images_init(struct mr_images *images, struct mr_heap *heap, const struct mr_config *config,
                    struct mr_str cluster_id, int32_t node_id, uint32_t data_count);

/* The storage config of a topic as the state says now. */
void mr_images_log_config(struct mr_images *images, const struct mr_meta *meta,
                          const struct mr_meta_topic *topic, struct mr_log_config *out);

/* Forget the resolved defaults: a broker-level config has changed. */
void mr_images_defaults_changed(struct mr_images *images);

/*
 * Take over what changed in the state and make the next image. Topics with partitions that are
 * still being opened stay out (or as they were) and stay in meta->changed. Topics in `gone` leave
 * it. Returns the new image, or NULL when nothing changed or there is no memory (then it is tried
 * again).
 */
const struct mr_image *mr_images_publish(struct mr_images *images, struct mr_meta *meta);

/* A topic was removed: its image object leaves the next image. */
void mr_images_remove(struct mr_images *images, struct mr_image_topic *topic);

/* IMAGE_DONE: this data core uses `version` or a later one. Frees what nobody uses. */
void mr_images_used(struct mr_images *images, uint32_t data_core, uint64_t version);

#endif
