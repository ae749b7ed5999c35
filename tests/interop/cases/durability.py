"""kill -9, restart, and living with Apache Kafka on the same directory."""

import hashlib
import os
import random
import subprocess
import time
from pathlib import Path

from lib import broker as brokers
from lib import case, journal
from lib.case import test
from lib.helpers import consume_all, perf_produce, total
from lib.load import Load, check_acked

KILLS = int(os.environ.get("MR_KILLS") or (50 if case.FULL else 5))
LOT = 5  # rounds that share a topic: its records are read once, whatever the number of rounds


def directory_digest(path):
    """Names and bytes of everything except the lock."""
    h = hashlib.sha256()
    for p in sorted(path.rglob("*")):
        if p.is_file() and p.name != ".lock":
            h.update(str(p.relative_to(path)).encode() + b"\0" + hashlib.sha256(p.read_bytes()).digest())
    return h.hexdigest()


def dump_all(t, directory, topic, partitions):
    """DumpLogSegments over every file of a topic: {partition: {offset: payload}}; any complaint fails."""
    found, files = {}, []
    for p in range(partitions):
        folder = directory / ("%s-%d" % (topic, p))
        for suffix in (".log", ".index", ".timeindex"):
            files += [f for f in sorted(folder.glob("*" + suffix)) if f.stat().st_size]
    for at in range(0, len(files), 60):  # a JVM for each file would take longer than the reading
        out = t.tool("dump-log", "--print-data-log", "--files", ",".join(map(str, files[at:at + 60])), timeout_s=200)
        text = out.stdout() + out.stderr()
        for bad in ("isvalid: false", "Mismatches in", "Found timestamp mismatch", "Exception", "out of order"):
            t.check(bad not in text, "DumpLogSegments says '%s':\n%s", bad, text[max(0, text.find(bad) - 500):][:1000])
        partition = None
        for line in out.stdout().splitlines():
            if line.startswith("Dumping "):
                partition = int(Path(line[8:]).parent.name.rsplit("-", 1)[1])
            elif line.startswith("| offset:") and "payload: " in line:
                found.setdefault(partition, {})[int(line.split()[2])] = line.split("payload: ", 1)[1]
    return found


class KillRounds:
    """Rounds of kill -9 at random moments under Java and librdkafka; how many of them count."""

    def __init__(self, t, b):
        self.t, self.broker, self.prng = t, b, random.Random(9)
        self.counted = self.attempts = self.with_commit = self.records = 0

    def round(self, topic, partitions, acked):
        self.attempts += 1
        load = Load(self.t, self.broker, topic, partitions, str(self.attempts), rate=5000)  # a lot is read three times
        time.sleep(self.prng.uniform(0.5, 2.0))
        self.broker.kill()
        n = load.end(acked)
        # Only Millrace's journal can be asked; Apache Kafka's rounds count by their records.
        is_met = self.t.kind != "millrace" or journal.is_commit_in_flight(self.broker, topic, acked)
        self.with_commit += is_met
        self.counted += n >= 1000 and is_met
        self.broker.start()

    def lot(self, wanted, partitions):
        """So many rounds that count, on a topic of their own; then every record by a consumer and in the files."""
        t, b = self.t, self.broker
        topic, acked = t.topic(partitions), {}
        until = min(self.counted + LOT, wanted)
        while self.counted < until:
            t.check(self.attempts < wanted * 3 + 3, "only %d of %d rounds count; a commit was in flight in %d", self.counted,
                    self.attempts, self.with_commit)
            self.round(topic, partitions, acked)
        check_acked(t, topic, acked)
        t.equal(b.stop(), 0, "exit status")
        dumped = dump_all(t, b.directory, topic, partitions)
        for (p, o), v in acked.items():
            t.equal(dumped.get(p, {}).get(o), v, "partition %d offset %d in the files" % (p, o))
        self.records += len(acked)


@test(seconds=300 + 30 * KILLS)
def kill_loop(t):
    """kill -9 at random moments under Java and librdkafka: every acknowledged record, once and in order."""
    rounds = KillRounds(t, t.own())
    while rounds.counted < KILLS:
        if rounds.counted > 0:
            rounds.broker.start()
        rounds.lot(KILLS, 50)
    t.note("%d rounds of %d count (a commit was in flight in %d), %d acknowledged records" % (
        rounds.counted, rounds.attempts, rounds.with_commit, rounds.records))


@test(seconds=120)
def files_are_kafkas(t):
    """After a clean stop Kafka's tool reads every file, and the directory is as Kafka's own."""
    b = t.own()
    topic = t.topic(2, conf={"segment.bytes": "1048576", "index.interval.bytes": "4096"})
    perf_produce(t, topic, 8000, 1000, "acks=all", "batch.size=16384")
    t.java("commit_back", topic=topic, group="g", offsets="5")
    t.equal(b.stop(), 0, "exit status")
    t.check((b.directory / ".kafka_cleanshutdown").exists(), "no clean shutdown marker")
    found = dump_all(t, b.directory, topic, 2)
    t.equal(sum(len(x) for x in found.values()), 8000, "records in the files")
    t.check(len(list(b.partition_dir(topic, 0).glob("*.log"))) > 1, "no segment was rolled")
    meta = dict(x.split("=", 1) for x in (b.directory / "meta.properties").read_text().splitlines() if "=" in x)
    t.equal((meta["version"], meta["node.id"]), ("1", "1"), "meta.properties")
    out = t.tool("dump-log", "--cluster-metadata-decoder", "--files",
                 b.directory / "__cluster_metadata-0" / ("%020d.log" % 0)).stdout()
    t.check('"TOPIC_RECORD"' in out and topic in out, "the metadata log:\n%s", out[:800])
    offsets = [p for p in b.directory.glob("__consumer_offsets-*/*.log") if p.stat().st_size]
    t.check(offsets, "no file of __consumer_offsets has a record")
    out = "".join(t.tool("dump-log", "--offsets-decoder", "--files", p).stdout() for p in offsets)
    t.check(topic in out, "the offsets topic does not name the topic")


@test(seconds=200, millrace_only=True)
def kafka_takes_the_directory_and_gives_it_back(t):
    b = t.own()
    topic = t.topic(2, conf={"segment.bytes": "1048576"})
    perf_produce(t, topic, 5000, 1000, "acks=all")

    def digest():
        got = consume_all(t, topic, total(t, topic, broker=t._broker), broker=t._broker)
        return hashlib.sha256(repr(sorted(got.items())).encode()).hexdigest()
    before, topic_id = digest(), t.java("topic_id", topic=topic)
    t.equal(b.stop(), 0, "exit status")
    k = t.own(kind="kafka", directory=b.directory, port=b.port)
    t._broker = k
    t.equal(digest(), before, "what Kafka serves")
    t.equal(t.java("topic_id", topic=topic), topic_id, "topic id by Kafka")
    perf_produce(t, topic, 1000, 1000, "acks=all")
    after = digest()
    t.equal(k.stop(), 0, "Kafka's exit status")
    t._broker = b
    b.start()
    t.equal(digest(), after, "what Millrace serves afterwards")
    perf_produce(t, topic, 1000, 1000, "acks=all")
    t.equal(total(t, topic), 7000, "records")


@test(seconds=150, millrace_only=True)
def metadata_is_checkpointed(t):
    """The metadata log is cut behind checkpoints that Kafka's tools and Kafka itself read; a killed broker starts from one."""
    b = t.own({"metadata.log.max.record.bytes.between.snapshots": "3000"})
    directory = b.directory / "__cluster_metadata-0"

    def checkpoints():
        return sorted(p.name for p in directory.glob("*.checkpoint"))
    names = [t.topic(40, conf={"retention.ms": str(7000000 + at)}) for at in range(8)]
    t.eventually(lambda: len(checkpoints()) == 2 and not checkpoints()[0].startswith("0" * 20), 20, "two checkpoints, and no older one")
    ids = {name: t.java("topic_id", topic=name) for name in names[:3]}
    b.kill()
    b.start()
    t.equal({name: t.java("topic_id", topic=name) for name in names[:3]}, ids, "topic ids after kill -9")
    t.equal(b.stop(), 0, "exit status")
    out = t.tool("dump-log", "--cluster-metadata-decoder", "--files", directory / checkpoints()[-1]).stdout()
    t.check("KRaftVersion" in out or "SnapshotHeader" in out, "no header:\n%s", out[:800])
    t.check(all(name in out for name in names[:5]), "topics are missing:\n%s", out[:800])
    t.check("SnapshotFooter" in out, "no footer:\n%s", out[-800:])
    k = t.own(kind="kafka", directory=b.directory, port=b.port)
    t._broker = k
    t.equal({name: t.java("topic_id", topic=name) for name in names[:3]}, ids, "topic ids by Kafka")
    described = t.tool("configs", "--bootstrap-server", k.bootstrap, "--describe", "--entity-type", "topics", "--entity-name", names[3]).stdout()
    t.check("retention.ms=7000003" in described, "configs by Kafka:\n%s", described)
    t.equal(k.stop(), 0, "Kafka's exit status")
    t._broker = b
    b.start()
    t.equal({name: t.java("topic_id", topic=name) for name in names[:3]}, ids, "topic ids back here")


@test(seconds=150, millrace_only=True)
def kafka_refuses_a_killed_directory(t):
    b = t.own()
    topic = t.topic(2)
    perf_produce(t, topic, 2000, 1000, "acks=all")
    b.kill()
    before = directory_digest(b.directory)
    k = t.own(kind="kafka", directory=b.directory, start=False)
    try:
        k.start()
        raise AssertionError("Kafka started on the directory of a killed Millrace")
    except brokers.BrokerFailed:
        pass
    k.kill()
    t.equal(directory_digest(b.directory), before, "the directory after Kafka's attempt")
    b.recover()
    k = t.own(kind="kafka", directory=b.directory)
    t.equal(total(t, topic, broker=k), 2000, "records that Kafka finds after `millrace recover`")


def digest(t, topic):
    """What the test's broker serves of the topic."""
    got = consume_all(t, topic, total(t, topic))
    return hashlib.sha256(repr(sorted(got.items())).encode()).hexdigest()


@test(seconds=200, millrace_only=True)
def killed_kafka_is_recovered(t):
    """kill -9 of Apache Kafka leaves zeros, stale indexes and no marker; a torn write besides: Millrace serves the rest."""
    k = t.own(kind="kafka", conf={"log.preallocate": "true", "log.segment.bytes": "1048576"})
    topic = t.topic(3)
    perf_produce(t, topic, 5000, 1000, "acks=all")
    before = consume_all(t, topic, total(t, topic))
    k.kill()
    last = max((k.directory / (topic + "-0")).glob("*.log"))
    content = bytearray(last.read_bytes())
    t.check(content.endswith(b"\0" * 4096), "Kafka left no zeros in %s", last)
    content[len(content.rstrip(b"\0")) - 5] ^= 0xff  # in the last batch
    last.write_bytes(content)
    b = t.own(directory=k.directory, port=k.port)
    t._broker = b
    got = consume_all(t, topic, total(t, topic))
    t.equal((got[1], got[2]), (before[1], before[2]), "partitions that are whole")
    t.equal(got[0], before[0][:len(got[0])], "partition 0 up to the torn batch")
    t.check(0 < len(before[0]) - len(got[0]) < 100, "%d records of %d", len(got[0]), len(before[0]))
    perf_produce(t, topic, 1000, 1000, "acks=all")
    after = digest(t, topic)
    t.equal(b.stop(), 0, "exit status")
    dump_all(t, b.directory, topic, 3)
    t._broker = k
    k.start()
    t.equal(digest(t, topic), after, "what Kafka serves of it again")


@test(seconds=120, millrace_only=True)
def storage_cores_may_change(t):
    """kill -9 and clean stops with two storage cores, one, three: every record stays, on whatever core."""
    b = t.own(conf={"millrace.cores": "2"})
    topic = t.topic(8)
    for life, cores in enumerate((1, 2, 3, 2)):
        perf_produce(t, topic, 4000, 500, "acks=all")
        before = digest(t, topic)
        if life % 2 == 0:
            b.kill()
        else:
            t.equal(b.stop(), 0, "exit status")
            lines = (b.directory / "recovery-point-offset-checkpoint").read_text().splitlines()
            t.equal(sum(x.startswith(topic + " ") for x in lines), 8, "partitions in the checkpoint")
        b.conf["millrace.cores"] = str(cores)
        b.start()
        t.equal(digest(t, topic), before, "records after life %d" % life)
    t.equal(total(t, topic), 16000, "records")


@test(seconds=90, millrace_only=True)
def one_broker_per_directory(t):
    b = t.own()
    for kind in ("millrace", "kafka"):
        other = t.own(kind=kind, directory=b.directory, start=False)
        try:
            other.start()
            raise AssertionError("a second %s started on the directory" % kind)
        except brokers.BrokerFailed as e:
            t.check("exited" in str(e), "%s", e)
            other.process = None  # it was meant to die
    t.check(b.alive(), "the first broker died")
    b.stop()
    k = t.own(kind="kafka", directory=b.directory)
    try:
        b.start()
        raise AssertionError("Millrace started on the directory of a running Kafka")
    except brokers.BrokerFailed:
        b.process = None
    t.check(k.alive(), "Kafka died")


@test(seconds=90, alone=True)
def clean_stop_is_quick(t):
    took = []
    while not took or (min(took) >= 1.0 and len(took) < 4):  # the best of several: the machine may be busy
        b = t.own()
        topic = t.topic(100, broker=b)
        t.java("produce", broker=b, topic=topic, count=20000, partitions=100, size=200)
        started = time.monotonic()
        t.equal(b.stop(), 0, "exit status")
        took.append(time.monotonic() - started)
        t.check((b.directory / ".kafka_cleanshutdown").exists(), "no marker of a clean stop")
    t.note("stopped in %.2f s" % min(took))
    if t.kind == "millrace":
        t.check(min(took) < 1.0, "SIGTERM took %s s with 100 partitions", took)
