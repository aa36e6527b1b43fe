"""Drives tests/sites/webpy."""

import hashlib

from session import contains, equal, main, path_of, status

BODY = bytes(range(256)) * 4096  # 1 MiB


def run(session):
    scheme, rest = session.base.split("://")
    mount = "/" + rest.partition("/")[2]

    answer = status(session.get("/whoami/caf%C3%A9?a=1"), 200).json()
    equal(answer["name"], "caf\u00e9", "name")
    equal(answer["protocol"], scheme, "protocol")
    equal(answer["homepath"], mount, "homepath")
    equal(answer["home"], session.base, "home")
    equal(answer["query"], {"a": "1"}, "query")
    equal(answer["ip"], "127.0.0.1", "ip")

    contains(status(session.get("/form"), 200), 'name="age"')
    contains(status(session.post("/form", data={"age": "old"}), 200), "digits only")
    right = status(session.post("/form", data={"age": "42"}), 303)
    equal(path_of(right), mount + "/whoami/42", "redirect")

    answer = status(session.post("/upload", data={"note": "x"}, files={"file": ("f", BODY)}), 200)
    digest = hashlib.sha256(BODY).hexdigest()
    wanted = {"name": "f", "size": len(BODY), "sha256": digest, "note": "x"}
    equal(answer.json(), wanted, "upload")

    stream = status(session.get("/stream/2000"), 200).text
    equal(stream.split("\n")[:-1], [f"line {n}" for n in range(2000)], "stream")

    equal([session.get("/cookie").text for _ in range(3)], ["1", "2", "3"], "cookie")
    status(session.get("/nowhere"), 404)
    status(session.get("/raises"), 500)
    status(session.get("/whoami/after"), 200)


if __name__ == "__main__":
    main(run)
