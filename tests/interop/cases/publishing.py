"""What producers are promised."""

import time

from lib import case, wire
from lib.case import test
from lib.clients import fields
from lib.helpers import (consume_all, end_offsets, perf_produce, python_producer, python_read, sequence_check,
                         total)


@test()
def publish_subscribe(t):
    topic = t.topic()
    lines = ["message %d" % i for i in range(1000)]
    t.tool("console-producer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, input="\n".join(lines) + "\n")
    readers = [t.tool_start("console-consumer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--group",
                            "%s-%d" % (topic, i), "--from-beginning", "--max-messages", 1000, "--timeout-ms", 30000)
               for i in (1, 2)]
    for r in readers:
        t.equal(r.wait(60), 0, "exit status of the console consumer")
        t.equal(r.stdout().splitlines(), lines, "what a group read")


OPAQUE = [
    (None, b"value", []), (b"", b"value", []), (b"key", None, []), (b"key", b"", []), (None, None, []),
    (b"\x00\xff\n\t|", bytes(range(256)), []),
    (b"k", b"v", [("h", b"1"), ("h", b"2"), ("h", b"1")]),
    (b"k", b"v", [("null", None), ("empty", b""), ("", b"noname"), ("bytes", b"\x00\xfe")]),
]


def _hex(b):
    return "~" if b is None else b.hex()


def _as_line(key, value, headers):
    return "%s %s %s" % (_hex(key), _hex(value), ",".join("%s:%s" % (n.encode().hex(), _hex(v)) for n, v in headers) or "-")


@test()
def opaque_records(t):
    topic = t.topic()
    expected = [_as_line(*r) for r in OPAQUE]
    # Java writes.
    t.file("in").write_text("\n".join(expected) + "\n")
    t.java("write_records", topic=topic, file=t.file("in"))
    # Python writes.
    p = python_producer(t.broker.bootstrap)
    for key, value, headers in OPAQUE:
        p.produce(topic, key=key, value=value, headers=headers, partition=0)
    t.equal(p.flush(20), 0, "messages left in the python producer")
    # kcat writes: a file is a value (it cannot say "empty"); with -Z nothing behind the delimiter is null.
    kcat = [(None, b"value", []), (b"key", None, []), (b"key", b"a\nb\x00c", [("h", b"1"), ("h", b"2")])]
    for i, (key, value, headers) in enumerate(kcat):
        args = ["-P", "-t", topic, "-p", 0]
        for n, v in headers:
            args += ["-H", "%s=%s" % (n, v.decode())]
        if value is None:
            t.kcat(*args, "-K", "|", "-Z", input=key + b"|\n")
            continue
        f = t.file("kcat-%d" % i)
        f.write_bytes(value)
        t.kcat(*args, *(["-k", key.decode()] if key is not None else []), f)
    expected = expected + expected + [_as_line(*r) for r in kcat]
    # Java, Python and kcat read them all.
    t.java("read_records", topic=topic, count=len(expected), out=t.file("out"))
    t.equal(t.file("out").read_text().splitlines(), expected, "what Java read")
    got = [_as_line(m.key(), m.value(), m.headers() or []) for m in python_read(t, t.broker.bootstrap, topic, len(expected))]
    t.equal(got, expected, "what python read")
    raw = t.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%K,%S,%k,%s;").out
    want = b"".join(b"%d,%d,%s,%s;" % (-1 if k is None else len(k), -1 if v is None else len(v), k or b"", v or b"")
                    for k, v, _ in OPAQUE + OPAQUE + kcat)
    t.equal(b"".join(raw), want, "what kcat read")


@test()
def batch_is_stored_as_sent(t):
    b, proxy = t.proxied()
    topic = t.topic()
    proxy.heard = []
    for codec in ("none", "lz4", "zstd", "gzip", "snappy"):
        p = python_producer(proxy.bootstrap, linger_ms=200, compression_type=codec, enable_idempotence=True)
        for i in range(50):
            p.produce(topic, value=b"%s %d " % (codec.encode(), i) * 10, partition=0)
        t.equal(p.flush(20), 0, "messages left")
    sent = b"".join(d for _, to_broker, d in proxy.heard if to_broker)
    error, parts = t.wire().fetch({topic: {0: 0}})
    perr, high_watermark, _, data = parts[(topic, 0)]
    t.equal((error, perr, high_watermark), (0, 0, 250), "fetch")
    stored = wire.batches(data)
    t.check(len(stored) >= 5, "%d batches", len(stored))
    offset = 0
    for s in stored:
        h = wire.batch_head(s)
        t.equal(h["base"], offset, "base offset")
        offset += h["last"] + 1
        t.equal(h["crc"], wire.crc32c(s[21:]), "CRC of a stored batch")
        # Everything behind base offset, length and leader epoch is the producer's.
        t.check(s[16:] in sent, "batch at %d is not what the producer sent", h["base"])
    t.equal(offset, 250, "records in the batches")
    # The files of a stopped broker hold the same bytes, and Kafka's tool agrees.
    t.equal(b.stop(), 0, "exit status on SIGTERM")
    segment = b.partition_dir(topic) / ("%020d.log" % 0)
    t.equal(segment.read_bytes(), b"".join(stored), "the segment file")
    dump = t.tool("dump-log", "--files", segment, "--deep-iteration", "--print-data-log").stdout()
    t.equal(dump.count("isvalid: true"), len(stored), "batches the tool finds valid in\n" + dump[:2000])
    for s in stored:
        t.check("crc: %d isvalid: true" % wire.batch_head(s)["crc"] in dump, "crc missing in the dump")
    t.equal(dump.count("| offset: "), 250, "records in the dump")


@test()
def same_key_same_partition(t):
    topic = t.topic(12)
    n = 10000
    t.java("keys", topic=topic, count=n, out=t.file("java"))
    said = dict(line.split() for line in t.file("java").read_text().splitlines())
    t.file("kcat").write_text("".join("key-%d\tkcat\n" % i for i in range(n)))
    t.kcat("-P", "-t", topic, "-K", "\t", "-X", "partitioner=murmur2_random", "-l", t.file("kcat"))
    p = python_producer(t.broker.bootstrap, partitioner="murmur2_random")
    for i in range(n):
        p.produce(topic, key="key-%d" % i, value="py")
        if i % 1000 == 0:
            p.poll(0)
    t.equal(p.flush(30), 0, "messages left")
    out = t.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k %p %s\n").stdout()
    where, who = {}, {}
    for line in out.splitlines():
        key, partition, client = line.split()
        where.setdefault(key, set()).add(partition)
        who.setdefault(key, set()).add(client)
    t.equal(len(where), n, "keys read")
    t.check(all(c == {"java", "kcat", "py"} for c in who.values()), "a client's record is missing")
    t.check(all(len(p) == 1 for p in where.values()), "a key is in two partitions")
    t.check(all(where[k] == {p} for k, p in said.items()), "a record is not where the answer said")


@test()
def custom_partitioner(t):
    """A partitioner of the program's own: one key has the last partition to itself, all others are spread over the rest."""
    topic = t.topic(5)
    t.java("keys", topic=topic, count=500, out=t.file("keys"),
           **{"p.partitioner.class": "interop.Producing$LargeCustomer", "p.large.customer": "key-7"})
    said = dict(line.split() for line in t.file("keys").read_text().splitlines())
    t.equal({k for k, p in said.items() if p == "4"}, {"key-7"}, "keys of the last partition")
    t.equal(set(said.values()), {"0", "1", "2", "3", "4"}, "partitions with records")
    out = t.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k %p\n").stdout()
    t.equal(dict(line.split() for line in out.splitlines()), said, "where the records are")


@test()
def explicit_partition(t):
    topic = t.topic(4)
    seen, error = t.java("bad_partition", topic=topic).split()
    t.equal(seen, "0,1,2,3,", "partitions written by Java")
    t.check(error in ("TimeoutException", "KafkaException", "UnknownTopicOrPartitionException"), "client error %s", error)
    for p in range(4):
        t.kcat("-P", "-t", topic, "-p", p, input="kcat %d\n" % p)
    bad = t.kcat("-P", "-t", topic, "-p", 4, "-X", "message.timeout.ms=3000", input="x\n", check=False)
    t.check(bad.process.returncode != 0 or "Unknown partition" in bad.stderr(), "kcat had no error for partition 4")
    t.equal(end_offsets(t, topic), {0: 2, 1: 2, 2: 2, 3: 2}, "end offsets")
    w = t.wire()
    one = wire.batch([(b"k", b"v")])
    answer = w.produce({topic: {0: one, 4: one, 3: one}, "no-such-topic": {0: one}})
    t.equal(answer[(topic, 0)][:2], (0, 2), "partition 0")
    t.equal(answer[(topic, 3)][:2], (0, 2), "partition 3")
    t.equal(answer[(topic, 4)][0], 3, "error of partition 4")
    t.equal(answer[("no-such-topic", 0)][0], 3, "error of an unknown topic")


@test(seconds=120)
def many_producers(t):
    topic = t.topic(3)
    got = fields(t.java("many_producers", 100, topic=topic, producers=64, count=500))
    t.equal(got, {"acked": "32000", "failed": "0"}, "64 producers")
    # kafka-producer-perf-test, 64 at once: in one JVM, and as processes of their own where there is time for 64 JVMs.
    perf = ("producer-perf", "--topic", topic, "--num-records", 500, "--record-size", 100, "--throughput", -1,
            "--bootstrap-server", t.broker.bootstrap)
    out = t.tools_at_once(64, *perf).stdout()
    t.equal(out.count("500 records sent, "), 64, "tools that say they have sent their records")
    t.equal(total(t, topic), 64000, "records in the topic")
    processes = 64 if case.FULL else 4
    running = [t.tool_start(*perf) for _ in range(processes)]
    for p in running:
        t.equal(p.wait(100), 0, "exit status of a producer")
    t.equal(total(t, topic), 64000 + 500 * processes, "records in the topic after %d processes" % processes)


@test()
def record_metadata(t):
    topic = t.topic(2, conf={"retention.ms": "-1"})  # its records are years old
    got = [tuple(map(int, x.split(":"))) for x in t.java("metadata_of_sends", topic=topic, count=5, partition=1,
                                                         timestamp=1700000000123).split(",")]
    t.equal(got, [(1, i, 1700000000123) for i in range(5)], "partition, offset, timestamp")
    late = t.topic(conf={"message.timestamp.type": "LogAppendTime"})
    now = time.time() * 1000
    got = [tuple(map(int, x.split(":"))) for x in t.java("metadata_of_sends", topic=late, count=3, timestamp=1000).split(",")]
    t.equal([g[:2] for g in got], [(0, 0), (0, 1), (0, 2)], "partition, offset")
    t.check(all(abs(g[2] - now) < 20000 for g in got), "append times %s, now %d", got, now)
    read = t.kcat("-C", "-t", late, "-o", "beginning", "-e", "-q", "-f", "%T\n").stdout().split()
    t.equal([int(x) for x in read], [g[2] for g in got], "timestamps that consumers see")


@test()
def partial_failure(t):
    good = t.topic()
    bad = t.topic(conf={"cleanup.policy": "compact"})
    got = fields(t.java("partial_failure", good=good, bad=bad))
    t.equal(got, {"good": "10", "bad": "InvalidRecordException"}, "one request, two fates")
    t.equal(total(t, good), 10, "records in the good topic")
    t.equal(total(t, bad), 0, "records in the compacted topic")


@test()
def seed_programs(t):
    topic = t.topic(3)
    got = fields(t.java("seed_producer", topic=topic, count=200))
    t.equal(got, {"sent": "600", "called": "200"}, "fire and forget, get(), callback")
    got = fields(t.java("seed_consumer", topic=topic, group=topic, count=600))
    t.equal(got, {"read": "600", "keys": "2"}, "subscribe(list)")
    t.equal(total(t, topic), 600, "records")


@test(alone=True)
def end_to_end_latency(t):
    topic = t.topic()
    out = t.tool("e2e-latency", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--num-records", 2000,
                 "--producer-acks", "all", "--record-size", 1024, timeout_s=60).stdout()
    average = float(out.split("Avg latency:")[1].split()[0])
    p99 = float(out.split("99th =")[1].split(",")[0]) if "99th =" in out else float(out.split("99%")[1].split()[0])
    t.note("average %.2f ms, p99 %.0f ms" % (average, p99))
    t.check(p99 < 60, "p99 of %.0f ms", p99)


@test(alone=True)
def pipelined_sends(t):
    ms = {}
    t.topic(name="pipelined_sends-warm")
    t.java("produce", topic="pipelined_sends-warm", count=3000, partitions=1, **{"p.batch.size": 0, "p.linger.ms": 0})
    for flight in (1, 5):
        topic = t.topic()
        got = fields(t.java("produce", topic=topic, count=5000, partitions=1, size=100,
                            **{"p.batch.size": 0, "p.linger.ms": 0, "p.max.in.flight.requests.per.connection": flight}))
        t.equal((got["acked"], got["failed"], got["disorder"]), ("5000", "0", "0"), "%d in flight" % flight)
        ms[flight] = int(got["ms"])
        t.equal(sequence_check(t, consume_all(t, topic, 5000)), 5000, "records")
    t.note("5000 requests: %d ms at 1 in flight, %d ms at 5" % (ms[1], ms[5]))
    t.check(ms[5] < ms[1] * 1.1, "5 in flight took %d ms, 1 took %d ms", ms[5], ms[1])


@test()
def batch_sizes(t):
    expected = 0
    topic = t.topic()
    for size, batch, count in ((100, 0, 500), (100, 16384, 20000), (1000, 131072, 20000), (1000, 1000000, 20000),
                               (900000, 1000000, 20)):
        perf_produce(t, topic, count, size, "batch.size=%d" % batch, "linger.ms=20", "acks=all")
        expected += count
        t.equal(total(t, topic), expected, "records after batch.size=%d" % batch)


@test()
def unkeyed_records_spread(t):
    topic = t.topic(12)
    for adaptive in ("true", "false"):
        before = end_offsets(t, topic)
        perf_produce(t, topic, 60000, 100, "partitioner.adaptive.partitioning.enable=" + adaptive, "batch.size=2000")
        after = end_offsets(t, topic)
        got = [after[p] - before.get(p, 0) for p in range(12)]
        t.equal(sum(got), 60000, "records")
        t.check(min(got) > 0, "a partition got nothing: %s", got)
        if adaptive == "false":
            t.check(min(got) > 5000 * 0.6 and max(got) < 5000 * 1.5, "uneven: %s", got)


@test()
def verifiable_pair(t):
    import json
    topic = t.topic(3)
    p = t.tool("verifiable-producer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--max-messages", 5000,
               "--acks", -1)
    acked = [json.loads(x) for x in p.stdout().splitlines() if '"producer_send_success"' in x]
    t.equal(len(acked), 5000, "acknowledged")
    seen = {}
    for a in acked:
        seen.setdefault(a["partition"], []).append(a["offset"])
    for partition, offsets in seen.items():
        t.equal(offsets, list(range(len(offsets))), "offsets of partition %d" % partition)
    c = t.tool("verifiable-consumer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--group-id", topic,
               "--max-messages", 5000, "--verbose", "--reset-policy", "earliest")
    read = [json.loads(x) for x in c.stdout().splitlines() if '"record_data"' in x]
    t.equal(len(read), 5000, "consumed")
    t.equal(sorted((r["partition"], r["offset"], r["value"]) for r in read),
            sorted((a["partition"], a["offset"], a["value"]) for a in acked), "what was read and what was acknowledged")
