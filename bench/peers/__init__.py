"""The peers, one file each. A new peer is a new file with a class derived from Peer; nothing else
has to be told. A peer whose application runs outside httpd starts its daemon in `start` before
httpd and lists the daemon's process in `trees`."""

import importlib
import json
import pathlib
import pkgutil
from typing import List, Optional, Sequence, Tuple, Type

from server import Fault, Httpd, capture
from workloads import Workload


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
    """One way to answer the workloads behind httpd."""

    # How it is called on the command line and in the tables.
    name = ""
    title = ""
    # Order in the tables.
    rank = 50
    # Names of workloads it cannot answer.
    lacks: Sequence[str] = ()
    # If given, the only workloads that --quick asks it for.
    quick: Optional[Sequence[str]] = None

    def __init__(self, context: Context, copy: int = 0):
        self.context = context
        # The second of two equal peers shows the noise of the measurement itself.
        if copy:
            self.name, self.title = self.name + "-again", self.title + ", again"
        self.httpd: Optional[Httpd] = None

    @classmethod
    def prepare(cls, context: Context) -> None:
        """Installs or builds what the peer needs, once."""

    def answers(self, workload: Workload, quick: bool) -> bool:
        """Whether this run asks the peer for that workload."""
        if quick and self.quick is not None and workload.name not in self.quick:
            return False
        return workload.name not in self.lacks

    def config(self) -> List[str]:
        """The lines of httpd's configuration that make the difference."""
        raise NotImplementedError

    def start(self) -> None:
        self.httpd = Httpd(self.name, self.context.shared, self.config())
        self.httpd.start()

    def start_single(self, wrapper: Sequence[str]) -> None:
        """As one process under a tool, for instruction counts."""
        self.httpd = Httpd(self.name + "-single", self.context.shared, self.config(), single=True)
        self.httpd.start(wrapper)

    def stop(self) -> None:
        if self.httpd:
            self.httpd.stop()

    def port(self) -> int:
        return self.httpd.port

    def trees(self) -> List[int]:
        """The processes whose own and descendants' time is the peer's cost."""
        return [self.httpd.process.pid]

    def version(self) -> str:
        """For the line of versions under the tables; empty if there is nothing to say."""
        return ""


def peers() -> List[Type[Peer]]:
    """Every peer there is a file for, in the tables' order."""
    for found in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
        importlib.import_module("peers." + found.name)
    return sorted(Peer.__subclasses__(), key=lambda peer: peer.rank)
