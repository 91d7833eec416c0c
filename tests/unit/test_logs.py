"""Log lines: one record is one line, and its fields can be told apart."""

import contextlib
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn.http.errors import NoMoreData

from app.log_lines import (
    JsonFormatter,
    MinimalLogRecord,
    TextFormatter,
    install_failure_hooks,
    unwrap_stream,
    wrap_stderr,
)
from app.logs import configure, write_lines
from tests.servers import ROOT


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


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_line_of_a_request_is_like_any_other(form: str) -> None:
    """It is made in a shorter way, and reads the same."""
    formatter: logging.Formatter = JsonFormatter() if form == "json" else TextFormatter()
    usual = record("Request.", path="/a b", status=200)
    short = MinimalLogRecord(
        "app.access", "Request.", {"path": "/a b", "status": 200}, usual.created
    )
    assert formatter.format(short) == formatter.format(usual)


@pytest.mark.parametrize(
    ("created", "told"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1795620948.9996, "2026-11-25T15:35:48.999Z")],
)
def test_the_time(created: float, told: str) -> None:
    """It is UTC to the millisecond, and never one of the next second."""
    made = record("Ready.")
    made.created = created
    assert TextFormatter().format(made).startswith(f"{told} ")


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
    line = JsonFormatter().format(record("Request.", path=value, status=200))
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
    assert json.loads(JsonFormatter().format(record("Ready.")))["message"] == "Ready."


GUNICORN = logging.getLogger("gunicorn.error")


@pytest.fixture
def configured() -> Iterator[None]:
    """Set the logs up as a worker does, and then back."""
    loggers = [logging.getLogger(), GUNICORN, logging.getLogger("urllib3")]
    kept = [(one, one.level, one.handlers[:], one.filters[:], one.propagate) for one in loggers]
    yield
    for one, level, handlers, filters, propagate in kept:
        one.setLevel(level)
        one.handlers[:], one.filters[:], one.propagate = handlers, filters, propagate


def written(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what went to standard error."""
    return capsys.readouterr().err


FORMS = pytest.mark.parametrize("form", ["text", "json"])


@FORMS
@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("line", "arguments", "left"),
    [
        pytest.param(
            "Invalid request from ip=192.0.2.1: Invalid HTTP Header: 'authorization bearer s3cr3t'",
            (),
            "Invalid request.",
            id="header",
        ),
        pytest.param(
            "Invalid request from ip=2001:db8::1: Invalid HTTP request line: 'GET /?a=s3cr3t: x'",
            (),
            "Invalid request.",
            id="IPv6, request line",
        ),
        pytest.param(
            "Invalid request from ip=: 100% s3cr3t %s",
            (),
            "Invalid request.",
            id="no address, signs of formatting",
        ),
        pytest.param(
            "Error handling request %s %s",
            ("GET", "/auth/token?password=s3cr3t"),
            "Error handling request GET /auth/token",
            id="query",
        ),
        pytest.param(
            "Error handling request %s",
            ("/v2/?a=b?c=s3cr3t",),
            "Error handling request /v2/",
            id="two question marks",
        ),
        pytest.param(
            "Ignored premature client disconnection. %s",
            (NoMoreData(b"GET / HTTP/1.1\r\nAuthorization: Bearer s3cr3t\r\n"),),
            "Ignored premature client disconnection.",
            id="half a request",
        ),
        pytest.param("Booting worker with pid: %s", (7,), "Booting worker with pid: 7", id="pid"),
        pytest.param("Listening at: %s (%d)", ("http://[::]:1", 7), "http://[::]:1 (7)", id="two"),
        pytest.param("Handling signal: %s", ("term",), "Handling signal: term", id="signal"),
    ],
)
def test_what_gunicorn_quotes_of_a_request(
    capsys: pytest.CaptureFixture[str],
    *,
    form: str,
    line: str,
    arguments: tuple[object, ...],
    left: str,
) -> None:
    """Its lines tell what happened, at every level, and nothing that a client sent in secret."""
    configure("json" if form == "json" else "text", "debug")
    for level in (logging.DEBUG, logging.WARNING, logging.ERROR):
        GUNICORN.log(level, line, *arguments)
    text = written(capsys)
    assert text.count(left) == 3
    assert "s3cr3t" not in text


@pytest.mark.usefixtures("configured")
def test_whose_request_gunicorn_could_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    """The address is a field, as everywhere; where there is none, nothing is."""
    configure("text", "info")
    for address in ("2001:db8::1", ""):
        GUNICORN.warning(f"Invalid request from ip={address}: Invalid HTTP Header: 'a: s3cr3t'")
    first, second = written(capsys).splitlines()
    assert first.endswith(" WARNING Invalid request. client=2001:db8::1")
    assert second.endswith(" WARNING Invalid request.")


@FORMS
@pytest.mark.usefixtures("configured")
def test_one_form_for_all(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Ours and gunicorn's lines are formatted alike, once each, from the level on."""
    configure("json" if form == "json" else "text", "info")
    for name in ("app.x", "gunicorn.error"):
        logging.getLogger(name).info("Told.")
        logging.getLogger(name).debug("Not told.")
    logging.getLogger("urllib3.connectionpool").warning("Not told: /?a=s3cr3t")
    lines = written(capsys).splitlines()
    assert len(lines) == 2
    if form == "json":
        assert [json.loads(line)["logger"] for line in lines] == ["app.x", "gunicorn.error"]
    else:
        assert all(line.endswith(" INFO Told.") for line in lines)


class Pieces(io.StringIO):
    """A stream that tells what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.failures: list[Exception] = []

    def write(self, text: str) -> int:
        """Take a piece."""
        if self.failures:
            raise self.failures.pop()
        self.pieces.append(text)
        return len(text)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pieces]:
    """Return what reaches standard error."""
    pieces = Pieces()
    monkeypatch.setattr(sys, "stderr", pieces)
    kept, level = logging.root.handlers[:], logging.root.level
    configure("text", "info")
    yield pieces
    logging.root.handlers[:], logging.root.level = kept, level


def lines_of(*paths: str) -> list[MinimalLogRecord]:
    """Return a line for each path."""
    return [MinimalLogRecord("app.access", "Request.", {"path": path}, 0.0) for path in paths]


def test_many_lines_are_written_together(stream: Pieces) -> None:
    """In pieces that reach a pipe whole, each of whole lines, all in order."""
    paths = [f"/{number}/{'x' * (number % 700)}" for number in range(200)]
    write_lines(logging.getLogger("app.access"), lines_of(*paths))
    assert "".join(stream.pieces).splitlines() == [
        f"1970-01-01T00:00:00.000Z INFO Request. path={path}" for path in paths
    ]
    assert all(piece.endswith("\n") for piece in stream.pieces)
    assert max(map(len, stream.pieces)) <= 4096
    assert len(stream.pieces) <= 30


def test_a_line_that_fits_no_piece_goes_alone(stream: Pieces) -> None:
    """It is too long, or has letters of which nobody knows how many bytes they are."""
    write_lines(
        logging.getLogger("app.access"), lines_of("/a", "/b", "/" + "c" * 5000, "/ü", "/d", "/e")
    )
    assert [piece.count("\n") for piece in stream.pieces] == [2, 1, 1, 2]


def test_other_handlers_get_each_line(caplog: pytest.LogCaptureFixture) -> None:
    """Those of the logger, and those of all."""
    caplog.set_level(logging.INFO)
    write_lines(logging.getLogger("app.access"), lines_of("/a", "/b"))
    assert [record.__dict__["fields"]["path"] for record in caplog.records] == ["/a", "/b"]


def test_a_log_that_nobody_reads_stops_nothing(stream: Pieces) -> None:
    """What comes after it is written again."""
    stream.failures += [BrokenPipeError(), OSError(28, "No space left on device")]
    write_lines(logging.getLogger("app.access"), lines_of("/lost"))
    logging.getLogger("app").warning("Lost.")
    write_lines(logging.getLogger("app.access"), lines_of("/written"))
    assert len(stream.pieces) == 1
    assert "/written" in stream.pieces[0]


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_shorter_way_writes_the_same(form: str) -> None:
    """Whatever a field has."""
    for value in ["two words", 'a"b', "ü", "\x1b", "", 3, 0.001, True, None, "\ud800"]:
        formatter: logging.Formatter = JsonFormatter() if form == "json" else TextFormatter()
        usual = record("Request.", first=value)
        short = MinimalLogRecord("app.access", "Request.", {"first": value}, usual.created)
        assert formatter.format(short) == formatter.format(usual), value


def test_details_stand_below_a_line() -> None:
    """What an operator has to read is no single long line, and in JSON is one all the same."""
    made = record(
        "Reload refused; workers keep the previous settings.",
        users=1,
        details="One is wrong.\n  X: no number",
    )
    first, *below = TextFormatter().format(made).splitlines()
    assert first.endswith(" INFO Reload refused; workers keep the previous settings. users=1")
    assert below == ["One is wrong.", "  X: no number"]
    line = JsonFormatter().format(made)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["details"] == "One is wrong.\n  X: no number"


def test_json_has_the_traceback_in_the_line() -> None:
    """One line is one event, whatever went wrong."""
    made = record("Failed.")
    try:
        int("broken")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = JsonFormatter().format(made)
    assert len(line.splitlines()) == 1
    document = json.loads(line)
    assert document["message"] == "Failed."
    assert document["traceback"].startswith("Traceback")
    assert "ValueError: invalid literal" in document["traceback"]


@contextlib.contextmanager
def json_stderr() -> Iterator[io.StringIO]:
    """Return where what is written to standard error arrives, once JSON alone may reach it.

    Within a test, as pytest puts its own in place before each.
    """
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        wrap_stderr("json")
        wrap_stderr("json")
        assert unwrap_stream(sys.stderr) is stream
        yield stream


@pytest.mark.parametrize(
    ("said", "messages"),
    [
        pytest.param(["one\n"], ["one"], id="a line"),
        pytest.param(["one", "\n"], ["one"], id="as print writes it"),
        pytest.param(["Wrong:\n  one", "\n"], ["Wrong:\n  one"], id="as sys.exit does"),
        pytest.param(["one\n", "two\n"], ["one", "two"], id="two lines"),
        pytest.param(["\n", " \n"], [], id="nothing"),
    ],
)
def test_what_is_printed_becomes_a_line(said: list[str], messages: list[str]) -> None:
    """A parser of lines meets nothing else, whoever has written it."""
    with json_stderr() as stream:
        for text in said:
            sys.stderr.write(text)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == messages
    assert all((line["level"], line["logger"]) == ("ERROR", "stderr") for line in lines)


def test_what_has_no_end_is_written_by_flush() -> None:
    """Where a process ends in the midst of a line."""
    with json_stderr() as stream:
        sys.stderr.write("half")
        assert stream.getvalue() == ""
        sys.stderr.flush()
    assert json.loads(stream.getvalue())["message"] == "half"


def test_text_stays_as_it_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """People read it."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    wrap_stderr("text")
    assert sys.stderr is stream
    wrap_stderr("json")
    wrap_stderr("text")  # a reload has changed it
    assert sys.stderr is stream


_FAILING = """
import logging, sys, threading, warnings
from app import log_lines
logging.basicConfig(format="%(levelname)s %(message)s %(fields)s", stream=sys.stdout)
logging.Formatter.formatException = lambda self, cause: cause[0].__name__
old = logging.getLogRecordFactory()
def record(*args, **kwargs):
    made = old(*args, **kwargs)
    made.fields = None
    return made
logging.setLogRecordFactory(record)
log_lines.install_failure_hooks()

def fail(error):
    raise error

for error in (LookupError(), SystemExit()):
    thread = threading.Thread(target=fail, args=(error,))
    thread.start()
    thread.join()

class Dying:
    def __del__(self):
        fail(KeyError())

Dying()
"""


def test_what_nobody_catches_has_a_line() -> None:
    """In threads, which may end by SystemExit, and where an object is deleted."""
    done = subprocess.run(
        [sys.executable, "-c", _FAILING], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "ERROR Uncaught exception in a thread. None", "LookupError",
        "ERROR Unraisable exception. None", "KeyError",
    ]  # fmt: skip
    assert done.stderr == ""


def test_a_warning_of_python_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """With its kind, its text and where it was given, each as a field."""
    with warnings.catch_warnings():
        # pytest has hooks of its own, which are needed further on.
        hooks = threading.excepthook, sys.unraisablehook
        install_failure_hooks()
        threading.excepthook, sys.unraisablehook = hooks
        warnings.simplefilter("always")
        warnings.warn("old\nways", DeprecationWarning, stacklevel=1)
    (made,) = caplog.records
    assert made.getMessage() == "Python warning."
    fields = made.__dict__["fields"]
    assert (fields["category"], fields["error"]) == ("DeprecationWarning", "old\nways")
    assert f"{Path(__file__).name}:" in fields["location"]
