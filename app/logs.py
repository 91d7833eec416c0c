"""Where log lines go: all of a process to standard error, each with the id of its request."""

import contextlib
import logging
import logging.config
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final, Literal, TextIO

from app import log_lines
from app.log_lines import FIELDS, Line

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this thread, or greenlet, serves."""


_WHOLE: Final = 4096
"""Bytes that reach a pipe in one piece, whoever else writes to it: Linux's PIPE_BUF (pipe(7))."""

_INVALID: Final = "Invalid request from ip="
"""How gunicorn begins a line that quotes what it could not read."""


def write(logger: logging.Logger, lines: Sequence[Line]) -> None:
    """Write lines of one logger, where its `isEnabledFor` says so."""
    for handler in (*logger.handlers, *logging.root.handlers):
        if isinstance(handler, _Stderr):
            handler.write(lines)
        else:
            for line in lines:
                handler.handle(line)


class _WithRequestId(logging.Filter):
    """Tells on every line which request it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        fields: dict[str, Any] = getattr(record, FIELDS, {})
        if (known := request_id.get()) and "request_id" not in fields:
            setattr(record, FIELDS, {**fields, "request_id": known})
        return True


class _WithoutRequest(logging.Filter):
    """Takes what a client sent out of gunicorn's own lines, which quote headers and queries."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if message.startswith(_INVALID):
            address = message.removeprefix(_INVALID).partition(": ")[0]
            record.msg = "Invalid request."
            setattr(record, FIELDS, {"client": address} if address else {})
        elif isinstance(record.args, tuple):
            record.args = tuple(_harmless(one) for one in record.args)
        return True


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to standard error, which sends at once what ends a line: it needs no flush."""

    def __init__(self) -> None:
        super().__init__(log_lines.raw(sys.stderr))

    def emit(self, record: logging.LogRecord) -> None:
        self._send([f"{self.format(record)}\n"])

    def write(self, lines: Sequence[Line]) -> None:
        """Write lines, as many together as reach a pipe whole."""
        with self.lock or contextlib.nullcontext():
            together, size = list[str](), 0
            for line in lines:
                text = f"{self.format(line)}\n"
                # How many bytes the others are only the stream knows.
                length = len(text) if text.isascii() else _WHOLE
                if size + length > _WHOLE:
                    self._send(together)
                    together, size = [], 0
                together.append(text)
                size += length
            self._send(together)

    def _send(self, texts: list[str]) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more; requests go on
            self.stream.write("".join(texts))


def _harmless(argument: object) -> object:
    """Return what of an argument may be logged: no query, and of an error only its name."""
    if isinstance(argument, Exception):
        return type(argument).__name__  # NoMoreData quotes the half of a request that came
    return argument.partition("?")[0] if isinstance(argument, str) else argument


def configure(form: Literal["text", "json"], level: str) -> None:
    """Send every log line of this process to standard error, gunicorn's included."""
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"docxy": {"()": log_lines.formatter_of, "form": form}},
        "filters": {
            "without_request": {"()": _WithoutRequest},
            "with_request_id": {"()": _WithRequestId},
        },
        "handlers": {"stderr": {
            "()": _Stderr, "formatter": "docxy", "filters": ["with_request_id"],
        }},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "gunicorn.error": {
                "handlers": [],
                "propagate": True,
                "filters": ["without_request"],
            },
            # one warning for each connection beyond the pool, and URLs with their queries
            "urllib3": {"level": "ERROR"},
        },
    })  # fmt: skip
