import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.common.runtime.CoordinatorMetadataImage;
import org.apache.kafka.coordinator.group.Utils;
import org.apache.kafka.coordinator.group.api.assignor.ConsumerGroupPartitionAssignor;
import org.apache.kafka.coordinator.group.api.assignor.GroupAssignment;
import org.apache.kafka.coordinator.group.api.assignor.SubscribedTopicDescriber;
import org.apache.kafka.coordinator.group.api.assignor.SubscriptionType;
import org.apache.kafka.coordinator.group.assignor.RangeAssignor;
import org.apache.kafka.coordinator.group.assignor.UniformAssignor;
import org.apache.kafka.coordinator.group.modern.Assignment;
import org.apache.kafka.coordinator.group.modern.GroupSpecImpl;
import org.apache.kafka.coordinator.group.modern.MemberSubscriptionAndAssignmentImpl;

/**
 * What Kafka's assignors make of random groups, and its hash of topics, as tests/golden/group/assignors.tsv has
 * them: run.sh --record. Topic t has the id (0, t + 1), so that Java's hash sets are in the order of the ids.
 *
 *   assignor TAB partitions of each topic TAB members TAB owner of each partition
 *   a member: topics ; partitions it had (numbered through) ; instance or nothing; members are apart by /
 *   hash TAB name TAB partitions TAB hash of the topic TAB hash of a group with this topic alone
 */
public final class AssignorOracle {
    private AssignorOracle() {}

    private static Uuid id(int topic) {
        return new Uuid(0, topic + 1);
    }

    private static String text(Iterable<Integer> numbers) {
        StringBuilder s = new StringBuilder();
        for (int n : numbers) {
            s.append(s.length() == 0 ? "" : ",").append(n);
        }
        return s.toString();
    }

    /** Member m-th: two digits, so that they sort as they are numbered. */
    private static String member(int m) {
        return String.format("m%02d", m);
    }

    private static void group(Random random, boolean isMixed, ConsumerGroupPartitionAssignor assignor) {
        int members = 1 + random.nextInt(9);
        int topics = 1 + random.nextInt(5);
        List<Integer> counts = new ArrayList<>();
        List<Integer> first = new ArrayList<>();
        int total = 0;
        for (int t = 0; t < topics; t++) {
            first.add(total);
            counts.add(1 + random.nextInt(15));
            total += counts.get(t);
        }
        List<Set<Integer>> subscribed = new ArrayList<>();
        for (int m = 0; m < members; m++) {
            subscribed.add(new TreeSet<>());
        }
        for (int t = 0; t < topics; t++) {
            int sure = random.nextInt(members);
            for (int m = 0; m < members; m++) {
                if (!isMixed || m == sure || random.nextBoolean()) {
                    subscribed.get(m).add(t);
                }
            }
        }
        List<TreeSet<Integer>> had = new ArrayList<>();
        Map<Uuid, Map<Integer, String>> inverted = new HashMap<>();
        for (int m = 0; m < members; m++) {
            had.add(new TreeSet<>());
        }
        boolean isFresh = random.nextInt(3) == 0;
        for (int t = 0; t < topics; t++) {
            for (int p = 0; p < counts.get(t); p++) {
                int m = random.nextInt(members + 1);
                if (!isFresh && m < members) {
                    had.get(m).add(first.get(t) + p);
                    inverted.computeIfAbsent(id(t), x -> new HashMap<>()).put(p, member(m));
                }
            }
        }
        Map<String, MemberSubscriptionAndAssignmentImpl> spec = new LinkedHashMap<>();
        StringBuilder line = new StringBuilder();
        boolean isSame = true;
        for (int m = 0; m < members; m++) {
            Set<Uuid> ids = new TreeSet<>();
            for (int t : subscribed.get(m)) {
                ids.add(id(t));
            }
            Map<Uuid, Set<Integer>> owned = new TreeMap<>();
            for (int flat : had.get(m)) {
                int t = topics - 1;
                while (first.get(t) > flat) {
                    t--;
                }
                owned.computeIfAbsent(id(t), x -> new TreeSet<>()).add(flat - first.get(t));
            }
            String instance = random.nextInt(4) == 0 ? "i" + random.nextInt(10) + m : null;
            isSame &= subscribed.get(m).equals(subscribed.get(0));
            spec.put(member(m), new MemberSubscriptionAndAssignmentImpl(Optional.empty(), Optional.ofNullable(instance), ids,
                new Assignment(Collections.unmodifiableMap(owned))));
            line.append(m == 0 ? "" : "/").append(text(subscribed.get(m))).append(';').append(text(had.get(m))).append(';')
                .append(instance == null ? "" : instance);
        }
        GroupAssignment result = assignor.assign(
            new GroupSpecImpl(spec, isSame ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS, inverted),
            new SubscribedTopicDescriber() {
                @Override
                public int numPartitions(Uuid topic) {
                    return counts.get((int) topic.getLeastSignificantBits() - 1);
                }

                @Override
                public Set<String> racksForPartition(Uuid topic, int partition) {
                    return Set.of();
                }
            });
        Integer[] owners = new Integer[total];
        for (int m = 0; m < members; m++) {
            int owner = m;
            result.members().get(member(m)).partitions().forEach((topic, partitions) -> partitions.forEach(
                p -> owners[first.get((int) topic.getLeastSignificantBits() - 1) + p] = owner));
        }
        System.out.println(assignor.name() + "\t" + text(counts) + "\t" + line + "\t" + text(List.of(owners)));
    }

    private static void hash(String name, int partitions) {
        Object topic = Proxy.newProxyInstance(AssignorOracle.class.getClassLoader(),
            new Class<?>[] {CoordinatorMetadataImage.TopicMetadata.class}, (self, method, args) -> switch (method.getName()) {
                case "name" -> name;
                case "id" -> id(6);
                case "partitionCount" -> partitions;
                case "partitionRacks" -> new ArrayList<String>();
                default -> throw new IllegalStateException(method.getName());
            });
        CoordinatorMetadataImage image = (CoordinatorMetadataImage) Proxy.newProxyInstance(AssignorOracle.class.getClassLoader(),
            new Class<?>[] {CoordinatorMetadataImage.class}, (self, method, args) -> Optional.of(topic));
        long one = Utils.computeTopicHash(name, image);
        System.out.println("hash\t" + name + "\t" + partitions + "\t" + one + "\t" + Utils.computeGroupHash(Map.of(name, one)));
    }

    public static void main(String[] args) {
        Random random = new Random(20261123);
        for (int round = 0; round < 150; round++) {
            group(random, false, new UniformAssignor());
            group(random, true, new UniformAssignor());
            group(random, round % 2 == 0, new RangeAssignor());
        }
        for (String name : List.of("t", "orders", "a.much-longer_name.of-a-topic.0123456789")) {
            for (int partitions : new int[] {1, 4, 100}) {
                hash(name, partitions);
            }
        }
    }
}
