"""Says what it was sent, in lines `key=value`; `token=` in the query tells requests apart.

`read=` in the query is how much of the body to read: `all` (the default), `none`, or a number of bytes.
"""

import urllib.parse


def application(environ, start_response):
    query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    read = query.get("read", "all")
    body, fault = b"", ""
    try:
        if read == "all":
            body = environ["wsgi.input"].read()
        elif read != "none":
            body = environ["wsgi.input"].read(int(read))
    except OSError:
        fault = "OSError"
    lines = [
        "token=" + query.get("token", ""),
        "method=" + environ["REQUEST_METHOD"],
        "path=" + environ["PATH_INFO"],
        "length=" + str(len(body)),
        "body=" + body.decode("latin-1").replace("\r", "\\r").replace("\n", "\\n"),
        "fault=" + fault,
        "announced=" + environ.get("CONTENT_LENGTH", "none"),
        "keys=" + " ".join(sorted(key for key in environ if key.startswith("HTTP_"))),
    ]
    lines += [f"{key}={environ[key]!r}" for key in environ if key.startswith("HTTP_")]
    answer = "\n".join(lines).encode("latin-1", "replace") + b"\n"
    start_response(
        "200 OK",
        [("Content-Type", "text/plain; charset=latin-1"), ("Content-Length", str(len(answer)))],
    )
    return [answer]
