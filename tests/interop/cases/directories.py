"""Several log directories: partitions spread over them, one that fails, Apache Kafka on the same ones."""

import hashlib
import json
import os
import shutil
import subprocess
import time

from lib.case import test
from lib.helpers import consume_all, python_producer, total

SMALL = {"millrace.journal.file.bytes": 1048576, "millrace.journal.files": 4, "millrace.disk.reserve.bytes": 16777216}


def run(*argv):
    return subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def on_two(t, first, second, conf=None, **kw):
    return t.own(dict(conf or {}, **{"log.dirs": "%s,%s" % (first, second)}), directory=first, **kw)


def where(dirs, topic, partition):
    """In which of the directories a partition lies."""
    return [at for at, d in enumerate(dirs) if (d / ("%s-%d" % (topic, partition))).is_dir()]


def log_dirs(t, b):
    """What kafka-log-dirs says: directory > its error and its partitions."""
    out = t.tool("log-dirs", "--bootstrap-server", b.bootstrap, "--describe").stdout()
    said = json.loads([line for line in out.splitlines() if line.startswith("{")][0])
    return {d["logDir"]: (d["error"], sorted(p["partition"] for p in d["partitions"])) for d in said["brokers"][0]["logDirs"]}


def send(producer, topic, partition, value=b"x" * 1000, wait_s=20):
    """One record, and the code of its error or None."""
    said = []
    producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: said.append(error))
    producer.flush(wait_s)
    return said[0].name() if said and said[0] is not None else (None if said else "no answer")


def fill(t, b, topic, partitions, count):
    """So many records in each partition, all of them acknowledged."""
    failed = []
    p = python_producer(b.bootstrap, acks="all", linger_ms=5)
    for n in range(count):
        for at in range(partitions):
            p.produce(topic, b"%d:%d" % (at, n) + b"." * 1000, partition=at, on_delivery=lambda e, _: e and failed.append(e))
        p.poll(0)
    p.flush(60)
    t.equal(failed, [], "refused records")


@test(seconds=200, millrace_only=True)
def partitions_over_directories(t):
    dirs = [t.file("one"), t.file("two")]
    b = on_two(t, *dirs, start=False)
    b.formatted = False
    b.start()
    topic = t.topic(4, conf={"segment.bytes": "1048576"})
    lies = [where(dirs, topic, p) for p in range(4)]
    t.check(all(len(x) == 1 for x in lies), "each partition lies in one directory: %s", lies)
    t.equal(sorted(x[0] for x in lies), [0, 0, 1, 1], "how they are spread")
    fill(t, b, topic, 4, 1500)

    def digest(count):
        got = consume_all(t, topic, count, broker=t._broker)
        return hashlib.sha256(repr(sorted(got.items())).encode()).hexdigest()
    before = digest(6000)
    said = log_dirs(t, b)
    for at, d in enumerate(dirs):
        error, partitions = said[str(d)]
        t.equal(error, None, "error of %s" % d)
        t.equal([p for p in partitions if p.startswith(topic + "-")],
                ["%s-%d" % (topic, p) for p in range(4) if lies[p] == [at]], "partitions of %s" % d)
    b.kill()
    b.start()
    t.equal(digest(6000), before, "after kill -9")
    t.equal(b.stop(), 0, "exit status")
    # Moved by hand while nobody runs: found, and written down.
    moved = next(p for p in range(4) if lies[p] == [0])
    name = "%s-%d" % (topic, moved)
    shutil.move(dirs[0] / name, dirs[1] / name)
    b.start()
    t.equal(digest(6000), before, "after a partition was moved by hand")
    t.equal(b.stop(), 0, "exit status")
    k = t.own({"log.dirs": "%s,%s" % tuple(dirs)}, kind="kafka", directory=dirs[0], port=b.port)
    t._broker = k
    t.equal(digest(6000), before, "what Kafka serves")
    fill(t, k, topic, 4, 100)
    more = t.topic(3, broker=k)
    fill(t, k, more, 3, 100)
    after = digest(6400)
    t.equal(k.stop(), 0, "Kafka's exit status")
    t._broker = b
    b.start()
    t.equal(digest(6400), after, "what Millrace serves afterwards")
    t.equal(len(sum(consume_all(t, more, 300).values(), [])), 300, "records of Kafka's topic")
    t.check(all(len(where(dirs, more, p)) == 1 for p in range(3)), "a partition of Kafka's topic lies twice")
    t.equal(b.stop(), 0, "exit status")


@test(seconds=120, alone=True, millrace_only=True)
def one_directory_fails(t):
    """The disk of the second directory stops taking blocks: it is offline alone, and what it acknowledged is there later."""
    under = t.mounted(["-t", "tmpfs", "-o", "size=120m", "none"])
    image = under / "image"
    with open(image, "wb") as f:
        f.truncate(256 << 20)
    if not shutil.which("mkfs.ext4") or run("mkfs.ext4", "-q", "-F", image).returncode != 0:
        t.skip("no mkfs.ext4")
    place = t.mounted(["-o", "loop", image])
    dirs = [t.file("one"), place / "two"]
    b = on_two(t, *dirs, conf=SMALL, start=False)
    b.formatted = False
    b.start()
    topic = t.topic(2, conf={"segment.bytes": 1048576})
    sound = next(p for p in range(2) if where(dirs, topic, p) == [0])
    broken = 1 - sound
    once = python_producer(b.bootstrap, acks="all", retries=0, linger_ms=0, message_max_bytes=1000000)
    sent = [0, 0]
    for p in list(range(2)) * 20:
        t.equal(send(once, topic, p), None, "a record")
        sent[p] += 1
    with open(under / "filler", "wb") as f:
        try:
            while True:
                f.write(b"\0" * (1 << 20))
        except OSError:
            pass
    error, deadline = None, time.monotonic() + 60
    while error is None and time.monotonic() < deadline:
        error = send(once, topic, broken, b"x" * 100000)
        sent[broken] += error is None
    t.equal(error, "KAFKA_STORAGE_ERROR", "after %d records" % sent[broken])
    t.equal(send(once, topic, broken), "KAFKA_STORAGE_ERROR", "the next record there")
    for _ in range(20):
        t.equal(send(once, topic, sound), None, "a record beside it")
        sent[sound] += 1
    t.check(b.alive(), "the broker ended")
    said = log_dirs(t, b)
    t.equal(said[str(dirs[0])][0], None, "the sound directory")
    t.check("KafkaStorage" in str(said[str(dirs[1])][0]), "kafka-log-dirs says of the broken one: %s", said[str(dirs[1])])
    t.check("a log directory is offline, the others are served" in b.log_tail(), "the log does not say it")
    t.equal(b.stop(), 0, "exit status")
    os.unlink(under / "filler")
    run("umount", place)
    run("e2fsck", "-p", image)
    t.equal(run("mount", "-o", "loop", image, place).returncode, 0, "mounting again")
    b.start()
    t.eventually(lambda: total(t, topic) >= sum(sent), 20, "both partitions")
    got = consume_all(t, topic, sum(sent))
    for p in range(2):
        t.check(len(got[p]) >= sent[p], "partition %d: %d of %d acknowledged records", p, len(got[p]), sent[p])
    t.equal(b.stop(), 0, "exit status")


@test(seconds=200, millrace_only=True)
def partitions_move_while_written(t):
    """Java's Admin moves both partitions of a topic to the other directory, to and fro, while a producer writes."""
    dirs = [t.file("one"), t.file("two")]
    b = on_two(t, *dirs, start=False)
    b.formatted = False
    b.start()
    topic = t.topic(2, conf={"segment.bytes": "1048576"})
    fill(t, b, topic, 2, 3000)
    sent, failed = [3000, 3000], []
    producer = python_producer(b.bootstrap, acks="all", linger_ms=2, enable_idempotence=True)

    def write(count):
        for _ in range(count):
            for p in range(2):
                producer.produce(topic, b"%d:%d" % (p, sent[p]) + b"." * 1000, partition=p,
                                 on_delivery=lambda e, _: e and failed.append(e))
                sent[p] += 1
            producer.poll(0.001)
    for turn in range(3):
        for p in range(2):
            to = 1 - where(dirs, topic, p)[0]
            t.java("move_log", topic=topic, partition=p, path=dirs[to])
            write(200)
            t.eventually(lambda: write(20) or where(dirs, topic, p) == [to], 60, "partition %d in %s" % (p, dirs[to]))
        if turn == 1:
            t.equal(b.stop(), 0, "exit status")
            b.start()
    producer.flush(60)
    t.equal(failed, [], "refused records")

    def check(what):
        got = consume_all(t, topic, sum(sent), broker=t._broker)
        for p in range(2):
            values = [int(v.rstrip(".").split(":")[1]) for _, v in got[p]]
            t.equal(values, list(range(sent[p])), "partition %d, %s" % (p, what))
    check("after the moves")
    # Killed in the middle of a move: one of the two is there, and all of it.
    t.java("move_log", topic=topic, partition=0, path=dirs[1 - where(dirs, topic, 0)[0]])
    b.kill()
    b.start()
    check("after kill -9")
    t.eventually(lambda: len(where(dirs, topic, 0)) == 1, 20, "one log of partition 0")
    t.equal(b.stop(), 0, "exit status")
    k = t.own({"log.dirs": "%s,%s" % tuple(dirs)}, kind="kafka", directory=dirs[0], port=b.port)
    t._broker = k
    check("by Kafka")
    t.equal(k.stop(), 0, "Kafka's exit status")
