"""Shows that two threads run Python code at the same time, without measuring time.

`?wait` spins in pure Python until a byte of a shared file changes. Nothing in that loop lets go of a GIL,
and the switch interval is an hour: with one GIL for both, `?signal` would never be run. It changes the byte.
"""

import mmap
import os
import sys

path = os.path.join(os.environ["TEST_SCRATCH"], "shared")
with open(path, "ab+") as file:
    if file.seek(0, os.SEEK_END) < 2:
        file.truncate(2)
    shared = mmap.mmap(file.fileno(), 2)

# How far a spinning thread goes at most: a test that fails should not take an hour.
PATIENCE = 2_000_000_000


def application(environ, start_response):
    seen = 0
    if environ["QUERY_STRING"] == "wait":
        sys.setswitchinterval(3600)
        shared[1] = 1
        while not shared[0] and seen < PATIENCE:
            seen += 1
        sys.setswitchinterval(0.005)
    elif environ["QUERY_STRING"] == "signal":
        shared[0] = 1
    # `?spins` says whether the other one has begun to.
    facts = {
        "spins": shared[1],
        "signalled": shared[0],
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "group": environ["mod_wsgi.application_group"],
    }
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["".join(f"{key}={value}\n" for key, value in facts.items()).encode()]
