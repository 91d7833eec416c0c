"""Names that a Docxy under test resolves, whatever the machine's own resolver knows."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

_RESOLVER = """
import _socket

names = {names}
unanswered = {unanswered}
resolve = _socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    name = host.decode() if isinstance(host, bytes) else host
    if name in unanswered:
        open({pipe}).read()
    found = [resolve(one, *arguments, **options) for one in names.get(name, [host])]
    return sum(found, [])


_socket.getaddrinfo = getaddrinfo
"""
"""Below Python's own and gevent's; Python imports a `sitecustomize` before anything else."""


def resolving(
    folder: Path, names: Mapping[str, list[str]], unanswered: Collection[str] = ()
) -> dict[str, str]:
    """Return the environment of a process for which these names have these addresses.

    Whoever asks for one that is `unanswered` waits until somebody writes to `pipe_of(folder)`.
    """
    os.mkfifo(pipe_of(folder))
    source = _RESOLVER
    for word, value in {
        "names": dict(names), "unanswered": [*unanswered], "pipe": str(pipe_of(folder))
    }.items():  # fmt: skip
        source = source.replace(f"{{{word}}}", json.dumps(value))
    (folder / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": str(folder)}


def pipe_of(folder: Path) -> Path:
    """Return what is read in place of an answer."""
    return folder / "answers"
