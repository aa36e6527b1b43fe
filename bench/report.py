"""The tables in which results are shown."""

import datetime
import os
import pathlib
import platform
import statistics
from typing import Optional, Sequence, Tuple

from aims import aims, verdict
from results import Quartiles, Results, quartiles, ratios
from server import CHILDREN, THREADS, Fault, capture, httpd_program
from workloads import PLAIN

BEGIN = "<!-- bench:begin (written by bench/run.py) -->"
END = "<!-- bench:end -->"
NOTHING = "–"

# What is read first: this project against the limit and its forebear.
RATIOS = (
    ("embedded", "bare"), ("embedded", "mod_wsgi"), ("daemon", "bare"),
    ("daemon", "mod_wsgi_daemon"), ("daemon", "mod_wsgi"), ("daemon", "uwsgi"),
)


def number(value: float) -> str:
    if value < 100:
        return "%.1f" % value
    return "{:,.0f}".format(value)


def spread(values: Sequence[float]) -> str:
    low, middle, high = map(number, quartiles(values))
    return middle if low == high else "%s (%s–%s)" % (middle, low, high)


def ratio(values: Optional[Quartiles]) -> str:
    """Two decimals, unless they would say less than the digits before them."""
    if values is None:
        return NOTHING
    low, middle, high = (("%.2f" if value < 10 else "%.0f") % value for value in values)
    return middle if low == high else "%s (%s–%s)" % (middle, low, high)


def median(values: Sequence[float]) -> str:
    return number(statistics.median(values))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def ratio_table(results: Results) -> str:
    pairs = [pair for pair in RATIOS if all(name in results.peers for name in pair)]
    titles = ["%s / %s" % pair for pair in pairs]
    again = results.again()
    if again:
        pairs.append(again)
        titles.append("A/A: %s, again" % again[1])
    rows = [
        [title] + [ratio(results.ratio(*pair, workload)) for pair in pairs]
        for workload, title in results.workloads.items()
    ]
    # Named as on the command line, which keeps the table narrow.
    return table(["CPU per request, ratio"] + [t.replace("_", " ") for t in titles], rows)


def aims_table(results: Results) -> str:
    rows, missing = [], []
    for aim in aims():
        values = aim.measured(results)
        if values is None:
            missing.append(aim.text)
            continue
        wanted = " / ".join("{:,g}".format(limit) for limit in aim.limits)
        rows.append([
            aim.text,
            ("at least " if aim.at_least else "at most ") + wanted + aim.unit,
            (number(values[1]) if aim.counted else ratio(values)) + aim.unit,
            verdict(aim, results, values[1]),
        ])
    parts = [table(["aim", "wanted", "measured", "verdict"], rows)] if rows else []
    if missing:
        parts.append("Not measured in this run: %s." % "; ".join(missing))
    return "\n\n".join(parts)


def workload_table(results: Results, workload: str) -> str:
    rows = []
    for peer, title in results.peers.items():
        windows = results.windows.get(workload, {}).get(peer)
        if not windows:
            continue
        rows.append([
            title,
            spread([w.cpu_us for w in windows]),
            ratio(results.ratio(peer, "bare", workload)),
            ratio(results.ratio(peer, results.rivals[peer], workload)),
            spread([w.per_second for w in windows]),
            spread([w.p50_us for w in windows]),
            spread([w.p99_us for w in windows]),
            str(sum(w.errors for w in windows)),
        ])
    header = [
        results.workloads[workload], "CPU us", "CPU / bare", "CPU / mod_wsgi, same mode",
        "requests/s", "p50 us", "p99 us", "errors",
    ]
    return table(header, rows)


def calls_table(results: Results) -> str:
    rows = []
    for peer, (alone, together) in results.syscalls.items():
        sides = [sum(alone.get(side, {}).values()) for side in ("httpd", "application")]
        sums = [sum(calls.values()) for calls in together.values()]
        futex = sum(calls.get("futex", 0) for calls in together.values())
        inside = results.instructions.get(peer)
        rows.append([
            results.peers[peer],
            "%.1f" % sum(sides), *("%.1f" % side if side else NOTHING for side in sides),
            "%.1f + %.1f" % (sum(sums) - futex, futex),
            *("{:,.0f}".format(count) for count in inside or ()),
            *([NOTHING, NOTHING] if not inside else []),
        ])
    header = [
        "hello, per request", "system calls, one at a time", "of httpd", "of the application",
        "at 16 connections, + futex", "instructions in httpd's request processing",
        "of the whole process",
    ]
    return table(header, rows)


def call_names(results: Results) -> str:
    """Which calls they are, one line per peer and side."""
    lines = []
    for peer, (alone, _) in results.syscalls.items():
        for side, calls in alone.items():
            named = sorted(calls.items(), key=lambda item: -item[1])
            text = ", ".join("%s %.2f" % item for item in named if item[1] >= 0.05)
            lines.append("- %s, %s: %s" % (results.peers[peer], side, text))
    return "\n".join(lines)


def starts_table(results: Results) -> str:
    rows = []
    for peer, starts in results.starts.items():
        changed = [s.changed * 1000 for s in starts if s.changed is not None]
        process = [s.process for s in starts if s.process is not None]
        rows.append([
            results.peers[peer],
            spread([s.first * 1000 for s in starts]),
            spread(changed) if changed else NOTHING,
            median([s.total for s in starts]),
            median(process) if process else NOTHING,
        ])
    if results.interpreter is not None:
        rows.append(["a plain interpreter with the application imported", NOTHING, NOTHING,
                     NOTHING, number(results.interpreter)])
    header = [
        "start and memory", "start to first answer, ms", "new code to new answers only, ms",
        "memory of all processes, MB", "resident, per process of the application, MB",
    ]
    return table(header, rows)


def lanes_table(results: Results) -> str:
    rows = [
        [title, spread(one), spread(two), ratio(ratios(two, one))]
        for title, (one, two) in results.lanes.items()
    ]
    return table(["CPU-bound Python", "one lane, per second", "two lanes", "two / one"], rows)


def versions(peers, python: str) -> str:
    httpd = capture(httpd_program(), "-v").splitlines()[0].partition(":")[2].strip()
    parts = [
        httpd,
        "event MPM, %d children x %d threads" % (CHILDREN, THREADS),
        "daemons %d processes x %d threads" % (PLAIN.processes, PLAIN.threads),
        "Python " + python,
    ]
    parts += [text for text in dict.fromkeys(peer.version() for peer in peers) if text]
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


def folded(summary: str, parts: Sequence[str]) -> str:
    return "<details>\n<summary>%s</summary>\n\n%s\n\n</details>" % (summary, "\n\n".join(parts))


def markdown(results: Results, plots: Sequence[Tuple[str, str]] = ()) -> str:
    """All tables; `plots` are file names beside the page, each with what it shows."""
    parts = [
        "Command: `%s`. %d rounds of %d s per peer and workload, interleaved; medians with "
        "quartiles. CPU is user and system time of all server processes; ratios are taken round by "
        "round. The A/A column is one peer against itself: no ratio closer to 1 than that column's "
        "spread is a difference, and a verdict so close to its limit is marked." % (
            results.command, results.rounds, results.seconds),
        results.versions + ".",
        "Errors: %s." % ("; ".join(results.errors()) or "none"),
    ]
    parts += ["![%s](%s)" % (text, file) for file, text in plots]
    parts.append(aims_table(results))
    if results.workloads:
        tables = [workload_table(results, workload) for workload in results.workloads]
        parts += [ratio_table(results), folded("Every peer, workload by workload", tables)]
    if results.syscalls:
        parts.append(calls_table(results))
        parts.append(folded("Which system calls they are", [call_names(results)]))
    if results.starts:
        parts.append(starts_table(results))
    if results.lanes:
        parts.append(lanes_table(results))
    return "\n\n".join(parts)


def write_between_markers(path: pathlib.Path, text: str) -> None:
    """Replaces what stands between the markers; the prose around them stays."""
    old = path.read_text() if path.exists() else "# Performance\n\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(replaced(old, text))


def replaced(old: str, text: str) -> str:
    section = "%s\n\n%s\n\n%s" % (BEGIN, text, END)
    if (BEGIN in old) != (END in old):
        raise Fault("the page has only one of the two markers")
    if BEGIN not in old:
        return old.rstrip("\n") + "\n\n" + section + "\n"
    head, rest = old.split(BEGIN, 1)
    return head + section + rest.split(END, 1)[1]
