"""Consumer groups, the new protocol (KIP-848): the broker assigns, members reconcile."""

import signal

from cases.grouping import fill, group_command, members, state
from lib.case import test

# A session and heartbeats that a test can wait for; members may not choose their own.
CONF = {"group.consumer.session.timeout.ms": "6000", "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.heartbeat.interval.ms": "500", "group.consumer.min.heartbeat.interval.ms": "100"}


@test(seconds=120)
def console_consumers_share_partitions(t):
    t.own(CONF)
    topic = t.topic(12)
    readers = [t.tool_start("console-consumer", "--bootstrap-server", t.broker.bootstrap, "--topic", topic, "--group", topic,
                            "--from-beginning", "--timeout-ms", 60000, "--command-property", "group.protocol=consumer")
               for _ in range(3)]
    t.eventually(lambda: state(t, topic) == ("STABLE", 3), 40, "three stable members")
    t.equal(sorted(n for _, n in members(t, topic)), [4, 4, 4], "partitions per member")
    fill(t, topic, 6000, 12)
    t.eventually(lambda: sum(len(r.out) for r in readers) >= 6000, 30, "6000 records; came %d" % sum(len(r.out) for r in readers))
    for r in readers:
        r.signal(signal.SIGINT)
    for r in readers:
        r.wait(20)
        t.check(len(r.out) == 2000, "a member read %d records", len(r.out))
    lines = sorted(x for r in readers for x in r.stdout().split())
    t.equal(lines, sorted("v%d:%d" % (p, i) for p in range(12) for i in range(500)), "the union")
    t.eventually(lambda: state(t, topic) == ("EMPTY", 0), 10, "an empty group")
    out = group_command(t, "--list", "--type", "consumer", "--state", "empty")
    t.check(topic in out, "the tool lists:\n%s", out)
