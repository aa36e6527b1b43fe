"""gunicorn with threads, behind mod_proxy_http."""

import signal

from peers import Behind


class Gunicorn(Behind):
    name = "gunicorn"
    title = "gunicorn behind mod_proxy_http"
    rank = 61
    package, release = "gunicorn", "27.0.1"

    def command(self, server):
        return [
            self.installed("gunicorn"), "--bind", "unix:%s" % server.socket,
            "--worker-class", "gthread", "--workers", str(server.setup.processes),
            "--threads", str(server.setup.threads),
            # As long as httpd may keep a connection, which it otherwise finds closed.
            "--keep-alive", "600", "--no-control-socket", "--log-level", "error",
            "router:application",
        ]

    def changed(self, server):
        server.running[0].send_signal(signal.SIGHUP)
