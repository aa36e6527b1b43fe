"""flup, behind mod_proxy_fcgi."""

from peers import Behind
from server import TRUST_LENGTH


class Flup(Behind):
    name = "flup"
    title = "flup behind mod_proxy_fcgi"
    rank = 64
    answered = ("hello",)
    package, release = "flup", "1.0.3"
    scheme = "fcgi"
    # mod_proxy_fcgi's own default: a kept connection would hold one of flup's threads.
    reuse = False
    reloads = False

    def config(self, server):
        return [*super().config(server), TRUST_LENGTH]

    def command(self, server):
        return self.forked("flup", server)
