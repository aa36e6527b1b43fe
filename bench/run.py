#!/usr/bin/env python3
"""The project's benchmark: what a request costs, next to the limit and to mod_wsgi.

    bench/run.py --quick                    ratios for daily work, under three minutes
    bench/run.py --rounds 16 --markdown docs/performance.md      what is published
    bench/run.py --workload hello --peer embedded --peer bare    a part

The figure to judge by is CPU microseconds of all server processes per request, from /proc around a
window of wrk, whose own time is not in it. All peers run on the same httpd, settings and Python,
and take turns within every round, so that a slow moment of the machine hits them alike. One peer
runs twice (A/A): what its two figures differ by is noise. System calls (strace) and user
instructions (callgrind) per request are counted for `hello`; those have no noise.

Absolute figures of two runs are not comparable; ratios are.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import traceback
from typing import List

import measure
import report
from peers import Context, Peer, peers
from server import BUILD, PROJECT, Fault, make_docroot
from workloads import WORKLOADS

# Enough that a stray call of the listener does not show in the first decimal.
SYSCALL_REQUESTS = 2000


def main() -> int:
    options = arguments()
    try:
        return run(options)
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
    parser.add_argument("--seconds", type=int, default=1, help="length of one window (1)")
    parser.add_argument("--workload", action="append", choices=[w.name for w in WORKLOADS])
    parser.add_argument("--peer", action="append", choices=names)
    parser.add_argument("--no-counts", action="store_true", help="no strace and no valgrind")
    parser.add_argument("--no-repeat", action="store_true", help="no A/A entry")
    parser.add_argument("--python", default="/usr/bin/python3", help="default: %(default)s")
    parser.add_argument("--so", type=pathlib.Path, help="this project's module")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE",
                        help="write the tables between the markers of this file")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 3 if options.quick else 6
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return options


def run(options: argparse.Namespace) -> int:
    shared = pathlib.Path(tempfile.mkdtemp(prefix="mod_wsgi_rs-bench-"))
    running: List[Peer] = []
    try:
        shared.chmod(0o755)
        so = options.so or target_dir() / "release" / "libmod_wsgi_rs.so"
        context = Context(shared, options.python, so.resolve())
        chosen = [p for p in peers() if not options.peer or p.name in options.peer]
        for peer in chosen:
            peer.prepare(context)
        make_docroot(shared)
        lineup = [peer(context) for peer in chosen]
        if not options.no_repeat:
            # The peer that is judged, or else the first, stands in twice.
            lineup.insert(1, chosen[0](context, copy=1))
        workloads = [w for w in WORKLOADS if not options.workload or w.name in options.workload]
        results = report.Results(lineup, workloads, options.rounds, options.seconds)

        for peer in lineup:
            peer.start()
            running.append(peer)
        rounds(results, lineup, workloads, options)
        if not options.quick and not options.no_counts:
            count(results, lineup, running)
        show(results, context, options)
        return 1 if results.errors() else 0
    finally:
        for peer in running:
            try:
                peer.stop()
            except Fault:
                traceback.print_exc()
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


def rounds(results, lineup, workloads, options) -> None:
    for peer in lineup:
        for workload in workloads:
            if peer.answers(workload, options.quick):
                try:
                    measure.check(peer.port(), workload)
                    # Every child has loaded the program and every cache is warm before round one.
                    measure.window(peer.port(), peer.trees(), workload, 1)
                except Fault as fault:
                    raise Fault("%s, %s: %s" % (peer.title, workload.title, fault))
    for index in range(options.rounds):
        for workload in workloads:
            able = [peer for peer in lineup if peer.answers(workload, options.quick)]
            # Nobody always follows the same neighbour.
            turn = index % len(able)
            for peer in able[turn:] + able[:turn]:
                results.add(
                    peer, workload,
                    measure.window(peer.port(), peer.trees(), workload, options.seconds),
                )
        progress("round %d of %d" % (index + 1, options.rounds))


def count(results, lineup, running) -> None:
    """System calls on the running servers, then instructions on servers started for it."""
    hello = WORKLOADS[0]
    once = [peer for peer in lineup if not peer.name.endswith("-again")]
    for peer in once:
        progress("counting system calls: %s" % peer.title)
        results.syscalls[peer.name] = [
            measure.syscalls(peer.port(), peer.trees(), hello, connections, SYSCALL_REQUESTS)
            for connections in (1, hello.connections)
        ]
    while running:
        running.pop().stop()
    for peer in once:
        progress("counting instructions: %s" % peer.title)
        results.instructions[peer.name] = (
            measure.instructions(peer, hello, only_request=True),
            measure.instructions(peer, hello, only_request=False),
        )


def show(results, context, options) -> None:
    if options.quick:
        print(report.ratio_table(results))
        for line in results.errors():
            print(line)
    else:
        command = "bench/run.py " + " ".join(sys.argv[1:])
        text = report.markdown(results, context.version, command.strip())
        print(text)
        if options.markdown:
            report.write_between_markers(options.markdown, text)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "results.json").write_text(json.dumps(results.json(), indent=1))


def progress(text: str) -> None:
    print("bench: " + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
