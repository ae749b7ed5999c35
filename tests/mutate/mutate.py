#!/usr/bin/env python3
"""Random one-line changes of the storage core, compiled and judged by its tests: do they see it?

    mutate.py [--seed N] [--count N] [--least PERCENT] [--results FILE]

A mutant is one comparison turned, one constant moved by one, one statement or one branch dropped, in storage/journal, storage/log or
storage/disk. It is killed when a test, a seed of the simulation or of the model, or a crash image fails, or runs into its time limit. The
change is made in a copy under build/mutate; what was judged is remembered there, so that an interrupted run goes on. Before the first mutant
the unchanged copy must pass, and a canary that breaks the core must be killed: or this script proves nothing. The same seed and sources
always make the same mutants.

Lines that only log or assert are left alone: nothing but a reader, or nothing at all, could see them changed."""

import argparse
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutate"
SOURCE, BUILD = WORK / "source", WORK / "build"
FOLDERS = ("storage/journal", "storage/log", "storage/disk")
CANARY = ("storage/journal/journal.c", "MR_DISK_DSYNC", "0")

# Who judges. Their own order is that of the time they take on the unchanged sources, which also sets their limits.
JUDGES = [
    *((name, []) for name in (
        "test_journal", "test_log_life", "test_guard", "test_retention", "test_log_scan", "test_log_indexes", "test_log_memory",
        "test_admission", "test_space", "test_time_search", "test_producer_snapshot", "test_producer_state", "test_disk_uring",
        "test_tail_block", "test_txn_log", "test_compaction", "test_answers", "test_index_mend", "test_lost_entries",
        "test_lost_journal_files", "test_rescan", "test_untrue_index", "test_wall_clock", "test_wrong_base", "test_drop_unopened",
        "test_cold_turn", "test_scrub_scan", "test_scrub", "test_recycle_cut", "test_mutated_files", "test_model_log")),
    ("millrace-crash", ["--images=300", "--stride=29"]),
    ("millrace-crash", ["--images=1500", "--stride=17", "--from=40"]),
    ("millrace-sim", ["--seeds=20"]),
    ("millrace-sim", ["--seeds=80", "--from=21"]),
]
LIMIT_LEAST, LIMIT_TIMES = 20, 10  # seconds of CPU time, and so many times what the unchanged sources need
WAIT_LIMIT = 900

COMPARISONS = {"==": ["!="], "!=": ["=="], "<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"], "&&": ["||"],
               "||": ["&&"]}
STATEMENT = re.compile(r"^( +)(?=\S)(?!return|break|continue|goto|case|default|else|struct |enum |const |static |u?int\d+_t |size_t |bool |char )"
                       r"[^{}]*;$")


def code_of(text):
    """The lines of a file with comments and strings blanked out: what may be changed, at the same columns."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())
    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', blank, text).split("\n")


def changes_of(code, line):
    """Every (what, new line) of a line; `code` is it without comments and strings."""
    if code.lstrip().startswith("#") or re.search(r"mr_assert|mr_log\(|mr_unreachable|_Static_assert|MR_TRACE|mr_bug", code):
        return
    for m in re.finditer(r"(?<![-<>=!&|])(==|!=|<=|>=|<|>|&&|\|\|)(?![<>=&|])", code):
        if code[m.start() - 1] == " ":
            for other in COMPARISONS[m.group()]:
                yield "comparison", line[:m.start()] + other + line[m.end():]
    for m in re.finditer(r"(?<![-\w.])(\d+)(?=u?\b)(?!\.)", code):
        if not re.match(r"^(static |#|struct |    [\w ]+ \**\w+\[)", code):
            for step in (1, -1):
                if int(m.group()) + step >= 0:
                    yield "constant", line[:m.start()] + str(int(m.group()) + step) + line[m.end():]
    m = STATEMENT.match(code)
    if m and code.count("(") == code.count(")"):
        yield "statement", m.group(1) + ";"
    m = re.match(r"^( +(?:\} else )?if \()(.*)(\) \{)$", code)
    if m:
        yield "branch", line[:m.end(1)] + "0 && (" + line[m.end(1):m.start(3)] + ")" + line[m.start(3):]


def whole_statements(code):
    """Lines that are the whole of a statement: the line above has ended something."""
    above = ";"
    for number, line in enumerate(code):
        if line.strip():
            if above[-1] in ";{}:":
                yield number
            above = line.rstrip()


def mutants(seed, count):
    prng = random.Random(seed)
    files = sorted(p for folder in FOLDERS for p in (ROOT / folder).glob("*.c"))
    by_kind = {}
    for path in files:
        text = path.read_text()
        code, lines = code_of(text), text.split("\n")
        whole = set(whole_statements(code))
        for number, line in enumerate(lines):
            for what, new in changes_of(code[number], line):
                if what != "statement" or number in whole:
                    by_kind.setdefault(what, []).append((str(path.relative_to(ROOT)), number, what, line, new))
    kinds = sorted(by_kind)
    chosen = []
    while len(chosen) < count:
        one = prng.choice(by_kind[prng.choice(kinds)])
        if one not in chosen:
            chosen.append(one)
    return chosen


def run(argv, cpu_seconds=None):
    """The exit status, "time" when it ran into a limit. Of CPU time, that a busy machine does not stretch, and of a long wait."""
    limit = (lambda: resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds)))) if cpu_seconds else None
    try:
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=WAIT_LIMIT,
                                cwd=SOURCE, preexec_fn=limit).returncode
    except subprocess.TimeoutExpired:
        return "time"
    return "time" if -status in (signal.SIGXCPU, signal.SIGKILL) else status


def build(targets):
    return run(["cmake", "--build", str(BUILD), "--parallel", str(os.cpu_count()), *sum((["--target", t] for t in targets), [])]) == 0


def cpu_used():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Judges:
    """In the order of the time they take, once that is known."""

    def __init__(self):
        self.ordered = [(name, arguments, 600) for name, arguments in JUDGES]

    def judge(self):
        """What fails, "build" when a judge does not compile, or None; and how long each took. Each is linked when it is its turn: most mutants
        meet only the first ones."""
        took = []
        for name, arguments, limit in self.ordered:
            if not build([name]):
                return "build", took
            started = cpu_used()
            status = run([str(BUILD / name), *arguments], limit)
            took.append((cpu_used() - started, name, arguments))
            if status != 0:
                return " ".join([name, *arguments]) + (" (time)" if status == "time" else ""), took
        return None, took

    def measure(self):
        """The unchanged sources: what fails, or None."""
        why, took = self.judge()
        self.ordered = [(name, arguments, LIMIT_LEAST + LIMIT_TIMES * seconds) for seconds, name, arguments in sorted(took)]
        return why


def set_up():
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    for name in filter(None, names):
        to = SOURCE / name
        if (ROOT / name).is_file() and not (to.exists() and to.read_bytes() == (ROOT / name).read_bytes()):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to)
    if not (BUILD / "build.ninja").exists():
        launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        subprocess.run(["cmake", "-S", str(SOURCE), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_C_COMPILER=gcc", "-DCMAKE_BUILD_TYPE=None",
                        "-DCMAKE_C_FLAGS=-O1 -w", *launcher], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def with_change(judges, path, number, new):
    """None: does not compile; otherwise what killed it, or ''."""
    file = SOURCE / path
    old = file.read_text()
    lines = old.split("\n")
    lines[number] = new
    file.write_text("\n".join(lines))
    try:
        why = judges.judge()[0]
        return None if why == "build" else why or ""
    finally:
        file.write_text(old)


def canary(judges):
    path, text, new = CANARY
    lines = (SOURCE / path).read_text().split("\n")
    number = next(n for n, line in enumerate(lines) if text in line)
    return with_change(judges, path, number, lines[number].replace(text, new))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--least", type=int, default=80, help="percent that must be killed")
    parser.add_argument("--results", help="where ./dev collects what passed and failed")
    options = parser.parse_args()
    results = []
    print("seed=%d repeat: ./dev mutate --seed %d --count %d" % (options.seed, options.seed, options.count), flush=True)
    set_up()
    judges = Judges()
    why = judges.measure() if build(sorted({name for name, _ in JUDGES})) else "build"
    if why is not None:
        print("the unchanged sources do not pass: %s" % why)
        return 1
    why = canary(judges)
    print("canary: %s" % (("killed by " + why) if why else "SURVIVED: this run proves nothing"), flush=True)
    results.append(("pass" if why else "fail", "mutate-canary"))
    done_path = WORK / ("judged-%d" % options.seed)
    done = dict(line.rsplit("\t", 1) for line in done_path.read_text().splitlines()) if done_path.exists() else {}
    killed = judged = 0
    spare = mutants(options.seed, options.count * 2)  # some do not compile
    for path, number, what, line, new in spare:
        if judged == options.count:
            break
        key = "%s:%d\t%s\t%s\t%s" % (path, number + 1, what, line.strip(), new.strip())
        started = time.monotonic()
        if key not in done:
            why = with_change(judges, path, number, new)
            done[key] = "-" if why is None else why or "SURVIVED"
            with open(done_path, "a") as f:
                f.write("%s\t%s\n" % (key, done[key]))
        if done[key] == "-":
            continue
        judged += 1
        killed += done[key] != "SURVIVED"
        print("%3d %4.0f s  %s:%d %s: %s  ->  %s   [%s]" % (judged, time.monotonic() - started, path, number + 1, what, line.strip(),
                                                        new.strip(), done[key]), flush=True)
    percent = 100 * killed // max(judged, 1)
    print("%d of %d killed: %d %%" % (killed, judged, percent))
    results.append(("pass" if percent >= options.least and judged > 0 else "fail", "mutate (%d of %d killed)" % (killed, judged)))
    if options.results:
        with open(options.results, "a") as f:
            f.writelines("%s\t%s\t\n" % r for r in results)
    return 0 if all(r[0] == "pass" for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
