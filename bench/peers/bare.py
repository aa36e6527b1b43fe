"""A C handler inside httpd that sends the same bytes: the limit for anything embedded."""

import pathlib
import shutil

from peers import Peer
from server import BUILD, apxs_program, capture

SOURCE = pathlib.Path(__file__).with_name("mod_bare.c")


class Bare(Peer):
    name = "bare"
    title = "bare C handler"
    rank = 20
    lacks = ("sleep",)
    daily = True
    rival = "mod_wsgi"
    traced = single = True
    reloads = False

    @classmethod
    def prepare(cls, context):
        built, copy = BUILD / ".libs" / "mod_bare.so", BUILD / SOURCE.name
        if built.exists() and built.stat().st_mtime > SOURCE.stat().st_mtime:
            return
        BUILD.mkdir(parents=True, exist_ok=True)
        # libtool writes beside the source, so it gets a copy.
        shutil.copyfile(SOURCE, copy)
        capture(apxs_program(), "-c", "-Wc,-O2", "-o", str(BUILD / "mod_bare.so"), str(copy))

    def config(self, server):
        return [
            'LoadModule bare_module "%s"' % (BUILD / ".libs" / "mod_bare.so"),
            'BareFile "%s/docroot/file"' % server.shared,
            '<Location "/">\n    SetHandler bare\n</Location>',
        ]
