"""The three measures: CPU time, system calls and user instructions, each per request."""

import collections
import dataclasses
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
from typing import Dict, Iterable, List

from drive import drive
from server import HERE, Fault, program
from workloads import Workload

TICK = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Window:
    """What one wrk run against one peer gave."""

    cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float
    errors: int


def check(port: int, workload: Workload) -> None:
    """One request by an independent client: a wrong answer must not become a good figure."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = b"x" * workload.upload if workload.upload else None
        connection.request(
            "POST" if body else "GET", workload.path, body=body, headers=workload.headers
        )
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != 200 or len(content) != workload.size:
        raise Fault("%s was answered with %d and %d bytes instead of 200 and %d" % (
            workload.path, answer.status, len(content), workload.size))
    if workload.upload and content != str(workload.upload).encode():
        raise Fault("an upload of %d bytes was seen as %r" % (workload.upload, content))


def window(port: int, roots: Iterable[int], workload: Workload, seconds: int) -> Window:
    """Runs wrk for so long and divides the servers' CPU time by the requests completed."""
    command = [
        program("wrk"), "-t1", "-c%d" % workload.connections, "-d%ds" % seconds, "--timeout", "60",
    ]
    for header in workload.headers.items():
        command += ["-H", "%s: %s" % header]
    command += ["-s", str(HERE / "wrk.lua"), "http://127.0.0.1:%d%s" % (port, workload.path)]
    if workload.upload:
        command += ["--", str(workload.upload)]
    before = cpu_ticks(roots)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ticks = cpu_ticks(roots) - before
    if done.returncode:
        raise Fault("wrk failed:\n" + done.stdout)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if not result["requests"]:
        raise Fault("wrk completed no request in %d s:\n%s" % (seconds, done.stdout))
    return Window(
        cpu_us=ticks / TICK * 1e6 / result["requests"],
        per_second=result["requests"] / result["seconds"],
        p50_us=result["p50"],
        p99_us=result["p99"],
        errors=sum(result["errors"].values()),
    )


def cpu_ticks(roots: Iterable[int]) -> int:
    """User and system time of these processes and all below them, ended ones included."""
    # Fields 14 to 17 of stat: own time, and that of children which were waited for.
    return sum(sum(int(field) for field in stat(pid)[11:15]) for pid in tree(roots))


def tree(roots: Iterable[int]) -> List[int]:
    """These processes and all their descendants."""
    children = collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                children[int(stat(int(entry))[1])].append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children[pid]
    return found


def stat(pid: int) -> List[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces: state comes first."""
    return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()


# Long enough for a traced server to go back to waiting.
PAUSE = 0.003


def syscalls(
    port: int, roots: Iterable[int], workload: Workload, connections: int, count: int
) -> Dict[str, float]:
    """System calls per request by name, in all processes below the roots.

    With one connection every request finds the server waiting, which gives the same number in every
    run. With several, threads meet under the tracer, and the futex calls are more than in earnest.
    """
    roots = list(roots)
    pause = PAUSE if connections == 1 else 0.0
    pids = [pid for pid in tree(roots) if pid not in roots]
    # Modules loaded, threads started and caches filled before anything is counted.
    drive(port, workload, 16, 500)
    with tempfile.TemporaryDirectory() as folder:
        table = pathlib.Path(folder) / "table"
        command = [program("strace"), "-f", "-c", "-o", str(table)]
        for pid in pids:
            command += ["-p", str(pid)]
        tracer = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )
        try:
            missing = set(pids)
            said = ""
            while missing:
                line = tracer.stderr.readline()
                if not line:
                    raise Fault("strace could not attach (not root?):\n" + said)
                said += line
                attached = re.search(r"Process (\d+) attached", line)
                if attached:
                    missing.discard(int(attached.group(1)))
            drive(port, workload, connections, count, pause)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        calls = {}
        for line in table.read_text().splitlines():
            fields = line.split()
            # % time, seconds, usecs/call, calls, [errors,] name
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                calls[fields[-1]] = int(fields[3]) / count
    if not calls:
        raise Fault("strace counted nothing")
    return calls


# httpd's function that runs one request, from the handler's choice to the end of the answer.
REQUEST_FUNCTION = "ap_process_async_request"
FEW, MANY = 200, 1200


def instructions(peer, workload: Workload, only_request: bool) -> float:
    """User instructions per request: the difference between many requests and few.

    `only_request` counts inside httpd's request processing only; without it the listener, the
    reading of the request and the connection's states count as well.
    """
    few, many = (counted(peer, workload, count, only_request) for count in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def counted(peer, workload: Workload, count: int, only_request: bool) -> int:
    # Readable for the user that httpd's child becomes: it writes the result when it ends.
    folder = pathlib.Path(tempfile.mkdtemp(dir=str(peer.context.shared)))
    folder.chmod(0o777)
    result = folder / "callgrind"
    wrapper = [
        program("valgrind"), "-q", "--tool=callgrind", "--callgrind-out-file=%s" % result,
    ]
    if only_request:
        wrapper.append("--toggle-collect=" + REQUEST_FUNCTION)
    peer.start_single(wrapper)
    try:
        drive(peer.port(), workload, 1, count)
    finally:
        peer.stop()
    found = re.findall(r"^(?:summary|totals): (\d+)", result.read_text(errors="replace"), re.M)
    if not found:
        raise Fault("callgrind left no total in %s" % result)
    return max(int(total) for total in found)
