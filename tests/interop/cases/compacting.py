"""Compacted topics, by stock clients and Kafka's own tools and broker."""

import re
import time

from lib.case import test
from lib.helpers import end_offsets, python_consumer, python_producer

CLEANER = {"log.cleaner.backoff.ms": 500, "log.cleaner.min.cleanable.ratio": "0.01"}
KEYS = 50


def alter(t, topic, **conf):
    t.tool("configs", "--bootstrap-server", t._broker.bootstrap, "--alter", "--entity-type", "topics", "--entity-name", topic,
           "--add-config", ",".join("%s=%s" % (k.replace("_", "."), v) for k, v in conf.items()))


class Written:
    """All that was ever acknowledged: {offset: (key, value or None)}."""

    def __init__(self):
        self.all = {}
        self.failed = []

    def put(self, t, topic, count, first=0, **conf):
        p = python_producer(t._broker.bootstrap, acks="all", linger_ms=20, **conf)
        for n in range(40 if first == 0 else 0):  # whose only values compaction meets
            self.send(p, topic, "once-%d" % n, "%d" % n)
        for n in range(first, first + count):
            self.send(p, topic, "key-%d" % (n * 7 % KEYS), "%d:" % n + "v" * 900)
        p.flush(60)
        t.equal(self.failed, [], "errors")

    def send(self, p, topic, key, value):
        def said(error, m):
            if error is not None:
                self.failed.append(error.name())
            else:
                self.all[m.offset()] = (key, value)
        p.produce(topic, key=key, value=value, partition=0, on_delivery=said)
        p.poll(0)

    def newest(self):
        out = {}
        for offset in sorted(self.all):
            out[self.all[offset][0]] = offset
        return out


def read(t, topic):
    """What is there: {offset: (key, value)}, offsets rising."""
    from confluent_kafka import TopicPartition
    end = end_offsets(t, topic, broker=t._broker)[0]
    c = python_consumer(t._broker.bootstrap, enable_partition_eof=True)
    out, last = {}, -1
    try:
        c.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            m = c.poll(0.2)
            if m is None:
                continue
            if m.error():
                if m.error().name() == "_PARTITION_EOF":
                    return out
                raise AssertionError("consumer: %s" % m.error())
            t.check(m.offset() > last, "offset %d after %d", m.offset(), last)
            last = m.offset()
            out[last] = (m.key().decode(), None if m.value() is None else m.value().decode())
    finally:
        c.close()
    raise AssertionError("the end of %s at %d was not reached" % (topic, end))


def check_read(t, topic, written):
    got = read(t, topic)
    for offset, record in got.items():
        t.equal(record, written.all[offset], "the record at %d" % offset)
    for key, offset in written.newest().items():
        t.check(offset in got or written.all[offset][1] is None, "the newest value of %s, at %d, is gone", key, offset)
    return got


def segments(b, topic):
    return sorted(f for f in b.partition_dir(topic).glob("*.log"))


def wait_compacted(t, b, topic):
    """Sealed segments together hold little more than a record for each key."""
    def is_small():
        return sum(f.stat().st_size for f in segments(b, topic)[:-1]) < 4 * KEYS * 1000
    t.eventually(is_small, 60, lambda: "old values to go: %s" % [(f.name, f.stat().st_size) for f in segments(b, topic)])


@test(seconds=150)
def compaction_keeps_the_newest(t):
    b = t._broker = t.own(CLEANER)
    topic = t.topic(conf={"segment.bytes": 1048576, "file.delete.delay.ms": 1000, "delete.retention.ms": 3000})
    w = Written()
    w.put(t, topic, 4000)
    t.equal(len(read(t, topic)), 4040, "before it is compacted")
    alter(t, topic, cleanup_policy="compact")
    wait_compacted(t, b, topic)
    t.check(len(check_read(t, topic, w)) < 2000, "not compacted")
    w.put(t, topic, 3000, 4000, compression_type="lz4")
    # Tombstones, and records without a key: each refused by itself, the good ones of the same batch with it.
    p = python_producer(b.bootstrap, acks="all", linger_ms=0, retries=0)
    for n in range(5):
        w.send(p, topic, "key-%d" % n, None)
    p.flush(30)
    p.produce(topic, value="no key", partition=0, on_delivery=lambda e, _: w.failed.append(e.name()))
    p.flush(30)
    t.equal(w.failed, ["INVALID_RECORD"], "a record without a key")
    w.failed = []
    w.put(t, topic, 3000, 7000, compression_type="zstd")
    wait_compacted(t, b, topic)
    check_read(t, topic, w)
    out = t.tool("console-consumer", "--bootstrap-server", b.bootstrap, "--topic", topic, "--from-beginning", "--timeout-ms", 8000,
                 "--property", "print.key=true", "--property", "print.offset=true", check=False).stdout()
    last = {key: int(offset) for offset, key in re.findall(r"^Offset:(\d+)\s+key-(\d+)\s", out, re.M)}
    t.equal(last, {k[4:]: o for k, o in w.newest().items() if k.startswith("key-")}, "the newest offsets by the console consumer")
    # Three seconds after they were met, the tombstones go with the next compaction.
    gone = [o for o, (_, v) in w.all.items() if v is None]
    time.sleep(3)
    w.put(t, topic, 2500, 10000)
    t.eventually(lambda: not set(gone) & set(read(t, topic)), 60, "tombstones to go")
    check_read(t, topic, w)
    t.equal(b.stop(), 0, "exit status")
    b.start()
    check_read(t, topic, w)


@test(seconds=200, millrace_only=True)
def kafka_takes_a_compacted_directory(t):
    b = t._broker = t.own(CLEANER)
    topic = t.topic(conf={"segment.bytes": 1048576, "cleanup.policy": "compact", "file.delete.delay.ms": 1000})
    w = Written()
    w.put(t, topic, 3000, compression_type="gzip")
    w.put(t, topic, 3000, 3000, enable_idempotence="true")
    wait_compacted(t, b, topic)
    before = check_read(t, topic, w)
    t.equal(b.stop(), 0, "exit status")
    files = [f for pattern in ("*.log", "*.index", "*.timeindex") for f in b.partition_dir(topic).glob(pattern) if f.stat().st_size]
    out = t.tool("dump-log", "--print-data-log", "--files", ",".join(map(str, sorted(files))), timeout_s=100)
    for bad in ("isvalid: false", "Mismatches in", "Found timestamp mismatch", "Exception", "out of order"):
        t.check(bad not in out.stdout() + out.stderr(), "DumpLogSegments says '%s'", bad)
    lines = (b.directory / "cleaner-offset-checkpoint").read_text().split("\n")
    mine = [int(x.split()[2]) for x in lines if x.startswith(topic + " 0 ")]
    t.equal(mine, [int(segments(b, topic)[-1].name[:20])], "the cleaner's checkpoint")
    k = t.own(CLEANER, kind="kafka", directory=b.directory, port=b.port)
    t._broker = k
    t.equal(check_read(t, topic, w), before, "what Kafka serves")
    w.put(t, topic, 4000, 6000)
    wait_compacted(t, k, topic)
    after = check_read(t, topic, w)
    t.equal(k.stop(), 0, "Kafka's exit status")
    t._broker = b
    b.start()
    t.equal(check_read(t, topic, w), after, "what Millrace serves afterwards")
    w.put(t, topic, 3000, 10000)
    wait_compacted(t, b, topic)
    check_read(t, topic, w)


@test(seconds=120, millrace_only=True)
def committed_offsets_are_compacted(t):
    from confluent_kafka import TopicPartition
    b = t._broker = t.own({**CLEANER, "offsets.topic.num.partitions": 1, "offsets.topic.segment.bytes": 1048576})
    topic, count = t.topic(80), 1000
    c = python_consumer(b.bootstrap, group_id="g")
    c.commit(offsets=[TopicPartition(topic, p, 7) for p in range(40, 80)], asynchronous=False)
    expected = {(p, count) for p in range(40)} | {(p, 7) for p in range(40, 80)}
    for n in range(1, count + 1):
        c.commit(offsets=[TopicPartition(topic, p, n) for p in range(40)], asynchronous=n % 20 != 0)

    def committed(consumer):
        return {(x.partition, x.offset) for x in consumer.committed([TopicPartition(topic, p) for p in range(80)], timeout=10)}

    def sealed():
        return sum(f.stat().st_size for f in segments(b, "__consumer_offsets")[:-1])
    t.check(len(segments(b, "__consumer_offsets")) > 1, "no segment of __consumer_offsets was sealed")
    t.eventually(lambda: sealed() < 100000, 60, "__consumer_offsets to be compacted")
    t.equal(committed(c), expected, "what is committed")
    c.close()
    t.equal(b.stop(), 0, "exit status")
    b.start()
    c = python_consumer(b.bootstrap, group_id="g")
    t.eventually(lambda: committed(c) == expected, 20, "what was committed, after a restart")
    c.close()
