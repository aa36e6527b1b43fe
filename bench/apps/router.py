"""All programs behind one callable, for servers that run one application.

Costs one look-up more than what httpd's script aliases lead to.
"""

import os

import bytes_app
import file_app
import hello
import json_app
import sleeper
import stream
import upload

ROUTES = {
    "/hello": hello.application,
    "/json": json_app.application,
    "/bytes": bytes_app.application,
    "/stream": stream.application,
    "/file": file_app.application,
    "/upload": upload.application,
    "/sleep": sleeper.application,
}
FILE = os.environ["BENCH_FILE"]


def application(environ, start_response):
    environ["BENCH_FILE"] = FILE
    # FastCGI's split of the path leaves it in SCRIPT_NAME.
    path = environ.get("PATH_INFO") or environ.get("SCRIPT_NAME", "")
    return ROUTES[path](environ, start_response)
