"""This project, embedded mode."""

import subprocess

from peers import Peer
from server import PROJECT, Fault, wsgi_lines


class Embedded(Peer):
    name = "embedded"
    title = "mod_wsgi_rs embedded"
    rank = 0

    @classmethod
    def prepare(cls, context):
        if not context.so.exists():
            raise Fault("%s is not there; run: cargo build --release" % context.so)

    def config(self):
        return [
            'LoadModule wsgi_module "%s"' % self.context.so,
            *wsgi_lines(self.context.shared, self.context.home),
        ]

    def version(self):
        # A source archive has no git; the name alone is then right.
        described = subprocess.run(
            ["git", "-C", str(PROJECT), "describe", "--always", "--dirty"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        ).stdout.strip()
        return ("mod_wsgi_rs " + described).strip()
