"""Small things several tests do."""

import re
import time

from .clients import fields


def read_values(path):
    """A file of "partition offset value" lines as {partition: [(offset, value)]}."""
    out = {}
    with open(path) as f:
        for line in f:
            p, o, v = line.rstrip("\n").split(" ", 2)
            out.setdefault(int(p), []).append((int(o), v))
    return out


def consume_all(t, topic, count, broker=None, timeout_s=60, **args):
    """Everything in a topic by the Java client: {partition: [(offset, value)]}."""
    path = t.file("consumed-%s-%d" % (topic, time.monotonic_ns()))
    got = fields(t.java("consume", timeout_s, broker=broker, topic=topic, count=count, out=path, **args))
    t.equal(got["disorder"], "0", "offsets that did not rise")
    return read_values(path)


def perf_produce(t, topic, count, size, *props, throughput=-1, timeout_s=60, broker=None, check=True, expect=None):
    """kafka-producer-perf-test: returns what it printed. Its exit status tells nothing about single records."""
    b = broker or t.broker
    args = ["--topic", topic, "--num-records", count, "--record-size", size, "--throughput", throughput,
            "--bootstrap-server", b.bootstrap]
    if props:  # of a repeated option the tool keeps the last
        args += ["--command-property", *props]
    p = t.tool("producer-perf", *args, timeout_s=timeout_s, check=check)
    return p.stdout() + p.stderr()


def end_offsets(t, topic, time_spec="-1", broker=None):
    """kafka-get-offsets: {partition: offset}."""
    b = broker or t.broker
    out = t.tool("get-offsets", "--bootstrap-server", b.bootstrap, "--topic", topic, "--time", time_spec).stdout()
    return {int(m.group(1)): int(m.group(2)) for m in re.finditer(r"^%s:(\d+):(\d*)$" % re.escape(topic), out, re.M) if m.group(2)}


def total(t, topic, broker=None):
    return sum(end_offsets(t, topic, broker=broker).values())


def sequence_check(t, got, acked=None):
    """Values "<prefix><partition>:<n>": each n once, in order, none missing."""
    n = 0
    for partition, records in sorted(got.items()):
        values = [int(v.rstrip(".").rsplit(":", 1)[1]) for _, v in records]
        t.equal(values, list(range(len(values))), "values of partition %d" % partition)
        n += len(values)
    return n


# When the only broker goes away, librdkafka 2.16.0 forgets it and asks its bootstrap servers again, but a topic it
# was asking about then counts as asked for until that expires: it sends nothing for a minute, and beside Apache
# Kafka likewise. Who keeps the broker's address has no such pause.
KEEP_BROKERS = {"metadata.recovery.strategy": "none"}


def python_producer(bootstrap, **conf):
    from confluent_kafka import Producer
    c = {"bootstrap.servers": bootstrap, "log_level": 0, **KEEP_BROKERS}
    c.update({k.replace("_", "."): v for k, v in conf.items()})
    return Producer(c)


def python_consumer(bootstrap, **conf):
    from confluent_kafka import Consumer
    c = {"bootstrap.servers": bootstrap, "log_level": 0, **KEEP_BROKERS, "group.id": "py",
         "auto.offset.reset": "earliest", "enable.auto.commit": False}
    c.update({k.replace("_", "."): v for k, v in conf.items()})
    return Consumer(c)


def python_read(t, bootstrap, topic, count, partitions=1, timeout_s=20):
    """All records of a topic by confluent-kafka."""
    from confluent_kafka import TopicPartition
    c = python_consumer(bootstrap)
    out = []
    try:
        c.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        deadline = time.monotonic() + timeout_s
        while len(out) < count and time.monotonic() < deadline:
            m = c.poll(0.2)
            if m is None:
                continue
            if m.error():
                raise AssertionError("python consumer: %s" % m.error())
            out.append(m)
    finally:
        c.close()
    t.equal(len(out), count, "records read by python")
    return out
