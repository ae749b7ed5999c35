"""Just enough of Kafka's protocol to say by hand what stock clients never say. Old, non-flexible versions
where they do; written from the protocol's description, independent of Millrace's own codec."""

import socket
import struct


def _crc32c_table():
    table = []
    for n in range(256):
        c = n
        for _ in range(8):
            c = (c >> 1) ^ 0x82F63B78 if c & 1 else c >> 1
        table.append(c)
    return table


_TABLE = _crc32c_table()


def crc32c(data, begin=0):
    """begin: the CRC of what stands before the data."""
    c = begin ^ 0xFFFFFFFF
    for b in data:
        c = _TABLE[(c ^ b) & 0xFF] ^ (c >> 8)
    return c ^ 0xFFFFFFFF


def varint(n):
    n = (n << 1) ^ (n >> 63)
    n &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while n > 0x7F:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def record(offset_delta, key, value, timestamp_delta=0, headers=()):
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta)
    for b in (key, value):
        body += varint(-1) if b is None else varint(len(b)) + b
    body += varint(len(headers))
    for k, v in headers:
        body += varint(len(k)) + k + (varint(-1) if v is None else varint(len(v)) + v)
    return varint(len(body)) + body


def batch(records, base_timestamp=1_700_000_000_000, producer_id=-1, producer_epoch=-1, base_sequence=-1,
          attributes=0, count=None, last_offset_delta=None, crc=None, magic=2, max_timestamp=None):
    """records: list of (key, value) or encoded bytes."""
    encoded = b"".join(r if isinstance(r, bytes) else record(i, *r) for i, r in enumerate(records))
    n = len(records) if count is None else count
    last = len(records) - 1 if last_offset_delta is None else last_offset_delta
    rest = struct.pack(">hiqqqhii", attributes, last, base_timestamp,
                       base_timestamp if max_timestamp is None else max_timestamp,
                       producer_id, producer_epoch, base_sequence, n) + encoded
    c = crc32c(rest) if crc is None else crc
    return struct.pack(">qiibI", 0, len(rest) + 9, -1, magic, c) + rest


def string(s):
    return struct.pack(">h", -1) if s is None else struct.pack(">h", len(s.encode())) + s.encode()


def bytes32(b):
    return struct.pack(">i", -1) if b is None else struct.pack(">i", len(b)) + b


class Reader:
    def __init__(self, data):
        self.data, self.pos = data, 0

    def take(self, fmt):
        size = struct.calcsize(">" + fmt)
        v = struct.unpack_from(">" + fmt, self.data, self.pos)
        self.pos += size
        return v[0] if len(v) == 1 else v

    def string(self):
        n = self.take("h")
        if n < 0:
            return None
        s = self.data[self.pos:self.pos + n].decode()
        self.pos += n
        return s

    def bytes32(self):
        n = self.take("i")
        if n < 0:
            return None
        b = self.data[self.pos:self.pos + n]
        self.pos += n
        return b

    def array(self, one):
        return [one() for _ in range(self.take("i"))]


class Closed(Exception):
    pass


class Wire:
    """One connection. Requests carry growing correlation ids; answers are checked against them."""

    def __init__(self, port, timeout_s=10, host="127.0.0.1"):
        self.s = socket.create_connection((host, port), timeout_s)
        self.s.settimeout(timeout_s)
        self.correlation = 0

    def send(self, api, version, body, client="wire", header2=False):
        self.correlation += 1
        head = struct.pack(">hhi", api, version, self.correlation) + string(client) + (b"\0" if header2 else b"")
        self.s.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        return self.correlation

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.s.recv(n - len(data))
            except ConnectionError:
                raise Closed("reset")
            if not more:
                raise Closed("closed")
            data += more
        return data

    def receive(self, correlation=None):
        n, = struct.unpack(">i", self._exactly(4))
        r = Reader(self._exactly(n))
        got = r.take("i")
        if correlation is not None and got != correlation:
            raise AssertionError("answer %d where %d was due" % (got, correlation))
        return r

    def call(self, api, version, body, **kw):
        return self.receive(self.send(api, version, body, **kw))

    def closed_within(self, seconds):
        """Does the broker close the connection within that time?"""
        self.s.settimeout(seconds)
        try:
            while self.s.recv(65536):
                pass
            return True
        except ConnectionError:
            return True
        except socket.timeout:
            return False

    def close(self):
        self.s.close()

    # --- a few APIs ---

    def api_versions(self):
        r = self.call(18, 0, b"")
        error = r.take("h")
        return error, {k: (lo, hi) for k, lo, hi in r.array(lambda: r.take("hhh"))}

    def produce_body(self, parts, acks=-1, timeout_ms=10000):
        """parts: {topic: {partition: bytes}}; Produce 7."""
        body = string(None) + struct.pack(">hi", acks, timeout_ms) + struct.pack(">i", len(parts))
        for topic, partitions in parts.items():
            body += string(topic) + struct.pack(">i", len(partitions))
            for p, b in partitions.items():
                body += struct.pack(">i", p) + bytes32(b)
        return body

    def parse_produce(self, r):
        out = {}

        def topic():
            name = r.string()

            def partition():
                index, error, base, append_ms, start = r.take("ihqqq")
                out[(name, index)] = (error, base, append_ms, start)
            r.array(partition)
        r.array(topic)
        return out

    def produce(self, parts, acks=-1, timeout_ms=10000):
        return self.parse_produce(self.call(0, 7, self.produce_body(parts, acks, timeout_ms)))

    def fetch_body(self, parts, max_wait_ms=500, min_bytes=1, max_bytes=50 << 20, partition_max=1 << 20, isolation=0):
        """parts: {topic: {partition: offset}}; Fetch 11 without a session."""
        body = struct.pack(">iiiibii", -1, max_wait_ms, min_bytes, max_bytes, isolation, 0, -1)
        body += struct.pack(">i", len(parts))
        for topic, partitions in parts.items():
            body += string(topic) + struct.pack(">i", len(partitions))
            for p, offset in partitions.items():
                body += struct.pack(">iiqqi", p, -1, offset, -1, partition_max)
        return body + struct.pack(">i", 0) + string("")

    def parse_fetch(self, r):
        r.take("i")
        error, _session = r.take("hi")
        out = {}

        def topic():
            name = r.string()

            def partition():
                index, perr, hw, lso, start = r.take("ihqqq")
                r.array(lambda: r.take("qq"))
                r.take("i")
                out[(name, index)] = (perr, hw, start, r.bytes32() or b"")
            r.array(partition)
        r.array(topic)
        return error, out

    def fetch(self, parts, **kw):
        return self.parse_fetch(self.call(1, 11, self.fetch_body(parts, **kw)))

    def list_offsets(self, topic, partition, timestamp):
        body = struct.pack(">ib", -1, 0) + struct.pack(">i", 1) + string(topic) + struct.pack(">iiiq", 1, partition, -1, timestamp)
        r = self.call(2, 5, body)
        r.take("i")
        out = []
        r.array(lambda: (r.string(), r.array(lambda: out.append(r.take("ihqqi")))))
        return out[0][1:]

    def init_producer_id(self):
        r = self.call(22, 1, string(None) + struct.pack(">i", 60000))
        r.take("i")
        return r.take("hqh")  # error, id, epoch

    def metadata_v1(self, topics=None):
        body = struct.pack(">i", -1) if topics is None else struct.pack(">i", len(topics)) + b"".join(map(string, topics))
        return self.call(3, 1, body)


def batches(data):
    """Split the records field of a fetch or a segment into whole batches."""
    out, pos = [], 0
    while pos + 12 <= len(data):
        n, = struct.unpack_from(">i", data, pos + 8)
        if n < 49 or pos + 12 + n > len(data):
            break
        out.append(data[pos:pos + 12 + n])
        pos += 12 + n
    return out


def batch_head(b):
    base, length, epoch, magic, crc, attributes, last, _, _, pid, pepoch, seq, count = struct.unpack_from(">qiibIhiqqqhii", b)
    return {"base": base, "length": length, "epoch": epoch, "magic": magic, "crc": crc, "attributes": attributes,
            "last": last, "pid": pid, "pepoch": pepoch, "seq": seq, "count": count}
