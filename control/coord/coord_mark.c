/*
 * coord_mark: markers of transactions into logs; those of __consumer_offsets end what is pending there too.
 */
#include "coord/coord_runtime.h"

#include "millrace/batch.h"

struct mark {
    struct mr_coord_shard *shard;
    uint64_t load;     /* of the shard, when it was sent */
    uint64_t sequence; /* of the shard's last batch before it */
    int64_t producer_id;
    bool is_commit;
    mr_control_append_done *done;
    void *user;
};

static bool is_refusal(enum mr_err err)
{
    return err == MR_ERR_INVALID_PRODUCER_EPOCH || err == MR_ERR_COORDINATOR_FENCED ||
           err == MR_ERR_INVALID_RECORD;
}

static void marked(struct mr_control *control, struct mr_now now, void *user, enum mr_err err,
                   int64_t base_offset)
{
    struct mark mark = *(struct mark *)user;
    struct mr_coord_shard *shard = mark.shard;
    MR_HEAP_DELETE(&control->heap, (struct mark *)user);
    bool is_same = shard->state == MR_COORD_ACTIVE && shard->load_count == mark.load;
    enum mr_err ended = MR_OK;
    if (err == MR_OK && is_same) {
        ended = mr_offsets_pending_end(&shard->groups, mark.producer_id, mark.sequence,
                                       mark.is_commit);
    }
    /* A marker that the log refuses says nothing about the shard; any other failure is one of its log. */
    mr_coord_append_done(control, now, shard, err == MR_OK ? ended : is_refusal(err) ? MR_OK : err,
                         base_offset);
    mark.done(control, now, mark.user, err, base_offset);
}

static bool mark_group(struct mr_control *control, uint32_t partition, struct mr_now now,
                       const struct mr_control_marker *marker, mr_control_append_done *done,
                       void *user)
{
    struct mr_coord *coord = control->coord;
    struct mr_coord_shard *shard =
        partition < coord->shard_count ? coord->shards[partition] : NULL;
    struct mark *mark;
    if (shard == NULL || shard->state != MR_COORD_ACTIVE || coord->is_stopped) {
        return false;
    }
    mr_coord_flush(shard);
    mark = MR_HEAP_NEW(&control->heap, struct mark);
    if (mark == NULL) {
        return false;
    }
    *mark = (struct mark){.shard = shard,
                          .load = shard->load_count,
                          .sequence = shard->sealed,
                          .producer_id = marker->producer_id,
                          .is_commit = marker->marker.is_commit,
                          .done = done,
                          .user = user};
    if (!mr_control_append_marker(control, shard->log, shard->leader_epoch, marker, now, marked,
                                  mark)) {
        MR_HEAP_DELETE(&control->heap, mark);
        return false;
    }
    shard->sealed++;
    return true;
}

bool mr_control_mark(struct mr_control *control, struct mr_str topic, uint32_t partition,
                     struct mr_log_ref log, int32_t leader_epoch,
                     const struct mr_control_marker *marker, struct mr_now now,
                     mr_control_append_done *done, void *user)
{
    if (mr_str_equal(topic, mr_str(control->coord->kind->topic))) {
        return mark_group(control, partition, now, marker, done, user);
    }
    return mr_control_append_marker(control, log, leader_epoch, marker, now, done, user);
}
