"""What every answer carries, and the line that every request leaves."""

import logging
import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from app.log_lines import JsonFormatter, TextFormatter
from app.oci.challenge import Challenge
from app.oci.errors import NameUnknown
from app.source import BodyBroken, HandedOver, Reply
from tests.unit.fake_source import FakeSource

MANIFEST = "/v2/library/nginx/manifests/latest"
MADE = re.compile(r"[0-9a-f]{32}")

PATHS = [
    "/health",
    "/v2/",
    MANIFEST,
    "/auth/token",
    "/v2/UPPER/tags/list",
    "/nowhere",
    "/v2/_catalog",
]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, object]]]:
    """Collect the fields of each access line."""
    found: list[dict[str, object]] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.__dict__["fields"])

    caplog.set_level(logging.DEBUG)
    collector = Collector()
    logger = logging.getLogger("app.access")
    logger.addHandler(collector)
    yield found
    logger.removeHandler(collector)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param("abc-123_x.y:z/w+v=", id="every character"),
        pytest.param("x" * 128, id="long"),
        pytest.param("0", id="short"),
        pytest.param("Root=1-67891233-abcdef012345678912345678", id="X-Amzn"),
    ],
)
def test_a_request_id_is_accepted(
    client: FlaskClient, lines: list[dict[str, object]], told: str
) -> None:
    """What the client or a server in front calls the request stays its name."""
    answer = client.get("/health", headers={"X-Request-ID": told})
    assert answer.headers.getlist("X-Request-ID") == [told]
    assert lines[0]["request_id"] == told


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("x" * 129, id="too long"),
        pytest.param("a b", id="space"),
        pytest.param('a"b', id="quote"),
        pytest.param("<script>", id="brackets"),
        pytest.param("a;b", id="semicolon"),
        pytest.param("\xe4", id="not ASCII"),
    ],
)
def test_a_request_id_is_made(
    client: FlaskClient, lines: list[dict[str, object]], told: str | None
) -> None:
    """Where there is none, or one that could harm a log, it gets its own."""
    headers = {} if told is None else {"X-Request-ID": told}
    made = client.get("/health", headers=headers).headers["X-Request-ID"]
    assert MADE.fullmatch(made)
    assert lines[0]["request_id"] == made
    assert client.get("/health").headers["X-Request-ID"] != made


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_every_answer_is_harmless_in_a_browser(
    client: FlaskClient, source: FakeSource, method: str
) -> None:
    """An upstream's page never runs as one of ours, and an error neither."""
    for path in PATHS:
        page = [("Content-Type", "text/html")]
        source.answers(b"<script>alert(1)</script>", headers=page)
        answer = client.open(path, method=method)
        assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"], path
        assert answer.headers.getlist("Content-Security-Policy") == ["sandbox"], path
        assert answer.headers["X-Request-ID"], path
        version = ["registry/2.0"] if path.startswith("/v2") else []
        assert answer.headers.getlist("Docker-Distribution-Api-Version") == version, path


def test_the_line(client: FlaskClient, source: FakeSource, lines: list[dict[str, object]]) -> None:
    """One line a request, with what an operator looks for."""
    source.answers(b"bo", b"dy")
    client.get(
        f"{MANIFEST}?ns=docker.io",
        headers={"User-Agent": "docker/26", "X-Forwarded-For": "203.0.113.9"},
        environ_overrides={"REMOTE_ADDR": "10.0.0.1"},
    )
    (line,) = lines
    seconds, upstream_seconds = line.pop("duration_seconds"), line.pop("upstream_seconds")
    assert isinstance(seconds, float)
    assert isinstance(upstream_seconds, float)
    assert 0 <= upstream_seconds <= seconds < 60
    first_byte = line.pop("first_byte_seconds")
    assert isinstance(first_byte, float)
    assert first_byte <= seconds
    assert MADE.fullmatch(str(line.pop("request_id")))
    assert line == {
        "method": "GET",
        "path": MANIFEST,
        "status": 200,
        "bytes": 4,
        "client": "203.0.113.9",
        "user_agent": "docker/26",
        "registry": "docker.io",
        "repository": "library/nginx",
        "reference": "latest",
        "attempts": 0,
    }


def test_the_line_tells_what_the_cache_did(
    client: FlaskClient, source: FakeSource, lines: list[dict[str, object]]
) -> None:
    """Not what others on the way say of theirs; without a cache, nothing."""
    for told in (["ours; hit", "docxy; fwd=uri-miss", "docxy; hit"], ["ours; hit"], []):
        source.reply = Reply(status=200, headers=[("Cache-Status", one) for one in told], length=0)
        client.get(MANIFEST)
    assert [line.get("cache") for line in lines] == ["hit", None, None]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 404])
def test_whole_answers_are_not_called_incomplete(
    client: FlaskClient,
    source: FakeSource,
    lines: list[dict[str, object]],
    method: str,
    status: int,
) -> None:
    """The line counts what was sent, and an answer without a body is whole without one."""
    has_body = status in {200, 404}
    source.answers(*([b"body"] if has_body else []), status=status)
    client.open(MANIFEST, method=method)
    (line,) = lines
    assert (line["status"], line["bytes"]) == (status, 4 if has_body and method == "GET" else 0)
    assert "incomplete" not in line


def test_the_line_is_written_where_the_body_ends(
    client: FlaskClient, source: FakeSource, lines: list[dict[str, object]]
) -> None:
    """A download is logged when it is over; one that was left says so, with what was sent."""
    source.answers(b"bo", b"dy")
    answer = client.get(MANIFEST, buffered=False)
    assert lines == []
    answer.close()
    (line,) = lines
    assert line["incomplete"] is True
    assert line["bytes"] in {0, 2}


def test_a_body_that_breaks_is_incomplete(
    client: FlaskClient, source: FakeSource, lines: list[dict[str, object]]
) -> None:
    """Nobody has to guess why a client complained."""

    def broken() -> Iterator[bytes]:
        yield b"bo"
        reason = "IncompleteRead"
        raise BodyBroken(reason)

    source.answers(body=broken(), length=4)
    answer = client.get(MANIFEST, buffered=False)
    with pytest.raises(BodyBroken):
        list(answer.iter_encoded())
    answer.close()
    (line,) = lines
    assert (line["incomplete"], line["bytes"]) == (True, 2)


def test_errors_leave_a_line(
    client: FlaskClient, source: FakeSource, lines: list[dict[str, object]]
) -> None:
    """Refusals are logged as well, with the length of what was told."""
    source.error = NameUnknown()
    answer = client.get(MANIFEST)
    (line,) = lines
    assert (line["status"], line["bytes"]) == (404, len(answer.data))
    assert line["upstream_seconds"] == pytest.approx(0, abs=1)


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize("status", [200, 401, 500])
def test_no_secret_in_any_line(
    client: FlaskClient,
    source: FakeSource,
    caplog: pytest.LogCaptureFixture,
    *,
    formatter: logging.Formatter,
    status: int,
) -> None:
    """Neither tokens nor passwords, from the query, the form, a header or an answer."""
    caplog.set_level(logging.DEBUG)
    challenge = Challenge("Bearer", {"realm": "https://user:s3cr3t@auth.example/token"})
    source.answers(b'{"token":"s3cr3t"}', status=status, challenges=[challenge])
    headers = {"Authorization": "Bearer s3cr3t", "Cookie": "a=s3cr3t", "X-Token": "s3cr3t"}
    form = "grant_type=password&username=s3cr3t&password=s3cr3t&scope=repository:a/s3cr3t:pull"
    client.get(f"/auth/token?account=s3cr3t&{form}", headers=headers)
    client.post("/auth/token", data=form, headers=headers)
    client.get(f"{MANIFEST}?signature=s3cr3t", headers=headers)
    client.get("/v2/?token=s3cr3t", headers=headers)
    written = [formatter.format(record) for record in caplog.records]
    assert len(written) >= 4
    assert not [line for line in written if "s3cr3t" in line]


@pytest.mark.parametrize("path", ["/v2/a%0AFORGED/x", "/v2/a%1B[31m/x", "/v2/a%20b=c/x"])
def test_a_path_stays_in_its_field(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """No request writes a second line, or a field of its own."""
    caplog.set_level(logging.INFO)
    client.get(path, headers={"User-Agent": "x status=200"})
    (record,) = [one for one in caplog.records if one.name == "app.access"]
    line = TextFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    assert len(re.findall(r" status=", re.sub(r'"(?:[^"\\]|\\.)*"', "", line))) == 1


def test_what_nginx_sends_is_counted(
    client: FlaskClient, source: FakeSource, lines: list[dict[str, object]]
) -> None:
    """Its bytes are told, and that they are not Docxy's own."""
    source.answers(length=4711, body=HandedOver("/docxy-cache/x"))
    client.get(MANIFEST)
    assert lines[0]["bytes"] == 4711
    assert lines[0]["sent_by_nginx"] is True
    assert "incomplete" not in lines[0]
