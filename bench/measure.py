"""One window of load against one peer: CPU time per request, throughput and latencies."""

import dataclasses
import http.client
import json
import pathlib
import re
import ssl
import subprocess
import tempfile
from typing import List, Sequence

import processes
from server import HERE, Fault, Server, program
from workloads import MEGABYTE, Workload


@dataclasses.dataclass(frozen=True)
class Window:
    """What one run of the load generator against one peer gave."""

    cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float
    errors: int


@dataclasses.dataclass(frozen=True)
class Load:
    """What the load generator saw."""

    requests: float
    seconds: float
    p50_us: float
    p99_us: float
    errors: int


CHECK_SECONDS = 20


def check(server: Server, workload: Workload) -> None:
    """One request by an independent client: a wrong answer must not become a good figure."""
    if server.setup.tls:
        # The certificate is made for the run and signed by itself.
        trusting = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, timeout=CHECK_SECONDS, context=trusting
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=CHECK_SECONDS)
    try:
        body = b"x" * workload.upload if workload.upload else None
        connection.request(
            "POST" if body else "GET", workload.path, body=body, headers=workload.headers
        )
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as fault:
        raise Fault("%s was not answered (%s):\n%s" % (workload.path, fault, server.said()))
    finally:
        connection.close()
    if answer.status != 200 or len(content) != workload.size:
        raise Fault("%s was answered with %d and %d bytes instead of 200 and %d:\n%s" % (
            workload.path, answer.status, len(content), workload.size, server.said()))
    if workload.upload and content != str(workload.upload).encode():
        raise Fault("an upload of %d bytes was seen as %r" % (workload.upload, content))


def window(server: Server, workload: Workload, seconds: int) -> Window:
    """Loads the server for so long and divides its CPU time by the requests completed."""
    before = processes.cpu_us(server)
    ended = processes.runs(server) if server.meter else 0
    load = (h2load if workload.streams else wrk)(server, workload, seconds)
    requests = load.requests
    if server.meter:
        # A process per request goes on after the client has left, and its time is counted: so it
        # is the ended processes that the time is divided by.
        requests = processes.runs(server) - ended
    spent = processes.cpu_us(server) - before
    return Window(
        cpu_us=spent / requests,
        per_second=load.requests / load.seconds,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        errors=load.errors,
    )


def wrk(
    server: Server, workload: Workload, seconds: int, threads: int = 1, lanes: bool = False
) -> Load:
    """HTTP/1.1. With `lanes` every thread asks for a path of its own: its number is appended."""
    scheme = "https" if server.setup.tls else "http"
    command = [
        program("wrk"), "-t%d" % threads, "-c%d" % workload.connections, "-d%ds" % seconds,
        "--timeout", "60",
    ]
    for header in workload.headers.items():
        command += ["-H", "%s: %s" % header]
    url = "%s://127.0.0.1:%d%s" % (scheme, server.port, workload.path)
    command += ["-s", str(HERE / "wrk.lua"), url, "--", str(workload.upload)]
    if lanes:
        command.append("lanes")
    result = json.loads(output(command).strip().splitlines()[-1])
    if not result["requests"]:
        raise Fault("no request was completed in %d s:\n%s" % (seconds, server.said()))
    requests = result["requests"]
    if workload.size > MEGABYTE:
        # What has come of an answer when the window closes is a share of it: of few large answers
        # that is too much to leave out.
        requests = result["bytes"] / workload.size
    return Load(
        requests, result["seconds"], result["p50"], result["p99"], sum(result["errors"].values())
    )


def h2load(server: Server, workload: Workload, seconds: int) -> Load:
    """HTTP/2."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log"
        text = output([
            program("h2load"), "-t1", "-c%d" % workload.connections, "-m%d" % workload.streams,
            "-D%d" % seconds, "--log-file=%s" % log,
            "https://127.0.0.1:%d%s" % (server.port, workload.path),
        ])
        return h2load_result(text, log.read_text().splitlines(), seconds)


def h2load_result(text: str, log: Sequence[str], seconds: int) -> Load:
    """`text` is what it prints; a line of the log is start, status and microseconds."""
    counts = re.search(
        r"requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text
    )
    if not counts or not int(counts.group(1)):
        raise Fault("h2load completed no request:\n" + text)
    succeeded, failed, _, _ = (int(count) for count in counts.groups())
    if not re.search(r"^Application protocol: h2$", text, re.M):
        raise Fault("the server did not speak HTTP/2:\n" + text)
    took = sorted(int(line.split("\t")[2]) for line in log)
    # What failed includes what was an error or timed out.
    return Load(succeeded, seconds, percentile(took, 50), percentile(took, 99), failed)


def percentile(values: List[int], percent: int) -> float:
    """Of sorted values, the smallest that so many percent do not exceed."""
    return float(values[max(0, -(-len(values) * percent // 100) - 1)])


def output(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Fault("%s failed:\n%s" % (command[0], done.stdout))
    return done.stdout
