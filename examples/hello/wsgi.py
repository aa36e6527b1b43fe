"""The smallest WSGI application that shows where it runs.

`make serve` serves this file when APP names no other.
"""

import platform
import sys


def application(environ, start_response):
    lines = [
        "Hello from mod_wsgi_rs!",
        "",
        "Python:   %s (%s)" % (platform.python_version(), sys.prefix),
        "Server:   %s" % environ.get("SERVER_SOFTWARE", ""),
        "Request:  %s %s%s" % (
            environ["REQUEST_METHOD"],
            environ.get("SCRIPT_NAME", ""),
            environ.get("PATH_INFO", ""),
        ),
        "",
    ]
    body = "\n".join(lines).encode("latin-1", "replace")
    headers = [
        ("Content-Type", "text/plain; charset=ISO-8859-1"),
        ("Content-Length", str(len(body))),
    ]
    start_response("200 OK", headers)
    return [body]
