"""Durability on the file systems that people use, ext4 with its journal and XFS, on images of our own: after kill -9,
and after a cut of the power that loses what was not flushed. Needs root and loop devices; skips with the reason."""

import errno
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cases.running import millrace
from lib import case, deps, journal
from lib.case import test
from lib.lasting import WAIT_S, Lasting
from lib.load import Load, check_acked

SIZE = 384 << 20  # mkfs.xfs refuses less than 300 MiB
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F", "-J", "size=16"], "xfs": ["mkfs.xfs", "-q", "-f", "-s", "size=4096"]}
# XFS does not outlive a power cut that tears its blocks while it recovers (their first sector says that the rest is new):
# it gets a disk whose sectors are blocks.
SECTOR = {"ext4": 512, "xfs": 4096}
CONF = {"millrace.journal.file.bytes": "1048576", "millrace.journal.files": "4", "millrace.disk.reserve.bytes": "16777216"}
PARTITIONS = 10
ROUNDS = int(os.environ.get("MR_CUTS") or (25 if case.FULL else 3))
KILLS = int(os.environ.get("MR_CUTS") or (50 if case.FULL else 5))
FIRST = int(os.environ.get("MR_FIRST") or 0)  # rounds that other runs had: these get other lots
LOT = 10  # rounds that share a topic: what is read again after each stays short
RECORDS = 1000  # acknowledged at the least between a start and the next kill or cut
KINDS = [kind for kind in MAKE if kind in (os.environ.get("MR_FS") or kind)]


def image(t, kind):
    """A file with an empty file system of a kind."""
    if os.geteuid() != 0:
        t.skip("mounting needs root")
    if shutil.which(MAKE[kind][0]) is None:
        t.skip("%s is not installed" % MAKE[kind][0])
    path = t.file("%s.image" % kind)
    with open(path, "wb") as f:
        f.truncate(SIZE)
    subprocess.run([*MAKE[kind], str(path)], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return path


def broker_on(t, point):
    b = t.own(CONF, directory=Path(point) / "data", start=False)
    b.formatted = (b.directory / "meta.properties").exists()
    return b


def unmount(point):
    subprocess.run(["umount", str(point)], check=True, capture_output=True, timeout=60)


def until_busy(t, load, prng):
    """The moment: when enough has been acknowledged since the last one, and then some time."""
    before = len(load.acked)
    load.go_on()
    t.eventually(lambda: load.hear() - before >= RECORDS, WAIT_S, "%d acknowledgements" % RECORDS)
    time.sleep(prng.uniform(0, 0.1))  # they are still at it


def start_again(b, prng, strike):
    """Every fourth recovery is struck itself, some time after it began."""
    if prng.randrange(4) == 0:
        b.start(wait=False)
        time.sleep(prng.uniform(0, 0.1))
        strike()
    b.start()


def kill_round(t, b, load, prng):
    """Whether a commit was in flight."""
    until_busy(t, load, prng)
    b.kill()
    time.sleep(0.05)  # the clients take what had reached their sockets
    load.hear()
    is_met = journal.is_commit_in_flight(b, load.topic, load.acked)
    start_again(b, prng, b.kill)
    load.audit()
    return is_met


def kills_on(t, kind):
    """(records, rounds): so many that KILLS of them met a commit."""
    point = t.mounted(["-o", "loop", image(t, kind)])
    b = broker_on(t, point).start()
    prng = random.Random("%s %d" % (kind, FIRST))
    met = rounds = records = 0
    while met < KILLS:
        load = Lasting(t, b, "%s%d" % (kind, FIRST + rounds))
        until = rounds + LOT
        while met < KILLS and rounds < until:
            t.check(rounds < KILLS * 3 + 3, "a commit was in flight in only %d of %d rounds", met, rounds)
            met += kill_round(t, b, load, prng)
            rounds += 1
        records += load.end()
    t.equal(b.stop(), 0, "exit status")
    unmount(point)
    return records, rounds


@test(seconds=WAIT_S + 20 * KILLS, millrace_only=True)
def kills_on_ext4_and_xfs(t):
    for kind in KINDS:
        records, rounds = kills_on(t, kind)
        t.note("%s: %d kills, %d records, %d rounds" % (kind, KILLS, records, rounds))


def quietly(*argv):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode == 0


class PowerDisk:
    """An image behind a disk whose power can be cut (lib/power.py), mounted."""

    def __init__(self, t, path, kind="ext4"):
        self.t, self.sector = t, SECTOR[kind]
        self.base = Path(tempfile.mkdtemp(prefix="millrace-interop-power."))
        self.point, disk = self.base / "mounted", self.base / "disk"
        self.point.mkdir()
        disk.mkdir()
        self.disk = disk / "disk"
        self.loop = self.is_mounted = None
        self.process = subprocess.Popen([sys.executable, str(deps.HERE / "lib" / "power.py"), str(disk), str(SIZE), str(path), str(self.sector)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        t._to_close.append(self.close)
        if self.process.stdout.readline() != "ready\n":
            t.skip("a file system in user space is not permitted here: %s" % self.process.stderr.readline().strip())
        self.mount()

    def mount(self):
        p = subprocess.run(["losetup", "-f", "--show", "--direct-io=on", "--sector-size", str(self.sector), str(self.disk)], capture_output=True, text=True, timeout=30)
        if p.returncode != 0:
            self.t.skip("no loop device: %s" % p.stderr.strip())
        self.loop = p.stdout.strip()
        subprocess.run(["mount", self.loop, str(self.point)], check=True, capture_output=True, timeout=60)
        self.is_mounted = True

    def tell(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def cut(self, seed):
        """(writes that survived, writes that were lost) of those that nobody had flushed."""
        self.tell("cut %d" % seed)
        return tuple(map(int, self.process.stdout.readline().split()[1:]))

    def revive(self):
        """The machine comes back: nothing is remembered but what is on the disk, and the file system recovers its own journal."""
        self.unmount()
        self.tell("revive")
        self.mount()

    def unmount(self):
        """The kernel forgets the disk, and everything that it knows of it."""
        if self.is_mounted:
            for _ in range(600):  # a busy machine takes its time to let go of a process
                if quietly("umount", str(self.point)):
                    break
                time.sleep(0.1)
            else:
                quietly("umount", "-l", str(self.point))
        if self.loop:
            quietly("losetup", "-d", self.loop)
        self.loop = self.is_mounted = None

    def close(self):
        self.unmount()
        if self.process.poll() is None:
            quietly("umount", "-l", str(self.base / "disk"))
            self.process.stdin.close()
            self.process.wait(10)
        shutil.rmtree(self.base, ignore_errors=True)


def cut_round(t, b, disk, load, prng):
    """(un-flushed writes that survived, and that were lost)"""
    fates = []

    def strike():
        fates.append(disk.cut(prng.randrange(1 << 30)))
        b.kill()  # it has noticed, or not yet: both are a power cut
        disk.revive()
    until_busy(t, load, prng)
    strike()
    start_again(b, prng, strike)
    load.audit()
    return map(sum, zip(*fates))


def cuts_on(t, kind):
    """(records acknowledged, un-flushed writes that survived, and that were lost)"""
    disk = PowerDisk(t, image(t, kind), kind)
    b = broker_on(t, disk.point).start()
    prng = random.Random("%s %d" % (kind, FIRST))
    records = kept = lost = 0
    for first in range(0, ROUNDS, LOT):
        load = Lasting(t, b, "%s%d" % (kind, FIRST + first))
        for _ in range(first, min(first + LOT, ROUNDS)):
            survivors, victims = cut_round(t, b, disk, load, prng)
            kept, lost = kept + survivors, lost + victims
        records += load.end()
    t.equal(b.stop(), 0, "exit status")
    disk.close()
    return records, kept, lost


@test(seconds=WAIT_S + 30 * ROUNDS, millrace_only=True)
def power_cuts_on_ext4_and_xfs(t):
    """What was acknowledged was flushed: it outlives a disk that forgets everything else, or parts of it."""
    for kind in KINDS:
        records, kept, lost = cuts_on(t, kind)
        t.note("%s: %d cuts, %d records; of what nobody had flushed %d writes survived, %d were lost" % (
            kind, ROUNDS, records, kept, lost))


FAULTS = [("write", errno.EIO), ("flush", errno.EIO), ("write", errno.ENOSPC)]


@test(seconds=300, millrace_only=True)
def faults_on_ext4_and_xfs(t):
    """A write or a flush that fails once is final (ruling 16): the broker says so and ends; what was acknowledged is there."""
    for kind in KINDS:
        path = image(t, kind)
        topic, acked = None, {}
        for n, (what, error) in enumerate(FAULTS if case.FULL else FAULTS[:1]):
            disk = PowerDisk(t, path, kind)
            b = broker_on(t, disk.point).start()
            topic = topic or t.topic(PARTITIONS, broker=b)
            load = Load(t, b, topic, PARTITIONS, "%s%d" % (kind, n))
            disk.tell("slow %d" % (2 * n))
            time.sleep(1)
            disk.tell("fail %s %d %d" % (what, error, random.Random(n).randrange(1, 60)))
            t.equal(b.process.wait(30), 1, "exit status after %s of a %s" % (errno.errorcode[error], what))
            b.process = None
            t.check("log directory offline" in b.log_tail(), "the log does not say why: %s", b.log_tail(5))
            t.check(load.end(acked) > 50, "only %d records were acknowledged", len(acked))
            disk.tell("heal")
            disk.close()
            point = t.mounted(["-o", "loop", path])
            b = broker_on(t, point).start()
            check_acked(t, topic, acked, b)
            t.equal(b.stop(), 0, "exit status")
            unmount(point)
        t.note("%s: %d records" % (kind, len(acked)))


@test(seconds=120, millrace_only=True)
def recover_tells_its_progress(t):
    """On a slow disk `millrace recover` says every second how far it is; then everything is in the segments."""
    disk = PowerDisk(t, image(t, "ext4"))
    b = broker_on(t, disk.point).start()
    topic = t.topic(PARTITIONS, broker=b)
    load = Load(t, b, topic, PARTITIONS, "slow")
    time.sleep(1)
    b.kill()
    acked = {}
    load.end(acked)
    disk.tell("slow 15")
    status, out, err = millrace(t, "recover", b.directory, "--set", "millrace.journal.file.bytes=1048576", timeout_s=100)
    disk.tell("slow 0")
    t.equal(status, 0, "exit status: %s" % err)
    told = [tuple(map(int, m)) for m in re.findall(r"^millrace recover: .*, (\d+) s, (\d+) KiB read, (\d+) KiB written$", err, re.M)]
    t.check(told, "no progress was told: %s", err)
    t.check(told == sorted(told) and told[-1][1] + told[-1][2] > 0, "progress: %s", told)
    t.check("recovered %s" % b.directory in out, "the last word: %s", out)
    t.check((b.directory / ".kafka_cleanshutdown").exists(), "recover left no marker of a clean stop")
    b.start()
    check_acked(t, topic, acked, b)
    t.note("%d lines of progress, the last %s" % (len(told), told[-1]))
