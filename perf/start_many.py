#!/usr/bin/env python3
"""How long a broker with many partitions takes to start and to stop: wall time and CPU of the process.

    perf/start_many.py [--partitions N] [--cores N] BINARY

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

PER_TOPIC = 1000


def cpu_ms(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 10


def say(what, seconds, cpu, partitions):
    print("%-44s %7.3f s   cpu %5d ms = %6.1f us per partition" % (what, seconds, cpu, cpu * 1000 / partitions))


def start(b, what, partitions):
    began = time.monotonic()
    b.start()
    say("start " + what, time.monotonic() - began, cpu_ms(b.pid), partitions)


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


def produce(b, partitions):
    """One record for each partition."""
    p = Producer({"bootstrap.servers": b.bootstrap, "linger.ms": 5, "enable.idempotence": True, "log_level": 0})
    for at in range(partitions):
        p.produce("t%d" % (at // PER_TOPIC), b"x" * 100, partition=at % PER_TOPIC)
        p.poll(0)
    assert p.flush(120) == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=10000, help="a multiple of %d" % PER_TOPIC)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("binary")
    a = parser.parse_args()
    n = a.partitions
    b = brokers.Millrace({"millrace.partitions.max": str(n + 200), "millrace.cores": str(a.cores)})
    b.binary = Path(a.binary).resolve()
    try:
        start(b, "of an empty directory", n)
        admin = AdminClient({"bootstrap.servers": b.bootstrap, "log_level": 0})
        for topic in range(n // PER_TOPIC):
            for done in admin.create_topics([NewTopic("t%d" % topic, PER_TOPIC, 1)], operation_timeout=60).values():
                done.result()
        stop(b, "with empty partitions", n)
        start(b, "after a clean stop, empty", n)
        produce(b, n)
        stop(b, "with records in each", n)
        start(b, "after a clean stop, records", n)
        b.kill()
        start(b, "after kill -9, idle", n)
        produce(b, n)
        b.kill()
        start(b, "after kill -9, all in the journal", n)
        stop(b, "after a recovery", n)
    finally:
        b.kill()
        shutil.rmtree(b.base, ignore_errors=True)


if __name__ == "__main__":
    main()
