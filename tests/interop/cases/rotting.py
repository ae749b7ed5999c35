"""Bits that rot below a file system, ext4 and XFS: on the disk while the broker is down, and in what is read while it runs. Whatever
happens, no wrong byte is served, and no log is shorter than what was acknowledged without saying so."""

import mmap
import random

from cases.filesystems import KINDS, PowerDisk, broker_on, image
from lib import broker as brokers
from lib import case
from lib.case import test
from lib.power import flip
from lib.wire import batch, batch_head, batches

ROUNDS = 10 if case.FULL else 2
PARTITIONS = 4
BATCHES = 80
RECORDS = 3  # in each batch
MARK = b"rot-me-"  # what the disk knows our records by


def write(t, b, prng):
    """A topic with records; {(partition, offset): what no broker may change of the batch there}."""
    topic, other = t.topic(PARTITIONS, broker=b), t.topic(1, broker=b)
    w, sent = t.wire(b), {}
    for n in range(BATCHES):
        parts = {p: batch([(None, MARK + b"%d-%d-%d:" % (p, n, r) + prng.randbytes(prng.randrange(40, 900))) for r in range(RECORDS)])
                 for p in range(PARTITIONS)}
        for (_, p), (error, base, _, _) in w.produce({topic: parts}).items():
            t.equal(error, 0, "error of a produce")
            sent[p, base] = parts[p][16:]
    for _ in range(5):  # the journal's last commits are of somebody else: what rots in the very last is as if it were torn
        t.equal(w.produce({other: {0: batch([(None, b"somebody else's")])}})[other, 0][0], 0, "error of a produce")
    w.close()
    return topic, sent


def check_served(t, b, topic, sent):
    """How often the broker refused; what it serves is what was sent."""
    w, refused = t.wire(b), 0
    for p in range(PARTITIONS):
        end = RECORDS + max(base for q, base in sent if q == p)
        error, _, latest, _ = w.list_offsets(topic, p, -1)
        if error != 0:
            refused += 1
            continue
        t.check(latest >= end, "partition %d ends at %d, acknowledged are %d", p, latest, end)
        offset = 0
        while offset < end:
            _, answer = w.fetch({topic: {p: offset}}, max_wait_ms=0)
            error, _, _, data = answer[topic, p]
            got = batches(data)
            t.check(error != 0 or got, "nothing at %d/%d, and no error", p, offset)
            refused += error != 0
            for one in got:
                base = batch_head(one)["base"]
                t.check(sent.get((p, base)) == one[16:], "wrong bytes at %d/%d", p, base)
                t.check(base <= offset, "%d/%d is left out", p, offset)
                offset = base + RECORDS
            if not got:
                offset += RECORDS
    w.close()
    return refused


def serve(t, b, topic, sent):
    """What is refused, a start as such; the broker is gone afterwards."""
    try:
        b.start()
    except brokers.BrokerFailed:
        status = b.process.poll()
        b.process = None
        t.equal(status, 1, "exit status")
        t.check(" ERROR " in b.log_tail(3), "it does not say why it does not start: %s", b.log_tail(3))
        return 1
    refused = check_served(t, b, topic, sent)
    t.check(b.alive(), "the broker died")
    b.kill()
    return refused


def rot(path, count, prng):
    """Turn `count` bits of records in the image of a disk, in segments and journal alike."""
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as disk:
        places, at = [], disk.find(MARK)
        while at >= 0:
            places.append(at)
            at = disk.find(MARK, at + 1)
        for at in prng.sample(places, count):
            flip(disk, at, prng)


class Victim:
    """A broker that has written and is down, on a disk that knows its records."""

    def __init__(self, t, kind, prng):
        self.path = image(t, kind)
        self.disk = PowerDisk(t, self.path, kind)
        self.broker = broker_on(t, self.disk.point).start()
        self.topic, self.sent = write(t, self.broker, prng)
        self.is_killed = prng.randrange(2) == 0
        if self.is_killed:
            self.broker.kill()
        else:
            t.equal(self.broker.stop(), 0, "exit status")
        self.disk.unmount()

    def refusals(self, t):
        self.disk.mount()
        refused = serve(t, self.broker, self.topic, self.sent)
        self.disk.unmount()
        return refused


@test(seconds=60 + 30 * ROUNDS, millrace_only=True)
def bits_rot_on_the_disk(t):
    for kind in KINDS:
        refused = []
        for n in range(ROUNDS):
            prng = random.Random("%s %d" % (kind, n))
            victim = Victim(t, kind, prng)
            rot(victim.path, (20, 1, 3)[n % 3], prng)
            refused.append(victim.refusals(t))
            victim.disk.close()
        t.check(any(refused), "nothing was refused in %d rounds: nothing rotted", ROUNDS)
        t.note("%s: refusals %s" % (kind, refused))


@test(seconds=60 + 30 * ROUNDS, millrace_only=True)
def bits_turn_while_read(t):
    """Once the disk reads right again, everything is there: no misread byte was written back, nothing was cut because of one. Who was
    killed may have lost what only the journal held, and says so: recovery reads that once."""
    for kind in KINDS:
        misread, refused = 0, []
        for n in range(ROUNDS):
            prng = random.Random("%s %d" % (kind, n))
            victim = Victim(t, kind, prng)
            victim.disk.tell("misread %s %d" % (MARK.decode(), (30, 5)[n % 2]))
            refused.append(victim.refusals(t))
            victim.disk.tell("reread")
            misread += int(victim.disk.process.stdout.readline().split()[1])
            again = victim.refusals(t)
            t.check(victim.is_killed or again == 0, "%d refusals after the disk reads right again", again)
            victim.disk.close()
        t.check(misread > 0, "no read was changed")
        t.note("%s: %d reads changed, refusals %s" % (kind, misread, refused))
