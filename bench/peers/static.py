"""httpd's own static files: the limit for the `file` workload."""

from peers import Peer


class Static(Peer):
    name = "static"
    title = "httpd's static file"
    rank = 30
    lacks = ("stream", "upload")
    quick = ("file",)

    def config(self):
        # The type that the other peers send.
        return ['<Location "/">\n    ForceType text/plain\n</Location>']
