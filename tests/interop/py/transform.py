"""transform.py BOOTSTRAP FROM TO GROUP ID: librdkafka's consume, transform, produce in transactions. Every fourth is given up
and its records read again. Prints "moved N" behind each commit, until it is killed."""

import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

bootstrap, source, to, group, transactional_id = sys.argv[1:6]
common = {"bootstrap.servers": bootstrap, "log_level": 0,
          "metadata.recovery.strategy": "none"}  # see KEEP_BROKERS in lib/helpers.py
consumer = Consumer({**common, "group.id": group, "isolation.level": "read_committed", "enable.auto.commit": False,
                     "auto.offset.reset": "earliest", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500})
producer = Producer({**common, "transactional.id": transactional_id, "transaction.timeout.ms": 10000, "linger.ms": 1})
producer.init_transactions(30)
consumer.subscribe([source])


def rewind():
    for p in consumer.committed(consumer.assignment(), 10):
        consumer.seek(TopicPartition(p.topic, p.partition, max(p.offset, 0)))


moved = 0
number = 0
while True:
    records = [r for r in consumer.consume(20, 0.2) if r.error() is None]
    if not records:
        continue
    number += 1
    producer.begin_transaction()
    try:
        for r in records:
            producer.produce(to, value=r.value(), partition=r.partition())
        producer.send_offsets_to_transaction(consumer.position(consumer.assignment()),
                                             consumer.consumer_group_metadata(), 10)
        if number % 4 == 2:
            producer.flush(10)
            producer.abort_transaction(10)
            rewind()
            continue
        producer.commit_transaction(20)
        moved += len(records)
        print("moved", moved, flush=True)
    except KafkaException as e:
        if not e.args[0].txn_requires_abort():
            raise
        producer.abort_transaction(10)
        rewind()
