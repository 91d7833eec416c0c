"""A run of Docxy with DOCXY_LOG_FORMAT=json: whatever happens, one parser reads every line."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, Docxy, clean_environment, docxy, wait_until
from tests.test_log_lines import documented_fields
from tests.wire.client import Client
from tests.wire.upstream import Asked, Upstream, answering, playing, response
from tests.wire.wires import BLOB, MANIFEST, location, upstream_settings

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PAIR = re.compile(r"\b\w+=\S")
PASSWORD = "the password of these tests"  # noqa: S105 - of this proxy only
LOGIN = f"Authorization: Basic {base64.b64encode(f'anybody:{PASSWORD}'.encode()).decode()}"
WRONG = f"Authorization: Basic {base64.b64encode(b'anybody:secret-guess').decode()}"


@dataclass(frozen=True)
class Run:
    """What a Docxy has written from its start to its end."""

    text: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All of it, read by one parser."""
        return [json.loads(line) for line in self.text.splitlines()]

    def said(self, message: str) -> list[dict[str, Any]]:
        """Return the lines with a message."""
        return [line for line in self.lines if line["message"].startswith(message)]

    def one(self, message: str) -> dict[str, Any]:
        """Return the only line, or the first of several."""
        found = self.said(message)
        assert found, f"{message} not in {self.text}"
        return found[0]


def answer(asked: Asked) -> bytes:
    """Redirect to where nobody listens, or fail; who asks for no repository is answered."""
    if "/blobs/" in asked.target:
        return location("http://127.0.0.1:1/layer?X-Amz-Signature=secret")
    if "/manifests/" in asked.target:
        return response(b"", status="503 Service Unavailable")
    return response(b"{}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return a run in which everything goes wrong that can."""
    folder = tmp_path_factory.mktemp("run")
    config = folder / "docxy.toml"
    # In the file, and not in the environment: the master must find it there too.
    config.write_text('log_format = "json"\n')
    with Upstream() as upstream, playing(upstream):
        upstream.play(answering(answer))
        settings = upstream_settings(
            upstream,
            folder,
            DOCXY_CONFIG=str(config),
            DOCXY_CREDENTIALS="managed",
            DOCXY_SHARED_SECRET=PASSWORD,
            DOCXY_TOKEN_KEY="k" * 40,
            DOCXY_CACHE_DIR=str(folder / "cache"),
            DOCXY_CACHE_MIN_FREE="1MB",
        )
        with docxy("tests.wire.failing:app", **settings) as proxy:
            proxy.await_workers()
            go_wrong(proxy, config, folder / "cache")
            proxy.server.process.send_signal(signal.SIGTERM)
            proxy.server.process.wait(30)
            yield Run(proxy.log)


def go_wrong(proxy: Docxy, config: Path, cache: Path) -> None:
    """Provoke what leaves lines."""

    def ask(path: str, *fields: str) -> int:
        with Client(proxy.host) as client:
            return client.get(path, *fields).status

    assert ask(BLOB, LOGIN) == 503
    assert ask(MANIFEST, LOGIN) == 503
    assert ask("/v2/", WRONG) == 401
    assert ask("/fails/view", LOGIN) == 500
    for way in ("thread", "greenlet", "warning", "print"):
        assert ask(f"/fails/{way}", LOGIN) == 200
    with Client(proxy.host) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nsecret-header\r\n\r\n")
        assert client.answer().status == 400
    shutil.rmtree(cache)
    cache.write_text("no directory")
    assert ask(BLOB.replace("5", "6"), LOGIN) == 503
    wait_for(proxy, "Cache error")
    cache.unlink()
    os.kill(proxy.workers[0], signal.SIGKILL)
    wait_for(proxy, "was sent SIGKILL")
    proxy.await_workers(3)
    good = config.read_text()
    config.write_text(f'{good}read_timeout = "soon"\n')
    proxy.server.process.send_signal(signal.SIGHUP)
    wait_for(proxy, "Reload refused")
    config.write_text(good)
    proxy.server.process.send_signal(signal.SIGHUP)
    proxy.await_workers(5)


@pytest.mark.parametrize(
    ("before", "after"),
    [("text", "json"), pytest.param("json", "text", marks=pytest.mark.soak)],
)
def test_a_reload_with_the_other_form(tmp_path: Path, before: str, after: str) -> None:
    """Once it is accepted, the master writes as the new workers do; once refused, as before."""
    config = tmp_path / "docxy.toml"
    config.write_text(f'log_format = "{before}"\n')

    def are_json(lines: list[str]) -> set[bool]:
        return {line.startswith("{") for line in lines}

    with docxy(workers=1, DOCXY_CONFIG=str(config)) as proxy:
        config.write_text(f'log_format = "{after}"\nread_timeout = "soon"\n')
        proxy.server.process.send_signal(signal.SIGHUP)
        wait_for(proxy, "Reload refused")
        config.write_text(f'log_format = "{after}"\n')
        (old,) = proxy.workers
        proxy.server.process.send_signal(signal.SIGHUP)
        proxy.await_workers(2)
        wait_until(lambda: old not in proxy.workers, what="the end of the old worker")
        begin = len(proxy.log)
        os.kill(proxy.workers[0], signal.SIGKILL)
        proxy.await_workers(3)
        proxy.server.process.send_signal(signal.SIGTERM)
        proxy.server.process.wait(30)
        first = [line for line in proxy.log.splitlines() if line.startswith(("{", "2"))]
        told = next(at for at, line in enumerate(first) if "Reload refused" in line)
        assert are_json(first[: told + 1]) == {before == "json"}
        last = proxy.log[begin:].splitlines()
        assert any("was sent SIGKILL" in line for line in last)
        assert any("Shutting down" in line for line in last)
        assert are_json(last) == {after == "json"}


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"WEB_CONCURRENCY": "two"}, "environment"),
        ({"GUNICORN_CMD_ARGS": "--bind '"}, "file"),
        ({"GUNICORN_CMD_ARGS": "--no-such-argument"}, "environment"),
    ],
    ids=["workers", "quotation", "argument"],
)
def test_a_start_that_is_refused(tmp_path: Path, wrong: dict[str, str], place: str) -> None:
    """Also before gunicorn reads any file of ours."""
    form = {"DOCXY_LOG_FORMAT": "json"}
    if place == "file":
        (tmp_path / "docxy.toml").write_text('log_format = "json"\n')
        form = {"DOCXY_CONFIG": str(tmp_path / "docxy.toml")}
    done = subprocess.run(
        [sys.executable, "serve.py", "--bind", "127.0.0.1:0"],
        cwd=ROOT,
        env=clean_environment(**wrong, **form),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines
    assert {line["logger"] for line in lines} == {"stderr"}


def test_a_command_logs_in_the_same_form(tmp_path: Path) -> None:
    """What goes wrong in it; what it says to whoever called it is for people."""
    env = clean_environment(
        DOCXY_LOG_FORMAT="json",
        DOCXY_REGISTRY_URL="http://127.0.0.1:1",
        DOCXY_ALLOW_PRIVATE_UPSTREAMS="true",
        DOCXY_RETRY_BUDGET="0.001",
        DOCXY_CACHE_DIR=str(tmp_path),
    )
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "cache", "warm", "library/x:1"]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (line,) = (line for line in logged if line["message"] == "Upstream cannot be reached.")
    assert TIME.fullmatch(line["time"])
    assert line["url"].startswith("http://127.0.0.1:1/v2/")


def wait_for(proxy: Docxy, text: str) -> None:
    """Wait until the log has something."""
    wait_until(lambda: text in proxy.log, what=text)


def test_every_line_is_an_object_in_one_form(run: Run) -> None:
    """With the same four keys first, one form of time, and no field inside of a sentence."""
    assert len(run.lines) > 30
    for line in run.lines:
        assert [*line][:4] == ["time", "level", "logger", "message"], line
        assert TIME.fullmatch(line["time"]), line
        assert line["level"] in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}, line
        assert not PAIR.search(line["message"]), line


def test_every_field_is_documented(run: Run) -> None:
    """docs/operations.md has them all."""
    assert {name for line in run.lines for name in line} <= documented_fields()


def test_the_masters_lines(run: Run) -> None:
    """Its start, a worker that was killed, a reload that was refused, its end."""
    masters = [line["message"] for line in run.lines if line["logger"] == "gunicorn.error"]
    for begin in (
        "Starting gunicorn",
        "Listening at:",
        "Booting worker",
        "Handling signal: term",
        "Shutting down",
    ):
        assert any(message.startswith(begin) for message in masters), begin
    (killed,) = (line for line in run.lines if "was sent SIGKILL" in line["message"])
    assert killed["level"] == "ERROR"
    refused = run.one("Reload refused; workers keep the previous settings.")
    assert "read_timeout" in refused["details"]
    assert refused["level"] == "ERROR"


def test_an_upstream_that_fails(run: Run) -> None:
    """Its URL and the error are fields, each by itself, beside the id of the request."""
    line = run.one("Upstream cannot be reached.")
    assert line["url"] == "http://127.0.0.1:1/layer"
    assert line["error"] == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert re.fullmatch("[0-9a-f]{32}", line["request_id"])
    refused = [line for line in run.said("Request refused.") if line.get("status") == 503]
    assert {line["code"] for line in refused} == {"UNAVAILABLE"}


def test_a_wrong_login(run: Run) -> None:
    """Who, and which rule, as fields."""
    (line,) = (line for line in run.said("Request refused.") if line.get("rule") == "password")
    assert line["client"] == "127.0.0.1"


def test_the_start_names_the_registries(run: Run) -> None:
    """Those lines that operators look for first."""
    line = run.one("Docxy is ready.")
    assert line["registries"].startswith("docker.io")
    assert line["version"]
    warned = run.said("Any client can pull")
    assert all(line["registry"] for line in warned)


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("Unhandled exception in a request.", "ERROR"),
        ("Uncaught exception in a thread.", "ERROR"),
        ("Uncaught exception in a greenlet.", "ERROR"),
    ],
)
def test_a_traceback_is_a_field(run: Run, message: str, level: str) -> None:
    """Of what nobody expected; in the one line that tells of it."""
    (line,) = run.said(message)
    assert line["level"] == level
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("LookupError: first=1\nsecond=2")


def test_what_others_write(run: Run) -> None:
    """Warnings of Python, and what a library prints, are lines as well."""
    warning = run.one("Python warning.")
    assert (warning["category"], warning["error"]) == ("UserWarning", "old\nways")
    assert run.one("printed by a library")["logger"] == "stderr"


def test_trouble_of_the_cache(run: Run) -> None:
    """The error is a field."""
    assert run.one("Cache error")["error"]


def test_what_is_no_request(run: Run) -> None:
    """The kind and the client are fields, and what came is nowhere."""
    line = run.one("Malformed request.")
    assert (line["status"], line["client"]) == (400, "127.0.0.1")
    assert line["error_type"]
    for secret in ("secret-header", "secret-guess", "X-Amz-Signature", PASSWORD):
        assert secret not in run.text
