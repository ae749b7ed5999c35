"""rows.tsv: which row of the checklist is shown by which test, by what, and which broken broker the test must
catch. features.tsv: what the rows are called. The README's table is made from both.

    python3 tests/interop/lib/rows.py [--update]     check without running anything; write the README's table"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
README = HERE.parent.parent / "README.md"
BEGIN = "<!-- made by tests/interop/lib/rows.py --update -->\n"
END = "<!-- end of the rows -->\n"


def _columns(path, count):
    out = []
    for n, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        f = line.split("\t")
        if len(f) != count:
            raise ValueError("%s:%d: %d columns, not %d" % (path.name, n, len(f), count))
        out.append(tuple(f))
    return out


def table(path=HERE / "rows.tsv"):
    """[(row, test, observable, bug)]; row "-" for tests beyond the checklist."""
    return _columns(path, 4)


def features(path=HERE / "features.tsv"):
    """{row: (feature, what is left open)}"""
    return {int(row): (feature, left) for row, feature, left in _columns(path, 3)}


def pairs():
    """Each (test, bug) once, in the order of the table."""
    return list(dict.fromkeys((test, bug) for _, test, _, bug in table()))


def tests_in_source(folder=HERE / "cases"):
    names = set()
    for p in sorted(folder.glob("*.py")):
        names.update(re.findall(r"^@test\([^\n]*\)\ndef (\w+)\(", p.read_text(), re.M))
    return names


def mutants_in_source(root=HERE.parent.parent):
    names = set()
    for plane in ("dataplane", "storage", "control"):
        for p in sorted((root / plane).rglob("*.c")):
            names.update(re.findall(r'\bmr_bug(?:_nth|_each)?\("([\w-]+)"', p.read_text()))
    return names


def mutants_of_others(root=HERE.parent.parent):
    """Mutants that the simulation must find, and those of which docs/TESTING.md says why nobody does."""
    listed = root / "tests" / "sim" / "mutants.txt"
    found = {x.strip() for x in listed.read_text().splitlines() if not x.startswith("#")} if listed.exists() else set()
    return found | set(re.findall(r"`([\w-]+)`", (root / "docs" / "TESTING.md").read_text()))


def problems(rows, tests, mutants, listed, named, others=frozenset()):
    """Complaints: `listed` rows must have a feature and a test, each test a row and a mutant that exists, each
    mutant somebody who finds it, here or among `others`."""
    found = []
    covered = {row for row, _, _, _ in rows}
    for row, test, observable, bug in rows:
        if test not in tests:
            found.append("row %s names a test that does not exist: %s" % (row, test))
        if not observable.strip():
            found.append("row %s, %s: no observable" % (row, test))
        if bug not in mutants:
            found.append("row %s, %s: no broken broker is called '%s'" % (row, test, bug))
    for row in listed:
        if str(row) not in covered:
            found.append("row %d has no test" % row)
        if row not in named:
            found.append("row %d has no line in features.tsv" % row)
    for test in sorted(tests - {t for _, t, _, _ in rows}):
        found.append("test %s is in no row of rows.tsv" % test)
    for bug in sorted(mutants - {b for _, _, _, b in rows} - others):
        found.append("nobody is to find the broken broker '%s'" % bug)
    return found


def readme_table(rows, named):
    """The table as the README has it: rows of the checklist, then what goes beyond it."""
    lines = ["| row | feature | what stock clients see, and the test | open |", "|---:|---|---|---|"]
    for row, (feature, left) in sorted(named.items()):
        shown = ["%s (`%s`)" % (observable, test) for r, test, observable, _ in rows if r == str(row)]
        lines.append("| %d | %s | %s | %s |" % (row, feature, "; ".join(shown), "" if left == "-" else left))
    for row, test, observable, _ in rows:
        if row == "-":
            lines.append("| | | %s (`%s`) | |" % (observable, test))
    return "\n".join(lines) + "\n"


def readme_problems(text, rows, named):
    """Whether the README's table is another one than the rows make."""
    if BEGIN not in text or END not in text:
        return ["README.md has no place for the rows: %s ... %s" % (BEGIN.strip(), END.strip())]
    if text.split(BEGIN, 1)[1].split(END, 1)[0] != readme_table(rows, named):
        return ["README.md: the table of rows is out of date; run python3 tests/interop/lib/rows.py --update"]
    return []


def update():
    before, rest = README.read_text().split(BEGIN, 1)
    README.write_text(before + BEGIN + readme_table(table(), features()) + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    if "--update" in sys.argv[1:]:
        update()
    bad = problems(table(), tests_in_source(), mutants_in_source(), [], features(), mutants_of_others())
    bad += readme_problems(README.read_text(), table(), features())
    print("\n".join(bad))
    sys.exit(1 if bad else 0)
