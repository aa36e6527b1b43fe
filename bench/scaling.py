"""Python that computes: how much more two lanes get done than one.

A lane is a client with one connection. The second one finds a process, an interpreter with its own
lock, or a thread without any lock, so that two processors could do twice as much. What this machine
itself gives is shown by two plain interpreters beside one.
"""

import dataclasses
import pathlib
import subprocess
import sys
from typing import Dict, List, Optional, Tuple

from measure import check, wrk
from server import HERE, PROJECT, Fault, Server
from workloads import Setup, Workload

ONE = Workload("spin", "CPU-bound Python", "/spin0", 1, 11)
TWO = dataclasses.replace(ONE, path="/spin", connections=2)

# By title: computations per second with one lane and with two, of every round.
Lanes = Dict[str, Tuple[List[float], List[float]]]

PLAIN = "plain interpreters, two beside one"


@dataclasses.dataclass(frozen=True)
class Way:
    title: str
    module: pathlib.Path
    # Prefix of the Python to use.
    home: pathlib.Path
    # Options of the daemon process group; None is embedded mode in one child of httpd.
    group: Optional[str]
    # Whether the second lane has an interpreter of its own, and what makes it one.
    second: bool = False
    directive: str = ""

    def server(self, shared: pathlib.Path, number: int) -> Server:
        server = Server("scaling-%d" % number, shared, Setup("scaling", 0, 0), children=1)
        lines = ['LoadModule wsgi_module "%s"' % self.module, 'WSGIPythonHome "%s"' % self.home]
        if self.directive:
            lines.append(self.directive)
        if self.group is not None:
            lines += [
                'WSGIDaemonProcess spin python-home="%s" %s' % (self.home, self.group),
                'WSGISocketPrefix "%s/wsgi"' % server.root,
                "WSGIRestrictEmbedded On",
            ]
        for lane in (0, 1):
            lines.append(
                'WSGIScriptAlias /spin%d "%s/spin.py" process-group=%s application-group=%s' % (
                    lane, server.apps, "%{GLOBAL}" if self.group is None else "spin",
                    "lane%d" % lane if self.second else "%{GLOBAL}",
                )
            )
        server.lines = lines
        return server


def ways(context) -> List[Way]:
    """What can be done with the Pythons of this machine; what is left out is said."""
    found = [Way("daemon, two processes", context.so, context.home, "processes=2 threads=1")]
    if hasattr(context, "mod_wsgi"):
        found.append(dataclasses.replace(
            found[0], title="mod_wsgi daemon, two processes", module=context.mod_wsgi
        ))
    kinds = (
        ("two interpreters with their own locks", False, (3, 12), "WSGIPerInterpreterGIL On"),
        ("free threads", True, (3, 13), "WSGIFreeThreading On"),
    )
    for title, free, oldest, directive in kinds:
        home = python_home(context, free, oldest)
        if not home:
            print("bench: no Python for: %s (scripts/test-pythons.sh)" % title, file=sys.stderr)
            continue
        for mode, group in (("daemon", "processes=1 threads=4"), ("embedded", None)):
            found.append(
                Way("%s, %s" % (mode, title), context.so, home, group, not free, directive)
            )
    return found


FACTS = """
import sys, sysconfig
get = sysconfig.get_config_var
print(*sys.version_info[:2], get("Py_GIL_DISABLED") or 0, get("INSTSONAME"))
"""


def python_home(context, free: bool, oldest: Tuple[int, int]) -> Optional[pathlib.Path]:
    """The prefix of the first Python that qualifies: the run's own, or one of the tests'."""
    homes = [pathlib.Path(context.home)]
    homes += sorted(PROJECT.glob("build/pythons/*[0-9t]"), reverse=True)
    for home in homes:
        if not (home / "bin" / "python3").exists():
            continue
        done = subprocess.run(
            [str(home / "bin" / "python3"), "-c", FACTS],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        facts = done.stdout.split()
        if done.returncode or len(facts) != 4 or ".so" not in facts[3]:
            continue
        if (int(facts[0]), int(facts[1])) >= oldest and bool(int(facts[2])) == free:
            return home
    return None


def scaling(context, rounds: int, seconds: int, progress) -> Lanes:
    lanes: Lanes = {PLAIN: ([], [])}
    running: List[Tuple[Way, Server]] = []
    try:
        for number, way in enumerate(ways(context)):
            server = way.server(context.shared, number)
            server.start()
            running.append((way, server))
            lanes[way.title] = ([], [])
            for path in ("/spin0", "/spin1"):
                check(server, dataclasses.replace(ONE, path=path))
        for index in range(rounds):
            for count, values in zip((1, 2), lanes[PLAIN]):
                values.append(plain(context, count, seconds))
            for way, server in running:
                one, two = lanes[way.title]
                one.append(per_second(server, ONE, seconds, 1))
                two.append(per_second(server, TWO, seconds, 2))
            progress("CPU-bound Python, round %d of %d" % (index + 1, rounds))
    finally:
        for _, server in running:
            server.stop()
    return lanes


def per_second(server: Server, workload: Workload, seconds: int, threads: int) -> float:
    load = wrk(server, workload, seconds, threads=threads, lanes=threads > 1)
    if load.errors:
        raise Fault("%s: %d errors:\n%s" % (server.name, load.errors, server.said()))
    return load.requests / load.seconds


COMPUTE = """
import sys, time
from spin import compute
end, done = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    compute()
    done += 1
print(done)
"""


def plain(context, count: int, seconds: int) -> float:
    """Computations per second of so many interpreters at once."""
    environment = {
        "PATH": "/usr/bin:/bin", "PYTHONPATH": str(HERE / "apps"), "PYTHONDONTWRITEBYTECODE": "1",
    }
    computing = [
        subprocess.Popen(
            [context.python, "-c", COMPUTE, str(seconds)], env=environment,
            stdout=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]
    return sum(int(process.communicate()[0]) for process in computing) / seconds
