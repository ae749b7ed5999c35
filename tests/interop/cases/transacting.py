"""Transactions: what committed readers see, who is fenced, what survives."""

from lib.case import test
from lib.clients import fields


def seen(t, topic, isolation, broker=None, partitions=1):
    got = fields(t.java("read_isolated", topic=topic, isolation=isolation, partitions=partitions, broker=broker))
    return int(got["count"])


@test(seconds=90)
def committed_readers_see_committed(t):
    topic = t.topic(3)
    got = fields(t.java("transactions", topic=topic, count=30, records=5, partitions=3))
    t.note("30 transactions in %s ms" % got["ms"])


@test(seconds=90)
def open_transaction_holds_back(t):
    topic = t.topic(1)
    job = t.java_start("open_transaction", topic=topic, id="open-" + topic, count=10)
    job.event("open", 30)
    t.equal(seen(t, topic, "read_uncommitted"), 10, "records that uncommitted readers see")
    t.equal(seen(t, topic, "read_committed"), 0, "records that committed readers see")
    job.tell("commit")
    job.wait(30)
    t.equal(seen(t, topic, "read_committed"), 10, "after the commit")


@test(seconds=90)
def zombie_is_fenced(t):
    topic = t.topic(1)
    got = fields(t.java("fenced", topic=topic))
    t.check(got["send"] != "none" and got["commit"] != "none", "a zombie was served: %s", got)
    t.equal(got["seen"], "heir", "what committed readers see")


def values(t, topic, broker, partitions):
    got = fields(t.java("read_isolated", topic=topic, isolation="read_committed", partitions=partitions, broker=broker))
    return got["values"].split(",") if got["count"] != "0" else []


@test(seconds=150)
def transforms_exactly_once(t):
    """Consume, transform, produce; the application is killed, then the broker: every record once on the other side."""
    b = t.own()
    source, to, count = t.topic(3, broker=b), t.topic(3, broker=b), 3000
    fill = fields(t.java("produce", topic=source, count=count, partitions=3, prefix="r", broker=b))
    t.equal(fill["acked"], str(count), "records produced")
    args = dict(topic=source, to=to, group=source, id="transform-" + source, broker=b)
    args.update({"c.session.timeout.ms": 6000, "c.heartbeat.interval.ms": 500, "p.transaction.timeout.ms": 20000})
    jvm = t.jvm()
    first = t.java_start("transform", jvm=jvm, **args)
    first.event("moved=", 40)
    jvm.kill()
    second = t.java_start("transform", **args)
    second.event("moved=", 60)
    b.kill()
    b.start()
    t.eventually(lambda: len(values(t, to, b, 3)) >= count, 90, "all records on the other side")
    second.tell("stop")
    second.wait(30)
    got = values(t, to, b, 3)
    t.equal(sorted(got), sorted("r%d:%d" % (p, i) for p in range(3) for i in range(count // 3)), "each record once")
