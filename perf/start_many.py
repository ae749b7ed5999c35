#!/usr/bin/env python3
"""How long a broker with many partitions takes to make them, to start and to stop: wall time, CPU and memory of the process.

    perf/start_many.py [--partitions N] [--per-topic N] [--cores N] BINARY

One life after another on one directory: empty, clean with records, killed while idle, killed with every partition in the
journal. A start ends when the broker answers. Needs confluent-kafka (the interop tests' environment has it):
tests/interop/run.py says where that lies."""

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "interop"))
from lib import broker as brokers  # noqa: E402
from confluent_kafka import Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402


def cpu_ms(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 10


def rss(pid):
    return int(Path("/proc/%d/status" % pid).read_text().split("VmRSS:")[1].split()[0]) * 1024


def say(what, seconds, cpu, partitions, bytes_more=None):
    memory = "" if bytes_more is None else "   %5d B per partition" % (bytes_more / partitions)
    print("%-44s %7.3f s   cpu %5d ms = %6.1f us per partition%s" %
          (what, seconds, cpu, cpu * 1000 / partitions, memory), flush=True)


def start(b, what, partitions, empty=None):
    """`empty`: the memory of the broker without partitions."""
    began = time.monotonic()
    b.start()
    more = None if empty is None else rss(b.pid) - empty
    say("start " + what, time.monotonic() - began, cpu_ms(b.pid), partitions, more)


def create(b, partitions, per_topic, empty):
    """One request for each topic. Linear: the last tenth costs as much as the first."""
    admin = AdminClient({"bootstrap.servers": b.bootstrap, "log_level": 0})
    before, began, tenths = cpu_ms(b.pid), time.monotonic(), []
    for topic in range(partitions // per_topic):
        for done in admin.create_topics([NewTopic("t%d" % topic, per_topic, 1)], operation_timeout=60).values():
            done.result()
        if (topic + 1) * 10 // (partitions // per_topic) > len(tenths):
            tenths.append(cpu_ms(b.pid))
    say("create, %d per topic" % per_topic, time.monotonic() - began, cpu_ms(b.pid) - before, partitions, rss(b.pid) - empty)
    if len(tenths) == 10:
        print("    CPU of the second tenth %d ms, of the last %d ms" % (tenths[1] - tenths[0], tenths[9] - tenths[8]))


def stop(b, what, partitions):
    before = after = cpu_ms(b.pid)
    began = time.monotonic()
    b.process.send_signal(signal.SIGTERM)
    while b.process.poll() is None:
        after = cpu_ms(b.pid) or after
        time.sleep(0.005)
    assert b.process.returncode == 0, b.log_tail()
    b.process = None
    say("stop " + what, time.monotonic() - began, after - before, partitions)


def produce(b, partitions, per_topic):
    """One record for each partition."""
    p = Producer({"bootstrap.servers": b.bootstrap, "linger.ms": 5, "enable.idempotence": True, "log_level": 0})
    for at in range(partitions):
        p.produce("t%d" % (at // per_topic), b"x" * 100, partition=at % per_topic)
        p.poll(0)
    assert p.flush(300) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=10000, help="a multiple of --per-topic")
    parser.add_argument("--per-topic", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("binary")
    a = parser.parse_args()
    n = a.partitions
    b = brokers.Millrace({"millrace.partitions.max": str(n + 200), "millrace.cores": str(a.cores)})
    b.binary = Path(a.binary).resolve()
    try:
        start(b, "of an empty directory", n)
        empty = rss(b.pid)
        create(b, n, a.per_topic, empty)
        stop(b, "with empty partitions", n)
        start(b, "after a clean stop, empty", n, empty)
        produce(b, n, a.per_topic)
        stop(b, "with records in each", n)
        start(b, "after a clean stop, records", n, empty)
        b.kill()
        start(b, "after kill -9, idle", n, empty)
        produce(b, n, a.per_topic)
        b.kill()
        start(b, "after kill -9, all in the journal", n, empty)
        stop(b, "after a recovery", n)
    finally:
        b.kill()
        shutil.rmtree(b.base, ignore_errors=True)


if __name__ == "__main__":
    main()
