#!/usr/bin/env python3
"""Scenarios against Millrace, Apache Kafka 4.3.1 and the floors, interleaved, as one HTML report.

    perf/compare.py [SCENARIO...] [--quick | --full] [--out DIR] [--systems NAMES] [--durability both]
    perf/compare.py [SCENARIO...] --against=REF        this tree and another commit, both built, interleaved
    perf/compare.py [SCENARIO...] --against=KEY=VALUE  this tree without and with other settings, interleaved

Each measurement is a cell: scenario, point, durability, system, repetition; its JSON is kept in DIR/cells, and a
second call goes on where the first one stopped; --for=SECONDS begins no cell later than that. Sizes: --quick (one
repetition, under 10 minutes), the default (5 of 20 s), --full (7 of 60 s, and the relaxed class too). Systems: millrace, kafka, bare (a bare loop of
receive, one write and for the durable class a flush, answer) and null (drops everything: is the generator fast enough?).

Durable is compared with durable (Kafka: flush.messages=1) and relaxed with relaxed (Millrace: millrace.ack=write).
With --layout=split the broker has the first half of the CPUs and the generator the rest; otherwise they share all."""

import argparse
import fnmatch
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "tests" / "interop"), str(HERE)]
sys.dont_write_bytecode = True
import compare_report  # noqa: E402
from lib import broker as brokers  # noqa: E402

BUILD = ROOT / "build" / "release"
REPETITIONS = {"quick": 1, "default": 5, "full": 7}
SECONDS = {"quick": None, "default": None, "full": 60}  # None: as the scenario says
CLASSES = {"durable": {"millrace": "", "kafka": "flush.messages=1"}, "relaxed": {"millrace": "millrace.ack=write", "kafka": ""}}
MEMORY_CAP = 4 << 30
FLOORS = ("bare", "null")


class Scenario:
    """A file of perf/scenarios: settings of the generator, and lines with @ for us."""

    def __init__(self, path, size, wanted=None):
        """wanted: patterns of the points to keep, of all; else those of the size."""
        self.name, self.path, self.kind, self.fill, self.repetitions, self.beside, self.has_floors = path.stem, path, "load", 0, 0, {}, True
        self.text = [line[2:].strip() for line in path.read_text().splitlines() if line.startswith("# ")]
        points, chosen, self.extra = {}, None, []
        for line in path.read_text().splitlines():
            words = line.split()
            if not line.startswith("@"):
                continue
            if words[0] == "@point":
                points[words[1]] = words[2:]
            elif words[0] == "@beside":
                self.beside[words[1]] = dict(w.split("=", 1) for w in words[2:])
            elif words[0] == "@no-floors":
                self.has_floors = False
            elif words[0] == "@kind":
                self.kind = words[1]
            elif words[0] == "@repetitions":
                self.repetitions = 0 if size == "quick" else int(words[1])
            elif words[0] == ("@quick-fill" if size == "quick" else "@fill"):
                self.fill = int(float(words[1].rstrip("GMB")) * (1e9 if words[1].endswith("GB") else 1e6))
            elif words[0] == "@quick" and size == "quick":
                self.extra = words[1:]
            elif words[0] == "@quick-points" and size == "quick":
                chosen = words[1:]
            elif words[0] not in ("@fill", "@quick", "@quick-fill", "@quick-points"):
                raise SystemExit("%s: what is %s?" % (path, words[0]))
        if wanted:
            chosen = [n for n in points for pattern in wanted if fnmatch.fnmatch(n, pattern)]
        self.points = {n: p for n, p in (points or {"": []}).items() if chosen is None or n in chosen}

    def has_floor(self, point):
        """Floors know nothing of groups and transactions, and have nothing to read from a disk."""
        return self.has_floors and not any(word.startswith("beside=") for word in self.points[point])

    def settings(self, point, seconds=None):
        """The point's settings last, but a quick rate replaces a point's own."""
        out = dict(w.split("=", 1) for w in self.points[point])
        for word in self.extra:
            key, value = word.split("=", 1)
            if not key.startswith("rate") or key in out:
                out[key] = value
        if seconds and self.kind == "load":
            out.update(duration="%gs" % seconds, warmup="%gs" % min(5, seconds / 3))
        return out


# ---- systems ----


class Layout:
    """Which CPUs the broker and the generator may use."""

    def __init__(self, name):
        cpus = sorted(os.sched_getaffinity(0))
        if name == "split" and len(cpus) < 2:
            raise SystemExit("--layout=split needs two CPUs")
        half = len(cpus) // 2
        self.broker, self.load = (cpus[:half], cpus[half:]) if name == "split" else (cpus, cpus)
        self.text = "broker on CPUs %s, generator on CPUs %s" % (self.broker, self.load) if name == "split" else "broker and generator share all CPUs"

    def pin_broker(self, pid):
        for task in Path("/proc/%d/task" % pid).iterdir():
            os.sched_setaffinity(int(task.name), self.broker)

    def pin_load(self):
        """Processes inherit it: the generator is started with our own."""
        os.sched_setaffinity(0, self.load)


def run_load(settings, scenario=None, timeout_s=900):
    argv = [str(BUILD / "millrace-load")] + ([str(scenario.path)] if scenario else [])
    argv += ["%s=%s" % kv for kv in settings.items()] + ["live=no"]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)


class CappedMemory:
    """A memory cgroup (v1 or v2) for the broker, where one can be had."""

    def __init__(self):
        self.path = None
        for base, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            path = Path(base) / ("millrace-bench-%d" % os.getpid())
            try:
                path.mkdir()
                (path / limit).write_text(str(MEMORY_CAP))
                self.path = path
                return
            except OSError:
                if path.is_dir():
                    path.rmdir()

    def take(self, pid):
        if self.path:
            (self.path / "cgroup.procs").write_text(str(pid))

    def close(self):
        if self.path:
            for _ in range(50):
                try:
                    return self.path.rmdir()
                except OSError:
                    time.sleep(0.1)


class BrokerSystem:
    """Millrace or Kafka: one process for all cells."""

    def __init__(self, kind, a, memory):
        self.kind = kind
        self.memory = memory
        self.broker = brokers.KINDS["kafka" if kind == "kafka" else "millrace"](a.before_conf if kind == "before" else {})
        self.broker.binary = a.before if kind == "before" and a.before else BUILD / "millrace"
        if kind == "kafka":
            self.broker.heap, self.broker.collector = a.heap, a.collector
        self.warmed, self.warm_s = False, a.warm
        self.fills = {}
        self.layout = a.layout

    def address(self, settings):
        if not self.broker.alive():
            self.broker.start()
            self.memory.take(self.broker.pid)
            self.layout.pin_broker(self.broker.pid)
        if not self.warmed:
            self.warm(self.warm_s or (20 if settings.get("size") == "quick" else 60))
        return self.broker.bootstrap

    def warm(self, seconds):
        """A JVM compiles what it runs, and memory that is written for the first time is first cleared by the kernel, at
        several times the cost of the rest: every kind of request, and more bytes than a cache holds, before anything counts."""
        self.warmed = True
        kinds = ({"records": 100}, {"producers": 16, "in.flight": 5}, {"partitions": 100, "batches": 64, "e2e": "yes", "consumers": 2},
                 {"partitions": 12, "producers": 2, "batches": 6, "records": 170, "in.flight": 3})
        for extra in kinds:
            run_load({"broker": self.broker.bootstrap, "create": "yes", "cleanup": "yes", "topic": "warm", "warmup": 0,
                      "duration": seconds / len(kinds), **extra})

    def extra(self, durability):
        config = CLASSES[durability]["kafka" if self.kind == "kafka" else "millrace"]
        return {"pid": self.broker.pid, **({"topic.config": config} if config else {})}

    def close(self):
        self.broker.kill()
        self.broker.destroy()


class FloorSystem:
    """A process of millrace-floors per cell: the number of partitions is part of it."""

    def __init__(self, kind, directory, layout):
        self.kind, self.directory, self.layout, self.process = kind, directory, layout, None

    def address(self, settings, durability="durable"):
        self.close()
        argv = [str(BUILD / "millrace-floors"), "serve", "partitions=" + settings.get("partitions", "1")]
        if self.kind == "bare":
            argv += ["durable=%s/bare.bin" % self.directory] + (["flush=0"] if durability == "relaxed" else [])
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        address = self.process.stdout.readline().split()[-1]
        self.layout.pin_broker(self.process.pid)
        return address

    def extra(self, _):
        return {"pid": self.process.pid}

    def rss_mib(self):
        return int(re.search(r"VmRSS:\s*(\d+)", Path("/proc/%d/status" % self.process.pid).read_text()).group(1)) / 1024

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


# ---- cells ----


def load_cell(system, scenario, settings, durability, directory, size):
    """One run of the generator. What it refuses to do is an error, what it finds invalid is a result."""
    full = dict(line.split("=", 1) for line in scenario.path.read_text().splitlines() if "=" in line and line[0] not in "#@")
    full.update(settings)
    is_floor = system.kind in FLOORS
    broker = system.address(full, durability) if is_floor else system.address({**full, "size": size})
    if is_floor:  # nothing comes back from a floor: the producing half is measured
        settings = {**settings, "consumers": "0", "e2e": "no"}
    else:
        settings = {**settings, "cleanup": "yes"}
    settings = {**settings, **system.extra(durability), "broker": broker, "json": directory / "cell.json"}
    (directory / "cell.json").unlink(missing_ok=True)
    beside = settings.pop("beside", None)
    with Beside(system, scenario, beside, broker, directory) as other:
        p = run_load(settings, scenario)
    if not (directory / "cell.json").is_file():
        return {"failed": True, "valid": False, "reasons": [(p.stderr or p.stdout).strip()[-300:]]}
    result = json.loads((directory / "cell.json").read_text())
    if beside:
        result["beside"] = other.result()
        if not result["beside"].get("fetched_mb_per_s"):
            result.update(failed=True, reasons=result["reasons"] + ["nothing was read beside it"])
    return result


class Beside:
    """Another generator that reads what lies on the disk from its beginning while a cell is measured."""

    def __init__(self, system, scenario, name, broker, directory):
        self.process, self.argv, self.json = None, None, directory / "beside.json"
        if name:
            records = self.fill(system, scenario, broker, directory)
            argv = {**scenario.beside[name], "broker": broker, "topic": "fill", "producers": 0, "from": "earliest", "warmup": 0,
                    "record.bytes": 1000, "duration": "900s", "drain": "1s", "limit": records * int(scenario.beside[name]["consumers"])}
            self.argv = [str(BUILD / "millrace-load")] + ["%s=%s" % kv for kv in {**argv, "json": self.json, "live": "no"}.items()]

    @staticmethod
    def fill(system, scenario, broker, directory):
        """As many bytes as the scenario says, once for a broker; the records in them."""
        if scenario.name not in system.fills:
            run_load({"broker": broker, "topic": "fill", "create": "yes", "partitions": 4, "producers": 2, "records": 1000, "record.bytes": 1000,
                      "in.flight": 2, "warmup": 0, "duration": scenario.fill / 2e8, "json": directory / "fill.json"})
            made = json.loads((directory / "fill.json").read_text())
            system.fills[scenario.name] = int(made["records_per_s"] * made["seconds"])
        return system.fills[scenario.name]

    def __enter__(self):
        if self.argv:
            self.json.unlink(missing_ok=True)
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def result(self):
        read = json.loads(self.json.read_text()) if self.json.is_file() else {}
        return {key: read.get(key) for key in ("fetched_mb_per_s", "seconds", "fetched_records")}


def until_good(settings, deadline_s=120):
    """Seconds until the generator succeeds with these settings."""
    started = time.monotonic()
    while time.monotonic() - started < deadline_s:
        if run_load(settings).returncode in (0, 3):
            return time.monotonic() - started
    return None


def fill(system, durability, scenario, settings, common):
    """Bytes on disk before the kill, in a topic beside the one that is verified."""
    if scenario.fill:
        run_load({**common, **system.extra(durability), "topic": "fill", "create": "yes", "partitions": settings["partitions"],
                  "producers": 1, "records": 1000, "record.bytes": 1000, "in.flight": 2, "warmup": 0,
                  "duration": max(1, scenario.fill / 200e6)})


def first_answers(common, topic, started):
    """Seconds from `started` to the first acknowledged record and to the first one read."""
    probe = {**common, "topic": topic, "warmup": 0}
    until_good({**probe, "producers": 1, "duration": "20ms"})
    produced_s = time.monotonic() - started
    until_good({**probe, "producers": 0, "consumers": 1, "from": "earliest", "limit": 1})
    return {"first_produce_s": produced_s, "first_read_s": time.monotonic() - started}


def floor_kill_cell(settings, directory, layout):
    """What a server without anything to recover takes, by the same probe."""
    system = FloorSystem("null", directory, layout)
    try:
        started = time.monotonic()
        address = system.address(settings)
        return {"valid": True, "failed": False, "reasons": [], **first_answers({"broker": address}, "load", started)}
    finally:
        system.close()


def kill_cell(kind, scenario, settings, durability, directory, a, memory):
    """Load, kill -9, start again; then everything that was acknowledged must be there."""
    system = BrokerSystem(kind, a, memory)
    system.warmed = True
    broker = system.broker
    try:
        common = {"broker": system.address(settings), "topic": "kill"}
        fill(system, durability, scenario, settings, common)
        argv = [str(BUILD / "millrace-load"), str(scenario.path), "live=no", "acked.out=%s" % (directory / "acked"), "drain=1s"]
        argv += ["%s=%s" % kv for kv in {**settings, **system.extra(durability), **common}.items()]
        load = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(3 + int(settings["partitions"]) / 1000)
        on_disk = sum(f.stat().st_blocks * 512 for f in broker.directory.rglob("*") if f.is_file())
        broker.kill()
        load.send_signal(signal.SIGINT)
        load.wait(60)
        started = time.monotonic()
        broker.start(wait=False)
        memory.take(broker.pid)
        a.layout.pin_broker(broker.pid)
        times = first_answers(common, "fill" if scenario.fill else "kill", started)
        verify = directory / "cell.json"
        verify.unlink(missing_ok=True)
        same = {k: v for k, v in (line.split("=", 1) for line in scenario.path.read_text().splitlines() if line.startswith("record"))}
        p = run_load({**common, **same, "verify": "yes", "producers": 0, "consumers": 1, "acked.in": directory / "acked", "duration": "120s",
                      "json": verify, "fetch.bytes": "8MiB"})
        found = json.loads(verify.read_text()) if verify.is_file() else {"verify": [{}], "reasons": [p.stderr.strip()[-300:]]}
        seen = (found.get("verify") or [{}])[0]
        wrong = seen.get("missing", -1) + seen.get("repeated", 0) + seen.get("damaged", 0)
        return {"valid": p.returncode == 0, "failed": p.returncode != 0, "reasons": found.get("reasons", []), **times,
                "verified_records": seen.get("right", 0), "wrong_records": wrong, "mb_on_disk": on_disk / 1e6}
    finally:
        system.close()


def run_ns(pid):
    return sum(int((t / "schedstat").read_text().split()[0]) for t in Path("/proc/%d/task" % pid).iterdir())


def idle_percent(pid, size):
    """Of one CPU, once what is prepared in the background is done."""
    time.sleep(5 if size == "quick" else 15)
    before, since = run_ns(pid), time.monotonic()
    time.sleep(5 if size == "quick" else 60)
    return (run_ns(pid) - before) / 1e9 / (time.monotonic() - since) * 100


def floor_start_cell(settings, directory, layout, size):
    system = FloorSystem("null", directory, layout)
    try:
        started = time.monotonic()
        address = system.address({"partitions": str(max(1, int(settings["partitions"])))})
        run_load({"broker": address, "topic": "load", "producers": 0, "consumers": 1, "limit": 1, "warmup": 0})
        start_ms = (time.monotonic() - started) * 1000
        return {"valid": True, "failed": False, "reasons": [], "start_ms": start_ms, "rss_mib": system.rss_mib(),
                "idle_cpu_percent": idle_percent(system.process.pid, size)}
    finally:
        system.close()


def start_cell(kind, settings, a, memory, size):
    """Start to the first answer; with partitions it is the second start, which finds them there."""
    system = BrokerSystem(kind, a, memory)
    broker = system.broker
    try:
        broker.format()
        broker.formatted = True
        partitions = int(settings["partitions"])
        if partitions:
            broker.start()
            run_load({"broker": broker.bootstrap, "create": "yes", "partitions": partitions, "warmup": 0, "duration": "100ms"})
            broker.stop()
        started = time.monotonic()
        broker.start()
        start_ms = (time.monotonic() - started) * 1000
        memory.take(broker.pid)
        idle = idle_percent(broker.pid, size)
        return {"valid": True, "failed": False, "reasons": [], "start_ms": start_ms, "rss_mib": broker.rss_kib() / 1024, "idle_cpu_percent": idle}
    finally:
        system.close()


def others_busy():
    """The part of the machine that somebody uses while we do nothing."""
    def jiffies():
        t = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(t), sum(t) - t[3] - t[4]
    before = jiffies()
    time.sleep(0.3)
    after = jiffies()
    return (after[1] - before[1]) / max(1, after[0] - before[0])


# ---- the run ----


class Bench:
    def __init__(self, a, size):
        self.a, self.size = a, size
        self.out = Path(a.out or ROOT / "build" / "bench" / size).resolve()
        (self.out / "cells").mkdir(parents=True, exist_ok=True)
        self.work = Path(tempfile.mkdtemp(prefix="millrace-bench."))
        self.memory = CappedMemory()
        self.systems = {}
        wanted = a.scenarios or sorted((p.stem for p in (HERE / "scenarios").glob("*.scn")), key=lambda s: int(s[1:]))
        self.scenarios = [Scenario(HERE / "scenarios" / (name + ".scn"), size, a.points and a.points.split(",")) for name in wanted]

    def system(self, kind):
        if kind not in self.systems:
            self.systems[kind] = FloorSystem(kind, self.work, self.a.layout) if kind in FLOORS else BrokerSystem(kind, self.a, self.memory)
        return self.systems[kind]

    def plan(self):
        """Cells in the order of running. All points of a scenario take turns within a repetition, and in each the systems;
        points whose rate is a part of another point's maximum come when that is known."""
        cells = []
        for scenario in self.scenarios:
            for durability in self.a.durability:
                waiting = [p for p, words in scenario.points.items() if any(w.startswith("load=") for w in words)]
                for points in ([p for p in scenario.points if p not in waiting], waiting):
                    for repetition in range(self.repetitions(scenario)):
                        order = [s for s in self.a.systems if s != "bare" or scenario.kind == "load"]  # it prepares its file: not a start
                        for point in points:
                            cells += [(scenario, point, durability, kind, repetition) for kind in (order if repetition % 2 == 0 else order[::-1])
                                      if kind not in FLOORS or scenario.has_floor(point)]
        return cells

    def repetitions(self, scenario):
        if self.a.repetitions:
            return self.a.repetitions
        wanted = max(REPETITIONS[self.size], scenario.repetitions)
        return wanted if scenario.kind == "load" else min(wanted, 3)

    def path(self, scenario, point, durability, kind, repetition):
        return self.out / "cells" / ("%s.%s.%s.%s.%d.json" % (scenario.name, point or "all", durability, kind, repetition))

    def maximum(self, scenario, point, durability, kind):
        """Bytes of values per second at a point without a rate; None: not known."""
        pattern = "%s.%s.%s.%s.*.json" % (scenario.name, point, durability, kind)
        found = [json.loads(p.read_text()) for p in (self.out / "cells").glob(pattern)]
        rates = [c["mb_per_s"] * 1e6 for c in found if c.get("mb_per_s")]
        return statistics.median(rates) if rates else None

    def rate(self, scenario, durability, kind, load, of):
        """Bytes per second for load=50% (of the system's own maximum; floors: of Millrace's) or load=same (half of the least)."""
        if load == "same":
            known = [self.maximum(scenario, of, durability, k) for k in self.a.systems if k not in FLOORS]
            return min(known) / 2 if known and None not in known else None
        own = self.maximum(scenario, of, durability, "millrace" if kind in FLOORS else kind)
        return own and own * float(load.rstrip("%")) / 100

    def run_cell(self, scenario, point, durability, kind):
        settings = scenario.settings(point, self.a.seconds)
        load, of = settings.pop("load", None), settings.pop("of", "max")
        if load:
            rate = self.rate(scenario, durability, kind, load, of)
            if rate is None:
                return {"valid": False, "failed": True, "reasons": ["the maximum was not measured"]}
            settings["rate.bytes"] = "%.0f" % rate
        if scenario.kind == "kill":
            return floor_kill_cell(settings, self.work, self.a.layout) if kind in FLOORS else kill_cell(
                kind, scenario, settings, durability, self.work, self.a, self.memory)
        if scenario.kind == "start":
            return floor_start_cell(settings, self.work, self.a.layout, self.size) if kind in FLOORS else start_cell(
                kind, settings, self.a, self.memory, self.size)
        return load_cell(self.system(kind), scenario, settings, durability, self.work, self.size)

    def measure_floors(self):
        path = self.out / "floors.json"
        if path.is_file():
            return
        floors = {}
        for name in ("cpu", "disk", "send"):
            argv = [str(BUILD / "millrace-floors"), name, "seconds=%s" % (0.3 if self.size == "quick" else 1)]
            argv += ["directory=%s" % self.work] if name == "disk" else []
            floors[name] = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout)
        path.write_text(json.dumps(floors, indent=1))

    def run(self):
        self.measure_floors()
        (self.out / "session.json").write_text(json.dumps(compare_report.session(self), indent=1))
        cells = self.plan()
        left = [c for c in cells if not self.path(*c).is_file()]
        print("%d cells, %d of them to be measured; %s" % (len(cells), len(left), self.out), flush=True)
        began, took = time.monotonic(), []
        for n, cell in enumerate(left):
            if self.a.limit_s and time.monotonic() - began >= self.a.limit_s:
                print("%d cells are left; the same command goes on from here" % (len(left) - n))
                return
            since = time.monotonic()
            result = self.measure(*cell)
            took.append(time.monotonic() - since)
            eta = statistics.median(took) * (len(left) - n - 1)  # the first of a system has its warming up in it
            print("%3d/%d %-4s %-11s %-8s %-9s %-42s %4.0f s left" % (
                n + 1, len(left), cell[0].name, cell[1], cell[2], cell[3], compare_report.headline(result), eta), flush=True)

    def measure(self, scenario, point, durability, kind, repetition):
        """Run a cell and keep it, whole or not at all."""
        if scenario.kind != "load":
            self.close_systems()  # such a cell wants the machine for itself
        others = others_busy()
        result = self.run_cell(scenario, point, durability, kind)
        result.update(cell={"scenario": scenario.name, "point": point or "all", "durability": durability, "system": kind, "repetition": repetition},
                      others_busy=round(others, 3), made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), commit=compare_report.commit())
        path = self.path(scenario, point, durability, kind, repetition)
        path.with_suffix(".part").write_text(json.dumps(result, separators=(",", ":")))
        path.with_suffix(".part").rename(path)
        return result

    def close_systems(self):
        for system in self.systems.values():
            system.close()
        self.systems = {}

    def close(self):
        self.close_systems()
        self.memory.close()
        shutil.rmtree(self.work, ignore_errors=True)


def build_commit(ref):
    """The broker of another commit, in a worktree of its own below build/."""
    git = ["git", "-C", str(ROOT)]
    sha = subprocess.run(git + ["rev-parse", "--verify", "--short", ref + "^{commit}"], capture_output=True, text=True)
    if sha.returncode:
        raise SystemExit("--against=%s: git knows no such commit" % ref)
    tree = ROOT / "build" / "against" / sha.stdout.strip()
    binary = tree / "build" / "release" / "millrace"
    if not binary.is_file():
        print("building %s" % sha.stdout.strip(), flush=True)
        if not tree.is_dir():
            subprocess.run(git + ["worktree", "add", "--detach", str(tree), sha.stdout.strip()], check=True, capture_output=True)
        for argv in (["cmake", "--preset", "release"], ["cmake", "--build", "build/release", "--target", "millrace"]):
            p = subprocess.run(argv, cwd=tree, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if p.returncode:
                raise SystemExit("--against=%s does not build:\n%s" % (ref, (p.stdout + p.stderr)[-2000:]))
    return binary


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="names in perf/scenarios; all")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--full", action="store_true")
    p.add_argument("--out", help="default: build/bench/SIZE, with --layout=split build/bench/SIZE-split")
    p.add_argument("--layout", choices=("shared", "split"), default="shared")
    p.add_argument("--fresh", action="store_true", help="forget the cells that are there")
    p.add_argument("--systems", help="default: millrace,kafka,bare,null; with --against millrace,before")
    p.add_argument("--against", metavar="REF", help="a commit to compare with instead of Kafka, or settings: KEY=VALUE,KEY=VALUE")
    p.add_argument("--durability", choices=("durable", "relaxed", "both"))
    p.add_argument("--points", metavar="PATTERNS", help="only these, of all that the scenarios have: '*-rate,p1-max'")
    p.add_argument("--repetitions", type=int)
    p.add_argument("--seconds", type=float, help="measured per load cell, instead of what size and scenario say")
    p.add_argument("--warm", type=float, metavar="SECONDS", help="load on each broker before anything counts; 60, quick 20")
    p.add_argument("--for", dest="limit_s", type=float, metavar="SECONDS", help="begin no cell later than that")
    p.add_argument("--heap", default="1g", help="of Kafka's JVM")
    p.add_argument("--collector", choices=("G1", "Parallel", "Serial"), default="G1", help="of Kafka's JVM")
    a = p.parse_args()
    size = "quick" if a.quick else "full" if a.full else "default"
    a.systems = (a.systems or ("millrace,before" if a.against else "millrace,kafka,bare,null")).split(",")
    a.before_conf = dict(word.split("=", 1) for word in a.against.split(",")) if a.against and "=" in a.against else {}
    a.before = build_commit(a.against) if a.against and not a.before_conf else None
    a.rival = a.against if a.before_conf else "commit " + a.before.parts[-4] if a.before else "Apache Kafka 4.3.1"
    if a.against and not a.out:
        a.out = ROOT / "build" / "bench" / ("%s-against-%s" % (size, re.sub(r"[^A-Za-z0-9.]+", "-", a.rival.removeprefix("commit "))))
    if a.layout == "split" and not a.out:
        a.out = ROOT / "build" / "bench" / (size + "-split")
    a.layout = Layout(a.layout)
    a.layout.pin_load()
    a.seconds = a.seconds or SECONDS[size]
    durability = a.durability or ("both" if size == "full" else "durable")
    a.durability = ["durable", "relaxed"] if durability == "both" else [durability]
    return a, size


def main():
    a, size = arguments()
    out = Path(a.out or ROOT / "build" / "bench" / size)
    if a.fresh:
        shutil.rmtree(out, ignore_errors=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # through `finally`: no broker is left behind
    bench = Bench(a, size)
    try:
        bench.run()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here")
        return 130
    finally:
        bench.close()
        report = compare_report.write(bench.out)
        print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
