"""Features of a cluster: what is finalised, and what follows from it."""

from lib.case import test
from lib.clients import ClientFailed
from cases.grouping import fill
from cases.grouping_new import member, owned


def features_tool(t, b, *args):
    p = t.tool("features", "--bootstrap-server", b.bootstrap, *args, check=False)
    return p.stdout() + p.stderr()


def finalised(t, b):
    """{feature: level} as the tool describes them."""
    found = {}
    for line in features_tool(t, b, "describe").splitlines():
        words = line.replace(":", " ").split()
        if "FinalizedVersionLevel" in words:
            found[words[1]] = words[words.index("FinalizedVersionLevel") + 1]
    return found


@test(seconds=200, millrace_only=True)
def features_are_updated(t):
    """A directory of Kafka 3.3's level gets today's features by kafka-features; they stay; Kafka takes it with them."""
    b = t.own(start=False)
    b.format("--feature", "metadata.version=7")
    b.formatted = True
    b.start()
    topic = t.topic(2, broker=b)
    fill(t, topic, 100, 2)
    t.equal(finalised(t, b).get("metadata.version"), "3.3-IV3", "the level as formatted")
    t.equal(finalised(t, b).get("group.version"), "0", "the group protocol as formatted")
    try:
        why = member(t, "g", topic).wait(30)
    except ClientFailed as e:
        why = str(e)
    t.check("UnsupportedVersion" in why, "a member of the new protocol before the upgrade: %s", why)
    out = features_tool(t, b, "upgrade", "--feature", "group.version=1", "--feature", "share.version=1")
    t.check("share.version" in out and "not support" in out, "a feature that is not served:\n%s", out)
    out = features_tool(t, b, "upgrade", "--feature", "group.version=1", "--dry-run")
    t.check("can be upgraded" in out, "a dry run:\n%s", out)
    t.equal(finalised(t, b).get("group.version"), "0", "the group protocol, after a refusal and a dry run")
    out = features_tool(t, b, "upgrade", "--metadata", "4.3-IV0")
    t.check("was upgraded" in out, "metadata:\n%s", out)
    out = features_tool(t, b, "upgrade", "--feature", "group.version=1", "--feature", "transaction.version=2")
    t.check(out.count("was upgraded") == 2, "the others:\n%s", out)
    late = t.topic(2, broker=b)
    one = member(t, "g", topic)
    t.eventually(lambda: len(owned(one)) == 2, 20, "a member of the new protocol")
    b.kill()
    b.start()
    now = {"metadata.version": "4.3-IV0", "group.version": "1", "transaction.version": "2"}
    t.equal({f: finalised(t, b).get(f) for f in now}, now, "the levels after kill -9")
    fill(t, late, 100, 2)
    one.tell("close")
    one.wait(20)
    out = features_tool(t, b, "downgrade", "--metadata", "4.0-IV3")
    t.check("metadata could be lost" in out, "down to 4.0:\n%s", out)
    out = features_tool(t, b, "downgrade", "--feature", "transaction.version=1")
    t.check("was downgraded" in out, "transactions down:\n%s", out)
    b.stop()
    k = t.own(kind="kafka", directory=b.directory, start=False)
    k.formatted = True
    k.start()
    t.equal(finalised(t, k), {**finalised(t, k), **now, "transaction.version": "1"}, "what Kafka finds finalised")
    t.equal(sum(t.wire(k).list_offsets(x, p, -1)[0] == 0 for x in (topic, late) for p in (0, 1)), 4, "logs that Kafka serves")
