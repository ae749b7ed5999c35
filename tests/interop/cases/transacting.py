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
