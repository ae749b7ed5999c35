"""What consumers are promised: order, offsets, long polls, limits, positions."""

import hashlib
import subprocess
import time

from lib import case, wire
from lib.case import test
from lib.clients import fields
from lib.helpers import consume_all, end_offsets, perf_produce, python_consumer, python_producer, total


# Hand-made batches are years old: the default retention deletes them at its first look, 30 s after the start.
KEPT = {"retention.ms": "-1"}


def batches_of(t, topic, batches, per_batch, partition=0, size=20, step_ms=1000, base=1_700_000_000_000):
    """Hand-made batches whose borders and timestamps are known."""
    w = t.wire()
    for i in range(batches):
        records = [wire.record(k, b"k", b"%d" % (i * per_batch + k) + b"." * size, timestamp_delta=k) for k in range(per_batch)]
        b = wire.batch(records, base_timestamp=base + i * step_ms, max_timestamp=base + i * step_ms + per_batch - 1)
        t.equal(w.produce({topic: {partition: b}})[(topic, partition)][:2], (0, i * per_batch), "batch %d" % i)


@test()
def seek_into_a_batch(t):
    topic = t.topic(conf=KEPT)
    batches_of(t, topic, 3, 100)
    for offset in (0, 1, 57, 99, 100, 150, 299):
        got = fields(t.java("seek", topic=topic, offset=offset))
        t.equal((got["position"], got["first"], got["assignment"]), (str(offset), str(offset), "1"), "Java at %d" % offset)
        out = t.kcat("-C", "-t", topic, "-p", 0, "-o", offset, "-c", 1, "-q", "-f", "%o").stdout()
        t.equal(out, str(offset), "kcat at %d" % offset)


@test(seconds=120)
def offsets_by_time(t):
    topic = t.topic(conf=KEPT)
    base = 1_700_000_000_000
    batches_of(t, topic, 3, 10, base=base)
    times = {base - 5: 0, base: 0, base + 1: 1, base + 9: 9, base + 10: 10, base + 1000: 10, base + 1005: 15, base + 2009: 29}
    got = fields(t.java("offsets_for", topic=topic, times=",".join(map(str, list(times) + [base + 2010]))))
    t.equal((got["begin"], got["end"]), ("0", "30"), "begin and end")
    said = dict(x.split(":") for x in got["times"].strip(",").split(","))
    for at, offset in times.items():
        t.equal(said[str(at)].split("@")[0], str(offset), "the first record at or after %d" % at)
    t.equal(said[str(base + 2010)], "none", "after the last record")
    for spec, expected in (("-1", 30), ("latest", 30), ("-2", 0), ("earliest", 0), ("-3", 29), ("max-timestamp", 29),
                           ("-4", 0), ("earliest-local", 0), ("-5", None), ("latest-tiered", None), (str(base + 1005), 15)):
        t.equal(end_offsets(t, topic, spec).get(0), expected, "kafka-get-offsets --time " + spec)
    out = t.kcat("-C", "-t", topic, "-p", 0, "-o", "s@%d" % (base + 1005), "-e", "-q", "-f", "%o\n").stdout().split()
    t.equal(out, [str(o) for o in range(15, 30)], "kcat -o s@timestamp")
    out = t.tool("console-consumer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--partition", 0, "--offset", 28,
                 "--max-messages", 2, "--timeout-ms", 15000).stdout().split()
    t.equal([x.rstrip(".") for x in out], ["28", "29"], "console consumer --offset")
    t.java("delete_records", topic=topic, before=12)
    for reset, offset, expected in (("earliest", 3, "first=12"), ("latest", 3, "position=30"), ("earliest", 99, "first=12"),
                                    ("latest", 99, "position=30"), ("none", 99, "error=OffsetOutOfRangeException"),
                                    ("none", 3, "error=OffsetOutOfRangeException"), ("by_duration:P3650D", 99, "first=12")):
        t.equal(t.java("reset", topic=topic, offset=offset, **{"c.auto.offset.reset": reset}), expected, "%s from %d" % (reset, offset))


@test()
def records_are_deleted(t):
    topic = t.topic(conf=KEPT)
    batches_of(t, topic, 3, 10)
    t.equal(t.java("delete_records", topic=topic, before=15), "low=15", "deleteRecords")
    got = fields(t.java("offsets_for", topic=topic))
    t.equal((got["begin"], got["end"]), ("15", "30"), "begin and end")
    t.equal([o for o, _ in consume_all(t, topic, 15)[0]], list(range(15, 30)), "what is left")


def console_consumer_wakes(t):
    """kafka-console-consumer in polls of 10 s, killed in one: records at once, then its connections at once."""
    topic = t.topic()
    p = python_producer(t.broker.bootstrap, linger_ms=0)
    before = t.broker.connections()
    reader = t.tool_start("console-consumer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--from-beginning",
                          "--command-property", "fetch.max.wait.ms=10000", "--command-property", "fetch.min.bytes=1")
    worst = 0
    for i in range(6):
        value = "wake-%d" % i
        started = time.monotonic()
        p.produce(topic, value=value)
        p.poll(0)
        reader.line(lambda line: line == value, 30)
        if i > 0:  # the first one waits for the JVM
            worst = max(worst, time.monotonic() - started)
        time.sleep(0.3)  # the next poll is at the broker
    p.flush(5)
    t.check(worst < 1, "kafka-console-consumer saw a record after %.2f s, in a poll of 10 s", worst)
    t.note("console consumer %.0f ms" % (worst * 1000))
    open_ = t.broker.connections()
    t.check(open_ > before, "kafka-console-consumer has no connection")
    reader.kill()
    t.eventually(lambda: t.broker.connections() <= open_ - 2, 0.5, "its connections to be freed")


@test(seconds=90)
def long_polls_wake(t):
    topic = t.topic()
    before = t.broker.connections()
    job = t.java_start("latency", topic=topic, count=5, **{"c.fetch.max.wait.ms": 10000, "c.fetch.min.bytes": 1})
    job.event("ready", 30)
    for i in range(5):
        seen = len(job.drain())
        time.sleep(0.3)
        t.java("produce", topic=topic, count=1, partitions=1)
        job.event("got", 5, after=seen)
    got = fields(job.wait(20))
    t.check(int(got["worst_ms"]) < 1500, "a record took %s ms in a poll of 10 s", got["worst_ms"])
    t.note("worst %s ms" % got["worst_ms"])
    console_consumer_wakes(t)
    jvm = t.jvm()
    held = t.java_start("hold_poll", jvm=jvm, topic=topic, **{"c.fetch.max.wait.ms": 30000})
    held.event("ready", 30)
    t.check(t.broker.connections() > before - 3, "no connection")
    open_ = t.broker.connections()
    jvm.kill()
    t.eventually(lambda: t.broker.connections() < open_, 0.5, "the killed consumer's connections to be freed")


def librdkafka_waits_for_bytes(t):
    """The same seen by a client: after a record it asks again, and the next small one comes when that wait ends."""
    from confluent_kafka import TopicPartition
    topic = t.topic(2)
    p = python_producer(t.broker.bootstrap, linger_ms=0, message_max_bytes=2000000)
    c = python_consumer(t.broker.bootstrap, fetch_min_bytes=1 << 20, fetch_wait_max_ms=2000,
                        max_partition_fetch_bytes=4 << 20)
    c.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])

    def until_read(count):
        started = time.monotonic()
        while count > 0:
            m = c.poll(10)
            t.check(m is not None and not m.error(), "python: %s", m and m.error())
            count -= 1
        return time.monotonic() - started

    try:
        p.produce(topic, value=b"first", partition=0)
        p.flush(10)
        until_read(1)
        p.produce(topic, value=b"small", partition=1)
        p.flush(10)
        waited = until_read(1)
        t.check(1.5 < waited < 2.6, "a small record below min bytes came after %.2f s of 2 s", waited)
        for partition in (0, 1):
            p.produce(topic, value=bytes(540000), partition=partition)
        p.flush(10)
        waited = until_read(2)
        t.check(waited < 0.8, "min bytes over two partitions came after %.2f s", waited)
    finally:
        c.close()


@test(alone=True)
def fetch_min_bytes(t):
    topic = t.topic(2)
    w, p = t.wire(), t.wire()
    w.fetch({topic: {0: 0, 1: 0}}, max_wait_ms=0)
    started = time.monotonic()
    error, parts = w.fetch({topic: {0: 0, 1: 0}}, max_wait_ms=500, min_bytes=1 << 20, partition_max=4 << 20)
    quiet = time.monotonic() - started
    t.equal(error, 0, "fetch")
    t.check(0.45 < quiet < 0.8, "nothing to read, wait 500: answered after %.3f s", quiet)
    # min bytes are counted over all partitions: half in one, half in the other.
    half = wire.batch([(None, bytes(540000))])
    correlation = w.send(1, 11, w.fetch_body({topic: {0: 0, 1: 0}}, max_wait_ms=8000, min_bytes=1 << 20, partition_max=4 << 20))
    p.produce({topic: {0: half}})
    w.s.settimeout(0.4)
    try:
        w.receive(correlation)
        raise AssertionError("answered below min bytes")
    except TimeoutError:
        pass
    w.s.settimeout(10)
    started = time.monotonic()
    p.produce({topic: {1: half}})
    error, parts = w.parse_fetch(w.receive(correlation))
    took = time.monotonic() - started
    t.check(took < 0.5, "answered %.2f s after the last byte", took)
    t.check(sum(len(x[3]) for x in parts.values()) >= 1 << 20, "bytes in the answer")
    librdkafka_waits_for_bytes(t)


@test()
def fetch_limits(t):
    big = t.topic(conf={"max.message.bytes": "8000000"})
    t.java("produce", topic=big, count=2, partitions=1, size=5000000, **{"p.max.request.size": 9000000, "p.buffer.memory": 64000000})
    got = consume_all(t, big, 2, **{"c.max.partition.fetch.bytes": 1048576, "c.fetch.max.bytes": 1048576})
    t.equal(len(got.get(0, [])), 2, "5 MB records with limits of 1 MB")
    many = t.topic(100)
    t.java("produce", topic=many, count=10000, partitions=100, size=2000, **{"p.linger.ms": 50})
    got = fields(t.java("every_partition_advances", topic=many, **{"c.fetch.max.bytes": 1048576}))
    t.equal(got["seen"], "100", "partitions that advanced")


def read_digest(t, topic, partitions, count):
    """What kcat reads from the beginning, a partition after the other: (records, digest). Each value must be the
    number of its offset; ten million lines are not kept."""
    digest, records = hashlib.sha256(), 0
    for p in range(partitions):
        reader = subprocess.Popen(t.kcat_argv("-C", "-t", topic, "-p", p, "-o", "beginning", "-e", "-q", "-f", "%p %o %T %s\n"),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=1 << 20)
        try:
            for n, line in enumerate(reader.stdout):
                if not line.rstrip(b".\n").endswith(b" v%d:%d" % (p, n)):
                    raise AssertionError("partition %d: record %d is %r" % (p, n, line[:80]))
                digest.update(line)
                records += 1
            t.equal(reader.wait(60), 0, "exit status of kcat")
        finally:
            reader.kill()
            reader.wait()
    t.equal(records, count, "records read")
    return digest.hexdigest()


def read_range(t, topic, offset, count):
    return b"".join(t.kcat("-C", "-t", topic, "-p", 1, "-o", offset, "-c", count, "-q", "-f", "%p %o %T %s\n").out)


@test(seconds=1200 if case.FULL else 150)
def reread_is_the_same(t):
    """(partition, offset) means the same bytes after kill -9, read twice, and when a range is read again."""
    b = t.own()
    topic = t.topic(2)
    count = 10_000_000 if case.FULL else 400_000
    got = fields(t.java("produce", timeout_s=600, topic=topic, partitions=2, count=count, size=40))
    t.equal((got["acked"], got["failed"]), (str(count), "0"), "acknowledged")
    b.kill()  # at once: the end of the log is in the journal only
    b.start()
    first = read_digest(t, topic, 2, count)
    ranges = [(0, 500), (count // 4, 500), (count // 2 - 500, 500)]
    before = [read_range(t, topic, *r) for r in ranges]
    b.kill()
    b.start()
    t.equal(read_digest(t, topic, 2, count), first, "after another kill -9")
    t.equal(read_digest(t, topic, 2, count), first, "read again")
    t.equal([read_range(t, topic, *r) for r in reversed(ranges)], list(reversed(before)), "ranges, read in another order")


@test()
def performance_pair(t):
    topic = t.topic(2)
    perf_produce(t, topic, 50000, 1000, "acks=all")
    out = t.tool("consumer-perf", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--num-records", 50000,
                 "--timeout", 30000).stdout()
    t.check("50000" in out.replace(" ", "").split("\n")[-2], "consumer-perf:\n%s", out)
    t.equal(total(t, topic), 50000, "records")
