#!/usr/bin/env python3
"""What a rebalance of a large group takes beside Apache Kafka 4.3.1: wall time and the broker's CPU, in turns.

    perf/rebalance.py [--members N] [--partitions N] [--runs N] [--intervals MS...] [--distance MS] [--protocols ...] [--sides ...] BINARY

Members are simulated by millrace-members (perf/members/members.c, built beside BINARY), which says what is measured. --distance is
group.consumer.assignment.interval.ms of both brokers, which are both asked for at least 1 ms between heartbeats."""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "interop"))
from lib import broker as brokers  # noqa: E402
from lib.wire import Wire, string  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402
from transactions import compact, varuint  # noqa: E402

TOPIC = "rebalanced"
EVENTS = ("all join", "one joins", "one leaves")
PROTOCOLS = ("consumer", "classic")
LIMIT_S = 400


class Side:
    def __init__(self, name, a):
        self.name = name
        conf = {"group.consumer.min.heartbeat.interval.ms": "1", "group.consumer.heartbeat.interval.ms": "20",
                "group.consumer.assignment.interval.ms": str(a.distance), "offsets.topic.num.partitions": "1"}
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

    def events(self, a, protocol, interval, run):
        """Of a group that is new: event, (seconds, CPU nanoseconds)."""
        members = Path(a.binary).resolve().parent / "millrace-members"
        group = "%s-%g-%d" % (protocol, interval, run)
        out = subprocess.run([members, str(self.broker.port), str(self.broker.pid), protocol, group, TOPIC, self.topic_id.hex(),
                              str(a.partitions), str(a.members), str(int(interval * 1000)), str(run)],
                             stdout=subprocess.PIPE, timeout=LIMIT_S, check=True).stdout.decode()
        for line in out.splitlines():
            event, us, cpu = line.split(",")
            yield event, (int(us) / 1e6, int(cpu))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--members", type=int, default=100)
    p.add_argument("--partitions", type=int, default=200)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--intervals", type=float, nargs="+", default=[5000, 10])
    p.add_argument("--distance", type=int, default=1000)
    p.add_argument("--protocols", nargs="+", default=list(PROTOCOLS), choices=PROTOCOLS)
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
                        side.broker.thaw()
                        for event, took in side.events(a, protocol, interval, run):
                            if run > 0:  # the first warms up
                                side.rows.setdefault((protocol, interval, event), []).append(took)
                        side.broker.freeze()  # while others have their turn
                for event in EVENTS:
                    print("%-8s every %4g ms, %-10s " % (protocol, interval, event) + "   ".join(
                        "%s %.3f s, CPU %.1f ms" % (side.name, statistics.median(t[0] for t in side.rows[protocol, interval, event]),
                                                    statistics.median(t[1] for t in side.rows[protocol, interval, event]) / 1e6)
                        for side in sides), flush=True)
    finally:
        for side in sides:
            side.broker.destroy()


if __name__ == "__main__":
    main()
