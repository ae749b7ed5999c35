"""Stock clients on our own TCP/IP: a DPDK port whose other end is a device of the kernel, TAP or veth."""

import re
import subprocess
import time

from lib import broker as brokers
from lib.case import test
from lib.clients import fields
from lib.helpers import consume_all, sequence_check

SIZE = 2000


def on_port(t, port, conf=None):
    why = brokers.port_missing(port)
    if why:
        t.skip(why)
    return t.own(dict(conf or {}), on=port)


def said(b, what):
    """What each data core says at the end: handed, opened, bytes_attached..."""
    return [int(n) for n in re.findall(r" card=\S+ .*\b%s=(\d+)" % what, b.log_path.read_text())]


def copies(b):
    """Bytes of answers that were attached to frames, and that were copied into them."""
    return said(b, "bytes_attached")[0], said(b, "bytes_copied")[0]


def tc(*command):
    return subprocess.run(["tc", *command], capture_output=True, text=True)


def lose(t, device, percent):
    """Lose frames at random between the device and the kernel, both ways (cls_bpf, the kernel's random numbers)."""
    limit = 2 ** 32 * percent // 100
    code = "4,32 0 0 4294963256,37 1 0 %d,6 0 0 2,6 0 0 0" % (limit - 1)  # ld rand; jgt limit -> pass; shot; ok
    drop = "protocol all bpf direct-action bytecode".split() + [code]
    for command in (["qdisc", "add", "dev", device, "clsact"], ["filter", "add", "dev", device, "ingress", *drop],
                    ["filter", "add", "dev", device, "egress", *drop]):
        p = tc(*command)
        if p.returncode != 0:
            t.skip("the kernel cannot lose frames: %s" % p.stderr.strip().splitlines()[0])


def use(t, port):
    """kcat and Java: every byte, kill -9 and restart, no CPU when idle, a clean stop. Returns what copies() says."""
    b = on_port(t, port)
    topic = t.topic(2)
    lines = ["%d %s" % (n, "x" * (n % 900)) for n in range(20000)]
    t.file("lines").write_text("\n".join(lines) + "\n")
    t.kcat("-P", "-t", topic, "-p", 0, "-l", t.file("lines"))
    t.equal(t.kcat("-C", "-t", topic, "-p", 0, "-e", "-q", "-o", "beginning").stdout().splitlines(), lines, "lines by kcat")
    late = t.topic(3)
    got = fields(t.java("produce", topic=late, partitions=3, count=15000, size=SIZE))
    t.equal(got["acked"], "15000", "acknowledged to Java")
    b.kill()
    b.start()
    t.equal(sequence_check(t, consume_all(t, late, 15000)), 15000, "records by Java after kill -9")
    used = b.cpu_s()
    time.sleep(2)
    used = b.cpu_s() - used
    t.check(used <= 0.04, "an idle broker has used %.2f s of 2 s", used)
    t.equal(b.stop(), 0, "exit status")
    t.note("idle %.0f ms of 2 s" % (used * 1000))
    return copies(b)


@test(millrace_only=True)
def clients_on_our_own_tcp(t):
    """On TAP; answers are not copied."""
    attached, copied = use(t, "tap")
    t.check(attached > 15000 * SIZE, "%d bytes of answers were attached", attached)
    t.check(copied < attached / 50, "%d bytes of answers were copied, %d attached", copied, attached)
    t.note("attached %d, copied %d" % (attached, copied))


@test(millrace_only=True)
def clients_over_af_xdp(t):
    """On AF_XDP; answers are copied once, into the memory that is shared with the kernel."""
    attached, copied = use(t, "af_xdp")
    t.equal(attached, 0, "bytes of answers that were attached")
    t.check(copied > 15000 * SIZE, "%d bytes of answers were copied", copied)


@test(millrace_only=True)
def connections_of_two_cores(t):
    """A card that steers by itself (TAP by what we have sent, veth by a hash of the kernel's): every connection stays with
    the core that it hashes to, and what came to the other one is handed over."""
    for port in ("tap", "af_xdp"):
        b = on_port(t, port, {"millrace.cores": "2"})
        topic = t.topic(8, broker=b)
        got = fields(t.java("produce", broker=b, topic=topic, partitions=8, count=15000, size=SIZE))
        t.equal((got["acked"], got["disorder"]), ("15000", "0"), "acknowledged and out of order")
        t.equal(sequence_check(t, consume_all(t, topic, 15000, broker=b)), 15000, "records by Java")
        peers = [t.wire(b) for _ in range(32)]
        t.check(all(p.list_offsets(topic, 0, -1)[0] == 0 for p in peers), "an answer on each of many connections")
        t.equal(b.stop(), 0, "exit status")
        opened, handed = said(b, "opened"), said(b, "handed")
        t.check(len(opened) == 2 and min(opened) >= 4, "connections of the cores: %s", opened)
        t.check(min(handed) > 0, "frames that the cores have handed over: %s", handed)
        t.note("%s: connections %s, handed over %s" % (port, opened, handed))


@test(millrace_only=True)
def clients_through_a_lossy_path(t):
    """One frame in a hundred is lost in each direction: every record once, in order."""
    b = on_port(t, "tap")
    lose(t, b.device, 1)
    topic = t.topic(3)
    got = fields(t.java("produce", topic=topic, partitions=3, count=20000, size=SIZE))
    t.equal((got["acked"], got["disorder"]), ("20000", "0"), "acknowledged and out of order")
    t.equal(sequence_check(t, consume_all(t, topic, 20000)), 20000, "records by Java")
    lost = int(re.search(r"dropped (\d+)", tc("-s", "qdisc", "show", "dev", b.device, "clsact").stdout).group(1))
    t.check(lost > 100, "only %d frames were lost", lost)
    t.note("%d frames lost" % lost)
