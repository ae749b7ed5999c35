"""producer.py BOOTSTRAP TOPIC PARTITIONS PREFIX OUT: an idempotent librdkafka producer that writes what was
acknowledged to OUT as "partition offset value" until SIGTERM."""

import signal
import sys

from confluent_kafka import Producer

bootstrap, topic, partitions, prefix, out = sys.argv[1:6]
partitions = int(partitions)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
p = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 1, "log_level": 0,
              "message.timeout.ms": 4000, "socket.timeout.ms": 2000, "broker.address.family": "v4",
              "metadata.recovery.strategy": "none"})  # see KEEP_BROKERS in lib/helpers.py
n = [0] * partitions
with open(out, "w") as f:
    def delivered(e, m):
        if e is None:
            f.write("%d %d %s\n" % (m.partition(), m.offset(), m.value().decode()))

    i = 0
    while not stop:
        lane = i % partitions
        try:
            p.produce(topic, value="%s%d:%d" % (prefix, lane, n[lane]), partition=lane, on_delivery=delivered)
            n[lane] += 1
            i += 1
        except BufferError:
            p.poll(0.05)
        if i % 20 == 0:
            p.poll(0.005)
        if i == 200:
            print("started")
    p.flush(6)
