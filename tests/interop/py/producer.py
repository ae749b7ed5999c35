"""producer.py BOOTSTRAP TOPIC PARTITIONS PREFIX OUT [rate=N] [portion=N] [name=value...]: an idempotent librdkafka producer that
writes what was acknowledged to OUT as "partition offset value" until SIGTERM; at SIGUSR1 all of it so far, then it says
"synced"; with a portion it sends so many at first, and again at SIGUSR2. The rest are settings of librdkafka. At the end: how many were not acknowledged."""

import signal
import sys
import time

from confluent_kafka import Producer

bootstrap, topic, partitions, prefix, out = sys.argv[1:6]
partitions = int(partitions)
settings = dict(a.split("=", 1) for a in sys.argv[6:])
rate = int(settings.pop("rate", 0))
portion = int(settings.pop("portion", 0))
stop, sync, go = [], [], []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
signal.signal(signal.SIGUSR1, lambda *_: sync.append(1))
signal.signal(signal.SIGUSR2, lambda *_: go.append(1))
p = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 1, "log_level": 0,
              "message.timeout.ms": 4000, "socket.timeout.ms": 2000,
              "metadata.recovery.strategy": "none", **settings})  # see KEEP_BROKERS in lib/helpers.py
n = [0] * partitions
failed = []
with open(out, "w") as f:
    def delivered(e, m):
        if e is None:
            f.write("%d %d %s\n" % (m.partition(), m.offset(), m.value().decode()))
        else:
            failed.append(e)

    i, limit = 0, portion
    started = time.monotonic()
    while not stop:
        lane = i % partitions
        if portion and i >= limit:
            p.poll(0.002)
        else:
            try:
                p.produce(topic, value="%s%d:%d" % (prefix, lane, n[lane]), partition=lane, on_delivery=delivered)
                n[lane] += 1
                i += 1
            except BufferError:
                p.poll(0.05)
        if go:
            go.clear()
            limit = i + portion
            started = time.monotonic() - i / max(rate, 1)  # it owes nothing
        if i % 20 == 0:
            p.poll(0.005)
            while rate and (early_s := started + i / rate - time.monotonic()) > 0:
                p.poll(early_s)
        if i == 200:
            print("started")
        if sync:
            sync.clear()
            p.poll(0)
            f.flush()
            print("synced")
    left = p.flush(6)
print("failed=%d %s" % (len(failed) + left, failed[:1]))
