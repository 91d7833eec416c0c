"""The format of log lines: text for people or JSON for machines.

gunicorn's master, its workers and serve.py use it. gunicorn.conf.py imports this module in the
master, so the module imports the standard library alone.

A record may carry `fields`. In text they follow the sentence as key=value; in JSON they are members
of the same object.
"""

import io
import json
import logging
import re
import sys
import threading
import time
import warnings
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TextIO

FIELDS: Final = "fields"
DETAILS: Final = "details"
"""The name of a field of several lines for the operator, which text shows below the log line.

It must not contain anything from a client, who could use it to forge log lines.
"""

_NUMBERS: Final = frozenset({int, float, bool})
_NEEDS_QUOTES: Final = re.compile(r'[ "=]')
_PLAIN_VALUE: Final = re.compile(r"[!#-<>-~]+")
"""Visible ASCII without the characters of `_NEEDS_QUOTES`: most values, which need no quotes."""

_EMPTY_RECORD: Final = logging.LogRecord("", logging.INFO, "", 0, "", (), None).__dict__

logger = logging.getLogger("python")


class MinimalLogRecord(logging.LogRecord):
    """A log record without its source location, which costs a tenth of an ordinary one.

    It is for lines that every request writes. `created` is in wall-clock seconds.
    """

    def __init__(self, name: str, sentence: str, fields: dict[str, Any], created: float) -> None:
        # The inherited __init__ is not called: it looks up the process, the thread and the file.
        self.__dict__.update(_EMPTY_RECORD)
        self.name, self.msg, self.fields = name, sentence, fields
        self.created = created
        self.msecs = created % 1 * 1000


class _Formatter(logging.Formatter):
    """A formatter whose times are in UTC, as RFC 3339 writes them."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - as inherited
        """Return the time of a record, with milliseconds that are cut off rather than rounded."""
        del datefmt
        seconds = int(record.created)
        return f"{_format_second(seconds)}.{int((record.created - seconds) * 1000):03}Z"

    def format_trace(self, record: logging.LogRecord) -> str:
        """Return the traceback and the stack of a record, or "" if it has neither."""
        parts = [self.formatException(record.exc_info) if record.exc_info else ""]
        parts.append(self.formatStack(record.stack_info) if record.stack_info else "")
        return "\n".join(filter(None, parts))


@lru_cache(maxsize=4)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class TextFormatter(_Formatter):
    """Formats a record as time, level, sentence and key=value.

    A value is quoted, as JSON, if it could break the line or look like a field.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, with its details and traceback below it."""
        fields: dict[str, Any] = record.__dict__.get(FIELDS, {})
        begin = f"{self.formatTime(record)} {record.levelname} "
        if record.__class__ is MinimalLogRecord:
            return f"{begin}{record.msg}{_format_pairs(fields)}"
        pairs = {name: value for name, value in fields.items() if name != DETAILS}
        line = f"{begin}{record.getMessage()}{_format_pairs(pairs)}"
        return "\n".join(filter(None, [line, fields.get(DETAILS, ""), self.format_trace(record)]))


class JsonFormatter(_Formatter):
    """Formats a record as one JSON object on a line, with the fields at its top level."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON of a record; a traceback is its member `traceback`."""
        fields: dict[str, Any] = record.__dict__.get(FIELDS, {})
        is_minimal = record.__class__ is MinimalLogRecord
        document = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.msg if is_minimal else record.getMessage(),
            **fields,
        }
        if not is_minimal and (trace := self.format_trace(record)):
            document["traceback"] = trace
        return json.dumps(document, default=str)


def build_formatter(form: str) -> logging.Formatter:
    """Return a formatter for `form`: JSON for "json", text for anything else."""
    return JsonFormatter() if form == "json" else TextFormatter()


def _format_pairs(fields: dict[str, Any]) -> str:
    return "".join([
        f" {name}={value if value.__class__ in _NUMBERS else _format_value(str(value))}"
        for name, value in fields.items()
    ])  # fmt: skip


def _format_value(text: str) -> str:
    return text if _PLAIN_VALUE.fullmatch(text) else _quote(text)


@lru_cache(maxsize=1024)
def _quote(text: str) -> str:
    """Return a value, in quotes if it needs them.

    The result is cached because user agents and Cache-Status values recur.
    """
    return (
        text if text and text.isprintable() and not _NEEDS_QUOTES.search(text) else json.dumps(text)
    )


class _JsonStream(io.TextIOBase):
    """A standard error that turns the output of print() and sys.exit() into JSON log lines."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner
        self._pending = ""

    def write(self, text: str) -> int:
        """Collect text until a piece ends with a newline, then write all of it as one log line.

        Return the length of `text` in characters.
        """
        self._pending += text
        if self._pending.endswith("\n"):
            self._write_line()
        return len(text)

    def flush(self) -> None:
        """Write the collected text as a log line even if no newline ends it."""
        self._write_line()
        self.inner.flush()

    def fileno(self) -> int:
        """Return the file descriptor of the stream underneath."""
        return self.inner.fileno()

    def isatty(self) -> bool:
        """Return whether the stream underneath is a terminal."""
        return self.inner.isatty()

    def writable(self) -> bool:
        """Return True, as every writable stream does."""
        return True

    def _write_line(self) -> None:
        text, self._pending = self._pending.strip(), ""
        if text:
            line = MinimalLogRecord("stderr", text, {}, time.time())
            line.levelname, line.levelno = "ERROR", logging.ERROR
            self.inner.write(f"{JsonFormatter().format(line)}\n")
            self.inner.flush()


def wrap_stderr(form: str) -> None:
    """Replace sys.stderr so that only JSON reaches it if `form` is "json".

    For any other form, restore the original stream.
    """
    inner = unwrap_stream(sys.stderr)
    sys.stderr = _JsonStream(inner) if form == "json" else inner


def unwrap_stream(stream: TextIO) -> TextIO:
    """Return the stream beneath `stream` that takes finished lines.

    That is `stream` itself, unless `wrap_stderr` has wrapped it.
    """
    return stream.inner if isinstance(stream, _JsonStream) else stream


def install_failure_hooks() -> None:
    """Log Python's warnings and the uncaught exceptions of threads and finalizers."""
    warnings.showwarning = _log_warning
    threading.excepthook = _log_thread_failure
    sys.unraisablehook = _log_unraisable


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    *_: object,
    **__: object,
) -> None:
    fields = {
        "category": category.__name__,
        "error": str(message),
        "location": f"{filename}:{lineno}",
    }
    logger.warning("Python warning.", extra={"fields": fields})


def _log_thread_failure(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and failure.exc_type is not SystemExit:
        cause = (failure.exc_type, failure.exc_value, failure.exc_traceback)
        logger.error("Uncaught exception in a thread.", exc_info=cause)


def _log_unraisable(failure: "sys.UnraisableHookArgs") -> None:
    if failure.exc_value is not None:
        cause = (failure.exc_type, failure.exc_value, failure.exc_traceback)
        logger.error("Unraisable exception.", exc_info=cause)
