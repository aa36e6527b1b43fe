"""What the peers are asked to do, one entry per row of the tables."""

import dataclasses
from typing import Dict, Tuple

MEGABYTE = 1024 * 1024
FILE_SIZE = 50 * MEGABYTE

# Thirty headers of the size browsers and proxies send.
THIRTY = {"X-Bench-%02d" % n: "a value of an ordinary size, %02d" % n for n in range(30)}


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


# Large answers use fewer connections: what is under way when a window closes is not counted as a
# request, and with sixteen answers of 50 MB that would be a visible share of the work.
WORKLOADS: Tuple[Workload, ...] = (
    Workload("hello", "hello, 16 connections", "/hello", 16, 12),
    Workload("hello1", "hello, 1 connection", "/hello", 1, 12),
    Workload("headers", "30 request headers", "/hello", 16, 12, headers=THIRTY),
    Workload("json", "10 KB JSON", "/json", 16, 10240),
    Workload("bytes", "10 MB bytes", "/bytes", 4, 10 * MEGABYTE),
    Workload("stream", "stream, 1000 x 1 KB", "/stream", 16, 1000 * 1024),
    Workload("file", "50 MB file", "/file", 4, FILE_SIZE),
    Workload("upload", "10 MB upload", "/upload", 4, 8, upload=10 * MEGABYTE),
)

# The program in bench/apps behind each path.
APPS = {
    "/hello": "hello.py",
    "/json": "json_app.py",
    "/bytes": "bytes_app.py",
    "/stream": "stream.py",
    "/file": "file_app.py",
    "/upload": "upload.py",
}
