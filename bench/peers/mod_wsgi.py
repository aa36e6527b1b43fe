"""mod_wsgi 6.1.1 from PyPI, embedded mode."""

import os
import pathlib
import subprocess

from peers import Peer
from server import PROJECT, Fault, capture, wsgi_lines

VERSION = "6.1.1"


class ModWsgi(Peer):
    name = "mod_wsgi"
    title = "mod_wsgi embedded"
    rank = 10

    @classmethod
    def prepare(cls, context):
        context.mod_wsgi = installed(context)

    def config(self):
        return [
            'LoadModule wsgi_module "%s"' % self.context.mod_wsgi,
            *wsgi_lines(self.context.shared, self.context.home),
        ]

    def version(self):
        return "mod_wsgi " + VERSION


def installed(context) -> pathlib.Path:
    """The module, compiled for the run's Python and cached per Python."""
    venv = PROJECT / "build" / ("bench-venv-" + context.tag)
    if not (venv / "bin" / "python").exists():
        capture(context.python, "-m", "venv", str(venv))
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    found = find(venv)
    if not found or VERSION not in capture(*pip, "show", "mod_wsgi"):
        print("installing mod_wsgi %s into %s" % (VERSION, venv), flush=True)
        # pip's cache may hold one that was linked against another Python of the same version.
        capture(*pip, "install", "-q", "--no-cache-dir", "--no-binary", ":all:",
                "mod_wsgi==" + VERSION)
        found = find(venv)
    if not found:
        raise Fault("mod_wsgi %s was installed, but its module is not in %s" % (VERSION, venv))
    check_linked(found, context)
    return found


def find(venv: pathlib.Path):
    modules = sorted(venv.glob("lib/python*/site-packages/mod_wsgi/server/mod_wsgi-py*.so"))
    return modules[0] if modules else None


def check_linked(module: pathlib.Path, context) -> None:
    """Both modules must run the same Python library, or the comparison means nothing."""
    environment = dict(os.environ, LC_ALL="C")
    listing = subprocess.run(
        ["ldd", str(module)], stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
    linked = [line.split()[2] for line in listing.splitlines() if "libpython" in line]
    if not linked or not os.path.exists(linked[0]):
        raise Fault("mod_wsgi is not linked to a shared libpython:\n" + listing)
    if os.path.realpath(linked[0]) != os.path.realpath(context.library):
        raise Fault("mod_wsgi is linked to %s, not to %s of %s; remove %s and run this again" % (
            linked[0], context.library, context.python, module.parents[5]))
