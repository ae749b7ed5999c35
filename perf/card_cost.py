#!/usr/bin/env python3
"""What a client's bytes cost the broker by the ways that it can be reached here (root):

    veth        the kernel's sockets, on one end of a pair of veth devices in a namespace of its own
    veth_frames likewise, without segmentation offload: one frame at a time, as our own TCP/IP has to
    af_xdp      our TCP/IP on AF_XDP, on such a pair
    tap         our TCP/IP on a TAP device


kcat writes and reads; the sides take turns; a row is the median of the rounds: the broker's CPU (user, system) and the
time that went by. The kernel's work that runs in the client's context is not the broker's, on any side."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))
from lib import broker as brokers  # noqa: E402

OFFLOADS = {"TSO": 0x1f, "GSO": 0x24}  # ETHTOOL_STSO, ETHTOOL_SGSO
SET_OFF = """
import fcntl, socket, struct, sys
s = socket.socket()
for command in %r:
    value = bytearray(struct.pack("II", command, 0))
    import ctypes
    buffer = (ctypes.c_char * 8).from_buffer(value)
    request = struct.pack("16sP16x", sys.argv[1].encode(), ctypes.addressof(buffer))
    fcntl.ioctl(s, 0x8946, request)
""" % sorted(OFFLOADS.values())


def run(*argv):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Veth(brokers.Millrace):
    """The kernel's sockets behind a pair of devices; the namespace goes when it is destroyed."""

    is_offloading = True

    def __init__(self, conf=None):
        super().__init__(conf)
        self.space = "mr%d" % os.getpid()
        self.device = self.space
        self.host = "10.63.0.2"
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", self.device, "type", "veth", "peer", "name", "ours", "netns", self.space)
        run("ip", "addr", "add", "10.63.0.1/24", "dev", self.device)
        run("ip", "link", "set", self.device, "up")
        self.inside("ip", "addr", "add", "10.63.0.2/24", "dev", "ours")
        self.inside("ip", "link", "set", "ours", "up")
        self.inside("ip", "link", "set", "lo", "up")
        if not self.is_offloading:
            run(sys.executable, "-c", SET_OFF, self.device)
            self.inside(sys.executable, "-c", SET_OFF, "ours")

    def inside(self, *argv):
        run("ip", "netns", "exec", self.space, *argv)

    def _launch(self):
        self._spawn(["ip", "netns", "exec", self.space, str(self.binary), "start", "--config", str(self._write_config())])

    def destroy(self):
        super().destroy()
        run("ip", "netns", "del", self.space)


class VethFrames(Veth):
    is_offloading = False


SIDES = {"veth": Veth, "veth_frames": VethFrames, "af_xdp": brokers.MillraceOnXdp, "tap": brokers.MillraceOnTap}


def cpu_s(b):
    with open("/proc/%d/stat" % b.pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return [int(n) / os.sysconf("SC_CLK_TCK") for n in fields[11:13]]


def measured(b, body):
    before, started = cpu_s(b), time.monotonic()
    body()
    elapsed, after = time.monotonic() - started, cpu_s(b)
    return after[0] - before[0], after[1] - before[1], elapsed


def kcat(b, *argv):
    subprocess.run(["kcat", "-b", b.bootstrap, "-t", "t", *argv], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def one_round(kind, path):
    b = kind()
    try:
        b.start()
        produced = measured(b, lambda: kcat(b, "-P", "-p", "0", "-X", "linger.ms=20", "-l", str(path)))
        fetched = measured(b, lambda: [kcat(b, "-C", "-e", "-q", "-o", "beginning") for _ in range(3)])
        b.stop()
        return produced, fetched
    finally:
        b.destroy()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--megabytes", type=int, default=100)
    a = p.parse_args()
    for port in ("tap", "af_xdp"):
        if brokers.port_missing(port):
            print("card_cost: skipped: " + brokers.port_missing(port))
            return 0
    rows = {}
    with tempfile.NamedTemporaryFile() as f:
        line = bytes(os.urandom(450)).hex().encode() + b"\n"
        f.write(line * (a.megabytes * 1000000 // len(line)))
        f.flush()
        for _ in range(a.rounds):
            for name, kind in SIDES.items():
                for what, got in zip(("produce", "fetch x3"), one_round(kind, f.name)):
                    rows.setdefault((what, name), []).append(got)
    print("%-10s %-12s %8s %8s %8s" % ("", "", "user s", "system s", "elapsed s"))
    for (what, name), got in sorted(rows.items()):
        print("%-10s %-12s %8.2f %8.2f %8.2f" % (what, name, *(statistics.median(g[i] for g in got) for i in range(3))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
