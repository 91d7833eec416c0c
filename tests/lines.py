"""The log with the lines of all requests that are over."""

import contextlib
import logging
import os
import re
import secrets
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import requests

from app.log_lines import TextFormatter
from tests.servers import Docxy, wait_until

_STATE = re.compile(r"^State:\t(\w)", re.MULTILINE)


def line_of(record: logging.LogRecord) -> str:
    """Return a record as it is written as text, with its level and its fields, and no time."""
    return TextFormatter().format(record).partition(" ")[2]


def all_lines(proxy: Docxy) -> str:
    """Return what a Docxy that logs every request has logged, once nothing waits to be written.

    A worker writes the lines of many requests at once, in their order, and nobody outside knows
    which worker had a request. So each worker is asked once more, and its last line awaited.
    """
    for worker in proxy.workers:
        name = f"last-{secrets.token_hex(8)}"
        with only(proxy, worker):
            requests.get(f"{proxy.url}/health", headers={"X-Request-ID": name}, timeout=30)
        wait_until(partial(_has_line, proxy, name), 5, "the last line of a worker")
    return proxy.log


def _has_line(proxy: Docxy, name: str) -> bool:
    return name in proxy.log


@contextlib.contextmanager
def only(proxy: Docxy, worker: int) -> Iterator[None]:
    """Let all others do nothing meanwhile, so that one worker takes what comes."""
    others = [pid for pid in proxy.workers if pid != worker]
    try:
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: all(map(_is_stopped, others)), 5, "the others to stop")
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    found = _STATE.search(Path(f"/proc/{pid}/status").read_text())
    return found is not None and found[1] == "T"
