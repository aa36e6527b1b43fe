"""Starting and stopping httpd with a configuration and a server root of its own."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time
from typing import List, Optional, Sequence

from workloads import APPS, FILE_SIZE

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent
BUILD = PROJECT / "build" / "bench"

# Fixed numbers of processes and threads: nothing is started or ended while something is measured.
CHILDREN, THREADS = 2, 64
START_SECONDS = 30
STOP_SECONDS = 30


class Fault(Exception):
    """Something that ends the run with one message."""


def program(*names: str) -> str:
    """The first of these programs that is found."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    for name in names:
        found = name and shutil.which(name, path=path)
        if found:
            return found
    raise Fault("not found: %s (scripts/install-deps.sh bench)" % " or ".join(filter(None, names)))


def httpd_program() -> str:
    return program(os.environ.get("HTTPD", ""), "apache2", "httpd")


def apxs_program() -> str:
    return program(os.environ.get("APXS", ""), "apxs", "apxs2")


def capture(*command: str) -> str:
    """What a command prints; a failure ends the run with its output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Fault("%s failed:\n%s" % (" ".join(command), done.stdout))
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def child_user() -> Optional[str]:
    """Who httpd's children run as when httpd is started by root."""
    if os.geteuid():
        return None
    for name in ("www-data", "apache", "httpd", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            pass
    raise Fault("there is no user for httpd's children")


def make_docroot(root: pathlib.Path) -> pathlib.Path:
    """What the static peer and the `file` workload send: the same bytes as bench/apps."""
    docroot = root / "docroot"
    docroot.mkdir(parents=True)
    head, tail = b'{"items": "', b'"}'
    (docroot / "hello").write_bytes(b"Hello World!")
    (docroot / "json").write_bytes(head + b"x" * (10240 - len(head) - len(tail)) + tail)
    (docroot / "bytes").write_bytes(b"x" * (10 * 1024 * 1024))
    with open(docroot / "file", "wb") as file:
        block = b"x" * (1024 * 1024)
        for _ in range(FILE_SIZE // len(block)):
            file.write(block)
    shutil.copytree(HERE / "apps", root / "apps", ignore=shutil.ignore_patterns("__pycache__"))
    return docroot


class Httpd:
    """One httpd. `single` is httpd's debugging mode: one process, for instruction counts."""

    def __init__(self, name: str, shared: pathlib.Path, lines: Sequence[str], single: bool = False):
        self.name = name
        self.root = shared / name
        self.shared = shared
        self.lines = lines
        self.single = single
        self.port = free_port()
        self.process: Optional[subprocess.Popen] = None

    @property
    def log(self) -> pathlib.Path:
        return self.root / "error.log"

    def start(self, wrapper: Sequence[str] = ()) -> None:
        """Starts it, below `wrapper` if one is given, and returns when it accepts connections."""
        self.root.mkdir(exist_ok=True)
        # Under a tool the child writes the tool's result here, after it gave up root.
        self.root.chmod(0o777)
        config = self.root / "httpd.conf"
        config.write_text("\n".join(self._config()) + "\n")
        mode = "-X" if self.single else "-DFOREGROUND"
        # A bare environment: python3 must not be found through somebody's PATH, and string hashes
        # must not differ from run to run.
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        if self.single:
            environment["PYTHONHASHSEED"] = "0"
        with open(self.root / "output", "wb") as output:
            self.process = subprocess.Popen(
                [*wrapper, httpd_program(), mode, "-f", str(config)],
                cwd=str(self.root), env=environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )
        self._await()

    def _config(self) -> List[str]:
        modules = pathlib.Path(capture(apxs_program(), "-q", "LIBEXECDIR").strip())
        lines = [
            'ServerRoot "%s"' % self.root,
            'DefaultRuntimeDir "%s"' % self.root,
            'PidFile "%s/httpd.pid"' % self.root,
            'ErrorLog "%s"' % self.log,
            "LogLevel warn",
            "ServerName localhost",
            "ServerTokens Prod",
            "Listen 127.0.0.1:%d" % self.port,
        ]
        user = child_user()
        if user:
            lines.append("User %s" % user)
        # What is no file is built into httpd.
        for module in ("mpm_event", "unixd", "authz_core", "env"):
            path = modules / ("mod_%s.so" % module)
            if path.exists():
                lines.append('LoadModule %s_module "%s"' % (module, path))
        children, threads = (1, 4) if self.single else (CHILDREN, THREADS)
        lines += [
            "ServerLimit %d" % children,
            "StartServers %d" % children,
            "ThreadLimit %d" % threads,
            "ThreadsPerChild %d" % threads,
            "MaxRequestWorkers %d" % (children * threads),
            "MinSpareThreads %d" % (children * threads),
            "MaxSpareThreads %d" % (children * threads),
            "MaxConnectionsPerChild 0",
            "KeepAlive On",
            "MaxKeepAliveRequests 0",
            "KeepAliveTimeout 60",
            "EnableSendfile On",
            "EnableMMAP Off",
            'DocumentRoot "%s/docroot"' % self.shared,
            "<Directory />\n    AllowOverride None\n    Require all denied\n</Directory>",
            '<Directory "%s">\n    Require all granted\n</Directory>' % self.shared,
        ]
        return lines + list(self.lines)

    def _await(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                if self.process.poll() is not None:
                    raise Fault("%s ended at its start:\n%s" % (self.name, self._said()))
                if time.monotonic() > deadline:
                    self.stop()
                    raise Fault("%s does not accept connections:\n%s" % (self.name, self._said()))
                time.sleep(0.01)

    def _said(self) -> str:
        text = ""
        for path in (self.root / "output", self.log):
            if path.exists():
                text += path.read_text(errors="replace")
        return "\n".join(text.splitlines()[-20:])

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Fault("%s did not stop when asked" % self.name)
        finally:
            self.process = None


def wsgi_lines(shared: pathlib.Path, home: pathlib.Path) -> List[str]:
    """The configuration that this project and mod_wsgi have in common: embedded mode."""
    lines = [
        'WSGIPythonHome "%s"' % home,
        "WSGIApplicationGroup %{GLOBAL}",
        "WSGIEnableSendfile On",
    ]
    for path, app in APPS.items():
        lines.append('WSGIScriptAlias %s "%s/apps/%s"' % (path, shared, app))
    lines += [
        '<Location "/file">',
        '    SetEnv BENCH_FILE "%s/docroot/file"' % shared,
        "</Location>",
    ]
    return lines
