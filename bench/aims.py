"""What the project wants to reach, each as a ratio or a count from one run, and whether it does."""

import dataclasses
import statistics
from typing import Callable, List, Optional, Tuple

from results import Quartiles, Results, ratios
from scaling import PLAIN

Measure = Callable[[Results], Optional[Quartiles]]


@dataclasses.dataclass(frozen=True)
class Aim:
    text: str
    # The loosest first.
    limits: Tuple[float, ...]
    measured: Measure
    at_least: bool = False
    # Counts and megabytes, which have no spread, instead of ratios.
    counted: bool = False
    unit: str = ""
    # The workload whose A/A ratio is the noise of this figure.
    workload: str = ""

    def reached(self, value: float, limit: float) -> bool:
        return value >= limit if self.at_least else value <= limit


def cpu(above: str, below: str, workload: str) -> Measure:
    return lambda results: results.ratio(above, below, workload)


def hello(text: str, above: str, below: str, *limits: float) -> Aim:
    return Aim("hello, 16 connections: " + text, limits, cpu(above, below, "hello"),
               workload="hello")


def single(value: Optional[float]) -> Optional[Quartiles]:
    return None if value is None else (value, value, value)


def calls(peer: str) -> Measure:
    return lambda results: single(results.calls(peer))


def calls_above_bare(results: Results) -> Optional[Quartiles]:
    ours, bare = results.calls("embedded"), results.calls("bare")
    return None if ours is None or bare is None else single(ours - bare)


def instructions(results: Results) -> Optional[Quartiles]:
    found = results.instructions.get("embedded")
    return single(found[0]) if found else None


def memory(results: Results) -> Optional[Quartiles]:
    """Of a daemon process, beyond a plain interpreter with the application."""
    found = [s.process for s in results.starts.get("daemon", []) if s.process is not None]
    if not found or results.interpreter is None:
        return None
    return single(statistics.median(found) - results.interpreter)


def speedup(title: str) -> Measure:
    """As a share of what the machine gives two plain interpreters."""
    def measured(results: Results) -> Optional[Quartiles]:
        if title not in results.lanes or PLAIN not in results.lanes:
            return None
        plain = statistics.median(b / a for a, b in zip(*results.lanes[PLAIN]))
        one, two = results.lanes[title]
        low, middle, high = ratios(two, one)
        return low / plain, middle / plain, high / plain
    return measured


def aims() -> List[Aim]:
    found = [
        hello("embedded / bare handler", "embedded", "bare", 1.30),
        hello("embedded / mod_wsgi embedded", "embedded", "mod_wsgi", 0.50),
        hello("daemon / mod_wsgi daemon", "daemon", "mod_wsgi_daemon", 0.45, 0.40),
        hello("daemon / mod_wsgi embedded", "daemon", "mod_wsgi", 1.00),
        hello("daemon / uWSGI", "daemon", "uwsgi", 1.00),
        hello("daemon / granian", "daemon", "granian", 1.00),
        hello("daemon / gunicorn", "daemon", "gunicorn", 1.00),
        Aim("hello, 16 connections: CGI / embedded", (50.0,), cpu("cgi", "embedded", "hello"),
            at_least=True, workload="hello"),
    ]
    both = "embedded", "mod_wsgi", "daemon", "mod_wsgi_daemon"
    for title, workload, embedded, daemon in (
        ("hello, 1 connection", "hello1", (1.00,), (0.40,)),
        ("30 request headers", "headers", (0.50,), (0.40,)),
        ("10 KB JSON", "json", (0.60,), (0.40,)),
        ("10 MB bytes", "bytes", (0.95,), (0.70, 0.60)),
        ("stream, 1000 x 1 KB", "stream", (0.75,), (0.65,)),
        ("50 MB file", "file", (1.00,), (0.20,)),
        ("10 MB upload", "upload", (0.90,), (0.90, 0.80)),
    ):
        for ours, theirs, limits in zip(both[::2], both[1::2], (embedded, daemon)):
            kind = "mod_wsgi " + ours
            found.append(Aim("%s: %s / %s" % (title, ours, kind), limits,
                             cpu(ours, theirs, workload), workload=workload))
    found += [
        Aim("50 MB file: embedded / httpd's static file", (1.10,),
            cpu("embedded", "static", "file"), workload="file"),
        Aim("50 MB file: daemon / httpd's static file", (1.20,),
            cpu("daemon", "static", "file"), workload="file"),
        Aim("64 connections on 10 threads: p99, daemon / mod_wsgi daemon", (1.00,),
            lambda results: results.ratio("daemon", "mod_wsgi_daemon", "sleep", "p99_us")),
        Aim("hello, system calls: daemon, both sides", (30, 26), calls("daemon"),
            counted=True),
        Aim("hello, system calls: embedded beyond the bare handler", (1,), calls_above_bare,
            counted=True),
        Aim("hello, instructions: embedded, in httpd's request processing", (60000,),
            instructions, counted=True),
        Aim("memory of a daemon process beyond a plain interpreter with the application", (6,),
            memory, counted=True, unit=" MB"),
    ]
    for title in (
        "daemon, two processes", "daemon, two interpreters with their own locks",
        "daemon, free threads", "embedded, two interpreters with their own locks",
        "embedded, free threads",
    ):
        found.append(Aim("CPU-bound Python: %s, share of the machine's own gain" % title, (0.85,),
                         speedup(title), at_least=True))
    return found


def verdict(aim: Aim, results: Results, value: float) -> str:
    """One word per limit; what is closer to it than one peer to itself is said to be so."""
    noise = results.noise(aim.workload) if aim.workload else None
    if aim.counted:
        # As it is shown: a stray call in a thousand requests is none.
        value = round(value, 1)
    said = []
    for limit in aim.limits:
        text = "holds" if aim.reached(value, limit) else "does not hold"
        if noise is not None and abs(value / limit - 1) <= noise:
            text += ", within the noise"
        said.append(text)
    return " / ".join(said)
