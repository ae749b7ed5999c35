"""member.py BOOTSTRAP GROUP TOPIC OUT [PROTOCOL]: a member of a group by confluent-kafka, in a process that a test may
kill. Commits after every record it has written; closes on SIGTERM."""

import signal
import sys

from confluent_kafka import Consumer, KafkaException

bootstrap, group, topic, out = sys.argv[1:5]
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
protocol = sys.argv[5] if len(sys.argv) > 5 else "classic"
conf = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "log_level": 0,
        "enable.auto.commit": False, "group.protocol": protocol}
if protocol == "classic":
    conf.update({"session.timeout.ms": 6000, "heartbeat.interval.ms": 500})
c = Consumer(conf)
c.subscribe([topic], on_assign=lambda _, ps: print("assigned", len(ps)), on_revoke=lambda _, ps: print("revoked", len(ps)))
with open(out, "w", buffering=1) as f:
    while not stop:
        m = c.poll(0.1)
        if m is None or m.error():
            continue
        f.write("%s %d %d %s\n" % (m.topic(), m.partition(), m.offset(), (m.value() or b"~").decode()))
        try:
            c.commit(m, asynchronous=True)
        except KafkaException:
            pass
c.close()
