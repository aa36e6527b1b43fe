"""granian, behind mod_proxy_http."""

import signal

from peers import Behind


class Granian(Behind):
    name = "granian"
    title = "granian behind mod_proxy_http"
    rank = 62
    package, release = "granian", "2.8.7"

    def command(self, server):
        return [
            self.installed("granian"), "--uds", str(server.socket), "--uds-permissions", "666",
            "--interface", "wsgi", "--http", "1", "--workers", str(server.setup.processes),
            "--blocking-threads", str(server.setup.threads), "--log-level", "error",
            "router:application",
        ]

    def changed(self, server):
        server.running[0].send_signal(signal.SIGHUP)
