"""Log lines, as text for people or as JSON for machines: the master's, the workers', a command's.

gunicorn.conf.py imports this in the master, so it imports nothing that gevent patches.

A record may carry `fields`: they follow the sentence as key=value, or stand beside it in the JSON.
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
"""A field of several lines, which an operator has to read: in text it stands below its line.

Nothing in it comes from a client, who could forge lines by it.
"""

_NUMBERS: Final = frozenset({int, float, bool})
_ODD: Final = re.compile(r'[ "=]')
_BARE: Final = re.compile(r"[!#-<>-~]+")
"""Visible ASCII that is not odd: most of what lines tell."""

_NOWHERE: Final = logging.LogRecord("", logging.INFO, "", 0, "", (), None).__dict__

logger = logging.getLogger("python")


class Line(logging.LogRecord):
    """A record that says nothing of where it was made, and so costs a tenth of another one.

    For what comes with every request.
    """

    def __init__(self, name: str, sentence: str, fields: dict[str, Any], created: float) -> None:
        # Not what is inherited: it asks for the process, the thread and the file.
        self.__dict__.update(_NOWHERE)
        self.name, self.msg, self.fields = name, sentence, fields
        self.created = created
        self.msecs = created % 1 * 1000


class _Formatter(logging.Formatter):
    """Tells the time as RFC 3339 does, in UTC."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - as inherited
        """Return the time, to the millisecond and never one of the next second."""
        del datefmt
        seconds = int(record.created)
        return f"{_second(seconds)}.{int((record.created - seconds) * 1000):03}Z"

    def below(self, record: logging.LogRecord) -> str:
        """Return the traceback of a record, or ""."""
        parts = [self.formatException(record.exc_info) if record.exc_info else ""]
        parts.append(self.formatStack(record.stack_info) if record.stack_info else "")
        return "\n".join(filter(None, parts))


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class TextFormatter(_Formatter):
    """Time, level, sentence, key=value; what could break the line or be a field is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line, and what went wrong below it."""
        fields: dict[str, Any] = record.__dict__.get(FIELDS, {})
        begin = f"{self.formatTime(record)} {record.levelname} "
        if record.__class__ is Line:
            return f"{begin}{record.msg}{_pairs(fields)}"
        shown = {name: value for name, value in fields.items() if name != DETAILS}
        line = f"{begin}{record.getMessage()}{_pairs(shown)}"
        return "\n".join(filter(None, [line, fields.get(DETAILS, ""), self.below(record)]))


class JsonFormatter(_Formatter):
    """One JSON object a line, the fields at its top level."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        fields: dict[str, Any] = record.__dict__.get(FIELDS, {})
        is_line = record.__class__ is Line
        document = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.msg if is_line else record.getMessage(),
            **fields,
        }
        if not is_line and (below := self.below(record)):
            document["traceback"] = below
        return json.dumps(document, default=str)


def formatter_of(form: str) -> logging.Formatter:
    """Return what writes lines in a form, `text` or `json`."""
    return JsonFormatter() if form == "json" else TextFormatter()


def _pairs(fields: dict[str, Any]) -> str:
    return "".join([
        f" {name}={value if value.__class__ in _NUMBERS else _plain(str(value))}"
        for name, value in fields.items()
    ])  # fmt: skip


def _plain(text: str) -> str:
    return text if _BARE.fullmatch(text) else _quoted(text)


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    """Return what is not all bare; agents, and what caches say, come again and again."""
    return text if text and text.isprintable() and not _ODD.search(text) else json.dumps(text)


class _JsonStream(io.TextIOBase):
    """Standard error, where what is no log line becomes one: what print() and sys.exit() write."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner
        self._begun = ""

    def write(self, text: str) -> int:
        """Take text; all that came until one ends with a line's end is one line."""
        self._begun += text
        if self._begun.endswith("\n"):
            self._send()
        return len(text)

    def flush(self) -> None:
        """Write what came without the end of a line."""
        self._send()
        self.inner.flush()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.inner.fileno()

    def isatty(self) -> bool:
        """Tell whether somebody looks at it."""
        return self.inner.isatty()

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def _send(self) -> None:
        said, self._begun = self._begun.strip(), ""
        if said:
            line = Line("stderr", said, {}, time.time())
            line.levelname, line.levelno = "ERROR", logging.ERROR
            self.inner.write(f"{JsonFormatter().format(line)}\n")
            self.inner.flush()


def take_stderr(form: str) -> None:
    """Let nothing but JSON reach standard error where that is the form, and anything where not."""
    inner = raw(sys.stderr)
    sys.stderr = _JsonStream(inner) if form == "json" else inner


def raw(stream: TextIO) -> TextIO:
    """Return where lines go as they are, for standard error and for any other stream."""
    return stream.inner if isinstance(stream, _JsonStream) else stream


def take_failures() -> None:
    """Let warnings, and what nobody catches, have a line like anything else that goes wrong."""
    warnings.showwarning = _warn
    threading.excepthook = _tell_thread
    sys.unraisablehook = _tell_unraisable


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    *_: object,
    **__: object,
) -> None:
    fields = {"kind": category.__name__, "error": str(message), "place": f"{filename}:{lineno}"}
    logger.warning("Python warns.", extra={"fields": fields})


def _tell_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None and failure.exc_type is not SystemExit:
        cause = (failure.exc_type, failure.exc_value, failure.exc_traceback)
        logger.error("A thread failed.", exc_info=cause)


def _tell_unraisable(failure: "sys.UnraisableHookArgs") -> None:
    if failure.exc_value is not None:
        cause = (failure.exc_type, failure.exc_value, failure.exc_traceback)
        logger.error("An error could not be raised.", exc_info=cause)
