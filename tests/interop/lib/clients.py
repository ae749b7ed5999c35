"""Stock clients as processes: kcat, Apache Kafka's command-line tools, and our Java programs in one JVM.
Every call has a time limit; nothing a broker does or fails to do may hang a test."""

import os
import queue
import signal
import subprocess
import threading
import time
from urllib.parse import quote

from . import deps

TOOLS = {
    "topics": "org.apache.kafka.tools.TopicCommand",
    "configs": "kafka.admin.ConfigCommand",
    "console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "producer-perf": "org.apache.kafka.tools.ProducerPerformance",
    "consumer-perf": "org.apache.kafka.tools.ConsumerPerformance",
    "verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
    "dump-log": "org.apache.kafka.tools.DumpLogSegments",
    "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "e2e-latency": "org.apache.kafka.tools.EndToEndLatency",
    "cluster": "org.apache.kafka.tools.ClusterTool",
    "storage": "kafka.tools.StorageTool",
    "transactions": "org.apache.kafka.tools.TransactionsCommand",
    "features": "org.apache.kafka.tools.FeatureCommand",
    "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
}


class ClientFailed(Exception):
    pass


class TimedOut(ClientFailed):
    pass


def java_tool_argv(name, *args, heap="256m"):
    # C1 only and the serial collector: a tool lives a second, its start-up is most of it.
    return ["java", "-Xmx" + heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            "-Dlog4j2.configurationFile=" + str(deps.JAVA / "log4j2.xml"),
            "-cp", deps.classpath("tools"), TOOLS[name], *map(str, args)]


def streams_argv(program, *args, heap="256m"):
    """A Kafka Streams application of java/streams."""
    return ["java", "-Xmx" + heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp", "%s:%s" % (deps.streams_programs(), deps.classpath("streams")), program, *map(str, args)]


def java_crowd_argv(count, name, *args, heap="512m"):
    """The tool `count` times at once, in threads of one JVM (Crowd.java)."""
    argv = java_tool_argv(name, heap=heap)
    at = argv.index("-cp") + 1
    argv[at] = "%s:%s" % (deps.programs(), argv[at])
    return argv[:-1] + ["interop.Crowd", str(count), TOOLS[name], *map(str, args)]


class Process:
    """A client that runs beside the test."""

    def __init__(self, argv, input=None, env=None):
        self.argv = argv
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                                        env=env)
        self.out = []
        self.err = []
        self._lines = queue.Queue()
        self._threads = [threading.Thread(target=self._pump, args=(self.process.stdout, self.out, True), daemon=True),
                         threading.Thread(target=self._pump, args=(self.process.stderr, self.err, False), daemon=True)]
        for t in self._threads:
            t.start()
        if input is not None:
            def feed():
                try:
                    self.process.stdin.write(input if isinstance(input, bytes) else input.encode())
                    self.process.stdin.close()
                except OSError:
                    pass
            threading.Thread(target=feed, daemon=True).start()

    def _pump(self, stream, lines, is_out):
        for line in stream:
            lines.append(line)
            if is_out:
                self._lines.put(line)
        if is_out:
            self._lines.put(None)

    def line(self, wanted, timeout_s):
        """The next line of output for which wanted(line) is true."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut("no such line within %.1f s from %s; stderr: %s" % (timeout_s, self.argv[-1], self.stderr()[-500:]))
            try:
                raw = self._lines.get(timeout=left)
            except queue.Empty:
                continue
            if raw is None:
                raise ClientFailed("%s ended without such a line; stderr: %s" % (self.argv[-1], self.stderr()[-500:]))
            line = raw.decode(errors="replace").rstrip("\n")
            if wanted(line):
                return line

    def stdout(self):
        return b"".join(self.out).decode(errors="replace")

    def stderr(self):
        return b"".join(self.err).decode(errors="replace")

    def wait(self, timeout_s):
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimedOut("%s: not finished within %d s\n%s\n%s" % (
                " ".join(map(str, self.argv[-8:])), timeout_s, self.stdout()[-1000:], self.stderr()[-1000:]))
        for t in self._threads:
            t.join(5)
        return status

    def signal(self, number):
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def pid(self):
        return self.process.pid


def run(argv, input=None, timeout_s=60, check=True):
    p = Process(argv, input)
    status = p.wait(timeout_s)
    if check and status != 0:
        raise ClientFailed("%s: exit %d\n%s\n%s" % (" ".join(map(str, argv[-10:])), status, p.stdout()[-1500:], p.stderr()[-1500:]))
    return p


class Job:
    """A job in a Jvm (see Main.java)."""

    def __init__(self, jvm, id, name):
        self.jvm, self.id, self.name = jvm, id, name
        self._queue = queue.Queue()
        self.events = []
        self.verdict = None

    def _next(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut("java %s: nothing within the time; events so far: %s" % (self.name, self.events[-5:]))
        try:
            kind, text = self._queue.get(timeout=left)
        except queue.Empty:
            return
        if kind == "EVENT":
            self.events.append(text)
        else:
            self.verdict = (kind, text)

    def event(self, prefix, timeout_s=30, after=0):
        """The first event at or behind index `after` that begins with `prefix`."""
        deadline = time.monotonic() + timeout_s
        while True:
            for e in self.events[after:]:
                if e.startswith(prefix):
                    return e
            if self.verdict is not None:
                raise ClientFailed("java %s ended without '%s': %s" % (self.name, prefix, self.verdict))
            self._next(deadline)

    def drain(self):
        while not self._queue.empty():
            self._next(time.monotonic() + 1)
        return self.events

    def tell(self, word):
        self.jvm._write("%s ! %s" % (self.id, word))

    def wait(self, timeout_s=60):
        deadline = time.monotonic() + timeout_s
        while self.verdict is None:
            self._next(deadline)
        kind, text = self.verdict
        if kind != "OK":
            raise ClientFailed("java %s: %s" % (self.name, text))
        return text


class Jvm:
    """One JVM with our programs and kafka-clients 4.4.0."""

    def __init__(self, log_path, heap="512m"):
        argv = ["java", "-Xmx" + heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
                "-cp", "%s:%s" % (deps.programs(), deps.classpath("clients")), "interop.Main"]
        self._log = open(log_path, "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                                        start_new_session=True)
        self._jobs = {}
        self._count = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for raw in self.process.stdout:
            id, kind, text = (raw.decode(errors="replace").rstrip("\n") + "  ").split(" ", 2)
            job = self._jobs.get(id)
            if job is not None:
                job._queue.put((kind, text.strip()))
        for job in list(self._jobs.values()):
            job._queue.put(("FAIL", "the JVM is gone"))

    def _write(self, line):
        with self._lock:
            try:
                self.process.stdin.write((line + "\n").encode())
                self.process.stdin.flush()
            except OSError:
                raise ClientFailed("the JVM is gone")

    def start(self, name, **args):
        self._count += 1
        job = Job(self, str(self._count), name)
        self._jobs[job.id] = job
        self._write(" ".join([job.id, name] + ["%s=%s" % (k, quote(str(v), safe=":/,.-")) for k, v in args.items()]))
        return job

    def alive(self):
        return self.process.poll() is None

    def freeze(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()
        self._log.close()


def fields(text):
    """"a=1 b=2" as a dict."""
    return dict(w.split("=", 1) for w in text.split() if "=" in w)
