"""What `millrace dump` says about the journal of a killed broker: which commit was its last."""

import re
import subprocess

COMMIT = re.compile(r"^\| commit seq=(\d+) flushed=(\d+) ")
ENTRY = re.compile(r"^  \| APPEND +log=(\w+) offset=(-?\d+)\.\.(-?\d+) ")
NAME = re.compile(r"^  \| .*\blog=(\w+) .*\bdirectory=(\S+)")


def dump(broker, *paths):
    p = subprocess.run([str(broker.binary), "dump", *map(str, paths)], stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, errors="replace", timeout=120)
    return p.stdout


def last_commit(broker):
    """(sequence, is torn, [(directory of a log, first offset, last offset)]) of the commit written last."""
    names, last, torn = {}, (0, False, []), []
    for path in sorted(broker.directory.glob("millrace-state-*")):
        names.update(m.groups() for m in map(NAME.match, dump(broker, path).splitlines()) if m)
    for path in sorted(broker.directory.glob("millrace-journal-*")):
        sequence, entries = 0, []
        for line in dump(broker, path).splitlines():
            if m := COMMIT.match(line):
                sequence, entries = int(m.group(1)), []
                if sequence > last[0]:
                    last = (sequence, False, entries)
            elif m := ENTRY.match(line):
                entries.append((m.group(1), int(m.group(2)), int(m.group(3))))
            elif m := NAME.match(line):
                names[m.group(1)] = m.group(2)
            elif line.startswith("WRONG") and ("torn" in line or "checksum of an entry" in line):
                torn.append(sequence)
    sequence, _, entries = last
    return sequence, sequence in torn, [(names.get(log, log), a, b) for log, a, b in entries]


def is_commit_in_flight(broker, topic, acked):
    """Whether the kill met a commit: the journal's last one is torn, or holds records of which no client heard.

    A commit is answered when it is durable, and the next one is written only then. So the last commit of the
    journal is the only one whose answers the kill can have cut off; that they were is told by the clients,
    which still read what had reached their sockets: none of its records was acknowledged."""
    sequence, is_torn, entries = last_commit(broker)
    ours = [(int(d.rsplit("-", 1)[1]), first, last) for d, first, last in entries if d.rsplit("-", 1)[0] == topic]
    heard = any((p, o) in acked for p, first, last in ours for o in range(first, last + 1))
    return (is_torn or bool(ours)) and not heard
