package interop;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;

/** Jobs with an Admin client. */
final class Administering {
    private Administering() {}

    static void register(Map<String, Main.Job> jobs) {
        jobs.put("create_topics", Administering::createTopics);
        jobs.put("delete_topics", Administering::deleteTopics);
        jobs.put("topic_id", Administering::topicId);
        jobs.put("add_partitions", Administering::addPartitions);
        jobs.put("describe_all", Administering::describeAll);
        jobs.put("remove_members", Administering::removeMembers);
        jobs.put("alter_topic", Administering::alterTopic);
        jobs.put("topic_config", Administering::topicConfig);
        jobs.put("delete_records", Administering::deleteRecords);
        jobs.put("cluster", Administering::cluster);
        jobs.put("move_log", Administering::moveLog);
        jobs.put("copies", Administering::copies);
    }

    static Admin admin(Args a) {
        Properties p = a.properties("a.");
        p.putIfAbsent("default.api.timeout.ms", "60000");
        return Admin.create(p);
    }

    static String createTopics(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            int n = a.number("count", 1);
            int step = 1000;
            for (int from = 0; from < n; from += step) {
                List<NewTopic> topics = new ArrayList<>();
                for (int i = from; i < Math.min(n, from + step); i++) {
                    String name = n == 1 ? a.get("topic") : a.get("topic") + i;
                    NewTopic t = new NewTopic(name, a.number("partitions", 1), (short) 1);
                    Map<String, String> configs = new HashMap<>();
                    for (Map.Entry<Object, Object> e : a.properties("t.").entrySet()) {
                        if (!e.getKey().equals("bootstrap.servers")) {
                            configs.put((String) e.getKey(), (String) e.getValue());
                        }
                    }
                    t.configs(configs);
                    topics.add(t);
                }
                admin.createTopics(topics).all().get(60, TimeUnit.SECONDS);
            }
            return "created=" + n;
        }
    }

    /** AlterReplicaLogDirs: accepted, not over. */
    static String moveLog(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            TopicPartitionReplica replica = new TopicPartitionReplica(a.get("topic"), a.number("partition", 0), 1);
            admin.alterReplicaLogDirs(Map.of(replica, a.get("path"))).all().get(30, TimeUnit.SECONDS);
            return "";
        }
    }

    /** How many copies are being made. */
    static String copies(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            long n = admin.describeLogDirs(List.of(1)).allDescriptions().get(30, TimeUnit.SECONDS).get(1).values().stream()
                .flatMap(d -> d.replicaInfos().values().stream()).filter(r -> r.isFuture()).count();
            return "copies=" + n;
        }
    }

    static String deleteTopics(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            admin.deleteTopics(List.of(a.get("topic").split(","))).all().get(30, TimeUnit.SECONDS);
            return "";
        }
    }

    static String topicId(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            TopicDescription d =
                admin.describeTopics(List.of(a.get("topic"))).allTopicNames().get(30, TimeUnit.SECONDS).get(a.get("topic"));
            return d.topicId().toString();
        }
    }

    static String addPartitions(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            admin.createPartitions(Map.of(a.get("topic"), NewPartitions.increaseTo(a.number("partitions", 1))),
                                   new CreatePartitionsOptions().validateOnly(a.has("validate_only")))
                .all().get(30, TimeUnit.SECONDS);
            int now = admin.describeTopics(List.of(a.get("topic"))).allTopicNames().get(30, TimeUnit.SECONDS)
                          .get(a.get("topic")).partitions().size();
            return "partitions=" + now;
        }
    }

    /** listTopics and describeTopics of all: how long the second call takes on a warm connection. */
    static String describeAll(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            long best = Long.MAX_VALUE;
            int n = 0;
            for (int round = 0; round < 3; round++) {
                long started = System.nanoTime();
                n = admin.listTopics().names().get(60, TimeUnit.SECONDS).size();
                best = Math.min(best, (System.nanoTime() - started) / 1_000_000);
            }
            return "topics=" + n + " ms=" + best;
        }
    }

    static String removeMembers(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            admin.removeMembersFromConsumerGroup(a.get("group"),
                new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove(a.get("instance")))))
                .all().get(30, TimeUnit.SECONDS);
            return "removed";
        }
    }

    static String alterTopic(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, a.get("topic"));
            List<AlterConfigOp> ops = new ArrayList<>();
            for (Map.Entry<Object, Object> e : a.properties("t.").entrySet()) {
                if (!e.getKey().equals("bootstrap.servers")) {
                    ops.add(new AlterConfigOp(new ConfigEntry((String) e.getKey(), (String) e.getValue()),
                                              AlterConfigOp.OpType.SET));
                }
            }
            admin.incrementalAlterConfigs(Map.of(r, ops)).all().get(30, TimeUnit.SECONDS);
            return "altered=" + ops.size();
        }
    }

    static String topicConfig(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, a.get("topic"));
            ConfigEntry e = admin.describeConfigs(List.of(r)).all().get(30, TimeUnit.SECONDS).get(r).get(a.get("key"));
            return e == null ? "none" : e.value() + " " + e.source();
        }
    }

    static String deleteRecords(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            TopicPartition tp = new TopicPartition(a.get("topic"), 0);
            return "low=" + admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(a.large("before", 0))))
                                .lowWatermarks().get(tp).get(30, TimeUnit.SECONDS).lowWatermark();
        }
    }

    static String cluster(Args a) throws Exception {
        try (Admin admin = admin(a)) {
            return "id=" + admin.describeCluster().clusterId().get(30, TimeUnit.SECONDS) + " nodes="
                + admin.describeCluster().nodes().get(30, TimeUnit.SECONDS).size() + " controller="
                + admin.describeCluster().controller().get(30, TimeUnit.SECONDS).id();
        }
    }
}
