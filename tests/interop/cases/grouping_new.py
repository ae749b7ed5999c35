"""Consumer groups, the new protocol (KIP-848): the broker assigns, members reconcile."""

import signal
import struct
import time

from cases.grouping import fill, group_command, members, read_by, state
from cases.hostile import more_files
from lib import case
from lib.case import test
from lib.clients import ClientFailed, fields
from lib.helpers import python_consumer
from lib.wire import Wire, batch, record, string

# A session and heartbeats that a test can wait for; members may not choose their own.
CONF = {"group.consumer.session.timeout.ms": "6000", "group.consumer.heartbeat.interval.ms": "500"}


def member(t, group, topic, jvm=None, **args):
    args.setdefault("c.metadata.max.age.ms", 1000)
    return t.java_start("member", jvm=jvm, topic=topic, **{"c.group.id": group, "c.group.protocol": "consumer", **args})


def owned(job):
    """What a member owns now, from its events: they tell what came and what went."""
    now = set()
    for e in job.drain():
        word = e.split()
        parts = set() if len(word) < 3 or word[2] == "-" else set(word[2].split(","))
        if word[0] == "assigned":
            now |= parts
        elif word[0] in ("revoked", "lost"):
            now -= parts
    return now


def balanced(t, jobs, partitions, timeout_s=30):
    def ok():
        all_ = sorted(p for j in jobs for p in owned(j))
        counts = [len(owned(j)) for j in jobs]
        return len(all_) == partitions and len(set(all_)) == partitions and max(counts) - min(counts) <= 1
    t.eventually(ok, timeout_s, lambda: "%d members to share %d partitions; now %s, after %s" % (
        len(jobs), partitions, [len(owned(j)) for j in jobs], [j.drain()[-4:] for j in jobs]))


@test(seconds=120)
def console_consumers_share_partitions(t):
    t.own(CONF)
    topic = t.topic(12)
    readers = [t.tool_start("console-consumer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--group", topic,
                            "--from-beginning", "--timeout-ms", 60000, "--command-property", "group.protocol=consumer")
               for _ in range(3)]
    t.eventually(lambda: state(t, topic) == ("STABLE", 3), 40, "three stable members")
    t.equal(sorted(n for _, n in members(t, topic)), [4, 4, 4], "partitions per member")
    fill(t, topic, 6000, 12)
    t.eventually(lambda: sum(len(r.out) for r in readers) >= 6000, 30, lambda: "6000 records; came %d" % sum(len(r.out) for r in readers))
    for r in readers:
        r.signal(signal.SIGINT)
    for r in readers:
        r.wait(20)
        t.check(len(r.out) == 2000, "a member read %d records", len(r.out))
    lines = sorted(x for r in readers for x in r.stdout().split())
    t.equal(lines, sorted("v%d:%d" % (p, i) for p in range(12) for i in range(500)), "the union")
    t.eventually(lambda: state(t, topic) == ("EMPTY", 0), 10, "an empty group")
    out = group_command(t, "--list", "--type", "consumer", "--state", "empty")
    t.check(topic in out, "the tool lists:\n%s", out)


@test(seconds=150)
def new_members_come_and_go(t):
    """Java and librdkafka in one group, joining, closing, killed, while records flow: none is lost."""
    t.own(CONF)
    topic = t.topic(6)
    producer = t.java_start("produce", topic=topic, partitions=6, rate=300, size=20, count=10 ** 9)
    files = []

    def java(jvm=None):
        files.append(t.file("out-%d" % len(files)))
        return member(t, topic, topic, jvm=jvm, out=files[-1])

    def python():
        files.append(t.file("out-%d" % len(files)))
        return t.python_start("member.py", t.broker.bootstrap, topic, topic, files[-1], "consumer")

    first, second = java(), java()
    balanced(t, [first, second], 6)
    # Nobody stopped the world: who keeps a partition is not told to give it up.
    t.check(all("lost" not in e for j in (first, second) for e in j.drain()), "a member lost partitions")
    victim = t.jvm()
    killed = java(victim)
    killed.event("assigned", 20)
    python1, python2 = python(), python()
    t.eventually(lambda: state(t, topic) == ("STABLE", 5), 30, lambda: "five stable members; now %s" % (state(t, topic),))
    victim.kill()
    started = time.monotonic()
    t.eventually(lambda: state(t, topic) == ("STABLE", 4), 25, "the killed member to be dropped")
    t.check(time.monotonic() - started > 3, "dropped after %.1f s, before its session ended", time.monotonic() - started)
    python1.signal(signal.SIGTERM)  # closes and leaves
    t.equal(python1.wait(20), 0, "exit status of the python member")
    t.eventually(lambda: state(t, topic)[1] == 3, 5, "the closed member to be gone at once")
    python2.kill()
    second.tell("close")
    second.wait(20)
    third = java()
    balanced(t, [first, third], 6)
    producer.tell("stop")
    acked = int(fields(producer.wait(30))["acked"])
    t.eventually(lambda: len(read_by(files, 6)) == acked, 30, lambda: "%d records; %d were read" % (acked, len(read_by(files, 6))))
    for (_, p, o), values in read_by(files, 6).items():
        t.check(len(set(values)) == 1, "offset %d of partition %d has values %s", o, p, values)
    first.tell("close")
    third.tell("close")
    first.wait(20)
    third.wait(20)
    t.eventually(lambda: state(t, topic) == ("EMPTY", 0), 10, "an empty group")
    t.note("%d records" % acked)


@test(seconds=90)
def new_members_follow_topics(t):
    """Partitions are added, a topic is subscribed to: members get them without a rejoin."""
    t.own(CONF)
    topic, other = t.topic(2), t.topic(2)
    one = member(t, "g", topic)
    two = member(t, "g", topic)
    balanced(t, [one, two], 2)
    from confluent_kafka.admin import NewPartitions
    t.admin().create_partitions([NewPartitions(topic, 6)])[topic].result(20)
    balanced(t, [one, two], 6, 15)
    one.tell("subscribe:%s,%s" % (topic, other))
    t.eventually(lambda: len(owned(one) | owned(two)) == 8 and sum(p.startswith(other) for p in owned(one)) == 2, 20,
                 "the new topic to go to its only subscriber; now %s and %s" % (owned(one), owned(two)))
    t.check(not owned(one) & owned(two), "owned twice: %s", owned(one) & owned(two))
    for j in (one, two):
        j.tell("close")
        j.wait(20)


@test(seconds=90)
def new_members_subscribe_by_pattern(t):
    """The broker matches: Java's SubscriptionPattern and librdkafka's ^ in the syntax of RE2; a topic created later is consumed."""
    b = t.own(CONF)
    first, other = t.topic(2, name="pat-a"), t.topic(1, name="other")
    java = member(t, "java", first, re2="pat-[a-z]")
    python = python_consumer(b.bootstrap, **{"group.id": "python", "group.protocol": "consumer"})
    python.subscribe(["^pat-.*"])

    def assigned():
        python.poll(0.05)
        return sorted((p.topic, p.partition) for p in python.assignment())
    t.eventually(lambda: owned(java) == {"pat-a-0", "pat-a-1"}, 20, lambda: "what the pattern matches; now %s" % owned(java))
    t.eventually(lambda: assigned() == [("pat-a", 0), ("pat-a", 1)], 20, lambda: "what python's pattern matches; now %s" % assigned())
    t.topic(1, name="pat-b")
    t.eventually(lambda: "pat-b-0" in owned(java) and ("pat-b", 0) in assigned(), 30, lambda: "the later topic; now %s, %s" % (owned(java), assigned()))
    out = t.admin(b).describe_consumer_groups(["java"])["java"].result(10)
    t.equal(sorted((p.topic, p.partition) for p in out.members[0].assignment.topic_partitions),
            [("pat-a", 0), ("pat-a", 1), ("pat-b", 0)], "what the description shows")
    try:
        why = member(t, "wrong", first, re2="(pat").wait(30)
    except ClientFailed as e:
        why = str(e)
    t.check("InvalidRegularExpression" in why and "(pat" in why, "a wrong pattern: %s", why)
    python.close()
    java.tell("close")
    java.wait(20)


@test(seconds=90)
def new_static_member_keeps_its_partitions(t):
    """A static member restarts within its session: the other one hears nothing of it. A second one is refused."""
    t.own({**CONF, "group.consumer.session.timeout.ms": "30000"})
    topic = t.topic(4)
    static = {"c.group.instance.id": "one"}
    one, two = member(t, "g", topic, **static), member(t, "g", topic, **{"c.group.instance.id": "two"})
    balanced(t, [one, two], 4)
    mine, seen = owned(one), len(two.drain())
    try:
        why = member(t, "g", topic, **static).wait(30)
    except ClientFailed as e:
        why = str(e)
    t.check("UnreleasedInstanceId" in why, "a second member: %s", why)
    one.tell("close")
    one.wait(20)
    back = member(t, "g", topic, **static)
    t.eventually(lambda: owned(back) == mine, 20, lambda: "the same partitions %s; now %s" % (mine, owned(back)))
    t.equal(two.drain()[seen:], [], "events of the other member")
    t.equal(state(t, "g"), ("STABLE", 2), "the group")
    for j in (back, two):
        j.tell("close")
        j.wait(20)


@test(seconds=90)
def new_group_survives_kill(t):
    """kill -9 of the broker: members go on at their epochs, offsets are where they were committed."""
    b = t.own(CONF)
    topic = t.topic(4)
    out = t.file("out")
    one, two = member(t, "g", topic, out=out), member(t, "g", topic)
    balanced(t, [one, two], 4)
    before = [owned(one), owned(two)]
    seen = [len(one.drain()), len(two.drain())]
    b.kill() if t.kind == "millrace" else b.stop()
    b.start()
    t.eventually(lambda: state(t, "g") == ("STABLE", 2), 30, "the group as it was")
    fill(t, topic, 400, 4)
    t.eventually(lambda: out.exists() and out.read_text().count("\n") >= 200, 20, "the records of two partitions")
    t.equal([owned(one), owned(two)], before, "who owns what")
    t.equal([one.drain()[seen[0]:], two.drain()[seen[1]:]], [[], []], "events of the members")
    for j in (one, two):
        j.tell("close")
        j.wait(20)


@test(seconds=150)
def group_tool_on_new_groups(t):
    """kafka-consumer-groups: describe, reset in four ways, delete offsets, delete the group; on a group of the new protocol."""
    t.own(CONF)
    topic = t.topic(2)
    fill(t, topic, 200, 2)
    one = member(t, "g", topic)
    t.eventually(lambda: len(owned(one)) == 2, 20, "both partitions")
    out = group_command(t, "--describe", "--group", "g", "--state")
    t.check("uniform" in out and "Stable" in out, "state:\n%s", out)
    one.tell("close")
    one.wait(20)
    t.eventually(lambda: state(t, "g") == ("EMPTY", 0), 10, "an empty group")

    def offsets():
        from confluent_kafka import ConsumerGroupTopicPartitions
        got = t.admin().list_consumer_group_offsets([ConsumerGroupTopicPartitions("g")])["g"].result(10)
        return {p.partition: p.offset for p in got.topic_partitions}

    def reset(*how):
        return group_command(t, "--group", "g", "--topic", topic, "--reset-offsets", *how, "--execute")
    t.equal(offsets(), {0: 100, 1: 100}, "offsets when all was read")
    reset("--to-earliest")
    t.equal(offsets(), {0: 0, 1: 0}, "to the earliest")
    reset("--shift-by", 30)
    t.equal(offsets(), {0: 30, 1: 30}, "shifted")
    reset("--to-datetime", "2100-01-01T00:00:00.000")
    t.equal(offsets(), {0: 100, 1: 100}, "to a time to come: the end")
    plan = t.file("plan.csv")
    plan.write_text("%s,0,7\n%s,1,8\n" % (topic, topic))
    group_command(t, "--group", "g", "--reset-offsets", "--from-file", plan, "--execute")
    t.equal(offsets(), {0: 7, 1: 8}, "from a file")
    out = group_command(t, "--group", "g", "--delete-offsets", "--topic", topic + ":1")
    t.check("Successful" in out, "deleting an offset:\n%s", out)
    t.equal(offsets(), {0: 7}, "what is left")
    out = group_command(t, "--group", "g", "--delete")
    t.check("successful" in out, "deleting the group:\n%s", out)
    t.check("g" not in group_command(t, "--list").split(), "the group is still listed")


@test(seconds=90)
def configs_of_groups(t):
    """kafka-configs --entity-type groups: the session of one group is shorter than that of the broker; bounds hold."""
    b = t.own({"group.consumer.min.session.timeout.ms": "5000", "group.consumer.min.heartbeat.interval.ms": "500"})
    topic = t.topic(2)

    def configs(*args):
        p = t.tool("configs", "--bootstrap-server", b.bootstrap, "--entity-type", "groups", "--entity-name", "g", *args, check=False)
        return p.stdout() + p.stderr()
    out = configs("--alter", "--add-config", "consumer.session.timeout.ms=5000,consumer.heartbeat.interval.ms=500")
    t.check("Completed" in out, "altering:\n%s", out)
    out = configs("--describe")
    t.check("consumer.session.timeout.ms=5000" in out and "DYNAMIC_GROUP_CONFIG" in out, "describing:\n%s", out)
    out = configs("--alter", "--add-config", "consumer.session.timeout.ms=4999")
    t.check("InvalidConfig" in out and "group.consumer.min.session.timeout.ms" in out, "below the bound:\n%s", out)
    jvm = t.jvm()
    for group in ("g", "h"):
        job = member(t, group, topic, jvm=jvm)
        job.event("assigned", 20)
    jvm.kill()
    started = time.monotonic()
    t.eventually(lambda: state(t, "g") == ("EMPTY", 0), 15, "the killed member to be dropped after its group's session")
    t.check(time.monotonic() - started > 3, "dropped after %.1f s", time.monotonic() - started)
    t.equal(state(t, "h")[1], 1, "members of the group with the broker's session")


# ---- both protocols in one group ----

def old_member(t, group, topic, **args):
    return member(t, group, topic, **{"c.group.protocol": "classic", "c.session.timeout.ms": 10000,
                                      "c.heartbeat.interval.ms": 300, **args})


def group_type(t, group):
    return next((k for k in ("classic", "consumer") if group in group_command(t, "--list", "--type", k).split()), "none")


def read_once(t, files, partitions, acked):
    """Every record was read, in whole, by one member, once."""
    t.eventually(lambda: len(read_by(files, partitions)) >= acked, 30,
                 "%d records; %d were read" % (acked, len(read_by(files, partitions))))
    got = read_by(files, partitions)
    t.equal(len(got), acked, "records read")
    again = {at: v for at, v in got.items() if len(v) > 1}
    t.check(not again, "%d records were read twice, such as %s", len(again), sorted(again)[:5])
    for p in range(partitions):
        offsets = sorted(o for _, q, o in got if q == p)
        t.equal(offsets, list(range(len(offsets))), "offsets of partition %d" % p)


@test(seconds=200)
def members_change_their_protocol(t):
    """Three members restart one after the other, from the classic protocol to the new one and back, while records flow."""
    t.own(CONF)
    topic = t.topic(6)
    producer = t.java_start("produce", topic=topic, partitions=6, rate=200, size=20, count=10 ** 9)
    files = []

    def start(make, **args):
        files.append(t.file("out-%d" % len(files)))
        return make(t, "g", topic, out=files[-1], **args)
    jobs = [start(old_member), start(old_member), start(old_member)]
    balanced(t, jobs, 6)
    t.equal(group_type(t, "g"), "classic", "the group of classic members")
    for make, kind in ((member, "consumer"), (old_member, "classic")):
        for at in range(3):
            jobs[at].tell("close")
            jobs[at].wait(20)
            jobs[at] = start(make)
            balanced(t, jobs, 6)
            if make is member or at == 2:
                t.equal(group_type(t, "g"), kind, "the group after %d of 3" % (at + 1))
    producer.tell("stop")
    acked = int(fields(producer.wait(30))["acked"])
    read_once(t, files, 6, acked)
    for j in jobs:
        j.tell("close")
        j.wait(20)
    t.note("%d records" % acked)


# ---- rows of the classic protocol, with members of the new one ----

NEW = {"c.group.protocol": "consumer"}


@test(seconds=120)
def new_commits(t):
    """A commit is a position, stays over a restart, and commits keep their order; the seed's consumer reads all."""
    b = t.own(CONF)
    topic = t.topic()
    fill(t, topic, 4000, 1)
    t.equal(t.java("commit_back", topic=topic, group="back", offsets="3000,2000", **NEW), "committed=2000", "3000, then 2000")
    t.equal(t.java("commit_order", topic=topic, group="order", offsets="2000,3000", **NEW), "order=2000,3000,", "callbacks")
    t.equal(t.java("committed", topic=topic, group="order", **NEW).split()[0], "committed=3000", "what stays")
    t.equal(b.stop(), 0, "exit status")
    b.start()
    out = t.file("resumed")
    job = member(t, "back", topic, out=out)
    t.eventually(lambda: out.exists() and out.read_text().count("\n") >= 2000, 20, "the rest of the records")
    t.equal(out.read_text().split("\n", 1)[0].split()[2], "2000", "the first record after the restart")
    job.tell("close")
    job.wait(20)
    got = fields(t.java("seed_consumer", topic=topic, group="seed", count=4000, **NEW))
    t.equal(got["read"], "4000", "subscribe(list)")


@test(seconds=120)
def new_frozen_member_is_replaced(t):
    """A member of the new protocol is frozen: its partitions move when its session ends, its old commit is refused, it comes back."""
    t.own(CONF)
    topic = t.topic(4)
    jvm = t.jvm()
    frozen, other = member(t, "g", topic, jvm=jvm), member(t, "g", topic)
    balanced(t, [frozen, other], 4)
    seen = len(other.drain())
    frozen.tell("pause")
    frozen.event("paused")
    time.sleep(0.6)
    jvm.freeze()
    started = time.monotonic()
    other.event("assigned", 30, after=seen)
    seconds = time.monotonic() - started
    t.check(5.4 < seconds < 7.7, "partitions moved after %.1f s with a session of 6 s", seconds)
    t.equal(len(owned(other)), 4, "partitions of the survivor")
    jvm.thaw()
    before = len(frozen.drain())
    frozen.tell("commit")
    refused = frozen.event("commit", 20, after=before)
    t.check("failed CommitFailed" in refused, "the old commit: %s", refused)
    frozen.tell("resume")
    balanced(t, [frozen, other], 4, 40)
    t.note("moved after %.1f s, %s" % (seconds, refused))
    for j in (frozen, other):
        j.tell("close")
        j.wait(20)


@test(seconds=120, alone=True)
def new_members_hear_and_leave_at_once(t):
    """A newcomer is heard of within a heartbeat; a closed member's partitions move with the next one, also out of a long poll."""
    t.own(CONF)
    topic = t.topic(4)
    first = member(t, "g", topic)
    t.eventually(lambda: len(owned(first)) == 4, 20, "all partitions")
    time.sleep(1.2)  # targets are made at most once per second
    seen, started = len(first.drain()), time.time() * 1000
    second = member(t, "g", topic)
    revoked = float(first.event("revoked", 20, after=seen).split()[1])
    t.check(revoked - started < 2000, "revoked after %d ms", revoked - started)
    balanced(t, [first, second], 4)
    moved = []
    for _ in range(3):
        time.sleep(1.2)
        seen, started = len(first.drain()), time.time() * 1000
        second.tell("close")
        moved.append(float(first.event("assigned", 20, after=seen).split()[1]) - started)
        second.wait(20)
        second = member(t, "g", topic)
        balanced(t, [first, second], 4)
    t.check(sorted(moved)[1] < 900, "partitions moved after %s ms, heartbeats every 500", moved)
    for j in (first, second):
        j.tell("close")
        j.wait(20)
    job = t.java_start("wakeup_close", topic=topic, group="wake", **NEW)
    job.event("polling", 30)
    time.sleep(0.3)
    job.tell("wake")
    took = int(fields(job.wait(20))["close_ms"])
    t.equal(state(t, "wake"), ("EMPTY", 0), "after wakeup() and close()")
    t.note("revoked %d ms after a newcomer, moved %s ms after a close, close() %d ms" % (revoked - started, [int(x) for x in moved], took))


@test(seconds=90)
def new_members_begin_where_told(t):
    """auto.offset.reset of members without a commit: from the first record, behind the last, at a time ago, or not at all."""
    topic = t.topic(1)
    began = int(time.time() * 1000) - 600000  # ten records in one batch, a minute apart
    minutes = [record(i, None, b"v%d" % i, 60000 * i) for i in range(10)]
    t.wire().produce({topic: {0: batch(minutes, base_timestamp=began, max_timestamp=began + 540000)}})
    for reset, expected in (("earliest", 10), ("latest", 0), ("by_duration:PT1H", 10), ("by_duration:PT5M30S", 5),
                            ("by_duration:PT1S", 0)):
        got = fields(t.java("consume", topic=topic, idle_ms=1500, count=10, **{
            "c.group.id": reset.replace(":", "-"), "c.group.protocol": "consumer", "c.auto.offset.reset": reset}))
        t.equal(int(got["read"]), expected, "records read with " + reset)
    try:
        t.java("consume", topic=topic, idle_ms=3000, **{"c.group.id": "none", "c.group.protocol": "consumer", "c.auto.offset.reset": "none"})
        t.check(False, "a member without a commit and without a reset begins somewhere")
    except ClientFailed as e:
        t.check("NoOffsetForPartitionException" in str(e), "with none: %s", str(e)[:300])


def compact(text):
    return bytes([len(text) + 1]) + text.encode()


@test(seconds=300 if case.FULL else 120, alone=True)
def many_idle_members(t):
    """1,000 (full: 5,000) members in groups of 20, a connection each, that only heartbeat: what they cost; none is thrown out."""
    count, per_group, every_s = 5000 if case.FULL else 1000, 20, 6
    session = 120000 if case.FULL else 16000  # a quarter of it is less than the interval, or than the joining takes
    b = t.own({"group.consumer.session.timeout.ms": str(session), "group.consumer.heartbeat.interval.ms": "5000"})
    topic = t.topic(4)
    more_files(t, count)
    t.wire().call(10, 0, string("g"))  # makes __consumer_offsets
    time.sleep(1)
    rss, members_ = b.rss_kib(), []

    def beat(w, group, member, epoch):
        """ConsumerGroupHeartbeat 0 of a member that has nothing: member id, epoch."""
        is_new = epoch == 0
        body = compact(group) + compact(member) + struct.pack(">i", epoch) + b"\0\0" + struct.pack(">i", 60000 if is_new else -1)
        body += (b"\2" + compact(topic) if is_new else b"\0") + b"\0" + (b"\1" if is_new else b"\0") + b"\0"
        r = w.call(68, 0, body, header2=True)
        r.take("b")
        _, error = r.take("ih")
        message = r.data[r.pos + 1:r.pos + r.data[r.pos]] if r.data[r.pos] else b""
        t.equal((error, message), (0, b""), "error of a heartbeat")
        r.pos += 1
        length = r.take("B") - 1
        member = r.data[r.pos:r.pos + length].decode()
        r.pos += length
        return member, r.take("i")

    for n in range(count):
        w, group = Wire(b.port, host=b.host), "g%d" % (n // per_group)
        members_.append([w, group, *beat(w, group, "", 0)])
    grown = b.rss_kib() - rss
    for life in range(2):
        until = time.monotonic() + every_s
        if life == 1:
            cpu, began = b.cpu_s(), time.monotonic()
        for m in members_:  # spread over the interval and a bit
            m[2], m[3] = beat(*m)
            time.sleep(max(0, (until - time.monotonic()) / count / 2))
        time.sleep(max(0, until - time.monotonic()))
    cpu = (b.cpu_s() - cpu) / (time.monotonic() - began) * 100
    for m in members_:
        m[0].close()
    t.check(grown < 24 * 1024 + 4 * count, "%d KiB for all", grown)  # the logs of 50 partitions have their pages now
    t.check(cpu < 10, "%.1f %% of a CPU", cpu)
    t.note("%d members: %d KiB, %.1f %% of a CPU with a heartbeat in %d s" % (count, grown, cpu, every_s))


def poll_both(consumers, seconds):
    from confluent_kafka import KafkaException
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for c in consumers:
            m = c.poll(0.05)
            if m is not None and m.error():
                raise KafkaException(m.error())


@test(seconds=90)
def assignors_of_the_broker(t):
    """Members choose among the broker's: range gives one the same partitions of both topics, uniform every one as many; another
    name is refused by its error."""
    from confluent_kafka import KafkaException
    t.own({**CONF, "group.consumer.min.heartbeat.interval.ms": "500", "group.consumer.min.session.timeout.ms": "6000"})
    topics = [t.topic(3), t.topic(3)]
    for assignor, shares in (("range", [2, 4]), ("uniform", [3, 3])):
        consumers = [python_consumer(t.broker.bootstrap, group_id=assignor, group_protocol="consumer", group_remote_assignor=assignor)
                     for _ in range(2)]
        for c in consumers:
            c.subscribe(topics)
        held = []

        def settled():
            poll_both(consumers, 0.5)
            held[:] = [[sorted(p.partition for p in c.assignment() if p.topic == topic) for topic in topics] for c in consumers]
            return [sum(len(one[n]) for one in held) for n in (0, 1)] == [3, 3] and all(map(any, held))
        t.eventually(settled, 30, lambda: "all partitions by %s, now %s" % (assignor, held))
        if assignor == "range":
            t.check(all(one == other for one, other in held), "the same partitions of both topics: %s", held)
        t.equal(sorted(len(a) + len(b) for a, b in held), shares, "partitions by %s" % assignor)
        for c in consumers:
            c.close()
    wrong = python_consumer(t.broker.bootstrap, group_id="wrong", group_protocol="consumer", group_remote_assignor="sticky")
    wrong.subscribe(topics)
    try:
        poll_both([wrong], 20)
        t.check(False, "an assignor that the broker does not have was taken")
    except KafkaException as e:
        t.check("assignor or its version range is not supported" in str(e), "refused with %r", e)  # error 112, in its words
    wrong.close()


def committed(w, group, topic):
    """Its offset of partition 0, by OffsetFetch 5; -1: none."""
    r = w.call(9, 5, string(group) + struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0))
    if r.take("ii")[1] == 0:  # topics; none while its coordinator is still loading
        return -1
    r.string()
    r.take("ii")  # one partition, 0
    return r.take("q")


@test(seconds=600 if case.FULL else 120, alone=True, millrace_only=True)
def groups_by_the_thousand(t):
    """Many groups with an offset each outlive kill -9: all are listed, each has its offset, within 2 s (the best of three)."""
    from confluent_kafka import TopicPartition
    count, topic = 100000 if case.FULL else 5000, t.topic(1)
    python_consumer(t.broker.bootstrap, group_id="g0").committed([TopicPartition(topic, 0)], timeout=20)  # a coordinator there is
    w = Wire(t.broker.port)
    for first in range(0, count, 1000):
        asked = [w.send(8, 7, string("g%d" % n) + struct.pack(">i", -1) + string("") + string(None) + struct.pack(">i", 1) + string(topic) +
                        struct.pack(">iiqi", 1, 0, n + 1, -1) + string("")) for n in range(first, min(first + 1000, count))]
        for correlation in asked:
            r = w.receive(correlation)
            t.equal((r.take("ii"), r.string(), r.take("iih")), ((0, 1), topic, (1, 0, 0)), "the answer to a commit")
    w.close()
    took = []
    for _ in range(3):
        t.broker.kill()
        began = time.monotonic()
        t.broker.start()
        w = Wire(t.broker.port, timeout_s=30)
        for n in list(range(0, count, max(1, count // 200))) + [count - 1]:
            while (offset := committed(w, "g%d" % n, topic)) < 0:
                t.check(time.monotonic() - began < 60, "group g%d has no offset", n)
            t.equal(offset, n + 1, "the offset of g%d" % n)
        w.close()
        took.append(time.monotonic() - began)
    t.note("%d groups, %.2f s from the start until they answered" % (count, min(took)))
    t.check(min(took) < 2, "it took %s s", took)
    r = Wire(t.broker.port, timeout_s=30).call(16, 0, b"")
    t.equal(r.take("h"), 0, "error of ListGroups")
    listed = {name for name, _ in r.array(lambda: (r.string(), r.string()))}
    t.equal(listed - {"py"}, {"g%d" % n for n in range(count)}, "groups listed")
