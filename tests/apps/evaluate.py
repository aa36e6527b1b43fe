"""Evaluates the expression in the header X-Expression and shows the result.

In the expression, i is wsgi.input and e is wsgi.errors. An exception of the expression is shown, not raised.
"""

import threading

kept = []


def in_thread(function):
    """What the function returns when a thread of the application calls it."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def caught(function):
    """Name and text of the exception that the function raises."""
    try:
        return function()
    except Exception as fault:
        return "%s: %s" % (type(fault).__name__, fault)


def application(environ, start_response):
    names = {
        "environ": environ,
        "i": environ["wsgi.input"],
        "e": environ["wsgi.errors"],
        "kept": kept,
        "in_thread": in_thread,
        "caught": caught,
        "start_response": start_response,
    }
    result = caught(lambda: eval(environ["HTTP_X_EXPRESSION"], names))
    body = ascii(result).encode("ascii")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
