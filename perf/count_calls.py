#!/usr/bin/env python3
"""System calls, sleeps, io_uring submissions and completions for each request of the real broker, against perf/calls.tsv.

    perf/count_calls.py [--update] [--results FILE]

Calls are counted by strace, submissions and completions by the rings themselves (/proc/PID/fdinfo). A call that may sleep is one
that waits for a completion: there are at most so many wake-ups. One core with both roles, one connection. Requests come in bursts: one segment with all of them, the next when all are
answered, so that which request shares a turn with which does not hang on how fast the client is. A count is the difference of
two numbers of requests on one broker, divided by their difference: what the broker does by the clock falls out, nearly; a
tolerance of a quarter takes the rest. A call more per burst is more than that. Where nobody may be traced (a container without CAP_SYS_PTRACE) the test says so and is skipped."""

import argparse
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "interop")]
sys.dont_write_bytecode = True
import path_cost  # noqa: E402

TABLE = HERE / "calls.tsv"
TOLERANCE = 0.25
FEW, MANY = 100, 500
SCENES = {
    "produce-1": ("produce 100 B, 1 in flight", "one Produce of 100 B, 1 in a burst, durable"),
    "produce-5": ("produce 100 B, 5 in flight", "one Produce of 100 B, 5 in a burst, durable"),
    "fetch": ("fetch 100 B", "one Fetch of 100 B, hot"),
}
FIGURES = {
    "calls": "system calls",
    "enters": "of them io_uring_enter",
    "sleeps": "of these such as may sleep: wake-ups at most",
    "submitted": "operations handed to the kernel through io_uring",
    "completed": "completions of them",
}


def may_trace():
    return shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


def traced(binary, directory):
    """A command that stands for the binary; strace hides behind it, so that signals and the pid are the broker's."""
    trace, script = directory / "trace", directory / "millrace"
    script.write_text('#!/bin/sh\nif [ "$1" = start ]; then exec strace -D -f -qq -o %s %s "$@"; fi\nexec %s "$@"\n' % (trace, binary, binary))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script, trace


def figures(text):
    """`PID call(...) = result`, or in two parts, `<unfinished ...>` and `<... call resumed>`, when another thread came between."""
    ended = [line for line in text.splitlines() if re.search(r"\) += ", line)]
    asked = re.findall(r"io_uring_enter\(\d+, \d+, (\d+),", text)
    return {"calls": len(ended), "enters": sum("io_uring_enter" in line for line in ended), "sleeps": sum(n != "0" for n in asked)}


def ring_figures(pid):
    """What the rings of a process have handed in and out since they were made."""
    out = {"submitted": 0, "completed": 0}
    for fd in Path("/proc/%d/fd" % pid).iterdir():
        if "io_uring" in os.readlink(fd):
            text = Path("/proc/%d/fdinfo/%s" % (pid, fd.name)).read_text()
            for name, field in (("submitted", "SqHead"), ("completed", "CqTail")):
                out[name] += int(re.search(r"^%s:\s*(\d+)" % field, text, re.M).group(1))
    return out


def settled(trace):
    """All of the trace, once its writer has caught up."""
    text, before = trace.read_text(), None
    while text != before:
        time.sleep(0.05)
        before, text = text, trace.read_text()
    return text


def bursts(pipe, frame, requests, depth):
    for _ in range(requests // depth):
        pipe.s.sendall(frame * depth)
        for _ in range(depth):
            pipe.answer()


def count(binary, directory):
    script, trace = traced(binary, directory)
    b = path_cost.start(script, {"millrace.cores": "1"})
    try:
        out = {}
        for name, (scene, text) in SCENES.items():
            scene = path_cost.SCENES[scene]
            pipe = path_cost.Pipe(b.port)
            frame = path_cost.fetch_frame(pipe, scene["fetch"]) if "fetch" in scene else path_cost.produce_frame(pipe, scene["size"], scene["records"])
            bursts(pipe, frame, 50, scene["depth"])
            found = []
            for times in (FEW, MANY):
                begin, rings = len(settled(trace)), ring_figures(b.pid)
                bursts(pipe, frame, times, scene["depth"])
                ended = ring_figures(b.pid)
                found.append({**figures(settled(trace)[begin:]), **{n: ended[n] - rings[n] for n in rings}})
            for figure, what in FIGURES.items():
                out["%s.%s" % (name, figure)] = ((found[1][figure] - found[0][figure]) / (MANY - FEW), "%s: %s" % (text, what))
        return out
    finally:
        b.kill()
        b.destroy()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--update", action="store_true", default=bool(os.environ.get("MR_UPDATE")))
    p.add_argument("--results")
    a = p.parse_args()

    def note(verdict, name, reason=""):
        if a.results:
            with open(a.results, "a") as f:
                f.write("%s\t%s\t%s\n" % (verdict, name, reason))

    if not may_trace():
        print("count_calls: processes cannot be traced here")
        note("skip", "count_calls", "processes cannot be traced here")
        return 0
    rows = [line.split("\t") for line in TABLE.read_text().splitlines() if not line.startswith("#")] if TABLE.is_file() else []
    wanted, failed = {r[0]: float(r[1]) for r in rows}, 0
    directory = Path(path_cost.brokers.tempfile.mkdtemp(prefix="millrace-calls."))
    try:
        found = count(HERE.parent / "build" / "release" / "millrace", directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for name, (number, text) in found.items():
        was = wanted.get(name)
        is_good = a.update or (was is not None and abs(number - was) <= TOLERANCE * was)
        failed += not is_good
        print("%-22s %6.2f  was %-6s %s  %s" % (name, number, was, "ok  " if is_good else "FAIL", text))
        note("pass" if is_good else "fail", "count_calls/" + name)
    if a.update:
        TABLE.write_text("# made by perf/count_calls.py --update\n" + "".join("%s\t%.2f\t%s\n" % (n, v, t) for n, (v, t) in found.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
