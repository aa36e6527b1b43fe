"""The peers from PyPI, in a virtual environment of the run's Python below build/."""

import pathlib

from server import PROJECT, capture

INSTALLED = """
import importlib.metadata, sys
try:
    print(importlib.metadata.version(sys.argv[1]))
except importlib.metadata.PackageNotFoundError:
    print("none")
"""


def folder(context) -> pathlib.Path:
    venv = PROJECT / "build" / ("bench-venv-" + context.tag)
    if not (venv / "bin" / "python").exists():
        capture(context.python, "-m", "venv", str(venv))
    return venv


def install(context, name: str, version: str, *options: str) -> None:
    """pip installs this version, unless it is there."""
    venv = folder(context)
    python = str(venv / "bin" / "python")
    if capture(python, "-c", INSTALLED, name).strip() == version:
        return
    print("installing %s %s into %s" % (name, version, venv), flush=True)
    capture(
        python, "-m", "pip", "--disable-pip-version-check", "install", "-q", *options,
        "%s==%s" % (name, version),
    )
