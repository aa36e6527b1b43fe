"""Runs waitress or flup in several processes on one listening Unix socket.

Neither does that by itself: waitress has one process, and flup's preforking server has no threads.

usage: python forked.py waitress|flup SOCKET PROCESSES THREADS
"""

import os
import signal
import socket
import sys

# The descriptor that FastCGI programs find their listening socket at.
FASTCGI_LISTENER = 0


def serve(kind: str, listener: socket.socket, threads: int) -> None:
    from router import application

    if kind == "waitress":
        import waitress

        waitress.serve(application, sockets=[listener], threads=threads)
    else:
        from flup.server.fcgi import WSGIServer

        os.dup2(listener.fileno(), FASTCGI_LISTENER)
        # It closes connections that find no thread instead of letting them wait, and the processes
        # do not share them evenly: so each has as many threads as there may be connections.
        WSGIServer(application, minSpare=threads, maxSpare=64, maxThreads=64).run()


def main() -> None:
    kind, path, processes, threads = sys.argv[1:]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    # Several processes wait for one connection, and those that come late must not be stuck.
    listener.setblocking(False)
    children = []
    for _ in range(int(processes)):
        child = os.fork()
        if not child:
            serve(kind, listener, int(threads))
            os._exit(0)
        children.append(child)

    def end(*_):
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    for child in children:
        os.waitpid(child, 0)


main()
