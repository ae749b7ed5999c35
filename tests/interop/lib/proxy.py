"""A TCP proxy between a client and a broker that loses answers, cuts connections, stalls or listens in.

A client reaches the broker only through the proxy as long as the metadata it gets names the proxy's port:
the broker is therefore started with advertised.listeners of the proxy (see Context.proxied)."""

import random
import socket
import struct
import threading
import time


class Proxy:
    def __init__(self, host, target_port):
        self.target = (host, target_port)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        self._pairs = []
        self._lock = threading.Lock()
        self._stopped = False
        self.stalled = threading.Event()  # set: bytes to the broker wait
        self.answers_lost = False  # true: answers vanish while requests arrive
        self.cuts = 0
        self.bytes_to_client = 0
        self.bytes_to_broker = 0
        self.heard = None  # a list: (direction, bytes) of everything
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bootstrap(self):
        return "127.0.0.1:%d" % self.port

    def _accept(self):
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(self.target, 5)
            except OSError:
                client.close()
                continue
            for s in (client, broker):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                s.settimeout(None)
            pair = (client, broker)
            with self._lock:
                self._pairs.append(pair)
            threading.Thread(target=self._pump, args=(client, broker, True, pair), daemon=True).start()
            threading.Thread(target=self._pump, args=(broker, client, False, pair), daemon=True).start()

    def _pump(self, source, target, to_broker, pair):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                while to_broker and self.stalled.is_set() and not self._stopped:
                    time.sleep(0.01)
                if self.heard is not None:
                    self.heard.append((id(pair), to_broker, data))
                if to_broker:
                    self.bytes_to_broker += len(data)
                else:
                    if self.answers_lost:
                        continue
                    self.bytes_to_client += len(data)
                target.sendall(data)
        except OSError:
            pass
        # One side is done: tell the other. A half-open pair would hide what the broker did.
        for s in pair:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
                for s in pair:
                    s.close()

    def cut(self):
        """Reset every connection, both ways."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self.cuts += 1
            for s in pair:
                try:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def lose_answers_then_cut(self, seconds):
        """The broker hears and obeys; the client never learns it, then loses the connection."""
        self.answers_lost = True
        time.sleep(seconds)
        self.cut()
        time.sleep(0.02)
        self.answers_lost = False

    def trouble(self, until, seed, pause=(0.2, 0.8)):
        """In a thread: random losses and cuts until until() is true."""
        prng = random.Random(seed)

        def work():
            while not until() and not self._stopped:
                time.sleep(prng.uniform(*pause))
                if prng.random() < 0.5:
                    self.lose_answers_then_cut(prng.uniform(0.01, 0.15))
                else:
                    self.cut()

        t = threading.Thread(target=work, daemon=True)
        t.start()
        return t

    def close(self):
        self._stopped = True
        self.stalled.clear()
        self._listener.close()
        self.cut()
