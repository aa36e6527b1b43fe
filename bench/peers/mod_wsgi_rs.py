"""This project, in both modes."""

import subprocess

from peers import Peer
from server import PROJECT, Fault, daemon_lines, wsgi_lines


class Ours(Peer):
    daily = True
    traced = True

    @classmethod
    def prepare(cls, context):
        if not context.so.exists():
            raise Fault("%s is not there; run: cargo build --release --workspace" % context.so)

    def config(self, server):
        lines = self.lines(server, self.context.home)
        return ['LoadModule wsgi_module "%s"' % self.context.so, *lines]

    def version(self):
        # A source archive has no git; the name alone is then right.
        described = subprocess.run(
            ["git", "-C", str(PROJECT), "describe", "--always", "--dirty"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        ).stdout.strip()
        return ("mod_wsgi_rs " + described).strip()


class Embedded(Ours):
    name = "embedded"
    title = "mod_wsgi_rs embedded"
    rank = 0
    # Its threads are httpd's: there is no small number of them to be overloaded.
    lacks = ("sleep",)
    rival = "mod_wsgi"
    single = True
    lines = staticmethod(wsgi_lines)


class Daemon(Ours):
    name = "daemon"
    title = "mod_wsgi_rs daemon"
    rank = 5
    lines = staticmethod(daemon_lines)
