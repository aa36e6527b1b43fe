#!/usr/bin/env python3
"""The project's benchmark: what a request costs, next to the limit and to other servers.

    bench/run.py --quick                    ratios for daily work, under three minutes
    bench/run.py --rounds 16 --markdown docs/performance.md      what is published
    bench/run.py --workload hello --peer embedded --peer bare    a part
    bench/run.py --from build/bench/results.json --markdown docs/performance.md
                                            the tables and plots of the last run, once more

The figure to judge by is CPU microseconds of all server processes per request, from /proc around a
window of wrk or h2load, whose own time is not in it. All peers run on the same httpd, settings and
Python, and take turns within every round, so that a slow moment of the machine hits them alike. One
peer runs twice (A/A): what its two figures differ by is noise. System calls (strace) and user
instructions (callgrind) per request are counted for `hello`; those have no noise.

Absolute figures of two runs are not comparable; ratios are.
"""

import argparse
import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Dict, List

import counts
import measure
import plot
import report
import scaling
import starts
from peers import Context, Peer, peers
from results import Results
from server import BUILD, PROJECT, Fault, Server, make_shared
from workloads import WORKLOADS, named

# What a run consists of.
PARTS = ("load", "counts", "starts", "scaling")


def main() -> int:
    options = arguments()
    try:
        if options.source:
            results = Results.load(options.source)
        else:
            results = run(options)
            results.save(BUILD / "results.json")
        show(results, options)
        return 1 if results.errors() else 0
    except Fault as fault:
        print("bench: %s" % fault, file=sys.stderr)
        return 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in peers()]
    parser.add_argument("--quick", action="store_true", help="3 rounds, ratios only")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 6; with --quick 3")
    parser.add_argument("--seconds", type=int, default=1, metavar="N",
                        help="length of one window (1)")
    parser.add_argument("--workload", action="append", choices=[w.name for w in WORKLOADS],
                        help="this one and no other; may be repeated")
    parser.add_argument("--peer", action="append", choices=names,
                        help="this one and no other; may be repeated")
    parser.add_argument("--part", action="append", choices=PARTS,
                        help="this part of the run and no other; may be repeated")
    parser.add_argument("--no-repeat", action="store_true", help="no A/A entry")
    parser.add_argument("--python", default="/usr/bin/python3", metavar="FILE",
                        help="the interpreter of all peers (%(default)s)")
    parser.add_argument("--so", type=pathlib.Path, metavar="FILE",
                        help="this project's module (that of cargo build --release)")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE",
                        help="write the tables between the markers of this file, and the plots "
                        "beside it")
    parser.add_argument("--from", type=pathlib.Path, metavar="FILE", dest="source",
                        help="measure nothing, show what a run has left in this file")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 3 if options.quick else 6
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    options.part = ("load",) if options.quick else options.part or PARTS
    return options


def run(options: argparse.Namespace) -> Results:
    shared = pathlib.Path(tempfile.mkdtemp(prefix="mod_wsgi_rs-bench-"))
    try:
        shared.chmod(0o755)
        so = options.so or target_dir() / "release" / "libmod_wsgi_rs.so"
        context = Context(shared, options.python, so.resolve())
        chosen = [
            peer for peer in peers()
            if (peer.name in options.peer if options.peer else peer.daily or not options.quick)
        ]
        for peer in chosen:
            peer.prepare(context)
        make_shared(shared)
        lineup = [peer(context) for peer in chosen]
        workloads = [
            w for w in WORKLOADS
            if (w.name in options.workload if options.workload else w.quick or not options.quick)
        ]
        loaded = list(lineup)
        if not options.no_repeat and "load" in options.part:
            # The peer that is judged, or else the first, stands in twice.
            loaded.insert(1, chosen[0](context, copy=1))
        results = Results(
            command=" ".join(["bench/run.py", *sys.argv[1:]]),
            versions=report.versions(lineup, context.version),
            rounds=options.rounds,
            seconds=options.seconds,
            peers={peer.name: peer.title for peer in loaded},
            rivals={peer.name: peer.rival for peer in loaded},
            workloads={w.name: w.title for w in workloads} if "load" in options.part else {},
        )
        if "load" in options.part:
            load(results, loaded, workloads, options)
        if "counts" in options.part:
            count(results, lineup)
        if "starts" in options.part:
            # One figure each, and slow to get.
            start(results, context, lineup, max(1, options.rounds // 3))
        if "scaling" in options.part:
            results.lanes = scaling.scaling(
                context, max(1, options.rounds // 4), options.seconds, progress
            )
        return results
    finally:
        shutil.rmtree(shared, ignore_errors=True)


def target_dir() -> pathlib.Path:
    try:
        metadata = subprocess.run(
            ["cargo", "metadata", "--format-version=1", "--no-deps", "--offline"],
            cwd=str(PROJECT), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )
        return pathlib.Path(json.loads(metadata.stdout)["target_directory"])
    except (OSError, subprocess.CalledProcessError):
        return PROJECT / "target"


def load(results: Results, lineup: List[Peer], workloads, options) -> None:
    """All windows, round by round, on one server per peer and setup."""
    able = {w.name: [p for p in lineup if p.answers(w, options.quick)] for w in workloads}
    servers: Dict[tuple, Server] = {}
    with contextlib.ExitStack() as running:
        for workload in workloads:
            for peer in able[workload.name]:
                key = peer.name, workload.setup.name
                if key not in servers:
                    servers[key] = peer.server(workload.setup)
                    servers[key].start()
                    running.callback(servers[key].stop)
                try:
                    measure.check(servers[key], workload)
                    # Every process has loaded the program and every cache is warm in round one.
                    measure.window(servers[key], workload, 1)
                except Fault as fault:
                    raise Fault("%s, %s: %s" % (peer.title, workload.title, fault))
        for index in range(options.rounds):
            for workload in workloads:
                # Nobody always follows the same neighbour.
                turn = index % max(1, len(able[workload.name]))
                for peer in able[workload.name][turn:] + able[workload.name][:turn]:
                    server = servers[peer.name, workload.setup.name]
                    results.add(
                        peer.name, workload.name,
                        measure.window(server, workload, options.seconds),
                    )
            progress("round %d of %d" % (index + 1, options.rounds))


def count(results: Results, lineup: List[Peer]) -> None:
    hello = named("hello")
    for peer in lineup:
        if peer.traced:
            progress("counting system calls: %s" % peer.title)
            server = peer.server()
            server.start()
            try:
                results.syscalls[peer.name] = tuple(
                    counts.syscalls(server, hello, connections)
                    for connections in (1, hello.connections)
                )
            finally:
                server.stop()
        if peer.single:
            progress("counting instructions: %s" % peer.title)
            results.instructions[peer.name] = (
                counts.instructions(peer, hello, only_request=True),
                counts.instructions(peer, hello, only_request=False),
            )


def start(results: Results, context: Context, lineup: List[Peer], trials: int) -> None:
    for index in range(trials):
        for peer in lineup:
            results.starts.setdefault(peer.name, []).append(starts.start(peer))
        progress("cold starts, %d of %d" % (index + 1, trials))
    results.interpreter = starts.interpreter(context.python)


def show(results: Results, options) -> None:
    if options.quick:
        print(report.ratio_table(results))
        for line in results.errors():
            print(line)
        return
    print(report.markdown(results))
    if options.markdown:
        plots = []
        for suffix, text, svg in (
            ("", "CPU time per request of every workload, next to a bare C handler",
             plot.workloads_plot(results)),
            ("-hello", "CPU time of hello behind every server", plot.hello_plot(results)),
        ):
            if svg:
                file = options.markdown.with_name(options.markdown.stem + suffix + ".svg")
                file.write_text(svg)
                plots.append((file.name, text))
        report.write_between_markers(options.markdown, report.markdown(results, plots))


def progress(text: str) -> None:
    print("bench: " + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
