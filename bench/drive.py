"""A client that sends an exact number of requests: for counting what is spent per request."""

import selectors
import socket
import time

from server import Fault
from workloads import MEGABYTE, Workload

SECONDS_WITHOUT_PROGRESS = 60


def request_bytes(workload: Workload) -> bytes:
    method = "POST" if workload.upload else "GET"
    lines = ["%s %s HTTP/1.1" % (method, workload.path), "Host: localhost"]
    lines += ["%s: %s" % header for header in workload.headers.items()]
    if workload.upload:
        lines.append("Content-Length: %d" % workload.upload)
    return "\r\n".join(lines + ["", ""]).encode() + b"x" * workload.upload


def drive(
    port: int, workload: Workload, connections: int, count: int, pause: float = 0.0
) -> None:
    """Sends `count` requests over kept connections, the next one when an answer is complete.

    `pause` is waited before each further request, so that the server has gone back to waiting:
    without it, whether the connection goes through httpd's listener again depends on who is
    quicker, and so do the system calls.
    """
    request = request_bytes(workload)
    selector = selectors.DefaultSelector()
    clients = []
    try:
        for _ in range(min(connections, count)):
            client = Client(port)
            clients.append(client)
            selector.register(client.socket, selectors.EVENT_READ, client)
        waiting = count
        for client in clients:
            client.send(request)
            waiting -= 1
        open_answers = len(clients)
        while open_answers:
            events = selector.select(SECONDS_WITHOUT_PROGRESS)
            if not events:
                raise Fault("no answer within %d seconds" % SECONDS_WITHOUT_PROGRESS)
            for key, _ in events:
                client = key.data
                if not client.receive():
                    continue
                if waiting:
                    time.sleep(pause)
                    client.send(request)
                    waiting -= 1
                else:
                    open_answers -= 1
    finally:
        for client in clients:
            client.socket.close()
        selector.close()


class Client:
    """One connection. Answers must carry a Content-Length, as those of the counted workloads do."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=SECONDS_WITHOUT_PROGRESS
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Reads what has come; true when the answer is complete."""
        data = self.socket.recv(MEGABYTE)
        if not data:
            raise Fault("the server closed a kept connection")
        self.pending += data
        head, end, body = self.pending.partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.split(b"\r\n")
        if first.split()[1] != b"200":
            raise Fault("a request was answered with: %s" % first.decode("latin-1"))
        length = [line for line in lines if line.lower().startswith(b"content-length:")]
        if not length:
            raise Fault("an answer without Content-Length cannot be counted")
        missing = int(length[0].split(b":")[1]) - len(body)
        if missing < 0:
            raise Fault("an answer is longer than its Content-Length")
        if missing == 0:
            self.pending = b""
        return missing == 0
