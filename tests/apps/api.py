"""Compares what the modules mod_wsgi and apache offer with the tables below, which say what mod_wsgi 6.1.1 has."""

import os

import apache
import mod_wsgi

FUNCTION, CLASS = "function", "type"

# Name: type.
MODULE = {
    "version": "tuple",
    "process_group": "str",
    "application_group": "str",
    "maximum_processes": "int",
    "threads_per_process": "int",
    "FileWrapper": CLASS,
    "RequestTimeout": CLASS,
    "LogHandler": CLASS,
    "subscribe_events": FUNCTION,
    "subscribe_shutdown": FUNCTION,
    "subscribe_signals": FUNCTION,
    "request_data": FUNCTION,
    "active_requests": "dict",
    "start_recording_metrics": FUNCTION,
    "request_metrics": FUNCTION,
    "process_metrics": FUNCTION,
    "server_metrics": FUNCTION,
    "event_callbacks": "list",
    "shutdown_callbacks": "list",
    "signal_callbacks": "list",
}

# What tells this module from mod_wsgi.
OURS = {"mod_wsgi_rs": "str"}

APACHE = {
    "version": "tuple",
    "maximum_processes": "int",
    "threads_per_process": "int",
    "description": "str",
    "mpm_name": "str",
    "build_date": "str",
}

# Event: payload.
STEP = {"request_id": "str", "request_data": "dict"}
BEGIN = {
    "thread_id": "int",
    "server_pid": "int",
    "request_start": "float",
    "queue_start": "float",
    "daemon_start": "float",
}
EVENTS = {
    "request_started": {
        **STEP,
        **BEGIN,
        "daemon_connects": "int",
        "daemon_restarts": "int",
        "application_start": "float",
        "application_object": FUNCTION,
        "callable_object": "str",
        "request_environ": "dict",
    },
    "response_started": {
        **STEP,
        "response_status": "str",
        "response_headers": "list",
        "exception_info": "NoneType",
    },
    "request_finished": {
        **STEP,
        **BEGIN,
        # Not in mod_wsgi, whose documentation has it.
        "application_start": "float",
        "input_reads": "int",
        "input_length": "int",
        "input_time": "float",
        "output_length": "int",
        "output_writes": "int",
        "output_time": "float",
        "application_finish": "float",
        "application_time": "float",
        "status": "int",
        "gil_wait_time": "float",
        "gil_wait_count": "int",
        "cpu_user_time": "float",
        "cpu_system_time": "float",
        "cpu_time": "float",
    },
    "request_exception": {**STEP, "exception_info": "tuple"},
}

PHASES = [
    "server_time",
    "queue_time",
    "daemon_time",
    "application_time",
    "request_time",
    "input_read_time",
    "output_write_time",
    "gil_wait_time",
]
DAEMON_PHASES = ("queue_time", "daemon_time") if not mod_wsgi.process_group else ()

REQUEST_METRICS = {
    "pid": "int",
    "start_time": "float",
    "stop_time": "float",
    "sample_period": "float",
    "request_count": "int",
    "request_throughput": "float",
    "request_threads_maximum": "int",
    "request_threads_started": "int",
    "request_threads_active": "int",
    "capacity_utilization": "float",
    "request_threads_completed": "list",
    "request_threads_buckets": "list",
    "request_threads_busy_time": "list",
    "request_threads_cpu_time": "list",
    "request_threads_current_elapsed": "list",
    "request_threads_max_duration": "list",
    **{name: "NoneType" if name in DAEMON_PHASES else "float" for name in PHASES},
    **{name + "_min_us": "NoneType" if name in DAEMON_PHASES else "int" for name in PHASES},
    **{name + "_max_us": "NoneType" if name in DAEMON_PHASES else "int" for name in PHASES},
    **{name + "_buckets": "list" for name in PHASES},
    "gil_wait_count": "int",
    "input_bytes": "int",
    "input_reads": "int",
    "output_bytes": "int",
    "output_writes": "int",
    **{f"status_{digit}xx": "int" for digit in range(1, 6)},
    **{f"cpu_{name}{what}": "float" for name in ("user_", "system_", "") for what in ("utilization", "time")},
    "memory_rss": "int",
    "memory_max_rss": "int",
}

PROCESS_METRICS = {
    "pid": "int",
    "request_count": "int",
    "request_busy_time": "float",
    "memory_rss": "int",
    "memory_max_rss": "int",
    "cpu_user_time": "float",
    "cpu_system_time": "float",
    "cpu_time": "float",
    "restart_time": "float",
    "current_time": "float",
    "running_time": "int",
    "request_threads": "int",
    "active_requests": "int",
    "threads": "list",
}

SERVER_METRICS = {
    "server_limit": "int",
    "thread_limit": "int",
    "running_generation": "int",
    "restart_time": "float",
    "current_time": "float",
    "running_time": "int",
    "processes": "list",
}
SERVER_PROCESS = {
    "process_num": "int",
    "pid": "int",
    "generation": "int",
    "quiescing": "bool",
    "workers": "list",
}
SERVER_WORKER = {
    "thread_num": "int",
    "generation": "int",
    "status": "str",
    "access_count": "int",
    "bytes_served": "int",
    "start_time": "float",
    "stop_time": "float",
    "last_used": "float",
    "client": "str",
    "request": "str",
    "vhost": "str",
}

ENVIRON = {
    "mod_wsgi.version": "tuple",
    "mod_wsgi.process_group": "str",
    "mod_wsgi.application_group": "str",
    "mod_wsgi.callable_object": "str",
    "mod_wsgi.request_handler": "str",
    "mod_wsgi.handler_script": "str",
    "mod_wsgi.script_name": "str",
    "mod_wsgi.path_info": "str",
    "mod_wsgi.listener_host": "str",
    "mod_wsgi.listener_port": "str",
    "mod_wsgi.server_pid": "str",
    "mod_wsgi.request_id": "str",
    "mod_wsgi.thread_id": "int",
    "mod_wsgi.request_start": "float",
    "mod_wsgi.queue_start": "float",
    "mod_wsgi.daemon_start": "float",
    "mod_wsgi.application_start": "float",
    "apache.version": "tuple",
    "wsgi.version": "tuple",
    "wsgi.url_scheme": "str",
    "wsgi.input": "Input",
    "wsgi.input_terminated": "bool",
    "wsgi.errors": "Log",
    "wsgi.multithread": "bool",
    "wsgi.multiprocess": "bool",
    "wsgi.run_once": "bool",
    "wsgi.file_wrapper": CLASS,
}
# There in some requests only.
SOMETIMES = {"mod_wsgi.connection_id": "str"}


def kind(value):
    if isinstance(value, type):
        return CLASS
    name = type(value).__name__
    return FUNCTION if name in ("function", "builtin_function_or_method") else name


def differences(found, table, beyond=()):
    """What the mapping has that is not as the table says, in words; nothing where all is well."""
    words = [f"{name} is missing" for name in table if name not in found]
    for name, value in found.items():
        wanted = table.get(name)
        if wanted is None:
            if name not in beyond:
                words.append(f"{name} is too many")
        elif kind(value) != wanted:
            words.append(f"{name} is {kind(value)}, not {wanted}")
    return words


def names_of(module):
    return {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}


# Event: payloads, in the order of their coming.
heard = []

mod_wsgi.start_recording_metrics()
# Once more is no fault.
mod_wsgi.start_recording_metrics()


@mod_wsgi.subscribe_events
def hear(name, **event):
    heard.append((name, event))


def check_names(environ):
    return differences(names_of(mod_wsgi), {**MODULE, **OURS})


def check_apache(environ):
    return differences(names_of(apache), APACHE)


def check_environ(environ):
    given = {name: value for name, value in environ.items() if name.split(".")[0] in ("wsgi", "mod_wsgi", "apache")}
    words = differences(given, ENVIRON, SOMETIMES)
    order = ["request_start", "queue_start", "daemon_start", "application_start"]
    if not mod_wsgi.process_group:
        words += [name for name in order[1:3] if environ["mod_wsgi." + name] != 0.0]
        del order[1:3]
    times = [environ["mod_wsgi." + name] for name in order]
    if times != sorted(times) or times[-1] - times[0] > 60:
        words.append(f"times {times}")
    return words


def check_events(environ):
    words = []
    for name, event in heard:
        if name in EVENTS:
            words += [f"{name}: {word}" for word in differences(event, EVENTS[name])]
    for name in EVENTS:
        if not any(name == other for other, _ in heard):
            words.append(f"no {name}")
    return words


def check_request_metrics(environ):
    metrics = mod_wsgi.request_metrics()
    words = differences(metrics, REQUEST_METRICS)
    length = metrics["request_threads_maximum"]
    words += [
        f"{name} has {len(metrics[name])} entries"
        for name, type_name in REQUEST_METRICS.items()
        if type_name == "list" and len(metrics[name]) != (65 if name in [p + "_buckets" for p in PHASES] else length)
    ]
    return words


def check_process_metrics(environ):
    metrics = mod_wsgi.process_metrics()
    words = differences(metrics, PROCESS_METRICS)
    for thread in metrics["threads"]:
        words += differences(thread, {"thread_id": "int", "request_count": "int"})
    if sum(thread["request_count"] for thread in metrics["threads"]) != metrics["request_count"]:
        words.append("the requests of the threads are not those of the process")
    return words


def check_server_metrics(environ):
    metrics = mod_wsgi.server_metrics()
    if metrics is None:
        return ["nothing"]
    words = differences(metrics, SERVER_METRICS)
    for process in metrics["processes"]:
        words += differences(process, SERVER_PROCESS)
        for worker in process["workers"]:
            words += differences(worker, SERVER_WORKER)
            if worker["status"] not in "._SRWKLDCGI":
                words.append(f"status {worker['status']}")
    if os.getpid() not in [process["pid"] for process in metrics["processes"]]:
        words.append("this process is not among them")
    if environ["REQUEST_METHOD"] + " " + environ["REQUEST_URI"] + " HTTP/1.1" not in [
        worker["request"] for process in metrics["processes"] for worker in process["workers"]
    ]:
        words.append("this request is not among them")
    return words


def check_tables(environ):
    """Every name that the tables have, without those that are made of others."""
    tables = [MODULE, OURS, APACHE, *EVENTS.values(), REQUEST_METRICS, PROCESS_METRICS]
    tables += [SERVER_METRICS, SERVER_PROCESS, SERVER_WORKER]
    made = {phase + end for phase in PHASES for end in ("_min_us", "_max_us", "_buckets")}
    return sorted({name for table in tables for name in table} - made)


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise ValueError("raised for a test")
    if path == "/read":
        environ["wsgi.input"].read()
    check = globals().get("check_" + path[1:])
    words = check(environ) if check else []
    body = "\n".join(words).encode() or b"as it should be"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
