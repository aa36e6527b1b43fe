"""Shows its environ, one entry a line: key=type:value, in ASCII."""

import os


def application(environ, start_response):
    lines = []
    for key in sorted(environ):
        value = environ[key]
        assert type(key) is str
        lines.append("%s=%s:%s" % (key, type(value).__name__, ascii(value)))
    lines.append("pid=%d" % os.getpid())
    body = "\n".join(lines).encode("ascii") + b"\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
