"""rows.tsv: which row of the checklist is shown by which test, by what, and which broken broker the test
must catch. `python3 tests/interop/lib/rows.py` checks the table without running anything."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

# Rows that this version shows whole, and rows of which one broker can show a part.
WHOLE = [1, 6, 7, 11, 14, 15, 16, 23, 25, 30, 31, 33, 34, 35, 37, 38, 40, 41, 44, 46, 51, 52, 53, 55, 57, 58, 60,
         63, 64, 65, 69, 71, 73, 74, 75, 77, 79, 80, 81, 84]
PARTLY = [2, 13, 17, 19, 24, 32, 43, 45, 49, 61, 66, 70]


def table(path=HERE / "rows.tsv"):
    """[(row, test, observable, bug)]; row "-" for tests beyond the checklist."""
    out = []
    for n, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        f = line.split("\t")
        if len(f) != 4:
            raise ValueError("%s:%d: %d columns, not 4" % (path.name, n, len(f)))
        out.append(tuple(f))
    return out


def pairs():
    return [(test, bug) for _, test, _, bug in table() if bug != "-"]


def tests_in_source(folder=HERE / "cases"):
    names = set()
    for p in sorted(folder.glob("*.py")):
        names.update(re.findall(r"^@test\([^\n]*\)\ndef (\w+)\(", p.read_text(), re.M))
    return names


def problems(rows, tests):
    found = []
    covered = {}
    for row, test, observable, _ in rows:
        if test not in tests:
            found.append("row %s names a test that does not exist: %s" % (row, test))
        if not observable.strip():
            found.append("row %s, %s: no observable" % (row, test))
        covered.setdefault(row, []).append(test)
    for row in WHOLE + PARTLY:
        if str(row) not in covered:
            found.append("row %d has no test" % row)
    named = {t for _, t, _, _ in rows}
    for t in sorted(tests - named):
        found.append("test %s is in no row of rows.tsv" % t)
    return found


if __name__ == "__main__":
    bad = problems(table(), tests_in_source())
    print("\n".join(bad))
    sys.exit(1 if bad else 0)
