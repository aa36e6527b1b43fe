"""One httpd with a configuration and a server root of its own, and the programs behind it."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time
from typing import Dict, List, Optional, Sequence

from workloads import APPS, FILE_SIZE, Setup

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


def child_user() -> List[str]:
    """Who httpd's children run as when httpd is started by root."""
    if os.geteuid():
        return []
    for name in ("www-data", "apache", "httpd", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return ["User %s" % name, "Group #%d" % user.pw_gid]
    raise Fault("there is no user for httpd's children")


def make_shared(shared: pathlib.Path) -> None:
    """What all servers of a run read: documents with the bytes of bench/apps, and a certificate."""
    docroot = shared / "docroot"
    docroot.mkdir(parents=True)
    head, tail = b'{"items": "', b'"}'
    (docroot / "hello").write_bytes(b"Hello World!")
    (docroot / "json").write_bytes(head + b"x" * (10240 - len(head) - len(tail)) + tail)
    (docroot / "bytes").write_bytes(b"x" * (10 * 1024 * 1024))
    with open(docroot / "file", "wb") as file:
        block = b"x" * (1024 * 1024)
        for _ in range(FILE_SIZE // len(block)):
            file.write(block)
    capture(
        program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost",
        "-keyout", str(shared / "key.pem"), "-out", str(shared / "cert.pem"),
    )


# httpd drops the Content-Length of programs that it takes for CGI scripts unless it is told to
# trust them; all peers are to send the same answer.
TRUST_LENGTH = "SetEnv ap_trust_cgilike_cl 1"


class Server:
    """An httpd, started with what differs from peer to peer, and the programs it forwards to.

    `modules`, `lines` and `programs` come from the peer, which has seen the server's root by then:
    there are `apps`, a copy of bench/apps of its own, and `socket`, where a program is to listen.
    `single` is httpd's debugging mode: one process, for instruction counts.
    """

    def __init__(
        self, name: str, shared: pathlib.Path, setup: Setup, single: bool = False,
        children: int = CHILDREN,
    ):
        self.name = name
        self.shared = shared
        self.root = shared / name
        self.setup = setup
        self.single = single
        self.children = 1 if single else children
        # Of httpd's own modules, those that the lines need.
        self.modules: Sequence[str] = ()
        self.lines: Sequence[str] = ()
        self.programs: Sequence[Sequence[str]] = ()
        # Where programs report CPU time that /proc loses; see peers/cgi.py.
        self.meter: Optional[pathlib.Path] = None
        self.port = free_port()
        self.process: Optional[subprocess.Popen] = None
        self.running: List[subprocess.Popen] = []
        if self.root.exists():
            shutil.rmtree(self.root)
        self.root.mkdir()
        # Under a tool the child writes the tool's result here, after it gave up root; and the
        # programs behind httpd write what they keep beside their code.
        self.root.chmod(0o777)
        shutil.copytree(HERE / "apps", self.apps, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def apps(self) -> pathlib.Path:
        return self.root / "apps"

    @property
    def socket(self) -> pathlib.Path:
        return self.root / "socket"

    @property
    def log(self) -> pathlib.Path:
        return self.root / "error.log"

    def start(self, wrapper: Sequence[str] = ()) -> None:
        """Starts it, httpd below `wrapper` if one is given; returns when all of it accepts."""
        self.configure()
        self.spawn(wrapper)
        self.wait()

    def configure(self) -> None:
        (self.root / "httpd.conf").write_text("\n".join(self._config()) + "\n")

    def spawn(self, wrapper: Sequence[str] = ()) -> None:
        """Starts httpd and the programs behind it, and does not wait for any of them."""
        # A bare environment: python3 must not be found through somebody's PATH, and string hashes
        # must not differ from run to run.
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        if self.single:
            environment["PYTHONHASHSEED"] = "0"
        mode = "-X" if self.single else "-DFOREGROUND"
        for command in self.programs:
            self.running.append(self._popen(command, dict(
                environment, PYTHONPATH=str(self.apps),
                BENCH_FILE=str(self.shared / "docroot" / "file"),
            )))
        self.process = self._popen(
            [*wrapper, httpd_program(), mode, "-f", str(self.root / "httpd.conf")], environment
        )

    def _popen(self, command: Sequence[str], environment: Dict[str, str]) -> subprocess.Popen:
        with open(self.root / "output", "ab") as output:
            return subprocess.Popen(
                command, cwd=str(self.root), env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT,
                # httpd's children connect to the programs' sockets as a user of their own.
                umask=0,
                # So that what they have started can be ended with them.
                start_new_session=True,
            )

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
        lines += child_user()
        lines += load(modules, "mpm_event", "unixd", "authz_core", "env")
        children, threads = self.children, 4 if self.single else THREADS
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
        if self.setup.tls:
            lines += load(modules, "ssl", "http2")
            lines += [
                "SSLEngine On",
                'SSLCertificateFile "%s/cert.pem"' % self.shared,
                'SSLCertificateKeyFile "%s/key.pem"' % self.shared,
                "Protocols h2 http/1.1",
            ]
        return lines + load(modules, *self.modules) + list(self.lines)

    def wait(self) -> None:
        """Returns when httpd and every program behind it accept connections."""
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            for process in [self.process, *self.running]:
                if process.poll() is not None:
                    self.stop()
                    raise Fault("%s ended at its start:\n%s" % (self.name, self.said()))
            if time.monotonic() > deadline:
                self.stop()
                raise Fault("%s does not accept connections:\n%s" % (self.name, self.said()))
            time.sleep(0.01)

    def _accepts(self) -> bool:
        try:
            if self.running:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(1)
                    probe.connect(str(self.socket))
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def said(self) -> str:
        """The last lines of what it printed and logged."""
        text = ""
        for path in (self.root / "output", self.log):
            if path.exists():
                text += path.read_text(errors="replace")
        return "\n".join(text.splitlines()[-20:])

    def roots(self) -> List[int]:
        """The processes whose own and descendants' time is what a request costs."""
        return [process.pid for process in [self.process, *self.running]]

    def stop(self) -> None:
        """Ends httpd first, so that nobody forwards to a program that is gone."""
        late = []
        for process in [self.process, *self.running]:
            if process is None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                late.append(process.args[0])
            # Workers of a program that does not wait for them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.process, self.running = None, []
        if late:
            raise Fault("%s: %s did not stop when asked" % (self.name, " and ".join(late)))


def load(modules: pathlib.Path, *names: str) -> List[str]:
    """LoadModule lines; what is no file is built into httpd."""
    files = [(name, modules / ("mod_%s.so" % name)) for name in names]
    return ['LoadModule %s_module "%s"' % (name, path) for name, path in files if path.exists()]


def wsgi_lines(server: Server, home: str) -> List[str]:
    """The configuration that this project and mod_wsgi have in common, in both modes."""
    lines = [
        'WSGIPythonHome "%s"' % home,
        "WSGIApplicationGroup %{GLOBAL}",
        "WSGIEnableSendfile On",
    ]
    for path, app in APPS.items():
        lines.append('WSGIScriptAlias %s "%s/%s"' % (path, server.apps, app))
    lines += [
        '<Location "/file">',
        '    SetEnv BENCH_FILE "%s/docroot/file"' % server.shared,
        "</Location>",
    ]
    return lines


def daemon_lines(server: Server, home: str) -> List[str]:
    """The same in daemon mode."""
    return [
        "WSGIDaemonProcess bench processes=%d threads=%d python-home=%s display-name=%%{GROUP}" % (
            server.setup.processes, server.setup.threads, home),
        'WSGISocketPrefix "%s/wsgi"' % server.root,
        "WSGIProcessGroup bench",
        # No interpreter in httpd's children, which do not run the application.
        "WSGIRestrictEmbedded On",
        *wsgi_lines(server, home),
    ]
