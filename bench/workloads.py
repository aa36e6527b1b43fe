"""What the peers are asked to do, one entry per row of the tables."""

import dataclasses
from typing import Dict, Tuple

MEGABYTE = 1024 * 1024
FILE_SIZE = 50 * MEGABYTE

# Thirty headers of the size browsers and proxies send.
THIRTY = {"X-Bench-%02d" % n: "a value of an ordinary size, %02d" % n for n in range(30)}


@dataclasses.dataclass(frozen=True)
class Setup:
    """How many processes and threads every peer outside httpd gets, and whether httpd speaks TLS.

    Each setup of a peer is a server of its own, so that what one workload needs (mod_ssl, a small
    group of threads) is not paid for by the others.
    """

    name: str
    processes: int
    threads: int
    tls: bool = False


PLAIN = Setup("plain", 2, 15)
OVERLOAD = Setup("overload", 2, 5)
TLS = Setup("tls", 2, 15, tls=True)


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    # The path that is asked for; also names the program in bench/apps.
    path: str
    connections: int
    # What a right answer holds, checked before anything is measured.
    size: int
    headers: Dict[str, str] = dataclasses.field(default_factory=dict)
    upload: int = 0
    setup: Setup = PLAIN
    # Requests under way at once on one HTTP/2 connection; 0 is HTTP/1.1.
    streams: int = 0
    # Whether --quick asks for it.
    quick: bool = False


# Large bodies use fewer connections: what of an upload is under way when a window closes is not
# counted as a request, and of sixteen that would be a visible share of the work.
WORKLOADS: Tuple[Workload, ...] = (
    Workload("hello", "hello, 16 connections", "/hello", 16, 12, quick=True),
    Workload("hello1", "hello, 1 connection", "/hello", 1, 12, quick=True),
    Workload("headers", "30 request headers", "/hello", 16, 12, headers=THIRTY),
    Workload("json", "10 KB JSON", "/json", 16, 10240),
    Workload("bytes", "10 MB bytes", "/bytes", 4, 10 * MEGABYTE, quick=True),
    Workload("stream", "stream, 1000 x 1 KB", "/stream", 16, 1000 * 1024, quick=True),
    Workload("file", "50 MB file", "/file", 4, FILE_SIZE, quick=True),
    Workload("upload", "10 MB upload", "/upload", 4, 8, upload=10 * MEGABYTE, quick=True),
    Workload(
        "sleep", "64 connections on 10 threads, 10 ms sleep", "/sleep", 64, 12, setup=OVERLOAD
    ),
    Workload(
        "close", "hello, new connection per request", "/hello", 16, 12,
        headers={"Connection": "close"},
    ),
    Workload("tls", "hello over TLS", "/hello", 16, 12, setup=TLS),
    Workload("h2", "hello over HTTP/2, 4 x 4 streams", "/hello", 4, 12, setup=TLS, streams=4),
)

# The program in bench/apps behind each path; bench/apps/router.py has the same table for servers
# that run one application.
APPS = {
    "/hello": "hello.py",
    "/json": "json_app.py",
    "/bytes": "bytes_app.py",
    "/stream": "stream.py",
    "/file": "file_app.py",
    "/upload": "upload.py",
    "/sleep": "sleeper.py",
}


def named(name: str) -> Workload:
    return next(workload for workload in WORKLOADS if workload.name == name)
