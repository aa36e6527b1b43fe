"""waitress, behind mod_proxy_http."""

from peers import Behind


class Waitress(Behind):
    name = "waitress"
    title = "waitress behind mod_proxy_http"
    rank = 63
    package, release = "waitress", "3.0.2"
    # It has to be started anew.
    reloads = False

    def command(self, server):
        return self.forked("waitress", server)
