"""Programs that commit, or keep their offsets elsewhere, and what becomes of offsets."""

import random
import re
import signal
import time

from lib import case
from lib.case import test
from lib.clients import fields
from cases.grouping import committed_offset, fill, group_command, member, state
from cases.grouping_new import CONF, balanced, member as new_member, owned, read_once

BOTH = (("old", member), ("new", new_member))


@test(seconds=90)
def commits_by_time(t):
    """enable.auto.commit: what was polled is committed within auto.commit.interval.ms, and never without it."""
    b = t.own(CONF)
    topic = t.topic(1)
    fill(t, topic, 100, 1)
    for kind, make in BOTH:
        auto = make(t, kind + "-auto", topic, **{"c.auto.commit.interval.ms": 200})
        never = make(t, kind + "-never", topic, **{"c.enable.auto.commit": "false"})

        def offset(group):
            try:
                return committed_offset(t, group, topic, b)
            except (AssertionError, ValueError):
                return None
        t.eventually(lambda: offset(kind + "-auto") == 100, 30, "the commit of %s" % kind)
        for j in (auto, never):
            j.tell("close")
            j.wait(20)
        t.equal(offset(kind + "-never"), None, "what nobody committed")


@test(seconds=120)
def listener_commits_on_revoke(t):
    """commitSync() in onPartitionsRevoked: where the old owner stopped the new one begins; nothing lost, nothing twice."""
    t.own(CONF)
    topic = t.topic(6)
    for kind, make in BOTH:
        producer = t.java_start("produce", topic=topic, partitions=6, rate=400, size=20, count=10 ** 9)
        files = []

        def start():
            files.append(t.file("%s-%d" % (kind, len(files))))
            return make(t, kind, topic, out=files[-1], commit_on_revoke=1,
                        **{"c.enable.auto.commit": "false", "c.auto.offset.reset": "earliest"})
        jobs = [start()]
        balanced(t, jobs, 6)
        jobs.append(start())
        balanced(t, jobs, 6)
        jobs.append(start())
        balanced(t, jobs, 6)
        jobs.pop(0).tell("close")
        balanced(t, jobs, 6)
        producer.tell("stop")
        acked = int(fields(producer.wait(30))["acked"])
        end = sum(t.wire().list_offsets(topic, p, -1)[0] == 0 and t.wire().list_offsets(topic, p, -1)[2] for p in range(6))
        t.check(end >= acked, "the ends are %d, %d acknowledged", end, acked)
        read_once(t, files, 6, end)
        for j in jobs:
            j.tell("close")
            j.wait(20)


@test(seconds=120)
def offsets_kept_outside(t):
    """Results and offsets in one place outside of Kafka, seek() to them; the program is killed: every record once."""
    t.own(CONF)
    topic = t.topic(3)
    producer = t.java_start("produce", topic=topic, partitions=3, rate=500, size=20, count=10 ** 9)
    out = t.file("database")
    for n in range(4):
        jvm = t.jvm()
        job = t.java_start("outside", jvm=jvm, topic=topic, out=out,
                           **{"c.group.id": "outside", "c.session.timeout.ms": 6000, "c.heartbeat.interval.ms": 300,
                              "c.group.protocol": "classic"})
        job.event("assigned", 30)
        have = out.read_text().count("\n") if out.exists() else 0
        t.eventually(lambda: out.exists() and out.read_text().count("\n") > have + 50, 30, "records of life %d" % n)
        if n < 3:
            jvm.kill()
            t.eventually(lambda: state(t, "outside") == ("EMPTY", 0), 20, "the killed member to be dropped")
    producer.tell("stop")
    acked = int(fields(producer.wait(30))["acked"])
    read_once(t, [out], 3, acked)
    job.tell("close")
    job.wait(20)


@test(seconds=90)
def woken_by_sigterm(t):
    """A shutdown hook, wakeup() out of a poll of 30 s, close(): the member is gone at once, by SIGTERM."""
    t.own(CONF)
    topic = t.topic(2)
    for kind in ("classic", "consumer"):
        jvm, out = t.jvm(), t.file(kind)
        job = t.java_start("hooked", jvm=jvm, topic=topic, out=out, **{"c.group.id": kind, "c.group.protocol": kind})
        job.event("polling", 30)
        t.equal(state(t, kind), ("STABLE", 1), "before")
        jvm.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        t.eventually(lambda: state(t, kind) == ("EMPTY", 0), 5, "the member to be gone")
        took = time.monotonic() - started
        t.eventually(lambda: out.exists() and "closed" in out.read_text(), 10, "the end of the program")
        t.equal(out.read_text(), "woken\nclosed\n", "how it ended")
        t.note("%s: gone after %.1f s" % (kind, took))


@test(seconds=120)
def offsets_age_out(t):
    """offsets.retention.minutes counts from when a group is empty; as long as it has members nothing goes. (Takes a minute: full only.)"""
    if not case.FULL:
        t.skip("a minute is the shortest retention there is: MR_FULL=1")
    b = t.own({**CONF, "offsets.retention.minutes": "1", "offsets.retention.check.interval.ms": "1000"})
    topic = t.topic(1)
    fill(t, topic, 10, 1)
    stays = member(t, "stays", topic)
    for kind, make in BOTH:
        goes = make(t, kind, topic)
        t.eventually(lambda: len(owned(goes)) == 1, 20, "the member of %s" % kind)
        time.sleep(1)
        goes.tell("close")
        goes.wait(20)
        # A group of the new protocol counts from the commit, a classic one from when it became empty.
        closed = time.monotonic()
        t.equal(committed_offset(t, kind, topic, b), 10, "what %s committed" % kind)
        while time.monotonic() < closed + 20:
            t.eventually(lambda: state(t, kind)[0] == "EMPTY", 5, "a group that is not old enough, %s" % kind)
            time.sleep(1)
    t.eventually(lambda: not {"old", "new"} & set(group_command(t, "--list").split()), 90, "the empty groups to be gone")
    t.check("stays" in group_command(t, "--list").split(), "the group with a member is gone")
    stays.tell("close")
    stays.wait(20)


@test(seconds=120)
def groups_are_listed_and_deleted(t):
    """Filters of --list by state and type; what may not be deleted is not: groups with members, offsets of topics that they read."""
    t.own(CONF)
    topic, other = t.topic(1), t.topic(1)
    fill(t, topic, 10, 1)
    jobs = []
    for kind, make in BOTH:
        jobs.append(make(t, kind, topic))
        gone = make(t, kind + "-gone", topic)
        for j in (jobs[-1], gone):
            t.eventually(lambda: len(owned(j)) == 1, 20, "a member")
        gone.tell("close")
        gone.wait(20)

    def listed(*how):
        return sorted(set(group_command(t, "--list", *how).split()) & {"old", "new", "old-gone", "new-gone"})
    t.equal(listed(), ["new", "new-gone", "old", "old-gone"], "all groups")
    t.equal(listed("--state", "stable"), ["new", "old"], "stable groups")
    t.equal(listed("--state", "empty"), ["new-gone", "old-gone"], "empty groups")
    t.equal(listed("--type", "classic"), ["old", "old-gone"], "classic groups")
    t.equal(listed("--type", "consumer", "--state", "empty"), ["new-gone"], "empty groups of the new protocol")
    for group in ("old", "new"):
        out = group_command(t, "--delete", "--group", group)
        t.check("GroupNotEmpty" in out, "deleting a group with a member:\n%s", out)
        out = group_command(t, "--delete-offsets", "--group", group, "--topic", topic)
        t.check("GroupSubscribedToTopic" in out, "deleting an offset that is in use:\n%s", out)
        out = group_command(t, "--delete", "--group", group + "-gone")
        t.check("successful" in out, "deleting an empty group:\n%s", out)
    t.equal(listed(), ["new", "old"], "what is left")
    for j in jobs:
        j.tell("close")
        j.wait(20)


@test(seconds=1800 if case.FULL else 150)
def random_rolling_restarts(t):
    """Members restart one after the other, each life of either protocol and any assignor: every record once. 200 restarts in full."""
    t.own(CONF)
    topic = t.topic(6)
    dice = random.Random(6)
    producer = t.java_start("produce", topic=topic, partitions=6, rate=200, size=20, count=10 ** 9)
    files, jobs = [], []
    assignors = ["Range", "CooperativeSticky"]

    def start():
        files.append(t.file("out-%d" % len(files)))
        args = {"out": files[-1], "c.session.timeout.ms": 10000, "c.heartbeat.interval.ms": 300}
        if dice.random() < 0.5:
            return new_member(t, "g", topic, out=files[-1], **{"c.group.remote.assignor": dice.choice(["uniform", "range"])})
        names = assignors[:] if dice.random() < 0.5 else ["Range"]
        args["c.partition.assignment.strategy"] = ",".join(
            "org.apache.kafka.clients.consumer.%sAssignor" % a for a in names)
        return new_member(t, "g", topic, **{"c.group.protocol": "classic"}, **args)
    for _ in range(3):
        jobs.append(start())
    balanced(t, jobs, 6, 60)
    restarts = 200 if case.FULL else 8
    for _ in range(restarts):
        at = dice.randrange(len(jobs))
        jobs[at].tell("close")
        jobs[at].wait(30)
        jobs[at] = start()
        t.eventually(lambda: sorted(sum((sorted(owned(j)) for j in jobs), [])) == ["%s-%d" % (topic, p) for p in range(6)], 60,
                     "each partition to have one owner; now %s" % [sorted(owned(j)) for j in jobs])
    producer.tell("stop")
    acked = int(fields(producer.wait(30))["acked"])
    read_once(t, files, 6, acked)
    for j in jobs:
        j.tell("close")
        j.wait(20)
    t.note("%d restarts, %d records" % (restarts, acked))


def committed_sum(t, group, topic):
    lines = (line.split() for line in group_command(t, "--describe", "--offsets", "--group", group).splitlines())
    return sum(int(f[3]) for f in lines if len(f) > 3 and f[0] == group and f[1] == topic)


@test(seconds=120)
def committed_offsets_are_in_kafka(t):
    """Consumer and coordinator restart: the next one begins exactly where the commits end, and Kafka's decoder reads them, both protocols."""
    b = t.own()
    for kind in ("classic", "consumer"):
        topic = t.topic(3)
        fill(t, topic, 900, 3)
        reader = {"c.group.id": kind, "c.group.protocol": kind, "c.auto.offset.reset": "earliest", "c.max.poll.records": 50}
        first = fields(t.java("consume", topic=topic, count=300, out=t.file(kind + "-1"), **reader))
        b.kill() if t.kind == "millrace" else b.stop()
        b.start()
        fields(t.java("consume", topic=topic, count=900 - int(first["read"]), idle_ms=20000, out=t.file(kind + "-2"), **reader))
        before, after = (t.file(kind + n).read_text().splitlines() for n in ("-1", "-2"))
        t.equal(len(set(before + after)), 900, "records of the two lives, %s" % kind)
        t.equal(len(before + after), 900, "records read twice, %s" % kind)
        t.equal(committed_sum(t, kind, topic), 900, "the sum of the committed offsets, %s" % kind)
    t.equal(b.stop(), 0, "exit status")
    dump = "".join(t.tool("dump-log", "--offsets-decoder", "--files", p).stdout()
                   for p in b.directory.glob("__consumer_offsets-*/*.log") if p.stat().st_size)
    for kind in ("classic", "consumer"):
        t.check(re.search(r'"group":"%s".*"offset":\d+' % kind, dump), "no commit of %s in the dump", kind)
