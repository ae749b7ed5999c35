"""Consumer groups, classic protocol: who owns what, when it moves, what was committed."""

import re
import signal
import threading
import time

from lib import case
from lib.case import test
from lib.clients import TimedOut, fields
from lib.helpers import python_consumer


def group_command(t, *args, broker=None):
    b = broker or t.broker
    return t.tool("consumer-groups", "--bootstrap-server", b.bootstrap, *args).stdout()


def members(t, group, broker=None):
    """[(consumer id, number of partitions)] as the tool prints them."""
    out = group_command(t, "--describe", "--members", "--group", group, broker=broker)
    found = []
    for line in out.splitlines():
        f = line.split()
        if f and f[0] == group:
            found.append((f[1], int([x for x in f if x.isdigit()][-1])))
    return found


def state(t, group, broker=None):
    """State of a group by the python Admin: a JVM would be too slow to see the short ones."""
    from confluent_kafka import KafkaException
    try:
        d = t.admin(broker).describe_consumer_groups([group], request_timeout=5)[group].result(10)
    except KafkaException as e:
        return str(e), 0  # the coordinator is still loading
    return d.state.name, len(d.members)


def committed_offset(t, group, topic, broker=None):
    out = group_command(t, "--describe", "--offsets", "--group", group, broker=broker)
    for line in out.splitlines():
        f = line.split()
        if len(f) > 3 and f[0] == group and f[1] == topic:
            return int(f[3])
    raise AssertionError("no offset of %s in:\n%s" % (group, out))


def member(t, group, topic, jvm=None, broker=None, **args):
    args.setdefault("c.session.timeout.ms", 6000)
    args.setdefault("c.heartbeat.interval.ms", 500)
    args.setdefault("c.metadata.max.age.ms", 1000)
    return t.java_start("member", jvm=jvm, broker=broker, topic=topic, **{"c.group.id": group}, **args)


def owners(t, group, broker=None):
    """{(topic, partition): [consumer id]} as kafka-consumer-groups --describe tells it."""
    found = {}
    for line in group_command(t, "--describe", "--group", group, broker=broker).splitlines():
        f = line.split()
        if len(f) > 6 and f[0] == group and f[2].isdigit():
            found.setdefault((f[1], int(f[2])), []).append(f[6])
    return found


def owned(job):
    """What a member owns now, from its events (eager protocol: each assignment is the whole)."""
    now = []
    for e in job.drain():
        word = e.split()
        if word[0] == "assigned":
            now = [] if word[2] == "-" else word[2].split(",")
        elif word[0] in ("revoked", "lost"):
            now = []
    return now


def balanced(t, jobs, partitions, timeout_s=30):
    """Until the members own all partitions, each once."""
    def ok():
        all_ = sorted(p for j in jobs for p in owned(j))
        return len(all_) == partitions and len(set(all_)) == partitions and all(owned(j) for j in jobs)
    t.eventually(ok, timeout_s, lambda: "%d members to share %d partitions; now %s" % (len(jobs), partitions, [len(owned(j)) for j in jobs]))


def fill(t, topic, count, partitions, prefix="v", broker=None):
    got = fields(t.java("produce", topic=topic, count=count, partitions=partitions, prefix=prefix, broker=broker))
    t.equal(got["acked"], str(count), "records produced")


def read_by(job_files, partitions):
    """{(partition, offset): [value]} of all members' files."""
    out = {}
    for f in job_files:
        if f.exists():
            # The reader may be in the middle of a line.
            for line in f.read_text().rpartition("\n")[0].splitlines():
                topic, p, o, v = line.split(" ", 3)
                out.setdefault((topic, int(p), int(o)), []).append(v)
    return out


@test(seconds=120)
def group_shares_partitions(t):
    topic = t.topic(12)
    readers = [t.tool_start("console-consumer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--group", topic,
                            "--from-beginning", "--timeout-ms", 60000) for _ in range(3)]
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


@test(seconds=200)
def members_come_and_go(t):
    """Java and librdkafka in one group, joining, closing, killed, while records flow: none is lost."""
    b = t.own({"group.initial.rebalance.delay.ms": "3000"})
    topic = t.topic(6)
    walked = []  # the states of the group, as the python Admin sees them one after the other
    watching = threading.Event()

    def watch():
        while not watching.is_set():
            now = state(t, topic)[0]
            if not walked or walked[-1] != now:
                walked.append(now)
            time.sleep(0.02)

    def stable(members_now, timeout_s, what):
        """That many members; kafka-consumer-groups says so too, and each partition has one owner."""
        t.eventually(lambda: state(t, topic) == ("STABLE", members_now), timeout_s, what)
        said = owners(t, topic, b)
        t.equal(sorted(said), [(topic, p) for p in range(6)], "partitions of the group, " + what)
        t.check(all(len(o) == 1 and o[0] != "-" for o in said.values()), "owners, %s: %s", what, said)
        t.equal(len({o[0] for o in said.values()}), members_now, "members that own something, " + what)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    producer = t.java_start("produce", topic=topic, partitions=6, rate=300, size=20, count=10 ** 9)
    files = []

    def java(jvm=None):
        files.append(t.file("out-%d" % len(files)))
        return member(t, topic, topic, jvm=jvm, out=files[-1], commit_each=1)

    def python():
        files.append(t.file("out-%d" % len(files)))
        return t.python_start("member.py", b.bootstrap, topic, topic, files[-1])

    # A second member inside the initial delay joins the first generation.
    first, second = java(), java()
    first.event("assigned", 20)
    second.event("assigned", 20)
    t.equal(len([e for e in first.drain() if e.startswith("assigned")]), 1, "assignments of the first member")
    balanced(t, [first, second], 6)

    for _ in range(5 if case.FULL else 1):
        victim = t.jvm()
        killed = java(victim)
        killed.event("assigned", 20)
        py1, py2 = python(), python()
        stable(5, 15, "five members")
        victim.kill()
        started = time.monotonic()
        t.eventually(lambda: state(t, topic) == ("STABLE", 4), 25, "the killed member to be dropped")
        t.check(time.monotonic() - started > 3, "dropped after %.1f s, before its session ended", time.monotonic() - started)
        py1.signal(signal.SIGTERM)  # closes and leaves
        t.equal(py1.wait(20), 0, "exit status of the python member")
        stable(3, 10, "the closed member gone")
        py2.kill()
        second.tell("close")
        second.wait(20)
        second = java()
        second.event("assigned", 30)
        stable(2, 30, "two members")
        balanced(t, [first, second], 6)
    producer.tell("stop")
    acked = int(fields(producer.wait(30))["acked"])

    def all_read():
        return len(read_by(files, 6)) == acked
    t.eventually(all_read, 30, lambda: "%d records; %d were read" % (acked, len(read_by(files, 6))))
    got = read_by(files, 6)
    for (topic_, p, o), values in got.items():
        t.check(len(set(values)) == 1, "offset %d of partition %d has values %s", o, p, values)
    per = {}
    for (_, p, o), values in got.items():
        per.setdefault(p, {})[o] = values[0]
    for p, records in per.items():
        t.equal([records[o].rstrip(".") for o in sorted(records)], ["v%d:%d" % (p, i) for i in range(len(records))],
                "partition %d" % p)
    out = group_command(t, "--describe", "--state", "--group", topic)
    t.check("Stable" in out, "the tool says:\n%s", out)
    first.tell("close")
    second.tell("close")
    first.wait(20)
    second.wait(20)
    t.eventually(lambda: walked[-1] == "EMPTY", 10, "an empty group")
    watching.set()
    watcher.join()
    out = group_command(t, "--describe", "--state", "--group", topic)
    t.check("Empty" in out, "the tool says:\n%s", out)
    # Completing lasts a millisecond or two: it may be seen or not. To Stable leads only a rebalance.
    walk = [s for s in walked if s != "COMPLETING_REBALANCING"]
    rounds = walk.count("PREPARING_REBALANCING")
    t.check(rounds >= 4, "rebalances seen: %s", walked)
    for before, after in zip(walk, walk[1:]):
        t.check((before, after) not in {("EMPTY", "STABLE"), ("DEAD", "STABLE")}, "states seen: %s", walked)
    t.note("%d records, %d rebalances seen" % (acked, rounds))


@test(seconds=60)
def rebalance_within_a_heartbeat(t):
    topic = t.topic(4)
    first = member(t, topic, topic, **{"c.heartbeat.interval.ms": 1000})
    first.event("assigned")
    seen = len(first.drain())
    time.sleep(0.5)
    started = time.time() * 1000
    second = member(t, topic, topic, **{"c.heartbeat.interval.ms": 1000})
    revoked = float(first.event("revoked", 20, after=seen).split()[1])
    assigned = float(first.event("assigned", 20, after=seen).split()[1])
    second.event("assigned", 20)
    # The newcomer needs a moment to connect and ask for its member id.
    t.check(revoked - started < 2500, "revoked after %d ms", revoked - started)
    t.check(assigned - revoked < 1500, "assigned %d ms after revoked", assigned - revoked)
    balanced(t, [first, second], 4)
    t.note("revoked %d ms after the newcomer began" % (revoked - started))
    for j in (first, second):
        j.tell("close")
        j.wait(20)


@test(seconds=60)
def duplicate_instance_is_fenced(t):
    topic = t.topic(2)
    # Sessions that outlive the test: who goes was removed, and did not just fall silent.
    static = {"c.group.instance.id": "one", "c.session.timeout.ms": 45000}
    older = member(t, topic, topic, **static)
    older.event("assigned")
    newer = member(t, topic, topic, **static)
    older.event("fenced", 30)
    newer.event("assigned", 30)
    balanced(t, [newer], 2)
    # A static member that closes keeps its place; an administrator removes it.
    newer.tell("close")
    newer.wait(20)
    t.equal([n for _, n in members(t, topic)], [2], "the static member after its close")
    t.java("remove_members", group=topic, instance="one")
    t.eventually(lambda: state(t, topic) == ("EMPTY", 0), 10, "the removed member to be gone")


@test(seconds=90)
def frozen_member_is_replaced(t):
    topic = t.topic(4)
    jvm = t.jvm()
    frozen = member(t, topic, topic, jvm=jvm)
    frozen.event("assigned", 30)
    other = member(t, topic, topic)
    balanced(t, [frozen, other], 4)
    seen = len(other.drain())
    frozen.tell("pause")
    frozen.event("paused")
    time.sleep(0.6)  # one more heartbeat, so that the session begins about now
    jvm.freeze()
    started = time.monotonic()
    other.event("assigned", 30, after=seen)
    seconds = time.monotonic() - started
    # The session began with the last heartbeat, at most 0.5 s before; the survivor hears of it with its next one.
    t.check(5.4 < seconds < 7.2, "partitions moved after %.1f s with a session of 6 s", seconds)
    t.equal(len(owned(other)), 4, "partitions of the survivor")
    jvm.thaw()
    before = len(frozen.drain())
    frozen.tell("commit")  # in its old generation
    refused = frozen.event("commit", 20, after=before)
    t.check("CommitFailed" in refused or "RebalanceInProgress" in refused, "the old commit: %s", refused)
    frozen.tell("resume")
    balanced(t, [frozen, other], 4, 40)
    t.note("moved after %.1f s, %s" % (seconds, refused))
    for j in (frozen, other):
        j.tell("close")
        j.wait(20)


def median(values):
    return sorted(values)[len(values) // 2]


@test(seconds=120, alone=True)
def close_leaves_at_once(t):
    """Within 200 ms; the median of five, for one of them may meet a busy machine."""
    topic = t.topic(4)
    quick = {"c.heartbeat.interval.ms": 50, "c.session.timeout.ms": 45000}
    first = member(t, topic, topic, **quick)
    moved = []
    for _ in range(5):
        second = member(t, topic, topic, **quick)
        balanced(t, [first, second], 4)
        time.sleep(0.3)
        seen = len(first.drain())
        started = time.time() * 1000
        second.tell("close")
        moved.append(float(first.event("assigned", 20, after=seen).split()[1]) - started)
        t.equal(len(owned(first)), 4, "partitions of the one that stayed")
        second.wait(20)
    t.note("partitions moved after %.0f ms" % median(moved))
    t.check(median(moved) < 200, "partitions moved after %s ms", moved)
    first.tell("close")
    first.wait(20)
    # wakeup() out of a long poll, then close(): gone at once. Also for librdkafka.
    took = []
    for i in range(3):
        group = "%s-wake-%d" % (topic, i)
        job = t.java_start("wakeup_close", topic=topic, group=group, **{"c.session.timeout.ms": 45000})
        job.event("polling", 30)
        t.equal(state(t, group), ("STABLE", 1), "before")
        time.sleep(0.3)
        job.tell("wake")
        took.append(int(fields(job.wait(20))["close_ms"]))
        t.equal(state(t, group), ("EMPTY", 0), "after wakeup() and close()")
    t.equal(members(t, group), [], "members that the tool shows")
    t.note("close after wakeup in %d ms" % median(took))
    t.check(median(took) < 200, "close took %s ms", took)
    took = []
    for i in range(3):
        group = "%s-py-%d" % (topic, i)
        c = python_consumer(t.broker.bootstrap, group_id=group, session_timeout_ms=45000)
        c.subscribe([topic])
        deadline = time.monotonic() + 20
        while not c.assignment() and time.monotonic() < deadline:
            c.poll(0.1)
        started = time.monotonic()
        c.close()
        took.append((time.monotonic() - started) * 1000)
        t.equal(state(t, group), ("EMPTY", 0), "after close() in python")
    t.note("python close in %.0f ms" % median(took))
    t.check(median(took) < 200, "python's close took %s ms", took)


@test(seconds=60)
def subscriptions_follow_topics(t):
    """Subscribe before the topic exists; patterns; more partitions; a second topic."""
    late = "subscriptions_follow_topics-late"
    early = member(t, late, late, **{"c.allow.auto.create.topics": "false"})
    pattern = t.java_start("member", pattern="^follow-.*", **{"c.group.id": late + "-re", "c.metadata.max.age.ms": 1000})
    python = python_consumer(t.broker.bootstrap, group_id=late + "-py", topic_metadata_refresh_interval_ms=1000,
                             allow_auto_create_topics=False)
    python.subscribe(["^follow-.*"])
    python.poll(0.5)
    plain = python_consumer(t.broker.bootstrap, group_id=late + "-py-list", topic_metadata_refresh_interval_ms=1000,
                            allow_auto_create_topics=False)
    plain.subscribe([late])
    plain.poll(0.5)
    time.sleep(1)

    def has(consumer, count):
        def polled():
            consumer.poll(0.1)
            return len(consumer.assignment()) == count
        return polled

    # metadata.max.age.ms is 1000; a rebalance follows, in which members take part with their next heartbeat.
    soon = 4
    t.topic(2, name=late)
    t.eventually(lambda: len(owned(early)) == 2, soon, "the late topic to be assigned")
    t.eventually(has(plain, 2), 8, "the late topic to be assigned in python")
    t.java("add_partitions", topic=late, partitions=3)
    t.eventually(lambda: len(owned(early)) == 3, soon, "the added partition to be assigned")
    t.eventually(has(plain, 3), 8, "the added partition to be assigned in python")
    second = t.topic(2)
    early.tell("subscribe:%s,%s" % (late, second))
    t.eventually(lambda: len(owned(early)) == 5, soon, "the second topic to be assigned")
    plain.subscribe([late, second])
    t.eventually(has(plain, 5), 8, "the second topic to be assigned in python")
    plain.close()
    t.topic(1, name="follow-a")
    t.eventually(lambda: len(owned(pattern)) == 1, soon, "a topic that matches the pattern")
    t.topic(2, name="follow-b")
    t.eventually(lambda: len(owned(pattern)) == 3, soon, "another topic that matches the pattern")
    t.eventually(has(python, 3), 8, "python's pattern to match")
    fill(t, "follow-b", 10, 2)
    read = []

    def python_reads():
        m = python.poll(0.2)
        if m is not None and not m.error():
            read.append(m.value())
        return len(read) == 10
    t.eventually(python_reads, 15, "records of the new topic in python")
    python.close()
    for j in (early, pattern):
        j.tell("close")
        j.wait(20)


@test(seconds=90)
def partitions_are_added(t):
    topic = t.topic(2)
    group = member(t, topic, topic)
    group.event("assigned")
    producer = t.java_start("produce", topic=topic, rate=300, count=10 ** 9, keys="seq", **{"p.metadata.max.age.ms": 1000,
                            "p.linger.ms": 0})
    time.sleep(1)
    t.equal(t.java("add_partitions", topic=topic, partitions=6, validate_only=1), "partitions=2", "validateOnly")
    tool = t.tool_start("topics", "--bootstrap-server", t.broker.bootstrap, "--alter", "--topic", topic, "--partitions", 6)
    w = t.wire()
    t.eventually(lambda: w.list_offsets(topic, 5, -1)[0] == 0, 20, "kafka-topics --alter")
    altered = time.time() * 1000
    t.eventually(lambda: len(owned(group)) == 6, 10, "the group to own six partitions")
    t.equal(tool.wait(20), 0, "exit status of kafka-topics")
    found = float([e for e in group.drain() if e.startswith("assigned")][-1].split()[1]) - altered
    # metadata.max.age.ms is 1000, and so is a rebalance's worst: a heartbeat (500) and its two rounds.
    t.check(found < 2500, "the group owned the new partitions %.0f ms after they were there", found)
    t.eventually(lambda: all(w.list_offsets(topic, p, -1)[2] > 0 for p in range(2, 6)), 20, "records in the new partitions")
    wrote = max(w.list_offsets(topic, p, 0)[1] for p in range(2, 6)) - altered
    t.check(wrote < 2500, "the producer wrote to the last of them after %.0f ms", wrote)
    t.note("used after %.0f ms by the group, %.0f ms by the producer" % (found, wrote))
    producer.tell("stop")
    got = fields(producer.wait(20))
    t.equal(got["failed"], "0", "errors of the producer: " + got["errors"])
    group.tell("close")
    t.check(int(fields(group.wait(20))["read"]) > 0, "nothing was read")
    bad = t.tool("topics", "--bootstrap-server", t.broker.bootstrap, "--alter", "--topic", topic, "--partitions", 4, check=False)
    t.check("InvalidPartitions" in bad.stdout() + bad.stderr(), "fewer partitions: %s", (bad.stdout() + bad.stderr())[-300:])


@test(seconds=90)
def commit_is_a_position(t):
    b = t.own()
    topic = t.topic()
    fill(t, topic, 4000, 1)
    t.equal(t.java("commit_back", topic=topic, group="g", offsets="3000,2000"), "committed=2000", "Java commits 3000, then 2000")
    c = python_consumer(b.bootstrap, group_id="g-py")
    from confluent_kafka import TopicPartition
    c.subscribe([topic])
    deadline = time.monotonic() + 20
    while not c.assignment() and time.monotonic() < deadline:
        c.poll(0.1)
    for o in (3000, 2000):
        c.commit(offsets=[TopicPartition(topic, 0, o)], asynchronous=False)
    c.close()
    t.equal(committed_offset(t, "g", topic), 2000, "what the tool says")
    t.equal(b.stop(), 0, "exit status")
    b.start()
    t.equal(committed_offset(t, "g", topic), 2000, "after a restart")
    t.equal(committed_offset(t, "g-py", topic), 2000, "python's after a restart")
    # and the members begin there
    out = t.file("resumed")
    job = member(t, "g", topic, out=out)
    t.eventually(lambda: out.exists() and out.read_text().count("\n") >= 2000, 20, "the rest of the records")
    first = out.read_text().split("\n", 1)[0].split()
    t.equal(first[2], "2000", "the first record after the restart")
    job.tell("close")
    job.wait(20)


@test(seconds=60)
def commits_in_order(t):
    topic = t.topic()
    fill(t, topic, 10, 1)
    for i in range(5):
        group = "%s-%d" % (topic, i)
        t.equal(t.java("commit_order", topic=topic, group=group, offsets="2000,3000"), "order=2000,3000,", "callbacks")
        t.equal(t.java("committed", topic=topic, group=group).split()[0], "committed=3000", "what stays")


@test(seconds=60)
def commit_with_metadata(t):
    topic = t.topic()
    t.equal(t.java("commit_metadata", topic=topic, group=topic, bytes=4096), "committed", "4096 bytes")
    t.equal(t.java("committed", topic=topic, group=topic), "committed=7 epoch=0 metadata_bytes=4096", "read back")
    t.equal(t.java("commit_metadata", topic=topic, group=topic, bytes=4097), "error=OffsetMetadataTooLarge", "4097 bytes")
    from confluent_kafka import KafkaException, TopicPartition
    c = python_consumer(t.broker.bootstrap, group_id=topic + "-py")
    # python sends the zero at the end of its string along
    c.commit(offsets=[TopicPartition(topic, 0, 9, "p" * 4095)], asynchronous=False)
    t.equal(c.committed([TopicPartition(topic, 0)], timeout=10)[0].metadata, "p" * 4095, "python's 4096 bytes read back")
    try:
        c.commit(offsets=[TopicPartition(topic, 0, 9, "p" * 4096)], asynchronous=False)
        raise AssertionError("python committed 4097 bytes")
    except KafkaException as e:
        t.equal(e.args[0].code(), 12, "python's 4097 bytes")
    c.close()


@test(seconds=90)
def commits_of_the_dead(t):
    topic = t.topic(2)
    fill(t, topic, 100, 2)
    # CommitFailedException after the session is over.
    jvm = t.jvm()
    job = member(t, topic, topic, jvm=jvm, **{"c.enable.auto.commit": "false"})
    job.event("assigned", 30)
    job.tell("commit")
    job.event("committed", 20)
    job.tell("pause")
    job.event("paused")
    jvm.freeze()
    # Alone in its group it is dropped when the session ends.
    t.eventually(lambda: state(t, topic) == ("EMPTY", 0), 20, "the frozen member to be dropped")
    jvm.thaw()
    seen = len(job.drain())
    job.tell("commit")
    t.equal(job.event("commit", 20, after=seen), "commit-failed CommitFailedException", "a commit after the session")
    job.tell("resume")
    t.eventually(lambda: len(owned(job)) == 2, 30, "the member to be back")
    # RebalanceInProgress while a rebalance waits for a member that does not poll; afterwards it succeeds.
    slow = member(t, topic, topic)
    balanced(t, [job, slow], 2)
    slow.tell("pause")
    slow.event("paused", 10)
    other = member(t, topic, topic)

    def commit_says():
        before = len(job.drain())
        job.tell("commit")
        return job.event("commit", 20, after=before)
    t.eventually(lambda: commit_says() == "commit-failed RebalanceInProgressException", 15, "a commit in a rebalance to be refused")
    slow.tell("resume")
    t.eventually(lambda: state(t, topic) == ("STABLE", 3), 30, "three stable members")
    t.eventually(lambda: commit_says() == "committed", 15, "a commit after the rebalance")
    for j in (job, other, slow):
        j.tell("close")
        j.wait(20)


@test(seconds=90)
def group_survives_restart(t):
    b = t.own()
    topic = t.topic(4)
    out = t.file("out")
    # Its session must outlive the restart (3 s for a real Kafka).
    job = member(t, "g", topic, out=out, commit_each=1, **{"c.session.timeout.ms": 30000})
    job.event("assigned")
    fill(t, topic, 1000, 4, "a")
    t.eventually(lambda: out.exists() and out.read_text().count("\n") == 1000, 20, "the first thousand")
    time.sleep(0.3)
    b.kill() if t.kind == "millrace" else b.stop()
    started = time.monotonic()
    b.start()
    fill(t, topic, 1000, 4, "b")
    t.eventually(lambda: out.read_text().count("\n") >= 2000, 25, "the second thousand")
    t.note("resumed within %.1f s" % (time.monotonic() - started))
    lines = out.read_text().splitlines()
    t.equal(len(set(lines)), len(lines), "records read twice although committed")
    t.equal(len(lines), 2000, "records")
    t.equal(state(t, "g"), ("STABLE", 1), "the group")
    job.tell("close")
    job.wait(20)
    # A member that remembers nothing begins where the commits of before the next kill end.
    b.kill() if t.kind == "millrace" else b.stop()
    b.start()
    out = t.file("successor")
    job = member(t, "g", topic, out=out)
    job.event("assigned")
    fill(t, topic, 1000, 4, "c")
    t.eventually(lambda: out.exists() and out.read_text().count("\n") >= 1000, 25, "the third thousand")
    values = [x.split(" ", 3)[3].rstrip(".") for x in out.read_text().splitlines()]
    t.equal(sorted(values), sorted("c%d:%d" % (p, i) for p in range(4) for i in range(250)), "what the successor read")
    job.tell("close")
    job.wait(20)


@test(seconds=120)
def many_groups_one_backfill(t):
    topic = t.topic(3)
    fill(t, topic, 30000, 3, "old")
    groups = 50
    job = t.java_start("many_groups", topic=topic, groups=groups, count=1500, prefix=topic,
                       **{"c.auto.offset.reset": "latest", "c.heartbeat.interval.ms": 3000})
    job.event("ready", 60)
    time.sleep(1.5)  # the last ones still ask for their positions
    backfill = t.java_start("consume", topic=topic, count=30000)
    fill(t, topic, 1500, 3, "new")
    t.equal(fields(backfill.wait(60))["read"], "30000", "the backfill")
    got = fields(job.wait(100))
    t.equal((got["min"], got["max"], got["failures"]), ("1500", "1500", "0"), "what each of 50 groups read")


@test(seconds=900 if case.FULL else 60)
def offline_consumer_resumes(t):
    """A group is away while records flow (10 minutes in full), then misses nothing."""
    topic = t.topic(3)
    away = 600 if case.FULL else 5
    producer = t.java_start("produce", topic=topic, partitions=3, rate=1000, count=10 ** 9, size=100)
    files = [t.file("before"), t.file("after")]
    job = member(t, topic, topic, out=files[0])
    job.event("assigned")
    time.sleep(2)
    job.tell("close")
    job.wait(20)
    time.sleep(away)
    job = member(t, topic, topic, out=files[1])
    job.event("assigned", 20)
    producer.tell("stop")
    acked = int(fields(producer.wait(30))["acked"])
    t.eventually(lambda: len(read_by(files, 3)) == acked, 60, lambda: "all %d records; %d came" % (acked, len(read_by(files, 3))))
    lines = [x for f in files for x in f.read_text().splitlines()]
    t.equal(len(lines), acked, "records read, none twice after a clean close")
    job.tell("close")
    job.wait(20)
