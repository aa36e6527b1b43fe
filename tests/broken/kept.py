"""Keeps the objects of one request and uses them in the next."""

kept = {}


def application(environ, start_response):
    if environ["QUERY_STRING"] == "keep":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        kept.update(
            start=lambda: kept["start_response"]("500 Old", []),
            start_response=start_response,
            write=lambda: write(b"from the past"),
            read=environ["wsgi.input"].read,
            readline=environ["wsgi.input"].readline,
            readlines=environ["wsgi.input"].readlines,
            next=lambda given=environ["wsgi.input"]: next(iter(given)),
            errors=lambda given=environ["wsgi.errors"]: given.write("from the past\n"),
        )
        return [b"kept"]
    lines = []
    for name in ("start", "write", "read", "readline", "readlines", "next", "errors"):
        try:
            kept[name]()
            lines.append(f"{name}=went")
        except Exception as fault:
            lines.append(f"{name}={type(fault).__name__}")
    lines.append("own=body")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join(lines).encode()]
