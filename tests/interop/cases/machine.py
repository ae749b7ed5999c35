"""What the broker promises about its own machinery: threads without races, no memory from malloc in service."""

import os
import re
import subprocess
import time

from lib import broker as brokers
from lib import case, deps
from lib.case import test
from lib.helpers import python_consumer, python_producer

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
    """Producers of all kinds, readers at the end and from the start, a group, topics that come and go."""
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


@test(seconds=150, millrace_only=True)
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


@test(seconds=120, millrace_only=True)
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
