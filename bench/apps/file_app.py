"""file: 50 MB through wsgi.file_wrapper. BENCH_FILE is set by the server's configuration."""

import os


def application(environ, start_response):
    path = environ["BENCH_FILE"]
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(os.stat(path).st_size)),
        ],
    )
    return environ["wsgi.file_wrapper"](open(path, "rb"), 65536)
