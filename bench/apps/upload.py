"""upload: reads the whole body in blocks of 64 KB and answers with its size."""


def application(environ, start_response):
    read, total = environ["wsgi.input"].read, 0
    while True:
        block = read(65536)
        if not block:
            break
        total += len(block)
    answer = str(total).encode()
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))]
    )
    return [answer]
