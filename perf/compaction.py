#!/usr/bin/env python3
"""What a compaction does to those who produce meanwhile, on the same storage core.

    perf/compaction.py [--megabytes N] [--rounds N] [--rate N] BINARY

A compacted topic is filled with values of 1 KB; beside it runs an open loop of durable Produces of 1 KB to another topic, first while
the cleaner has nothing to do, then while it works: it begins when the topic's min.cleanable.dirty.ratio allows it, and the log of the
broker says how long it takes. Rounds interleave the two. `millrace-load` lies beside BINARY."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "interop"))
from lib import broker as brokers  # noqa: E402
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource,  # noqa: E402
                                   ResourceType)

KEEP = {"cleanup.policy": "compact", "segment.bytes": "67108864", "min.cleanable.dirty.ratio": "1"}
CONF = {"log.cleaner.backoff.ms": 50, "file.delete.delay.ms": 1000}


def load(a, broker, **options):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        argv = [str(Path(a.binary).parent / "millrace-load"), "broker=" + broker.bootstrap, "live=no", "json=" + out.name]
        argv += ["%s=%s" % (k.replace("_", "."), v) for k, v in options.items()]
        status = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        if status not in (0, 3):  # 3: the generator was late, by which a latency is longer
            raise SystemExit("millrace-load ended with status %d" % status)
        return json.loads(Path(out.name).read_text())


def fill(a, broker):
    load(a, broker, topic="keyed", create="yes", topic_config=",".join("%s=%s" % x for x in KEEP.items()), producers=4,
         in_flight=4, records=16, record_bytes=1000, key_bytes=16, keys=50000, warmup="0s",
         duration="%ds" % max(1, a.megabytes // 100), rate=a.megabytes * 1000 // 16 // max(1, a.megabytes // 100))


def allow(broker, ratio):
    entry = ConfigEntry("min.cleanable.dirty.ratio", ratio, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "keyed", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(20)


def compacted(broker):
    return [line for line in broker.log_tail(10000).splitlines() if "compacted dir=keyed" in line]


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--megabytes", type=int, default=1000)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--rate", type=int, default=400)
    p.add_argument("--seconds", type=int, default=8)
    p.add_argument("binary")
    a = p.parse_args()
    brokers.Millrace.binary = Path(a.binary).resolve()
    b = brokers.Millrace(CONF)
    try:
        b.start()
        for r in range(a.rounds):
            fill(a, b)
            for name, ratio in (("at rest", "1"), ("compacting", "0.01")):
                before = len(compacted(b))
                allow(b, ratio)
                got = load(a, b, topic="beside", create="yes", rate=a.rate, producers=8, warmup="1s",
                           duration="%ds" % a.seconds)
                us = got["produce_us"]
                rounds = compacted(b)[before:]
                print("%d %-10s p50 %5d us  p99 %6d us  max %7d us  requests %d  rounds %d  MB compacted %d" % (
                    r + 1, name, us["p50"], us["p99"], us["max"], us["count"], len(rounds),
                    sum(int(line.split("bytes=")[1].split()[0]) for line in rounds) // 1000000), flush=True)
    finally:
        b.destroy()


main()
