#!/usr/bin/env python3
"""Our TCP/IP against the Linux stack, through a TAP device in a network namespace of its own.

    run.py [--results FILE] [NAME...]

Each case is a setting of one of the two sides; in each: bulk both ways, requests and answers, half-close, a connection that we
open, a ping. `many` holds 1,000 connections at once. Without root or /dev/net/tun everything is skipped, and says why."""

import argparse
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = ROOT / "build/release/tap_host"
BULK = 4_000_000
PERIOD = 251
PATTERN = bytes(i % PERIOD for i in range(PERIOD * 300))

# name: (arguments of our side, sysctls of Linux's side, MTU, SO_RCVBUF of Linux's side)
CASES = {
    "default": ((), {}, 1500, None),
    "linux_no_sack": ((), {"tcp_sack": 0}, 1500, None),
    "linux_no_timestamps": ((), {"tcp_timestamps": 0}, 1500, None),
    "linux_no_scaling": ((), {"tcp_window_scaling": 0}, 1500, None),
    "linux_ecn": ((), {"tcp_ecn": 1}, 1500, None),
    "linux_tiny_buffers": ((), {}, 1500, 4096),
    "ours_no_sack": (("no-sack",), {}, 1500, None),
    "ours_no_timestamps": (("no-ts",), {}, 1500, None),
    "ours_no_scaling": (("no-scale",), {}, 1500, None),
    "ours_ecn": (("ecn",), {"tcp_ecn": 1}, 1500, None),
    "loss_1_percent": (("loss=100",), {}, 1500, None),
    "loss_5_percent": (("loss=500",), {}, 1500, None),
    "loss_without_sack": (("loss=100", "no-sack"), {}, 1500, None),
    "mtu_576": ((), {}, 576, None),
    "mtu_9000": ((), {}, 9000, None),
}


def stream(start, size):
    out = b""
    while len(out) < size:
        at = (start + len(out)) % PERIOD
        out += PATTERN[at:at + size - len(out)]
    return out


class Peer:
    """Our host behind its TAP, and the settings of Linux."""

    def __init__(self, name, *more):
        ours, sysctls, mtu, self.buffer = CASES.get(name, CASES["default"])
        for key, value in sysctls.items():
            Path("/proc/sys/net/ipv4/" + key).write_text(str(value))
        self.changed = sysctls
        self.process = subprocess.Popen([HOST, "mrtap", str(mtu), *ours, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n", "tap_host did not start"
        for command in ("addr add 10.77.0.1/24 dev mrtap", "link set mrtap mtu %d" % mtu, "link set mrtap up"):
            subprocess.run(["ip", *command.split()], check=True)
        self.has_ip6 = mtu >= 1280
        if self.has_ip6:
            subprocess.run("ip addr add fd77::1/64 dev mrtap nodad".split(), check=True)

    def connect(self, port, family=socket.AF_INET):
        s = socket.socket(family, socket.SOCK_STREAM)
        s.settimeout(20)
        if self.buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        s.connect(("10.77.0.2" if family == socket.AF_INET else "fd77::2", port))
        return s

    def close(self):
        out, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, "tap_host: %s" % out
        return out.strip()


def read_all(s):
    parts = []
    while True:
        part = s.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def upload(peer, family):
    """The answer comes behind our FIN: a half-close."""
    with peer.connect(7001, family) as s:
        s.sendall(stream(0, BULK))
        s.shutdown(socket.SHUT_WR)
        assert read_all(s) == b"%d 0\n" % BULK, "uploaded bytes are not what arrived"


def download(peer, family):
    with peer.connect(7002, family) as s:
        s.sendall(b"%d\n" % BULK)
        assert read_all(s) == stream(0, BULK), "downloaded bytes are not what was sent"


def requests(peer, family):
    with peer.connect(7003, family) as s:
        for size in (1, 10, 100, 1000, 5000) * 40:
            s.sendall(stream(0, size))
            got = b""
            while len(got) < size:
                part = s.recv(size - len(got))
                assert part, "closed in the middle of an answer"
                got += part
            assert got == stream(0, size)
        s.shutdown(socket.SHUT_WR)
        assert read_all(s) == b""


def dialled(peer, family):
    """A connection that our side opens."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.settimeout(20)
        listener.bind(("10.77.0.1" if family == socket.AF_INET else "fd77::1", 0))
        listener.listen(1)
        with peer.connect(7004, family) as s:
            s.sendall(b"%d\n" % listener.getsockname()[1])
            assert read_all(s) == b""
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(20)
            conn.sendall(b"hello")
            conn.shutdown(socket.SHUT_WR)
            assert read_all(conn) == b"hello"


def closed_port(peer, family):
    try:
        peer.connect(7999, family).close()
    except ConnectionRefusedError:
        return
    raise AssertionError("a port that nobody listens to was open")


def ping(peer, family):
    if family == socket.AF_INET:
        s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        s.settimeout(5)
        body = bytes([8, 0, 0, 0, 0, 7, 0, 1]) + b"ping"
        total = sum(int.from_bytes(body[i:i + 2], "big") for i in range(0, len(body), 2))
        total = (total & 0xffff) + (total >> 16)
        s.sendto(body[:2] + (0xffff - total).to_bytes(2, "big") + body[4:], ("10.77.0.2", 0))
        while s.recv(1000)[20] != 0:
            pass


def case(name):
    peer = Peer(name)
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            if family == socket.AF_INET or peer.has_ip6:
                for step in (ping, upload, download, requests, dialled, closed_port):
                    step(peer, family)
    finally:
        counters = peer.close()
    return counters


def pcap():
    """The capture of one exchange, read by a reader of our own: every frame whole, and the connection from SYN to FIN."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "tap.pcap")
        peer = Peer("default", "pcap=%s" % path)
        try:
            requests(peer, socket.AF_INET)
        finally:
            counters = peer.close()
        data, at, flags = path.read_bytes(), 24, 0
        assert struct.unpack_from("=IHHiIII", data) == (0xa1b23c4d, 2, 4, 0, 0, 65535, 1), "not a capture file"
        frames = 0
        while at < len(data):
            _, _, kept, length = struct.unpack_from("=IIII", data, at)
            frame = data[at + 16:at + 16 + kept]
            assert kept == length == len(frame), "a torn record"
            if frame[12:14] == b"\x08\x00" and frame[23] == 6:
                flags |= frame[47]
            at, frames = at + 16 + kept, frames + 1
        assert frames > 400 and flags & 3 == 3, "%d frames, flags %x" % (frames, flags)
    return counters


def many():
    peer = Peer("default")
    try:
        conns = [peer.connect(7003) for _ in range(1000)]
        for n, s in enumerate(conns):
            s.sendall(stream(n, 100))
        for n, s in enumerate(conns):
            got = b""
            while len(got) < 100:
                got += s.recv(100)
            assert got == stream(n, 100)
        for s in conns:
            s.close()
    finally:
        counters = peer.close()
    return counters


def why_not():
    if os.geteuid() != 0:
        return "root is needed for a TAP device"
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0:
        return "no network namespaces"
    return None


def inside(names, results):
    subprocess.run("ip link set lo up".split(), check=True)
    failed = 0
    todo = {name: (lambda name=name: case(name)) for name in CASES}
    todo["many"] = many
    todo["pcap"] = pcap
    for name, run in todo.items():
        full = "tap/" + name
        if names and not any(n in full for n in names):
            continue
        started, verdict, reason = time.time(), "pass", ""
        defaults = {key: Path("/proc/sys/net/ipv4/" + key).read_text() for key in CASES.get(name, CASES["default"])[1]}
        try:
            reason = run()
        except (AssertionError, OSError, subprocess.SubprocessError) as e:
            verdict, reason, failed = "fail", "%s: %s" % (type(e).__name__, e), failed + 1
        for key, value in defaults.items():
            Path("/proc/sys/net/ipv4/" + key).write_text(value)
        print("%-44s %s %5.1f s  %s" % (full, "ok  " if verdict == "pass" else "FAIL", time.time() - started, reason))
        if results:
            with open(results, "a") as f:
                f.write("%s\t%s\t%s\n" % (verdict, full, reason))
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--results")
    p.add_argument("--inside", action="store_true")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    if a.inside:
        return inside(a.names, a.results)
    reason = why_not()
    if reason:
        print("tap: skipped: " + reason)
        if a.results:
            with open(a.results, "a") as f:
                f.write("skip\ttap\t%s\n" % reason)
        return 0
    return subprocess.run(["unshare", "-n", sys.executable, __file__, "--inside"] +
                          (["--results", a.results] if a.results else []) + a.names).returncode


if __name__ == "__main__":
    sys.exit(main())
