"""wrk, the client for many small requests."""

import re
import subprocess
from dataclasses import dataclass
from typing import Final

from bench.clients import TOKEN
from bench.content import MEDIA_TYPE

CONNECTIONS: Final = 16

_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class Load:
    """The figures of a server under load."""

    requests_per_second: float
    requests: int
    p50_ms: float
    p99_ms: float


def load(url: str, seconds: int, token: str = TOKEN) -> Load:
    """Request a URL as fast as it is answered; raise RuntimeError if a request fails."""
    command = [
        "wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--latency",
        "-H", f"Authorization: Bearer {token}", "-H", f"Accept: {MEDIA_TYPE}", url,
    ]  # fmt: skip
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Non-2xx" in completed.stdout or "Socket errors" in completed.stdout:
        raise RuntimeError(completed.stdout)
    return Load(
        requests_per_second=float(_search(r"Requests/sec:\s+([\d.]+)", completed.stdout)[1]),
        requests=int(_search(r"(\d+) requests in", completed.stdout)[1]),
        p50_ms=_parse_milliseconds("50", completed.stdout),
        p99_ms=_parse_milliseconds("99", completed.stdout),
    )


def _parse_milliseconds(percentile: str, text: str) -> float:
    match = _search(rf"{percentile}%\s+([\d.]+)(us|ms|s)\b", text)
    return float(match[1]) * _UNITS[match[2]]


def _search(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        message = f"wrk's output cannot be read: {text}"
        raise RuntimeError(message)
    return match
