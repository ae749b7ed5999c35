"""Bytes that rot in sealed segments: found without anybody asking for them, told, refused, and nothing beside them."""

import re
import struct
import subprocess
import time

from lib.case import test
from lib.helpers import consume_all, perf_produce, python_consumer, total
from lib.wire import crc32c

CHUNK, BLOCK, HEAD_ID = 16384, 4096, slice(16, 64)


def batches(path):
    """[(position, base offset, last offset, bytes)] of a segment."""
    data, at, found = path.read_bytes(), 0, []
    while at + 61 <= len(data):
        base, length = struct.unpack_from(">qi", data, at)
        last = base + struct.unpack_from(">i", data, at + 23)[0]
        found.append((at, base, last, length + 12))
        at += length + 12
    return found


def sealed_with_side_cars(t, b, topic):
    """The sealed segments, when all of them have their side-cars; the broker runs."""
    def logs():
        return sorted(b.partition_dir(topic).glob("*.log"))
    t.eventually(lambda: len(logs()) > 2 and all(p.with_suffix(".mrx").exists() for p in logs()[:-1]), 20,
                 "a side-car beside each sealed segment")
    return logs()[:-1]


def what_is_served(b, topic, start, end):
    """Offsets of [start, end) that a consumer gets, and the ones at which it is told of an error."""
    from confluent_kafka import TopicPartition
    got, refused, at = [], [], start
    c = python_consumer(b.bootstrap)
    c.assign([TopicPartition(topic, 0, at)])
    deadline = time.monotonic() + 30
    while at < end and time.monotonic() < deadline:
        m = c.poll(1)
        if m is None:
            continue
        if m.error():
            refused.append(at)
            at += 1
            c.seek(TopicPartition(topic, 0, at))
        elif m.offset() >= at:
            got.append(m.offset())
            at = m.offset() + 1
    c.close()
    return got, refused


@test(seconds=90, millrace_only=True)
def rot_is_found_and_told(t):
    b = t.own({"millrace.scrub.interval.ms": 1000})
    topic = t.topic(conf={"segment.bytes": "1048576"})
    perf_produce(t, topic, 4000, 1000, "acks=all", "batch.size=4096")
    first = sealed_with_side_cars(t, b, topic)[0]
    t.equal(b.stop(), 0, "exit status")
    t.check("damaged: these" not in b.log_tail(10000), "damage was told of before there was any")
    at, base, last, size = batches(first)[20]
    with open(first, "r+b") as f:
        f.seek(at + size - 100)
        byte = f.read(1)[0]
        f.seek(at + size - 100)
        f.write(bytes([byte ^ 16]))
    told = "offsets %d to %d are lost" % (base, last)
    p = subprocess.run([str(b.binary), "dump", "--verify", str(first)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    t.check(p.returncode == 1 and told in p.stdout, "dump --verify does not say %s:\n%s", told, p.stdout[-500:])
    b.start()
    told = "from=%d to=%d " % (base, last)
    t.eventually(lambda: "damaged: these offsets are lost here" in b.log_tail(10000), 20, "the damage to be told")
    t.check(told in b.log_tail(10000), "the offsets %s are not told:\n%s", told, b.log_tail(10))
    got, refused = what_is_served(b, topic, base - 50, last + 50)
    t.equal(refused, list(range(base, last + 1)), "what is refused")
    t.equal(got, [*range(base - 50, base), *range(last + 1, last + 50)], "what is served beside it")
    perf_produce(t, topic, 1000, 1000, "acks=all")
    t.equal(total(t, topic), 5000, "records")


@test(seconds=90, millrace_only=True)
def side_cars_are_asked(t):
    """A chunk that is not what its side-car says is not served, though all CRCs of its batches are right."""
    b = t.own()
    topic = t.topic(conf={"segment.bytes": "1048576"})
    perf_produce(t, topic, 4000, 1000, "acks=all", "batch.size=4096")
    first = sealed_with_side_cars(t, b, topic)[0]
    t.equal(b.stop(), 0, "exit status")
    side = bytearray(first.with_suffix(".mrx").read_bytes())
    side[BLOCK + 4 + 4 * 5] ^= 1
    number = struct.pack("<I", 0xFFFFFFFF)  # of block 0, complemented
    struct.pack_into("<I", side, BLOCK, crc32c(side[BLOCK + 4:2 * BLOCK], crc32c(number, crc32c(side[HEAD_ID]))))
    first.with_suffix(".mrx").write_bytes(side)
    in_it = [(base, last) for at, base, last, size in batches(first) if at < 6 * CHUNK and at + size > 5 * CHUNK]
    start, end = in_it[0][0], in_it[-1][1] + 1
    told = "offsets %d to %d are lost" % (start, end - 1)
    for files, code in ((first, 1), (first.with_suffix(".mrx"), 0)):
        p = subprocess.run([str(b.binary), "dump", "--verify", str(files)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        t.equal((p.returncode, told in p.stdout), (code, code == 1), "dump --verify %s" % files.name)
    b.start()
    got, refused = what_is_served(b, topic, start - 50, end + 50)
    t.equal(refused, list(range(start, end)), "what is refused")
    t.equal(got, [*range(start - 50, start), *range(end, end + 50)], "what is served beside it")


@test(seconds=200, millrace_only=True)
def side_cars_survive_kafka(t):
    """Kafka starts on a directory with side-cars, compacts and deletes under them; what it left is no damage."""
    b = t.own({"millrace.scrub.interval.ms": 1000, "log.cleaner.enable": "false"})
    conf = {"segment.bytes": "1048576", "file.delete.delay.ms": "1000"}
    plain = t.topic(conf=conf)
    keyed = t.topic(conf={**conf, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"})
    perf_produce(t, plain, 4000, 1000, "acks=all")
    t.java("produce", topic=keyed, partitions=1, count=6000, size=1000, keys="one")
    sealed_with_side_cars(t, b, plain)
    sizes = [p.stat().st_size for p in sealed_with_side_cars(t, b, keyed)]
    before = consume_all(t, plain, 4000)
    t.equal(b.stop(), 0, "exit status")
    k = t.own({"log.cleaner.backoff.ms": "500"}, kind="kafka", directory=b.directory, port=b.port)
    t._broker = k
    t.equal(consume_all(t, plain, 4000, broker=k), before, "what Kafka serves")
    perf_produce(t, plain, 4000, 1000, "acks=all")
    t.eventually(lambda: sum(p.stat().st_size for p in b.partition_dir(keyed).glob("*.log")) < sum(sizes), 40,
                 "Kafka to compact")
    t.equal(k.stop(), 0, "Kafka's exit status")
    t._broker = b
    before = b.log_tail(10000).count("sealed segments have been read")
    b.start()
    sealed_with_side_cars(t, b, plain)
    t.eventually(lambda: b.log_tail(10000).count("sealed segments have been read") > before + 1, 20, "a whole pass since")
    t.check("damaged: these" not in b.log_tail(10000), "what Kafka did is taken for damage:\n%s", b.log_tail(20))
    t.equal(len(consume_all(t, plain, 8000)[0]), 8000, "records")
