"""A cluster of two nodes in Python, for what one broker cannot show: leaders that differ, and one that moves.

One topic of four partitions with the same records in each; node 1 leads the even ones, node 2 the odd ones. A node answers
fetches, within sessions, and refuses partitions of the other. When node 2 has served so many fetches of partition 3 its
leader is node 1; node 2 says so by NOT_LEADER_OR_FOLLOWER and nothing else. Every fetch of a partition is kept in `asked`."""

import socket
import struct
import threading

from lib import wire

NOT_LEADER = 6
BATCH = 10  # records


class Node:
    def __init__(self, cluster, number):
        self.cluster, self.number = cluster, number
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        session = {}
        stream = connection.makefile("rb")
        try:
            while head := stream.read(4):
                r = wire.Reader(stream.read(struct.unpack(">i", head)[0]))
                api, _version, correlation = r.take("hhi")
                r.string()
                answer = {18: self.versions, 3: self.metadata, 2: self.offsets, 1: self.fetch}[api](r, session)
                connection.sendall(struct.pack(">ii", len(answer) + 4, correlation) + answer)
        except OSError:
            pass  # the generator has gone

    def versions(self, _r, _session):
        served = {0: (3, 3), 1: (7, 7), 2: (1, 1), 3: (1, 1), 18: (0, 0)}
        return struct.pack(">hi", 0, len(served)) + b"".join(struct.pack(">hhh", k, lo, hi) for k, (lo, hi) in served.items())

    def metadata(self, _r, _session):
        c = self.cluster
        out = struct.pack(">i", 2) + b"".join(struct.pack(">i", n.number) + wire.string("127.0.0.1") + struct.pack(">i", n.port) + wire.string(None) for n in c.nodes)
        out += struct.pack(">iih", 1, 1, 0) + wire.string(c.topic) + struct.pack(">bi", 0, len(c.leaders))
        return out + b"".join(struct.pack(">hiiiiii", 0, p, leader, 1, leader, 1, leader) for p, leader in enumerate(c.leaders))

    def offsets(self, r, _session):
        wanted = []
        r.take("i")
        r.array(lambda: (r.string(), r.array(lambda: wanted.append(r.take("iq")))))
        out = struct.pack(">i", 1) + wire.string(self.cluster.topic) + struct.pack(">i", len(wanted))
        return out + b"".join(struct.pack(">ihqq", p, 0, -1, 0 if t == -2 else self.cluster.records) for p, t in wanted)

    def fetch(self, r, session):
        _, _, _, _, _, _, epoch = r.take("iiiibii")
        if epoch == 0:
            session.clear()
        wanted = {}
        r.array(lambda: (r.string(), r.array(lambda: wanted.update([(lambda p, offset, _start, _most: (p, offset))(*r.take("iqqi"))]))))
        session.update(wanted)
        parts = [self.part(p, offset) for p, offset in sorted(session.items())]
        return struct.pack(">ihii", 0, 0, 7, 1) + wire.string(self.cluster.topic) + struct.pack(">i", len(parts)) + b"".join(parts)

    def part(self, partition, offset):
        code, records = self.cluster.read(self.number, partition, offset)
        return struct.pack(">ihqqqi", partition, code, self.cluster.records, self.cluster.records, 0, 0) + wire.bytes32(records)


class Cluster:
    def __init__(self, topic, records, moves_after):
        self.topic, self.records, self.moves_after = topic, records, moves_after
        self.leaders, self.asked, self.lock = [1, 2, 1, 2], [], threading.Lock()
        self.batch = wire.batch([(None, b"x" * 100)] * BATCH)
        self.nodes = [Node(self, 1), Node(self, 2)]
        self.address = "127.0.0.1:%d" % self.nodes[0].port

    def read(self, node, partition, offset):
        """What `node` answers: an error, or the batch at this offset."""
        with self.lock:
            self.asked.append((node, partition, offset))
            if self.leaders[partition] != node:
                return NOT_LEADER, b""
            if partition == 3 and node == 2:
                self.moves_after -= 1
                if self.moves_after == 0:
                    self.leaders[3] = 1
        at = offset // BATCH * BATCH
        return 0, struct.pack(">q", at) + self.batch[8:] if at < self.records else b""

    def close(self):
        for node in self.nodes:
            node.listener.close()
