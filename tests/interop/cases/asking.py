"""The same questions to Millrace and to Apache Kafka 4.3.1, in every version of the APIs for topics, configs
and groups: the answers must be equal, but for names that each broker draws itself and for the words of
error messages (whether there is one must be equal too).

Not asked, because we mean to answer otherwise:

  more than 10,000 records for CreatePartitions, an unknown operation on a topic's config, an empty name in
  DescribeTopicPartitions        Kafka falls over (UNKNOWN_SERVER_ERROR), we say what is wrong
  AlterConfigs that names one topic twice                  Kafka 4.3.1 never answers
  configs of client metrics and loggers                    nothing here obeys them: refused
  configs of groups                                        those of share and streams groups are not there
  values that only Kafka's validation by neighbours lets pass (a cluster default that this broker overrides)"""

import itertools
import json
import subprocess
import time

from lib import broker as brokers
from lib import deps
from lib.case import test

NEW_IN_4_4 = {"errors.deadletterqueue.group.enable", "max.decompressed.message.bytes", "remote.copy.lag.bytes",
              "remote.copy.lag.ms"}

ZERO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
SOURCE = deps.JAVA / "asking" / "Asking.java"


class Asker:
    """Asking.java: one process, any number of connections."""

    def __init__(self):
        argv = brokers.Kafka.java(str(SOURCE))
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, address, connection, api, version, body):
        self.process.stdin.write("%s/%s %s %d %s\n" % (address, connection, api, version, json.dumps(body)))
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline().rstrip("\n")
        return json.loads(line) if line.startswith(("{", "[")) else line

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


class Side:
    """One broker, and the ids that it drew: both sides draw them in the same order."""

    def __init__(self, broker):
        self.broker = broker
        self.names = {}  # drawn id -> a name that both sides have

    def learn(self, kind, value):
        if value not in self.names:
            self.names[value] = "<%s %d>" % (kind, 1 + sum(n.startswith("<" + kind) for n in self.names.values()))

    def plain(self, value):
        """What the other side would have said."""
        if isinstance(value, dict):
            if value.get("topicId", ZERO_ID) != ZERO_ID and value.get("name"):
                self.names[value["topicId"]] = "<id of %s>" % value["name"]
            drawn = value.get("memberId") or ""
            if len(drawn) > 37 and drawn[-37] == "-":
                self.learn("member", drawn)
            return {k: self.plain_field(k, v) for k, v in value.items()}
        if isinstance(value, list):
            # Most lists are sets, in the order of a hash table on either side.
            return sorted((self.plain(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
        return self.names.get(value, value) if isinstance(value, str) else value

    def plain_field(self, key, value):
        if key == "throttleTimeMs":
            return 0
        if key == "errorMessage":
            return "words" if value else value
        if key == "port":
            return value if value in (-1, 0) else "port"
        if key in ("host", "clientHost"):
            return {self.broker.host: "host", "/" + self.broker.client: "client"}.get(value, value)
        if key == "clusterId":
            return "cluster"
        if key == "configs" and value:
            value = [c for c in value if not c["name"].startswith("millrace.") and c["name"] not in NEW_IN_4_4]
        return self.plain(value)

    def own(self, value):
        """The other way: names of both in the ids of this side."""
        if isinstance(value, dict):
            return {k: self.own(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.own(v) for v in value]
        return {n: i for i, n in self.names.items()}.get(value, value) if isinstance(value, str) else value


class Pair:
    def __init__(self, t, conf=None):
        self.sides = [Side(t.own(conf, start=False, kind=kind)) for kind in ("kafka", "millrace")]
        # Of the features that Millrace does not serve yet Kafka finalises none either.
        none = [w for f in ("eligible.leader.replicas", "share", "streams")
                for w in ("--feature", f + ".version=0")]
        self.sides[0].broker.format(*none)
        self.sides[0].broker.formatted = True
        for side in self.sides:
            side.broker.start()
        self.asker = Asker()
        t._to_close.append(self.asker.close)
        self.differences = []
        self.count = 0

    def ask(self, api, version, body):
        """The answer of both, made plain; a difference is noted. Kafka's broker follows its controller with
        a delay: what only reads is asked again for a while."""
        self.count += 1
        is_reading = api.startswith(("DESCRIBE", "LIST", "METADATA"))
        deadline = time.monotonic() + (10 if is_reading and not self.differences else 0)
        answers = self._both(api, version, body)
        while answers[0] != answers[1] and time.monotonic() < deadline:
            time.sleep(0.1)
            answers = self._both(api, version, body)
        if answers[0] != answers[1]:
            self.differences.append("%s v%d %s\n  %s" % (
                api, version, json.dumps(body)[:300], "\n  ".join(_difference(*answers))))
        return answers[0]

    def _both(self, api, version, body):
        answers = []
        for side in self.sides:
            self.asker.send(side.broker.bootstrap, "c", api, version, side.own(body))
            answer = self.asker.receive()
            if isinstance(answer, str) and answer != "CLOSED":
                raise AssertionError("%s v%d %s: %s" % (api, version, json.dumps(body), answer))
            answers.append(side.plain(answer))
        return answers


    def wait_for_topic(self, name):
        for side in self.sides:
            while self._alone(side, "METADATA", 12, metadata(name))["topics"][0]["errorCode"] != 0:
                pass

    def wait_for_coordinator(self, t):
        def is_there(side):
            self._alone(side, "FIND_COORDINATOR", 3, {"key": "g", "keyType": 0, "coordinatorKeys": []})
            return self._alone(side, "OFFSET_FETCH", 8, fetch(("g", [])))["groups"][0]["errorCode"] == 0

        for side in self.sides:
            t.eventually(lambda: is_there(side), 60, "a coordinator")

    def _alone(self, side, api, version, body):
        self.asker.send(side.broker.bootstrap, "c", api, version, side.own(body))
        return side.plain(self.asker.receive())

    def conclude(self, t):
        t.note("%d questions" % self.count)
        t.check(not self.differences, "%d answers differ:\n%s", len(self.differences), "\n".join(self.differences[:20]))


def _difference(kafka, ours, at=""):
    if isinstance(kafka, dict) and isinstance(ours, dict) and kafka.keys() == ours.keys():
        return list(itertools.chain(*(_difference(kafka[k], ours[k], "%s.%s" % (at, k)) for k in kafka)))
    if isinstance(kafka, list) and isinstance(ours, list) and len(kafka) == len(ours):
        return list(itertools.chain(*(_difference(a, b, "%s[%d]" % (at, i)) for i, (a, b) in enumerate(zip(kafka, ours)))))
    if isinstance(kafka, list) and isinstance(ours, list):
        return ["%s: only kafka %s; only ours %s" % (at, _short([k for k in kafka if k not in ours]),
                                                     _short([k for k in ours if k not in kafka]))]
    return [] if kafka == ours else ["%s: kafka %s, ours %s" % (at, _short(kafka), _short(ours))]


def _short(value):
    text = json.dumps(value)
    return text if len(text) < 600 else text[:600] + "..."


def create(name, partitions=1, replication=1, assignments=(), configs=()):
    return {"name": name, "numPartitions": partitions, "replicationFactor": replication,
            "assignments": [{"partitionIndex": p, "brokerIds": list(b)} for p, b in assignments],
            "configs": [{"name": n, "value": v} for n, v in configs]}


def creation(*topics, validate=False):
    return {"topics": list(topics), "timeoutMs": 20000, "validateOnly": validate}


def deletion(names=(), ids=()):
    return {"topicNames": list(names), "timeoutMs": 20000,
            "topics": [{"name": n, "topicId": ZERO_ID} for n in names] + [{"name": None, "topicId": i} for i in ids]}


def addition(*topics, validate=False):
    """(name, count, assignments or None)"""
    return {"topics": [{"name": n, "count": c, "assignments": None if a is None else [{"brokerIds": list(b)} for b in a]}
                       for n, c, a in topics], "timeoutMs": 20000, "validateOnly": validate}


def metadata(*names, ids=(), create_missing=False):
    return {"topics": [{"name": n, "topicId": ZERO_ID} for n in names] + [{"name": None, "topicId": i} for i in ids],
            "allowAutoTopicCreation": create_missing, "includeClusterAuthorizedOperations": False,
            "includeTopicAuthorizedOperations": True}


TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def incremental(*resources, validate=False):
    """(type, name, [(key, operation, value)])"""
    return {"resources": [{"resourceType": t, "resourceName": n,
                           "configs": [{"name": k, "configOperation": o, "value": v} for k, o, v in c]}
                          for t, n, c in resources], "validateOnly": validate}


def legacy(*resources, validate=False):
    return {"resources": [{"resourceType": t, "resourceName": n,
                           "configs": [{"name": k, "value": v} for k, v in c]} for t, n, c in resources],
            "validateOnly": validate}


def describing(*resources, synonyms=True, documentation=False):
    """(type, name, keys or None)"""
    return {"resources": [{"resourceType": t, "resourceName": n, "configurationKeys": k} for t, n, k in resources],
            "includeSynonyms": synonyms, "includeDocumentation": documentation}


# ---- topics ----

BAD_CONFIGS = [
    ("no.such", "1"), ("", "1"), ("retention.ms", "x"), ("retention.ms", None), ("retention.ms", "-2"),
    ("segment.bytes", "13"), ("cleanup.policy", "Delete"), ("min.insync.replicas", "0"),
    ("min.cleanable.dirty.ratio", "2"), ("message.timestamp.type", "x"), ("compression.type", "x"),
    ("preallocate", "yes"), ("leader.replication.throttled.replicas", "x"), ("message.format.version", "2.8"),
    ("message.timestamp.difference.max.ms", "1"), ("remote.storage.enable", "true"), ("flush.messages", "0"),
    ("segment.jitter.ms", "-1"), ("max.message.bytes", "-1"), ("compression.gzip.level", "99"),
    ("compression.gzip.level", "0"), ("compression.lz4.level", "0"), ("compression.zstd.level", "99"),
]

GOOD_CONFIGS = [
    ("cleanup.policy", ""), ("cleanup.policy", "delete,delete"), ("cleanup.policy", "compact, delete"),
    ("local.retention.ms", "5"), ("compression.gzip.level", "-1"), ("preallocate", "TRUE"), ("retention.ms", " 5 "),
]


def ask_to_create(p, version):
    def n(name):
        return "%s-%d" % (name, version)

    def ask(*topics, **kw):
        p.ask("CREATE_TOPICS", version, creation(*topics, **kw))

    ask(create(n("a"), 3), create(n("b"), 1, configs=[("retention.ms", "1000"), ("cleanup.policy", "compact")]))
    ask(create(n("a"), 3))
    ask(create(n("only-validated"), 2), validate=True)
    ask(create(n("twice")), create(n("twice")), create(n("once")))
    ask(create(n("manual"), -1, -1, [(0, [1]), (1, [1])]))
    if version >= 4:
        ask(create(n("defaults"), -1, -1))
    for bad in (create(""), create("."), create(".."), create("x" * 250), create("a b"), create("__cluster_metadata"),
                create(n("z"), 0), create(n("z"), -2), create(n("z"), 1, 0), create(n("z"), 1, -2),
                create(n("z"), 1, 2), create(n("z"), 10001), create(n("z"), 1, 1, [(0, [1])]),
                create(n("z"), -1, 1, [(0, [1])]), create(n("z"), 1, -1, [(0, [1])]),
                create(n("z"), -1, -1, [(0, [7])]), create(n("z"), -1, -1, [(0, [])]),
                create(n("z"), -1, -1, [(0, [1, 1])]), create(n("z"), -1, -1, [(1, [1])]),
                create(n("z"), -1, -1, [(0, [1]), (0, [1])]), create(n("z"), -1, -1, [(-1, [1])]),
                create(n("z"), configs=[("max.compaction.lag.ms", "1"), ("min.compaction.lag.ms", "2")])):
        ask(bad, validate=True)
    for config in BAD_CONFIGS + GOOD_CONFIGS:
        ask(create(n("z"), configs=[config]), validate=True)
    ask(create(n("my.topic")))
    ask(create(n("my_topic")))
    ask(create(n("my.two")), create(n("my_two")))
    ask(create(n("config-twice"), configs=[("retention.ms", "1"), ("retention.ms", "2")]))
    ask()


def ask_to_extend(p, version, topic):
    def ask(*topics, **kw):
        p.ask("CREATE_PARTITIONS", version, addition(*topics, **kw))

    ask((topic, 5, None))
    for count, brokers in ((5, None), (4, None), (6, [[1]]), (8, [[1]]), (7, [[9]]), (7, [[]]), (7, [[1, 1]]), (7, []),
                           (0, None), (-1, None)):
        ask((topic, count, brokers))
    ask(("nope", 7, None))
    ask(("", 7, None))
    ask((topic, 7, None), (topic, 8, None))
    ask((topic, 9, None), validate=True)
    ask()


def ask_for_metadata(p, version):
    p.ask("METADATA", version, metadata("a-2", "b-3", "nope", "", ".", "a b"))
    p.ask("METADATA", version, metadata("a-2", "a-2", "nope", "nope"))
    if version >= 1:
        p.ask("METADATA", version, {"topics": None, "allowAutoTopicCreation": False,
                                    "includeClusterAuthorizedOperations": True,
                                    "includeTopicAuthorizedOperations": False})
        p.ask("METADATA", version, metadata())
    if version >= 12:
        p.ask("METADATA", version, metadata(ids=["AAAAAAAAAAAAAAAAAAAAAQ", "<id of a-7>"]))


def ask_for_pages(p):
    def ask(topics, limit=2000, cursor=None):
        p.ask("DESCRIBE_TOPIC_PARTITIONS", 0, {
            "topics": [{"name": n} for n in topics], "responsePartitionLimit": limit,
            "cursor": cursor and {"topicName": cursor[0], "partitionIndex": cursor[1]}})

    for topics in (["a-2", "b-3", "nope"], ["a-2", "a-2"], ["a b"]):
        ask(topics)
    for limit in (0, -1, 1, 3, 6):
        ask(["a-2", "b-3", "nope"], limit)
    for cursor in (("a-2", 3), ("a-2", 99), ("a-2", -1), ("b-3", 0), ("zzz", 0), ("aa", 0)):
        ask(["a-2", "b-3"], 3, cursor)
    ask([], 3)
    ask([], 3, ("b-3", 0))
    ask([], 5, ("aa", 1))


def ask_to_delete(p, version):
    def n(name):
        return "%s-%d" % (name, version + 1)

    def ask(*a, **kw):
        p.ask("DELETE_TOPICS", version, deletion(*a, **kw))

    ask([n("a"), "nope"])
    ask([n("b"), n("b")])
    ask([n("b")])
    ask(["__cluster_metadata"])
    ask([""])
    ask([])
    if version == 6:
        ask(ids=["<id of manual-7>"])
        ask(ids=["AAAAAAAAAAAAAAAAAAAAAQ"])
        ask(ids=[ZERO_ID])
        ask(["once-7"], ids=["<id of once-7>"])
        ask(ids=["<id of once-7>", "<id of once-7>"])


@test(seconds=300, millrace_only=True)
def same_answers_about_topics(t):
    p = Pair(t, {"auto.create.topics.enable": "false"})
    for version in range(2, 8):
        ask_to_create(p, version)
    for version in range(0, 4):
        ask_to_extend(p, version, "a-%d" % (version + 2))
    for version in range(0, 14):
        ask_for_metadata(p, version)
    for version in (0, 1, 2):
        for kind in (0, 1, 2, 3):
            p.ask("DESCRIBE_CLUSTER", version, {"includeClusterAuthorizedOperations": True, "endpointType": kind,
                                                "includeFencedBrokers": True})
    ask_for_pages(p)
    for version in range(1, 7):
        ask_to_delete(p, version)
    p.conclude(t)


# ---- configs ----

TOPIC_CHANGES = [
    [("segment.bytes", SET, "1048576"), ("flush.ms", SET, "500")],
    [("segment.bytes", SET, "1048576"), ("segment.bytes", SET, "1048577")],
    [("segment.bytes", SET, "13")], [("segment.bytes", SET, None)], [("segment.bytes", DELETE, None)],
    [("segment.bytes", DELETE, "x")], [("no.such", DELETE, None)], [("no.such", SET, "1")], [("no.such", APPEND, "1")],
    [("cleanup.policy", APPEND, "delete")], [("cleanup.policy", SUBTRACT, "delete")],
    [("cleanup.policy", SUBTRACT, "compact")], [("cleanup.policy", APPEND, "nope")], [("retention.ms", APPEND, "1")],
    [("min.compaction.lag.ms", SET, "99"), ("max.compaction.lag.ms", SET, "9")],
    [("leader.replication.throttled.replicas", SET, "0:1,1:1")],
    [("leader.replication.throttled.replicas", APPEND, "2:1")],
    [("leader.replication.throttled.replicas", SET, "zz")], [("leader.replication.throttled.replicas", SET, "*")],
    [("retention.ms", SET, " 44 ")], [("preallocate", SET, "TRUE")], [],
]

BROKER_CHANGES = [
    [("log.retention.ms", SET, "123456")], [("log.retention.ms", SET, "x")], [("log.retention.ms", DELETE, None)],
    [("log.retention.ms", APPEND, "1")], [("log.retention.hours", SET, "5")], [("log.roll.ms", SET, "3600000")],
    [("log.roll.hours", SET, "3")], [("log.segment.bytes", SET, "2000000"), ("message.max.bytes", SET, "1500000")],
    [("log.segment.bytes", SET, "x")], [("num.partitions", SET, "5")], [("num.partitions", DELETE, None)],
    [("log.dirs", SET, "/x")], [("node.id", SET, "9")], [("auto.create.topics.enable", SET, "false")],
    [("group.max.size", SET, "5")], [("some.plugin.key", SET, "1")], [("some.plugin.key", DELETE, None)],
    [("max.connections", SET, "1000")], [("max.connections.per.ip", SET, "999")],
    [("max.connections.per.ip.overrides", SET, "10.0.0.1:5")], [("log.cleaner.threads", SET, "2")],
    [("num.io.threads", SET, "9")], [("log.cleanup.policy", APPEND, "compact")],
    [("log.cleanup.policy", SUBTRACT, "delete")], [("log.cleanup.policy", DELETE, None)],
    [("min.insync.replicas", SET, "1")], [("unclean.leader.election.enable", SET, "true")],
    [("log.message.timestamp.type", SET, "LogAppendTime")], [("log.message.timestamp.type", DELETE, None)],
    [("background.threads", SET, "3"), ("background.threads", SET, "4")], [("background.threads", SET, None)],
    [("background.threads", 9, "1")], [],
]

BAD_BROKER_CHANGES = [
    [("max.connections.per.ip.overrides", SET, "zzz")], [("log.cleaner.threads", SET, "0")],
    [("num.io.threads", SET, "8000")], [("listeners", SET, "PLAINTEXT://127.0.0.1:1")],
    [("ssl.keystore.location", SET, "/x")],
]

BROKER_KEYS = ["log.retention.ms", "log.retention.minutes", "log.retention.hours", "log.segment.bytes",
               "message.max.bytes", "some.plugin.key", "max.connections", "log.roll.ms", "log.roll.hours",
               "min.insync.replicas", "unclean.leader.election.enable", "log.cleanup.policy", "background.threads",
               "num.partitions", "compression.type", "log.flush.interval.ms", "log.flush.scheduler.interval.ms",
               "log.cleaner.min.cleanable.ratio", "auto.create.topics.enable", "inter.broker.listener.name",
               "create.topic.policy.class.name"]


def ask_to_describe(p, version, synonyms):
    def ask(*resources):
        p.ask("DESCRIBE_CONFIGS", version, describing(*resources, synonyms=synonyms))

    ask((TOPIC, "t", None), (TOPIC, "u", ["retention.ms", "no.such"]), (TOPIC, "nope", None), (TOPIC, "a b", None),
        (TOPIC, "", None))
    ask((TOPIC, "t", []), (TOPIC, "t", None))
    ask((BROKER, "1", BROKER_KEYS))
    ask((BROKER, "", None))
    ask((BROKER, "", ["log.segment.bytes"]))
    ask((BROKER, "2", None))
    ask((BROKER, "x", None))
    ask((BROKER, "01", ["log.segment.bytes"]))
    ask((99, "x", None))
    ask()


@test(seconds=300, millrace_only=True)
def same_answers_about_configs(t):
    p = Pair(t)
    p.ask("CREATE_TOPICS", 7, creation(
        create("t", 2, configs=[("retention.ms", "1000"), ("cleanup.policy", "compact,delete")]), create("u", 1)))
    p.wait_for_topic("u")
    for version in (0, 1):
        def ask(*resources, **kw):
            p.ask("INCREMENTAL_ALTER_CONFIGS", version, incremental(*resources, **kw))

        for changes in TOPIC_CHANGES:
            ask((TOPIC, "t", changes))
        for name in ("", "nope", "a b"):
            ask((TOPIC, name, [("retention.ms", SET, "1")]))
        ask((TOPIC, "t", [("segment.bytes", SET, "13")]), (TOPIC, "u", [("segment.bytes", SET, "2000000")]))
        ask((TOPIC, "t", [("flush.ms", SET, "1")]), (TOPIC, "t", [("flush.ms", SET, "2")]))
        ask((TOPIC, "t", [("flush.ms", SET, "77")]), validate=True)
        ask()
        for name in ("1", ""):
            for changes in BROKER_CHANGES:
                ask((BROKER, name, changes))
        for changes in BAD_BROKER_CHANGES:
            ask((BROKER, "1", changes))
        for name in ("2", "x"):
            ask((BROKER, name, [("log.retention.ms", SET, "1")]))
        ask((BROKER, "1", [("background.threads", SET, "11")]), validate=True)
        ask((99, "g", [("x", SET, "7")]))
        for describe_version in (1, 2, 3, 4):
            for synonyms in (True, False):
                ask_to_describe(p, describe_version, synonyms)
    for version in (0, 1, 2):
        def replace(*resources, **kw):
            p.ask("ALTER_CONFIGS", version, legacy(*resources, **kw))
            p.ask("DESCRIBE_CONFIGS", 4, describing((TOPIC, "t", None), (TOPIC, "u", None), (BROKER, "1", BROKER_KEYS),
                                                    (BROKER, "", None)))

        for configs in ([("retention.ms", "5000")], [("retention.ms", "5000"), ("retention.ms", "5")],
                        [("retention.ms", None)], [("no.such", "5")]):
            replace((TOPIC, "t", configs))
        replace((TOPIC, "nope", [("retention.ms", "5000")]), (TOPIC, "", [("retention.ms", "5000")]))
        replace((TOPIC, "t", []), validate=True)
        replace((TOPIC, "t", [("retention.ms", "5001")]), (TOPIC, "u", [("retention.ms", "x")]))
        replace((BROKER, "1", [("log.retention.ms", "777")]))
        replace((BROKER, "", [("log.retention.ms", "777"), ("node.id", "5")]))
        replace((BROKER, "", [("log.retention.ms", "776")]))
        replace((BROKER, "3", []))
        replace((99, "sub", [("interval.ms", "2000")]))
    for version in (0, 1):
        for types in ([], [TOPIC], [BROKER], [99]):
            p.ask("LIST_CONFIG_RESOURCES", version, {"resourceTypes": types})
    p.conclude(t)


# ---- groups ----

SUBSCRIBED_TO_T = "AAAAAAABAAF0/////w=="  # a consumer's metadata in version 0


def join(group, member="", instance=None, protocols=("range",), kind="consumer", session=10000):
    return {"groupId": group, "sessionTimeoutMs": session, "rebalanceTimeoutMs": 20000, "memberId": member,
            "groupInstanceId": instance, "protocolType": kind, "reason": None,
            "protocols": [{"name": n, "metadata": SUBSCRIBED_TO_T} for n in protocols]}


def sync(group, generation, member, assignments=(), instance=None, kind="consumer", name="range"):
    return {"groupId": group, "generationId": generation, "memberId": member, "groupInstanceId": instance,
            "protocolType": kind, "protocolName": name,
            "assignments": [{"memberId": m, "assignment": a} for m, a in assignments]}


def heartbeat(group, generation, member, instance=None):
    return {"groupId": group, "generationId": generation, "memberId": member, "groupInstanceId": instance}


def leave(group, *members):
    return {"groupId": group, "memberId": members[0][0] if members else "",
            "members": [{"memberId": m, "groupInstanceId": i, "reason": None} for m, i in members]}


def commit(group, topics, generation=-1, member="", instance=None, words="m"):
    """topics: (name, id, [(partition, offset)])"""
    return {"groupId": group, "generationIdOrMemberEpoch": generation, "memberId": member, "groupInstanceId": instance,
            "retentionTimeMs": -1,
            "topics": [{"name": n, "topicId": i,
                        "partitions": [{"partitionIndex": q, "committedOffset": o, "committedLeaderEpoch": -1,
                                        "committedMetadata": words} for q, o in ps]} for n, i, ps in topics]}


def fetch(*groups, stable=False):
    """(group, topics or None[, member, epoch]); topics: (name, id, [partition]). Old versions: the first group."""
    items = []
    for group, topics, *who in groups:
        member, epoch = who or (None, -1)
        items.append({"groupId": group, "memberId": member, "memberEpoch": epoch, "topics": topics and [
            {"name": n, "topicId": i, "partitionIndexes": list(ps)} for n, i, ps in topics]})
        if topics == []:
            items[-1]["topics"] = []
    first = items[0] if items else {"groupId": "", "topics": []}
    return {"groupId": first["groupId"], "topics": first["topics"], "requireStable": stable, "groups": items}


T = ("t", "<id of t>")
NOBODY = ("nope", "AAAAAAAAAAAAAAAAAAAAAQ")


def ask_to_commit(p, version, g, generation, member):
    def ask(*a, **kw):
        p.ask("OFFSET_COMMIT", version, commit(*a, **kw))

    one = [(*T, [(0, 7)])]
    ask(g, [(*T, [(0, 5), (1, 6), (9, 1), (-1, 1)]), (*NOBODY, [(0, 1)])], generation, member)
    ask(g, one, generation - 1, member)
    ask(g, one, generation, "x")
    ask(g, one)
    ask("", one)
    ask("simple%d" % version, one)
    ask("simple%d" % version, [(*T, [(1, 7)])], -1, "somebody")
    ask("nobody", one, 5, "x")
    ask(g, one, generation, member, words="x" * 4097)
    ask(g, one, generation, member, words=None)
    ask(g, [], generation, member)
    ask(g, [(*T, [])], generation, member)
    ask(g, [(*T, [(0, -5)])], generation, member)
    if version >= 7:
        ask(g, one, generation, member, "instance")


def ask_to_fetch(p, version, g, generation, member):
    def ask(*a, **kw):
        p.ask("OFFSET_FETCH", version, fetch(*a, **kw))

    one = [(*T, [0])]
    ask((g, [(*T, [0, 1, 2, 9]), (*NOBODY, [0])]))
    ask(("nobody", one))
    ask(("", one))
    ask((g, []))
    ask((g, [(*T, [0, 0])]))
    if version >= 2:
        for group in (g, "nobody", "simple2"):
            ask((group, None))
    if version >= 7:
        ask((g, None), stable=True)
    if version >= 8:
        ask((g, one), ("simple2", None), ("nobody", None))
        ask()
    if version >= 9:
        for who in ((member, generation), ("x", generation), (member, generation - 1)):
            ask((g, one, *who))
        ask(("nobody", one, member, generation))


def ask_for_lists(p):
    for version in range(0, 6):
        for states, types in (([], []), (["Stable"], []), (["stable", "EMPTY"], []), (["nonsense"], []),
                              ([], ["classic"]), ([], ["Classic", "consumer"]), ([], ["share"]), ([], ["nonsense"])):
            p.ask("LIST_GROUPS", version, {"statesFilter": states if version >= 4 else [],
                                           "typesFilter": types if version >= 5 else []})


def ask_to_delete_offsets(p, group, *topics):
    p.ask("OFFSET_DELETE", 0, {"groupId": group, "topics": [
        {"name": n, "partitions": [{"partitionIndex": q} for q in ps]} for n, ps in topics]})


def walk_dynamic(p, version):
    """The life of one member, and everything that may be asked wrongly on the way."""
    g = "g%d" % version

    def ask_join(*a, **kw):
        return p.ask("JOIN_GROUP", version, join(*a, **kw))

    def ask_sync(*a, **kw):
        p.ask("SYNC_GROUP", min(version, 5), sync(*a, **kw))

    def beat(*a):
        p.ask("HEARTBEAT", min(version, 4), heartbeat(*a))

    def describe(*groups):
        p.ask("DESCRIBE_GROUPS", min(version, 6), {"groups": list(groups), "includeAuthorizedOperations": True})

    ask_join("")
    ask_join(g, "nope")
    ask_join(g, session=1)
    ask_join(g, session=99999999)
    ask_join(g, protocols=())
    ask_join(g, kind="")
    joined = ask_join(g)
    m = joined["memberId"]
    if version >= 4:
        joined = ask_join(g, m)
    n = joined["generationId"]
    ask_join(g, "nope2")
    ask_join(g, kind="connect")
    ask_join(g, protocols=("other",))
    for where in ((g, n, m), (g, n + 1, m), (g, n, "x"), ("", n, m), ("nobody", n, m)):
        beat(*where)
        if where != (g, n, m):
            ask_sync(*where)
    p.ask("OFFSET_COMMIT", 8, commit(g, [(*T, [(0, 5)])], n, m))
    describe(g, "nobody", "")
    for version_5 in ({"kind": "x"}, {"name": "x"}) + (({"kind": None}, {"name": None}) if version >= 5 else ()):
        ask_sync(g, n, m, **version_5)
    ask_sync(g, n, m, [(m, "AQID")])
    ask_sync(g, n, m)
    ask_sync(g, n, m, kind="y")
    beat(g, n - 1, m)
    if version >= 3:
        beat(g, n, m, "instance")
    describe(g)
    ask_join(g, m)  # the leader joins again: another generation
    n += 1
    ask_sync(g, n, m, [(m, "AQIDBA==")])
    for commit_version in range(2, 11):
        ask_to_commit(p, commit_version, g, n, m)
    for fetch_version in range(1, 11):
        ask_to_fetch(p, fetch_version, g, n, m)
    for group, topics in ((g, [("t", [0, 9]), ("nope", [0])]), ("nobody", [("t", [0])]), ("", [("t", [0])]),
                          ("simple2", [("t", [0, 2]), ("nope", [1])]), ("simple2", [])):
        ask_to_delete_offsets(p, group, *topics)
    ask_for_lists(p)
    p.ask("DELETE_GROUPS", min(version, 2), {"groupsNames": [g, "nobody", "simple3", "", "simple3"]})

    def ask_leave(*a):
        p.ask("LEAVE_GROUP", min(version, 5), leave(*a))

    ask_leave("", (m, None))
    ask_leave("nobody", (m, None))
    ask_leave(g, ("x", None))
    if version >= 3:
        ask_leave(g, ("x", None), (m, "instance"), ("", "another"))
        ask_leave(g)
    ask_leave(g, (m, None))
    ask_leave(g, (m, None))
    beat(g, n, m)
    ask_sync(g, n, m)
    ask_join(g, m)
    describe(g)
    ask_to_delete_offsets(p, g, ("t", [0, 1]))
    p.ask("DELETE_GROUPS", min(version, 2), {"groupsNames": [g]})
    p.ask("DELETE_GROUPS", min(version, 2), {"groupsNames": []})


def walk_static(p, version):
    g = "s%d" % version

    def ask_join(*a, **kw):
        answer = p.ask("JOIN_GROUP", version, join(*a, **kw))
        return answer["memberId"], answer["generationId"]

    def ask_sync(*a):
        p.ask("SYNC_GROUP", min(version, 5), sync(*a))

    old, n = ask_join(g, instance="i1")
    ask_join(g, old)
    ask_join(g, old, instance="i1")
    ask_sync(g, n, old, [(old, "AQID")], "i1")
    new, n2 = ask_join(g, instance="i1")
    for member, generation in ((old, n), (new, n2)):
        p.ask("HEARTBEAT", min(version, 4), heartbeat(g, generation, member, "i1"))
        p.ask("OFFSET_COMMIT", 8, commit(g, [(*T, [(0, 5)])], generation, member, "i1"))
    ask_sync(g, n2, new, [], "i1")
    ask_join(g, old, instance="i1")
    ask_join(g, new, instance="i9")
    p.ask("DESCRIBE_GROUPS", min(version, 6), {"groups": [g], "includeAuthorizedOperations": False})
    for who in ((old, "i1"), ("", "i1"), ("", "i1")):
        p.ask("LEAVE_GROUP", min(version, 5), leave(g, who))


@test(seconds=400, millrace_only=True)
def same_answers_about_groups(t):
    # One partition: both coordinators are there, or they are not.
    p = Pair(t, {"offsets.topic.num.partitions": "1"})
    p.ask("CREATE_TOPICS", 7, creation(create("t", 3), create("u", 1)))
    p.wait_for_coordinator(t)
    for version in range(0, 7):
        for key, kind in (("g", 0), ("", 0), ("g", 7), ("g", -1)):
            p.ask("FIND_COORDINATOR", version, {"key": key, "keyType": kind if version >= 1 else 0,
                                                "coordinatorKeys": [key]})
        if version >= 4:
            p.ask("FIND_COORDINATOR", version, {"key": "", "keyType": 0, "coordinatorKeys": ["a", "b", "a"]})
            p.ask("FIND_COORDINATOR", version, {"key": "", "keyType": 0, "coordinatorKeys": []})
    for version in range(0, 10):
        walk_dynamic(p, version)
        if version >= 5:
            walk_static(p, version)
    p.conclude(t)


# ---- features ----

def levels(*updates, validate=False):
    """updates: (feature, level, type[, allow downgrade])"""
    return {"timeoutMs": 30000, "validateOnly": validate, "featureUpdates": [
        {"feature": f, "maxVersionLevel": level, "upgradeType": kind, "allowDowngrade": bool(allow)}
        for f, level, kind, *allow in updates]}


def ask_for_levels(p, version):
    up, down, unsafe = (1, 2, 3) if version > 0 else (1, 1, 1)
    g, tx, mv = "group.version", "transaction.version", "metadata.version"

    def update(*updates, **more):
        p.ask("UPDATE_FEATURES", version, levels(*updates, **more if version > 0 else {}))
    for one in ((g, 1, up), (g, 0, up), (g, -1, down), (g, 2, up), ("no.such.version", 1, up), ("no.such.version", 0, up),
                (mv, 34, up), (mv, 6, down), (mv, 0, down), (mv, 29, up), (mv, 29, down), (mv, 23, down), (mv, 23, unsafe),
                (mv, 30, up), (mv, 30, down), (tx, 3, up), (tx, 1, down), (tx, 2, up), (g, 0, down, True), (g, 1, up)):
        update(one)
        update(one, validate=True)
    update()
    update((g, 0, down), (tx, 2, up))
    update((g, 1, up), (tx, 2, up))
    update((tx, 2, up), (mv, 34, up))
    if version > 0:
        for kind in (0, 4, -1):
            update((g, 1, kind))
        update((g, 1, down))
        update((g, 0, down))
        update((g, 1, down))
        update((g, 1, up))


@test(seconds=200, millrace_only=True)
def same_answers_about_features(t):
    p = Pair(t)
    for version in range(0, 3):
        ask_for_levels(p, version)
    p.conclude(t)
