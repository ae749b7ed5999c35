"""Producers that outlive their broker: what a kill left unanswered they send again to the next one."""

from .helpers import consume_all

# Both keep the broker's address while it is away; else Java's send() waits until it is back, and librdkafka for a minute.
PATIENT = {"retry.backoff.ms": 20, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "metadata.recovery.strategy": "none"}
WAIT_S = 300  # nothing takes so long but a machine that stands still
RATE = 0  # as fast as they can: a commit is always in flight, also on a fast machine
PORTION = 8000  # of each client for a round, so that an audit stays short


class Lasting:
    """A Java and a librdkafka producer, acks=all, idempotent, on every partition of a topic of its own; values are
    numbered per producer and partition. `acked` is {(partition, offset): value} of all that they were told."""

    def __init__(self, t, broker, name, partitions=10):
        self.t, self.broker, self.partitions, self.acked = t, broker, partitions, {}
        self.topic = t.topic(partitions, broker=broker)
        files = [t.file("java-%s" % name), t.file("py-%s" % name)]
        self.java = t.java_start(
            "produce", broker=broker, topic=self.topic, partitions=partitions, size=60, out=files[0], prefix="j%s-" % name,
            rate=RATE, portion=PORTION, report_every=100, **{"p." + key: value for key, value in {
                **PATIENT, "acks": "all", "enable.idempotence": "true", "linger.ms": 1, "delivery.timeout.ms": 3000 * WAIT_S, "retry.backoff.max.ms": 50}.items()})
        self.python = t.python_start("producer.py", broker.bootstrap, self.topic, partitions, "p%s-" % name, files[1], "rate=%d" % RATE,
                                     "portion=%d" % PORTION,
                                     "message.timeout.ms=%d" % (3000 * WAIT_S), *("%s=%s" % setting for setting in PATIENT.items()))
        self.java.event("sent=", WAIT_S)
        self.python.line(lambda s: "started" in s, WAIT_S)
        self.files = [open(f) for f in files]
        self.parts = [""] * len(files)  # of a line that is not whole yet

    def go_on(self):
        self.java.tell("go")
        self.python.signal(12)

    def hear(self):
        """What they have been told by now: how much is acknowledged."""
        events = len(self.java.drain())
        self.java.tell("sync")
        self.python.signal(10)
        self.java.event("synced", WAIT_S, after=events)
        self.python.line(lambda s: "synced" in s, WAIT_S)
        self._read()
        return len(self.acked)

    def _read(self):
        for index, f in enumerate(self.files):
            *lines, self.parts[index] = (self.parts[index] + f.read()).split("\n")
            for line in lines:
                partition, offset, value = line.split(" ", 2)
                other = self.acked.setdefault((int(partition), int(offset)), value)
                self.t.equal(other, value, "two records acknowledged at %s/%s" % (partition, offset))

    def audit(self):
        """What was acknowledged is where it was said to be; of each producer every record came once, in order, none left out."""
        self.hear()
        self._audit()

    def _audit(self):
        acked = dict(self.acked)
        got = consume_all(self.t, self.topic, 10 ** 9, broker=self.broker, to_end=1, idle_ms=1000 * WAIT_S, timeout_s=WAIT_S)
        read = {(p, o): v for p, records in got.items() for o, v in records}
        missing = [k for k in acked if read.get(k) != acked[k]]
        self.t.equal(missing[:5], [], "%d acknowledged records are lost or changed" % len(missing))
        for partition, records in got.items():
            numbers = {}
            for offset, value in records:
                prefix, number = value.rstrip(".").rsplit(":", 1)
                self.t.equal(int(number), numbers.get(prefix, 0), "number of %s at %d/%d" % (prefix, partition, offset))
                numbers[prefix] = int(number) + 1

    def end(self):
        """Everything that was sent is acknowledged; returns how much that is."""
        self.java.tell("stop")
        self.python.signal(15)
        self.t.check(" failed=0 disorder=0 " in self.java.wait(WAIT_S), "the Java producer: %s", self.java.verdict)
        self.t.equal(self.python.wait(WAIT_S), 0, "exit status of the librdkafka producer")
        self.t.check("failed=0 " in self.python.stdout(), "the librdkafka producer: %s", self.python.stdout())
        self._read()
        self._audit()
        for f in self.files:
            f.close()
        self.t.admin(self.broker).delete_topics([self.topic], operation_timeout=30)[self.topic].result(40)
        return len(self.acked)
