#!/usr/bin/env python3
"""What transactions cost beside Apache Kafka 4.3.1, in turns: transactions per second on one CPU, and their latency at a rate.

    perf/transactions.py [--producers N] [--seconds S] [--rate R] [--runs N] [--sides SIDE...] BINARY

A transaction is one record of 100 bytes and its commit, by transaction version 2 (Produce 12, EndTxn 5): its time runs from the
sending of the one to the answer of the other. The broker whose turn it is has CPU 0 to itself (the others are stopped), the generator CPU 1. Every producer has a
transactional id, a connection and a partition, and begins the next transaction when the last one has ended ("flat out"), or when its
turn comes ("at R per second": late starts count from when they were due). CONCURRENT_TRANSACTIONS is asked again after 1 ms.
Sides: millrace; kafka (nothing is flushed: acknowledged is in the page cache); kafka-durable (log.flush.interval.messages=1)."""

import argparse
import os
import select
import socket
import statistics
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "interop"))
from lib import broker as brokers  # noqa: E402
from lib.wire import batch, record  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from start_many import cpu_ms  # noqa: E402

TOPIC, CONCURRENT, AGAIN_S = "txn", 51, 0.001
TRANSACTIONAL = 0x10
RECORD = record(0, None, b"x" * 100)
SIDES = {"millrace": ("millrace", {}), "kafka": ("kafka", {}),
         "kafka-durable": ("kafka", {"log.flush.interval.messages": "1"})}


def varuint(n):
    out = bytearray()
    while n > 0x7F:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def compact(b):
    """Bytes or a string with their length, as flexible versions have it."""
    b = b.encode() if isinstance(b, str) else b
    return varuint(len(b) + 1) + b


def frame(api, version, body):
    head = struct.pack(">hhih", api, version, 7, 4) + b"perf" + b"\0"
    return struct.pack(">i", len(head) + len(body)) + head + body


class Producer:
    """One transactional id; what it sends next depends on what was answered."""

    def __init__(self, number, broker):
        self.id, self.partition = "id-%d" % number, number
        self.s = socket.create_connection((broker.host, broker.port))
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sequence, self.due, self.is_ending, self.request, self.commits = 0, None, False, None, 1
        while True:  # FindCoordinator 4 makes the topic; then until it has loaded
            r = self.call(10, 4, b"\1" + varuint(2) + compact(self.id) + b"\0")
            r = self.call(22, 4, compact(self.id) + struct.pack(">iqh", 60000, -1, -1) + b"\0")
            error, self.pid, self.epoch = struct.unpack_from(">hqh", r, 9)
            if error == 0:
                return
            if error not in (14, 15, 16, CONCURRENT):
                raise SystemExit("InitProducerId: error %d" % error)
            time.sleep(0.02)

    def call(self, api, version, body):
        self.s.sendall(frame(api, version, body))
        return self.answer()

    def answer(self):
        """What was answered, from the correlation id on."""
        n, = struct.unpack(">i", self.exactly(4))
        return self.exactly(n)

    def exactly(self, n):
        data = self.s.recv(n)
        while len(data) < n:
            more = self.s.recv(n - len(data))
            if not more:
                raise SystemExit("the broker closed a connection")
            data += more
        return data

    def begin(self):
        b = batch([RECORD], producer_id=self.pid, producer_epoch=self.epoch, base_sequence=self.sequence, attributes=TRANSACTIONAL)
        partition = struct.pack(">i", self.partition) + compact(b) + b"\0"
        topic = compact(TOPIC) + varuint(2) + partition + b"\0"
        self.is_ending = False
        self.send(frame(0, 12, compact(self.id) + struct.pack(">hi", -1, 30000) + varuint(2) + topic + b"\0"))

    def end(self):
        self.is_ending = True
        self.send(frame(26, 5, compact(self.id) + struct.pack(">qhb", self.pid, self.epoch, self.commits) + b"\0"))

    def send(self, request):
        self.request = request
        self.s.sendall(request)

    def go_on(self):
        """An answer is there. "again": it is to be asked once more; "done": the transaction has ended."""
        r = self.answer()
        # correlation, tags; EndTxn: throttle, error, id, epoch; Produce: topics, name, partitions, index, error
        if self.is_ending:
            error, pid, epoch = struct.unpack_from(">hqh", r, 9)
        else:
            error, = struct.unpack_from(">h", r, 5 + 1 + 1 + len(TOPIC) + 1 + 4)
        if error == CONCURRENT:
            return "again"
        if error != 0:
            raise SystemExit("%s: error %d" % ("EndTxn" if self.is_ending else "Produce", error))
        if not self.is_ending:
            self.end()
            return "more"
        self.sequence = self.sequence + 1 if epoch == self.epoch else 0
        self.pid, self.epoch = pid, epoch
        return "done"


def drive(producers, seconds, rate):
    """Latencies in ms of the transactions that ended within the time, and how often one was asked again."""
    poll, by_fd = select.epoll(), {}
    for p in producers:
        by_fd[p.s.fileno()] = p
        poll.register(p.s, select.EPOLLIN)
    began = time.monotonic()
    end, step = began + seconds, len(producers) / rate if rate else 0
    took, again, waits, busy = [], 0, [], 0
    for n, p in enumerate(producers):
        p.due = began + (n * step / len(producers) if rate else 0)
        waits.append((p.due, p, True))
    while busy > 0 or waits:
        now = time.monotonic()
        ready = [w for w in waits if w[0] <= now]
        waits = [w for w in waits if w[0] > now]
        for _, p, is_new in ready:
            if is_new:
                if now >= end:
                    continue
                p.begin()
                busy += 1
            else:
                p.s.sendall(p.request)
        nearest = min((w[0] for w in waits), default=now + (1 if busy > 0 else 0))
        for fd, _ in poll.poll(max(0, nearest - time.monotonic())):
            p, what = by_fd[fd], by_fd[fd].go_on()
            now = time.monotonic()
            if what == "again":
                again += 1
                waits.append((now + AGAIN_S, p, False))
            elif what == "done":
                busy -= 1
                took.append((now - p.due) * 1000)
                p.due = p.due + step if rate else now
                waits.append((p.due, p, True))
    poll.close()
    return sorted(took), again, time.monotonic() - began


class Side:
    def __init__(self, name, producers, binary):
        kind, conf = SIDES[name]
        self.name = name
        os.sched_setaffinity(0, {0})
        self.broker = brokers.KINDS[kind]({"transaction.state.log.num.partitions": "8", **conf})
        if kind == "millrace":
            self.broker.binary = binary
        else:
            self.broker.heap = "1g"
        self.broker.start()
        os.sched_setaffinity(0, {1})
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, producers, 1)], operation_timeout=30)[TOPIC].result(30)
        self.producers = [Producer(n, self.broker) for n in range(producers)]
        self.rows = {}
        self.broker.freeze()  # while others have their turn

    def run(self, seconds, rate):
        self.broker.thaw()
        before = cpu_ms(self.broker.pid)
        took, again, wall = drive(self.producers, seconds, rate)
        cpu = cpu_ms(self.broker.pid) - before
        self.broker.freeze()
        return {"per second": len(took) / wall, "p50 ms": took[len(took) // 2], "p99 ms": took[int(len(took) * 0.99)],
                "CPU us each": cpu * 1000 / len(took), "asked again each": again / len(took)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--producers", type=int, default=16)
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--rate", type=float, default=1000)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    p.add_argument("binary")
    a = p.parse_args()
    print("%d CPUs, load %.1f; medians of %d turns" % (os.cpu_count(), os.getloadavg()[0], a.runs), flush=True)
    sides = []
    try:
        for name in a.sides:
            sides.append(Side(name, a.producers, Path(a.binary).resolve()))
        for rate in (0, a.rate):
            for turn in range(a.runs + 1):
                for side in sides:
                    row = side.run(a.seconds, rate)
                    if turn > 0:  # the first warms up
                        side.rows.setdefault(rate, []).append(row)
            print("flat out" if rate == 0 else "at %d per second" % rate)
            for side in sides:
                rows = side.rows[rate]
                print("  %-14s %s" % (side.name, ", ".join(
                    "%s %.2f" % (k, statistics.median(r[k] for r in rows)) for k in rows[0])), flush=True)
    finally:
        for side in sides:
            side.broker.destroy()


if __name__ == "__main__":
    main()
