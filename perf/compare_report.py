"""The report of perf/compare.py: cells to medians, intervals and ratios, tables and plots, one HTML file.

Plots are made by gnuplot as SVG and stand in the page; without gnuplot the page says so."""

import html
import json
import platform
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLORS = {"millrace": "#0b6e4f", "kafka": "#b3541e", "before": "#b3541e", "bare": "#5b5b8c", "null": "#999999"}

# What is compared, per kind of cell: title, how to read it from a cell, whether more is better, format.
METRICS = {
    "load": [
        ("MB/s", lambda c: volume(c) or None, True, "%.1f"),
        ("requests/s", lambda c: c["requests_per_s"] or None, True, "%.0f"),
        ("p50 us", lambda c: percentile(c, "p50"), False, "%.0f"),
        ("p99 us", lambda c: percentile(c, "p99"), False, "%.0f"),
        ("p99.9 us", lambda c: percentile(c, "p99.9"), False, "%.0f"),
        ("broker CPU s/GB", lambda c: c["broker_cpu_s_per_gb"] if volume(c) else None, False, "%.3f"),
        ("broker CPU s/GB of the wire", lambda c: c.get("broker_cpu_s_per_wire_gb") or None, False, "%.3f"),
        ("connects/s", lambda c: c.get("connects_per_s") or None, True, "%.0f"),
        ("commits/s", lambda c: c.get("commits_per_s") or None, True, "%.0f"),
        ("backfill MB/s", lambda c: c.get("beside", {}).get("fetched_mb_per_s"), True, "%.0f"),
        ("system CPU s/GB", lambda c: c["system_cpu_s_per_gb"] if volume(c) else None, False, "%.3f"),
        ("broker CPU us/request", lambda c: c["broker_cpu_us_per_request"], False, "%.1f"),
        ("broker RSS MiB", lambda c: c["broker_rss_mib"], False, "%.0f"),
        ("switches/request", lambda c: c["broker_switches_per_request"], False, "%.2f"),
        ("flushes/MB", lambda c: c["disk_flushes"] / (c["mb_per_s"] * c["seconds"]) if c["mb_per_s"] else None, False, "%.2f"),
    ],
    "kill": [
        ("first produce s", lambda c: c["first_produce_s"], False, "%.2f"),
        ("first read s", lambda c: c["first_read_s"], False, "%.2f"),
        ("records lost or wrong", lambda c: c.get("wrong_records"), False, "%.0f"),
    ],
    "start": [
        ("start ms", lambda c: c["start_ms"], False, "%.0f"),
        ("RSS MiB", lambda c: c["rss_mib"], False, "%.1f"),
        ("idle CPU %", lambda c: c["idle_cpu_percent"], False, "%.2f"),
    ],
}


def volume(cell):
    """MB of values per second, both ways."""
    return cell["mb_per_s"] + cell["fetched_mb_per_s"]


def latency(cell):
    """End to end where it was measured, else from the intended start to the answer."""
    return next((cell[name] for name in ("e2e_us", "produce_us", "commit_us") if cell.get(name, {}).get("count")), cell["produce_us"])


def percentile(cell, name):
    """None when nothing that was due in the measured time has been answered."""
    return latency(cell)[name] if latency(cell)["count"] else None


def kind_of(cell):
    return "kill" if "first_produce_s" in cell else "start" if "start_ms" in cell else "load"


def headline(cell):
    if cell.get("failed"):
        return "FAILED: " + "; ".join(cell.get("reasons", []))[:150]
    names = {"load": ("MB/s", "requests/s", "commits/s", "backfill MB/s", "p99 us"), "kill": ("first produce s", "records lost or wrong"), "start": ("start ms", "RSS MiB")}
    kind = kind_of(cell)
    words = ["%s %s" % (f % get(cell), name) for name, get, _, f in METRICS[kind] if name in names[kind] and get(cell) is not None]
    return ", ".join(words) + ("" if cell["valid"] else " INVALID") + (" (saturated)" if cell.get("saturated") else "")


def commit():
    return shell("git", "rev-parse", "--short", "HEAD") + ("" if not shell("git", "status", "--porcelain", "-uno") else "+")


def shell(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def session(bench):
    """What the figures depend on besides the programs."""
    disks = {}
    for queue in Path("/sys/block").glob("*/queue"):
        if not queue.parent.name.startswith(("loop", "ram")):
            disks[queue.parent.name] = {k: (queue / k).read_text().strip() for k in ("write_cache", "scheduler", "fua", "nr_requests", "physical_block_size")
                                        if (queue / k).is_file()}
    cpu = re.search(r"Model name:\s*(.*)", shell("lscpu"))
    return {
        "size": bench.size, "seconds per load cell": bench.a.seconds or "as the scenario says",
        "kernel": platform.release(), "cpu": cpu.group(1) if cpu else "", "cpus": len(__import__("os").sched_getaffinity(0)),
        "memory": shell("free", "-m").splitlines()[1].split()[1] + " MiB", "disks": disks, "filesystem": shell("findmnt", "-no", "SOURCE,FSTYPE,OPTIONS", "-T", "/tmp"),
        "java": shell("java", "-version") or "OpenJDK 17", "kafka": "Apache Kafka 4.3.1, heap %s, %s collector" % (bench.a.heap, bench.a.collector),
        "memory limit of the brokers": "4 GiB by cgroup" if bench.memory.path else "none: cgroups cannot be had here",
        "rival": bench.a.rival,
        "repetitions": {s.name: bench.repetitions(s) for s in bench.scenarios}, "layout": bench.a.layout.text,
    }


# ---- numbers ----


def cells_of(out):
    return [json.loads(p.read_text()) for p in sorted((out / "cells").glob("*.json"))]


def is_noisy(cell):
    """Steal over 1 %, or others used more than 2 % of the machine in it or more than a tenth before it."""
    if cell.get("others_busy", 0) > 0.1:
        return True
    if kind_of(cell) != "load":
        return False
    foreign = cell["system_busy_s"] - cell["broker_cpu_s"] - cell["generator_cpu_s"]
    return cell["system_steal_s"] > 0.01 * cell["seconds"] or foreign > 0.02 * cell["seconds"] + 0.1 * cell["system_busy_s"]


def interval(values):
    """Bootstrap, 95 %, of the median."""
    if len(values) < 3:
        return min(values), max(values)
    chooser = random.Random(1)
    medians = sorted(statistics.median(chooser.choices(values, k=len(values))) for _ in range(1000))
    return medians[25], medians[974]


def rows_of(cells):
    """{(scenario, point, durability): {system: [cells]}} in order; failed ones are kept to be named."""
    rows = {}
    for c in cells:
        key = (c["cell"]["scenario"], c["cell"]["point"], c["cell"]["durability"])
        rows.setdefault(key, {}).setdefault(c["cell"]["system"], []).append(c)
    return dict(sorted(rows.items(), key=lambda kv: (int(re.sub(r"\D", "", kv[0][0]) or 0), kv[0][2], [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", kv[0][1])])))


def figures(found, metric):
    """Median, interval and samples of one metric; None without one. Runs that are invalid count only where there is no other."""
    done = [c for c in found if not c.get("failed")]
    good = [c for c in done if c["valid"]]
    values = [v for v in (metric[1](c) for c in good or done) if v is not None]
    if not values:
        return None
    low, high = interval(values)
    return {"median": statistics.median(values), "low": low, "high": high, "count": len(values), "is_valid": bool(good),
            "is_saturated": any(c.get("saturated") for c in good or done)}


def ratio(a, b):
    return a["median"] / b["median"] if a and b and b["median"] else None


# ---- plots ----


class Plots:
    def __init__(self):
        self.gnuplot = shutil.which("gnuplot")
        self.made = {}

    def draw(self, name, title, commands, series, style="linespoints lw 2 pt 7 ps 0.4"):
        """series: [(label, color, [(x, y)])]; commands come before the plot."""
        series = [s for s in series if s[2]]
        if not self.gnuplot or not series:
            return ""
        with tempfile.TemporaryDirectory() as work:
            lines = ["set terminal svg size 720,360 dynamic font 'sans,12' background '#ffffff'", "set output '%s/plot.svg'" % work,
                     "set title '%s'" % title.replace("'", ""), "set grid", "set key outside right"] + commands
            parts = []
            for n, (label, color, points) in enumerate(series):
                data = Path(work) / ("%d.dat" % n)
                data.write_text("".join("%g %g\n" % p for p in points))
                parts.append("'%s' using 1:2 with %s lc rgb '%s' title '%s'" % (data, style, color, label))
            script = Path(work) / "plot.gp"
            script.write_text("\n".join(lines) + "\nplot " + ", ".join(parts) + "\n")
            subprocess.run([self.gnuplot, str(script)], check=True, capture_output=True, timeout=60)
            svg = (Path(work) / "plot.svg").read_text()
        svg = svg[svg.index("<svg"):]
        # Several drawings share a page: their ids must not.
        svg = re.sub(r"(id=['\"]|href=['\"]#|url\(#)", lambda m: m.group(0) + name + "_", svg)
        self.made[name] = svg
        return "<figure>%s</figure>" % svg

    def percentiles(self, name, title, row):
        """Latency against 1 / (1 - part), both logarithmic: a straight way to p99.99."""
        series = []
        for system, found in row.items():
            buckets = {}
            for c in found:
                if not c.get("failed"):
                    for us, count in latency(c)["buckets"]:
                        buckets[us] = buckets.get(us, 0) + count
            total, seen, points = sum(buckets.values()), 0, []
            for us in sorted(buckets):
                seen += buckets[us]
                if seen < total and total - seen >= 1:
                    points.append((total / (total - seen), max(us, 1)))
            series.append((system, COLORS[system], thin(points)))
        return self.draw(name, title, ["set logscale xy", "set xrange [1.05:20000]", "set xlabel 'percentile'", "set ylabel 'us'",
                                       "set xtics ('p50' 2, 'p90' 10, 'p99' 100, 'p99.9' 1000, 'p99.99' 10000)"], series, "lines lw 2")

    def flatness(self, name, title, rows, metric, label):
        series = []
        for system in COLORS:
            points = []
            for (_, point, _), row in rows:
                number = re.match(r"p(\d+)", point)
                got = figures(row.get(system, []), metric)
                if number and got:
                    points.append((int(number.group(1)), got["median"]))
            series.append((system, COLORS[system], sorted(points)))
        return self.draw(name, title, ["set logscale x", "set xlabel 'partitions'", "set ylabel '%s'" % label, "set yrange [0:*]"], series)

    def bars(self, name, title, groups, label):
        """groups: [(text, {system: value})]. The null server does nothing: its bar would hide the others."""
        groups = [(text, {s: v for s, v in values.items() if s != "null"}) for text, values in groups]
        groups = [g for g in groups if g[1]]
        if not self.gnuplot or not groups:
            return ""
        systems = [s for s in COLORS if any(s in g[1] for g in groups)]
        with tempfile.TemporaryDirectory() as work:
            data = Path(work) / "bars.dat"
            data.write_text("".join("\"%s\" %s\n" % (text, " ".join("%g" % values[s] if s in values else "NaN" for s in systems)) for text, values in groups))
            plot = ", ".join("'%s' using %d%s title '%s' lc rgb '%s'" % (data, n + 2, ":xtic(1)" if n == 0 else "", s, COLORS[s]) for n, s in enumerate(systems))
            script = Path(work) / "plot.gp"
            script.write_text("set terminal svg size 720,360 dynamic font 'sans,12' background '#ffffff'\nset output '%s/plot.svg'\nset title '%s'\nset style data histograms\n"
                              "set style fill solid 0.9\nset grid ytics\nset key outside right\nset ylabel '%s'\nset yrange [0:*]\nset xtics rotate by -30\nplot %s\n" % (work, title, label, plot))
            subprocess.run([self.gnuplot, str(script)], check=True, capture_output=True, timeout=60)
            svg = (Path(work) / "plot.svg").read_text()
        svg = re.sub(r"(id=['\"]|href=['\"]#|url\(#)", lambda m: m.group(0) + name + "_", svg[svg.index("<svg"):])
        self.made[name] = svg
        return "<figure>%s</figure>" % svg


def thin(points, most=200):
    """Points at equal steps of the logarithm of x."""
    out, last = [], 0.0
    for x, y in points:
        if x >= last * 1.04:
            out.append((x, y))
            last = x
    return out[-most:]


# ---- the page ----


STYLE = """body{font:15px/1.45 sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;margin:1em 0}
td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right;font-variant-numeric:tabular-nums}td:first-child,th:first-child,td.t{text-align:left}.invalid{color:#b00;font-size:85%}
.lose{background:#fbe3d6}.win{background:#e3f3ea}.small{color:#666;font-size:85%}figure{margin:1em 0}"""


def cell_text(metric, got):
    if not got:
        return "<td></td>"
    spread = " <span class=small>%s–%s</span>" % (metric[3] % got["low"], metric[3] % got["high"]) if got["count"] > 1 else ""
    return "<td>%s%s%s</td>" % (metric[3] % got["median"], spread, "" if got["is_valid"] else " <span class=invalid>invalid</span>")


def floor_of(row, kind, metric, send):
    """The floor's figure beside Millrace's: the bare loop's, of starts the null server's. What is read again costs at least
    the kernel's copy into the socket, which a plain send loop shows."""
    got = figures(row.get("bare" if kind == "load" else "null", []), metric)
    mine = [c for c in row.get("millrace", []) if not c.get("failed")]
    if not got or kind != "load" or not mine or not any(c["fetched_mb_per_s"] for c in mine):
        return got
    made, read = (statistics.median(c[key] for c in mine) for key in ("mb_per_s", "fetched_mb_per_s"))
    if metric[0] == "MB/s":
        share = (made + read) / made if made else 0
    elif metric[0] == "broker CPU s/GB" and send:
        at = (got["median"] * made + send["sender_cpu_s_per_gb"] * read) / (made + read)
        return {**got, "median": at, "low": at, "high": at}
    elif metric[0].startswith("p"):
        share = 1  # nothing is read before it is acknowledged
    else:
        return None  # of requests that the floor was not asked
    return {**got, **{k: got[k] * share for k in ("median", "low", "high")}}


class Lists:
    """What the page says in front of the tables."""

    def __init__(self):
        self.losses, self.distances, self.bound = [], [], []

    def take(self, key, metric, m, k, floor, null, is_open_loop):
        against = ratio(m, k)
        if is_loss(metric, against):
            self.losses.append((key, metric, m, k, against))
        far = ratio(m, floor)
        # What a saturated run says of latency says how long it was.
        if far and metric[0] in FAR and not (is_open_loop and (metric[2] or m["is_saturated"] or floor["is_saturated"])):
            self.distances.append((1 / far if metric[2] else far, key, metric, m, floor))
        if null and metric[0] == "requests/s" and not is_open_loop and ratio(null, m) < HEADROOM:
            self.bound.append((key, metric, m, null, ratio(null, m)))


FAR = ("MB/s", "p50 us", "p99 us", "broker CPU s/GB", "start ms", "first produce s")
HEADROOM = 1.5  # the generator must reach so many times a rate that it reports


def is_loss(metric, against):
    return against is not None and (against < 1 if metric[2] else against > 1)


def scenario_table(rows, lists, send):
    rival = "before" if any("before" in row for _, row in rows) else "kafka"
    out = ["<table><tr><th>point</th><th>class</th><th>figure</th><th>Millrace</th><th>%s</th><th>Millrace / %s</th><th>floor</th>"
           "<th>Millrace / floor</th><th>null / Millrace</th></tr>" % (rival, rival)]
    for key, row in rows:
        _, point, durability = key
        some = next((c for found in row.values() for c in found if not c.get("failed")), {})
        kind = kind_of(some)
        for metric in METRICS[kind]:
            m, k, n = (figures(row.get(s, []), metric) for s in ("millrace", rival, "null"))
            floor = floor_of(row, kind, metric, send)
            if not m and not k:
                continue
            lists.take(key, metric, m, k, floor, n, bool(some.get("asked_requests_per_s")))
            against = ratio(m, k)
            out.append("<tr class=%s><td>%s</td><td class=t>%s</td><td class=t>%s</td>%s%s<td>%s</td>%s<td>%s</td><td>%s</td></tr>" % (
                "lose" if is_loss(metric, against) else "", html.escape(point), durability, metric[0], cell_text(metric, m), cell_text(metric, k),
                number(against), cell_text(metric, floor), number(ratio(m, floor)), number(ratio(n, m) if metric[2] else None)))
        for system, found in row.items():
            out += ["<tr><td>%s</td><td class=t>%s</td><td class=t colspan=7><span class=small>%s: %s</span></td></tr>" % (
                html.escape(point), durability, system, html.escape(remark)) for remark in remarks(found)]
    return "\n".join(out + ["</table>"])


def remarks(found):
    """What a reader must know about these runs."""
    out = sorted({r for c in found for r in c.get("reasons", []) or ([] if not c.get("failed") else ["failed"])})
    for what, count in (("invalid", sum(not c["valid"] and not c.get("failed") for c in found)), ("failed", sum(bool(c.get("failed")) for c in found))):
        if count and len(found) > 1:
            out.append("%d of %d runs are %s" % (count, len(found), what))
    noisy = sum(map(is_noisy, (c for c in found if not c.get("failed"))))
    if noisy:
        out.append("the machine was not alone in %d of %d runs" % (noisy, len(found)))
    return out


def flatness_table(rows):
    """W4 as it is judged: each figure divided by that of the run with 1 partition."""
    out, limits = [], ((0, "throughput", 0.9), (5, "CPU per GB", 1.3), (3, "p99", 1.3))
    for part, of in (("rate", "50 MB/s"), ("half", "half of the maximum")):
        mine = {int(point[1:].split("-")[0]): row for (_, point, durability), row in rows if point.endswith("-" + part) and durability == "durable"}
        for system in ("millrace", "kafka", "before", "bare"):
            one = mine.get(1, {}).get(system)
            for partitions in sorted(mine):
                found = mine[partitions].get(system)
                if partitions == 1 or not one or not found:
                    continue
                cells = []
                for at, _, limit in limits:
                    r = ratio(figures(found, METRICS["load"][at]), figures(one, METRICS["load"][at]))
                    is_good = r is not None and (r >= limit if limit < 1 else r <= limit)
                    cells.append("<td class=%s>%s</td>" % ("win" if is_good else "lose", number(r)))
                out.append("<tr><td class=t>%s</td><td>%s</td><td>%d</td>%s<td>%d</td></tr>" % (system, asked(found) or of, partitions, "".join(cells), min(len(one), len(found))))
    if not out:
        return ""
    head = "".join("<th>%s (%s %g)</th>" % (name, "at least" if limit < 1 else "at most", limit) for _, name, limit in limits)
    return "<p>Flatness, as a part of the run with 1 partition:</p><table><tr><th>system</th><th>rate</th><th>partitions</th>%s<th>runs</th></tr>%s</table>" % (head, "\n".join(out))


def asked(found):
    rates = [c["options"]["rate.bytes"] / 1e6 for c in found if c.get("options", {}).get("rate.bytes")]
    return "%.0f MB/s" % statistics.median(rates) if rates else ""


def number(value):
    return "" if value is None else "%.2f" % value


def floors_table(floors):
    out = ["<table><tr><th>floor</th><th>figure</th></tr>"]
    for row in floors.get("cpu", []):
        out.append("<tr><td>%s</td><td>%.4f CPU s/GB</td></tr>" % (row["name"], row["cpu_s_per_gb"]))
    send = floors.get("send")
    if send:
        out.append("<tr><td>loopback, 1 MiB sends</td><td>%.2f GB/s, sender %.3f, receiver %.3f CPU s/GB</td></tr>" % (
            send["gb_per_s"], send["sender_cpu_s_per_gb"], send["receiver_cpu_s_per_gb"]))
    for row in floors.get("disk", []):
        out.append("<tr><td>disk, %s, %d KiB</td><td>p50 %d, p99 %d us, %.0f MB/s</td></tr>" % (row["kind"], row["bytes"] // 1024, row["p50_us"], row["p99_us"], row["mb_per_s"]))
    return "\n".join(out + ["</table>"])


def generator_lines(cells, floors):
    """Is the generator itself cheap and fast enough?"""
    send = floors.get("send", {}).get("sender_cpu_s_per_gb")
    costs = [c["generator_cpu_s_per_gb"] for c in cells if c["cell"]["scenario"] in ("W1", "W2") and c["cell"]["system"] == "null" and not c.get("failed")]
    if not send or not costs:
        return ""
    return "<p>The generator against the null server costs %.3f CPU s/GB, a plain send loop %.3f: %.2f times.</p>" % (
        min(costs), send, min(costs) / send)


def plots_of(plots, scenario, rows):
    load = METRICS["load"]
    out = []
    for (name, point, durability), row in rows:
        if (name == "W10" and point != "max") or (name == "W3" and point in ("c1-f1", "c64-f1")):
            out.append(plots.percentiles("%s%s%s" % (name, point, durability), "%s %s, %s: latency from the intended start" % (name, point, durability), row))
    if scenario == "W4":
        for part in ("rate", "half", "max"):
            some = [r for r in rows if r[0][1].endswith(part) and r[0][2] == "durable"]
            out.append(plots.flatness("W4%stp" % part, "W4 %s: throughput over partitions" % part, some, load[0], "MB/s"))
            out.append(plots.flatness("W4%scpu" % part, "W4 %s: CPU per GB over partitions" % part, some, load[5], "broker CPU s/GB"))
            out.append(plots.flatness("W4%sp99" % part, "W4 %s: p99 over partitions" % part, some, load[3], "us"))
    if scenario in ("W1", "W2", "W5", "W3", "W8"):
        for n, label in ((1, "requests/s") if scenario == "W3" else (0, "MB/s"), (5, "broker CPU s/GB")):
            groups = [("%s %s" % (key[1], key[2][0]), {s: figures(found, load[n])["median"] for s, found in row.items() if figures(found, load[n])}) for key, row in rows]
            out.append(plots.bars("%sbars%d" % (scenario, n), "%s: %s" % (scenario, label), groups, label))
    if scenario in ("W11", "W12"):
        metric = METRICS["kill" if scenario == "W11" else "start"][0]
        groups = [("%s" % key[1], {s: figures(found, metric)["median"] for s, found in row.items() if figures(found, metric)}) for key, row in rows]
        out.append(plots.bars("%sbars" % scenario, "%s: %s" % (scenario, metric[0]), groups, metric[0]))
    return "\n".join(out)


def listed(other, rows):
    """rows: [((scenario, point, class), metric, Millrace's figures, the other's, their ratio)]"""
    if not rows:
        return "<p>None.</p>"
    return "<table><tr><th>row</th><th>class</th><th>figure</th><th>Millrace</th><th>%s</th><th>ratio</th></tr>%s</table>" % (other, "".join(
        "<tr><td>%s %s</td><td class=t>%s</td><td class=t>%s</td>%s%s<td>%.2f</td></tr>" % (s, html.escape(p), d, metric[0], cell_text(metric, m), cell_text(metric, k), r)
        for (s, p, d), metric, m, k, r in rows))


def measured(cells):
    """When the cells were made, of what, and how quiet it was."""
    made, commits = sorted(c["made"] for c in cells if "made" in c), sorted({c["commit"] for c in cells if "commit" in c})
    noisy = sum(is_noisy(c) for c in cells if not c.get("failed"))
    return {"measured": " to ".join(dict.fromkeys((made[0], made[-1]))) if made else "", "commits": ", ".join(commits),
            "the machine": "was alone" if not noisy else "was not alone in %d of %d runs" % (noisy, len(cells)), "cells": len(cells)}


def write(out):
    """report.html and plots/*.svg from what lies in `out`; returns the page's path."""
    cells = cells_of(out)
    info = json.loads((out / "session.json").read_text()) if (out / "session.json").is_file() else {}
    floors = json.loads((out / "floors.json").read_text()) if (out / "floors.json").is_file() else {}
    rows, plots, lists, parts = rows_of(cells), Plots(), Lists(), []
    for scenario in dict.fromkeys(k[0] for k in rows):
        mine = [(k, v) for k, v in rows.items() if k[0] == scenario]
        path = ROOT / "perf" / "scenarios" / (scenario + ".scn")
        text = " ".join(line[2:] for line in path.read_text().splitlines() if line.startswith("# "))
        table = scenario_table(mine, lists, floors.get("send"))
        flat = flatness_table(mine) if scenario == "W4" else ""
        parts.append("<h2>%s</h2><p>%s</p>%s%s%s" % (scenario, html.escape(text), plots_of(plots, scenario, mine), flat, table))
    info = {**info, **measured(cells)}
    facts = "".join("<tr><td>%s</td><td class=t>%s</td></tr>" % (html.escape(k), html.escape(json.dumps(v) if isinstance(v, dict) else str(v))) for k, v in info.items())
    rival = info.get("rival", "Apache Kafka 4.3.1")
    page = "<!doctype html><meta charset=utf-8><title>Millrace and %s, %s</title><style>%s</style>" % (rival, info.get("size", ""), STYLE)
    page += "<h1>Millrace and %s</h1><table>%s</table>" % (rival, facts)
    page += "" if plots.gnuplot else "<p>gnuplot is not installed: there are no plots.</p>"
    page += "<p>Medians; beside them the 95 % interval of the median. Durable: acknowledged means flushed, for both. Relaxed: written, not flushed, for both; "
    page += "durable survives power loss, relaxed only the death of the process. Latency counts from the intended start. Rows where %s wins are coloured. " % rival
    page += "The floor is the bare loop (receive, one write, in the durable class a flush, answer; what is read costs what a plain send loop costs), of starts and recoveries the null server. "
    page += "Invalid: the generator could not do what was asked; such runs count only where there is no other. RSS: Millrace's cache of up to 1 GiB is in it, Kafka's, the page cache, is not.</p>"
    page += "<h2>Rows where %s wins</h2>" % rival + listed("the other", lists.losses)
    page += "<h2>Rows that are farthest from their floor</h2>" + listed("floor", [(key, metric, m, floor, ratio(m, floor)) for _, key, metric, m, floor in sorted(
        lists.distances, key=lambda d: -d[0])[:10]])
    page += "<h2>Rows where the generator reaches less than %g times the rate</h2><p>The null server takes these rates; what is reported may be the generator's.</p>" % HEADROOM
    page += listed("null server", lists.bound)
    page += "<h2>Floors, measured in this session</h2>" + generator_lines(cells, floors) + floors_table(floors) + "\n".join(parts)
    (out / "plots").mkdir(exist_ok=True)
    for name, svg in plots.made.items():
        (out / "plots" / (name + ".svg")).write_text("<?xml version='1.0'?>\n" + svg)
    (out / "report.html").write_text(page)
    return out / "report.html"


if __name__ == "__main__":
    import sys
    print(write(Path(sys.argv[1])))
