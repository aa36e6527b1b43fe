"""httpd's own static files: the limit for the `file` workload."""

from peers import Peer


class Static(Peer):
    name = "static"
    title = "httpd's static file"
    rank = 30
    answered = ("hello", "file")
    daily, quick = True, ("file",)
    rival = "mod_wsgi"
    traced = single = True
    reloads = False

    def config(self, server):
        # The type that the other peers send.
        return ['<Location "/">\n    ForceType text/plain\n</Location>']
