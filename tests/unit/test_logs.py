"""Log lines: one record is one line, and its fields can be told apart."""

import json
import logging
import sys

import pytest

from app.logs import FlatJsonFormatter, TextFormatter


def record(message: str, **fields: object) -> logging.LogRecord:
    """Return a record as `logger.info(message, extra={"fields": fields})` makes it."""
    made = logging.LogRecord("app.access", logging.INFO, "x.py", 1, message, (), None)
    if fields:
        made.__dict__["fields"] = fields
    return made


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param("plain", "plain", id="a word"),
        pytest.param(200, "200", id="a number"),
        pytest.param("a/b:c-d?e", "a/b:c-d?e", id="a path"),
        pytest.param("", '""', id="empty"),
        pytest.param("two words", '"two words"', id="space"),
        pytest.param("a=b", '"a=b"', id="equals"),
        pytest.param('a"b', r'"a\"b"', id="quote"),
        pytest.param("a\nINFO Forged.", r'"a\nINFO Forged."', id="newline"),
        pytest.param("a\rb", r'"a\rb"', id="carriage return"),
        pytest.param("a\x1b[31mb", r'"a\u001b[31mb"', id="escape sequence"),
        pytest.param("a\x00b", r'"a\u0000b"', id="NUL"),
        pytest.param("a\x85b", r'"a\u0085b"', id="next line"),
        pytest.param("a\u2028b", r'"a\u2028b"', id="line separator"),
        pytest.param("a\u202eb", r'"a\u202eb"', id="right-to-left override"),
        pytest.param("ü", "ü", id="a letter"),
    ],
)
def test_text_quotes_what_breaks_a_line(value: object, written: str) -> None:
    """No value can end the line, begin a field, or reach the terminal as an escape."""
    line = TextFormatter().format(record("Request.", first=value, second=2))
    assert line.endswith(f" INFO Request. first={written} second=2")
    assert len(line.splitlines()) == 1


def test_text_without_fields() -> None:
    """A record without fields is its sentence."""
    assert TextFormatter().format(record("Ready.")).endswith(" INFO Ready.")


def test_text_shows_a_traceback() -> None:
    """What went wrong is below the line."""
    made = record("Failed.")
    try:
        int("broken")
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *below = TextFormatter().format(made).splitlines()
    assert first.endswith(" INFO Failed.")
    assert below[0].startswith("Traceback")
    assert below[-1].startswith("ValueError: ")


@pytest.mark.parametrize(
    "value", [pytest.param('a"b\nc\x1b', id="controls"), pytest.param(3, id="a number")]
)
def test_json_is_one_object_on_one_line(value: object) -> None:
    """The fields stand beside the sentence, and whatever is in them stays in them."""
    line = FlatJsonFormatter().format(record("Request.", path=value, status=200))
    assert len(line.splitlines()) == 1
    document = json.loads(line)
    assert document["message"] == "Request."
    assert document["level"] == "INFO"
    assert document["logger"] == "app.access"
    assert document["time"]
    assert (document["path"], document["status"]) == (value, 200)
    assert "fields" not in document


def test_json_without_fields() -> None:
    """A record without fields is an object all the same."""
    assert json.loads(FlatJsonFormatter().format(record("Ready.")))["message"] == "Ready."
