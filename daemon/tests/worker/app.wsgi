import atexit
import hashlib
import os
import signal
import sys
import threading

HERE = os.path.dirname(__file__)


def note(name, text):
    with open(os.path.join(HERE, name), "a") as file:
        file.write(text)


atexit.register(note, "atexit", "atexit ran\n")
try:
    signal.signal(signal.SIGUSR2, lambda number, frame: note(
        "usr2", "main\n" if threading.current_thread() is threading.main_thread() else "other\n"))
except ValueError:
    # Sub-interpreters have no signals.
    pass


class Closing:
    def __init__(self, blocks, environ):
        self.blocks = iter(blocks)
        self.environ = environ

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        print("closed", file=self.environ["wsgi.errors"])
        note("closed", "closed\n")


def hold():
    """Says on a fifo that it is here, and waits on another until it may go on."""
    with open(os.path.join(HERE, "here"), "w") as here:
        here.write("x")
    with open(os.path.join(HERE, "go")) as go:
        go.read()


def broken():
    yield b"begun"
    raise RuntimeError("in the middle")


def count(environ):
    size, digest = 0, hashlib.sha256()
    while True:
        block = environ["wsgi.input"].read(100000)
        if not block:
            break
        size += len(block)
        digest.update(block)
    return b"%d %s" % (size, digest.hexdigest().encode())


def forked(environ):
    """What a process that is forked here finds of ours."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        sockets = 0
        for name in os.listdir("/proc/self/fd"):
            try:
                sockets += os.readlink("/proc/self/fd/" + name).startswith("socket:")
            except OSError:
                pass
        print("from the child", flush=True)
        os.write(writer, b"%d" % sockets)
        os._exit(0)
    os.close(writer)
    text = os.read(reader, 100)
    os.close(reader)
    os.waitpid(child, 0)
    return text


eaten = []


def spin():
    while True:
        pass


def application(environ, start_response):
    path = environ["PATH_INFO"]
    query = environ["QUERY_STRING"]
    head = [("Content-Type", "text/plain")]
    if path == "/early":
        start_response("200 OK", head)
        return [b"not read"]
    if path == "/mark":
        os.access("/mark-" + query, os.F_OK)
    if path == "/count-me":
        note("counted", ".")
    if path == "/raise":
        raise RuntimeError("the application fails")
    if path == "/eat-descriptors":
        try:
            while True:
                eaten.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    if path == "/hold":
        hold()
    if path == "/hold-body":
        body = count(environ)
        hold()
        start_response("200 OK", head)
        return [body]
    if path == "/spin":
        spin()
    if path == "/stuck":
        import ctypes
        ctypes.PyDLL(None).poll(None, 0, int(query))
    if path == "/hold-gil":
        import ctypes
        ctypes.PyDLL(None).system(b"cd '%s' && printf x >here && read x <go" % HERE.encode())
    if path == "/return-from-fork":
        child = os.fork()
        if child:
            os.waitpid(child, 0)
    if path == "/log":
        print("to errors", file=environ["wsgi.errors"])
        print("to stdout")
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
    if path == "/file":
        file = open(os.path.join(HERE, "large" if query == "large" else "small"), "rb")
        file.seek(3)
        start_response("200 OK", head)
        return environ["wsgi.file_wrapper"](file)
    if path == "/sized":
        # As many bytes as the query says, in a list; with "!" the application says so itself.
        size = int(query.strip("!"))
        start_response("200 OK", head + [("content-length", str(size))] * query.endswith("!"))
        return [b"x" * size]
    if path == "/nothing":
        start_response("304 Not Modified", head)
        return [b"x" * 100000]
    start_response("200 Fine", head + [("X-Path", path)])
    if path == "/environ":
        return [repr(environ.get(query)).encode()]
    if path == "/echo":
        return [environ["wsgi.input"].read()]
    if path == "/lines":
        return [line.strip() + b"|" for line in environ["wsgi.input"]]
    if path == "/count":
        return [count(environ)]
    if path == "/large":
        return [b"a" * 1000000, b"b" * 1000000]
    if path == "/stream":
        return Closing([b"one", b"two", b"three"], environ)
    if path == "/endless":
        def blocks():
            while True:
                yield b"x" * 1000
        return Closing(blocks(), environ)
    if path == "/broken":
        return broken()
    if path == "/forked":
        return [forked(environ)]
    if path == "/options":
        import subprocess
        program = "import os, sys; print(sys.flags.optimize, sorted(n for n in os.environ if n[:6] == 'PYTHON'))"
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
        return [repr((sys.flags.optimize, __debug__, sys.flags.dont_write_bytecode, sys.warnoptions,
                      sys.flags.hash_randomization, getattr(sys, "_is_gil_enabled", lambda: True)(),
                      hash("text"), sorted(n for n in os.environ if n[:6] == "PYTHON"), said)).encode()]
    if path == "/python":
        import mod_wsgi
        main = sys.modules["__main__"].__dict__
        return [repr((sys.executable, sys.argv, sys.path[:2], sorted(n for n in main if n[0] != "_"),
                      "mod_wsgi_engine" in sys.modules, mod_wsgi.process_group, mod_wsgi.threads_per_process,
                      environ["wsgi.multithread"], environ["wsgi.multiprocess"], environ["wsgi.run_once"],
                      environ["mod_wsgi.daemon_start"] > 0, sys.version_info[:2])).encode()]
    return [b"Hello World"]
