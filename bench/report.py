"""Medians, spread and ratios, and the tables they are shown in."""

import datetime
import os
import pathlib
import platform
import statistics
from typing import Dict, List, Sequence, Tuple

from server import Fault, capture, httpd_program

BEGIN = "<!-- bench:begin (written by bench/run.py) -->"
END = "<!-- bench:end -->"


def quartiles(values: Sequence[float]) -> Tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(above: Sequence[float], below: Sequence[float]) -> Tuple[float, float, float]:
    """Quartiles of the ratios round by round: what drifts in the machine hits both alike."""
    return quartiles([a / b for a, b in zip(above, below)])


class Results:
    """What a run has measured, by peer name and workload name."""

    def __init__(self, peers, workloads, rounds: int, seconds: int):
        self.peers = peers
        self.workloads = workloads
        self.rounds = rounds
        self.seconds = seconds
        self.windows: Dict[Tuple[str, str], list] = {}
        # One request at a time, and at the workload's connections.
        self.syscalls: Dict[str, List[Dict[str, float]]] = {}
        self.instructions: Dict[str, Tuple[float, float]] = {}

    def add(self, peer, workload, window) -> None:
        self.windows.setdefault((peer.name, workload.name), []).append(window)

    def cpu(self, peer_name: str, workload) -> List[float]:
        return [w.cpu_us for w in self.windows.get((peer_name, workload.name), [])]

    def errors(self) -> List[str]:
        return [
            "%s, %s: %d errors" % (peer, workload, sum(w.errors for w in windows))
            for (peer, workload), windows in self.windows.items()
            if any(w.errors for w in windows)
        ]

    def has(self, peer_name: str) -> bool:
        return any(name == peer_name for name, _ in self.windows)

    def ratio_columns(self) -> List[Tuple[str, str, str]]:
        """(title, above, below) of each ratio that the peers of this run allow."""
        names = [peer.name for peer in self.peers]
        columns = []
        for limit in ("bare", "static", "mod_wsgi"):
            for peer in names:
                if peer == limit or peer.endswith("-again") or limit not in names:
                    continue
                # What is a limit itself is not compared.
                if peer in ("bare", "static"):
                    continue
                columns.append(("%s / %s" % (peer, limit), peer, limit))
        for name in names:
            if name.endswith("-again"):
                first = name[: -len("-again")]
                columns.append(("A/A: %s, again / %s" % (first, first), name, first))
        return columns

    def json(self) -> dict:
        return {
            "rounds": self.rounds,
            "seconds": self.seconds,
            "windows": {
                "%s %s" % key: [vars(w) for w in windows] for key, windows in self.windows.items()
            },
            "syscalls": self.syscalls,
            "instructions": self.instructions,
        }


def number(value: float) -> str:
    return "%.1f" % value if value < 100 else "{:,.0f}".format(value)


def spread(values: Sequence[float]) -> str:
    low, middle, high = quartiles(values)
    return "%s (%s–%s)" % (number(middle), number(low), number(high))


def ratio(values: Tuple[float, float, float]) -> str:
    low, middle, high = values
    return "%.2f (%.2f–%.2f)" % (middle, low, high)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def ratio_table(results: Results) -> str:
    columns = results.ratio_columns()
    rows = []
    for workload in results.workloads:
        row = [workload.title]
        for _, above, below in columns:
            if below == "static" and workload.path != "/file":
                row.append("–")
                continue
            a, b = results.cpu(above, workload), results.cpu(below, workload)
            row.append(ratio(ratios(a, b)) if a and b else "–")
        rows.append(row)
    return table(["CPU ratio"] + [title for title, _, _ in columns], rows)


def cpu_table(results: Results) -> str:
    rows = []
    for workload in results.workloads:
        row = [workload.title]
        for peer in results.peers:
            values = results.cpu(peer.name, workload)
            row.append(spread(values) if values else "–")
        rows.append(row)
    return table(["CPU us per request"] + [peer.title for peer in results.peers], rows)


def throughput_table(results: Results) -> str:
    """Requests per second and latencies of the first workload."""
    workload = results.workloads[0]
    rows = []
    for peer in results.peers:
        windows = results.windows.get((peer.name, workload.name))
        if not windows:
            continue
        rows.append([
            peer.title,
            spread([w.per_second for w in windows]),
            number(statistics.median(w.p50_us for w in windows)),
            number(statistics.median(w.p99_us for w in windows)),
        ])
    return table([workload.title, "requests per second", "p50 us", "p99 us"], rows)


def counts_table(results: Results) -> str:
    """What has no noise, the futex calls of threads that meet under strace excepted."""
    rows = []
    for peer in results.peers:
        if peer.name not in results.syscalls or peer.name not in results.instructions:
            continue
        alone, together = results.syscalls[peer.name]
        inside, whole = results.instructions[peer.name]
        rows.append([
            peer.title,
            "%.1f" % sum(alone.values()),
            "%.1f + %.1f" % (
                sum(together.values()) - together.get("futex", 0), together.get("futex", 0)
            ),
            "{:,.0f}".format(inside),
            "{:,.0f}".format(whole),
        ])
    header = [
        "hello, per request", "system calls, one request at a time",
        "at 16 connections: calls + futex under strace",
        "instructions in httpd's request processing",
        "instructions of the whole process",
    ]
    return table(header, rows) if rows else ""


def call_names(results: Results) -> str:
    """Which calls they are, one line per peer."""
    lines = []
    for peer in results.peers:
        if peer.name in results.syscalls:
            named = sorted(results.syscalls[peer.name][0].items(), key=lambda item: -item[1])
            text = ", ".join("%s %.2f" % item for item in named if item[1] >= 0.05)
            lines.append("- %s, one request at a time: %s" % (peer.title, text))
    return "\n".join(lines)


def versions(results: Results, python: str) -> str:
    httpd = capture(httpd_program(), "-v").splitlines()[0].partition(":")[2].strip()
    parts = [httpd, "event MPM, 2 children x 64 threads", "Python " + python]
    parts += [text for text in dict.fromkeys(peer.version() for peer in results.peers) if text]
    parts += [cpu_model(), "Linux " + platform.release(), str(datetime.date.today())]
    return "; ".join(parts)


def cpu_model() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return "%d x %s" % (len(os.sched_getaffinity(0)), line.partition(":")[2].strip())
    except OSError:
        pass
    return platform.machine()


def markdown(results: Results, python: str, command: str) -> str:
    parts = [
        "Command: `%s`. %d rounds of %d s per peer and workload, interleaved; medians with "
        "quartiles. CPU is user and system time of all server processes; ratios are taken round by "
        "round. The A/A column is one peer against itself: no ratio closer to 1 than that column's "
        "spread is a difference." % (command, results.rounds, results.seconds),
        versions(results, python) + ".",
        ratio_table(results),
        cpu_table(results),
        throughput_table(results),
    ]
    counts = counts_table(results)
    if counts:
        parts += [counts, call_names(results)]
    parts += ["Errors: " + "; ".join(results.errors()) + "."] if results.errors() else []
    return "\n\n".join(part for part in parts if part)


def write_between_markers(path: pathlib.Path, text: str) -> None:
    """Replaces what stands between the markers; the prose around them stays."""
    section = "%s\n\n%s\n\n%s" % (BEGIN, text, END)
    old = path.read_text() if path.exists() else "# Performance\n\n"
    if (BEGIN in old) != (END in old):
        raise Fault("%s has only one of the two markers" % path)
    if BEGIN in old:
        head, rest = old.split(BEGIN, 1)
        new = head + section + rest.split(END, 1)[1]
    else:
        new = old.rstrip("\n") + "\n\n" + section + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(new)
