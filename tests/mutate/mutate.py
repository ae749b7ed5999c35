#!/usr/bin/env python3
"""Random one-line changes of the storage core, compiled and judged by its tests: do they see it?

    mutate.py [--seed N] [--count N] [--least PERCENT] [--results FILE]

A mutant is one comparison turned, one constant moved by one, one statement or one branch dropped, in storage/journal, storage/log or
storage/disk. It is killed when a test of the storage core, a crash image, a seed of the simulation or one of its failures of disk and memory
fails, or runs into its time limit; all of them under ASan and UBSan, cheapest first, as many at once as there are cores. The change is made
in a copy under build/mutate, of the sources as they were when the run began; what was judged is remembered there, so that an interrupted run
goes on. Before the first mutant the unchanged copy must pass, and a canary that breaks the core must be killed: or this script proves
nothing. The same seed and sources always make the same mutants.

Lines that only log or assert are left alone: nothing but a reader, or nothing at all, could see them changed."""

import argparse
import os
import queue
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutate"
SOURCE, BUILD, BEGUN, JUDGED, UNDO = (WORK / name for name in ("source", "build", "begun", "judged", "undo"))
FOLDERS = ("storage/journal", "storage/log", "storage/disk")
CANARY = ("storage/journal/journal.c", "MR_DISK_DSYNC", "0")

# Who judges. Their own order is that of the time they take on the unchanged sources, which also sets their limits. What has to do with the
# format of batches only (storage/batch) is left out.
JUDGES = [
    *((test.stem, []) for test in sorted((ROOT / "tests/unit/storage").glob("test_*.c")) if not re.match("test_(batch|compress)", test.stem)),
    *((fuzzer, ["tests/fuzz/corpora/" + fuzzer]) for fuzzer in ("fuzz_index", "fuzz_log", "fuzz_recover")),
    ("millrace-crash", ["--images=300", "--stride=29"]),
    ("millrace-crash", ["--images=1500", "--stride=17", "--from=40"]),
    ("millrace-sim", ["--seeds=20"]),
    ("millrace-sim", ["--seeds=80", "--from=21"]),
    ("millrace-sim", ["--seed=1", "--nth=31"]),
    ("millrace-sim", ["--seed=1", "--empty=97"]),
]
LIMIT_LEAST, LIMIT_TIMES = 20, 10  # seconds of CPU time, and so many times what the unchanged sources need
WAIT_LIMIT = 300  # one that waits for what never comes uses no CPU

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
    files = sorted(p for folder in FOLDERS for p in (SOURCE / folder).glob("*.c"))
    by_kind = {}
    for path in files:
        text = path.read_text()
        code, lines = code_of(text), text.split("\n")
        whole = set(whole_statements(code))
        for number, line in enumerate(lines):
            for what, new in changes_of(code[number], line):
                if what != "statement" or number in whole:
                    by_kind.setdefault(what, []).append((str(path.relative_to(SOURCE)), number, what, line, new))
    kinds = sorted(by_kind)
    chosen = []
    while len(chosen) < count:
        one = prng.choice(by_kind[prng.choice(kinds)])
        if one not in chosen:
            chosen.append(one)
    return chosen


def start(argv, cpu_seconds):
    """A limit of CPU time is one that a busy machine does not stretch."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds)))
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=SOURCE,
                            preexec_fn=limit)


def wait(process, given_up):
    """The exit status, "time" when it ran into a limit, 0 when nobody wants to know any more; and the CPU time it took."""
    until = time.monotonic() + WAIT_LIMIT
    why = None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid != 0:
            process.returncode = os.waitstatus_to_exitcode(status)
            if why is None:
                why = "time" if -process.returncode in (signal.SIGXCPU, signal.SIGKILL) else process.returncode
            return why, usage.ru_utime + usage.ru_stime
        if why is None and (given_up.is_set() or time.monotonic() > until):
            why = 0 if given_up.is_set() else "time"
            process.kill()
        time.sleep(0.01)


class Judges:
    """In the order of the time they take, once that is known."""

    def __init__(self):
        self.ordered = [(name, arguments, 600) for name, arguments in JUDGES]

    def judge(self):
        """The first that fails, "build" when a judge does not compile, or None; and how long each took."""
        if subprocess.run(["ninja", "-C", str(BUILD), *sorted({name for name, _ in JUDGES})], stdout=subprocess.DEVNULL).returncode != 0:
            return "build", []
        waiting, failed, took, one_failed = queue.SimpleQueue(), [], [], threading.Event()
        for judge in self.ordered:
            waiting.put(judge)

        def work():
            while not one_failed.is_set():
                try:
                    name, arguments, limit = waiting.get_nowait()
                except queue.Empty:
                    return
                status, seconds = wait(start([str(BUILD / name), *arguments], limit), one_failed)
                took.append((seconds, name, arguments))
                if status != 0:
                    failed.append(" ".join([name, *arguments]) + (" (time)" if status == "time" else ""))
                    one_failed.set()

        workers = [threading.Thread(target=work) for _ in range(os.cpu_count())]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return (failed[0] if failed else None), took

    def measure(self):
        """The unchanged sources: what fails, or None."""
        why, took = self.judge()
        self.ordered = [(name, arguments, LIMIT_LEAST + LIMIT_TIMES * seconds) for seconds, name, arguments in sorted(took)]
        return why


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def copy_sources():
    names = set(filter(None, git("ls-files").split("\n")))
    for old in [p for p in SOURCE.rglob("*") if p.is_file() and str(p.relative_to(SOURCE)) not in names]:
        old.unlink()
    for name in names:
        to = SOURCE / name
        if (ROOT / name).is_file() and not (to.exists() and to.read_bytes() == (ROOT / name).read_bytes()):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to)


def undo():
    """What an interrupted run left changed."""
    if UNDO.exists():
        path, old = UNDO.read_text().split("\n", 1)
        (SOURCE / path).write_text(old)
        UNDO.unlink()


def set_up(seed):
    """Begins a run, or goes on with the one that was interrupted. Returns the commit whose sources are judged."""
    undo()
    begun = BEGUN.read_text().split() if BEGUN.exists() else []
    if begun[:1] != [str(seed)]:
        BEGUN.unlink(missing_ok=True)
        JUDGED.unlink(missing_ok=True)
        copy_sources()
        begun = [str(seed), git("rev-parse", "--short", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")]
        BEGUN.write_text(" ".join(begun))
    if not (BUILD / "build.ninja").exists():
        launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        subprocess.run(["cmake", "-S", str(SOURCE), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_C_COMPILER=gcc", "-DCMAKE_BUILD_TYPE=Debug",
                        "-DMR_SANITIZE=ON", "-DCMAKE_C_FLAGS=-w", *launcher], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return begun[1]


def with_change(judges, path, number, new):
    """None: does not compile; otherwise what killed it, or ''."""
    file = SOURCE / path
    old = file.read_text()
    lines = old.split("\n")
    lines[number] = new
    UNDO.write_text(path + "\n" + old)
    file.write_text("\n".join(lines))
    try:
        why = judges.judge()[0]
        return None if why == "build" else why or ""
    finally:
        undo()


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
    commit = set_up(options.seed)
    print("seed=%d commit=%s repeat: ./dev mutate --seed %d --count %d" % (options.seed, commit, options.seed, options.count), flush=True)
    judges = Judges()
    why = judges.measure()
    if why is not None:
        print("the unchanged sources do not pass: %s" % why)
        return 1
    why = canary(judges)
    print("canary: %s" % (("killed by " + why) if why else "SURVIVED: this run proves nothing"), flush=True)
    results.append(("pass" if why else "fail", "mutate-canary"))
    done = dict(line.rsplit("\t", 1) for line in JUDGED.read_text().splitlines()) if JUDGED.exists() else {}
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
            with open(JUDGED, "a") as f:
                f.write("%s\t%s\n" % (key, done[key]))
        if done[key] == "-":
            continue
        judged += 1
        killed += done[key] != "SURVIVED"
        print("%3d %4.0f s  %s:%d %s: %s  ->  %s   [%s]" % (judged, time.monotonic() - started, path, number + 1, what, line.strip(),
                                                        new.strip(), done[key]), flush=True)
    BEGUN.unlink()
    percent = 100 * killed // max(judged, 1)
    print("%d of %d killed: %d %%" % (killed, judged, percent))
    results.append(("pass" if percent >= options.least and judged > 0 else "fail", "mutate (%d of %d killed)" % (killed, judged)))
    if options.results:
        with open(options.results, "a") as f:
            f.writelines("%s\t%s\t\n" % r for r in results)
    return 0 if all(r[0] == "pass" for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
