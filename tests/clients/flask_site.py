"""Drives tests/sites/flask."""

import hashlib

from session import contains, cookies_set, equal, main, status

BODY = bytes(range(256)) * 4096  # 1 MiB


def run(session):
    scheme, rest = session.base.split("://")
    authority, _, mount = rest.partition("/")
    mount = "/" + mount if mount else ""

    answer = status(session.get("/whoami/caf%C3%A9?a=1&a=2&b=%26"), 200).json()
    equal(answer["name"], "caf\u00e9", "path")
    equal(answer["scheme"], scheme, "scheme")
    equal(answer["root"], mount, "script_root")
    equal(answer["path"], "/whoami/caf\u00e9", "path below the mount")
    equal(answer["query"], {"a": ["1", "2"], "b": ["&"]}, "query")
    assert answer["url"].startswith(f"{scheme}://{authority}{mount}/whoami/"), answer

    equal(session.get("/shop/items/7").json()["here"], mount + "/shop/items/7", "url_for")
    status(session.get("/shop/items/x"), 404)
    contains(status(session.get("/page"), 200), "<p>&lt;\u00e9\u4e2d&gt;</p>")
    equal([session.get("/count").json()["count"] for _ in range(3)], [1, 2, 3], "session")

    given = {"text": "\u4e2d\U0001f600", "list": [1, 2.5, None, True]}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = status(session.call(method, "/json", json=given), 200).json()
        equal(answer, {"method": method, "given": given}, method)
    status(session.raw("POST", "/json", b"{", headers={"Content-Type": "application/json"}), 400)

    answer = session.post("/upload", data={"note": "x"}, files={"file": ("f.bin", BODY)}).json()
    digest = hashlib.sha256(BODY).hexdigest()
    equal(answer, {"name": "f.bin", "size": len(BODY), "sha256": digest, "note": "x"}, "upload")

    answer = session.raw("POST", "/raw", BODY).json()
    equal(answer, {"size": len(BODY), "sha256": digest, "length": len(BODY)}, "body with length")
    blocks = (BODY[at : at + 50000] for at in range(0, len(BODY), 50000))
    answer = session.raw("POST", "/raw", blocks).json()
    equal(answer, {"size": len(BODY), "sha256": digest, "length": None}, "body without length")

    stream = status(session.get("/stream/3000"), 200).text
    equal(stream.split("\n")[:-1], [f"/stream/3000 {n}" for n in range(3000)], "stream")

    whole = status(session.get("/file"), 200)
    contains(whole, "A Flask application")
    again = session.get("/file", headers={"If-None-Match": whole.headers["etag"]})
    equal((status(again, 304).content), b"", "304")
    part = status(session.get("/file", headers={"Range": "bytes=5-9"}), 206)
    equal(part.content, whole.content[5:10], "range of a file")
    equal(part.headers["content-range"], f"bytes 5-9/{len(whole.content)}", "Content-Range")
    part = status(session.get("/memory", headers={"Range": "bytes=-3"}), 206)
    equal(part.content, b"789", "range of memory")
    status(session.get("/memory", headers={"Range": "bytes=20000-"}), 416)

    lines = cookies_set(session.get("/two-cookies"))
    equal(lines, ["one=1; Path=/", "two=2; HttpOnly; Path=/"], "Set-Cookie")

    status(session.get("/teapot"), 418)
    contains(status(session.get("/raises"), 500), "Internal Server Error")
    head = status(session.call("HEAD", "/page"), 200)
    equal(head.content, b"", "HEAD")
    equal(status(session.call("OPTIONS", "/json"), 200).headers["allow"].count("PATCH"), 1, "Allow")


if __name__ == "__main__":
    main(run)
