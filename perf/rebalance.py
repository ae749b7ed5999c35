#!/usr/bin/env python3
"""What a rebalance of a large group takes beside Apache Kafka 4.3.1: wall time and the broker's CPU, in turns.

    perf/rebalance.py [--members N] [--partitions N] [--runs N] [--intervals MS...] [--protocols ...] [--sides ...] BINARY

Members are simulated, each with a connection of its own, and do what the Java client does: they heartbeat at the interval, learn of a
rebalance by a heartbeat's answer, revoke at once and say so at once.
  consumer   KIP-848, ConsumerGroupHeartbeat 0, assignor uniform; over when every member has the newest epoch and all partitions have
             an owner
  classic    cooperative: JoinGroup 5, SyncGroup 3; the leader takes away in one generation and gives in the next; over when every member
             is in the same generation and all partitions have an owner
Events: all join at once; one more joins; one leaves. Before the latter two, every member's next heartbeat is set to a moment within the
interval that is the same on both sides. CPU is that of the broker's threads from the event to the end (heartbeats included)."""

import argparse
import os
import random
import select
import socket
import statistics
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "interop"))
from lib import broker as brokers  # noqa: E402
from lib.wire import Reader, Wire, bytes32, string  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from compare_kafka import run_ns  # noqa: E402
from transactions import compact, varuint  # noqa: E402

TOPIC = "rebalanced"
LOADING = (14, 15, 16)
REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 27, 79
LIMIT_S = 120


def take_varuint(r):
    n, shift = 0, 0
    while True:
        b = r.take("B")
        n |= (b & 0x7F) << shift
        if b < 0x80:
            return n
        shift += 7


def take_compact(r):
    n = take_varuint(r) - 1
    if n < 0:
        return None
    r.pos += n
    return r.data[r.pos - n:r.pos]


class Member:
    """One request is open at a time; the next heartbeat is due at `due`, in seconds of the monotonic clock."""

    def __init__(self, group, number):
        self.group, self.number = group, number
        self.id, self.epoch, self.owned = "", 0, frozenset()
        self.is_open = self.is_gone = False
        self.due = 0
        self.s = socket.create_connection(("127.0.0.1", group.port))
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, what, api, version, body, is_flexible=False):
        head = struct.pack(">hhih", api, version, 7, 4) + b"perf" + (b"\0" if is_flexible else b"")
        self.what, self.is_open = what, True
        self.s.sendall(struct.pack(">i", len(head) + len(body)) + head + body)

    def receive(self):
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack_from(">i", data)[0]:
            more = self.s.recv(1 << 20)
            if not more:
                raise SystemExit("the broker closed a connection")
            data += more
        self.is_open = False
        r = Reader(data[4:])
        r.take("i")
        self.answered(r)

    def fail(self, error):
        raise SystemExit("%s of member %d: error %d" % (self.what, self.number, error))


class Consumer(Member):
    """KIP-848."""

    def beat(self, is_full=False, epoch=None):
        is_full = is_full or self.epoch == 0
        topics = b"\0"
        if is_full or self.is_news:
            topics = varuint(2) + self.group.topic_id + varuint(len(self.owned) + 1)
            topics += b"".join(struct.pack(">i", p) for p in sorted(self.owned)) + b"\0" if self.owned else b""
            topics = topics if self.owned else varuint(1)
        self.is_news = False
        body = compact(self.group.name) + compact(self.id) + struct.pack(">i", self.epoch if epoch is None else epoch)
        body += b"\0\0" + struct.pack(">i", 60000 if is_full else -1)
        body += (varuint(2) + compact(TOPIC) if is_full else b"\0") + b"\0" + topics + b"\0"
        self.send("leave" if epoch == -1 else "heartbeat", 68, 0, body, True)

    is_news = False
    start = beat

    def leave(self):
        self.is_gone = True
        self.beat(epoch=-1)

    def answered(self, r):
        r.take("b")
        _, error = r.take("ih")
        take_compact(r)
        member, epoch, _ = take_compact(r), *r.take("ii")
        if self.is_gone:
            return
        if error in LOADING:
            self.due = time.monotonic() + 0.05
            return
        if error != 0:
            self.fail(error)
        self.id = member.decode() if member else self.id
        self.due = time.monotonic() + self.group.interval
        if epoch != self.epoch:
            self.epoch = epoch
            self.group.changed()
        if r.take("b") >= 0:
            owned = set()
            for _ in range(take_varuint(r) - 1):
                r.pos += 16
                owned.update(r.take("i") for _ in range(take_varuint(r) - 1))
                r.take("b")
            if owned != self.owned:
                self.owned = frozenset(owned)
                self.is_news = True
                self.group.changed()
                self.beat()


class Classic(Member):
    """What a member owns goes to the leader as its metadata: the partitions, as 32-bit numbers."""

    def beat(self):
        self.send("heartbeat", 12, 3, string(self.group.name) + struct.pack(">i", self.epoch) + string(self.id) + string(None))

    def start(self):
        owned = b"".join(struct.pack(">i", p) for p in sorted(self.owned))
        self.send("join", 11, 5, string(self.group.name) + struct.pack(">ii", 60000, 60000) + string(self.id) + string(None) +
                  string("perf") + struct.pack(">i", 1) + string("cooperative") + bytes32(owned))

    def leave(self):
        self.is_gone = True
        self.send("leave", 13, 1, string(self.group.name) + string(self.id))

    def sync(self, assignments):
        body = string(self.group.name) + struct.pack(">i", self.epoch) + string(self.id) + string(None)
        body += struct.pack(">i", len(assignments))
        for member, partitions in assignments.items():
            body += string(member) + bytes32(b"".join(struct.pack(">i", p) for p in sorted(partitions)))
        self.send("sync", 14, 3, body)

    def answered(self, r):
        _, error = r.take("ih")
        if self.is_gone:
            return
        if error in LOADING:
            time.sleep(0.01)
            self.start()
        elif error == REBALANCE_IN_PROGRESS:
            self.start()
        elif self.what == "join":
            self.joined(r, error)
        elif error != 0:
            self.fail(error)
        elif self.what == "sync":
            self.synced(r)
        else:
            self.due = time.monotonic() + self.group.interval

    def joined(self, r, error):
        self.epoch, _, leader = r.take("i"), r.string(), r.string()
        self.id = r.string()
        if error == MEMBER_ID_REQUIRED:
            self.start()
            return
        if error != 0:
            self.fail(error)
        joined = r.array(lambda: (r.string(), r.string(), r.bytes32()))
        members = {m: set(struct.unpack(">%di" % (len(b) // 4), b)) for m, _, b in joined}
        self.sync(cooperative(members, self.group.partitions) if leader == self.id else {})

    def synced(self, r):
        data = r.bytes32() or b""
        given = frozenset(struct.unpack(">%di" % (len(data) // 4), data))
        is_less = bool(self.owned - given)
        self.owned, self.due = given, time.monotonic() + self.group.interval
        self.group.changed()
        if is_less:  # revoked: whoever is to have it gets it in the next generation
            self.start()


def cooperative(members, partitions):
    """What each member gets now: what it keeps, and what nobody has."""
    free = set(range(partitions)).difference(*members.values())
    least, more = divmod(partitions, len(members))
    given = {}
    for m in sorted(members, key=lambda m: (-len(members[m]), m)):
        quota = least + (1 if more > 0 else 0)
        more -= 1 if len(members[m]) >= least + 1 and more > 0 else 0
        given[m] = set(sorted(members[m])[:quota])
    for m in sorted(given, key=lambda m: len(given[m])):
        while free and len(given[m]) < least:
            given[m].add(free.pop())
    for m in sorted(given, key=lambda m: len(given[m])):
        if free and len(given[m]) == least:
            given[m].add(free.pop())
    return given


class Group:
    def __init__(self, broker, kind, name, interval, partitions, topic_id):
        self.broker, self.port, self.kind, self.name = broker, broker.port, kind, name
        self.interval, self.partitions, self.topic_id = interval, partitions, topic_id
        self.members, self.last_change = [], 0
        self.poll, self.by_fd = select.epoll(), {}

    def add(self):
        m = self.kind(self, len(self.members))
        self.members.append(m)
        self.by_fd[m.s.fileno()] = m
        self.poll.register(m.s, select.EPOLLIN)
        return m

    def changed(self):
        self.last_change = time.monotonic()

    def is_settled(self):
        members = [m for m in self.members if not m.is_gone]
        owned = sum(len(m.owned) for m in members)
        least = self.partitions // len(members)
        return (owned == self.partitions and len(frozenset().union(*(m.owned for m in members))) == owned and
                len({m.epoch for m in members}) == 1 and not any(m.is_open and m.what in ("join", "sync") for m in members) and
                all(least <= len(m.owned) <= least + 1 for m in members))

    def until_settled(self, event):
        """Seconds and CPU nanoseconds from the event on."""
        cpu, began = run_ns(self.broker.pid), time.monotonic()
        self.last_change = began
        event()
        while not (self.last_change > began and self.is_settled()):
            now = time.monotonic()
            if now > began + LIMIT_S:
                raise SystemExit("not settled within %d s" % LIMIT_S)
            for m in self.members:
                if not m.is_open and not m.is_gone and m.due <= now:
                    m.beat()
            nearest = min((m.due for m in self.members if not m.is_open and not m.is_gone), default=now + 1)
            for fd, _ in self.poll.poll(max(0, nearest - time.monotonic())):
                self.by_fd[fd].receive()
        return self.last_change - began, run_ns(self.broker.pid) - cpu

    def drain(self):
        """Until no request is open."""
        while any(m.is_open for m in self.members):
            for fd, _ in self.poll.poll(1):
                self.by_fd[fd].receive()

    def set_phases(self, seed):
        self.drain()
        lots, now = random.Random(seed), time.monotonic()
        for m in self.members:
            m.due = now + lots.random() * self.interval

    def events(self, count, seed):
        members = [self.add() for _ in range(count)]
        yield "all join", self.until_settled(lambda: [m.start() for m in members])
        time.sleep(1)  # assignments of a group keep a distance (group.consumer.assignment.interval.ms)
        self.set_phases(seed)
        late = self.add()
        yield "one joins", self.until_settled(late.start)
        time.sleep(1)
        self.set_phases(seed + 1)
        yield "one leaves", self.until_settled(members[count // 2].leave)
        self.drain()

    def close(self):
        for m in self.members:
            m.s.close()
        self.poll.close()


PROTOCOLS = {"consumer": Consumer, "classic": Classic}


class Side:
    def __init__(self, name, a):
        self.name = name
        conf = {"group.consumer.min.heartbeat.interval.ms": "20", "group.consumer.heartbeat.interval.ms": "20",
                "offsets.topic.num.partitions": "1"}
        self.broker = brokers.KINDS[name](conf)
        if name == "millrace":
            self.broker.binary = Path(a.binary).resolve()
        else:
            self.broker.heap = "1g"
        self.broker.start()
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, a.partitions, 1)], operation_timeout=30)[TOPIC].result(30)
        self.topic_id = self.id_of_topic()
        Wire(self.broker.port).call(10, 0, string("g"))  # makes __consumer_offsets
        time.sleep(1)
        self.rows = {}
        self.broker.freeze()

    def id_of_topic(self):
        w = Wire(self.broker.port)
        body = varuint(2) + b"\0" * 16 + compact(TOPIC) + b"\0" + b"\0\0\0"
        r = w.call(3, 12, body, header2=True)
        at = r.data.index(TOPIC.encode()) + len(TOPIC)
        w.close()
        return r.data[at:at + 16]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--members", type=int, default=100)
    p.add_argument("--partitions", type=int, default=200)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--intervals", type=int, nargs="+", default=[5000, 20])
    p.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=list(PROTOCOLS))
    p.add_argument("--sides", nargs="+", default=["millrace", "kafka"], choices=["millrace", "kafka"])
    p.add_argument("binary")
    a = p.parse_args()
    print("%d CPUs, load %.1f; %d members, %d partitions; medians of %d runs" %
          (os.cpu_count(), os.getloadavg()[0], a.members, a.partitions, a.runs), flush=True)
    sides = []
    try:
        sides = [Side(name, a) for name in a.sides]
        for interval in a.intervals:
            for protocol in a.protocols:
                for run in range(a.runs + 1):
                    for side in sides:
                        g = Group(side.broker, PROTOCOLS[protocol], "%s-%d-%d" % (protocol, interval, run), interval / 1000,
                                  a.partitions, side.topic_id)
                        side.broker.thaw()
                        for event, took in g.events(a.members, run):
                            if run > 0:  # the first warms up
                                side.rows.setdefault((protocol, interval, event), []).append(took)
                        g.close()
                        side.broker.freeze()  # while others have their turn
                for event in ("all join", "one joins", "one leaves"):
                    print("%-8s every %4d ms, %-10s " % (protocol, interval, event) + "   ".join(
                        "%s %.3f s, CPU %.1f ms" % (side.name, statistics.median(t[0] for t in side.rows[protocol, interval, event]),
                                                    statistics.median(t[1] for t in side.rows[protocol, interval, event]) / 1e6)
                        for side in sides), flush=True)
    finally:
        for side in sides:
            side.broker.destroy()


if __name__ == "__main__":
    main()
