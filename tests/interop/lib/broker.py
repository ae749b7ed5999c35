"""Brokers under test: Millrace's release binary, and Apache Kafka 4.3.1 as the reference.

Both are started on free ports with a directory of their own. A test written against one runs against the
other: `run.py --broker=kafka` shows that a test is right before it is held against Millrace."""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from . import deps

BINARY = deps.ROOT / "build" / "release" / "millrace"


_handed_out = set()


def free_port():
    while True:
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        s.close()
        if port not in _handed_out:
            _handed_out.add(port)
            return port


class BrokerFailed(Exception):
    pass


class Broker:
    """One broker process and its directory. `conf` are server.properties entries beyond the usual."""

    kind = "?"
    start_timeout_s = 60

    def __init__(self, conf=None, directory=None, port=None):
        self.base = Path(tempfile.mkdtemp(prefix="millrace-interop."))
        self.host = "127.0.0.1"
        self.client = "127.0.0.1"  # where clients come from, as it sees them
        self.directory = Path(directory) if directory else self.base / "data"
        self.port = port or free_port()
        self.conf = dict(conf or {})
        self.log_path = self.base / "broker.log"
        self.process = None
        self.formatted = directory is not None

    @property
    def bootstrap(self):
        return ("[%s]:%d" if ":" in self.host else "%s:%d") % (self.host, self.port)

    @property
    def pid(self):
        return self.process.pid

    def properties(self):
        conf = {
            "node.id": "1",
            "listeners": "PLAINTEXT://" + self.bootstrap,
            "log.dirs": str(self.directory),
            "group.initial.rebalance.delay.ms": "0",
        }
        conf.update(self.conf)
        return conf

    def _write_config(self):
        path = self.base / "server.properties"
        path.write_text("".join("%s=%s\n" % kv for kv in self.properties().items()))
        return path

    def _spawn(self, argv, env=None):
        with open(self.log_path, "ab") as log:
            log.write(("--- %s\n" % " ".join(map(str, argv))).encode())
            log.flush()
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, env=env)

    def start(self, wait=True):
        if not self.formatted:
            self.format()
            self.formatted = True
        self._launch()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        deadline = time.monotonic() + self.start_timeout_s
        while not self._answers():
            if self.process.poll() is not None:
                raise BrokerFailed("%s exited with %s at start:\n%s" % (self.kind, self.process.returncode, self.log_tail()))
            if time.monotonic() > deadline:
                raise BrokerFailed("%s does not answer:\n%s" % (self.kind, self.log_tail()))
            time.sleep(0.01)

    def _answers(self):
        """Does it answer ApiVersions? A bare connect would also succeed before it is ready."""
        try:
            with socket.create_connection((self.host, self.port), 1) as s:
                s.settimeout(2)
                s.sendall(bytes.fromhex("0000000f" "0012" "0000" "00000001" "0005") + b"ready")
                return len(s.recv(4)) == 4
        except OSError:
            return False

    def stop(self, timeout_s=60):
        """SIGTERM; returns the exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed("%s does not stop on SIGTERM within %d s:\n%s" % (self.kind, timeout_s, self.log_tail()))
        self.process = None
        return status

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self):
        """SIGSTOP, and wait until every thread has stopped: on a busy machine the others go on for a while."""
        os.kill(self.process.pid, signal.SIGSTOP)
        stats = list(Path("/proc/%d/task" % self.process.pid).glob("*/stat"))
        until = time.monotonic() + 10
        while any(s.read_text().rpartition(")")[2].split()[0] != "T" for s in stats):
            if time.monotonic() > until:
                raise BrokerFailed("SIGSTOP did not stop the broker")
            time.sleep(0.001)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def rss_kib(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            for line in f:
                if line.startswith("VmRSS"):
                    return int(line.split()[1])
        return 0

    def cpu_s(self):
        with open("/proc/%d/stat" % self.process.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connections(self):
        """How many client connections the broker has open (its side)."""
        count = 0
        # A JVM listens on IPv6 sockets. Kafka notices a FIN only after the long poll it has parked, so
        # its half-closed ones do not count; Millrace is held to closing them.
        states = ("01", "08") if self.kind == "millrace" else ("01",)
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(table) as f:
                for line in f.readlines()[1:]:
                    fields = line.split()
                    if int(fields[1].rsplit(":", 1)[1], 16) == self.port and fields[3] in states:
                        count += 1
        return count

    def log_tail(self, lines=60):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def partition_dir(self, topic, partition=0):
        return self.directory / ("%s-%d" % (topic, partition))

    def destroy(self):
        self.kill()
        shutil.rmtree(self.base, ignore_errors=True)


class Millrace(Broker):
    kind = "millrace"
    start_timeout_s = 20
    binary = BINARY
    bug = None

    def format(self, *extra):
        # Apache Kafka 4.3.1, which takes such directories over, knows metadata.version up to 30.
        argv = [str(self.binary), "format", "--config", str(self._write_config()),
                "--feature", "metadata.version=30", *extra]
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if p.returncode != 0:
            raise BrokerFailed("format: exit %d\n%s%s" % (p.returncode, p.stdout, p.stderr))

    def _launch(self):
        mutant = ["--bug=" + self.bug] if self.bug else []
        self._spawn([str(self.binary), *mutant, "start", "--config", str(self._write_config())])

    def recover(self):
        """Drain the journal of a killed broker offline, for Kafka's tools."""
        p = subprocess.run([str(self.binary), "recover", str(self.directory)], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=120)
        if p.returncode != 0:
            raise BrokerFailed("recover: exit %d\n%s%s" % (p.returncode, p.stdout, p.stderr))


def port_missing(port):
    """Why there can be no broker on such a port here; None: there can."""
    if os.geteuid() != 0:
        return "a port of DPDK needs root"
    if not (BINARY.parent / "millrace-dpdk.so").exists():
        return "built without DPDK (libdpdk-dev)"
    if port.startswith("tap"):
        return None if os.path.exists("/dev/net/tun") else "no /dev/net/tun"
    probe = "import socket; socket.socket(44, socket.SOCK_RAW)"  # AF_XDP
    if subprocess.run(["unshare", "-n", "python3", "-c", probe], capture_output=True).returncode != 0:
        return "no namespaces or no AF_XDP"
    return None


class MillraceOnTap(Millrace):
    """Our TCP/IP over DPDK: a TAP device and a network of its own, gone with the process."""

    card = "net_tap0,iface=%s"

    def __init__(self, conf=None, directory=None, port=None):
        super().__init__(conf, directory, port)
        self.number = random.SystemRandom().randrange(1 << 14)
        self.network = "10.%d.%d" % (64 + self.number // 256, self.number % 256)
        self.host = self.network + ".2"
        self.client = self.network + ".1"
        self.device = "mr%d" % self.number
        self.addresses = "%s.2/24", "%s.1/24", "%s.0/24"  # ours, the kernel's, the network

    def properties(self):
        ours, kernels, network = (a % self.network for a in self.addresses)
        conf = {
            "millrace.transport": "dpdk",
            "millrace.dpdk.device": self.card % self.device,
            "millrace.dpdk.addresses": ours,
            "millrace.dpdk.host.addresses": kernels,
            "millrace.trusted.networks": network,
        }
        conf.update(super().properties())
        return conf

    def connections(self):
        """By the clients' side of them, ours is in no table of the kernel's: established, or the client has closed and
        the broker has not (FIN_WAIT_1, FIN_WAIT_2)."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        packed = socket.inet_pton(family, self.host)
        words = struct.unpack("<%dI" % (len(packed) // 4), packed)
        ours = "%s:%04X" % ("".join("%08X" % word for word in words), self.port)
        count = 0
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):  # a JVM connects by IPv6 sockets
            with open(table) as f:
                fields = [line.split() for line in f.readlines()[1:]]
            count += sum(1 for x in fields if x[2].endswith(ours) and x[3] in ("01", "04", "05"))
        return count


class MillraceOnXdp(MillraceOnTap):
    """Likewise, AF_XDP on a pair of devices."""

    card = "net_af_xdp0,iface=%s,busy_budget=0"


class MillraceOnTap6(MillraceOnTap):
    """A TAP device, and clients by IPv6 only."""

    def __init__(self, conf=None, directory=None, port=None):
        super().__init__(conf, directory, port)
        self.network = "fd77:%x" % self.number
        self.host = self.network + "::2"
        self.client = self.network + "::1"
        self.addresses = "%s::2/64", "%s::1/64", "%s::/64"


ON_PORT = {"tap": MillraceOnTap, "tap6": MillraceOnTap6, "af_xdp": MillraceOnXdp}


class Kafka(Broker):
    kind = "kafka"

    def stop(self, timeout_s=60):
        status = super().stop(timeout_s)
        return 0 if status == 143 else status  # what a JVM says of a SIGTERM that it obeyed
    start_timeout_s = 90
    heap = "512m"
    collector = "Serial"

    def __init__(self, conf=None, directory=None, port=None):
        super().__init__(conf, directory, port)
        self.controller_port = free_port()

    def properties(self):
        conf = super().properties()
        own = {
            "process.roles": "broker,controller",
            "controller.quorum.voters": "1@127.0.0.1:%d" % self.controller_port,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "advertised.listeners": "PLAINTEXT://127.0.0.1:%d" % self.port,
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        own.update({k: v for k, v in conf.items() if not k.startswith("millrace.")})
        own["listeners"] += ",CONTROLLER://127.0.0.1:%d" % self.controller_port
        return own

    @staticmethod
    def java(*args, heap="256m"):
        return ["java", "-Xmx" + heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
                "-Dlog4j2.configurationFile=" + str(deps.JAVA / "log4j2.xml"),
                "-cp", deps.classpath("tools"), *args]

    def format(self, *extra):
        argv = self.java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAQ",
                         "-c", str(self._write_config()), *extra)
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if p.returncode != 0:
            raise BrokerFailed("format: exit %d\n%s%s" % (p.returncode, p.stdout, p.stderr))

    def _launch(self):
        argv = self.java("-Dmr.level=INFO", "kafka.Kafka", str(self._write_config()), heap=self.heap)
        argv[argv.index("-XX:TieredStopAtLevel=1")] = "-XX:+TieredCompilation"
        argv[argv.index("-XX:+UseSerialGC")] = "-XX:+Use%sGC" % self.collector
        self._spawn(argv)


KINDS = {"millrace": Millrace, "kafka": Kafka}
