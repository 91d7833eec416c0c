"""What a run was made with: versions, and nothing that names the machine."""

import platform
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import version

from tests import programs

_PACKAGES = ("gunicorn", "gevent", "requests", "urllib3")
_PROGRAMS = (
    ("skopeo", "--version"),
    ("podman", "--version"),
    ("buildah", "--version"),
    ("dockerd", "--version"),
    ("containerd", "--version"),
    ("oras", "version"),
    ("docker-registry", "--version"),
)


def facts() -> Iterator[str]:
    """Say what it was made with, a sentence each."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "an unknown distribution")
    yield f"{system}: {', '.join(_programs())}."
    yield f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in _PACKAGES
    ) + "."  # fmt: skip


def _programs() -> Iterator[str]:
    for name, argument in _PROGRAMS:
        program = programs.path(name)
        if program is None:
            yield f"no {name}"
            continue
        done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
        found = re.search(r"\d+(?:\.\d+)+", done.stdout)
        yield f"{name} {found[0] if found else 'of an unknown version'}"
