#!/usr/bin/env python3
"""Kills and power cuts on ext4 and XFS, as many as there is time for.

    torture.py --kills N --cuts N [--fs ext4|xfs] [--new] [--results FILE]

Runs the interop tests of that name in small lots, each on a fresh file system with lots of its own, and remembers in build/torture what was
done: when it is interrupted, the same command goes on. A lot that only came too late, because the machine had other things to do, is
run again. When all is done, and when something was found, a line for each file system goes
to the table in docs/TESTING.md. --new forgets what was done before."""

import argparse
import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / "build" / "torture"
TABLE = ROOT / "docs" / "TESTING.md"
MARK = "| date | commit | file system | what | runs | acknowledged records | lost, doubled or out of order |"
TESTS = {"kills": "kills_on_ext4_and_xfs", "cuts": "power_cuts_on_ext4_and_xfs"}
LOT = 20
LATE_MAX = 3  # in a row: that is no accident


def add_line(cells):
    lines = TABLE.read_text().split("\n")
    at = lines.index(MARK) + 2
    while lines[at].startswith("|"):
        at += 1
    lines.insert(at, "| %s |" % " | ".join(map(str, cells)))
    TABLE.write_text("\n".join(lines))


def lot(what, fs, first, count):
    """(records, None) or (0, what was found)."""
    env = dict(os.environ, MR_FS=fs, MR_CUTS=str(count), MR_FIRST=str(first))
    p = subprocess.run([sys.executable, str(ROOT / "tests/interop/run.py"), "--jobs", "1", "--keep", TESTS[what]], env=env, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    m = re.search(r"%s: %d %s, (\d+) records" % (fs, count, what), p.stdout)
    if p.returncode == 0 and m:
        return int(m.group(1)), None
    sys.stdout.write(p.stdout)
    if " 1 skipped" in p.stdout:
        return 0, "skipped"
    whys = set(re.findall(r" FAIL .*\n +(\w+)", p.stdout))
    return 0, "late" if whys and whys <= {"TimedOut", "Late", "not"} else "FAILED"  # "not finished within ..."


def torture(what, fs, wanted, is_new):
    """The name of what was found, or None."""
    state = STATE / ("%s-%s" % (what, fs))
    done, records = (0, 0) if is_new or not state.exists() else map(int, state.read_text().split())
    found, late = None, 0
    while done < wanted and found is None:
        count = min(LOT, wanted - done)
        some, found = lot(what, fs, done, count)
        if found == "late" and late < LATE_MAX:
            found, late = None, late + 1
        elif found is None:
            late = 0
            done, records = done + count, records + some
            state.write_text("%d %d\n" % (done, records))
            print("%s on %s: %d of %d, %d records" % (what, fs, done, wanted, records), flush=True)
    if found in (None, "FAILED"):
        add_line([datetime.date.today(), os.environ.get("MR_COMMIT", "?"), fs, what, done, records, "0" if found is None else "see below"])
        state.unlink(missing_ok=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--cuts", type=int, default=0)
    parser.add_argument("--fs", choices=["ext4", "xfs"])
    parser.add_argument("--new", action="store_true")
    parser.add_argument("--results", help="where ./dev collects what passed and failed")
    options = parser.parse_args()
    STATE.mkdir(parents=True, exist_ok=True)
    results = []
    for what, wanted in (("kills", options.kills), ("cuts", options.cuts)):
        for fs in [options.fs] if options.fs else ["ext4", "xfs"]:
            if wanted > 0:
                found = torture(what, fs, wanted, options.new)
                verdict = {None: "pass", "skipped": "skip"}.get(found, "fail")
                results.append("%s\ttorture/%s-%s\t%s\n" % (verdict, what, fs, found or ""))
    if options.results:
        with open(options.results, "a") as f:
            f.writelines(results)
    return 1 if any(r.startswith("fail") for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
