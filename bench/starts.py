"""What a window of load does not show: cold start, a change of code, and memory."""

import dataclasses
import os
import socket
import statistics
import subprocess
import time
from typing import Optional

import processes
from drive import drive
from server import HERE, Fault, Server
from workloads import PLAIN, named

ANSWER_SECONDS = 60
# Small against what is measured, large enough not to compete with it.
POLL = 0.002
# Enough for every thread to have been used; a CGI keeps nothing from request to request.
REQUESTS, CGI_REQUESTS = 500, 32
# Answers in a row after which no process is left that runs the old code.
STREAK = 20


@dataclasses.dataclass(frozen=True)
class Start:
    """Seconds from the start of everything to the first answer, and from a change of the code to
    the first of answers that are all new; megabytes after 500 requests.

    `changed` is None for what has to be started anew, `process` the median resident memory of the
    processes that run the application, where they can be told apart; `total` shares what is shared.
    """

    first: float
    changed: Optional[float]
    total: float
    process: Optional[float]


def start(peer) -> Start:
    server = peer.server(PLAIN)
    server.configure()
    began = time.perf_counter()
    server.spawn()
    try:
        answered(server)
        first = time.perf_counter() - began
        drive(server.port, named("hello"), 16, CGI_REQUESTS if server.meter else REQUESTS)
        if server.meter:
            processes.runs(server)
        total = sum(processes.memory(pid).pss for pid in processes.tree(server.roots()))
        daemons = [processes.memory(pid).rss for pid in processes.daemons(server)]
        process = statistics.median(daemons) if daemons else None
        return Start(first, change(peer, server), total, process)
    finally:
        server.stop()


def answered(server: Server, body: bytes = b"", streak: int = 1) -> float:
    """Asks until so many answers in a row have come, with this body if one is given; returns when
    the first of them had."""
    deadline = time.monotonic() + ANSWER_SECONDS
    seen, since = 0, 0.0
    while seen < streak:
        if time.monotonic() > deadline:
            raise Fault("%s: no answer within %d seconds:\n%s" % (
                server.name, ANSWER_SECONDS, server.said()))
        text = ask(server.port)
        if text.startswith(b"HTTP/1.1 200") and text.endswith(body):
            since = since if seen else time.perf_counter()
            seen += 1
        else:
            seen = 0
            time.sleep(POLL)
    return since


def ask(port: int) -> bytes:
    """All that one request on a connection of its own is answered with; nothing if it fails."""
    text = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as client:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while True:
                data = client.recv(65536)
                if not data:
                    return text
                text += data
    except OSError:
        return b""


def change(peer, server: Server) -> Optional[float]:
    if not peer.reloads:
        return None
    script, new = server.apps / "hello.py", b"Hello again, World!"
    # Nobody must read half a file.
    temporary = script.with_suffix(".new")
    temporary.write_bytes(script.read_bytes().replace(b"Hello World!", new))
    began = time.perf_counter()
    os.replace(temporary, script)
    peer.changed(server)
    return answered(server, new, STREAK) - began


def interpreter(python: str) -> float:
    """Resident megabytes of an interpreter that has imported the application and does no more."""
    process = subprocess.Popen(
        [python, "-c", "import hello; print('ready', flush=True); input()"],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(HERE / "apps")},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    try:
        process.stdout.readline()
        return processes.memory(process.pid).rss
    finally:
        process.communicate(b"\n")
