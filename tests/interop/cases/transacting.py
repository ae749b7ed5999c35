"""Transactions: what committed readers see, who is fenced, what survives."""

import re
import struct
import sys
import threading
import time

from lib import deps
from lib.case import test
from lib.clients import fields
from lib.wire import string


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


@test(seconds=120)
def transactions_tool(t):
    """kafka-transactions: list, describe, the producers of a partition, and the end of a transaction by force."""
    topic = t.topic(1)
    id = "tool-" + topic
    job = t.java_start("open_transaction", topic=topic, id=id, count=10)
    job.event("open", 30)

    def tool(*args):
        return t.tool("transactions", "--bootstrap-server", t.broker.bootstrap, *args).stdout()

    listed = [line.split() for line in tool("list").splitlines() if line.startswith(id)]
    t.check(len(listed) == 1 and listed[0][-1] == "Ongoing", "listed: %s", listed)
    t.check("Ongoing" in tool("describe", "--transactional-id", id), "describe")
    producers = tool("describe-producers", "--topic", topic, "--partition", "0").splitlines()
    t.check(len(producers) == 2 and producers[1].split()[-1] == "0", "producers: %s", producers)
    tool("abort", "--topic", topic, "--partition", "0", "--start-offset", "0")
    w = t.wire()
    t.equal(w.list_offsets(topic, 0, -1)[2], 11, "ten records and a marker")
    t.equal(seen(t, topic, "read_committed"), 0, "records that committed readers see")
    producers = tool("describe-producers", "--topic", topic, "--partition", "0").splitlines()
    t.check(producers[1].split()[-1] == "None", "producers: %s", producers)
    job.tell("leave")
    job.wait(60)


@test(seconds=120)
def timed_out_transaction_is_aborted(t):
    """A producer goes away with an open transaction: within its timeout and the scan's interval nothing is held back."""
    b = t.own({"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"})
    topic = t.topic(1, broker=b)
    jvm = t.jvm()
    job = t.java_start("open_transaction", jvm=jvm, broker=b, topic=topic, id="gone-" + topic, count=10,
                       **{"p.transaction.timeout.ms": 3000})
    job.event("open", 30)
    jvm.kill()
    t.java("produce", topic=topic, count=5, prefix="after", broker=b)
    t.eventually(lambda: seen(t, topic, "read_committed", b) == 5, 15, "the records behind the open transaction")


@test(seconds=120)
def transaction_files_are_kafkas(t):
    """DumpLogSegments reads __transaction_state and what a transaction leaves in a log."""
    b = t.own()
    topic = t.topic(1, broker=b)
    t.java("transactions", topic=topic, count=9, records=2, broker=b)
    b.stop()
    states = [p for p in b.directory.glob("__transaction_state-*/*.log") if p.stat().st_size]
    t.check(len(states) == 1, "files of __transaction_state with records: %s", states)
    out = t.tool("dump-log", "--transaction-log-decoder", "--deep-iteration", "--files", states[0]).stdout()
    ended = (out.count('"transactionStatus":4'), out.count('"transactionStatus":5'))
    t.equal(ended, (6, 3), "CompleteCommit, CompleteAbort in:\n" + out[-2000:])
    index = next(b.directory.glob(topic + "-0/*.txnindex"))
    t.equal(index.stat().st_size, 3 * 34, "bytes of the .txnindex: three aborted transactions")
    out = t.tool("dump-log", "--files", index).stdout()
    t.equal(out.count("producerId"), 3, "entries of the .txnindex in:\n" + out)
    out = t.tool("dump-log", "--deep-iteration", "--print-data-log", "--files", index.with_suffix(".log")).stdout()
    t.equal((out.count("endTxnMarker: COMMIT"), out.count("endTxnMarker: ABORT")), (6, 3), "markers in:\n" + out[-2000:])


@test(seconds=90)
def markers_take_one_offset(t):
    """Offsets rise by one for each record and each marker, over kill -9 too; committed readers get exactly theirs; the markers
    lie where the gaps are."""
    b = t.own()
    topic = t.topic(3, broker=b)
    job = t.java_start("marked_offsets", topic=topic, broker=b)
    job.event("half", 30)
    b.kill()
    b.start()
    job.tell("go")
    got = fields(job.wait(60))
    b.stop()
    for p in range(3):
        log = next(b.directory.glob("%s-%d/*.log" % (topic, p)))
        out = t.tool("dump-log", "--deep-iteration", "--files", log).stdout()
        ends = re.findall(r"offset: (\d+) .*endTxnMarker: (COMMIT|ABORT)", out)
        t.equal(",".join(offset + kind[0] for offset, kind in ends), got["markers%d" % p], "markers of partition %d" % p)


@test(seconds=120)
def streams_counts_words_exactly(t):
    """Kafka Streams' word count with exactly_once_v2: the application is killed in its first transaction and again later; every
    count of every word once, over a repartition topic and a changelog."""
    b = t.own({"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"})
    source, to, words, lines = t.topic(2, broker=b), t.topic(2, broker=b), 20, 1200
    t.kcat("-P", "-t", source, "-p", "-1", broker=b,
           input="".join("w%d w%d\n" % (i % words, (i * 7 + 3) % words) for i in range(lines)))
    expected = {}
    for i in range(lines):
        for word in (i % words, (i * 7 + 3) % words):
            expected[word] = expected.get(word, 0) + 1
    expected = sorted("w%d:%d" % (w, n + 1) for w, count in expected.items() for n in range(count))
    w = t.wire(b)
    written = lambda: sum(w.list_offsets(to, p, -1)[2] for p in range(2))

    def app(number):
        return t.streams_start("WordCount", b.bootstrap, "words-" + to, source, to, t.dir / ("state-%d" % number))

    first = app(1)
    t.eventually(lambda: written() > 0, 30, "counts of the first transaction")
    first.kill()
    before = written()
    second = app(2)
    t.eventually(lambda: written() > before, 30, "counts of the second application")
    second.kill()
    third = app(3)
    t.eventually(lambda: len(values(t, to, b, 2)) >= len(expected), 40, "all counts")
    third.kill()
    t.equal(sorted(values(t, to, b, 2)), expected, "counts that committed readers see")


@test(seconds=120)
def librdkafka_moves_exactly_once(t):
    """The same by librdkafka (version 1 of the protocol), killed with -9 and started again; some transactions given up."""
    b = t.own({"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"})
    source, to, count = t.topic(2, broker=b), t.topic(2, broker=b), 1000
    fill = fields(t.java("produce", topic=source, count=count, partitions=2, prefix="r", broker=b))
    t.equal(fill["acked"], str(count), "records produced")

    def app():
        return t.python_start("transform.py", b.bootstrap, source, to, source, "move-" + source)

    first = app()
    first.line(lambda line: line.startswith("moved") and int(line.split()[1]) > 100, 30)
    first.kill()
    second = app()
    t.eventually(lambda: len(values(t, to, b, 2)) >= count, 40, "all records on the other side")
    second.kill()
    t.equal(sorted(values(t, to, b, 2)), sorted("r%d:%d" % (p, i) for p in range(2) for i in range(count // 2)),
            "each record once")


@test(seconds=150, millrace_only=True)
def kafka_goes_on_with_transactions(t):
    """Transactions that are open when the broker stops: Kafka 4.3.1 starts on the directory, and the producers commit and abort
    there; a dead one's is aborted by Kafka in time. Then the other way round."""
    conf = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500"}
    b = t.own(conf)
    topics = [t.topic(1, broker=b) for _ in range(3)]
    jvm = t.jvm()

    def begin(broker, round, limit_ms):
        jobs = [t.java_start("open_transaction", jvm=j, broker=broker, topic=x, id="%s-%d" % (x, round), count=10,
                             **{"p.transaction.timeout.ms": limit})
                for x, j, limit in ((topics[0], None, 60000), (topics[1], None, 60000), (topics[2], jvm, limit_ms))]
        for job in jobs:
            job.event("open", 30)
        return jobs

    def finish(broker, jobs, round):
        jobs[0].tell("commit")
        jobs[1].tell("abort")
        t.equal(jobs[0].wait(40), "ended=commit", "the commit")
        t.equal(jobs[1].wait(40), "ended=abort", "the abort")
        t.equal(seen(t, topics[0], "read_committed", broker), 10 * round, "committed records")
        t.equal(seen(t, topics[1], "read_committed", broker), 0, "aborted records")
        w = t.wire(broker)
        t.eventually(lambda: w.list_offsets(topics[2], 0, -1)[2] == 11 * round, 60, "the marker of the dead one's")
        t.equal(seen(t, topics[2], "read_committed", broker), 0, "records of the dead one")

    # Not while Kafka starts: markers that it sends before it listens to itself it never sends again.
    jobs = begin(b, 1, 18000)
    jvm.kill()
    b.stop()
    k = t.own(conf, kind="kafka", directory=b.directory, port=b.port)
    finish(k, jobs, 1)
    jvm = t.jvm()
    jobs = begin(k, 2, 6000)
    jvm.kill()
    k.stop()
    b.start()
    finish(b, jobs, 2)


def stable_end(w, topic, partition):
    """(last stable offset, high watermark) by ListOffsets 5."""
    out = []
    for isolation in (1, 0):
        body = struct.pack(">ib", -1, isolation) + struct.pack(">i", 1) + string(topic) + struct.pack(">iiiq", 1, partition, -1, -1)
        r = w.call(2, 5, body)
        r.take("i")
        r.array(lambda: (r.string(), r.array(lambda: out.append(r.take("ihqqi")[3]))))
    return tuple(out)


def log_end(broker, topic, partition):
    """Of a dead broker's log, from its file: where it ends, and whether its last batch is a marker."""
    data, at, end, is_marker = (broker.directory / ("%s-%d" % (topic, partition)) / ("0" * 20 + ".log")).read_bytes(), 0, 0, False
    while at + 61 <= len(data) and struct.unpack_from(">i", data, at + 8)[0] > 0:
        base, length = struct.unpack_from(">qi", data, at)
        attributes, delta = struct.unpack_from(">hi", data, at + 21)
        end, is_marker, at = base + delta + 1, bool(attributes & 0x20), at + 12 + length
    return end, is_marker


def killed_with_decided(t, broker, topic, count):
    """Producers commit and abort, one partition each, until the broker is killed, again and again until some of their transactions
    are decided and not marked: what of those partitions was decided, and where they end."""
    sys.path.insert(0, str(deps.ROOT / "perf"))
    import transactions as generator
    generator.TOPIC = topic
    for _ in range(6):
        producers = [generator.Producer(n, broker) for n in range(count)]
        for p in producers:
            p.commits = p.partition % 2
        end = threading.Timer(1.0, broker.kill)
        end.start()
        try:
            generator.drive(producers, 10, 0)
        except (OSError, SystemExit):
            pass  # it was killed
        end.join()
        for p in producers:
            p.s.close()
        if broker.kind == "millrace":
            broker.recover()
        last = {}
        for file in broker.directory.glob("__transaction_state-*/*.log"):
            if file.stat().st_size:
                out = t.tool("dump-log", "--transaction-log-decoder", "--files", file).stdout()
                last.update(re.findall(r'"transactionalId":"([^"]*)".*?"transactionStatus":(\d)', out))
        prepared = {int(i.rpartition("-")[2]): PREPARED[state] for i, state in last.items() if state in PREPARED}
        ends = {p: log_end(broker, topic, p) for p in prepared}
        found = {p: (what, ends[p][0]) for p, what in prepared.items() if not ends[p][1]}
        if found:
            return found
        broker.start()
    t.check(False, "it never died with a decided transaction")


PREPARED = {"2": "commit", "3": "abort"}


def completes(t, broker, topic, count, found):
    """What was decided is marked; then everybody, also whoever was open, goes on."""
    def is_stable(partition):
        """A marker is behind what was there."""
        stable, end = stable_end(w, topic, partition)
        return stable == end > found.get(partition, ("", 0))[1]
    sys.path.insert(0, str(deps.ROOT / "perf"))
    import transactions as generator
    w = t.wire(broker)
    for _ in range(3):  # markers that Kafka sends before it listens to itself it sends again only after another start
        until = time.monotonic() + 15
        while broker.kind == "kafka" and not all(map(is_stable, found)) and time.monotonic() < until:
            time.sleep(0.2)
        if broker.kind == "kafka" and not all(map(is_stable, found)):
            broker.stop()
            broker.start()
            w = t.wire(broker)
    for partition in found:
        t.eventually(lambda: is_stable(partition), 30,
                     lambda: "the markers of partition %d: %s" % (partition, stable_end(w, topic, partition)))
    for n in range(count):  # whoever was open is fenced and aborted
        generator.Producer(n, broker).s.close()
    for partition in range(count):
        t.eventually(lambda: is_stable(partition), 20, "the stable end of partition %d" % partition)
    t.note("%d of %d were decided when it was killed: %s" % (len(found), count, sorted(what for what, _ in found.values())))


@test(seconds=300, millrace_only=True)
def millrace_completes_what_kafka_prepared(t):
    """Kafka is killed while 16 producers commit and abort: some transactions are decided, their markers not written. Millrace writes
    them."""
    conf = {"transaction.state.log.num.partitions": "1", "log.retention.ms": "-1"}  # the generator's records are old
    k = t.own(conf, kind="kafka")
    topic, count = t.topic(16, broker=k), 16
    found = killed_with_decided(t, k, topic, count)
    completes(t, t.own(conf, directory=k.directory), topic, count, found)


@test(seconds=300, millrace_only=True)
def kafka_completes_what_millrace_prepared(t):
    """The other way round: Kafka 4.3.1 starts on the directory of a Millrace that was killed."""
    conf = {"transaction.state.log.num.partitions": "1", "log.retention.ms": "-1"}  # the generator's records are old
    b = t.own(conf)
    topic, count = t.topic(16, broker=b), 16
    found = killed_with_decided(t, b, topic, count)
    completes(t, t.own(conf, kind="kafka", directory=b.directory), topic, count, found)
