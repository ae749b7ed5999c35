"""Producers that run until something terrible happens, and what they were told."""

from .clients import ClientFailed
from .helpers import consume_all, read_values


class Load:
    """A Java and a librdkafka producer, acks=all, idempotent, on every partition of a topic; values are numbered
    per producer and partition. `rate`: records a second of each, as many as they can when it is 0."""

    def __init__(self, t, broker, topic, partitions, name, rate=0):
        self.t = t
        self.files = [t.file("java-%s" % name), t.file("py-%s" % name)]
        self.jvm = t.jvm()
        self.java = t.java_start(
            "produce", jvm=self.jvm, broker=broker, topic=topic, partitions=partitions, count=10 ** 9, size=60, out=self.files[0],
            prefix="j%s-" % name, rate=rate, report_every=500, stop_at_error=1, close_ms=1000, **{
                "p.acks": "all", "p.enable.idempotence": "true", "p.linger.ms": 1, "p.delivery.timeout.ms": 4000,
                "p.request.timeout.ms": 2000, "p.max.block.ms": 3000})
        self.python = t.python_start("producer.py", broker.bootstrap, topic, partitions, "p%s-" % name, self.files[1], "rate=%d" % rate)
        self.java.event("sent=", 30)
        self.python.line(lambda s: "started" in s, 30)

    def end(self, acked):
        """After the broker is gone: what they were told is added to {(partition, offset): value}. Returns how much."""
        self.java.tell("stop")
        self.python.signal(15)
        try:
            self.java.wait(30)
        except ClientFailed:
            pass  # its last records timed out, which is what a broker that is gone does
        self.python.wait(30)
        self.jvm.kill()
        n = 0
        for f in self.files:
            for partition, records in read_values(f).items():
                for offset, value in records:
                    other = acked.setdefault((partition, offset), value)
                    self.t.equal(other, value, "two records acknowledged at %d/%d" % (partition, offset))
                    n += 1
        return n


def check_acked(t, topic, acked, broker=None):
    """Every acknowledged record is where it was said to be; every value comes once, each producer's in order."""
    got = consume_all(t, topic, 10 ** 9, broker=broker, to_end=1, idle_ms=30000, timeout_s=200)
    read = {(p, o): v for p, records in got.items() for o, v in records}
    missing = [k for k in acked if read.get(k) != acked[k]]
    t.equal(missing[:5], [], "%d acknowledged records are lost or changed" % len(missing))
    for p, records in got.items():
        values = [v for _, v in records]
        t.equal(len(set(values)), len(values), "records of partition %d, each once" % p)
        last = {}
        for v in values:
            prefix, n = v.rstrip(".").rsplit(":", 1)
            t.check(int(n) > last.get(prefix, -1), "partition %d: %s after %d", p, v, last.get(prefix, -1))
            last[prefix] = int(n)
