"""file: 50 MB through wsgi.file_wrapper, where the server has one. BENCH_FILE names the file."""

import os

BLOCK = 65536


def application(environ, start_response):
    path = environ["BENCH_FILE"]
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(os.stat(path).st_size)),
        ],
    )
    file = open(path, "rb")
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](file, BLOCK)
    return blocks(file)


def blocks(file):
    with file:
        while True:
            block = file.read(BLOCK)
            if not block:
                return
            yield block
