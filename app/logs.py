"""Logging of a process: every line goes to standard error, with the id of its request."""

import contextlib
import logging
import logging.config
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal, TextIO

from app import log_lines
from app.events import current
from app.log_lines import FIELDS, MinimalLogRecord

_PIPE_BUF: Final = 4096
"""The maximum number of bytes that one of several writers can write to a pipe atomically: Linux's
PIPE_BUF (pipe(7))."""

_INVALID_REQUEST: Final = "Invalid request from ip="
"""The beginning of gunicorn's log message about a malformed request, which quotes the request."""


def write_lines(logger: logging.Logger, lines: Sequence[MinimalLogRecord]) -> None:
    """Write lines to the handlers of `logger` and of the root logger, whatever their level.

    The caller checks `logger.isEnabledFor` first. Lines for standard error are written together.
    """
    for handler in (*logger.handlers, *logging.root.handlers):
        if isinstance(handler, _StderrHandler):
            handler.write_lines(lines)
        else:
            for line in lines:
                handler.handle(line)


class _RequestIdFilter(logging.Filter):
    """Adds the id of the current request to every record that has none; rejects no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        fields: dict[str, Any] = getattr(record, FIELDS, {})
        exchange = current.get()
        if exchange is not None and exchange.request_id and "request_id" not in fields:
            setattr(record, FIELDS, {**fields, "request_id": exchange.request_id})
        return True


class _RedactingFilter(logging.Filter):
    """Removes client data from gunicorn's own lines, which quote headers and queries.

    It rejects no record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        if message.startswith(_INVALID_REQUEST):
            address = message.removeprefix(_INVALID_REQUEST).partition(": ")[0]
            record.msg = "Invalid request."
            setattr(record, FIELDS, {"client": address} if address else {})
        elif isinstance(record.args, tuple):
            record.args = tuple(_redact(argument) for argument in record.args)
        return True


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error without a flush, since that stream is line-buffered."""

    def __init__(self) -> None:
        super().__init__(log_lines.unwrap_stream(sys.stderr))

    def emit(self, record: logging.LogRecord) -> None:
        self._write_text([f"{self.format(record)}\n"])

    def write_lines(self, lines: Sequence[MinimalLogRecord]) -> None:
        """Write lines, as many at once as a pipe takes atomically."""
        with self.lock or contextlib.nullcontext():
            batch, size = list[str](), 0
            for line in lines:
                text = f"{self.format(line)}\n"
                # Only the stream knows how many bytes a text has that is not ASCII.
                length = len(text) if text.isascii() else _PIPE_BUF
                if size + length > _PIPE_BUF:
                    self._write_text(batch)
                    batch, size = [], 0
                batch.append(text)
                size += length
            self._write_text(batch)

    def _write_text(self, texts: list[str]) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed log must not fail requests
            self.stream.write("".join(texts))


def _redact(argument: object) -> object:
    """Return what may be logged of an argument: text up to its query, only the type of an error."""
    if isinstance(argument, Exception):
        return type(argument).__name__  # NoMoreData quotes the part of a request that arrived
    return argument.partition("?")[0] if isinstance(argument, str) else argument


def configure(form: Literal["text", "json"], level: str) -> None:
    """Send every log line of this process to standard error, gunicorn's included.

    `form` is the format of the lines, and `level` the lowest level that is logged.
    """
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"docxy": {"()": log_lines.build_formatter, "form": form}},
        "filters": {
            "without_request": {"()": _RedactingFilter},
            "with_request_id": {"()": _RequestIdFilter},
        },
        "handlers": {"stderr": {
            "()": _StderrHandler, "formatter": "docxy", "filters": ["with_request_id"],
        }},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "gunicorn.error": {
                "handlers": [],
                "propagate": True,
                "filters": ["without_request"],
            },
            # urllib3 warns of each connection beyond the pool, and logs URLs with their queries.
            "urllib3": {"level": "ERROR"},
        },
    })  # fmt: skip
