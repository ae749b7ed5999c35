#!/usr/bin/env python3
"""Counting instead of timing: what the pure core does on fixed work, against perf/counts.tsv.

    perf/count.py [--update] [--results FILE] [CASE...]

    CASE               instructions of one time, under callgrind
    CASE.copies        bytes copied by memcpy for each byte of a batch, under DHAT: the way of the records. What the
                       tail copies past the caches (base/copy.h) is no memcpy: once more for a batch of 32 KiB and more
    CASE.allocations   calls of malloc and its like in one time, under DHAT
    CASE.writes ...    what one time asks of the disk: writes, bytes of them, flushes

A count is the difference of two runs of build/release/millrace-micro, divided by the difference of their times: exact
and the same on a busy machine. More than 3 % off fails, in either direction: a gain is written down with --update, and
git diff shows it. Counts are of gcc 12's code for x86-64; another compiler needs its own.

What system calls, wake-ups and completions a request costs in the real broker is counted by perf/count_calls.py."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MICRO = ROOT / "build" / "release" / "millrace-micro"
TABLE = ROOT / "perf" / "counts.tsv"
TIMES = (50, 150)
LARGE_TIMES = (100, 300)  # whole journal files, so that their turn-over is in both runs
TOLERANCE = 0.03
SIMULATED = ("sim_submit", "sim_reap")  # the disk's, called within the turn that is counted: within them counting pauses


def micro(valgrind, case, times):
    p = subprocess.run([*valgrind, str(MICRO), case, str(times)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if p.returncode != 0:
        raise RuntimeError("%s: exit %d\n%s" % (case, p.returncode, p.stderr[-800:]))
    return p


def instructions(case, function, times):
    toggles = ["--toggle-collect=" + name for name in (function, *SIMULATED)]
    p = micro(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *toggles], case, times)
    found = re.search(r"Collected : (\d+)", p.stderr)
    if not found or int(found.group(1)) == 0:
        raise RuntimeError("%s: nothing was collected in %s" % (case, function))
    return int(found.group(1))


def seen_by_dhat(mode, field, case, function, times):
    """What the core's own code did below `function`; what the simulated disk and network do is not its doing."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        micro(["valgrind", "--tool=dhat", "--mode=" + mode, "--num-callers=20", "--dhat-out-file=" + out.name], case, times)
        found = json.load(open(out.name))
    total = 0
    for point in found["pps"]:
        frames = [found["ftbl"][f] for f in point["fs"]]
        at = next((n for n, frame in enumerate(frames) if function in frame), 0)
        if at and not any(re.search(r"\((sim_disk|sim_transport|data_rig)\.c", frame) for frame in frames[:at]):
            total += point[field]
    return total


def asked_of_disk(case, times):
    words = micro([], case, times).stdout.split()
    return {words[i]: int(words[i + 1]) for i in range(0, len(words), 2)}


def count(row):
    """All figures of one case: name, number, what it is."""
    case, function, units, batch_bytes, text = row
    units, batch_bytes = int(units), int(batch_bytes)
    few, many = (instructions(case, function, n) for n in TIMES)
    out = [(case, (many - few) / (TIMES[1] - TIMES[0]) / units, text)]
    if batch_bytes:
        few, many = (seen_by_dhat("copy", "tb", case, function, n) for n in TIMES)
        out.append((case + ".copies", (many - few) / (TIMES[1] - TIMES[0]) / batch_bytes, "bytes copied by memcpy for each byte of its batches"))
    out.append((case + ".allocations", seen_by_dhat("heap", "tbk", case, function, TIMES[1]) / TIMES[1], "allocations"))
    few, many = (asked_of_disk(case, n) for n in LARGE_TIMES)
    each = {name: (many[name] - few[name]) / (LARGE_TIMES[1] - LARGE_TIMES[0]) for name in many}
    if any(each.values()):
        size = " of %.1f MB" % (batch_bytes / 1e6) if batch_bytes else ""
        out += [("%s.%s" % (case, name), number, "asked of the disk by one commit" + size) for name, number in each.items()]
    return out


def golden():
    lines = TABLE.read_text().splitlines() if TABLE.is_file() else []
    return {f[0]: f for f in (line.split("\t") for line in lines) if f[0] and not f[0].startswith("#")}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="CASE")
    p.add_argument("--update", action="store_true", default=bool(os.environ.get("MR_UPDATE")))
    p.add_argument("--results")
    a = p.parse_args()
    listed = subprocess.run([str(MICRO), "list"], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in listed.splitlines()]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = [figure for figures in pool.map(count, [r for r in rows if not a.names or r[0] in a.names]) for figure in figures]
    wanted, failed = golden(), 0
    for name, number, text in found:
        was = float(wanted[name][1]) if name in wanted else None
        is_good = a.update or (was is not None and abs(number - was) <= TOLERANCE * was + 0.005)
        failed += not is_good
        print("%-24s %12.2f  was %-12s %s  %s" % (name, number, was, "ok  " if is_good else "FAIL", text))
        if a.results:
            with open(a.results, "a") as f:
                f.write("%s\tcount/%s\t\n" % ("pass" if is_good else "fail", name))
    if a.update:
        kept = {} if not a.names else {n: (n, f[1], f[2]) for n, f in wanted.items()}
        kept.update({name: (name, "%.2f" % number, text) for name, number, text in found})
        TABLE.write_text("# made by perf/count.py --update\n" + "".join("\t".join(f) + "\n" for f in kept.values()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
