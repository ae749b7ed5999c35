"""compression.type of topics: what the broker stores when its topic wants another codec than the producer's."""

import time

from lib import wire
from lib.case import test
from lib.helpers import python_producer, python_read

from .compacting import alter

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")  # in the order of their numbers
RECORDS = 40
SINCE = int(time.time()) * 1000 - 100000  # retention is to leave them alone


def expected(codec):
    return [(b"k%d" % i if i % 3 else None, b"%s-%d-" % (codec.encode(), i) * 30 if i % 5 else None,
             [("h", b"%d" % i), ("null", None)] if i % 2 else [], SINCE + i * 7 % 11 * 1000) for i in range(RECORDS)]


def put(t, producers, topic, codec):
    p = producers[codec]
    for key, value, headers, at in expected(codec):
        p.produce(topic, key=key, value=value, headers=headers, timestamp=at, partition=0)
    t.equal(p.flush(20), 0, "messages left")


def got(t, b, topic, count):
    return [(m.key(), m.value(), m.headers() or [], m.timestamp()[1])
            for m in python_read(t, b.bootstrap, topic, count)]


def stored(b, topic):
    """What the segment holds, batch by batch."""
    data = (b.partition_dir(topic) / ("%020d.log" % 0)).read_bytes()
    heads = []
    for raw in wire.batches(data):
        h = wire.batch_head(raw)
        assert h["crc"] == wire.crc32c(raw[21:]), "CRC of the batch at %d" % h["base"]
        heads.append((h["base"], h["last"], h["count"], CODECS[h["attributes"] & 7], h["attributes"] & ~7, h["seq"]))
    return heads


def one_side(t, b):
    """Every codec into topics of every codec; the levels by kafka-configs, as well as the change of one topic."""
    t._broker = b
    producers = {codec: python_producer(b.bootstrap, linger_ms=100, compression_type=codec, enable_idempotence=True)
                 for codec in CODECS}
    topics = {}
    for wanted in ("uncompressed",) + CODECS[1:] + ("producer",):
        conf = {"compression.type": wanted}
        if wanted == "zstd":
            conf.update({"compression.zstd.level": "19", "message.timestamp.type": "LogAppendTime"})
        topics[wanted] = t.topic(conf=conf, broker=b, name="to-" + wanted)
        for codec in CODECS:
            put(t, producers, topics[wanted], codec)
    topics["changed"] = t.topic(broker=b, name="changed")
    put(t, producers, topics["changed"], "gzip")
    alter(t, topics["changed"], compression_type="lz4", compression_lz4_level=12)
    put(t, producers, topics["changed"], "gzip")
    every = [r for codec in CODECS for r in expected(codec)]
    for wanted, topic in topics.items():
        want = expected("gzip") * 2 if wanted == "changed" else every
        have = got(t, b, topic, len(want))
        if wanted == "zstd":  # the broker's time
            have, want = [r[:3] for r in have], [r[:3] for r in want]
        t.equal(have, want, "what is read from topic %s" % topic)
    t.equal(b.stop(), 0, "exit status")
    return {topic: stored(b, topic) for topic in topics.values()}


@test(seconds=100)
def topics_keep_their_codec(t):
    ours, kafkas = t.own(), t.own(kind="kafka")
    mine = one_side(t, ours)
    for topic, heads in mine.items():
        wanted = topic[3:] if topic.startswith("to-") else None
        codecs = (["gzip", "lz4"] if wanted is None else
                  list(CODECS) if wanted == "producer" else ["none" if wanted == "uncompressed" else wanted] * len(CODECS))
        t.equal([h[3] for h in heads], codecs, "codecs of the batches in %s" % topic)
    files = [str(ours.partition_dir(topic) / ("%020d.log" % 0)) for topic in mine]
    dump = t.tool("dump-log", "--files", ",".join(files), "--deep-iteration", "--print-data-log").stdout()
    heads = [h for of_topic in mine.values() for h in of_topic]
    t.equal(dump.count("isvalid: true"), len(heads), "batches the tool finds valid in\n" + dump[:2000])
    t.equal(dump.count("| offset: "), sum(h[2] for h in heads), "records in the dump")
    t.equal(mine, one_side(t, kafkas), "batches here and in Kafka")
