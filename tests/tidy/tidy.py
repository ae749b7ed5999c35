#!/usr/bin/env python3
"""What the compiler cannot see. Each rule is a function from a tree to a list of complaints, and each has a
tree that it must accept and one that it must refuse (test_tidy.py).

    tidy.py [--objects BUILD] [--results FILE]

--objects: a release build, for purity and symbols by `nm`."""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PLANES = ("dataplane", "storage", "control")

# The only files that may touch clocks, sockets, files, threads and malloc.
EDGES = re.compile(r"(^|/)(transport_[^/]*|disk_uring|wait_uring|chores|log_writer|main)\.c$|(^|/)(control/(boot|cli|http)|dataplane/port)/")
PURE = re.compile(
    r"^(mem(cpy|move|set|cmp|chr)|strlen|__mem(cpy|move|set)_chk|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_"
    r"|mr_\w+"
    r"|crc32_iscsi\w*|crc32c?_\w*|isal_\w+|(in|de)flate\w*|crc32|adler32|zlibVersion|compressBound"
    r"|LZ4F?_\w+|ZSTD_\w+|snappy_\w+|pcre2_\w+"
    r"|__(asan|ubsan|tsan|sanitizer)_\w+)$")


def sources(root, *suffixes):
    out = []
    for top in ("include",) + PLANES + ("tests", "perf"):
        for s in suffixes:
            out += [p for p in (root / top).rglob("*" + s) if "build" not in p.relative_to(root).parts]
    return sorted(out)


def rel(root, p):
    return str(p.relative_to(root))


def rule_headers_alone(root):
    """Every public header compiles as the only include of a file."""
    bad = []
    with tempfile.TemporaryDirectory() as tmp:
        for h in sorted((root / "include").rglob("*.h")):
            unit = Path(tmp) / "unit.c"
            unit.write_text('#include <%s>\ntypedef int mr_unit;\n' % h.relative_to(root / "include"))
            p = subprocess.run(["gcc", "-std=c17", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                                "-I", str(root / "include"), str(unit)], capture_output=True, text=True)
            if p.returncode:
                bad.append("%s does not compile alone: %s" % (rel(root, h), p.stderr.strip().splitlines()[0]))
    return bad


def rule_unique_names(root):
    """A base name names one file (a header and its source are one). A test is named after its subject."""
    seen, bad = {}, []
    for p in sources(root, ".c", ".h"):
        key = p.name
        if key in seen:
            bad.append("%s and %s have one name" % (rel(root, seen[key]), rel(root, p)))
        seen[key] = p
    return bad


def rule_planes_apart(root):
    """A plane includes include/, its own folder and the pure wire parts, and nothing else of another plane."""
    bad = []
    shared = {"dataplane": ("kafka",), "storage": ("batch",), "control": ()}
    private = {}
    for plane in PLANES:
        for p in (root / plane).rglob("*.h"):
            inside = p.relative_to(root / plane)
            if inside.parts[0] not in shared[plane] or len(inside.parts) == 1:
                private[str(inside)] = plane
    for plane in PLANES:
        for p in sorted((root / plane).rglob("*.[ch]")):
            for n, line in enumerate(p.read_text().splitlines(), 1):
                m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                if not m:
                    continue
                name = m.group(1)
                if name.startswith("..") or name.split("/")[0] in PLANES and name.split("/")[0] != plane:
                    bad.append("%s:%d includes %s" % (rel(root, p), n, name))
                elif private.get(name, plane) != plane and not (root / plane / name).exists() and not (p.parent / name).exists():
                    bad.append("%s:%d includes %s of %s" % (rel(root, p), n, name, private[name]))
    return bad


def rule_todo_numbered(root):
    """Unfinished work has a number, or it is nobody's."""
    bad = []
    for p in sources(root, ".c", ".h", ".def"):
        for n, line in enumerate(p.read_text().splitlines(), 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", line):
                bad.append("%s:%d: work without a number" % (rel(root, p), n))
    return bad


def rule_public_comments(root):
    """Every function declared in include/ has a comment above it, or above the group it stands in. The body of
    an inline function stands there to be read."""
    bad = []
    for p in sorted((root / "include").rglob("*.h")):
        lines = p.read_text().splitlines()
        for n, line in enumerate(lines):
            if not re.match(r"^[a-z][\w ]*[ *]+mr_\w+\(", line) or line.startswith(("static", "return", "typedef", "#")):
                continue
            above = n - 1
            while above >= 0 and lines[above].strip() and not lines[above].rstrip().endswith("*/") and lines[above] != "}":
                above -= 1
            if above < 0 or not lines[above].rstrip().endswith("*/"):
                bad.append("%s:%d: no comment: %s" % (rel(root, p), n + 1, line.strip()[:60]))
    return bad


def split_rows(text, macro):
    """The arguments of macro(...) rows, strings whole."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    rows = []
    for m in re.finditer(r"^%s\(" % macro, text, re.M):
        depth, i, in_string, part, parts = 1, m.end(), False, "", []
        while depth and i < len(text):
            c = text[i]
            if in_string:
                in_string = not (c == '"' and text[i - 1] != "\\")
            elif c == '"':
                in_string = True
            elif c == "(":
                depth += 1
            elif c == ")":
                depth -= 1
            if depth and not (c == "," and depth == 1 and not in_string):
                part += c
            else:
                parts.append(part.strip())
                part = ""
            i += 1
        rows.append(parts)
    return rows


def rule_api_table(root):
    """docs/PROTOCOL.md lists the rows of api.def: key, name, versions, flexible-from."""
    rows = split_rows((root / "include/millrace/kafka/api.def").read_text(), "API")
    doc = (root / "docs/PROTOCOL.md").read_text()
    table = {}
    for m in re.finditer(r"^\| (\d+) \| (\w+) \| (\d+)(?:-(\d+))?[^|]*\| ([^|]*) \|", doc, re.M):
        table[int(m.group(1))] = (m.group(2), int(m.group(3)), int(m.group(4) or m.group(3)), m.group(5).strip())
    bad = []
    for r in rows:
        key, name, low, high, flexible = int(r[0]), r[3].strip('"'), int(r[4]), int(r[5]), r[6]
        got = table.pop(key, None)
        if got is None:
            bad.append("api.def has %d %s, docs/PROTOCOL.md has not" % (key, name))
        elif got[:3] != (name, low, high) or (got[3].isdigit() and got[3] != flexible):
            bad.append("api.def: %s; docs/PROTOCOL.md: %s" % ((name, low, high, flexible), got))
    return bad + ["docs/PROTOCOL.md has %d, api.def has not" % k for k in table]


def rule_config_table(root):
    """docs/CONFIG.md lists the rows of config.def, each with its built-in value."""
    text = (root / "include/millrace/config.def").read_text()
    doc = (root / "docs/CONFIG.md").read_text()
    rows = {}
    for macro in sorted(set(re.findall(r"^([A-Z_]+)\(", re.sub(r"/\*.*?\*/", "", text, flags=re.S), re.M))):
        for r in split_rows(text, macro):
            if len(r) > 3 and re.fullmatch(r'"[\w.]+"', r[1]):
                rows.setdefault(r[1].strip('"'), []).append(r[3])
    table = re.findall(r"^\| `([\w.]+)` \|", doc, re.M)
    bad = ["config.def has %s, docs/CONFIG.md has not" % k for k in rows if k not in table]
    return bad + ["docs/CONFIG.md has %s, config.def has not" % k for k in table if k not in rows]


def rule_fail_table(root):
    """docs/TESTING.md says what happens at each place of fail.def, and each is asked somewhere."""
    rows = re.findall(r"^FAIL\((\w+)\)", (root / "include/millrace/base/fail.def").read_text(), re.M)
    said = re.search(r"\*\*What can be empty\*\*.*?(?=\n## |\Z)", (root / "docs/TESTING.md").read_text(), re.S)
    table = [n for row in re.findall(r"^\|([^|]*)\|", said.group(0) if said else "", re.M) for n in re.findall(r"`(\w+)`", row)]
    code = "".join(p.read_text() for p in sources(root, ".c", ".h") if p.relative_to(root).parts[0] in PLANES + ("include",))
    bad = ["fail.def has %s, docs/TESTING.md has not" % r for r in rows if r not in table]
    bad += ["docs/TESTING.md has %s, fail.def has not" % n for n in table if n not in rows]
    return bad + ["nobody asks for MR_FAIL_%s" % r for r in rows if not re.search(r"\bMR_FAIL_%s\b" % r, code)]


def rule_config_effect(root):
    """A key whose value no code reads says "no effect", so that docs/CONFIG.md promises nothing."""
    text = (root / "include/millrace/config.def").read_text()
    code = "".join(re.sub(r"/\*.*?\*/", "", p.read_text(), flags=re.S) for p in sources(root, ".c", ".h")
                   if p.relative_to(root).parts[0] in PLANES)
    read = set(re.findall(r"config(?:->|\.)(\w+)|\bMR_CONFIG_(\w+)", code))
    broker = {a or b for a, b in read}
    topic = {a or b for a, b in re.findall(r"\b(?:NUMBER|TEXT)\((\w+)\)|\bMR_TOPIC_CONFIG_(\w+)", code)}
    bad = []
    for row in split_rows(text, "TOPIC_CONFIG"):
        if row[0] in topic:
            broker.add(row[2])
        elif "no effect" not in row[6]:
            bad.append("config.def: nothing reads the topic key %s, and it does not say so" % row[1])
    for row in split_rows(text, "CONFIG"):
        if row[0] not in broker and "no effect" not in row[6]:
            bad.append("config.def: nothing reads %s, and it does not say so" % row[1])
    return bad


# The rows of the checklist that this version promises: whole, and as far as one broker can show them.
INTEROP_WHOLE = (1, 6, 7, 11, 14, 15, 16, 23, 25, 30, 31, 33, 34, 35, 37, 38, 40, 41, 44, 46, 51, 52, 53, 55, 57, 58, 60,
                 63, 64, 65, 69, 71, 73, 74, 75, 77, 79, 80, 81, 84)
INTEROP_PARTLY = (2, 13, 17, 19, 24, 32, 43, 45, 49, 61, 66, 70)


def rule_interop_rows(root):
    """Every promised row has a test, every test a broken broker to catch, and the README says so."""
    sys.path.insert(0, str(root / "tests/interop"))
    from lib import rows
    table, named = rows.table(), rows.features()
    bad = rows.problems(table, rows.tests_in_source(), rows.mutants_in_source(root), INTEROP_WHOLE + INTEROP_PARTLY, named,
                        rows.mutants_of_others(root))
    bad += ["row %d: features.tsv leaves something open, the promise does not" % r for r in INTEROP_WHOLE
            if named.get(r, ("", "-"))[1] != "-"]
    return bad + rows.readme_problems((root / "README.md").read_text(), table, named)


def complaints_of_symbols(name, undefined, defined):
    bad = []
    if not EDGES.search(name):
        bad += ["%s refers to %s" % (name, s) for s in undefined if not PURE.match(s)]
    return bad + ["%s defines %s" % (name, s) for s in defined if not s.startswith(("mr_", "__odr_asan")) and s != "main"]


def rule_symbols(root, objects):
    """Purity by `nm -u`, and mr_ on everything with external linkage."""
    bad, seen = [], 0
    for o in sorted(objects.rglob("*.o")):
        m = re.search(r"\.dir/((?:%s)/.*\.c)\.o$" % "|".join(PLANES), str(o))
        if not m:
            continue
        seen += 1
        out = subprocess.run(["nm", "-g", str(o)], capture_output=True, text=True).stdout
        undefined = [x.split()[-1] for x in out.splitlines() if " U " in x]
        defined = [x.split()[-1] for x in out.splitlines() if re.search(r" [TDBRVWC] ", x)]
        bad += complaints_of_symbols(m.group(1), undefined, defined)
    return bad if seen else ["%s holds no object of a plane" % objects]


def rule_metrics_table(root):
    """docs/METRICS.md lists the rows of metrics.def, each with its type and help."""
    rows = {}
    for macro in ("PER_CORE", "TOTAL"):
        for _, _, kind, name, text in split_rows((root / "control/observe/metrics.def").read_text(), macro):
            rows[name.strip('"')] = (kind.lower(), text.strip('"'))
    found = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|$", (root / "docs/METRICS.md").read_text(), re.M)
    table = {name: (kind, text) for name, kind, text in found}
    bad = ["metrics.def: %s %s; docs/METRICS.md: %s" % (n, rows[n], table.get(n)) for n in rows if table.get(n) != rows[n]]
    code = (root / "control/observe/metrics.c").read_text()
    return bad + ["docs/METRICS.md has %s, nothing in control/observe has" % n for n in table if n not in rows and n not in code]


RULES = [rule_headers_alone, rule_unique_names, rule_planes_apart, rule_todo_numbered, rule_public_comments, rule_api_table,
         rule_config_table, rule_metrics_table, rule_fail_table, rule_config_effect, rule_interop_rows]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--objects", type=Path)
    p.add_argument("--results")
    a = p.parse_args()
    failed = 0
    todo = [(r.__name__, r, (ROOT,)) for r in RULES]
    if a.objects:
        todo.append(("rule_symbols", rule_symbols, (ROOT, a.objects.resolve())))
    import test_tidy
    todo += [(f.__name__, lambda root, f=f: f() or [], (ROOT,)) for f in test_tidy.TESTS]
    for name, rule, args in todo:
        try:
            bad = rule(*args)
        except AssertionError as e:
            bad = [str(e) or "assertion"]
        failed += bool(bad)
        name = "tidy/" + name.replace("rule_", "")
        print("%-44s %s" % (name, "FAIL" if bad else "ok"))
        for b in bad[:20]:
            print("    " + b)
        if len(bad) > 20:
            print("    ... and %d more" % (len(bad) - 20))
        if a.results:
            with open(a.results, "a") as f:
                f.write("%s\t%s\t\n" % ("fail" if bad else "pass", name))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
