"""The peers, one file each. A new peer is a new file with a class derived from Peer; nothing else
has to be told. Those whose application runs in a program behind httpd derive from Behind."""

import importlib
import json
import pathlib
import pkgutil
from typing import Iterator, List, Optional, Sequence, Tuple, Type

import registry
from server import Fault, Server, capture
from workloads import PLAIN, Setup, Workload


class Context:
    """What the peers of one run share."""

    def __init__(self, shared: pathlib.Path, python: str, so: pathlib.Path):
        # Server roots, programs and files; readable by httpd's children.
        self.shared = shared
        self.so = so
        self.python = python
        # Prefix, shared library, version and a tag for caches of that Python.
        self.home, self.library, self.version, self.tag = python_facts(python)


PYTHON_FACTS = """
import json, os, platform, sys, sysconfig
get = sysconfig.get_config_var
folder, name = get("LIBDIR") or "", get("INSTSONAME") or ""
files = [os.path.join(folder, name), os.path.join(folder, get("MULTIARCH") or "", name)]
files = [file for file in files if ".so" in name and os.path.exists(file)]
tag = sys.implementation.cache_tag + getattr(sys, "abiflags", "")
print(json.dumps([sys.base_prefix, files and files[0], platform.python_version(), tag]))
"""


def python_facts(python: str) -> Tuple[str, str, str, str]:
    home, library, version, tag = json.loads(capture(python, "-c", PYTHON_FACTS))
    if not library:
        raise Fault("%s has no shared libpython" % python)
    return home, library, version, tag


class Peer:
    """One way to answer the workloads through httpd."""

    # How it is called on the command line and in the results; without a name it is no peer.
    name = ""
    title = ""
    # Order in the tables.
    rank = 50
    # Names of the workloads it answers; None is all, except those it lacks.
    answered: Optional[Sequence[str]] = None
    lacks: Sequence[str] = ()
    # Whether --quick asks for it, and if given, the only workloads it is asked for then.
    daily = False
    quick: Optional[Sequence[str]] = None
    # The peer of the same mode that it is compared with.
    rival = "mod_wsgi_daemon"
    # Of httpd's own modules, those that the configuration needs.
    modules: Sequence[str] = ()
    # Whether system calls are counted, and instructions, which takes one process that does it all.
    traced = False
    single = False
    # Whether it takes up changed code, by itself or when told by `changed`.
    reloads = True

    def __init__(self, context: Context, copy: int = 0):
        self.context = context
        # The second of two equal peers shows the noise of the measurement itself.
        self.copy = bool(copy)
        if copy:
            self.name, self.title = self.name + "-again", self.title + ", again"
            self.quick = ("hello",)

    @classmethod
    def prepare(cls, context: Context) -> None:
        """Installs or builds what the peer needs, once."""

    def answers(self, workload: Workload, quick: bool) -> bool:
        """Whether this run asks the peer for that workload."""
        if quick and self.quick is not None and workload.name not in self.quick:
            return False
        if self.answered is not None and workload.name not in self.answered:
            return False
        return workload.name not in self.lacks

    def config(self, server: Server) -> List[str]:
        """The lines of httpd's configuration that make the difference."""
        raise NotImplementedError

    def programs(self, server: Server) -> List[List[str]]:
        """What runs behind httpd."""
        return []

    def server(self, setup: Setup = PLAIN, single: bool = False) -> Server:
        """A server that is not started yet."""
        name = "%s-%s" % (self.name, "single" if single else setup.name)
        server = Server(name, self.context.shared, setup, single)
        server.modules = self.modules
        server.lines = self.config(server)
        server.programs = self.programs(server)
        return server

    def changed(self, server: Server) -> None:
        """Tells the server that the code has changed, where it does not look for itself."""

    def version(self) -> str:
        """For the line of versions under the tables; empty if there is nothing to say."""
        return ""


class Behind(Peer):
    """An application server from PyPI that httpd forwards to over a Unix socket."""

    rank = 60
    answered = ("hello", "json", "bytes", "stream", "file", "upload", "sleep")
    package = ""
    release = ""
    # Behind which of httpd's proxies, and whether that keeps connections to it.
    scheme = "http"
    reuse = True

    @classmethod
    def prepare(cls, context):
        registry.install(context, cls.package, cls.release)

    @property
    def modules(self):
        return ("proxy", "proxy_" + self.scheme)

    def config(self, server):
        return [
            # A failed connection while the program starts must not put it aside for a minute.
            'ProxyPass "/" "unix:%s|%s://localhost/" retry=0 enablereuse=%s' % (
                server.socket, self.scheme, "on" if self.reuse else "off"),
        ]

    def command(self, server: Server) -> List[str]:
        """The program with its arguments."""
        raise NotImplementedError

    def programs(self, server):
        return [self.command(server)]

    def installed(self, name: str) -> str:
        """A program of the virtual environment."""
        return str(registry.folder(self.context) / "bin" / name)

    def forked(self, kind: str, server: Server) -> List[str]:
        """For what cannot run several processes on one socket by itself."""
        launcher = pathlib.Path(__file__).resolve().parent.parent / "forked.py"
        return [
            self.installed("python"), str(launcher), kind, str(server.socket),
            str(server.setup.processes), str(server.setup.threads),
        ]

    def version(self):
        return "%s %s" % (self.package, self.release)


def peers() -> List[Type[Peer]]:
    """Every peer there is a file for, in the tables' order."""
    for found in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
        importlib.import_module("peers." + found.name)
    return sorted((peer for peer in derived(Peer) if peer.name), key=lambda peer: peer.rank)


def derived(peer: Type[Peer]) -> Iterator[Type[Peer]]:
    for below in peer.__subclasses__():
        yield below
        yield from derived(below)
