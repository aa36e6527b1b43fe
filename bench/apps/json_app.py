"""json: 10 KB in one block, built once: the figure is to be the server's and not json's."""

HEAD, TAIL = b'{"items": "', b'"}'
BODY = HEAD + b"x" * (10240 - len(HEAD) - len(TAIL)) + TAIL


def application(environ, start_response):
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]
    )
    return [BODY]
