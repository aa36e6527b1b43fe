"""What is counted and has no noise: system calls and user instructions per request."""

import pathlib
import re
import signal
import subprocess
import tempfile
from typing import Dict, List

import processes
from drive import drive
from server import Fault, Server, program
from workloads import Workload

# Enough that a stray call of the listener does not show in the first decimal; and of several
# batches the one with the fewest calls: what a busy machine adds is threads that wake up late.
SYSCALL_REQUESTS, BATCHES = 800, 3
# Long enough for a traced server to go back to waiting.
PAUSE = 0.003


def syscalls(server: Server, workload: Workload, connections: int) -> Dict[str, Dict[str, float]]:
    """System calls per request by name, for httpd's children and for the application's processes.

    With one connection every request finds the server waiting, which gives the same number in every
    run. With several, threads meet under the tracer, and the futex calls are more than in earnest.
    """
    # Modules loaded, threads started and caches filled before anything is counted.
    drive(server.port, workload, 16, 500)
    batches = [batch(server, workload, connections) for _ in range(BATCHES)]
    return min(batches, key=lambda sides: sum(sum(calls.values()) for calls in sides.values()))


def batch(server: Server, workload: Workload, connections: int) -> Dict[str, Dict[str, float]]:
    pause = PAUSE if connections == 1 else 0.0
    with tempfile.TemporaryDirectory() as folder:
        tracers = {}
        try:
            for side, pids in processes.sides(server).items():
                if pids:
                    tracers[side] = Tracer(pathlib.Path(folder) / side, pids)
            drive(server.port, workload, connections, SYSCALL_REQUESTS, pause)
        finally:
            for tracer in tracers.values():
                tracer.stop()
        return {side: tracer.calls(SYSCALL_REQUESTS) for side, tracer in tracers.items()}


class Tracer:
    """strace on running processes; counts from when it is made."""

    def __init__(self, table: pathlib.Path, pids: List[int]):
        self.table = table
        command = [program("strace"), "-f", "-c", "-o", str(table)]
        for pid in pids:
            command += ["-p", str(pid)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )
        missing, said = set(pids), ""
        while missing:
            line = self.process.stderr.readline()
            if not line:
                self.process.wait()
                raise Fault("strace could not attach (not root?):\n" + said)
            said += line
            attached = re.search(r"Process (\d+) attached", line)
            if attached:
                missing.discard(int(attached.group(1)))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()

    def calls(self, requests: int) -> Dict[str, float]:
        counted = strace_table(self.table.read_text())
        if not counted:
            raise Fault("strace counted nothing")
        return {name: calls / requests for name, calls in counted.items()}


def strace_table(text: str) -> Dict[str, int]:
    """The calls by name, of: % time, seconds, usecs/call, calls, [errors,] name."""
    rows = (line.split() for line in text.splitlines())
    return {
        row[-1]: int(row[3]) for row in rows
        if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"
    }


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
    server = peer.server(single=True)
    # Opened as root, and written when httpd's child ends, as the user that it has become.
    result = server.root / "callgrind"
    result.touch()
    result.chmod(0o666)
    wrapper = [
        program("valgrind"), "-q", "--tool=callgrind", "--callgrind-out-file=%s" % result,
    ]
    if only_request:
        wrapper.append("--toggle-collect=" + REQUEST_FUNCTION)
    server.start(wrapper)
    try:
        drive(server.port, workload, 1, count)
    finally:
        server.stop()
    found = re.findall(r"^(?:summary|totals): (\d+)", result.read_text(errors="replace"), re.M)
    if not found:
        raise Fault("callgrind left no total in %s" % result)
    return max(int(total) for total in found)
