"""What an application of the grid shows of its interpreter; `?token=` comes back."""

import atexit
import os
import sys
import threading

NAME = os.path.join(os.environ["TEST_SCRATCH"], "atexit")


def leave():
    """At the end of the process, in every interpreter: a line, written at once."""
    descriptor = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, f"left {application_group}\n".encode())
    os.close(descriptor)


application_group = None
atexit.register(leave)

local = threading.local()


def work(results, number):
    # Something of a thread of the application's own: state of its own, and Python code in it.
    local.value = number
    results[number] = sum(range(1000)) + local.value


def threads():
    """Threads that the application starts."""
    results = [None] * 8
    started = [threading.Thread(target=work, args=(results, number)) for number in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return results == [499500 + number for number in range(8)]


def application(environ, start_response):
    global application_group
    application_group = environ["mod_wsgi.application_group"]
    # Kept in the thread that serves, and seen there again.
    local.served = getattr(local, "served", 0) + 1
    facts = {
        "version": "%d.%d" % sys.version_info[:2],
        "prefix": sys.prefix,
        "base": sys.base_prefix,
        "executable": sys.executable,
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "free": "free-threading" in sys.version,
        "path": all(isinstance(entry, str) for entry in sys.path),
        "argv": sys.argv,
        "group": application_group,
        "token": environ["QUERY_STRING"],
        "info": environ["PATH_INFO"].encode("latin-1").decode(),
        "str": all(type(key) is str for key in environ),
        "input": environ["wsgi.input"].read().decode(),
        "threads": threads(),
        "uncounted": all(sys.getrefcount(value) > 1 << 30 for value in work.__code__.co_consts),
        "served": local.served > 0,
    }
    body = "".join(f"{key}={value}\n" for key, value in facts.items()).encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
