"""Plain CGI: wsgiref's CGIHandler under mod_cgid.

mod_cgid's process ignores SIGCHLD, so the kernel drops the CPU time of the scripts it started. They
run below a small program, meter.c, which waits for the interpreter and writes down what both took.
"""

import pathlib

from peers import Peer
from server import BUILD, TRUST_LENGTH, capture, program

SOURCE = pathlib.Path(__file__).with_name("meter.c")
METER = BUILD / "meter"

SCRIPT = """import sys
sys.path.insert(0, %r)
from wsgiref.handlers import CGIHandler
from hello import application
CGIHandler().run(application)
"""


class Cgi(Peer):
    name = "cgi"
    title = "CGI under mod_cgid"
    rank = 70
    answered = ("hello",)
    modules = ("cgid", "alias")

    @classmethod
    def prepare(cls, context):
        BUILD.mkdir(parents=True, exist_ok=True)
        capture(program("cc", "gcc"), "-O2", "-Wall", "-o", str(METER), str(SOURCE))

    def config(self, server):
        # What httpd's user runs and writes has to be where it may.
        meter, script = server.root / "meter", server.root / "hello.cgi"
        meter.write_bytes(METER.read_bytes())
        meter.chmod(0o755)
        script.write_text(SCRIPT % str(server.apps))
        server.meter = server.root / "metered"
        server.meter.touch()
        server.meter.chmod(0o666)
        start = server.root / "hello"
        start.write_text("#!%s %s\n" % (meter, self.context.python))
        start.chmod(0o755)
        return [
            'ScriptSock "%s/cgid"' % server.root,
            'ScriptAlias /hello "%s"' % start,
            TRUST_LENGTH,
        ]
