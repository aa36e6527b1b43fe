"""A Flask application: JSON, templates, signed sessions, uploads, streaming, files, errors."""

import hashlib
import io

import flask

application = app = flask.Flask(__name__)
app.secret_key = "only for tests"

blueprint = flask.Blueprint("shop", __name__, url_prefix="/shop")


@blueprint.route("/items/<int:number>")
def item(number):
    return flask.jsonify(number=number, here=flask.url_for("shop.item", number=number))


app.register_blueprint(blueprint)


@app.route("/whoami/<name>")
def whoami(name):
    request = flask.request
    return flask.jsonify(
        name=name,
        scheme=request.scheme,
        root=request.script_root,
        path=request.path,
        url=request.url,
        query=request.args.to_dict(flat=False),
        remote=request.remote_addr,
        cookies=request.cookies,
    )


@app.route("/page")
def page():
    return flask.render_template_string("<p>{{ text }}</p>", text="<\u00e9\u4e2d>")


@app.route("/count")
def count():
    flask.session["count"] = flask.session.get("count", 0) + 1
    return flask.jsonify(count=flask.session["count"])


@app.route("/json", methods=["POST", "PUT", "PATCH", "DELETE"])
def json():
    return flask.jsonify(method=flask.request.method, given=flask.request.get_json())


@app.route("/upload", methods=["POST"])
def upload():
    given = flask.request.files["file"]
    body = given.read()
    return flask.jsonify(
        name=given.filename,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        note=flask.request.form["note"],
    )


@app.route("/raw", methods=["POST"])
def raw():
    """The body as a stream; Content-Length or chunked."""
    digest, size = hashlib.sha256(), 0
    while block := flask.request.stream.read(10000):
        digest.update(block)
        size += len(block)
    return flask.jsonify(
        size=size, sha256=digest.hexdigest(), length=flask.request.content_length
    )


@app.route("/stream/<int:lines>")
def stream(lines):
    @flask.stream_with_context
    def blocks():
        for number in range(lines):
            yield f"{flask.request.path} {number}\n"

    return flask.Response(blocks(), mimetype="text/plain")


@app.route("/file")
def file():
    """A real file, with conditions and ranges that Werkzeug answers itself."""
    return flask.send_file(__file__, mimetype="text/x-python", conditional=True)


@app.route("/memory")
def memory():
    return flask.send_file(
        io.BytesIO(b"0123456789" * 1000), download_name="digits.txt", conditional=True
    )


@app.route("/two-cookies")
def two_cookies():
    response = flask.make_response("set")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2", httponly=True)
    return response


@app.route("/teapot")
def teapot():
    flask.abort(418)


@app.route("/raises")
def raises():
    raise ZeroDivisionError("flask view broke")
