#!/usr/bin/env python3
"""run.sh as a step of ./dev test: builds the sanitized peer, runs the comparison, reports.

    run.py [--results FILE]     append "pass|fail <tab> name <tab> reason"
"""

import argparse
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", help="where to append the verdicts")
    options = parser.parse_args()
    build = ROOT / "build" / "dev"
    # Built again each time: a peer of yesterday would prove yesterday's codec.
    if subprocess.run(["cmake", "--build", str(build), "--target", "codec_peer"], stdout=subprocess.DEVNULL).returncode:
        lines, status = ["FAIL codec_peer: does not build"], 1
    else:
        run = subprocess.run([str(HERE / "run.sh"), str(build)], stdout=subprocess.PIPE, text=True)
        lines, status = run.stdout.splitlines(), run.returncode
        sys.stdout.write(run.stdout)
    failed = [line[5:] for line in lines if line.startswith("FAIL ")]
    last = re.fullmatch(r"(\d+) passed, 0 failed, 0 skipped", lines[-1] if lines else "")
    if status == 0 and last and not failed:
        verdicts = [f"pass\tcodec/differential\t{last.group(1)} comparisons"]
    else:
        verdicts = [f"fail\tcodec/{line.split(':')[0]}\t{line[:300]}" for line in failed]
        verdicts = verdicts or ["fail\tcodec/differential\t" + (lines[-1] if lines else "no output")]
    if options.results:
        with open(options.results, "a", encoding="utf-8") as results:
            results.write("".join(line.replace("\n", " ") + "\n" for line in verdicts))
    return 0 if verdicts[0].startswith("pass") else 1


if __name__ == "__main__":
    sys.exit(main())
