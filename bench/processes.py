"""What the processes below a server have used, from /proc: CPU time and memory."""

import collections
import dataclasses
import os
import pathlib
import re
import struct
import time
from typing import Dict, Iterable, List, Sequence

from server import Fault

TICK = os.sysconf("SC_CLK_TCK")
# What meter.c appends per process: microseconds.
RECORD = struct.Struct("=Q")
SETTLE_SECONDS = 30


def stat(pid: int) -> List[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces: state comes first."""
    return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()


def tree(roots: Iterable[int]) -> Dict[int, List[str]]:
    """These processes and all their descendants, with the fields of their stat."""
    fields, children = {}, collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields[int(entry)] = stat(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
            children[int(fields[int(entry)][1])].append(int(entry))
    found, todo = {}, list(roots)
    while todo:
        pid = todo.pop()
        if pid in fields:
            found[pid] = fields[pid]
        todo += children[pid]
    return found


def cpu_clock(pid: int) -> int:
    """The number of a process's CPU clock, which counts nanoseconds over all its threads, ended
    ones included; as Linux's MAKE_PROCESS_CPUCLOCK and clock_getcpuclockid of the C library."""
    return ~pid << 3 | 2


def waited_ticks(fields: Sequence[str]) -> int:
    """User and system time of the ended children that a process has waited for, theirs included."""
    return int(fields[13]) + int(fields[14])


def cpu_us(server) -> float:
    """CPU time of everything below the server since it started."""
    spent = 0.0
    for pid, fields in tree(server.roots()).items():
        try:
            spent += time.clock_gettime_ns(cpu_clock(pid)) / 1000
        except OSError:
            # It has ended since; its parent has its time from now on.
            continue
        spent += waited_ticks(fields) / TICK * 1e6
    if server.meter:
        spent += sum(metered(server.meter.read_bytes()))
    return spent


def metered(data: bytes) -> List[int]:
    """The records of meter.c, in microseconds."""
    return [value for value, in RECORD.iter_unpack(data)]


def runs(server) -> int:
    """How many processes per request have ended, once none is left that is still running."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while any(argv(pid)[:1] == [str(server.root / "meter")] for pid in tree(server.roots())):
        if time.monotonic() > deadline:
            raise Fault("%s: programs do not end" % server.name)
        time.sleep(0.01)
    return len(metered(server.meter.read_bytes()))


def argv(pid: int) -> List[str]:
    try:
        text = pathlib.Path("/proc/%d/cmdline" % pid).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [word for word in text.split("\0") if word]


def sides(server) -> Dict[str, List[int]]:
    """The processes that httpd's part of a request runs in, and all others.

    httpd's first process only supervises its children and stands in neither. Daemon processes,
    forked or executed by httpd, are told from its children by their command line.
    """
    first = server.process.pid
    inside = [pid for pid in tree([first]) if pid != first]
    httpd = [pid for pid in inside if argv(pid) == argv(first)]
    others = [pid for pid in inside if pid not in httpd]
    return {"httpd": httpd, "application": others + list(tree(p.pid for p in server.running))}


def daemons(server) -> List[int]:
    """Those of the application's processes that run it: they have no children. Empty where that is
    not known, of programs behind httpd, and where none stays, under CGI."""
    if server.running or server.meter:
        return []
    found = tree(server.roots())
    parents = {int(fields[1]) for fields in found.values()}
    return [pid for pid in sides(server)["application"] if pid in found and pid not in parents]


@dataclasses.dataclass(frozen=True)
class Memory:
    """In megabytes (2^20 bytes); what is shared counts fully in `rss`, by its share in `pss`."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """Nothing if it has ended."""
    path = pathlib.Path("/proc/%d/smaps_rollup" % pid)
    try:
        return rollup(path.read_text())
    except (FileNotFoundError, ProcessLookupError):
        return Memory(0.0, 0.0)
    except PermissionError:
        raise Fault("%s is not readable; the memory of daemon processes needs root" % path)


def rollup(text: str) -> Memory:
    found = dict(re.findall(r"^(Rss|Pss): +(\d+) kB", text, re.M))
    return Memory(int(found["Rss"]) / 1024, int(found["Pss"]) / 1024)
