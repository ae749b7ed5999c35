"""What the tests need from outside, fetched once into the user's cache: jars from Maven Central, a
virtual environment with confluent-kafka from PyPI, and our own Java programs compiled against them.

Everything is pinned in pom.xml and requirements.txt. A directory in the cache is named by the digest of
what it was made from, is built beside its final name and renamed when complete, so that an interrupted
download is never taken for a whole one and two runs may do the same work at once."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
JAVA = HERE / "java"


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(base) / "millrace"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _digest(*paths):
    h = hashlib.sha256()
    for p in paths:
        h.update(p.read_bytes())
    return h.hexdigest()[:16]


def _made_once(final, make):
    """Run make(directory) in a fresh directory and rename it to `final`, unless it is there."""
    if final.is_dir():
        return final
    work = Path(tempfile.mkdtemp(prefix=final.name + ".", dir=final.parent))
    try:
        make(work)
        try:
            work.rename(final)
        except OSError:
            if not final.is_dir():  # somebody else was faster: theirs is as good
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return final


def _run(argv, timeout, **kw):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=timeout, text=True, **kw)
    if p.returncode != 0:
        raise RuntimeError("%s: exit %d\n%s" % (" ".join(map(str, argv)), p.returncode, p.stdout[-4000:]))


def jars(profile):
    """The directory with the jars of a profile of pom.xml ("tools" or "clients")."""
    pom = JAVA / "pom.xml"

    def make(directory):
        # Tests may run on a fresh machine where Maven Central answers slowly once.
        for attempt in (1, 2, 3):
            try:
                _run(["mvn", "-q", "-B", "-f", str(pom), "-P" + profile, "dependency:copy-dependencies",
                      "-DincludeScope=runtime", "-DoutputDirectory=%s" % directory], 600)
                return
            except RuntimeError:
                if attempt == 3:
                    raise

    return _made_once(cache_dir() / ("jars-%s-%s" % (profile, _digest(pom))), make)


def classpath(profile):
    return str(jars(profile)) + "/*"


def _compiled(name, directory, profile):
    sources = sorted(directory.glob("*.java"))
    final = cache_dir() / (name + "-" + _digest(JAVA / "pom.xml", *sources))

    def make(target):
        _run(["javac", "-nowarn", "-Xlint:none", "-cp", classpath(profile), "-d", str(target)]
             + [str(s) for s in sources], 300)

    return _made_once(final, make)


def programs():
    """The directory with our compiled Java programs (kafka-clients 4.4.0)."""
    return _compiled("programs", JAVA / "src" / "interop", "clients")


def streams_programs():
    """The directory with our compiled Kafka Streams program."""
    return _compiled("streams", JAVA / "streams", "streams")


def venv_python():
    """A Python that can import confluent_kafka."""
    requirements = HERE / "requirements.txt"
    final = cache_dir() / ("venv-%d.%d-%s" % (sys.version_info[0], sys.version_info[1], _digest(requirements)))
    # A virtual environment knows its own path, so it is made in place and marked when complete.
    marker = final / "complete"
    if not marker.is_file():
        shutil.rmtree(final, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(final)], 300)
        _run([str(final / "bin" / "python"), "-m", "pip", "-q", "install", "-r", str(requirements)], 600)
        marker.write_text("")
    return str(final / "bin" / "python")
