"""Peers that mean harm or know no better: they say nothing, little, or half of it, come in crowds, and do not read.

Each test states what the broker may take for them, holds its RSS against that, looks at what they do to somebody
else's latency, and waits until everything is given back: connections, descriptors, memory."""

import json
import os
import resource
import socket
import statistics
import struct
import subprocess
import threading
import time

from lib import case, deps
from lib.case import test
from lib.wire import Wire, batch, string

KIB_PER_IDLE = 4          # ruling 5: an idle plaintext connection
KIB_PER_HALF_FRAME = 20   # one receive buffer of 16 KiB, and the connection
KIB_BYSTANDER = 24 << 10  # pages that the bystander's own requests touch
API_VERSIONS = struct.pack(">ihhi", 15, 18, 0, 1) + string("crowd")


def sockets_of(b):
    """Open sockets of the broker. Other descriptors come and go with its segments."""
    count, place = 0, "/proc/%d/fd/" % b.pid
    for name in os.listdir(place):
        try:
            count += os.readlink(place + name).startswith("socket:")
        except OSError:
            pass
    return count


def more_files(t, wanted):
    """Raise the limit of open files of this process, or skip."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted + 200:
        t.skip("%d open files are not permitted" % wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 200), hard))


def crowd(b, count):
    """Connections. The listener's queue must be long: one that it drops tries again after a second."""
    return [socket.create_connection((b.host, b.port), 10) for _ in range(count)]


def leave(peers, is_reset=False):
    for s in peers:
        if is_reset:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()


class Before:
    """What the broker holds now; `back` waits until it holds no more than that again."""

    def __init__(self, t, b):
        self.t, self.b = t, b
        self.connections, self.sockets, self.rss = b.connections(), sockets_of(b), b.rss_kib()

    def grown_kib(self):
        return self.b.rss_kib() - self.rss

    def back(self, kib):
        self.t.eventually(lambda: self.b.connections() <= self.connections, 20, "the connections to be closed")
        self.t.eventually(lambda: sockets_of(self.b) <= self.sockets, 20, "the sockets to be closed")
        grown = self.grown_kib()
        self.t.check(grown <= kib, "RSS stays %d KiB above what it was, %d are allowed", grown, kib)


def p99_us(t, b):
    """Of a producer, one request after the other, without a disk in the way."""
    out = t.file("load.json")
    subprocess.run([deps.ROOT / "build" / "release" / "millrace-load", "broker=" + b.bootstrap, "topic=bystander", "create=yes",
                    "topic.config=millrace.ack=write", "duration=1s", "warmup=200ms", "live=no", "json=%s" % out],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)
    return json.loads(out.read_text())["produce_us"]["p99"]


def hold_against(t, b, begin, end):
    """p99 of a bystander: halves without and with the hostile peers, in turn; at most twice the quiet one, and 5 ms
    for what a machine that does other things adds."""
    quiet, hostile = [], []
    for _ in range(3):
        quiet.append(p99_us(t, b))
        begin()
        hostile.append(p99_us(t, b))
        end()
    a, z = statistics.median(quiet), statistics.median(hostile)
    t.note("p99 of others: %.1f ms, with them %.1f ms" % (a / 1000, z / 1000))
    t.check(z <= 2 * a + 5000, "p99 of others grew from %d to %d us", a, z)


@test(seconds=60, millrace_only=True)
def frames_cut_anywhere(t):
    """A Produce cut at every byte: nothing of it is done, whether the peer leaves, resets, or goes on after a while."""
    receive = 16 << 20  # so little that what is not given back is missed soon
    b = t.own({"millrace.receive.bytes": str(receive)})
    topic = t.topic()
    maker = Wire(b.port, host=b.host)
    body = maker.produce_body({topic: {0: batch([(None, b"v")])}})
    head = struct.pack(">hhi", 0, 7, 1) + string("cut")
    frame = struct.pack(">i", len(head) + len(body)) + head + body
    for cut in range(1, len(frame)):
        maker.s.sendall(frame[:cut])
        maker.s.sendall(frame[cut:])
        (answer,) = maker.parse_produce(maker.receive(1)).values()
        t.equal(answer[:2], (0, cut - 1), "error and offset of a request in two pieces, cut at %d" % cut)
    before = Before(t, b)
    for _ in range(10):
        for cut in range(len(frame)):
            s = socket.create_connection((b.host, b.port), 10)
            s.sendall(frame[:cut])
            leave([s], is_reset=cut % 2 == 1)
        error, _, end, _ = maker.list_offsets(topic, 0, -1)
        t.equal((error, end), (0, len(frame) - 1), "error and end after %d torn requests" % len(frame))
    before.back(receive >> 10)


@test(seconds=90, alone=True, millrace_only=True)
def ten_thousand_idle_connections(t):
    """At most 4 KiB of RSS for each; they keep nobody waiting; when they have gone, all is back."""
    count = 10000
    more_files(t, count)
    b = t.own({"socket.listen.backlog.size": "4096"})
    p99_us(t, b)  # what the bystander needs is not counted
    before = Before(t, b)
    peers = crowd(b, count)
    for s in peers:
        s.sendall(API_VERSIONS)
    for s in peers:
        t.check(len(s.recv(4)) == 4, "an answer")
    grown = before.grown_kib()
    t.note("%d idle connections: %.2f KiB each" % (count, grown / count))
    t.check(grown <= KIB_PER_IDLE * count, "RSS grew by %d KiB for %d idle connections", grown, count)
    t.check(b.connections() >= count, "only %d connections are open", b.connections())
    a, z = p99_us(t, b), None
    leave(peers)
    before.back(KIB_PER_IDLE * count + KIB_BYSTANDER)
    z = p99_us(t, b)
    t.check(a <= 2 * z + 5000, "p99 of others: %d us beside them, %d us without", a, z)


@test(seconds=90, alone=True, millrace_only=True)
def half_open_and_drip_fed(t):
    """500 who say nothing, and 500 who send a large frame a byte at a time."""
    count = 500
    more_files(t, 2 * count)
    b = t.own({"socket.listen.backlog.size": "4096"})
    p99_us(t, b)
    before = Before(t, b)
    peers, is_over = [], threading.Event()

    def drip(slow):
        frame = struct.pack(">ihh", 50 << 20, 0, 7)
        for at in range(1 << 20):
            for s in slow:
                try:
                    s.send(frame[at:at + 1] or b"x")
                except OSError:
                    pass
            if is_over.wait(0.05):
                return

    def begin():
        is_over.clear()
        peers[:] = crowd(b, 2 * count)
        thread = threading.Thread(target=drip, args=(peers[count:],), daemon=True)
        thread.start()
        peers.append(thread)

    def end():
        grown = before.grown_kib()
        t.check(grown <= 2 * count * KIB_PER_HALF_FRAME + KIB_BYSTANDER, "RSS grew by %d KiB for %d connections", grown, 2 * count)
        is_over.set()
        peers.pop().join()
        leave(peers, is_reset=True)

    hold_against(t, b, begin, end)
    before.back(2 * count * KIB_PER_HALF_FRAME + KIB_BYSTANDER)


@test(seconds=90, alone=True, millrace_only=True)
def connection_storm(t):
    """Who comes, asks and goes, as fast as it can, closing and resetting in turn."""
    b = t.own({"socket.listen.backlog.size": "4096"})
    p99_us(t, b)
    before = Before(t, b)
    storm = []
    code = ("import socket, struct, sys\n"
            "n = 0\n"
            "while True:\n"
            "    n += 1\n"
            "    s = socket.create_connection((%r, %d), 10)\n"
            "    s.sendall(%r)\n"
            "    if n %% 3: s.recv(4)\n"
            "    if n %% 2: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
            "    s.close()\n"
            "    if n %% 100 == 0: print(n, flush=True)\n" % (b.host, b.port, API_VERSIONS))
    came = []

    def begin():
        storm.append(subprocess.Popen([deps.venv_python(), "-c", code], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL))

    def end():
        storm[-1].kill()
        lines = storm.pop().communicate()[0].split()
        came.append(int(lines[-1]) if lines else 0)

    try:
        hold_against(t, b, begin, end)
    finally:
        for p in storm:
            p.kill()
    t.note("%d connections came and went" % sum(came))
    t.check(sum(came) >= 500, "only %d connections in the storm", sum(came))
    before.back(KIB_BYSTANDER)


@test(seconds=120, alone=True, millrace_only=True)
def slow_readers(t):
    """32 who ask for everything from the beginning and take a byte per second: what is read for them is bounded, others
    do not wait for it, a backfill beside them ends, and all is given back when they go."""
    pools_kib = 160 << 10  # cache, cold pages, scratch: reserved at start, touched by use, whoever uses them
    count = 200 if case.FULL else 32
    b = t.own({"millrace.cache.bytes": str(32 << 20), "millrace.cold.bytes": str(8 << 20)})
    topic = t.topic(partitions=4, conf={"segment.bytes": "4194304"})
    value = os.urandom(900_000)
    writer = Wire(b.port, 30, b.host)
    sent = 80
    for at in range(sent):
        (answer,) = writer.produce({topic: {at % 4: batch([(None, value)])}}).values()
        t.equal(answer[0], 0, "error of Produce")
    p99_us(t, b)
    before = Before(t, b)
    peers, is_over = [], threading.Event()
    for at in range(count):
        w = Wire(b.port, 30, b.host)
        w.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        w.send(1, 11, w.fetch_body({topic: {p: 0 for p in range(4)}}, max_bytes=50 << 20, partition_max=50 << 20))
        peers.append(w.s)

    def take():
        while not is_over.wait(1):
            for s in peers:
                try:
                    s.recv(1, socket.MSG_DONTWAIT)
                except OSError:
                    pass

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    time.sleep(2)
    reader = Wire(b.port, 60, b.host)
    started = time.monotonic()
    for p in range(4):
        offset = 0
        while offset < sent // 4:
            error, got = reader.fetch({topic: {p: offset}}, max_wait_ms=5000, partition_max=4 << 20)
            t.equal(error, 0, "error of Fetch")
            data = got[(topic, p)][3]
            t.check(time.monotonic() - started < 30, "a backfill beside %d slow readers stands at %d/%d", count, p, offset)
            offset += data.count(value[:64])
    t.note("backfill of %d MB beside %d slow readers: %.1f s" % (sent * 900_000 >> 20, count, time.monotonic() - started))
    grown = before.grown_kib()
    t.check(grown <= pools_kib, "RSS grew by %d KiB", grown)
    beside = p99_us(t, b)
    is_over.set()
    thread.join()
    reader.close()
    leave(peers, is_reset=True)
    before.back(pools_kib)
    without = p99_us(t, b)
    t.check(beside <= 2 * without + 5000, "p99 of others: %d us beside them, %d us without", beside, without)
    error, got = writer.fetch({topic: {0: 0}})
    t.check(error == 0 and len(got[(topic, 0)][3]) > 0, "a fetch after they have gone")
