"""A web.py application: classes by URL, forms, uploads, templates, streaming, errors."""

import hashlib
import json

import web

web.config.debug = False


class WhoAmI:
    def GET(self, name):
        web.header("Content-Type", "application/json")
        return json.dumps(
            {
                "name": name,
                "protocol": web.ctx.protocol,
                "home": web.ctx.home,
                "homepath": web.ctx.homepath,
                "path": web.ctx.path,
                "query": web.input(),
                "ip": web.ctx.ip,
            }
        )


class Form:
    form = web.form.Form(
        web.form.Textbox("age", web.form.regexp(r"^\d+$", "digits only")),
    )

    def GET(self):
        web.header("Content-Type", "text/html; charset=utf-8")
        return self.form().render()

    def POST(self):
        form = self.form()
        if not form.validates():
            web.header("Content-Type", "text/html; charset=utf-8")
            return form.render()
        raise web.seeother("/whoami/" + form.d.age)


class Upload:
    def POST(self):
        given = web.input(file={})
        body = given["file"].file.read()
        web.header("Content-Type", "application/json")
        return json.dumps(
            {
                "name": given["file"].filename,
                "size": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
                "note": given.note,
            }
        )


class Stream:
    def GET(self, lines):
        web.header("Content-Type", "text/plain")
        for number in range(int(lines)):
            yield f"line {number}\n".encode()


class Cookie:
    def GET(self):
        seen = int(web.cookies().get("seen", "0")) + 1
        web.setcookie("seen", str(seen))
        return str(seen).encode()


class Raises:
    def GET(self):
        raise ZeroDivisionError("web.py handler broke")


urls = (
    "/whoami/(.*)", WhoAmI,
    "/form", Form,
    "/upload", Upload,
    r"/stream/(\d+)", Stream,
    "/cookie", Cookie,
    "/raises", Raises,
)  # fmt: skip

application = web.application(urls).wsgifunc()
