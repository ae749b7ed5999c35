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
def clients_over_ip6(t):
    """On TAP, with no address of IPv4."""
    attached, _ = use(t, "tap6")
    t.check(attached > 15000 * SIZE, "%d bytes of answers were attached", attached)


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


def connect_ms(t, b, count):
    """How long it took each of many to connect and be answered, one after the other."""
    times = []
    for _ in range(count):
        started = time.monotonic()
        w = t.wire(b, timeout_s=15)
        w.list_offsets("nobody", 0, -1)
        w.s.close()
        times.append(1000 * (time.monotonic() - started))
    return sorted(times)


@test(seconds=240, alone=True, millrace_only=True)
def syn_flood(t):
    """60,000 SYNs per second, from addresses that nobody has and from one that knows nothing of them: no memory is kept for
    them beyond a bound, and who means it connects, writes and reads. As many as a process can send fill the
    TAP device's own queue, which then loses frames of anybody: that is no property of a broker."""
    b = on_port(t, "tap")
    topic = t.topic()
    t.java("produce", topic=t.topic(), partitions=1, count=100, size=SIZE)  # the JVM has started when the flood begins
    calm = connect_ms(t, b, 50)
    rss = b.rss_kib()
    mac = re.search(r"lladdr (\S+)", subprocess.run(["ip", "neigh", "show", b.host], capture_output=True, text=True).stdout)
    flood = t.python_start("syn_flood.py", b.device, mac.group(1), b.network, b.host, b.port, 60000)
    t.eventually(lambda: flood.stdout(), 15, "the flood")
    flooded = connect_ms(t, b, 50)
    got = fields(t.java("produce", topic=topic, partitions=1, count=2000, size=SIZE, timeout_s=150))  # two JVMs beside a flood
    t.equal((got["acked"], got["disorder"]), ("2000", "0"), "acknowledged and out of order")
    t.equal(sequence_check(t, consume_all(t, topic, 2000, timeout_s=150)), 2000, "records by Java")
    sent = int(flood.stdout().split()[-1])
    flood.kill()
    grown = b.rss_kib() - rss
    t.check(flooded[45] < 1000, "nine of ten connect within %.0f ms in the flood, %.1f ms without", flooded[45], calm[45])
    t.check(grown < 64 << 10, "RSS grew by %d KiB", grown)
    t.equal(b.stop(), 0, "exit status")
    t.check(said(b, "cookies_sent")[0] > 1000, "only %s of %d SYNs were answered by a cookie", said(b, "cookies_sent"), sent)
    t.note("%d SYNs, %d cookies; connects: median %.1f ms, nine of ten %.1f, worst %.1f; calm %.1f; RSS +%d KiB" % (
        sent, said(b, "cookies_sent")[0], flooded[25], flooded[45], flooded[-1], calm[25], grown))


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
