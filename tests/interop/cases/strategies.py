"""Assignment strategies of classic consumers: the broker carries them, members use them."""

from lib.case import test
from lib.clients import ClientFailed
from cases.grouping import member, state
from cases.grouping_new import balanced, owned

CLASS = "org.apache.kafka.clients.consumer.%sAssignor"


def strategy(*names):
    return {"c.partition.assignment.strategy": ",".join(CLASS % n for n in names), "c.group.protocol": "classic",
            "c.heartbeat.interval.ms": 300}


def close(*jobs):
    for j in jobs:
        j.tell("close")
        j.wait(20)


def lost(job, seen):
    """Partitions that a member had to give back since."""
    words = [e.split() for e in job.drain()[seen:]]
    return sum(len(w[2].split(",")) for w in words if w[0] in ("revoked", "lost") and w[2] != "-")


@test(seconds=120)
def strategies_of_clients(t):
    """Four strategies; a rolling change from one to another over members that know both; one in common with nobody is refused."""
    topic = t.topic(6)
    for name in ("Range", "RoundRobin", "Sticky", "CooperativeSticky"):
        jobs = [member(t, name, topic, **strategy(name)) for _ in range(2)]
        balanced(t, jobs, 6)
        close(*jobs)
    jobs = [member(t, "rolling", topic, **strategy("Range")) for _ in range(2)]
    balanced(t, jobs, 6)
    try:
        why = member(t, "rolling", topic, **strategy("RoundRobin")).wait(30)
    except ClientFailed as e:
        why = str(e)
    t.check("InconsistentGroupProtocol" in why, "a member with no common strategy: %s", why)
    for names in (("CooperativeSticky", "Range"), ("CooperativeSticky",)):
        for at in range(2):
            close(jobs[at])
            jobs[at] = member(t, "rolling", topic, **strategy(*names))
            balanced(t, jobs, 6)
    close(*jobs)


@test(seconds=120)
def cooperative_members_keep_what_stays(t):
    """CooperativeSticky: who joins takes what it gets and no more; a static member that restarts moves nothing."""
    topic = t.topic(6)
    jobs = [member(t, "g", topic, **strategy("CooperativeSticky")) for _ in range(2)]
    balanced(t, jobs, 6)
    seen = [len(j.drain()) for j in jobs]
    before = [owned(j) for j in jobs]
    jobs.append(member(t, "g", topic, **strategy("CooperativeSticky")))
    balanced(t, jobs, 6)
    t.equal(sum(lost(j, s) for j, s in zip(jobs, seen)), 2, "partitions given back for the third of three")
    for j, had in zip(jobs, before):
        t.check(owned(j) <= had, "a member that gave one has another: %s of %s", owned(j), had)
    close(*jobs)
    static = [member(t, "static", topic, **strategy("CooperativeSticky"), **{"c.group.instance.id": n, "c.session.timeout.ms": 30000})
              for n in ("one", "two")]
    balanced(t, static, 6)
    mine, seen = owned(static[0]), len(static[1].drain())
    close(static[0])
    static[0] = member(t, "static", topic, **strategy("CooperativeSticky"),
                       **{"c.group.instance.id": "one", "c.session.timeout.ms": 30000})
    t.eventually(lambda: owned(static[0]) == mine, 20, lambda: "the same partitions %s; now %s" % (mine, owned(static[0])))
    t.equal(static[1].drain()[seen:], [], "events of the other static member")
    t.equal(state(t, "static"), ("STABLE", 2), "the group")
    close(*static)
