"""A disk that can lose its power: a file system in user space with one file, under a loop device with direct I/O.

    power.py MOUNTPOINT BYTES BACKING SECTOR

What was written and not flushed since is remembered with what it replaced. "cut SEED" on stdin loses a random part
of it, torn between sectors of SECTOR bytes, leaves the rest in BACKING, and from then on every request fails, as with a disk that is
gone. It comes with one of the next writes, for between two flushes there is something to lose. "slow MS" makes every request take so
long. "revive" gives the disk its power back. "fail WHAT ERRNO N" lets the N-th WHAT (write, flush) from now on answer that error; "heal" takes it back. "misread MARK
PERCENT" turns a bit beside a MARK in so many of the reads that contain one, until "reread". On stdout: "ready",
"cut KEPT LOST", "failed WHAT", and after "reread" "misread COUNT". Needs root; speaks to /dev/fuse itself."""

import ctypes
import errno
import os
import random
import select
import stat
import struct
import sys
import time

HEADER = struct.Struct("=IIQQIIIHH")
REPLY = struct.Struct("=IiQ")
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, RELEASEDIR, ACCESS, BATCH_FORGET = (
    1, 2, 3, 14, 15, 16, 17, 18, 20, 25, 26, 27, 29, 34, 42)
ROOT, FILE = 1, 2
WRITE_MAX = 1 << 20


def flip(data, mark, prng):
    """Turn one bit beside a mark: in the record that it begins, or in the header of its batch (lib/wire.py), where a CRC covers it."""
    data[mark + prng.randrange(-40, 40)] ^= 1 << prng.randrange(8)


class Disk:
    def __init__(self, size, backing, sector):
        self.size, self.sector = size, sector
        self.file = os.open(backing, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self.file, size)
        self.unsynced = []  # (position, before, after) in the order of completion
        self.seed = None  # a cut is due
        self.writes_left = 0
        self.delay_s = 0.0
        self.fault = None  # [what, errno, how many more go well]
        self.mark, self.chance, self.misread = None, 0.0, 0  # reads that are changed, and how many were
        self.prng = random.Random(1)
        self.is_dead = False

    def attr(self, node):
        mode = stat.S_IFDIR | 0o700 if node == ROOT else stat.S_IFREG | 0o600
        size = 0 if node == ROOT else self.size
        return ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def is_failing(self, what):
        """Whether this write or flush is the one that fails."""
        if self.fault is None or self.fault[0] != what:
            return False
        self.fault[2] -= 1
        if self.fault[2] > 0:
            return False
        print("failed %s" % what, flush=True)
        return True

    def read(self, position, size):
        data = os.pread(self.file, size, position)
        at = data.find(self.mark, 40) if self.mark else -1
        if at < 0 or at + 40 > len(data) or self.prng.random() >= self.chance:
            return data
        changed = bytearray(data)
        flip(changed, at, self.prng)
        self.misread += 1
        return bytes(changed)

    def write(self, position, data):
        self.unsynced.append((position, os.pread(self.file, len(data), position), bytes(data)))
        os.pwrite(self.file, data, position)
        self.writes_left -= 1
        if self.seed is not None and self.writes_left <= 0:
            self.cut()

    def cut_soon(self, seed):
        self.seed, self.writes_left = seed, random.Random(seed).randrange(1, 30)

    def cut(self):
        """Back to what was flushed, then a part of what came after it."""
        self.is_dead = True
        prng = random.Random(self.seed)
        chance = prng.choice((0.0, 0.1, 0.5, 0.9))
        kept = 0
        for position, before, _ in reversed(self.unsynced):
            os.pwrite(self.file, before, position)
        for position, _, after in self.unsynced:
            if prng.random() < chance:
                length = len(after) if prng.random() < 0.8 else prng.randrange(0, len(after) + 1, self.sector)
                os.pwrite(self.file, after[:length], position)
                kept += 1
        os.fsync(self.file)
        self.seed = None
        print("cut %d %d" % (kept, len(self.unsynced) - kept), flush=True)

    def revive(self):
        self.unsynced.clear()
        self.is_dead = False

    def answer(self, opcode, node, body):
        """The bytes of a reply, or a negative errno."""
        if opcode == INIT:
            major, minor = struct.unpack_from("=II", body)
            flags = 1 | 1 << 5 | 1 << 22  # asynchronous reads, big writes, max_pages
            return struct.pack("=IIIIHHIIHHII24x", 7, min(minor, 31), 1 << 17, flags, 64, 48, WRITE_MAX, 1, WRITE_MAX // 4096, 0, 0, 0)
        if self.is_dead:
            return -errno.EIO
        if opcode == LOOKUP:
            if node != ROOT or body.rstrip(b"\0") != b"disk":
                return -errno.ENOENT
            return struct.pack("=QQQQII", FILE, 0, 1 << 20, 1 << 20, 0, 0) + self.attr(FILE)
        if opcode == GETATTR:
            return struct.pack("=QII", 1 << 20, 0, 0) + self.attr(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("=QII", node, 1 if opcode == OPEN else 0, 0)  # FOPEN_DIRECT_IO
        if opcode == READ:
            _, position, size = struct.unpack_from("=QQI", body)
            return self.read(position, size)
        if opcode == WRITE:
            _, position, size = struct.unpack_from("=QQI", body)
            if self.is_failing("write"):
                return -self.fault[1]
            self.write(position, body[40:40 + size])
            if self.is_dead:
                return -errno.EIO  # nobody hears of what came with the cut
            return struct.pack("=II", size, 0)
        if opcode == FSYNC:
            if self.is_failing("flush"):
                return -self.fault[1]
            self.unsynced.clear()
            return b""
        if opcode == STATFS:
            return struct.pack("=QQQQQIIII24x", self.size // 4096, 0, 0, 2, 0, 4096, 255, 4096, 0)
        if opcode in (FLUSH, RELEASE, RELEASEDIR, ACCESS):
            return b""
        return -errno.ENOSYS


def mount(point):
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device
    if libc.mount(b"power", point.encode(), b"fuse.power", 6, options) != 0:
        raise OSError(ctypes.get_errno(), "mounting: " + os.strerror(ctypes.get_errno()))
    return device


def serve(device, disk):
    while True:
        ready, _, _ = select.select([device, sys.stdin], [], [], None if disk.seed is None else 0.3)
        if not ready and disk.seed is not None:
            disk.cut()  # nobody writes any more
        if sys.stdin in ready:
            words = sys.stdin.readline().split()
            if not words:
                return
            if words[0] == "slow":
                disk.delay_s = int(words[1]) / 1000
            elif words[0] == "misread":
                disk.mark, disk.chance = words[1].encode(), int(words[2]) / 100
            elif words[0] == "reread":
                disk.mark = None
                print("misread %d" % disk.misread, flush=True)
            elif words[0] == "revive":
                disk.revive()
            elif words[0] == "fail":
                disk.fault = [words[1], int(words[2]), int(words[3])]
            elif words[0] == "heal":
                disk.fault = None
            else:
                disk.cut_soon(int(words[1]))
            continue
        if device not in ready:
            continue
        try:
            request = os.read(device, WRITE_MAX + 8192)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                continue  # the request was interrupted
            return  # unmounted
        time.sleep(disk.delay_s)
        _, opcode, unique, node, *_ = HEADER.unpack_from(request)
        if opcode in (FORGET, BATCH_FORGET):
            continue
        said = disk.answer(opcode, node, memoryview(request)[HEADER.size:] if opcode == WRITE else request[HEADER.size:])
        error, data = (said, b"") if isinstance(said, int) else (0, said)
        try:
            os.write(device, REPLY.pack(REPLY.size + len(data), error, unique) + data)
        except OSError as e:
            if e.errno != errno.ENOENT:
                raise


if __name__ == "__main__":
    disk = Disk(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    device = mount(sys.argv[1])
    print("ready", flush=True)
    serve(device, disk)
