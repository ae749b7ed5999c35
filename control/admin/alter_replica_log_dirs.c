/*
 * alter_replica_log_dirs: AlterReplicaLogDirs: which partitions are to lie in which directory. The answer says that a
 * move was accepted, not that it is over: DescribeLogDirs shows the copy until then.
 *
 * Source: Apache Kafka 4.4, ReplicaManager: which refusal comes when.
 */
#include "admin/admin.h"
#include "metadata/log_dirs.h"
#include "metadata/log_move.h"
#include "metadata/meta.h"
#include "millrace/kafka/messages.h"

typedef struct mr_alter_replica_log_dirs_request_alter_replica_log_dir                    dir_in;
typedef struct mr_alter_replica_log_dirs_request_alter_replica_log_dir_topic              topic_in;
typedef struct mr_alter_replica_log_dirs_response_alter_replica_log_dir_topic_result     topic_out;
typedef struct mr_alter_replica_log_dirs_response_alter_replica_log_dir_partition_result partition_out;

static int16_t ask(struct mr_control *control, struct mr_str path, struct mr_str name, int32_t index)
{
    const struct mr_log_dirs   *all = control->log_dirs;
    const struct mr_meta_topic *topic = mr_meta_topic_by_name(control->meta, name);
    uint32_t                    dir = 0;
    while (dir < all->count && !mr_str_equal(path, mr_str(all->dirs[dir].path))) {
        dir++;
    }
    if (dir == all->count) {
        return MR_KAFKA_LOG_DIR_NOT_FOUND;
    }
    if (topic == NULL || index < 0 || (uint32_t)index >= topic->partition_count) {
        return MR_KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
    }
    if (control->meta->metadata_version < MR_META_VERSION_DIRECTORIES && all->count > 1) {
        return MR_KAFKA_UNSUPPORTED_VERSION; /* its records cannot say where a log is */
    }
    enum mr_meta_log_state state = topic->partitions[index].log_state;
    if (state != MR_META_LOG_OPEN && state != MR_META_LOG_OFFLINE) {
        return MR_KAFKA_REPLICA_NOT_AVAILABLE;
    }
    return mr_err_kafka(mr_log_moves_ask(control, topic, (uint32_t)index, dir));
}

static bool answer_topic(struct mr_control *control, struct mr_request *request, const dir_in *dir, const topic_in *in,
                         topic_out *out)
{
    int32_t count = in->partitions_count > 0 ? in->partitions_count : 0;
    out->topic_name = in->name;
    out->partitions = MR_REQUEST_NEW(control, request, partition_out, count);
    if (out->partitions == NULL) {
        return false;
    }
    for (; out->partitions_count < count; out->partitions_count++) {
        int32_t index = in->partitions[out->partitions_count];
        out->partitions[out->partitions_count] =
            (partition_out){.partition_index = index, .error_code = ask(control, dir->path, in->name, index)};
    }
    return true;
}

void mr_admin_alter_replica_log_dirs(struct mr_control *control, struct mr_now now, struct mr_request *request)
{
    const struct mr_alter_replica_log_dirs_request *in = request->message;
    struct mr_alter_replica_log_dirs_response       out = {0};
    size_t                                          room = 0;
    (void)now;
    for (int32_t dir = 0; dir < in->dirs_count; dir++) {
        room += in->dirs[dir].topics_count > 0 ? (size_t)in->dirs[dir].topics_count : 0;
    }
    out.results = MR_REQUEST_NEW(control, request, topic_out, room);
    bool has_memory = out.results != NULL;
    for (int32_t dir = 0; dir < in->dirs_count && has_memory; dir++) {
        for (int32_t at = 0; at < in->dirs[dir].topics_count && has_memory; at++) {
            has_memory = answer_topic(control, request, &in->dirs[dir], &in->dirs[dir].topics[at],
                                      &out.results[out.results_count++]);
        }
    }
    if (!has_memory) {
        mr_control_reply_close(control, request);
        return;
    }
    mr_control_reply(control, request, &out);
}
