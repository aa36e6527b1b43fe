# The module mod_wsgi of every interpreter, and the Python side of the engine: what is not on the path of
# each request. Functions with a leading underscore are called by the engine; _write_log, _flush_log and _report
# are implemented in it.

import sys

import io
import os
import types


class RequestTimeout(BaseException):
    """Raised in a thread whose request has run longer than it may."""


class FileWrapper:
    """wsgi.file_wrapper of PEP 3333: an iterator over a file-like object that the server can send by itself."""

    def __init__(self, filelike, blksize=8192, /):
        if blksize < 0:
            raise ValueError("blksize must not be negative")
        self._filelike = filelike
        self._closed = False
        self.blksize = blksize

    @property
    def filelike(self):
        if self._closed:
            raise ValueError("the file wrapper is closed")
        return self._filelike

    def __iter__(self):
        return self

    def __next__(self):
        data = self.filelike.read(self.blksize)
        if not isinstance(data, bytes):
            raise TypeError(f"read() of the wrapped file must return bytes, not {type(data).__name__}")
        if not data:
            raise StopIteration
        return data

    def close(self):
        if self._closed:
            return
        close = getattr(self._filelike, "close", None)
        self._closed = True
        self._filelike = None
        if close is not None:
            try:
                close()
            except Exception:
                pass


class _Stream(io.RawIOBase):
    """Bytes to the log of the request at hand, else of the server."""

    def __init__(self, name):
        self.name = name

    mode = "w"

    def writable(self):
        return True

    def write(self, data):
        with memoryview(data) as view:
            _write_log(view.tobytes())
            return view.nbytes

    def flush(self):
        _flush_log()

    def close(self):
        pass


class _Bytes(io.RawIOBase):
    """wsgi.errors for bytes."""

    def __init__(self, log):
        self._log = log
        self.name = log.name

    mode = "w"

    def writable(self):
        return True

    def write(self, data):
        with memoryview(data) as view:
            self._log._write(view.tobytes())
            return view.nbytes

    def flush(self):
        self._log.flush()

    def close(self):
        pass


class _Restricted:
    """Stands for a stream that the configuration forbids."""

    def __init__(self, stream, directive):
        object.__setattr__(self, "_refusal", f"{stream} is not available here ({directive} is On)")

    def __getattribute__(self, name):
        raise OSError(object.__getattribute__(self, "_refusal"))

    def __setattr__(self, name, value):
        raise OSError(object.__getattribute__(self, "_refusal"))


def _encode(text):
    return text.encode("utf-8", "backslashreplace")


def _setup(options):
    """Makes a new interpreter what the configuration says."""
    sys.modules.pop("mod_wsgi", None)
    try:
        # The package of the same name on PyPI stays reachable below ours.
        import mod_wsgi as package

        globals()["__path__"] = package.__path__
    except (ImportError, AttributeError):
        pass
    sys.modules["mod_wsgi"] = options["module"]
    _apache(options["apache"])

    sys.argv = ["mod_wsgi"]
    sys.stdout = _text(_Stream("<stdout>"))
    sys.stderr = _text(_Stream("<stderr>"))
    if options["restrict_stdin"]:
        sys.stdin = _Restricted("sys.stdin", "WSGIRestrictStdin")
    if options["restrict_stdout"]:
        sys.stdout = _Restricted("sys.stdout", "WSGIRestrictStdout")
    if options["restrict_signal"]:
        _restrict_signal()
    # What an application changes goes to the process, and from there into interpreters that are made later.
    # For them it is taken back, in this copy only.
    variables = os.environ._data
    variables.clear()
    variables.update(options["environment"])
    for name in options["start_variables"]:
        os.environ.pop(name, None)
    if options["python_eggs"]:
        os.environ["PYTHON_EGG_CACHE"] = options["python_eggs"]
    if options["switch_interval"]:
        sys.setswitchinterval(options["switch_interval"])
    _extend_path(options["python_path"])

    # Whoever imports threading first becomes its main thread.
    import threading

    return threading


def _apache(facts):
    """The module apache: facts of the server."""
    try:
        import apache
    except ImportError:
        apache = sys.modules["apache"] = types.ModuleType("apache")
    for name, value in facts.items():
        setattr(apache, name, value)


def _text(raw):
    return io.TextIOWrapper(
        raw, encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True
    )


def _extend_path(folders):
    """Adds site folders (their .pth files count) and moves what they added to the front, in order."""
    if not folders:
        return
    import site

    before = list(sys.path)
    for folder in folders:
        site.addsitedir(folder)
        if not os.path.isdir(folder):
            _report(1, f"WSGIPythonPath: {folder} is no folder that can be read")
    added = [entry for entry in sys.path if entry not in before]
    # A folder that was there already is moved as well: the administrator named it.
    named = [os.path.abspath(folder) for folder in folders]
    added = [entry for entry in named if entry in before] + added
    sys.path[:] = added + [entry for entry in before if entry not in added]


def _restrict_signal():
    """Signals belong to httpd: handlers that an application registers are ignored, with a note in the log."""
    import functools
    import signal
    import traceback

    real = signal.signal
    process = os.getpid()

    @functools.wraps(real)
    def ignored(signum, handler):
        if os.getpid() != process:
            return real(signum, handler)
        stack = "".join(traceback.format_stack()[:-1]).rstrip()
        _report(2, f"signal.signal({signum}) is ignored (WSGIRestrictSignal is On), called from\n{stack}")
        return handler

    signal.signal = ignored


def _load(path, mtime):
    """Executes a script file as a module of its own, and leaves the old one in place if that fails."""
    name = _module_name(path)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", 0, True)
    if "t" in sys.abiflags:
        # Free threads: constants of what compile() gives are counted like any other object, and threads that compute
        # would spend their time on the counts. Those of what marshal gives, and so of modules that are imported, are not.
        import marshal

        code = marshal.loads(marshal.dumps(code))
    module = types.ModuleType(name)
    module.__file__ = path
    module.__mtime__ = mtime
    before = sys.modules.pop(name, None)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _module_name(path):
    try:
        from _md5 import md5
    except ImportError:
        from hashlib import md5
    return "_mod_wsgi_" + md5(os.fsencode(path), usedforsecurity=False).hexdigest()


def _format(error):
    """The traceback of an exception as text, without the frames of this file."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == _format.__code__.co_filename:
        trace = trace.tb_next
    try:
        lines = traceback.format_exception(type(error), error, trace)
    except Exception as fault:
        # An exception whose own __str__ raises must not hide where it came from.
        lines = traceback.format_tb(trace)
        lines.append(f"{type(error).__name__} (its text cannot be made: {type(fault).__name__})\n")
    return "".join(lines).rstrip("\n").encode("utf-8", "backslashreplace").decode("utf-8")


def _stack(ident):
    """The stack of another thread of this interpreter, as text; empty where it is not inside."""
    import traceback

    frame = sys._current_frames().get(ident)
    if frame is None:
        return ""
    text = "".join(traceback.format_stack(frame)).rstrip("\n")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _wake_by(number):
    """Has signals that Python handles write to a pipe: the main thread waits for it outside of Python."""
    import signal

    signal.set_wakeup_fd(number, warn_on_full_buffer=False)


def _end_by_exception():
    """A service script ends by SystemExit when it is told to, as its cleanups expect."""
    import signal

    def end(number, frame):
        raise SystemExit

    signal.signal(signal.SIGTERM, end)


def _stop():
    """What an interpreter does at its end: threads that are not daemons are joined, exit functions run."""
    import threading

    # concurrent.futures ends its workers here (threading registers them since 3.9).
    for callback in reversed(list(getattr(threading, "_threading_atexits", ()))):
        _guarded(callback)
    waiting = True
    while waiting:
        # Threads may start others while they end.
        waiting = [
            thread
            for thread in threading.enumerate()
            if not thread.daemon
            and not isinstance(thread, threading._DummyThread)
            and thread is not threading.main_thread()
            and thread is not threading.current_thread()
        ]
        for thread in waiting:
            _guarded(thread.join)
    import atexit

    _guarded(atexit._run_exitfuncs)
    for stream in (sys.stdout, sys.stderr):
        if type(stream) is not _Restricted:
            _guarded(lambda stream=stream: stream.flush())


def _guarded(work):
    try:
        work()
    except BaseException as error:
        if not isinstance(error, SystemExit):
            try:
                _report(0, "exception at the end of the process\n" + _format(error))
            except Exception:
                pass
