#!/usr/bin/env python3
"""How long until every partition serves after kill -9 under full load, and after a clean stop, with much data and many partitions.

    perf/recover_many.py [--partitions N] [--gb N] [--repeats N] [--clean N] [--load-seconds N] [--set KEY=VALUE] [BINARY]

One directory, one topic of all partitions. Each repeat: producers write as fast as the broker takes it, kill -9, start. The
clock runs from the start of the process until ListOffsets (one request) has named every partition's end without an error, and
one Produce has been acknowledged by each of a hundred partitions. Then as many clean stops and starts, to the first answer."""

import argparse
import random
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests" / "interop"), str(HERE)]
sys.dont_write_bytecode = True
import compare  # noqa: E402
from lib import broker as brokers  # noqa: E402
from lib.wire import Wire, batch, string  # noqa: E402

TOPIC = "load"
PROBED = 100  # partitions that are written to


def cpu_ms(pid):
    fields = Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 10


def load(b, **settings):
    argv = [compare.BUILD / "millrace-load", "broker=" + b.bootstrap, "live=no", "topic=" + TOPIC, "warmup=0"]
    argv += ["%s=%s" % (k.replace("_", "."), v) for k, v in settings.items()]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def stored(b):
    return sum(f.stat().st_blocks * 512 for f in b.directory.glob(TOPIC + "-*/*.log"))


def fill(b, partitions, target):
    create = "yes"
    while stored(b) < target:
        p = load(b, create=create, partitions=partitions, producers=8, in_flight=2, records=64, record_bytes=1000, batches=8, duration="10s")
        out = p.communicate()[0]
        assert p.returncode in (0, 3), out
        create = "no"
        print("stored %.1f GB" % (stored(b) / 1e9), flush=True)


def list_ends(port, partitions):
    """Every partition names its end; raises when one of them is not served."""
    answer = Wire(port, 30).call(2, 1, struct.pack(">ii", -1, 1) + string(TOPIC) + struct.pack(">i", partitions) +
                                 b"".join(struct.pack(">iq", p, -1) for p in range(partitions)))
    answer.take("i")
    answer.string()
    seen = answer.array(lambda: answer.take("ihqq"))
    refused = [s for s in seen if s[1] != 0]
    assert len(seen) == partitions and not refused, "%d answers, refused: %s" % (len(seen), refused[:3])


def produce(port, partitions):
    """One record into some of them, in one request."""
    chosen = random.sample(range(partitions), min(PROBED, partitions))
    answer = Wire(port, 30).produce({TOPIC: {p: batch([(None, b"x" * 100)]) for p in chosen}})
    assert all(result[0] == 0 for result in answer.values()) and len(answer) == len(chosen), answer


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as s:
            s.settimeout(5)
            s.sendall(bytes.fromhex("0000000f" "0012" "0000" "00000001" "0005") + b"ready")
            return len(s.recv(4)) == 4
    except OSError:
        return False


def timed_start(b, partitions):
    """Seconds to the first answer and until all is served, CPU ms."""
    began = time.monotonic()
    b.start(wait=False)
    while not answers(b.port):
        assert b.alive(), b.log_tail()
        time.sleep(0.002)
    first = time.monotonic() - began
    list_ends(b.port, partitions)
    produce(b.port, partitions)
    return first, time.monotonic() - began, cpu_ms(b.pid)


def say(what, runs, partitions):
    first, served, cpu = zip(*runs)
    print("%-30s %2d times: first answer median %.3f s, longest %.3f s; all served median %.3f s, longest %.3f s; "
          "CPU median %.0f ms = %.1f us per partition" %
          (what, len(runs), statistics.median(first), max(first), statistics.median(served), max(served),
           statistics.median(cpu), statistics.median(cpu) * 1000 / partitions), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=10000)
    parser.add_argument("--gb", type=float, default=20)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--clean", type=int, default=5)
    parser.add_argument("--load-seconds", type=float, default=3)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("binary", nargs="?", default=str(compare.BUILD / "millrace"))
    a = parser.parse_args()
    conf = {"millrace.partitions.max": a.partitions + 200, **dict(s.split("=", 1) for s in a.set)}
    b = brokers.Millrace(conf)
    b.binary = Path(a.binary).resolve()
    try:
        b.start()
        fill(b, a.partitions, a.gb * 1e9)
        killed, clean = [], []
        for _ in range(a.repeats):
            p = load(b, create="no", producers=64, in_flight=4, records=10, record_bytes=1000, batches=16, duration="600s")
            time.sleep(a.load_seconds)
            assert p.poll() is None, p.communicate()[0]
            b.kill()
            p.kill()
            p.wait()
            killed.append(timed_start(b, a.partitions))
            print("    kill -9: %.3f s, %.3f s, CPU %d ms" % killed[-1], flush=True)
        for _ in range(a.clean):
            b.stop()
            clean.append(timed_start(b, a.partitions))
            print("    clean: %.3f s, %.3f s, CPU %d ms" % clean[-1], flush=True)
        print("%.1f GB in %d partitions" % (stored(b) / 1e9, a.partitions))
        for what, runs in (("start after kill -9 under load", killed), ("start after a clean stop", clean)):
            if runs:
                say(what, runs, a.partitions)
    finally:
        b.destroy()


if __name__ == "__main__":
    main()
