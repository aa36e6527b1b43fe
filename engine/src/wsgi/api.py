# What the module mod_wsgi offers to those who observe: events, the data of a request, metrics, logging. The engine
# calls functions with a leading underscore, and implements request_data, _recorded, _counted, _server, _log and
# _logged; _watch tells it that requests are of interest.

shutdown_callbacks = []
signal_callbacks = []


def __getattr__(name):
    # What makes requests cost something, or takes an import, is made when it is asked for first.
    if name in ("event_callbacks", "active_requests"):
        globals().setdefault(name, [] if name == "event_callbacks" else {})
        _watch.begin()
    elif name == "LogHandler":
        globals().setdefault(name, _log_handler())
    else:
        raise AttributeError(f"module 'mod_wsgi' has no attribute '{name}'")
    return globals()[name]


def __dir__():
    return [
        "FileWrapper",
        "LogHandler",
        "RequestTimeout",
        "active_requests",
        "application_group",
        "event_callbacks",
        "maximum_processes",
        "mod_wsgi_rs",
        "process_group",
        "process_metrics",
        "request_data",
        "request_metrics",
        "server_metrics",
        "shutdown_callbacks",
        "signal_callbacks",
        "start_recording_metrics",
        "subscribe_events",
        "subscribe_shutdown",
        "subscribe_signals",
        "threads_per_process",
        "version",
    ]


def subscribe_events(callback, /):
    """Has callback(name, **event) called for every event of this interpreter. Returns callback."""
    __getattr__("event_callbacks").append(_callable(callback))
    return callback


def subscribe_shutdown(callback, /):
    """Has callback(name, **event) called when the process ends. Returns callback."""
    shutdown_callbacks.append(_callable(callback))
    return callback


def subscribe_signals(callback, /):
    """Has callback(name, **event) called for SIGHUP and SIGUSR2 to a daemon process. Returns callback."""
    _callable(callback)
    if process_group:
        signal_callbacks.append(callback)
        return callback
    import traceback

    stack = "".join(traceback.format_stack()[:-1]).rstrip()
    _report(2, f"mod_wsgi.subscribe_signals() does nothing outside of daemon processes, called from\n{stack}")
    return callback


def _callable(callback):
    if not callable(callback):
        raise TypeError(f"a subscriber must be callable, not {type(callback).__name__}")
    return callback


def _publish(name, event, *lists):
    """Tells those in the lists, who cannot disturb each other. A dict that one returns is for those after it."""
    for callback in [callback for subscribers in lists for callback in subscribers]:
        try:
            result = callback(name, **event)
            if isinstance(result, dict):
                event.update(result)
        except RequestTimeout:
            raise
        except BaseException as error:
            _report(0, f"exception raised by a subscriber of '{name}'\n" + _format(error))


class _Request:
    """A request that is watched."""

    __slots__ = ("common", "finish")

    def __init__(self, common, finish):
        # What all its events carry, and what its last one carries besides the figures.
        self.common = common
        self.finish = finish


def _request_started(data, environ, application, connects):
    identity = environ.get("mod_wsgi.request_id")
    common = {"request_data": data}
    if identity is not None:
        common["request_id"] = identity
    pid = environ.get("mod_wsgi.server_pid")
    finish = {
        "thread_id": environ["mod_wsgi.thread_id"],
        "server_pid": int(pid) if pid else os.getpid(),
        "request_start": environ.get("mod_wsgi.request_start", 0.0),
        "queue_start": environ["mod_wsgi.queue_start"],
        "daemon_start": environ["mod_wsgi.daemon_start"],
        "application_start": environ["mod_wsgi.application_start"],
    }
    names = globals()
    active = names.get("active_requests")
    if active is not None and identity is not None:
        active[identity] = data
    subscribers = names.get("event_callbacks")
    if subscribers:
        event = {
            **common,
            **finish,
            "daemon_connects": connects,
            "daemon_restarts": 0,
            "application_object": application,
            "callable_object": environ["mod_wsgi.callable_object"],
            "request_environ": environ,
        }
        try:
            _publish("request_started", event, subscribers)
        except BaseException:
            _leave(identity)
            raise
        application = event["application_object"]
    return application, _Request(common, finish)


def _response_started(request, status, headers, exception):
    subscribers = globals().get("event_callbacks")
    if subscribers:
        event = {
            **request.common,
            "response_status": status,
            "response_headers": headers,
            "exception_info": exception,
        }
        _publish("response_started", event, subscribers)


def _request_exception(request, error):
    subscribers = globals().get("event_callbacks")
    if subscribers:
        event = {**request.common, "exception_info": (type(error), error, error.__traceback__)}
        _publish("request_exception", event, subscribers)


def _request_finished(request, figures):
    try:
        subscribers = globals().get("event_callbacks")
        if subscribers:
            _publish("request_finished", {**request.common, **request.finish, **figures}, subscribers)
    finally:
        _leave(request.common.get("request_id"))


def _leave(identity):
    active = globals().get("active_requests")
    if active is not None and identity is not None:
        active.pop(identity, None)


def _process_stopping(reason):
    subscribers = globals().get("event_callbacks", ())
    _publish("process_stopping", {"shutdown_reason": reason}, subscribers, shutdown_callbacks)


def _process_signal(number):
    import signal

    event = {"signame": signal.Signals(number).name, "signum": number}
    _publish("process_signal", event, globals().get("event_callbacks", ()), signal_callbacks)


def request_metrics():
    """What requests took since the last call; None until start_recording_metrics() was called."""
    window = _recorded()
    if window is None:
        return None
    count, period = window["request_count"], window["sample_period"] or 1e-6
    # Threads that httpd's own modules start may serve more than it has workers.
    maximum = max(threads_per_process, len(window["slots"]))
    slots = window.pop("slots") + [(0, 0.0, 0.0, 0.0, 0.0)] * maximum
    completed, busy, cpu, elapsed, longest = map(list, zip(*slots[:maximum]))
    user, system = (seconds / period for seconds in window.pop("cpu"))
    metrics = window
    metrics["request_throughput"] = count / period
    metrics["request_threads_maximum"] = maximum
    metrics["request_threads_active"] = sum(1 for slot in slots[:maximum] if slot[0] or slot[3])
    metrics["capacity_utilization"] = sum(busy) / (period * maximum)
    metrics["request_threads_completed"] = completed
    metrics["request_threads_buckets"] = completed
    metrics["request_threads_busy_time"] = busy
    metrics["request_threads_cpu_time"] = cpu
    metrics["request_threads_current_elapsed"] = elapsed
    metrics["request_threads_max_duration"] = longest
    for name, (total, least, most, buckets) in window.pop("phases"):
        if name in ("queue_time", "daemon_time") and not process_group:
            metrics[name] = None
        else:
            metrics[name] = total / count if count else 0.0
        metrics[name + "_min_us"] = least
        metrics[name + "_max_us"] = most
        metrics[name + "_buckets"] = buckets
    for name, rate in (("user_", user), ("system_", system), ("", user + system)):
        metrics[f"cpu_{name}utilization"] = metrics[f"cpu_{name}time"] = rate
    return metrics


def process_metrics():
    """What the process has done since it began; None until start_recording_metrics() was called."""
    metrics = _counted()
    if metrics is None:
        return None
    served = metrics.pop("served")
    metrics["request_count"] = sum(served)
    metrics["request_threads"] = len(served)
    metrics["threads"] = [
        {"thread_id": number, "request_count": count} for number, count in enumerate(served, 1)
    ]
    metrics["cpu_time"] = metrics["cpu_user_time"] + metrics["cpu_system_time"]
    metrics["running_time"] = int(metrics["current_time"] - metrics["restart_time"])
    return metrics


def server_metrics():
    """What httpd's processes are doing; None where WSGIServerMetrics does not allow it, and in daemon processes."""
    return _server()


def _log_handler():
    import logging

    class LogHandler(logging.Handler):
        """Writes to httpd's error log: of the request that the thread serves, else of the server."""

        def emit(self, record):
            number = record.levelno
            level = 0 if number >= 50 else 1 if number >= 40 else 2 if number >= 30 else 3 if number >= 20 else 4
            if not _logged(level):
                return
            try:
                _log(level, _encode(self.format(record)), _encode(str(record.pathname)), record.lineno)
            except RecursionError:
                raise
            except Exception:
                self.handleError(record)

    LogHandler.__module__ = "mod_wsgi"
    LogHandler.__qualname__ = "LogHandler"
    return LogHandler
