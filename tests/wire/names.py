"""Names that a Docxy under test resolves, whatever the machine's own resolver knows."""

import json
from collections.abc import Mapping
from pathlib import Path

_RESOLVER = """
import _socket

names = {names}
resolve = _socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    name = host.decode() if isinstance(host, bytes) else host
    found = [resolve(one, *arguments, **options) for one in names.get(name, [host])]
    return sum(found, [])


_socket.getaddrinfo = getaddrinfo
"""
"""Below Python's own and gevent's; Python imports a `sitecustomize` before anything else."""


def resolving(folder: Path, names: Mapping[str, list[str]]) -> dict[str, str]:
    """Return the environment of a process for which these names have these addresses."""
    source = _RESOLVER.replace("{names}", json.dumps(dict(names)))
    (folder / "sitecustomize.py").write_text(source)
    return {"PYTHONPATH": str(folder)}
