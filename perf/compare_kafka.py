#!/usr/bin/env python3
"""Millrace and Apache Kafka 4.3.1 side by side under stock Java clients: same machine, same tools, rounds
interleaved, the first rounds thrown away.

    perf/compare_kafka.py [--runs N] [--warm N] [--mb N] [--requests N] [--json FILE] [--only WORDS] [--heap 1g]
                          [--sides SIDE...]    millrace, kafka, or NAME=BINARY: another build of Millrace

Durable on both sides: Millrace's default, Kafka with the topic config flush.messages=1. Medians over the runs;
broker CPU is user + system time of the broker's process. What the producer really sent is read from its own
metrics: a run whose batches or requests are not what the row says is refused, not reported."""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "interop"))
from lib import broker as brokers, clients, deps  # noqa: E402

RECORD = 1024
LARGE = ("batch.size=1000000", "linger.ms=20", "max.request.size=1100000")
SMALL = ("batch.size=0", "linger.ms=0")

# Issue 3, "Numbers to reach": what Millrace's median must be, as a limit or as a part of Kafka's.
GOALS = {
    "produce CPU s/GB": ("at most", 0.6),
    "hot consume CPU s/GB": ("at most", 0.5),
    "CPU us/request, 5 in flight": ("of Kafka's", 0.2),
    "e2e average ms": ("of Kafka's", 0.6),
    "fresh: RSS MiB": ("at most", 48),
    "fresh: idle CPU %": ("at most", 0.2),
    "fresh: start ms": ("at most", 150),
}


class NotWhatWasAsked(Exception):
    pass


def tool(name, *args, timeout_s=900):
    argv = clients.java_tool_argv(name, *args, heap="512m")
    argv.remove("-XX:TieredStopAtLevel=1")
    p = clients.run(argv, timeout_s=timeout_s)
    return p.stdout() + p.stderr()


def task_sum(pid, read):
    """A figure added up over the threads of a process."""
    total = 0
    for task in Path("/proc/%d/task" % pid).iterdir():
        try:
            total += read(task)
        except OSError:  # the thread has just ended
            pass
    return total


def switches(pid):
    def read(task):
        return sum(int(line.split()[1]) for line in (task / "status").read_text().splitlines() if "ctxt_switches" in line)
    return task_sum(pid, read)


def run_ns(pid):
    """CPU of the threads alive now, in nanoseconds: for spans in which none ends."""
    return task_sum(pid, lambda task: int((task / "schedstat").read_text().split()[0]))


class Side:
    def __init__(self, side, heap):
        self.name, _, binary = side.partition("=")
        kind = "millrace" if binary else self.name
        self.kind = kind
        self.broker = brokers.KINDS[kind]({})
        if binary:
            self.broker.binary = Path(binary).resolve()
        if kind == "kafka":
            self.broker.heap = heap
        self.broker.format()
        self.broker.formatted = True
        started = time.monotonic()
        self.broker.start()
        self.start_ms = (time.monotonic() - started) * 1000
        self.topics = 0

    def topic(self):
        """A new topic; the one before is deleted, so that a long comparison does not fill the disk."""
        if self.topics > 0:
            tool("topics", "--bootstrap-server", self.broker.bootstrap, "--delete", "--topic", "perf-%d" % self.topics)
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

    def close(self):
        self.broker.kill()
        self.broker.destroy()


def metric(text, name):
    found = re.findall(r"producer-metrics:%s:\S*\s*:\s*([\d.]+)" % re.escape(name), text)
    if not found:
        raise NotWhatWasAsked("the producer does not say %s" % name)
    return float(found[0])


def produce(side, topic, count, size, *properties):
    # One list: the tool takes --command-property once, a second one replaces the first.
    return tool("producer-perf", "--topic", topic, "--num-records", count, "--record-size", size, "--throughput", -1,
                "--print-metrics", "--bootstrap-server", side.broker.bootstrap, "--command-property", "acks=all", *properties)


def run_large(side, a):
    """1 KB records in 1 MB batches, then the same bytes read hot."""
    n = a.mb * 1000
    topic = side.topic()
    gb = n * RECORD / 1e9
    cpu, out = side.cpu(lambda: produce(side, topic, n, RECORD, *LARGE))
    batch = metric(out, "batch-size-avg")
    if batch < 200000:
        raise NotWhatWasAsked("batches of %d bytes instead of up to 1 MB" % batch)
    rate = float(re.findall(r"\(([\d.]+) MB/sec\)", out)[-1])
    read, _ = side.cpu(lambda: tool("consumer-perf", "--bootstrap-server", side.broker.bootstrap, "--topic", topic,
                                    "--num-records", n, "--timeout", 60000))
    return {"produce CPU s/GB": cpu / gb, "produce MB/s": rate, "(mean batch, KB)": batch / 1000, "hot consume CPU s/GB": read / gb}


def run_small(side, a):
    """One record of 100 B per request. At 1 in flight a request is a commit."""
    out = {}
    for flight in (1, 5):
        topic = side.topic()
        switched = switches(side.broker.pid)
        cpu, text = side.cpu(lambda: produce(side, topic, a.requests, 100, *SMALL,
                                             "max.in.flight.requests.per.connection=%d" % flight))
        switched = switches(side.broker.pid) - switched
        if metric(text, "records-per-request-avg") > 1.01:
            raise NotWhatWasAsked("%.2f records per request instead of 1" % metric(text, "records-per-request-avg"))
        out["CPU us/request, %d in flight" % flight] = cpu / a.requests * 1e6
        out["requests/s, %d in flight" % flight] = float(re.findall(r"([\d.]+) records/sec", text)[-1])
        out["switches/%s" % ("commit" if flight == 1 else "request, 5 in flight")] = switched / a.requests
    return out


def run_latency(side, a):
    topic = side.topic()
    text = tool("e2e-latency", "--bootstrap-server", side.broker.bootstrap, "--topic", topic, "--num-records", max(a.requests // 4, 1000),
                "--producer-acks", "all", "--record-size", RECORD)
    return {"e2e average ms": float(text.split("Avg latency:")[1].split()[0])}


def run_fresh(kind, heap):
    """A new directory: start to first answer, then memory and CPU once it is quiet."""
    side = Side(kind, heap)
    try:
        time.sleep(15)  # background preparation
        before, started = run_ns(side.broker.pid), time.monotonic()
        time.sleep(10)
        idle = (run_ns(side.broker.pid) - before) / 1e9 / (time.monotonic() - started)
        return {"fresh: start ms": side.start_ms, "fresh: idle CPU %": idle * 100, "fresh: RSS MiB": side.broker.rss_kib() / 1024}
    finally:
        side.close()


RUNS = {"large": run_large, "small": run_small, "latency": run_latency}


def verdict(name, medians):
    if name not in GOALS or "millrace" not in medians:
        return ""
    kind, limit = GOALS[name]
    if kind == "at most":
        return "%s at most %g" % ("yes:" if medians["millrace"] <= limit else "NO:", limit)
    if "kafka" not in medians:
        return ""
    part = medians["millrace"] / medians["kafka"]
    return "%s %.2f of Kafka's, at most %g" % ("yes:" if part <= limit else "NO:", part, limit)


def table(samples):
    kinds = list(samples)
    lines = ["| median | %s | goal |" % " | ".join(kinds), "|---|" + "---:|" * len(kinds) + "---|"]
    for name in dict.fromkeys(n for k in kinds for n in samples[k]):
        medians = {k: statistics.median(samples[k][name]) for k in kinds if name in samples[k]}
        cells = ["%.2f (%.2f-%.2f)" % (medians[k], min(samples[k][name]), max(samples[k][name])) if k in medians else "" for k in kinds]
        lines.append("| %s | %s | %s |" % (name, " | ".join(cells), verdict(name, medians)))
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--warm", type=int, default=2, help="rounds before them that are thrown away")
    p.add_argument("--mb", type=int, default=1000, help="MB per large run")
    p.add_argument("--requests", type=int, default=40000, help="requests per small run")
    p.add_argument("--only", nargs="*", default=["large", "small", "latency", "fresh"])
    p.add_argument("--heap", default="1g")
    p.add_argument("--json")
    p.add_argument("--sides", nargs="*", default=["millrace", "kafka"])
    a = p.parse_args()
    samples = {k.partition("=")[0]: {} for k in a.sides}

    def add(kind, what, numbers, keep=True):
        print("%s %s %s" % (what, kind, "  ".join("%s %.2f" % kv for kv in numbers.items())), flush=True)
        for name, v in numbers.items() if keep else ():
            samples[kind].setdefault(name, []).append(v)

    if "fresh" in a.only:
        for n in range(3):
            for kind in a.sides:
                add(kind.partition("=")[0], "fresh %d" % (n + 1), run_fresh(kind, a.heap))
    sides = []
    try:
        wanted = [n for n in RUNS if n in a.only]
        if wanted:
            for kind in a.sides:
                sides.append(Side(kind, a.heap))
            for n in range(a.warm + a.runs):
                for name in wanted:
                    for side in sides if n % 2 == 0 else reversed(sides):
                        add(side.name, "round %d %s" % (n - a.warm + 1, name), RUNS[name](side, a), n >= a.warm)
    finally:
        for side in sides:
            side.close()
    print("\n" + table(samples))
    if a.json:
        cpu = subprocess.run(["lscpu"], capture_output=True, text=True).stdout
        Path(a.json).write_text(json.dumps({"samples": samples, "kernel": platform.release(), "machine": cpu, "arguments": vars(a)}, indent=1))


if __name__ == "__main__":
    main()
