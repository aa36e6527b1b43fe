"""Imports extension modules of the standard library, which need the symbols of libpython, and uses them.

What a Python was built without is not asked for: whoever runs the tests sees it in `missing=`.
"""

import importlib

WANTED = [
    "_asyncio", "_bz2", "_ctypes", "_decimal", "_elementtree", "_hashlib", "_json", "_lzma",
    "_multiprocessing", "_queue", "_socket", "_sqlite3", "_ssl", "_struct", "array", "math", "mmap",
    "select", "zlib",
]  # fmt: skip


def use():
    """A little of what they do."""
    import ctypes
    import decimal
    import hashlib
    import sqlite3
    import sys

    ctypes.pythonapi.Py_GetVersion.restype = ctypes.c_char_p
    return {
        "ctypes": ctypes.pythonapi.Py_GetVersion().decode() == sys.version,
        "decimal": str(decimal.Decimal("0.1") + decimal.Decimal("0.2")) == "0.3",
        "hashlib": hashlib.sha256(b"").hexdigest()[:8] == "e3b0c442",
        "sqlite3": sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,),
    }


def application(environ, start_response):
    missing = []
    for name in WANTED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            missing.append(name)
    facts = use()
    facts["missing"] = " ".join(missing)
    body = "".join(f"{key}={value}\n" for key, value in facts.items()).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
