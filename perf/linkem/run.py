#!/usr/bin/env python3
"""Goodput of our TCP beside Linux's over the same bad paths, through build/release/millrace-linkem.

    perf/linkem/run.py [--quick] [--seeds N] [--jobs N] [--raw FILE] [--results FILE] [CELL...]

In each cell, for each seed, three transfers: Linux to Linux, Millrace to Linux, Linux to Millrace; Linux with CUBIC. A
transfer counts from the connect to the last byte at the receiver (a sender's end learns it from the answer). What was
sent again, and what of it for nothing, is what the bridge saw. A transfer during which the bridge was late is repeated:
the machine stood still, not a stack. Passes when the geometric mean of the medians is at least 0.95 of Linux's, no cell
is below 0.8, and at most 1.2 times as many segments were sent again for nothing (--quick, for ./dev test: 0.8, 0.6, 1.5)."""

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LINKEM = ROOT / "build/release/millrace-linkem"
HOST = ROOT / "build/release/tap_host"
sys.path.insert(0, str(ROOT / "tests/net"))

SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it
LATE_US = 3000  # a bridge that was later than that at most measured itself
TRIES = 6

# name: Mbit/s, round trip in ms, queue in ms, megabytes, other keys of linkem
CELLS = {
    "100M 2ms": (100, 2, 20, 20, {}),
    "100M 2ms 1%": (100, 2, 20, 16, {"loss": 100}),
    "100M 20ms": (100, 20, 20, 20, {}),
    "100M 20ms 0.1%": (100, 20, 20, 12, {"loss": 10}),
    "100M 20ms 1%": (100, 20, 20, 4, {"loss": 100}),
    "100M 20ms 3%": (100, 20, 20, 2, {"loss": 300}),
    "100M 20ms bursts": (100, 20, 20, 4, {"burst_begin": 10, "burst_end": 2500}),
    "100M 20ms reordered": (100, 20, 20, 12, {"reorder": 200, "jitter_us": 10000}),
    "100M 80ms": (100, 80, 40, 20, {}),
    "100M 80ms 0.1%": (100, 80, 40, 6, {"loss": 10}),
    "100M 80ms 1%": (100, 80, 40, 2, {"loss": 100}),
    "10M 20ms": (10, 20, 50, 3, {}),
    "10M 20ms short queue": (10, 20, 10, 3, {}),
    "10M 20ms 1%": (10, 20, 50, 2, {"loss": 100}),
    "10M 80ms": (10, 80, 80, 3, {}),
    "10M 80ms 1%": (10, 80, 80, 1, {"loss": 100}),
}
QUICK = ("100M 2ms 1%", "100M 20ms 0.1%", "10M 20ms short queue")
WAYS = ("linux-linux", "millrace-linux", "linux-millrace")
BULK = bytes(i % 251 for i in range(251 * 1000))


# ---- one end, in a process of its own in its namespace ----

def serve():
    """What tap_host does on 7001 and 7002, with Linux's stack."""
    with socket.create_server(("10.77.0.2", 7001)) as sink, socket.create_server(("10.77.0.2", 7002)) as source:
        for listener in (sink, source):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        print("ready", flush=True)

        def take():
            s, _ = sink.accept()
            count = 0
            while part := s.recv(1 << 18):
                count += len(part)
            s.sendall(b"%d 0\n" % count)
            s.close()

        def give():
            s, _ = source.accept()
            send(s, int(s.makefile("rb").readline()))
            s.close()

        threads = [threading.Thread(target=f, daemon=True) for f in (take, give)]
        for t in threads:
            t.start()
        sys.stdin.read()


def send(s, size):
    """Byte n is n % 251."""
    view, sent = memoryview(BULK), 0
    while sent < size:
        at = sent % len(BULK)
        sent += s.send(view[at:at + size - sent])


def transfer(what, size):
    """Prints the seconds."""
    started = time.monotonic()
    s = socket.socket()
    s.settimeout(60)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    s.connect(("10.77.0.2", 7001 if what == "upload" else 7002))
    if what == "upload":
        send(s, size)
        s.shutdown(socket.SHUT_WR)
        assert s.makefile("rb").readline() == b"%d 0\n" % size, "not all arrived"
    else:
        s.sendall(b"%d\n" % size)
        got = 0
        while part := s.recv(1 << 18):
            got += len(part)
        assert got == size, "not all arrived"
    print(time.monotonic() - started)


# ---- the whole ----

class Run:
    """Two hosts and the bridge between them; everything goes with it."""

    def __init__(self, cell, way, seed):
        mbit, trip_ms, queue_ms, _, keys = CELLS[cell]
        self.processes = []
        keys = dict(keys, kbit_per_s=mbit * 1000, delay_us=trip_ms * 500, queue_bytes=mbit * 125 * queue_ms, seed=seed)
        client = self.namespace()
        ports, fds = ["tap:/proc/%d/ns/net:mrtap" % client.pid], ()
        if way == "linux-linux":
            server = self.namespace()
            ports.append("tap:/proc/%d/ns/net:mrtap" % server.pid)
        else:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for s in (ours, theirs):
                s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
            ports.append("fd:%d" % theirs.fileno())
            fds = (theirs.fileno(),)
        self.bridge = self.start([LINKEM, *ports, *("%s=%d" % item for item in keys.items())], fds)
        self.expect(self.bridge, "ready")
        self.set_up(client, "10.77.0.1")
        if way == "linux-linux":
            self.set_up(server, "10.77.0.2")
            host = self.start([*self.into(server), sys.executable, __file__, "--serve"])
        else:
            host = self.start([HOST, "fd:%d" % ours.fileno(), "1500"], (ours.fileno(),))
            ours.close()
            theirs.close()
        self.expect(host, "ready")
        self.client = client

    @staticmethod
    def into(namespace):
        return ["nsenter", "-n", "-t", str(namespace.pid)]

    def start(self, command, fds=()):
        """With a real-time priority: whoever else is busy here is not to be measured."""
        p = subprocess.Popen(["chrt", "-r", "10", *map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, pass_fds=fds)
        self.processes.append(p)
        return p

    def namespace(self):
        p = self.start(["unshare", "-n", "sh", "-c", "echo in; read line"])
        self.expect(p, "in")
        return p

    @staticmethod
    def expect(p, line):
        got = p.stdout.readline().strip()
        assert got == line, "%s said %r" % (p.args, got)

    def set_up(self, namespace, address):
        script = ("echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6;"
                  "ip addr add %s/24 dev mrtap; ip link set mrtap up" % address)
        subprocess.run([*self.into(namespace), "sh", "-c", script], check=True)

    def measure(self, what, size):
        p = subprocess.run(["chrt", "-r", "10", *self.into(self.client), sys.executable, __file__, "--transfer", what, str(size)],
                           capture_output=True, text=True, timeout=120)
        assert p.returncode == 0 and p.stdout, p.stderr[-500:]
        out, _ = self.bridge.communicate(timeout=10)
        lines = [line.split() for line in out.splitlines()]
        text = max((line[2:] for line in lines if line[0] == "to"), key=lambda words: int(words[3]))
        found = dict(zip(text[::2], map(int, text[1::2])))
        found.update(zip(lines[-1][::2], map(int, lines[-1][1::2])))
        found["seconds"] = float(p.stdout)
        return found

    def close(self):
        for p in reversed(self.processes):
            if p.poll() is None:
                p.kill()
            p.wait()
            p.stdin.close()
            p.stdout.close()


def measure(cell, way, seed):
    """One transfer during which the machine went on; None: there was none."""
    size = CELLS[cell][3] * 1000000
    for _ in range(TRIES):
        run = None
        try:
            run = Run(cell, way, seed)
            found = run.measure("upload" if way == "linux-millrace" else "download", size)
        except (AssertionError, subprocess.TimeoutExpired) as e:
            print("%s %s seed %d: %s" % (cell, way, seed, e), file=sys.stderr)
            continue
        finally:
            if run:
                run.close()
        if os.environ.get("MR_VERBOSE"):
            print(cell, way, seed, found, file=sys.stderr)
        if found["late_max_us"] <= LATE_US:
            return dict(found, cell=cell, way=way, seed=seed, mbit=size * 8 / 1e6 / found["seconds"])
    return None


def median(found, cell, way, key):
    values = [f[key] for f in found if f["cell"] == cell and f["way"] == way]
    return statistics.median(values) if values else None


def table(found, cells):
    """Lines to print; the ratios of each way; needless segments of each way."""
    print("| path | Linux to Linux | Millrace to Linux | | Linux to Millrace | | sent again, of them for nothing |")
    print("|---|---|---|---|---|---|---|")
    ratios = {way: [] for way in WAYS[1:]}
    for cell in cells:
        rate = {way: median(found, cell, way, "mbit") for way in WAYS}
        if None in rate.values():
            print("| %s | not measured: the machine stood still too often |" % cell)
            continue
        for way in ratios:
            ratios[way].append((rate[way] / rate[WAYS[0]], cell))
        again = ["%d, %d" % tuple(sum(f[key] for f in found if f["cell"] == cell and f["way"] == way) for key in ("again", "needless"))
                 for way in WAYS]
        print("| %s | %.1f | %.1f | %.2f | %.1f | %.2f | %s |" % (
            cell, rate[WAYS[0]], rate[WAYS[1]], rate[WAYS[1]] / rate[WAYS[0]], rate[WAYS[2]], rate[WAYS[2]] / rate[WAYS[0]],
            "; ".join(again)))
    return ratios


def judge(found, cells, bounds):
    """Sentences about what is not as it should be."""
    mean_min, cell_min, needless_max = bounds
    ratios, wrong = table(found, cells), []
    for way, values in ratios.items():
        if not values:
            continue
        mean = math.exp(statistics.mean(math.log(ratio) for ratio, _ in values))
        low, cell = min(values)
        print("%s: geometric mean %.3f, lowest %.2f (%s)" % (way, mean, low, cell))
        if mean < mean_min:
            wrong.append("%s: mean %.3f below %.2f" % (way, mean, mean_min))
        if low < cell_min:
            wrong.append("%s: %s %.2f below %.2f" % (way, cell, low, cell_min))
    needless = {way: sum(f["needless"] for f in found if f["way"] == way) for way in WAYS}
    print("segments sent again for nothing: %s" % needless)
    if needless["millrace-linux"] > needless_max * needless["linux-linux"] + 10:
        wrong.append("%d segments sent again for nothing, Linux %d" % (needless["millrace-linux"], needless["linux-linux"]))
    return wrong


def report(results, verdict, reason):
    print("linkem: %s %s" % (verdict, reason))
    if results:
        with open(results, "a") as f:
            f.write("%s\tlinkem\t%s\n" % (verdict, reason))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--seeds", type=int)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--raw")
    p.add_argument("--results")
    p.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--transfer", nargs=2, help=argparse.SUPPRESS)
    p.add_argument("cells", nargs="*")
    a = p.parse_args()
    if a.serve:
        return serve()
    if a.transfer:
        return transfer(a.transfer[0], int(a.transfer[1]))
    from run import why_not  # tests/net
    reason = why_not()
    if reason:
        report(a.results, "skip", reason)
        return 0
    cells = [c for c in (QUICK if a.quick else CELLS) if not a.cells or any(n in c for n in a.cells)]
    seeds = a.seeds or (3 if a.quick else 9)
    todo = [(cell, way, seed) for seed in range(1, seeds + 1) for cell in cells for way in WAYS]
    with ThreadPoolExecutor(a.jobs) as pool:
        found = [f for f in pool.map(lambda what: measure(*what), todo) if f]
    if a.raw:
        Path(a.raw).write_text("".join(json.dumps(f) + "\n" for f in found))
    if len(found) < len(todo) * 2 / 3:
        report(a.results, "skip", "the machine stood still too often to measure")
        return 0
    wrong = judge(found, cells, (0.8, 0.6, 1.5) if a.quick else (0.95, 0.8, 1.2))
    report(a.results, "fail" if wrong else "pass", "; ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
