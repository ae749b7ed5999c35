#!/usr/bin/env python3
"""Counting instead of timing: instructions of the pure core under callgrind, against perf/counts.tsv.

    perf/count.py [--update] [--results FILE] [CASE...]

A count is the difference of two runs of build/release/millrace-micro, divided by the difference of their times: exact
and the same on a busy machine. More than 3 % off fails, in either direction: a gain is written down with --update, and
git diff shows it. Counts are of gcc 12's code for x86-64; another compiler needs its own."""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MICRO = ROOT / "build" / "release" / "millrace-micro"
TABLE = ROOT / "perf" / "counts.tsv"
TIMES = (50, 150)
TOLERANCE = 0.03


def instructions(case, function, times):
    p = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=" + function, str(MICRO), case, str(times)],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    found = re.search(r"Collected : (\d+)", p.stderr)
    if p.returncode != 0 or not found or int(found.group(1)) == 0:
        raise RuntimeError("%s: exit %d\n%s" % (case, p.returncode, p.stderr[-800:]))
    return int(found.group(1))


def count(row):
    case, function, units, _ = row
    few, many = (instructions(case, function, n) for n in TIMES)
    return (many - few) / (TIMES[1] - TIMES[0]) / int(units)


def golden():
    lines = TABLE.read_text().splitlines() if TABLE.is_file() else []
    return {f[0]: float(f[1]) for f in (line.split("\t") for line in lines) if f[0] and not f[0].startswith("#")}


def store(rows, counts):
    TABLE.write_text("# instructions, made by perf/count.py --update\n" + "".join(
        "%s\t%.1f\t%s\n" % (case, counts[case], text) for case, _, _, text in rows))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="CASE")
    p.add_argument("--update", action="store_true", default=bool(os.environ.get("MR_UPDATE")))
    p.add_argument("--results")
    a = p.parse_args()
    listed = subprocess.run([str(MICRO), "list"], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in listed.splitlines()]
    chosen = [r for r in rows if not a.names or r[0] in a.names]
    wanted = golden()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        counts = dict(zip((r[0] for r in chosen), pool.map(count, chosen)))
    failed = 0
    for case, _, _, text in chosen:
        was = wanted.get(case)
        is_good = a.update or (was is not None and abs(counts[case] - was) <= TOLERANCE * was)
        failed += not is_good
        print("%-16s %10.1f  was %-10s %s  %s" % (case, counts[case], was, "ok  " if is_good else "FAIL", text))
        if a.results:
            with open(a.results, "a") as f:
                f.write("%s\tcount/%s\t\n" % ("pass" if is_good else "fail", case))
    if a.update:
        store(rows, {**{c: v for c, v in wanted.items() if c in {r[0] for r in rows}}, **counts})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
