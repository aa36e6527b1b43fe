"""numpy, which works in the main interpreter only."""

import numpy


def application(environ, start_response):
    product = numpy.arange(6).reshape(2, 3) @ numpy.ones((3, 2))
    body = f"version={numpy.__version__}\nproduct={product.tolist()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
