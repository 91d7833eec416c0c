"""Describes the machine and the versions, without anything that identifies the machine."""

import os
import platform
import re
import ssl
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("gunicorn", "gevent", "Flask", "requests", "urllib3")


def describe() -> Iterator[str]:
    """Yield sentences that describe the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    yield f"{os.cpu_count()} cores ({_read_processor()}), {memory:.0f} GiB of memory."
    yield f"Linux {re.split(r'[-+]', platform.release())[0]}, {_read_system()}."
    yield f"Python {platform.python_version()}, {' '.join(ssl.OPENSSL_VERSION.split()[:2])}."
    yield (
        ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
        + f", nginx {_read_nginx_version()}."
    )


def load_average() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def _read_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _read_system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "an unknown distribution")


def _read_nginx_version() -> str:
    completed = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
    return completed.stderr.strip().rpartition("/")[2]
