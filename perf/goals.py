#!/usr/bin/env python3
"""What Millrace wants to reach on two cores, beside what it reaches: one table.

    perf/goals.py [--seconds N] [--repetitions N] [--warm N] [--for SECONDS] [--table]

Cells of perf/compare.py (build/bench/goals, and goals-split where broker and generator have a CPU each), measured as
perf/compare.py does, and kept: a second call goes on where the first one stopped. What a hot read costs is measured here, beside a
bare loop of sends. --table only prints what is there."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True
import compare  # noqa: E402
import compare_report as report  # noqa: E402

OUT = compare.ROOT / "build" / "bench"
PARTITIONS = (128, 1000, 10000)
# Calls of compare.py: where to, scenarios, options.
PARTS = (
    ("goals", ["W2", "W3", "W4", "W8", "W9", "W10"],
     ["--systems=millrace,bare", "--points=spread,whole,c64-f1,c64-f5,p*-rate,none,lz4,zstd,snappy,gzip,alone,storm,idle10k,max,ack"]),
    ("goals", ["W12"], ["--systems=millrace", "--points=empty", "--repetitions=1"]),
    ("goals-split", ["W2"], ["--systems=millrace,bare", "--points=spread,whole", "--layout=split"]),
    ("goals-kafka", ["W2", "W4", "W10"], ["--systems=millrace,kafka", "--points=whole,p128-max,p1000-max,max,same"]),
    ("goals-relaxed", ["W2"], ["--systems=millrace,kafka,bare", "--points=spread,whole", "--durability=relaxed"]),
)


class Cells:
    """Medians over the repetitions that are valid, of those that were measured."""

    def __init__(self):
        self.rows = {name: report.rows_of(report.cells_of(OUT / name)) for name in {part[0] for part in PARTS} if (OUT / name / "cells").is_dir()}

    def get(self, where, scenario, point, metric, system="millrace"):
        durability = "relaxed" if where == "goals-relaxed" else "durable"
        found = self.rows.get(where, {}).get((scenario, point, durability), {}).get(system, [])
        cells = [c for c in found if not c.get("failed")]
        values = [metric(c) for c in ([c for c in cells if c["valid"]] or cells)]
        if not values or None in values:
            raise LookupError("%s %s %s" % (where, scenario, point))
        return statistics.median(values)

    def ratio(self, where, scenario, point, metric, other, of="millrace"):
        return self.get(where, scenario, point, metric, of) / self.get(where, scenario, point, metric, other)


def mb(c):
    return c["mb_per_s"]


def per_gb(c):
    return c["broker_cpu_s_per_gb"]


def per_wire_gb(c):
    return c["broker_cpu_s_per_wire_gb"]


def per_request(c):
    return c["broker_cpu_us_per_request"]


def requests(c):
    return c["requests_per_s"]


def rss(c):
    return c["broker_rss_mib"]


def latency(name):
    return lambda c: report.percentile(c, name)


def flat(cells, metric):
    return max(cells.get("goals", "W4", "p%d-rate" % n, metric) for n in PARTITIONS) / cells.get("goals", "W4", "p1-rate", metric)


def hot(key):
    def of(_):
        found = json.loads((OUT / "goals" / "hot.json").read_text())
        return statistics.median(found["read"]) / statistics.median(found["send"]) if key == "ratio" else statistics.median(found[key])
    return of


# What, its unit, at least or at most, how much, and how to get it.
GOALS = (
    ("produce, 1 MB requests: CPU per GB", "s", "<=", 0.35, lambda c: min(c.get("goals", "W2", p, per_gb) for p in ("spread", "whole"))),
    ("the same, the generator on the other CPU: volume", "GB/s", ">=", 1.5, lambda c: max(c.get("goals-split", "W2", p, mb) for p in ("spread", "whole")) / 1000),
    ("that, of the bare loop's", "x", "", 0, lambda c: max(c.ratio("goals-split", "W2", p, mb, "bare") for p in ("spread", "whole"))),
    ("hot fetch: CPU per GB beside a loop of sends", "x", "<=", 1.3, hot("ratio")),
    ("100 B, 64 connections, 1 in flight: CPU per request", "us", "<=", 10, lambda c: c.get("goals", "W3", "c64-f1", per_request)),
    ("its rate beside the bare loop's", "x", ">=", 0.7, lambda c: c.ratio("goals", "W3", "c64-f1", requests, "bare")),
    ("the same with 5 in flight: CPU per request", "us", "<=", 3, lambda c: c.get("goals", "W3", "c64-f5", per_request)),
    ("its rate beside the bare loop's", "x", ">=", 0.6, lambda c: c.ratio("goals", "W3", "c64-f5", requests, "bare")),
    ("1 KB, 16 connections, half of the maximum: p50 beside the bare loop's", "x", "<=", 1.6, lambda c: c.ratio("goals", "W10", "ack", latency("p50"), "bare")),
    ("its p99", "x", "<=", 2.5, lambda c: c.ratio("goals", "W10", "ack", latency("p99"), "bare")),
    ("its p99.9", "x", "<=", 4, lambda c: c.ratio("goals", "W10", "ack", latency("p99.9"), "bare")),
    ("50 MB/s over 128, 1,000 and 10,000 partitions: CPU per GB, worst beside one", "x", "<=", 1.3, lambda c: flat(c, per_gb)),
    ("its p99", "x", "<=", 1.3, lambda c: flat(c, latency("p99"))),
    ("half of what Kafka can, durable: p99 beside Kafka's", "x", "<=", 0.2, lambda c: c.ratio("goals-kafka", "W10", "same", latency("p99"), "kafka")),
    ("1 KB batches over 128 partitions: volume beside Kafka's", "x", ">=", 20, lambda c: c.ratio("goals-kafka", "W4", "p128-max", mb, "kafka")),
    ("over 1,000", "x", ">=", 20, lambda c: c.ratio("goals-kafka", "W4", "p1000-max", mb, "kafka")),
    ("1 MB batches: Kafka's CPU per GB beside ours", "x", ">=", 8, lambda c: c.ratio("goals-kafka", "W2", "whole", per_gb, "millrace", "kafka")),
    ("1 MB batches, both relaxed: volume beside Kafka's", "x", ">=", 3, lambda c: c.ratio("goals-relaxed", "W2", "whole", mb, "kafka")),
    ("or beside the bare loop's (the floor)", "x", "", 0, lambda c: c.ratio("goals-relaxed", "W2", "whole", mb, "bare")),
    ("Kafka's CPU per GB beside ours", "x", ">=", 5, lambda c: c.ratio("goals-relaxed", "W2", "whole", per_gb, "millrace", "kafka")),
    ("compressed batches: CPU per GB of the wire, worst codec beside none", "x", "<=", 1.1,
     lambda c: max(c.get("goals", "W8", codec, per_wire_gb) for codec in ("lz4", "zstd", "snappy", "gzip")) / c.get("goals", "W8", "none", per_wire_gb)),
    ("10,000 idle connections: memory of each", "KiB", "<=", 4,
     lambda c: (c.get("goals", "W9", "idle10k", rss) - c.get("goals", "W9", "alone", rss)) * 1024 / 10000),
    ("a storm of 5,000 connects per second: p99 beside none", "x", "<=", 2,
     lambda c: c.get("goals", "W9", "storm", latency("p99")) / c.get("goals", "W9", "alone", latency("p99"))),
    ("idle: memory", "MiB", "<=", 32, lambda c: c.get("goals", "W12", "empty", lambda s: s["rss_mib"])),
    ("idle: CPU", "%", "<=", 0.1, lambda c: c.get("goals", "W12", "empty", lambda s: s["idle_cpu_percent"])),
)


def measure_hot(a):
    """CPU per GB of reading what is in memory, and of a loop that sends as much, in turns."""
    path = OUT / "goals" / "hot.json"
    if path.is_file():
        return
    system = compare.BrokerSystem("millrace", SimpleNamespace(warm=a.warm, layout=compare.Layout("shared"), before=None, before_conf={}), SimpleNamespace(take=lambda _: None))
    found = {"read": [], "send": []}
    try:
        broker = system.address({})
        common = {"broker": broker, "topic": "hot", "record.bytes": 1000, "warmup": 0}
        with tempfile.TemporaryDirectory() as work:
            compare.run_load({**common, "create": "yes", "partitions": 4, "producers": 2, "records": 1000, "in.flight": 2, "duration": 1, "json": work + "/fill"})
            made = json.loads(Path(work, "fill").read_text())
            records = int(made["records_per_s"] * made["seconds"])
            for _ in range(max(3, a.repetitions) + 1):
                compare.run_load({**common, "producers": 0, "consumers": 4, "from": "earliest", "limit": 4 * records, "duration": "60s", "fetch.bytes": "8MiB",
                                  "pid": system.broker.pid, "json": work + "/read"})
                found["read"].append(json.loads(Path(work, "read").read_text())["broker_cpu_s_per_gb"])
                send = subprocess.run([str(compare.BUILD / "millrace-floors"), "send", "seconds=1"], capture_output=True, text=True, check=True)
                found["send"].append(json.loads(send.stdout)["sender_cpu_s_per_gb"])
    finally:
        system.close()
    path.write_text(json.dumps({key: values[1:] for key, values in found.items()}))  # the first of each warms


def measure(a):
    (OUT / "goals").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    measure_hot(a)
    for name, scenarios, options in PARTS:
        left_s = a.limit_s - (time.monotonic() - began) if a.limit_s else 0
        if a.limit_s and left_s <= 0:
            return print("not everything yet; the same command goes on from here")
        argv = [sys.executable, str(HERE / "compare.py"), *scenarios, "--out=%s" % (OUT / name), "--seconds=%g" % a.seconds, "--warm=%g" % a.warm]
        argv += ["--repetitions=%d" % a.repetitions] + options + (["--for=%g" % left_s] if a.limit_s else [])
        if subprocess.run(argv).returncode:
            return 1
    return 0


def table():
    cells, out = Cells(), ["| what | goal | measured | |", "|---|---:|---:|---|"]
    for what, unit, way, goal, get in GOALS:
        try:
            got = get(cells)
        except (LookupError, FileNotFoundError, ZeroDivisionError):
            out.append("| %s | %s %g %s | | not measured |" % (what, way, goal, unit))
            continue
        met = "" if not way else "met" if (got <= goal if way == "<=" else got >= goal) else "**missed**"
        out.append("| %s | %s | %.3g %s | %s |" % (what, "%s %g %s" % (way, goal, unit) if way else "", got, unit, met))
    print("\n".join(out))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=10, help="per load cell")
    p.add_argument("--repetitions", type=int, default=5)
    p.add_argument("--warm", type=float, default=60, help="seconds of load on each broker before anything counts")
    p.add_argument("--for", dest="limit_s", type=float, help="begin nothing later than that many seconds")
    p.add_argument("--table", action="store_true", help="print what is there")
    a = p.parse_args()
    status = 0 if a.table else measure(a)
    table()
    return status


if __name__ == "__main__":
    sys.exit(main())
