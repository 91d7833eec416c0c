"""Log lines, as text for people or as JSON for machines.

A record may carry `fields`: they follow the sentence as key=value, or stand beside it in the JSON.
"""

import json
import logging
import logging.config
import re
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pythonjsonlogger.json import JsonFormatter

_FIELDS: Final = "fields"

_ODD: Final = re.compile(r'[ "=]')


request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that this thread, or greenlet, serves."""


class _Utc(logging.Formatter):
    """Tells the time as RFC 3339 does, in UTC."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - as inherited
        del datefmt
        when = datetime.fromtimestamp(record.created, UTC)
        return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(_Utc):
    """Time, level, sentence, key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as inherited
        """Append the fields; what could break the line or be taken for a field is quoted."""
        fields: dict[str, Any] = getattr(record, _FIELDS, {})
        pairs = "".join(f" {name}={_plain(value)}" for name, value in fields.items())
        return super().formatMessage(record) + pairs


class FlatJsonFormatter(_Utc, JsonFormatter):
    """One JSON object a line, the fields at its top level."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )

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


def _harmless(argument: object) -> object:
    """Return what of an argument may be logged: no query, and of an error only its name."""
    if isinstance(argument, Exception):
        return type(argument).__name__  # NoMoreData quotes the half of a request that came
    return argument.partition("?")[0] if isinstance(argument, str) else argument


def configure(form: Literal["text", "json"], level: str) -> None:
    """Send every log line of this process to standard error, gunicorn's included."""
    # No line tells these, and finding them takes as long as writing the line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
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
            "class": "logging.StreamHandler", "formatter": "docxy", "filters": ["with_request_id"],
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


def _plain(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not _ODD.search(text) else json.dumps(text)
