"""Drives tests/sites/django: the admin from login to logout, forms, uploads, streams, errors."""

import hashlib
import re
import secrets

from session import contains, equal, main, path_of, status

BIG = bytes(range(256)) * 8192  # 2 MiB: goes through a temporary file
SMALL = b"small\r\nfile\n"


def token(response):
    """The hidden CSRF field of a page."""
    return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', response.text).group(1)


def form(session, path, fields, files=None):
    """Fetches a form, sends it back filled in, as a browser does (Referer is checked under TLS)."""
    page = status(session.get(path), 200)
    fields = {"csrfmiddlewaretoken": token(page), **fields}
    return session.post(
        path, data=fields, files=files, headers={"Referer": session.base + path}
    )


def admin(session):
    """Login with session and CSRF, add, list, search, change, history, delete, logout."""
    equal(path_of(status(session.get("/admin/"), 302)), "/admin/login/", "redirect to the login")

    # Without the token nothing is accepted, not even a right password.
    given = {"username": "admin", "password": "correct horse"}
    status(session.post("/admin/login/", data=given), 403)

    wrong = form(session, "/admin/login/", {"username": "admin", "password": "wrong"})
    contains(status(wrong, 200), "Please enter the correct username and password")
    equal(session.cookie("sessionid"), None, "session after a wrong password")

    login = form(session, "/admin/login/?next=/admin/", given)
    equal(path_of(status(login, 302)), "/admin/", "redirect after the login")
    assert session.cookie("sessionid"), "no session cookie"
    contains(status(session.get("/admin/"), 200), "Site administration", "Log out", "Notes")

    title = f"caf\u00e9 \u4e2d\u6587 {secrets.token_hex(4)}"
    fields = {"title": title, "body": "two\r\nlines <b>&amp;</b>"}
    incomplete = form(session, "/admin/notes/note/add/", {"title": ""})
    contains(status(incomplete, 200), "This field is required.")
    attachment = {"attachment": ("a b.txt", SMALL, "text/plain")}
    added = form(session, "/admin/notes/note/add/", fields, attachment)
    equal(path_of(status(added, 302)), "/admin/notes/note/", "redirect after adding")

    found = contains(status(session.get("/admin/notes/note/", params={"q": title}), 200), title)
    number = re.search(r"/admin/notes/note/(\d+)/change/", found.text).group(1)
    change = f"/admin/notes/note/{number}/change/"
    contains(status(session.get(change), 200), title, "attachments/a_b")
    changed = form(session, change, {**fields, "body": "changed"}, {"attachment": ("", b"")})
    status(changed, 302)
    contains(status(session.get(change), 200), ">\nchanged</textarea>")
    contains(status(session.get(f"/admin/notes/note/{number}/history/"), 200), "Changed Body")

    gone = form(session, f"/admin/notes/note/{number}/delete/", {"post": "yes"})
    status(gone, 302)
    status(session.get(change), 302)

    page = session.get("/admin/")
    out = session.post(
        "/admin/logout/",
        data={"csrfmiddlewaretoken": token(page)},
        headers={"Referer": session.base + "/admin/"},
    )
    contains(status(out, 200), "Logged out")
    status(session.get("/admin/"), 302)


def static(session):
    """The admin's own files come from httpd through Alias."""
    css = contains(status(session.get("/static/admin/css/base.css"), 200), "--primary")
    assert css.headers["content-type"].startswith("text/css"), css.headers
    status(session.get("/static/admin/none.css"), 404)


def environ(session):
    """What Django derives from the environ."""
    scheme, authority = session.base.split("://")
    answer = status(
        session.get("/whoami/caf%C3%A9/", params={"q": "\u4e2d &=+", "empty": ""}), 200
    ).json()
    equal(answer["name"], "caf\u00e9", "path with UTF-8")
    equal(answer["query"], {"q": "\u4e2d &=+", "empty": ""}, "query")
    equal(answer["scheme"], scheme, "scheme")
    equal(answer["secure"], scheme == "https", "is_secure()")
    equal(answer["host"], authority, "host")
    equal(answer["path"], "/whoami/caf\u00e9/", "path")
    equal(answer["admin"], "/admin/", "reverse()")
    equal(answer["remote"], "127.0.0.1", "REMOTE_ADDR")
    assert answer["absolute"].startswith(session.base + "/whoami/caf%C3%A9/?q="), answer
    wanted = "HTTP/2.0" if session.kind == "http2" else "HTTP/1.1"
    equal(answer["protocol"], wanted, "SERVER_PROTOCOL")

    # Django's APPEND_SLASH redirect, its 404 page, and a host it was not told of.
    equal(path_of(status(session.get("/contact"), 301)), "/contact/", "slash redirect")
    contains(status(session.get("/nowhere/"), 404), "Not Found")
    status(session.get("/whoami/x/", headers={"Host": "elsewhere.test"}), 400)

    head = status(session.call("HEAD", "/whoami/x/"), 200)
    equal(head.content, b"", "body of HEAD")


def contact(session):
    """A form with errors, then a right one that redirects into the session."""
    bad = form(session, "/contact/", {"name": "", "email": "not an address"})
    contains(status(bad, 200), "This field is required.", "Enter a valid email address.")
    good = form(session, "/contact/", {"name": "Zo\u00eb", "email": "zoe@example.org"})
    equal(path_of(status(good, 302)).split("/")[-2:], ["thanks", ""], "redirect")
    equal(session.get("/contact/thanks/").json(), {"name": "Zo\u00eb"}, "session")


def upload(session):
    """Files through memory and through a temporary file, and back by wsgi.file_wrapper."""
    for name, body, kind in (
        ("small.bin", SMALL, "InMemoryUploadedFile"),
        ("big.bin", BIG, "TemporaryUploadedFile"),
    ):
        files = {"file": (name, body, "application/octet-stream")}
        answer = status(form(session, "/upload/", {"note": "n\u00f6te"}, files), 200).json()
        equal(answer["size"], len(body), "size")
        equal(answer["sha256"], hashlib.sha256(body).hexdigest(), "digest")
        equal(answer["kind"], kind, "kind")
        equal(answer["note"], "n\u00f6te", "field beside the file")
        back = status(session.get("/download/" + answer["stored"]), 200)
        equal(back.content == body, True, f"{name} comes back as it went")
        equal(back.headers["content-length"], str(len(body)), "length of the download")


def streams(session):
    """Blocks of unknown total length; one that breaks off is seen to break off."""
    whole = status(session.get("/stream/5000/"), 200)
    equal(whole.text.split("\n")[:-1], [f"line {n}" for n in range(5000)], "stream")
    assert "content-length" not in whole.headers, whole.headers
    session.expect_broken("/stream-raises/")
    equal(status(session.get("/stream/1/"), 200).text, "line 0\n", "after the broken stream")


def errors(session):
    """A view that raises is Django's own plain 500 page."""
    contains(status(session.get("/raises/"), 500), "Server Error (500)")
    status(session.get("/whoami/after/"), 200)


def run(session):
    """Everything, on one session and its kept connections."""
    for part in (environ, static, admin, contact, upload, streams, errors):
        part(session)


if __name__ == "__main__":
    main(run)
