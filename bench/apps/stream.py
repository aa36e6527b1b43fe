"""stream: 1000 blocks of 1 KB, each of which must reach the client before the next is made."""

BLOCK = b"x" * 1024


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (BLOCK for _ in range(1000))
