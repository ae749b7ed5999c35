#!/usr/bin/env python3
"""Stock Kafka clients against the real broker.

    run.py [NAME...]            every test, or those whose names contain one of NAME
      --broker=kafka            against Apache Kafka 4.3.1 instead of Millrace: is the test right?
      --on=tap|tap6|af_xdp      Millrace on our own TCP/IP: DPDK on TAP devices (with IPv6), or AF_XDP on veth (root);
                                without names the tests of ports.txt
      --jobs N                  workers (default 2); tests that measure time run one at a time at the end
      --bugs                    the pairs of rows.tsv: each test must fail against its broken broker
                                (--bugs --bug=NAME: the pairs of one)
      --list                    names only
      --results FILE            append "pass|fail|skip <tab> name <tab> reason"
      --keep                    keep the files of failed tests and say where

Each test is one line: name, ok or FAIL, seconds. A failure prints why and the end of the broker's log.
A test that only came too late (or measures time) runs once more at the end; a wrong value is never tried again."""

import argparse
import importlib
import json
import os
import pkgutil
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from lib import broker as brokers  # noqa: E402
from lib import case, clients, deps, rows  # noqa: E402


def load_cases():
    import cases
    for m in pkgutil.iter_modules(cases.__path__):
        importlib.import_module("cases." + m.name)
    return case.TESTS


def on_both_transports(tests):
    """The names in ports.txt, each of a test that exists."""
    names = [n for n in (HERE / "ports.txt").read_text().split("\n") if n and not n.startswith("#")]
    unknown = [n for n in names if n not in tests]
    if unknown:
        raise SystemExit("run.py: ports.txt names no tests: %s" % " ".join(unknown))
    return names


class OutOfTime(Exception):
    pass


# What a machine that is busy with something else can cause. A wrong value is never among them.
LATE = (OutOfTime, case.Late, clients.TimedOut)
MAX_LATE = 3


def limit_s(name):
    f = case.TESTS[name]
    return f.seconds * (10 if case.FULL and f.full_only else 1)


def run_one(name, shared, keep):
    f = case.TESTS[name]
    if f.full_only and not case.FULL:
        return {"verdict": "skip", "reason": "only in ./dev full"}
    if (f.millrace_only and shared.kind != "millrace") or (f.kafka_only and shared.kind != "kafka"):
        return {"verdict": "skip", "reason": "not for this broker"}

    def alarm(*_):
        raise OutOfTime()

    t = case.Context(name, shared)
    out = {"verdict": "ok"}
    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(limit_s(name))
    try:
        f(t)
    except case.Skip as e:
        out = {"verdict": "skip", "reason": str(e)}
    except OutOfTime:
        out = {"verdict": "FAIL", "late": True,
               "why": "not finished within %d s\n%s" % (f.seconds, traceback.format_exc(limit=-4))}
    except Exception as e:
        where = traceback.extract_tb(e.__traceback__)
        place = [s for s in where if "/cases/" in s.filename] or where
        out = {"verdict": "FAIL", "late": f.alone or isinstance(e, LATE), "why": "%s: %s\n  at %s:%d: %s" % (
            type(e).__name__, e, Path(place[-1].filename).name, place[-1].lineno, place[-1].line)}
    finally:
        signal.alarm(0)
    for b in t.brokers:
        if b.process is not None and b.process.poll() is not None and out["verdict"] == "ok":
            out = {"verdict": "FAIL", "why": "the broker died with status %s" % b.process.returncode}
    if out["verdict"] == "FAIL":
        out["log"] = "\n".join("--- %s %s\n%s" % (b.kind, b.bootstrap, b.log_tail(25)) for b in t.brokers)
        if shared.broker is not None:  # the next test deserves a healthy one
            shared.broker.destroy()
            shared.broker = None
        shared.drop_jvm()
    out["notes"] = t.notes
    if keep and out["verdict"] == "FAIL":
        out["kept"] = [str(t.dir)] + [str(b.base) for b in t.brokers]
    else:
        t.close()
    return out


def worker(arguments):
    """Reads names, answers with JSON. One process, so that a time limit can be an alarm."""
    load_cases()
    shared = case.Shared(arguments.broker, arguments.bug, arguments.on)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for line in sys.stdin:
            name = line.strip()
            started = time.monotonic()
            out = run_one(name, shared, arguments.keep)
            out["name"], out["seconds"] = name, time.monotonic() - started
            sys.stdout.write(json.dumps(out) + "\n")
            sys.stdout.flush()
    finally:
        shared.close()


class Worker:
    """A process that runs tests. A test ends by its own alarm; a client library that never comes back from its
    destructor is past that, so the worker is given up then and the test is run once more by a new one."""

    GRACE_S = 60

    def __init__(self, arguments, python, bug=None):
        self.argv = [python, str(HERE / "run.py"), "--worker", "--broker=" + arguments.broker]
        if arguments.keep:
            self.argv.append("--keep")
        if arguments.on:
            self.argv.append("--on=" + arguments.on)
        if bug:
            self.argv.append("--bug=" + bug)
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, name):
        for why in ("the worker did not come back", "the worker did not come back, twice"):
            try:
                self.process.stdin.write(name + "\n")
                self.process.stdin.flush()
                ready, _, _ = select.select([self.process.stdout], [], [], limit_s(name) + self.GRACE_S)
                line = self.process.stdout.readline() if ready else None
                if line:
                    return json.loads(line)
                if line is not None:
                    why = "the worker died"
                    break
            except OSError:
                why = "the worker died"
                break
            print("%-44s %s; once more" % (name, why), flush=True)
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.start()
        return {"name": name, "verdict": "FAIL", "why": why, "seconds": 0.0}

    def close(self):
        try:
            self.process.stdin.close()
            self.process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()


class Report:
    def __init__(self, path, on=None):
        self.path = path
        self.prefix = "interop-" + on if on else "interop"
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}
        self.reasons = {}
        self.late = []
        self.lock = threading.Lock()

    def add(self, out, once_more=False):
        """Print how a test ended and count it. With once_more a test that came too late is kept in `late`
        instead of being counted: the caller repeats it."""
        verdict = out["verdict"]
        with self.lock:
            notes = "; ".join(out.get("notes") or [])
            tail = out.get("reason", "") if verdict == "skip" else notes
            print("%-44s %-4s %6.1f s  %s" % (out["name"], verdict, out["seconds"], tail), flush=True)
            if verdict == "FAIL":
                for line in out["why"].splitlines():
                    print("    " + line)
                for line in (out.get("log") or "").splitlines():
                    print("    | " + line)
                for k in out.get("kept", []):
                    print("    kept: " + k)
                sys.stdout.flush()
            if once_more and out.get("late"):
                self.late.append(out)
            else:
                self.count(out)

    def count(self, out):
        verdict, reason = out["verdict"], out.get("reason", "")
        self.counts[verdict] += 1
        if verdict == "skip":
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if self.path:
            with open(self.path, "a") as f:
                f.write("%s\t%s/%s\t%s\n" % ({"ok": "pass", "FAIL": "fail", "skip": "skip"}[verdict], self.prefix, out["name"], reason))

    def finish(self):
        c = self.counts
        reasons = "; ".join(r if n == 1 else "%s x%d" % (r, n) for r, n in sorted(self.reasons.items())) or "none"
        print("%d passed, %d failed, %d skipped (%s)" % (c["ok"], c["FAIL"], c["skip"], reasons))
        return 1 if c["FAIL"] else 0


def run_again(arguments, python, report):
    """What only came too late runs once more with the machine to itself, and its line says so. Many of them
    are no accident: then they stand."""
    if len(report.late) > MAX_LATE:
        for out in report.late:
            report.count(out)
    elif report.late:
        w = Worker(arguments, python)
        for first in report.late:
            out = w.run(first["name"])
            out["notes"] = ["SECOND TRY, the first: " + first["why"].splitlines()[0][:200]] + (out.get("notes") or [])
            report.add(out)
        w.close()


def run_all(arguments, python, names, report):
    together = queue.Queue()
    for n in sorted((n for n in names if not case.TESTS[n].alone), key=lambda n: -case.TESTS[n].seconds):
        together.put(n)
    alone = [n for n in names if case.TESTS[n].alone]

    def serve():
        w = Worker(arguments, python)
        while True:
            try:
                name = together.get_nowait()
            except queue.Empty:
                break
            report.add(w.run(name), once_more=True)
        w.close()

    threads = [threading.Thread(target=serve) for _ in range(min(arguments.jobs, max(1, together.qsize())))] \
        if not together.empty() else []
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if alone:
        w = Worker(arguments, python)
        for name in alone:
            report.add(w.run(name), once_more=True)
        w.close()
    run_again(arguments, python, report)


def run_bugs(arguments, python, names, report):
    """A test that passes against its broken broker proves nothing: that is the failure here."""
    todo = queue.Queue()
    for pair in rows.pairs():
        if pair[0] in names and (not arguments.bug or arguments.bug == pair[1]):
            todo.put(pair)

    def serve():
        while True:
            try:
                test, bug = todo.get_nowait()
            except queue.Empty:
                return
            w = Worker(arguments, python, bug)
            out = w.run(test)
            w.close()
            result = {"name": "%s --bug=%s" % (test, bug), "seconds": out["seconds"], "verdict": "ok"}
            if out["verdict"] == "FAIL":
                result["notes"] = ["caught: " + out["why"].splitlines()[0][:160]]
            elif out["verdict"] == "skip":
                result.update(verdict="skip", reason=out["reason"])
            else:
                result.update(verdict="FAIL", why="NOT caught: the test passes against a broken broker")
            report.add(result)

    threads = [threading.Thread(target=serve) for _ in range(arguments.jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def main():
    # A shell without job control starts us with SIGINT ignored, which every client would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*")
    p.add_argument("--broker", choices=["millrace", "kafka"], default="millrace")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--bugs", action="store_true")
    p.add_argument("--bug")
    p.add_argument("--list", action="store_true")
    p.add_argument("--results")
    p.add_argument("--keep", action="store_true")
    p.add_argument("--on", choices=["tap", "tap6", "af_xdp"])
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = p.parse_args()
    if arguments.worker:
        return worker(arguments)

    tests = load_cases()
    names = [n for n in tests if not arguments.names or any(w in n for w in arguments.names)]
    if arguments.on and not arguments.names:
        names = on_both_transports(tests)
    if arguments.list:
        print("\n".join(names))
        return 0
    if not names:
        return 0
    report = Report(arguments.results, arguments.on)
    why = brokers.port_missing(arguments.on) if arguments.on else None
    if why:
        for name in names:
            report.add({"name": name, "verdict": "skip", "seconds": 0.0, "reason": why})
        return report.finish()
    binary = deps.ROOT / "build" / ("bugs" if arguments.bugs else "release") / "millrace"
    if arguments.broker == "millrace" and not os.access(binary, os.X_OK):
        report.add({"name": "interop", "verdict": "FAIL", "seconds": 0.0, "why": "%s is not built: ./dev build %s" % (binary, binary.parent.name)})
        return report.finish()
    started = time.monotonic()
    python = deps.venv_python()
    deps.jars("tools")
    deps.programs()
    deps.streams_programs()
    if time.monotonic() - started > 5:
        print("clients fetched in %.0f s" % (time.monotonic() - started), flush=True)
    if arguments.bugs:
        run_bugs(arguments, python, names, report)
    else:
        run_all(arguments, python, names, report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
