"""mod_wsgi 6.1.1 from PyPI, in both modes."""

import os
import pathlib
import subprocess

import registry
from peers import Peer
from server import Fault, daemon_lines, wsgi_lines

VERSION = "6.1.1"


class Theirs(Peer):
    daily = True
    traced = True

    @classmethod
    def prepare(cls, context):
        context.mod_wsgi = installed(context)

    def config(self, server):
        lines = self.lines(server, self.context.home)
        return ['LoadModule wsgi_module "%s"' % self.context.mod_wsgi, *lines]

    def version(self):
        return "mod_wsgi " + VERSION


class ModWsgi(Theirs):
    name = "mod_wsgi"
    title = "mod_wsgi embedded"
    rank = 10
    # As for this project's embedded mode.
    lacks = ("sleep",)
    rival = "mod_wsgi"
    single = True
    lines = staticmethod(wsgi_lines)


class ModWsgiDaemon(Theirs):
    name = "mod_wsgi_daemon"
    title = "mod_wsgi daemon"
    rank = 15
    lines = staticmethod(daemon_lines)


def installed(context) -> pathlib.Path:
    """The module, compiled for the run's Python and cached per Python."""
    # pip's cache may hold one that was linked against another Python of the same version.
    registry.install(context, "mod_wsgi", VERSION, "--no-cache-dir", "--no-binary", ":all:")
    modules = sorted(registry.folder(context).glob(
        "lib/python*/site-packages/mod_wsgi/server/mod_wsgi-py*.so"
    ))
    if not modules:
        raise Fault("mod_wsgi %s was installed, but its module is not there" % VERSION)
    check_linked(modules[0], context)
    return modules[0]


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
