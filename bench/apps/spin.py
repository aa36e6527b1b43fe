"""spin: pure Python that computes for some 20 ms, on values of its own."""


def compute():
    total = 0
    for number in range(200_000):
        total += number * number % 1_000_003 % 666_671
    return total


def application(environ, start_response):
    body = b"%d" % compute()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
