"""What operators see: metrics over HTTP, and whether the broker is alive and ready."""

import contextlib
import ctypes
import os
import re
import urllib.error
import urllib.request

from lib.broker import free_port
from lib.case import test
from lib.helpers import perf_produce

LINE = re.compile(r'([a-z_]+)(?:\{([^}]*)\})? (\S+)$')


def get(port, path):
    """(status, text)"""
    try:
        with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=20) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def metrics(t, port):
    """{name{labels}: value}; each has a type, and comes after it."""
    status, text = get(port, "/metrics")
    t.equal(status, 200, "status of /metrics")
    found, kinds = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            kinds[line.split()[2]] = line.split()[3]
        elif not line.startswith("#"):
            m = LINE.match(line)
            t.check(m is not None, "not a sample: %s", line)
            family = re.sub(r"_(bucket|sum|count)$", "", m.group(1))
            t.check(m.group(1) in kinds or kinds.get(family) == "histogram", "%s has no type", m.group(1))
            found[m.group(1) + ("{%s}" % m.group(2) if m.group(2) else "")] = float(m.group(3))
    return found


@test(millrace_only=True)
def metrics_say_what_happened(t):
    """Counters rise by what a client has sent, under Kafka's names too; an idle broker stays idle while nobody asks."""
    port = free_port()
    b = t.own({"millrace.metrics.listener": "127.0.0.1:%d" % port})
    t.equal(get(port, "/ready"), (200, "ready\n"), "/ready")
    t.equal(get(port, "/health"), (200, "alive\n"), "/health")
    topic = t.topic(3, broker=b)
    before = metrics(t, port)
    perf_produce(t, topic, 500, 100, broker=b)
    after = metrics(t, port)
    records = after["kafka_server_brokertopicmetrics_messagesin_total"] - before["kafka_server_brokertopicmetrics_messagesin_total"]
    t.check(500 <= records <= 520, "500 records and some of the metadata log, counted as %d", records)
    t.check(after["kafka_server_brokertopicmetrics_bytesin_total"] - before["kafka_server_brokertopicmetrics_bytesin_total"] > 50000, "bytes")
    produces = after['kafka_network_requestmetrics_requests_total{request="Produce"}']
    t.check(produces >= 1, "Produce requests")
    t.equal(after['millrace_request_seconds_count{request="Produce"}'], produces, "answered")
    t.equal(after['millrace_request_seconds_bucket{request="Produce",le="+Inf"}'], produces, "in buckets")
    t.equal(after["kafka_controller_kafkacontroller_globaltopiccount"] - before["kafka_controller_kafkacontroller_globaltopiccount"], 0, "topics")
    t.check(after["kafka_server_replicamanager_partitioncount"] >= 3, "partitions")
    t.check(before["process_start_time_seconds"] > 1.7e9 and after["process_cpu_seconds_total"] > 0, "process")
    t.check(abs(after["process_resident_memory_bytes"] / 1024 - b.rss_kib()) < 4096, "memory")


@test(millrace_only=True)
def only_what_there_is_over_http(t):
    """Other paths, methods and ports: a clear answer; a name or a port that is taken: refused at the start, by its key."""
    port = free_port()
    b = t.own({"millrace.metrics.listener": "127.0.0.1:%d" % port})
    t.equal(get(port, "/")[0], 404, "another path")
    request = urllib.request.Request("http://127.0.0.1:%d/metrics" % port, data=b"x" * 100000)
    try:
        urllib.request.urlopen(request, timeout=20)
        t.check(False, "POST was taken")
    except urllib.error.HTTPError as e:
        t.equal(e.code, 405, "POST")
    for value, why in (("127.0.0.1:%d" % port, "Address already in use"), ("localhost", "expected an address and a port")):
        other = t.own({"millrace.metrics.listener": value}, start=False)
        other.start(wait=False)
        t.equal(other.process.wait(30), 1, "exit status with %s" % value)
        other.process = None
        t.check("millrace.metrics.listener=" + value in other.log_tail() and why in other.log_tail(), "it says %s", other.log_tail())


@contextlib.contextmanager
def frozen(t, tid):
    """One thread stands still: ptrace stops it alone, where a signal would stop all of them."""
    seize, interrupt, detach, any_clone = 0x4206, 0x4207, 17, 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(seize, tid, None, None) != 0:
        t.skip("ptrace is not permitted here: %s" % os.strerror(ctypes.get_errno()))
    libc.ptrace(interrupt, tid, None, None)
    os.waitpid(tid, any_clone)
    try:
        yield
    finally:
        libc.ptrace(detach, tid, None, None)


@test(millrace_only=True)
def a_stuck_thread_is_not_healthy(t):
    """A core that stands still: 503 that says so, and well again when it goes on."""
    port = free_port()
    b = t.own({"millrace.metrics.listener": "127.0.0.1:%d" % port})
    core = next(tid for tid in os.listdir("/proc/%d/task" % b.pid)
                if open("/proc/%d/task/%s/comm" % (b.pid, tid)).read().startswith("core"))
    with frozen(t, int(core)):
        status, text = get(port, "/health")
        t.equal(status, 503, "/health")
        t.check("has not answered" in text, "it says %s", text)
    t.eventually(lambda: get(port, "/health") == (200, "alive\n"), 20, "healthy again")
