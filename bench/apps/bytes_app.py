"""bytes: 10 MB in one block, made by the first request: where all programs are loaded at start, it
would stand in the memory of processes that are asked for nothing but hello."""

SIZE = 10 * 1024 * 1024
made = []


def application(environ, start_response):
    if not made:
        made.append(b"x" * SIZE)
    start_response(
        "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(SIZE))]
    )
    return made[:1]
