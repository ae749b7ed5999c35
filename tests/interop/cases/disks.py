"""Log directories that fill up and that fail; files that retention and deletion remove. File systems of their own are
mounted for it: tmpfs, ext4 in a loop file."""

import os
import shutil
import subprocess
import time

from lib.case import test
from lib.helpers import consume_all, end_offsets, perf_produce, python_consumer, python_producer, python_read

SMALL = {"millrace.journal.file.bytes": 1048576, "millrace.journal.files": 4, "millrace.disk.reserve.bytes": 16777216}


def run(*argv):
    return subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def own_on(t, place, conf):
    b = t.own(conf, start=False, directory=place / "data")
    (place / "data").mkdir()
    b.formatted = False
    return b.start()


def send(producer, topic, size=100000):
    """One record, and the code of its error or None."""
    said = []
    producer.produce(topic, b"x" * size, partition=0, on_delivery=lambda error, _: said.append(error))
    producer.flush(20)
    return said[0].name() if said and said[0] is not None else (None if said else "no answer")


def fill_up(t, producer, topic):
    """Records until the directory is full and stays so: what is left is an estimate, put right once a second."""
    sent = 0
    for _ in range(5):
        error = None
        while error is None and sent < 1000:
            error = send(producer, topic)
            sent += error is None
        t.equal(error, "KAFKA_STORAGE_ERROR", "after %d records" % sent)
        time.sleep(1.2)
    return sent


def files(b, topic, partition=0):
    try:
        return sorted(os.listdir(b.partition_dir(topic, partition)))
    except FileNotFoundError:
        return []


@test(seconds=150)
def retention_removes_files(t):
    # A client that still asks about the deleted topic must not make another one of that name.
    b = t.own({"log.retention.check.interval.ms": 500, "auto.create.topics.enable": "false"})
    topic = t.topic(conf={"segment.bytes": 1048576, "file.delete.delay.ms": 3000})
    perf_produce(t, topic, 8000, 1000, "batch.size=100000")
    before = files(b, topic)
    t.equal(end_offsets(t, topic, "-2"), {0: 0}, "the earliest offset")
    t.check(len([f for f in before if f.endswith(".log")]) >= 5, "segments: %s", before)
    t.tool("configs", "--bootstrap-server", b.bootstrap, "--alter", "--entity-type", "topics", "--entity-name", topic,
           "--add-config", "retention.bytes=3000000")
    # Renamed at first, with all that belongs to the segment; Kafka looks for the first time after 30 s.
    t.eventually(lambda: [f for f in files(b, topic) if f.endswith(".log.deleted")], 60, "segments to be renamed")
    first = end_offsets(t, topic, "-2")[0]
    t.check(2000 < first < 6000, "the earliest offset is %d", first)
    names = files(b, topic)
    t.check("00000000000000000000.log" not in names and "00000000000000000000.index" not in names, "still there: %s", names)
    t.eventually(lambda: not [f for f in files(b, topic) if f.endswith(".deleted")], 30, "renamed files to go")
    got = consume_all(t, topic, 8000 - first)
    t.equal([o for o, _ in got[0]], list(range(first, 8000)), "what is left")
    t.equal(t.java("reset", topic=topic, offset=0, **{"c.auto.offset.reset": "earliest"}), "first=%d" % first, "a trimmed offset")
    # By time, the last segment too: everything is older than a second.
    t.tool("configs", "--bootstrap-server", b.bootstrap, "--alter", "--entity-type", "topics", "--entity-name", topic,
           "--add-config", "retention.ms=1000")
    t.eventually(lambda: end_offsets(t, topic, "-2") == {0: 8000}, 30, "everything to be too old")
    t.eventually(lambda: not [f for f in files(b, topic) if f.endswith(".log") and int(f[:20]) < 8000], 30, "old segments to go")
    # The end of an empty log is remembered by the name of its segment.
    t.equal(b.stop(), 0, "exit status")
    b.start()
    t.equal(end_offsets(t, topic), {0: 8000}, "the end after a restart")
    t.tool("topics", "--bootstrap-server", b.bootstrap, "--delete", "--topic", topic)
    t.eventually(lambda: not files(b, topic), 10, "the directory to be renamed")
    t.check([d for d in os.listdir(b.directory) if d.startswith(topic) and d.endswith("-delete")], "no -delete directory")
    t.eventually(lambda: not [d for d in os.listdir(b.directory) if d.startswith(topic)], 30, "the directory to go")
    t.equal(b.stop(), 0, "exit status")


@test(seconds=60, millrace_only=True)
def future_records_do_not_pin(t):
    b = t._broker = t.own({"log.retention.check.interval.ms": 500})
    topic = t.topic(conf={"retention.ms": 2000, "message.timestamp.after.max.ms": 2 ** 62, "segment.ms": 2 ** 62})
    p = python_producer(b.bootstrap)
    for at in (int(time.time() * 1000), int(time.time() + 86400 * 365) * 1000, 0):
        p.produce(topic, value=b"x" * 100, timestamp=at, partition=0)
        t.equal(p.flush(20), 0, "messages left")
    # Kafka's rule: the segment stays until the newest of its records is old. But it is said.
    t.eventually(lambda: "a record from the future keeps its segment" in b.log_tail(500), 20, "a line about it")
    time.sleep(2)
    t.equal(end_offsets(t, topic, "-2", broker=b), {0: 0}, "the earliest offset")
    t.tool("configs", "--bootstrap-server", b.bootstrap, "--alter", "--entity-type", "topics", "--entity-name", topic,
           "--add-config", "millrace.retention.clock=append")
    t.eventually(lambda: end_offsets(t, topic, "-2", broker=b) == {0: 3}, 20, "the records to be too old")


@test(seconds=120, millrace_only=True)
def full_directory(t):
    place = t.mounted(["-t", "tmpfs", "-o", "size=64m", "none"])
    b = own_on(t, place, SMALL)
    keep = t.topic(conf={"segment.bytes": 1048576, "file.delete.delay.ms": 1000})
    fill = t.topic(conf={"segment.bytes": 1048576, "file.delete.delay.ms": 1000})
    once = python_producer(b.bootstrap, acks="all", retries=0, linger_ms=0, message_max_bytes=1000000)
    t.equal(send(once, keep), None, "the first record")
    sent = fill_up(t, once, fill)
    t.check(sent > 150, "only %d records of 100 kB fitted into 64 MiB", sent)
    t.check(os.statvfs(place).f_bavail * 4096 > 12 << 20, "the reserve was used: %d", os.statvfs(place).f_bavail * 4096)
    # Everything else goes on.
    t.equal(len(python_read(t, b.bootstrap, fill, sent)), sent, "records read")
    c = python_consumer(b.bootstrap, group_id="full")
    c.subscribe([keep])
    t.eventually(lambda: c.poll(0.2), 30, "a record for the group")
    t.equal(c.commit(asynchronous=False)[0].error, None, "the commit")
    c.close()
    t.tool("configs", "--bootstrap-server", b.bootstrap, "--alter", "--entity-type", "topics", "--entity-name", keep,
           "--add-config", "retention.ms=7200000")
    t.equal(send(once, fill), "KAFKA_STORAGE_ERROR", "still full")
    # A producer that keeps trying gets through by itself when there is room.
    patient = python_producer(b.bootstrap, acks="all", delivery_timeout_ms=30000, message_max_bytes=1000000)
    said = []
    patient.produce(keep, b"x" * 100000, partition=0, on_delivery=lambda e, _: said.append(e))
    patient.poll(1)
    t.equal(said, [], "answers before there is room")
    freed = time.monotonic()
    t.equal(t.java("delete_records", topic=fill, before=sent // 2), "low=%d" % (sent // 2), "deleteRecords")
    t.check(patient.flush(15) == 0 and said == [None], "the waiting record: %s", said)
    t.note("%.1f s after records were deleted" % (time.monotonic() - freed))
    fill_up(t, once, fill)
    t.tool("topics", "--bootstrap-server", b.bootstrap, "--delete", "--topic", fill)
    t.eventually(lambda: send(once, keep) is None, 10, "room after the topic was deleted")
    t.equal(b.stop(), 0, "exit status")


@test(seconds=120, millrace_only=True)
def failing_disk(t):
    """The disk under the file system stops taking new blocks: what the journal holds is there after a repair."""
    under = t.mounted(["-t", "tmpfs", "-o", "size=120m", "none"])
    image = under / "image"
    with open(image, "wb") as f:
        f.truncate(256 << 20)
    if not shutil.which("mkfs.ext4") or run("mkfs.ext4", "-q", "-F", image).returncode != 0:
        t.skip("no mkfs.ext4")
    place = t.mounted(["-o", "loop", image])
    b = own_on(t, place, SMALL)
    topic = t.topic(conf={"segment.bytes": 1048576})
    once = python_producer(b.bootstrap, acks="all", retries=0, linger_ms=0, message_max_bytes=1000000)
    sent = 0
    while sent < 50:
        t.equal(send(once, topic), None, "record %d" % sent)
        sent += 1
    with open(under / "filler", "wb") as f:
        try:
            while True:
                f.write(b"\0" * (1 << 20))
        except OSError:
            pass
    error = None
    deadline = time.monotonic() + 60
    while error is None and time.monotonic() < deadline:
        error = send(once, topic)
        sent += error is None
    t.check(error is not None, "all %d records were acknowledged", sent)
    t.equal(b.process.wait(30), 1, "exit status")
    b.process = None
    t.check("log directory offline" in b.log_tail(), "the log does not say why")
    os.unlink(under / "filler")
    run("umount", place)
    run("e2fsck", "-p", image)
    t.equal(run("mount", "-o", "loop", image, place).returncode, 0, "mounting again")
    b.start()
    got = consume_all(t, topic, sent)
    t.check(len(got[0]) >= sent, "%d of %d acknowledged records", len(got[0]), sent)
    t.note("%s after %d records" % (error, sent))
    t.equal(b.stop(), 0, "exit status")


@test(seconds=90, alone=True, millrace_only=True)
def commits_are_quiet(t):
    """What a durable acknowledgement costs the scheduler: a wake-up for the request and one for its commit."""
    b = t.own()
    topic = t.topic()

    def switches():
        total = 0
        for task in os.listdir("/proc/%d/task" % b.pid):
            try:
                with open("/proc/%d/task/%s/status" % (b.pid, task)) as f:
                    total += int(next(line for line in f if line.startswith("voluntary")).split()[1])
            except OSError:
                pass  # a worker of the ring ended
        return total

    for in_flight, limit in ((1, 2.7), (5, 1.8)):
        p = python_producer(b.bootstrap, acks="all", linger_ms=0, batch_num_messages=1, max_in_flight=in_flight)
        done = []

        def send_all(count):
            sent, end = 0, len(done) + count
            while len(done) < end:
                while sent < count and sent - (len(done) - end + count) < in_flight:
                    p.produce(topic, b"x" * 100, partition=0, on_delivery=lambda e, _: done.append(e))
                    sent += 1
                p.poll(0.05)
        send_all(200)
        before = switches()
        send_all(3000)
        each = (switches() - before) / 3000
        t.check(not any(done), "errors: %s", [e for e in done if e][:3])
        t.check(each <= limit, "%.2f context switches per record with %d in flight", each, in_flight)
        t.note("%d in flight: %.2f switches per record" % (in_flight, each))
