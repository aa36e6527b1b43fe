"""A CherryPy application: its engine with background threads, RAM sessions, JSON, uploads, streaming."""

import atexit
import hashlib
import sys

import cherrypy

# The usual recipe below another server: no sockets, no reloading, no signal handlers of its own; the
# engine's threads (session cleaning, for one) start here and end when the interpreter does.
cherrypy.config.update({"environment": "embedded", "log.screen": False, "engine.autoreload.on": False})
cherrypy.server.unsubscribe()
cherrypy.engine.start()
atexit.register(cherrypy.engine.exit)


class Site:
    @cherrypy.expose
    @cherrypy.tools.json_out()
    def whoami(self, **query):
        request = cherrypy.request
        return {
            "scheme": request.scheme,
            "script_name": request.script_name,
            "path": request.path_info,
            "base": request.base,
            "query": query,
            "remote": request.remote.ip,
            "url": cherrypy.url("/whoami"),
        }

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def count(self):
        cherrypy.session["count"] = cherrypy.session.get("count", 0) + 1
        return {"count": cherrypy.session["count"]}

    @cherrypy.expose
    @cherrypy.tools.json_in()
    @cherrypy.tools.json_out()
    def json(self):
        return {"given": cherrypy.request.json}

    @cherrypy.expose
    @cherrypy.tools.json_out()
    def upload(self, file, note):
        body = file.file.read()
        return {
            "name": file.filename,
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "note": note,
        }

    @cherrypy.expose
    @cherrypy.config(**{"response.stream": True})
    def stream(self, lines):
        cherrypy.response.headers["Content-Type"] = "text/plain"
        return (f"line {number}\n".encode() for number in range(int(lines)))

    @cherrypy.expose
    def file(self):
        return cherrypy.lib.static.serve_file(__file__, content_type="text/x-python")

    @cherrypy.expose
    def away(self):
        raise cherrypy.HTTPRedirect(cherrypy.url("/whoami"))

    @cherrypy.expose
    def raises(self):
        # CherryPy answers with its own 500 page; its log goes nowhere in this environment.
        print("cherrypy handler is about to break", file=sys.stderr)
        raise ZeroDivisionError("cherrypy handler broke")


application = cherrypy.tree.mount(
    Site(), "/cherrypy", {"/": {"tools.sessions.on": True, "tools.sessions.storage_type": "ram"}}
)
