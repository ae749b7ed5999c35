#!/usr/bin/env python3
"""Write tests/golden/storage/*.tsv anew: batches, producer verdicts and snapshot files as Apache Kafka's
own classes make them.

    record_storage.py

Needs the jars that the interop tests need and a JDK; our code takes no part in it."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True

from lib import deps  # noqa: E402

GOLDEN = HERE.parent.parent / "golden" / "storage"


def main():
    GOLDEN.mkdir(exist_ok=True)
    for what in ("batches", "producers", "snapshots"):
        argv = ["java", "-cp", deps.classpath("tools"), str(HERE / "RecordStorage.java"), what]
        out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=sys.stderr,
                             timeout=120).stdout
        (GOLDEN / (what + ".tsv")).write_bytes(out)
        print("%s: %d lines" % (what, out.count(b"\n")))


if __name__ == "__main__":
    main()
