"""Log lines, as text for people or as JSON for machines.

A record may carry `fields`: they follow the sentence as key=value, or stand beside it in the JSON.
"""

import contextlib
import json
import logging
import logging.config
import re
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

_FIELDS: Final = "fields"

_NUMBERS: Final = frozenset({int, float, bool})
_ODD: Final = re.compile(r'[ "=]')
_BARE: Final = re.compile(r"[!#-<>-~]+")
"""Visible ASCII that is not odd: most of what lines tell."""


request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this thread, or greenlet, serves."""


_WHOLE: Final = 4096
"""Bytes that reach a pipe in one piece, whoever else writes to it: Linux's PIPE_BUF (pipe(7))."""

_NOWHERE: Final = logging.LogRecord("", logging.INFO, "", 0, "", (), None).__dict__


class Line(logging.LogRecord):
    """A record that says nothing of where it was made, and so costs a tenth of another one.

    For what comes with every request; `write` takes many at once.
    """

    def __init__(self, name: str, sentence: str, fields: dict[str, Any], created: float) -> None:
        # Not what is inherited: it asks for the process, the thread and the file.
        self.__dict__.update(_NOWHERE)
        self.name, self.msg, self.fields = name, sentence, fields
        self.created = created
        self.msecs = created % 1 * 1000


def write(logger: logging.Logger, lines: Sequence[Line]) -> None:
    """Write lines of one logger, where its `isEnabledFor` says so."""
    for handler in (*logger.handlers, *logging.root.handlers):
        if isinstance(handler, _Stderr):
            handler.write(lines)
        else:
            for line in lines:
                handler.handle(line)


class _Utc(logging.Formatter):
    """Tells the time as RFC 3339 does, in UTC."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - as inherited
        del datefmt
        seconds = int(record.created)
        return f"{_second(seconds)}.{int((record.created - seconds) * 1000):03}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class TextFormatter(_Utc):
    """Time, level, sentence, key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return a line, and what went wrong below it."""
        if record.__class__ is Line:
            return f"{self.formatTime(record)} {record.levelname} {record.msg}{_pairs(record)}"
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as inherited
        """Append the fields; what could break the line or be taken for a field is quoted."""
        return f"{record.asctime} {record.levelname} {record.message}{_pairs(record)}"


class FlatJsonFormatter(_Utc, JsonFormatter):
    """One JSON object a line, the fields at its top level."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        if record.__class__ is not Line:
            return super().format(record)
        # What is inherited takes thrice as long: it looks for what else may be in a record.
        begin = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.msg,
        }
        return json.dumps(begin | record.__dict__[_FIELDS])

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Lift the fields."""
        fields = log_data.pop(_FIELDS, {})
        return super().process_log_record(log_data | fields)


class _WithRequestId(logging.Filter):
    """Tells on every line which request it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        fields: dict[str, Any] = getattr(record, _FIELDS, {})
        if (known := request_id.get()) and "request_id" not in fields:
            setattr(record, _FIELDS, {**fields, "request_id": known})
        return True


class _WithoutRequest(logging.Filter):
    """Takes what a client sent out of gunicorn's own lines, which quote headers and queries."""

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Invalid request from ip="):
            record.msg = str(record.msg).partition(": ")[0]
        elif isinstance(record.args, tuple):
            record.args = tuple(_harmless(one) for one in record.args)
        return True


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to standard error, which sends at once what ends a line: it needs no flush."""

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
    formatter = FlatJsonFormatter if form == "json" else TextFormatter
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"docxy": {"()": formatter}},
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


def _pairs(record: logging.LogRecord) -> str:
    fields: dict[str, Any] = record.__dict__.get(_FIELDS, {})
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
