"""uWSGI, behind mod_proxy_uwsgi."""

import signal

from peers import Behind


class Uwsgi(Behind):
    name = "uwsgi"
    title = "uWSGI behind mod_proxy_uwsgi"
    rank = 60
    package, release = "uWSGI", "2.0.31"
    scheme = "uwsgi"
    # Its protocol has one request per connection.
    reuse = False
    traced = True

    def command(self, server):
        return [
            self.installed("uwsgi"), "--master", "--die-on-term", "--need-app", "--disable-logging",
            "--uwsgi-socket", str(server.socket), "--chmod-socket=666", "--listen", "128",
            "--processes", str(server.setup.processes), "--threads", str(server.setup.threads),
            "--chdir", str(server.apps), "--module", "router:application",
        ]

    def changed(self, server):
        server.running[0].send_signal(signal.SIGHUP)
