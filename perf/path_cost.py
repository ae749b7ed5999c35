#!/usr/bin/env python3
"""What one request costs the broker: CPU, context switches and system calls per request, counted over a raw socket.

    perf/path_cost.py [--runs N] [--scale F] [--only WORDS] BINARY [BINARY...]

Several binaries (say, before and after a change) take turns in every run, each on a fresh directory, and the
medians are printed side by side. The client sends bytes that were made before the clock starts, so it costs as little as a
client can. Where perf may, system calls are counted as well, in a run of their own."""

import argparse
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "interop"))
from lib import broker as brokers, wire  # noqa: E402


def task_sum(pid, read):
    return sum(read(task) for task in Path("/proc/%d/task" % pid).iterdir())


def cpu_us(pid):
    return task_sum(pid, lambda t: int((t / "schedstat").read_text().split()[0])) / 1000


def switches(pid):
    return task_sum(pid, lambda t: sum(int(x) for x in re.findall(r"ctxt_switches:\s*(\d+)", (t / "status").read_text())))


class Pipe:
    """One connection with a number of requests under way."""

    def __init__(self, port, send_buffer=0):
        self.s = wire.Wire(port, timeout_s=60).s
        if send_buffer:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.buffer = bytearray(4 << 20)

    def frame(self, api, version, body):
        head = struct.pack(">hhi", api, version, 7) + wire.string("cost")
        return struct.pack(">i", len(head) + len(body)) + head + body

    def exactly(self, n):
        view, at = memoryview(self.buffer), 0
        while at < n:
            got = self.s.recv_into(view[at:n])
            if got == 0:
                raise wire.Closed("closed")
            at += got

    def answer(self):
        self.exactly(4)
        n, = struct.unpack_from(">i", self.buffer)
        self.exactly(n)
        return n

    def run(self, frame, count, depth):
        for _ in range(depth):
            self.s.sendall(frame)
        for i in range(count):
            self.answer()
            if i + depth < count:
                self.s.sendall(frame)


def produce_frame(pipe, size, records):
    batch = wire.batch([(None, b"x" * size)] * records, base_timestamp=int(time.time() * 1000))
    return pipe.frame(0, 7, wire.Wire.produce_body(None, {"t": {0: batch}}))


def fetch_frame(pipe, partition_max):
    return pipe.frame(1, 11, wire.Wire.fetch_body(None, {"t": {0: 0}}, partition_max=partition_max))


# name, what is divided by (bytes: GB), requests, depth, frame
SCENES = {
    "produce 1 MB": dict(size=1000, records=990, count=600, depth=3, per_gb=True),
    "produce 1 MB as Java sends it": dict(size=1000, records=990, count=600, depth=5, send_buffer=131072, per_gb=True),
    "fetch 1 MB": dict(fetch=1 << 20, count=1500, depth=1, per_gb=True),
    "produce 100 B, 1 in flight": dict(size=100, records=1, count=8000, depth=1),
    "produce 100 B, 5 in flight": dict(size=100, records=1, count=20000, depth=5),
    "fetch 100 B": dict(fetch=150, count=20000, depth=1),
}


EVENTS = {"syscalls:sys_enter_io_uring_enter": "io_uring_enter", "raw_syscalls:sys_enter": "system calls"}


def count_calls(pid, work):
    """Counted by the kernel's trace points, which cost little; nothing where perf may not do that."""
    try:
        counter = subprocess.Popen(["perf", "stat", "-x,", "-e", ",".join(EVENTS), "-p", str(pid)],
                                   stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        return {}
    time.sleep(0.5)
    work()
    counter.send_signal(signal.SIGINT)
    rows = [line.split(",") for line in counter.communicate()[1].splitlines()]
    return {EVENTS[r[2]]: int(r[0]) for r in rows if len(r) > 2 and r[2] in EVENTS and r[0].isdigit()}


def start(binary, conf=None):
    # A small cache is soon all touched: what is measured is not the kernel clearing pages.
    b = brokers.KINDS["millrace"]({"millrace.cache.bytes": 64 << 20, **(conf or {})})
    b.binary = binary
    b.format()
    b.formatted = True
    b.start()
    w = wire.Wire(b.port, timeout_s=30)
    for _ in range(200):  # created on the way
        w.call(3, 4, struct.pack(">i", 1) + wire.string("t") + b"\1")
        time.sleep(0.05)
        if w.produce({"t": {0: wire.batch([(None, b"x" * 100)])}})[("t", 0)][0] == 0:
            break
    w.close()
    return b


def measure(binary, scene, scale):
    b = start(binary)
    try:
        pipe = Pipe(b.port, scene.get("send_buffer", 0))
        if "fetch" in scene:
            if scene.get("per_gb"):
                pipe.run(produce_frame(pipe, 1000, 990), 3, 1)
                frame = pipe.frame(1, 11, wire.Wire.fetch_body(None, {"t": {0: 1}}, partition_max=scene["fetch"]))
            else:
                frame = fetch_frame(pipe, scene["fetch"])
        else:
            frame = produce_frame(pipe, scene["size"], scene["records"])
        pipe.run(frame, max(20, scene["count"] // 5), scene["depth"])
        count = max(50, int(scene["count"] * scale))
        pid = b.pid
        before, switched, started = cpu_us(pid), switches(pid), time.monotonic()
        pipe.run(frame, count, scene["depth"])
        seconds = time.monotonic() - started
        cpu, switched = cpu_us(pid) - before, switches(pid) - switched
        calls = count_calls(pid, lambda: pipe.run(frame, count // 4, scene["depth"]))
        out = {"CPU us/request": cpu / count, "switches/request": switched / count, "requests/s": count / seconds}
        for name, number in calls.items():
            out[name + "/request"] = number / (count // 4)
        if scene.get("per_gb"):
            out["CPU s/GB"] = cpu / count / 1e6 / (0.99e6 / 1e9) if "size" in scene else cpu / count / 1e6 / (scene["fetch"] / 1e9)
        return out
    finally:
        b.kill()
        b.destroy()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--scale", type=float, default=1)
    p.add_argument("--only", default="")
    p.add_argument("binary", nargs="+", type=Path)
    a = p.parse_args()
    for name, scene in SCENES.items():
        if a.only not in name:
            continue
        samples = [[] for _ in a.binary]
        for _ in range(a.runs):
            for at, binary in enumerate(a.binary):
                samples[at].append(measure(binary.resolve(), scene, a.scale))
        print(name)
        for figure in samples[0][0]:
            cells = ["%10.2f (%.2f-%.2f)" % (statistics.median(s[figure] for s in side), min(s[figure] for s in side),
                                             max(s[figure] for s in side)) for side in samples]
            print("  %-22s %s" % (figure, "  ".join(cells)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
