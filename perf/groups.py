#!/usr/bin/env python3
"""What groups cost: recovery of many groups, commits of many members, a commit beside a produce.

    perf/groups.py [--groups N] [--offsets N] [--members N] [--seconds S] BINARY

recover   N simple groups with M offsets each, then kill -9: from the start of the process until a group of every partition of
          __consumer_offsets answers, CPU, and memory per group (a broker without groups taken off)
commits   as many classic groups of one member each as there are members; every member commits one offset after the other
          over 1,000 connections, as fast as answers come: the requests are made beforehand
latency   one commit and one Produce of 100 bytes with acks=all at a time, turn about, over a connection each
Needs confluent-kafka (the interop tests' environment has it): tests/interop/run.py says where that lies."""

import argparse
import os
import select
import shutil
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "interop"))
from lib import broker as brokers  # noqa: E402
from lib.wire import Wire, batch, string  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from start_many import cpu_ms, rss  # noqa: E402

TOPIC, CONNECTIONS, LOADING = "t", 1000, 14


def frame(api, version, body):
    payload = struct.pack(">hhi", api, version, 7) + string("perf") + body
    return struct.pack(">i", len(payload)) + payload


def commit(group, offsets, generation=-1, member="", offset=1):
    """OffsetCommit version 7."""
    parts = b"".join(struct.pack(">iqi", p, offset, -1) + string("") for p in range(offsets))
    return frame(8, 7, string(group) + struct.pack(">i", generation) + string(member) + string(None) +
                 struct.pack(">i", 1) + string(TOPIC) + struct.pack(">i", offsets) + parts)


def commit_answer(offsets):
    """A good answer has always the same bytes."""
    parts = b"".join(struct.pack(">ih", p, 0) for p in range(offsets))
    payload = struct.pack(">ii", 7, 0) + struct.pack(">i", 1) + string(TOPIC) + struct.pack(">i", offsets) + parts
    return struct.pack(">i", len(payload)) + payload


def exactly(s, n):
    parts = []
    while n > 0:
        got = s.recv(min(n, 1 << 20))
        if not got:
            raise SystemExit("the broker closed a connection")
        parts.append(got)
        n -= len(got)
    return b"".join(parts)


class Crowd:
    """Connections that each send the next of their requests when the last one is answered: a broker serves the requests of
    one connection one after the other."""

    def __init__(self, port, count):
        self.poll = select.epoll()
        self.sockets = {}
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", port))
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[s.fileno()] = s
            self.poll.register(s, select.EPOLLIN)

    def send_all(self, requests, answer):
        """Every request once, each answer as it must be; the number of answers."""
        waiting, left, done = {}, iter(requests), 0
        for number, s in self.sockets.items():
            self._next(number, s, left, waiting)
        while waiting:
            for number, _ in self.poll.poll():
                if exactly(self.sockets[number], len(answer)) != answer:
                    raise SystemExit("a commit was refused")
                done += 1
                del waiting[number]
                self._next(number, self.sockets[number], left, waiting)
        return done

    @staticmethod
    def _next(number, s, left, waiting):
        request = next(left, None)
        if request is not None:
            s.sendall(request)
            waiting[number] = True

    def close(self):
        for s in self.sockets.values():
            s.close()


def create_topic(b, partitions):
    admin = AdminClient({"bootstrap.servers": b.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, partitions, 1)], operation_timeout=30)[TOPIC].result(30)
    find(b, "g")


def find(b, group):
    """Until there is a coordinator that has loaded."""
    w = Wire(b.port)
    while True:
        r = w.call(10, 0, string(group))
        if r.take("h") == 0:
            break
        time.sleep(0.005)
    while fetched(w, group) == LOADING:
        time.sleep(0.005)
    w.close()


def fetched(w, group):
    """The error of an OffsetFetch, version 3."""
    r = w.call(9, 3, string(group) + struct.pack(">i", 1) + string(TOPIC) + struct.pack(">ii", 1, 0))
    r.take("i")
    r.array(lambda: (r.string(), r.array(lambda: (r.take("iq"), r.string(), r.take("h")))))
    return r.take("h")


def recover(b, groups, offsets):
    b.start()
    empty = rss(b.pid)
    create_topic(b, offsets)
    began, before = time.monotonic(), cpu_ms(b.pid)
    crowd = Crowd(b.port, CONNECTIONS)
    crowd.send_all((commit("group-%06d" % g, offsets) for g in range(groups)), commit_answer(offsets))
    crowd.close()
    print("%d groups made: %.1f s, %.1f us of CPU each" %
          (groups, time.monotonic() - began, (cpu_ms(b.pid) - before) * 1000 / groups), flush=True)
    for life in range(3):
        b.kill()
        began = time.monotonic()
        b.start()
        serving = time.monotonic() - began
        for g in range(min(groups, 200)):  # some of every partition
            find(b, "group-%06d" % g)
        print("recovered after kill -9: %.2f s (serving after %.2f s), CPU %d ms, %.2f KB per group" %
              (time.monotonic() - began, serving, cpu_ms(b.pid), (rss(b.pid) - empty) / groups / 1000), flush=True)


def join(w, group):
    """One member alone: JoinGroup version 3 needs no id beforehand, SyncGroup settles the generation."""
    r = w.call(11, 3, string(group) + struct.pack(">ii", 600000, 60000) + string("") + string("consumer") +
               struct.pack(">i", 1) + string("range") + struct.pack(">i", 1) + b"m")
    _, error, generation = r.take("ihi")
    _, _, member = r.string(), r.string(), r.string()
    if error != 0:
        raise SystemExit("JoinGroup: error %d" % error)
    r = w.call(14, 2, string(group) + struct.pack(">i", generation) + string(member) + struct.pack(">i", 1) +
               string(member) + struct.pack(">i", 1) + b"a")
    if r.take("ih")[1] != 0:
        raise SystemExit("SyncGroup was refused")
    return generation, member


def commits(b, members, seconds):
    b.start()
    create_topic(b, 1)
    w, requests = Wire(b.port), []
    for m in range(members):
        generation, member = join(w, "member-%05d" % m)
        requests.append(commit("member-%05d" % m, 1, generation, member))
    print("%d members have joined" % members, flush=True)
    crowd, count = Crowd(b.port, min(members, CONNECTIONS)), 0
    began, before, own = time.monotonic(), cpu_ms(b.pid), time.process_time()
    while time.monotonic() < began + seconds:
        count += crowd.send_all(requests, commit_answer(1))
    crowd.close()
    took = time.monotonic() - began
    print("commits of %d members: %d per second, broker %.2f CPUs = %.1f us each, generator %.2f CPUs" %
          (members, count / took, (cpu_ms(b.pid) - before) / 1000 / took,
           (cpu_ms(b.pid) - before) * 1000 / count, (time.process_time() - own) / took), flush=True)


def latency(b, seconds):
    b.start()
    create_topic(b, 1)
    produce = Wire(b.port).produce_body({TOPIC: {0: batch([(None, b"x" * 100)])}})
    both = {"produce": frame(0, 7, produce), "commit": commit("g", 1)}
    took = {name: [] for name in both}
    sockets = {name: socket.create_connection(("127.0.0.1", b.port)) for name in both}
    for s in sockets.values():
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, request in both.items():
            began = time.perf_counter()
            sockets[name].sendall(request)
            exactly(sockets[name], struct.unpack(">i", exactly(sockets[name], 4))[0])
            took[name].append((time.perf_counter() - began) * 1e6)
    for name, all_ in took.items():
        all_.sort()
        print("%-8s %d: p50 %.0f us, p99 %.0f us, p99.9 %.0f us" %
              (name, len(all_), *(all_[int(len(all_) * q)] for q in (0.5, 0.99, 0.999))), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--groups", type=int, default=100000)
    p.add_argument("--offsets", type=int, default=10)
    p.add_argument("--members", type=int, default=5000)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("binary")
    a = p.parse_args()
    brokers.Millrace.binary = Path(a.binary).resolve()
    conf = {"offsets.topic.num.partitions": "50", "group.initial.rebalance.delay.ms": "0"}
    print("%d CPUs, load %.1f" % (os.cpu_count(), os.getloadavg()[0]))
    for run, args in ((recover, (a.groups, a.offsets)), (commits, (a.members, a.seconds)), (latency, (a.seconds,))):
        b = brokers.Millrace(dict(conf))
        try:
            run(b, *args)
        finally:
            b.kill()
            shutil.rmtree(b.base, ignore_errors=True)


if __name__ == "__main__":
    main()
