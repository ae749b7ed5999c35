"""Topics and their configuration by stock tools."""

import time

from lib.case import test
from lib.clients import fields
from lib.helpers import consume_all, total


@test(seconds=120)
def topic_verbs(t):
    b, name = t.broker, "topic_verbs-x"

    def topics(*args, check=True):
        p = t.tool("topics", "--bootstrap-server", b.bootstrap, *args, check=check)
        return p.stdout() + p.stderr()

    topics("--create", "--topic", name, "--partitions", 3, "--replication-factor", 1, "--config", "retention.ms=3600000")
    t.check(name in topics("--list").split(), "not listed")
    d = topics("--describe", "--topic", name)
    t.check("PartitionCount: 3" in d and "ReplicationFactor: 1" in d and "retention.ms=3600000" in d, "describe:\n%s", d)
    t.equal(d.count("Leader: 1"), 3, "leaders in describe")
    t.check("TopicExists" in topics("--create", "--topic", name, check=False), "a second create was accepted")
    topics("--alter", "--topic", name, "--partitions", 5)
    t.check("PartitionCount: 5" in topics("--describe", "--topic", name), "not altered")

    def configs(*args, check=True):
        p = t.tool("configs", "--bootstrap-server", b.bootstrap, "--entity-type", "topics", "--entity-name", name, *args, check=check)
        return p.stdout() + p.stderr()

    configs("--alter", "--add-config", "max.message.bytes=2000000")
    t.check("max.message.bytes=2000000" in configs("--describe"), "config not set")
    configs("--alter", "--delete-config", "max.message.bytes")
    t.check("max.message.bytes=2000000" not in configs("--describe"), "config not deleted")
    t.check("InvalidConfig" in configs("--alter", "--add-config", "no.such.key=1", check=False)
            or "Invalid" in configs("--alter", "--add-config", "no.such.key=1", check=False), "an unknown key was accepted")
    topics("--delete", "--topic", name)
    t.eventually(lambda: name not in topics("--list").split(), 10, "the topic to be gone")


@test(seconds=120)
def topic_recreated_under_clients(t):
    # Without automatic creation: the running producer would make the topic first, with one partition.
    t.own({"auto.create.topics.enable": "false"})
    topic = t.topic(2)
    first_id = t.java("topic_id", topic=topic)
    quick = {"p.metadata.max.age.ms": 500, "p.delivery.timeout.ms": 40000, "p.linger.ms": 0, "p.request.timeout.ms": 5000,
             "p.enable.idempotence": "false"}
    t.java("produce", topic=topic, count=500, partitions=2, prefix="old")
    job = t.java_start("produce", topic=topic, partitions=2, rate=200, count=10 ** 9, prefix="run", **quick)
    read = t.file("read")
    reader = t.java_start("member", topic=topic, out=read, **{"c.group.id": topic, "c.metadata.max.age.ms": 500})
    t.eventually(lambda: read.exists() and " run" in read.read_text(), 20, "the consumer to be with the producer")
    t.java("delete_topics", topic=topic)
    t.eventually(lambda: topic not in t.admin().list_topics(timeout=10).topics, 10, "deletion")
    t.topic(2, name=topic)
    second_id = t.java("topic_id", topic=topic)
    t.check(second_id != first_id, "the new topic has the old id")
    t.eventually(lambda: total(t, topic) > 200, 45, "the producer to go on in the new topic")
    job.tell("stop")
    job.wait(60)
    last = consume_all(t, topic, 10 ** 9, idle_ms=1000)[0][-1][1]
    # Values are counted on: nobody has seen this one before the topic came back.
    t.eventually(lambda: " %s\n" % last in read.read_text(), 20, "the consumer to read on in the new topic, up to " + last)
    reader.tell("close")
    reader.wait(30)
    got = consume_all(t, topic, 10 ** 9, idle_ms=2000)
    for partition, records in got.items():
        t.equal(records[0][0], 0, "the first offset of partition %d" % partition)
        t.check(not any(v.startswith("old") for _, v in records), "a record of the old topic")


@test(seconds=90)
def metadata_survives_restart(t):
    b = t.own()
    topic = t.topic(3, conf={"retention.ms": "7200000", "segment.bytes": "2000000"})
    before = t.java("topic_id", topic=topic), t.java("cluster")
    t.equal(fields(t.java("produce", topic=topic, count=300, partitions=3))["acked"], "300", "records")
    for how in ("stop", "kill", "stop"):
        if how == "stop":
            t.equal(b.stop(), 0, "exit status")
        else:
            b.kill()
        b.start()
        t.equal((t.java("topic_id", topic=topic), t.java("cluster")), before, "topic id and cluster after " + how)
        t.equal(t.java("topic_config", topic=topic, key="retention.ms"), "7200000 DYNAMIC_TOPIC_CONFIG", "config after " + how)
        t.equal({p: len(r) for p, r in consume_all(t, topic, 300).items()}, {0: 100, 1: 100, 2: 100}, "records after " + how)
