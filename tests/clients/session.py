"""One face over two real HTTP clients: requests (HTTP/1.1) and httpx (HTTP/1.1 or HTTP/2).

Every client script is run as `script.py BASE KIND CAFILE`: the URL that the application is mounted at, one
of `requests`, `httpx`, `http2`, and the certificate to trust (`-` without TLS). Redirects are never
followed, so that scripts see and check them. The last line of a script that passes is `all right`.
"""

import ssl
import sys
import urllib.parse

TIMEOUT = 60


class Session:
    """A client with cookies and kept connections."""

    def __init__(self, base, kind, cafile):
        self.base = base.rstrip("/")
        self.kind = kind
        if kind == "requests":
            import requests

            self.client = requests.Session()
            self.client.trust_env = False
            if cafile != "-":
                self.client.verify = cafile
            self.options = {"timeout": TIMEOUT, "allow_redirects": False}
            self.broken = (
                requests.exceptions.ChunkedEncodingError,
                requests.exceptions.ConnectionError,
            )
        else:
            import httpx

            verify = ssl.create_default_context(cafile=cafile) if cafile != "-" else True
            self.client = httpx.Client(
                verify=verify,
                http1=kind != "http2",
                http2=kind == "http2",
                trust_env=False,
                timeout=TIMEOUT,
            )
            self.options = {"follow_redirects": False}
            self.broken = (httpx.RemoteProtocolError, httpx.ReadError)

    def call(self, method, path, **options):
        """One request. `path` is joined to the base unless it is a URL; the protocol is checked."""
        url = path if "://" in path else self.base + path
        response = self.client.request(method, url, **self.options, **options)
        self.check_protocol(response)
        return response

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, **options):
        return self.call("POST", path, **options)

    def raw(self, method, path, body, **options):
        """A body of bytes, or of an iterator (sent chunked over HTTP/1.1)."""
        name = "data" if self.kind == "requests" else "content"
        return self.call(method, path, **{name: body}, **options)

    def cookie(self, name):
        """The value of a cookie that the server has set."""
        return self.client.cookies.get(name)

    def expect_broken(self, path):
        """A response that must not look complete."""
        try:
            response = self.client.request("GET", self.base + path, **self.options)
        except self.broken:
            return
        raise AssertionError(f"{path} looks complete: {response.status_code} {response.content!r}")

    def check_protocol(self, response):
        """HTTP/2 when asked for it, HTTP/1.1 otherwise."""
        if self.kind == "requests":
            version = {10: "HTTP/1.0", 11: "HTTP/1.1"}[response.raw.version]
        else:
            version = response.http_version
        wanted = "HTTP/2" if self.kind == "http2" else "HTTP/1.1"
        equal(version, wanted, "protocol")


def equal(found, wanted, what):
    """assert with both values in the message."""
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


def status(response, wanted):
    """Checks the status; the message shows the beginning of the body."""
    if response.status_code != wanted:
        raise AssertionError(
            f"{response.request.method} {response.url}: status {response.status_code} instead of "
            f"{wanted}: {response.text[:600]!r}"
        )
    return response


def contains(response, *texts):
    """Checks that the body has these texts."""
    for text in texts:
        if text not in response.text:
            raise AssertionError(f"{response.url}: no {text!r} in {response.text[:2000]!r}")
    return response


def path_of(response):
    """Where a redirect leads: the path, whether or not host and scheme are told."""
    return urllib.parse.urlsplit(response.headers["location"]).path


def cookies_set(response):
    """All Set-Cookie lines; they must not be merged into one."""
    if hasattr(response.headers, "get_list"):
        return response.headers.get_list("set-cookie")
    return response.raw.headers.getlist("set-cookie")


def main(run):
    """The body of every client script."""
    base, kind, cafile = sys.argv[1:4]
    run(Session(base, kind, cafile))
    print("all right")
