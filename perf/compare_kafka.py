#!/usr/bin/env python3
"""Millrace and Apache Kafka 4.3.1 side by side: same machine, same clients, interleaved, after a warm-up.

    perf/compare_kafka.py [--runs N] [--mb N] [--requests N] [--json FILE] [--only WORDS] [--heap 1g]

Durable on both sides: Millrace's default, Kafka with the topic config flush.messages=1. Medians over the runs;
broker CPU is user + system time of the broker's process from /proc/PID/stat."""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "interop"))
from lib import broker as brokers, clients, deps  # noqa: E402


def tool(name, *args, timeout_s=600):
    argv = clients.java_tool_argv(name, *args, heap="512m")
    argv.remove("-XX:TieredStopAtLevel=1")
    p = clients.run(argv, timeout_s=timeout_s)
    return p.stdout() + p.stderr()


class Side:
    def __init__(self, kind, heap):
        self.kind = kind
        self.broker = brokers.KINDS[kind]({})
        if kind == "kafka":
            self.broker.heap = heap
        started = time.monotonic()
        self.broker.format()
        self.broker.formatted = True
        started = time.monotonic()
        self.broker.start()
        self.start_ms = (time.monotonic() - started) * 1000
        self.topics = 0

    def topic(self):
        self.topics += 1
        name = "perf-%d" % self.topics
        args = ["--bootstrap-server", self.broker.bootstrap, "--create", "--topic", name, "--partitions", 1, "--replication-factor", 1]
        if self.kind == "kafka":
            args += ["--config", "flush.messages=1"]
        tool("topics", *args)
        return name

    def cpu(self, work):
        before = self.broker.cpu_s()
        value = work()
        return self.broker.cpu_s() - before, value


def produce(side, topic, count, size, *props):
    args = ["--topic", topic, "--num-records", count, "--record-size", size, "--throughput", -1, "--bootstrap-server",
            side.broker.bootstrap]
    # One option with every property: of a repeated option the tool keeps the last.
    return tool("producer-perf", *args, "--command-property", "acks=all", *props)


def run_large(side, a):
    """1 KB records in 1 MB batches, then the same bytes read hot."""
    n = a.mb * 1000
    topic = side.topic()
    gb = n * 1024 / 1e9
    cpu, out = side.cpu(lambda: produce(side, topic, n, 1024, "batch.size=1000000", "linger.ms=20", "max.request.size=1100000"))
    rate = float(re.findall(r"\(([\d.]+) MB/sec\)", out)[-1])
    read, _ = side.cpu(lambda: tool("consumer-perf", "--bootstrap-server", side.broker.bootstrap, "--topic", topic,
                                    "--num-records", n, "--timeout", 60000))
    return {"produce CPU s/GB": cpu / gb, "produce MB/s": rate, "hot consume CPU s/GB": read / gb}


def run_small(side, a):
    """One record of 100 B per request."""
    out = {}
    for flight in (1, 5):
        topic = side.topic()
        cpu, text = side.cpu(lambda: produce(side, topic, a.requests, 100, "batch.size=0", "linger.ms=0",
                                             "max.in.flight.requests.per.connection=%d" % flight))
        out["CPU us/request, %d in flight" % flight] = cpu / a.requests * 1e6
        out["requests/s, %d in flight" % flight] = float(re.findall(r"([\d.]+) records/sec", text)[-1])
    return out


def run_latency(side, a):
    topic = side.topic()
    text = tool("e2e-latency", "--bootstrap-server", side.broker.bootstrap, "--topic", topic, "--num-records", a.requests // 4,
                "--producer-acks", "all", "--record-size", 1024)
    return {"e2e average ms": float(text.split("Avg latency:")[1].split()[0])}


def run_idle(side, a):
    cpu, _ = side.cpu(lambda: time.sleep(10))
    return {"idle CPU %": cpu * 10, "RSS MiB": side.broker.rss_kib() / 1024}


def fresh(kind, heap):
    """A new directory: start to first answer, then memory and CPU once it is quiet."""
    side = Side(kind, heap)
    try:
        time.sleep(15)  # background preparation
        out = {"fresh: start ms": side.start_ms}
        out.update({"fresh: " + k: v for k, v in run_idle(side, None).items()})
        return out
    finally:
        side.broker.stop()
        side.broker.destroy()


RUNS = {"large": run_large, "small": run_small, "latency": run_latency}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--mb", type=int, default=1000, help="MB per large run")
    p.add_argument("--requests", type=int, default=40000, help="requests per small run")
    p.add_argument("--only", nargs="*", default=["large", "small", "latency", "fresh"])
    p.add_argument("--heap", default="1g")
    p.add_argument("--json")
    p.add_argument("--sides", nargs="*", default=["millrace", "kafka"])
    a = p.parse_args()
    samples = {k: {} for k in a.sides}

    def add(kind, numbers):
        for name, v in numbers.items():
            samples[kind].setdefault(name, []).append(v)

    if "fresh" in a.only:
        for kind in a.sides:
            for _ in range(3):
                add(kind, fresh(kind, a.heap))
    sides = []
    try:
        wanted = [n for n in RUNS if n in a.only]
        if wanted:
            sides = [Side(kind, a.heap) for kind in a.sides]
            for n in range(a.runs + 1):
                for name in wanted:
                    for side in sides if n % 2 == 0 else reversed(sides):
                        numbers = RUNS[name](side, a)
                        if n > 0:  # the first round warms the JVM up and is thrown away
                            add(side.kind, numbers)
                        print("round %d %s %s %s" % (n, side.kind, name, {k: round(v, 2) for k, v in numbers.items()}), flush=True)
    finally:
        for side in sides:
            side.broker.kill()
            side.broker.destroy()
    names = list(dict.fromkeys(n for k in a.sides for n in samples[k]))
    print("\n| median of %d | %s |" % (a.runs, " | ".join(a.sides)))
    print("|---|" + "---:|" * len(a.sides))
    for n in names:
        print("| %s | %s |" % (n, " | ".join("%.2f" % statistics.median(samples[k][n]) if n in samples[k] else "" for k in a.sides)))
    if a.json:
        cpu = subprocess.run(["lscpu"], capture_output=True, text=True).stdout
        Path(a.json).write_text(json.dumps({"samples": samples, "machine": cpu, "arguments": vars(a)}, indent=1))


if __name__ == "__main__":
    main()
