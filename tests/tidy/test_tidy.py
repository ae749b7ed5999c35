"""Each rule of tidy.py accepts a good tree and refuses a bad one."""

import tempfile
from pathlib import Path

import tidy

TESTS = []


def case(f):
    TESTS.append(f)
    return f


def said(rule, files):
    with tempfile.TemporaryDirectory() as d:
        root = Path(d)
        for top in ("include", "dataplane", "storage", "control"):
            (root / top).mkdir()
        for name, text in files.items():
            p = root / name
            p.parent.mkdir(parents=True, exist_ok=True)
            p.write_text(text)
        return rule(root)


def both(rule, good, bad):
    assert said(rule, good) == [], "refuses a good tree: %s" % said(rule, good)
    assert said(rule, bad), "accepts a bad tree"


@case
def test_headers_alone():
    both(tidy.rule_headers_alone, {"include/millrace/a.h": "#include <stdint.h>\nstruct mr_a { uint32_t x; };\n"},
         {"include/millrace/a.h": "struct mr_a { uint32_t x; };\n"})


@case
def test_unique_names():
    both(tidy.rule_unique_names, {"storage/a.c": "", "storage/a.h": ""}, {"storage/a.c": "", "control/x/a.c": ""})


@case
def test_planes_apart():
    both(tidy.rule_planes_apart, {"storage/log/x.h": "", "storage/log/y.c": '#include "log/x.h"\n'},
         {"storage/log/x.h": "", "control/y.c": '#include "log/x.h"\n'})
    assert said(tidy.rule_planes_apart, {"control/y.c": '#include "../storage/log/x.h"\n'})


@case
def test_todo_numbered():
    word = "TO" "DO"
    both(tidy.rule_todo_numbered, {"storage/a.c": "/* %s(#7) later */\n" % word}, {"storage/a.c": "/* %s later */\n" % word})


@case
def test_public_comments():
    both(tidy.rule_public_comments, {"include/a.h": "/* What it does. */\nint mr_a_x(int n);\nint mr_a_y(int n);\n"},
         {"include/a.h": "#include <stdint.h>\n\nint mr_a_x(int n);\n"})


@case
def test_api_table():
    row = 'API( 1, FETCH, fetch, "Fetch",\n     4, 18, 12, 4, DATA, TOPIC, READ, SERVED)\n'
    both(tidy.rule_api_table, {"include/millrace/kafka/api.def": row, "docs/PROTOCOL.md": "| 1 | Fetch | 4-18 | 12 | x |\n"},
         {"include/millrace/kafka/api.def": row, "docs/PROTOCOL.md": "| 1 | Fetch | 4-17 | 12 | x |\n"})


@case
def test_fail_table():
    code = "bool mr_a_x(void)\n{\n    return mr_fail(MR_FAIL_a);\n}\n"
    good = {"include/millrace/base/fail.def": "FAIL(a)\n", "storage/a.c": code,
            "docs/TESTING.md": "**What can be empty**\n\n| `a` | x |\n\n## B\n"}
    both(tidy.rule_fail_table, good, {**good, "docs/TESTING.md": "**What can be empty**\n\n| `b` | x |\n"})
    both(tidy.rule_fail_table, good, {**good, "storage/a.c": ""})


@case
def test_config_table():
    row = 'CONFIG(a_b, "a.b", INT, "1", ANY, READ_ONLY, "", "What.")\n'
    both(tidy.rule_config_table, {"include/millrace/config.def": row, "docs/CONFIG.md": "| `a.b` | int |\n"},
         {"include/millrace/config.def": row, "docs/CONFIG.md": "| `a.c` | int |\n"})


@case
def test_metrics_table():
    row = 'TOTAL(DATA, x, GAUGE, "a_b", "What.")\n'
    both(tidy.rule_metrics_table, {"control/observe/metrics.def": row, "control/observe/metrics.c": "", "docs/METRICS.md": "| `a_b` | gauge | What. |\n"},
         {"control/observe/metrics.def": row, "control/observe/metrics.c": "", "docs/METRICS.md": "| `a_b` | gauge | Who. |\n"})


@case
def test_config_effect():
    def row(differs, text):
        return ('CONFIG(a_b, "a.b", INT, "1", ANY, READ_ONLY, "%s", "What.")\n'
                'TOPIC_CONFIG(b, "b", a_b, INT, "1", ANY, "%s")\n' % (differs, text))

    name = "include/millrace/config.def"
    use = {"control/a.c": "int x = config->a_b;"}
    both(tidy.rule_config_effect, {name: row("accepted, no effect: why", "What; no effect.")},
         {name: row("", "What; no effect.")})
    both(tidy.rule_config_effect, {name: row("", "What; no effect."), **use}, {name: row("", "What."), **use})
    both(tidy.rule_config_effect, {name: row("", "What."), "control/a.c": "NUMBER(b)"},
         {name: row("", "What."), "control/a.c": "/* NUMBER(b) config->a_b */"})


@case
def test_symbols():
    assert tidy.complaints_of_symbols("storage/log/a.c", ["memcpy", "mr_b_c", "ZSTD_compress"], ["mr_a_b"]) == []
    assert tidy.complaints_of_symbols("storage/log/a.c", ["malloc"], [])
    assert tidy.complaints_of_symbols("storage/log/a.c", ["clock_gettime"], [])
    assert tidy.complaints_of_symbols("storage/log/a.c", [], ["helper"])
    assert tidy.complaints_of_symbols("storage/disk/disk_uring.c", ["io_uring_submit"], []) == []


@case
def test_interop_rows():
    import sys
    sys.path.insert(0, str(tidy.ROOT / "tests/interop"))
    from lib import rows
    every, named = [("1", "t", "o", "b"), ("2", "t", "o", "b")], {1: ("f", "-"), 2: ("f", "part")}
    assert rows.problems(every, {"t"}, {"b"}, (1, 2), named) == []
    assert rows.problems(every[1:], {"t"}, {"b"}, (1, 2), named), "a promised row without a test"
    assert rows.problems(every, {"t", "unlisted"}, {"b"}, (1, 2), named), "a test without a row"
    assert rows.problems(every, {"t"}, {"b"}, (1, 2, 3), {**named, 3: ("f", "-")}), "a promised row without a line"
    assert rows.problems([("1", "t", "o", "-")] + every, {"t"}, {"b"}, (1, 2), named), "a test without a mutant"
    assert rows.problems(every, {"t"}, {"b", "unused"}, (1, 2), named), "a mutant without a test"
    good = "x\n" + rows.BEGIN + rows.readme_table(every, named) + rows.END + "y\n"
    assert rows.readme_problems(good, every, named) == []
    assert rows.readme_problems(good, every[1:], named), "an old table in the README"
    assert rows.readme_problems("x\n", every, named), "no table in the README"
