"""bytes: 10 MB in one block."""

BODY = b"x" * (10 * 1024 * 1024)


def application(environ, start_response):
    start_response(
        "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(BODY)))]
    )
    return [BODY]
