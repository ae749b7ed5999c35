#!/usr/bin/env python3
"""Does a backfill move the tail? A producer and a consumer at the tail, alone and beside eight readers from offset 0.

    perf/backfill.py [--system millrace|kafka] [--gb 4] [--seconds 10] [--rounds 2] [--reader-mb 50] [--tail-mb 20]
                     [--generator FILE] [--set KEY=VALUE] [--wait FILE]

Issue 7: the cache is 1 GiB (Millrace: cache 768 MiB, cold pool 256 MiB; Kafka: heap 1 GiB, page cache 1 GiB by a memory
cgroup of 2 GiB), the old data 4 GiB in 8 partitions, one reader each. Phases, interleaved in each round:

  alone      the tail without readers
  limited    eight readers held to --reader-mb each: p99 of produce and fetch at most 15 % or 200 us more than alone
  unlimited  eight readers as fast as they can: p99 at most 2x, the tail's rate at least 95 %
  readers    the readers without a tail: what `unlimited` must reach 60 % of

The tail is open loop with latencies from the intended start; fetch is from there to the consumer's answer."""

import argparse
import json
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / "interop"), str(HERE)]
sys.dont_write_bytecode = True
import compare  # noqa: E402
from lib import broker as brokers  # noqa: E402
from lib.wire import string  # noqa: E402

PARTITIONS = 8
FETCH_BYTES = 1 << 20
CONF = {
    "millrace": {"millrace.cache.bytes": 768 << 20, "millrace.cold.bytes": 256 << 20},
    "kafka": {},
}
TOPIC = {"millrace": "", "kafka": ",flush.messages=1"}


class Reader(threading.Thread):
    """One partition from offset 0 to its end, and again, at most `rate` bytes per second (0: no limit)."""

    def __init__(self, port, partition, rate):
        super().__init__(daemon=True)
        self.port, self.partition, self.rate = port, partition, rate
        self.bytes, self.stop = 0, False

    def fetch(self, s, offset, into):
        body = struct.pack(">hhi", 1, 4, 0) + string("backfill") + struct.pack(">iiiib", -1, 500, 1, FETCH_BYTES, 0)
        body += struct.pack(">i", 1) + string("old") + struct.pack(">iiqi", 1, self.partition, offset, FETCH_BYTES)
        s.sendall(struct.pack(">i", len(body)) + body)
        view, want, have = memoryview(into), 4, 0
        while have < want:
            got = s.recv_into(view[have:want if want > 4 else 4])
            if got == 0:
                raise ConnectionError("the broker closed the connection")
            have += got
            if have == 4 and want == 4:
                want = 4 + struct.unpack_from(">i", into, 0)[0]
        return have

    @staticmethod
    def next_offset(into, end):
        """What follows the last whole batch of the answer; None: there is none."""
        at = 4 + 4 + 4 + 4 + 2 + 3 + 4 + 4 + 2 + 8 + 8  # to the list of aborted transactions of the one partition
        code, = struct.unpack_from(">h", into, at - 18)
        if code != 0:
            raise AssertionError("a reader got error %d" % code)
        aborted, = struct.unpack_from(">i", into, at)
        at += 4 + max(aborted, 0) * 16 + 4
        after = None
        while at + 61 <= end:
            base, length = struct.unpack_from(">qi", into, at)
            if at + 12 + length > end:
                break
            after = base + struct.unpack_from(">i", into, at + 23)[0] + 1
            at += 12 + length
        return after

    def run(self):
        into, offset, began = bytearray(4 << 20), 0, time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            while not self.stop:
                end = self.fetch(s, offset, into)
                after = self.next_offset(into, end)
                offset = 0 if after is None else after
                self.bytes += end
                ahead = self.bytes / self.rate - (time.monotonic() - began) if self.rate else 0
                if ahead > 0:
                    time.sleep(ahead)


class Backfill:
    def __init__(self, port, rate):
        self.readers = [Reader(port, p, rate) for p in range(PARTITIONS)]
        self.began = time.monotonic()
        for r in self.readers:
            r.start()

    def end(self):
        """Bytes per second of all."""
        seconds = time.monotonic() - self.began
        alive = sum(r.is_alive() for r in self.readers)
        for r in self.readers:
            r.stop = True
        for r in self.readers:
            r.join()
        if alive < PARTITIONS:
            raise AssertionError("only %d readers came through" % alive)
        return sum(r.bytes for r in self.readers) / seconds


def load(generator, b, **settings):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        argv = [generator, "broker=" + b.bootstrap, "live=no", "json=" + out.name]
        argv += ["%s=%s" % (k.replace("_", "."), v) for k, v in settings.items()]
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
        if p.returncode not in (0, 3):
            raise AssertionError(p.stdout + p.stderr)
        return json.loads(Path(out.name).read_text())


def tail(a, b):
    got = load(a.generator, b, topic="tail", create="yes", cleanup="yes", partitions=4, producers=4, records=16,
               record_bytes=1024, in_flight=5, rate_bytes="%dMB" % a.tail_mb, consumers=1, e2e="yes", warmup="1s",
               duration="%ds" % a.seconds, topic_config=("segment.bytes=1073741824" + TOPIC[a.system]))
    return {"produce": got["produce_us"], "fetch": got["e2e_us"], "mb_per_s": got["mb_per_s"]}


def fill(a, b):
    written = 0
    while written < a.gb << 30:
        got = load(a.generator, b, topic="old", create="no" if written else "yes", partitions=PARTITIONS,
                   producers=PARTITIONS, records=100, record_bytes=1000, in_flight=2, warmup="0", duration="8s",
                   topic_config="segment.bytes=134217728")
        files = b.directory.glob("old-*/*.log")
        written = sum(f.stat().st_size for f in files)
        print("filled %.2f GiB" % (written / (1 << 30)), flush=True)


def median(values):
    return statistics.median(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=("millrace", "kafka"), default="millrace")
    parser.add_argument("--gb", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--reader-mb", type=int, default=50)
    parser.add_argument("--tail-mb", type=int, default=20)
    parser.add_argument("--generator", default=str(compare.BUILD / "millrace-load"))
    parser.add_argument("--wait", help="after filling wait for this file: the measurement may have a moment of its own")
    parser.add_argument("--set", action="append", default=[])
    a = parser.parse_args()
    conf = {**CONF[a.system], **dict(s.split("=", 1) for s in a.set)}
    b = brokers.KINDS[a.system](conf)
    memory = compare.CappedMemory() if a.system == "kafka" else None
    try:
        if memory and memory.path:
            (memory.path / ("memory.limit_in_bytes" if "memory" in str(memory.path.parent) else "memory.max")).write_text(str(2 << 30))
        b.start()
        if memory:
            memory.take(b.pid)
        fill(a, b)
        while a.wait and not Path(a.wait).exists():
            time.sleep(0.2)
        measure(a, b)
    finally:
        b.destroy()
        if memory:
            memory.close()


def measure(a, b):
    phases = {"alone": None, "limited": a.reader_mb * 1000000, "unlimited": 0}
    seen = {name: [] for name in phases}
    speeds = {"limited": [], "unlimited": [], "readers": []}
    for _ in range(a.rounds):
        for name, rate in phases.items():
            readers = None if rate is None else Backfill(b.port, rate)
            time.sleep(1)
            seen[name].append(tail(a, b))
            if readers:
                speeds[name].append(readers.end())
        readers = Backfill(b.port, 0)
        time.sleep(a.seconds)
        speeds["readers"].append(readers.end())
    for name, runs in seen.items():
        line = "%-10s" % name
        for what in ("produce", "fetch"):
            line += "  %s p50 %7.0f p99 %7.0f us" % (what, median([r[what]["p50"] for r in runs]), median([r[what]["p99"] for r in runs]))
        line += "  tail %5.1f MB/s" % median([r["mb_per_s"] for r in runs])
        if name in speeds:
            line += "  readers %6.0f MB/s" % (median(speeds[name]) / 1e6)
        print(line, [round(r["produce"]["p99"]) for r in runs])
    print("readers alone %.0f MB/s" % (median(speeds["readers"]) / 1e6))


if __name__ == "__main__":
    main()
