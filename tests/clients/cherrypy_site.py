"""Drives tests/sites/cherrypy."""

import hashlib

from session import contains, equal, main, path_of, status

BODY = bytes(range(256)) * 4096  # 1 MiB


def run(session):
    scheme, rest = session.base.split("://")
    mount = "/" + rest.partition("/")[2]

    answer = status(session.get("/whoami?a=caf%C3%A9&b="), 200).json()
    equal(answer["scheme"], scheme, "scheme")
    equal(answer["script_name"], mount, "script_name")
    equal(answer["path"], "/whoami", "path_info")
    equal(answer["query"], {"a": "caf\u00e9", "b": ""}, "query")
    equal(answer["remote"], "127.0.0.1", "remote")
    equal(answer["url"], session.base + "/whoami", "url()")

    equal([session.get("/count").json()["count"] for _ in range(3)], [1, 2, 3], "session in memory")
    given = {"text": "\u4e2d", "list": [1, None]}
    equal(status(session.post("/json", json=given), 200).json(), {"given": given}, "json")

    answer = status(session.post("/upload", data={"note": "x"}, files={"file": ("f", BODY)}), 200)
    digest = hashlib.sha256(BODY).hexdigest()
    wanted = {"name": "f", "size": len(BODY), "sha256": digest, "note": "x"}
    equal(answer.json(), wanted, "upload")

    stream = status(session.get("/stream?lines=2000"), 200).text
    equal(stream.split("\n")[:-1], [f"line {n}" for n in range(2000)], "stream")

    whole = status(session.get("/file"), 200)
    contains(whole, "A CherryPy application")
    part = status(session.get("/file", headers={"Range": "bytes=3-7"}), 206)
    equal(part.content, whole.content[3:8], "range of a file")

    away = session.get("/away")
    equal(path_of(status(away, 303)), mount + "/whoami", "redirect")
    status(session.get("/nowhere"), 404)
    status(session.get("/raises"), 500)
    equal(session.get("/count").json()["count"], 4, "session after an error")


if __name__ == "__main__":
    main(run)
