#!/usr/bin/env python3
"""What the broker promises about its own machinery, under stock clients:

    threads_have_no_races               build/tsan/millrace, cores that share a thread and cores that do not
    cores_allocate_nothing_in_service   build/release/millrace with a counting malloc in front of libc's
    dev_runs_on_tap, dev_runs_on_af_xdp ./dev run --transport=dpdk: the line it prints, kill -9, nothing left behind

    machine.py [--results FILE] [name...]

Beside run.py, whose tests run against one release binary and each have a broken broker that they catch."""

import argparse
import os
import re
import subprocess
import sys
import time
import traceback

from lib import broker as brokers
from lib import case, clients, deps

TSAN = deps.ROOT / "build" / "tsan" / "millrace"


def _start_with(b, **variables):
    """Start a broker with variables in its environment and nobody else's."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        b.start()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _traffic(t, b, rounds, records=200):
    """Producers with and without idempotence, in four codecs, a group, topics that come and go."""
    from lib.helpers import python_consumer, python_producer
    for number in range(rounds):
        topic = t.topic(partitions=4, broker=b)
        p = python_producer(b.bootstrap, **{"enable.idempotence": number % 2 == 0, "linger.ms": 1,
                                            "compression.type": ["none", "lz4", "gzip", "zstd"][number % 4]})
        c = python_consumer(b.bootstrap, **{"group.id": topic, "auto.offset.reset": "earliest",
                                            "enable.auto.commit": True, "auto.commit.interval.ms": 100})
        c.subscribe([topic])
        for i in range(records):
            p.produce(topic, key=b"%d" % i, value=b"v" * (1 + i * 37 % 3000))
        t.equal(p.flush(30), 0, "messages left in the producer")
        got, deadline = 0, time.monotonic() + 30
        while got < records and time.monotonic() < deadline:
            m = c.poll(1.0)
            got += m is not None and m.error() is None
        t.equal(got, records, "records that the group read")
        c.close()
        if number % 2 == 0:
            t.admin(b).delete_topics([topic], operation_timeout=20)[topic].result(30)


def threads_have_no_races(t):
    """The broker under ThreadSanitizer: threads with both roles, then with separate ones."""
    if not TSAN.exists():
        raise case.Skip("build/tsan/millrace is not built")
    for conf in ({"millrace.cores": "2"}, {"millrace.cores.data": "0", "millrace.cores.storage": "0"}):
        b = t.own(conf, start=False)
        b.binary = TSAN
        _start_with(b, TSAN_OPTIONS="exitcode=66 halt_on_error=0")
        _traffic(t, b, 4)
        status = b.stop()
        races = re.findall(r"WARNING: ThreadSanitizer.*?\n(?:.*\n){0,12}", b.log_path.read_text(errors="replace"))
        t.equal(races[:1], [], "what ThreadSanitizer says with %s" % conf)
        t.equal(status, 0, "exit status")


def cores_allocate_nothing_in_service(t):
    """A counting malloc in front of libc's: after LISTEN no thread that serves clients or disks calls it."""
    library = t.dir / "count_malloc.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, deps.HERE / "count_malloc.c", "-ldl"], check=True)
    calls, armed = t.file("calls"), t.file("armed")
    b = t.own({}, start=False)
    b.format()
    b.formatted = True
    armed.touch()
    _start_with(b, LD_PRELOAD=str(library), MR_MALLOC_CALLS=str(calls), MR_MALLOC_ARMED=str(armed))
    armed.unlink()
    t.check(len(calls.read_text().splitlines()) > 0, "calls at start are counted")
    _traffic(t, b, 1)
    calls.write_text("")
    armed.touch()
    _traffic(t, b, 4)
    armed.unlink()
    t.equal(b.stop(), 0, "exit status")
    t.equal([line for line in calls.read_text().splitlines() if re.match(r"core|data|storage", line)][:5], [],
            "calls of threads that serve clients or disks")


def _dev_run(t, port, ours, log):
    """./dev run --transport=dpdk --port=PORT until it says where it listens; the process is the broker then."""
    arguments = ["log.dirs=%s" % t.file("data"), "listeners=PLAINTEXT://%s.2:9092" % ours,
                 "millrace.dpdk.device=" + brokers.ON_PORT[port].card % ours.replace("10.", "mr"),
                 "millrace.dpdk.addresses=%s.2/24" % ours, "millrace.dpdk.host.addresses=%s.1/24" % ours]
    p = subprocess.Popen([deps.ROOT / "dev", "run", "--transport=dpdk", "--port=" + port, "--", *(x for a in arguments for x in ("--set", a))],
                         stdin=subprocess.DEVNULL, stdout=open(log, "ab"), stderr=subprocess.STDOUT)
    line = "listening on %s.2:9092 (dpdk, %s)\n" % (ours, port)
    t.eventually(lambda: p.poll() is not None or line in log.read_text(), 120, "the line in %s" % log)
    t.check(p.poll() is None, "dev run has ended: %s", log.read_text()[-2000:])
    return p


def _dev_runs_on(t, port):
    """Any client of the same machine reaches it; killed and started again it has its device and its records."""
    why = brokers.port_missing(port)
    if why:
        t.skip(why)
    ours = "10.%d.%d" % (64 + os.getpid() // 256 % 64, os.getpid() % 256)
    device = "/sys/class/net/" + ours.replace("10.", "mr")
    kcat = ["kcat", "-b", ours + ".2:9092", "-t", "greetings"]
    p = _dev_run(t, port, ours, t.file("first"))
    try:
        clients.run([*kcat, "-P"], "hello\n", 20)
        p.kill()
        p.wait()
        p = _dev_run(t, port, ours, t.file("second"))
        t.equal(clients.run([*kcat, "-C", "-o", "beginning", "-e", "-q"], None, 20).stdout(), "hello\n", "the record")
        p.terminate()
        t.equal(p.wait(30), 0, "exit status")
    finally:
        p.kill()
    t.eventually(lambda: not os.path.exists(device), 10, "the device to go")


def dev_runs_on_tap(t):
    _dev_runs_on(t, "tap")


def dev_runs_on_af_xdp(t):
    _dev_runs_on(t, "af_xdp")


TESTS = (threads_have_no_races, cores_allocate_nothing_in_service, dev_runs_on_tap, dev_runs_on_af_xdp)


def run(test, shared):
    """(verdict, reason)"""
    t = case.Context(test.__name__, shared)
    try:
        test(t)
        return "pass", ""
    except case.Skip as e:
        return "skip", str(e)
    except Exception:
        return "fail", traceback.format_exc(limit=-3) + "\n".join(b.log_tail(40) for b in t.brokers)
    finally:
        t.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*")
    p.add_argument("--results")
    arguments = p.parse_args()
    python = deps.venv_python()
    if os.path.realpath(sys.prefix) != os.path.realpath(os.path.dirname(os.path.dirname(python))):
        os.execv(python, [python, *sys.argv])
    shared = case.Shared("millrace")
    verdicts = []
    for test in TESTS:
        if arguments.names and not any(n in test.__name__ for n in arguments.names):
            continue
        started = time.monotonic()
        verdict, reason = run(test, shared)
        verdicts.append(verdict)
        print("%-44s %-5s %5.1f s  %s" % (test.__name__, verdict, time.monotonic() - started, reason), flush=True)
        if arguments.results:
            with open(arguments.results, "a") as f:
                f.write("%s\t%s\t%s\n" % (verdict, test.__name__, reason if verdict == "skip" else ""))
    shared.close()
    return int("fail" in verdicts)


if __name__ == "__main__":
    sys.exit(main())
