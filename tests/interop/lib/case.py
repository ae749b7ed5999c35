"""What a test sees: a broker, clients, a place for files, and ways to check."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import broker as brokers
from . import clients, deps
from .proxy import Proxy
from .wire import Wire

FULL = bool(os.environ.get("MR_FULL"))
TESTS = {}


class Skip(Exception):
    pass


class Late(AssertionError):
    """Something did not happen in time: the one failure that a busy machine can cause."""


def test(seconds=90, alone=False, full_only=False, millrace_only=False, kafka_only=False):
    """Register a test. seconds: its time limit; alone: it measures time and wants the machine."""

    def register(f):
        if f.__name__ in TESTS:
            raise RuntimeError("two tests are named " + f.__name__)
        f.seconds, f.alone, f.full_only = seconds, alone, full_only
        f.millrace_only, f.kafka_only = millrace_only, kafka_only
        TESTS[f.__name__] = f
        return f

    return register


class Shared:
    """What tests of one worker share, because starting it takes seconds."""

    def __init__(self, kind, bug=None, on=None):
        self.kind = kind
        self.bug = bug
        self.on = on  # the port of our own TCP/IP
        self.broker = None
        self.jvm = None
        self.base = Path(tempfile.mkdtemp(prefix="millrace-interop-shared."))

    def get_broker(self):
        if self.broker is not None and not self.broker.alive():
            self.broker.destroy()
            self.broker = None
        if self.broker is None:
            self.broker = self.make_broker({"auto.create.topics.enable": "true"})
            self.broker.start()
        return self.broker

    def make_broker(self, conf, kind=None, on=None, **kw):
        make = brokers.KINDS[kind or self.kind]
        if make is brokers.Millrace and (on or self.on):
            make = brokers.ON_PORT[on or self.on]
        b = make(conf, **kw)
        if self.bug and b.kind == "millrace":
            b.bug = self.bug
            b.binary = deps.ROOT / "build" / "bugs" / "millrace"
        return b

    def get_jvm(self):
        if self.jvm is not None and not self.jvm.alive():
            self.jvm.kill()
            self.jvm = None
        if self.jvm is None:
            self.jvm = clients.Jvm(self.base / "jvm.log")
        return self.jvm

    def drop_jvm(self):
        if self.jvm is not None:
            self.jvm.kill()
            self.jvm = None

    def close(self):
        if self.broker is not None:
            self.broker.destroy()
        self.drop_jvm()
        shutil.rmtree(self.base, ignore_errors=True)


class Context:
    def __init__(self, name, shared):
        self.name = name
        self.shared = shared
        self.kind = shared.kind
        self.dir = Path(tempfile.mkdtemp(prefix="millrace-interop-%s." % name))
        self._to_close = []
        self._broker = None
        self._admins = {}
        self.brokers = []
        self._topic_count = 0
        self.notes = []

    # --- brokers ---

    @property
    def broker(self):
        if self._broker is None:
            self._broker = self.shared.get_broker()
            self.brokers.append(self._broker)
        return self._broker

    def own(self, conf=None, start=True, kind=None, **kw):
        """A broker of this test alone."""
        b = self.shared.make_broker(conf or {}, kind, **kw)
        self.brokers.append(b)
        self._to_close.append(b.destroy)
        self._broker = self._broker or b
        if start:
            b.start()
        return b

    def proxied(self, conf=None):
        """A broker whose clients reach it only through a proxy."""
        b = self.own(conf, start=False)
        proxy = Proxy(b.host, b.port)
        self._to_close.append(proxy.close)
        b.conf["advertised.listeners"] = "PLAINTEXT://" + proxy.bootstrap
        return b.start(), proxy

    # --- clients ---

    def topic(self, partitions=1, conf=None, name=None, broker=None):
        """A fresh topic. Waits until it has leaders."""
        self._topic_count += 1
        name = name or "%s-%d" % (self.name, self._topic_count)
        b = broker or self.broker
        from confluent_kafka.admin import NewTopic
        admin = self.admin(b)
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1, config=conf or {})],
                            operation_timeout=30, request_timeout=30)[name].result(40)

        def ready():
            md = admin.list_topics(name, timeout=10).topics.get(name)
            return md is not None and len(md.partitions) == partitions and all(p.leader >= 0 for p in md.partitions.values())

        self.eventually(ready, 20, "topic %s to have leaders" % name)

        # Metadata runs ahead of the logs in Kafka. A producer that is faster loses its first batch to a
        # retriable error, the second becomes the first, and the retry is out of sequence for ever.
        w = self.wire(b)
        self.eventually(lambda: all(w.list_offsets(name, p, -1)[0] == 0 for p in range(partitions)), 20,
                        "the logs of topic %s" % name)
        return name

    def admin(self, broker=None):
        """confluent-kafka's Admin, one for each life of the broker: it does not repeat what it asked over a dead connection,
        and on a card of its own a broker that was killed closes none."""
        from confluent_kafka.admin import AdminClient
        b = broker or self.broker
        life = (b, b.process)
        if life not in self._admins:
            self._admins[life] = AdminClient({"bootstrap.servers": b.bootstrap, "log_level": 0})
        return self._admins[life]

    def java(self, job, timeout_s=60, broker=None, **args):
        return self.java_start(job, broker=broker, **args).wait(timeout_s)

    def java_start(self, job, broker=None, jvm=None, **args):
        args.setdefault("bootstrap", (broker or self.broker).bootstrap)
        return (jvm or self.shared.get_jvm()).start(job, **args)

    def jvm(self):
        """A JVM of its own, to be frozen or killed."""
        j = clients.Jvm(self.dir / ("jvm-%d.log" % len(self._to_close)))
        self._to_close.append(lambda: (j.thaw() if j.alive() else None, j.kill()))
        return j

    def tool(self, name, *args, input=None, timeout_s=60, check=True):
        return clients.run(clients.java_tool_argv(name, *args), input, timeout_s, check)

    def tool_start(self, name, *args, input=None):
        return self._keep(clients.Process(clients.java_tool_argv(name, *args), input))

    def streams_start(self, program, *args):
        return self._keep(clients.Process(clients.streams_argv(program, *args)))

    def tools_at_once(self, count, name, *args, timeout_s=60):
        return clients.run(clients.java_crowd_argv(count, name, *args), None, timeout_s)

    def kcat(self, *args, input=None, timeout_s=30, check=True, broker=None):
        return clients.run(self.kcat_argv(*args, broker=broker), input, timeout_s, check)

    def kcat_argv(self, *args, broker=None):
        return ["kcat", "-b", (broker or self.broker).bootstrap, *map(str, args)]

    def kcat_start(self, *args, broker=None):
        return self._keep(clients.Process(self.kcat_argv(*args, broker=broker)))

    def python_start(self, program, *args):
        """A program of tests/interop/py in a process of its own."""
        return self._keep(clients.Process([sys.executable, "-u", str(deps.HERE / "py" / program), *map(str, args)]))

    def _keep(self, process):
        self._to_close.append(lambda: (process.signal(18), process.kill()))
        return process

    def wire(self, broker=None, timeout_s=10):
        b = broker or self.broker
        w = Wire(b.port, timeout_s, b.host)
        self._to_close.append(w.close)
        return w

    # --- file systems ---

    def mounted(self, arguments):
        """A directory on which `mount ARGUMENTS` put a file system; skips where that is not permitted."""
        point = Path(tempfile.mkdtemp(prefix="millrace-interop-mount."))
        p = subprocess.run(["mount", *map(str, arguments), str(point)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if p.returncode != 0:
            point.rmdir()
            self.skip("mounting is not permitted here: %s" % (p.stderr.strip().splitlines() or ["?"])[0])

        def unmount():
            if not os.path.ismount(point):  # the test did it
                point.rmdir()
                return
            for _ in range(50):  # the last file of a killed broker's ring closes a little later
                if subprocess.run(["umount", str(point)], capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)
            else:
                subprocess.run(["umount", "-l", str(point)], capture_output=True)
            point.rmdir()
        self._to_close.append(unmount)
        return point

    # --- checking ---

    def file(self, name):
        return self.dir / name

    def check(self, condition, what, *values):
        if not condition:
            raise AssertionError(what % values if values else what)

    def equal(self, got, expected, what):
        if got != expected:
            raise AssertionError("%s: got %s, expected %s" % (what, _short(got), _short(expected)))

    def eventually(self, condition, timeout_s, what):
        """`what`: a text, or a function that makes one: what was there when it was too late, not when the waiting began."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise Late("waited %.1f s in vain for %s" % (timeout_s, what() if callable(what) else what))
            time.sleep(0.02)

    def note(self, text):
        """A measurement worth printing behind the verdict."""
        self.notes.append(text)

    def skip(self, why):
        raise Skip(why)

    def close(self):
        for f in reversed(self._to_close):
            try:
                f()
            except Exception as e:  # closing must go on
                print("closing: %s" % e, file=sys.stderr)
        shutil.rmtree(self.dir, ignore_errors=True)


def _short(v):
    s = v if isinstance(v, str) else repr(v)
    return s if len(s) < 300 else s[:300] + "... (%d characters)" % len(s)


def result_line(**kw):
    return json.dumps(kw)
