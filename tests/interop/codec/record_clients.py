#!/usr/bin/env python3
"""Write tests/golden/kafka/clients.tsv anew: what real clients and a real Apache Kafka 4.3.1 said.

    record_clients.py

Stock clients (kcat, Kafka's Java tools) use a Kafka broker through a proxy that listens in. Of every
(client, API, version) the first short request and its answer are kept:

    client <tab> "request" or "response" <tab> key <tab> version <tab> the frame without its length, in hex

Needs the jars and kcat that the interop tests need; our code takes no part in it."""

import pathlib
import socket
import struct
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True

from lib import broker, clients  # noqa: E402

FRAME_MAX = 2500  # a Metadata answer fits, a batch of a thousand records does not


class Ear:
    """A proxy that takes the streams apart into frames and pairs answers with requests."""

    def __init__(self, target_port):
        self.target_port = target_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.client = "?"
        self.rows = {}
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.target_port))
            asked = {}  # correlation id -> (client, key, version)
            for source, target, is_request in ((near, far, True), (far, near, False)):
                threading.Thread(target=self.pump, args=(source, target, is_request, asked), daemon=True).start()

    def pump(self, source, target, is_request, asked):
        stream = b""
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if not data:
                try:
                    target.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                return
            stream += data
            while len(stream) >= 4:
                size = struct.unpack(">i", stream[:4])[0]
                if len(stream) < 4 + size:
                    break
                self.hear(stream[4:4 + size], is_request, asked)  # before it is sent: the answer must find it
                stream = stream[4 + size:]
            try:
                target.sendall(data)
            except OSError:
                return

    def hear(self, frame, is_request, asked):
        if is_request:
            key, version, correlation = struct.unpack(">hhi", frame[:8])
            asked[correlation] = (self.client, key, version)
            row = (self.client, "request", key, version)
        else:
            client, key, version = asked.pop(struct.unpack(">i", frame[:4])[0])
            row = (client, "response", key, version)
        if len(frame) <= FRAME_MAX:
            self.rows.setdefault(row, frame.hex())


def main():
    port = broker.free_port()
    ear = Ear(port)
    kafka = broker.Kafka({"advertised.listeners": "PLAINTEXT://127.0.0.1:%d" % ear.port}, port=port)
    kafka.start()
    try:
        bootstrap = "127.0.0.1:%d" % ear.port

        def java(name, *args, text=None):
            ear.client = "java-" + name
            clients.run(clients.java_tool_argv(name, "--bootstrap-server", bootstrap, *args), input=text, timeout_s=60)

        def kcat(what, *args, text=None):
            ear.client = "kcat-" + what
            clients.run(["kcat", "-q", "-b", bootstrap, *args], input=text, timeout_s=60)

        java("topics", "--create", "--topic", "golden", "--partitions", "3", "--replication-factor", "1")
        java("topics", "--describe", "--topic", "golden")
        java("topics", "--alter", "--topic", "golden", "--partitions", "4")
        topic = ("--entity-type", "topics", "--entity-name", "golden")
        java("configs", "--alter", *topic, "--add-config", "segment.ms=1000000")
        java("configs", "--describe", *topic)
        java("console-producer", "--topic", "golden", text="one\ntwo\n")
        java("console-consumer", "--topic", "golden", "--from-beginning", "--max-messages", "2",
             "--group", "java-golden", "--timeout-ms", "20000")
        java("consumer-groups", "--describe", "--group", "java-golden")
        kcat("list", "-L")
        kcat("produce", "-P", "-t", "golden", "-k", "key", "-H", "header=value", text="three\n")
        kcat("consume", "-C", "-t", "golden", "-o", "beginning", "-e")
        kcat("query", "-Q", "-t", "golden:0:-1")
        kcat("group", "-G", "kcat-golden", "golden", "-X", "auto.offset.reset=earliest", "-e", "-c", "1")
        java("topics", "--delete", "--topic", "golden")
    finally:
        kafka.stop()
        kafka.destroy()
    path = HERE.parents[1] / "golden" / "kafka" / "clients.tsv"
    path.write_text("".join("\t".join(map(str, row)) + "\t" + frame + "\n" for row, frame in sorted(ear.rows.items())))
    print("%d frames" % len(ear.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
