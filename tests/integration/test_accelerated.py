"""nginx sends files of the cache where an answer tells it to: deploy/nginx.conf by itself."""

import os
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import proxies
from tests.integration.curling import curl
from tests.proxies import Front

pytestmark = pytest.mark.integration

HTTP_VERSIONS = ["--http1.1", "--http2"]
CONTENT = os.urandom(3_000_000)
SAID = {
    "Content-Type": "application/vnd.example.layer",
    "Docker-Content-Digest": "sha256:4711",
    "ETag": '"sha256:4711"',
    "Docker-Distribution-Api-Version": "registry/2.0",
    "OCI-Namespace": "ghcr.io",
    "Cache-Status": "docxy; hit",
    "Age": "17",
    "Cache-Control": "private, no-store",
    "Warning": '299 - "old"',
    "X-Request-ID": "4711",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
}
"""Headers of an answer, which the client gets exactly once each."""


class Backend(ThreadingHTTPServer):
    """Stands for Docxy: tells nginx which file to send, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.asked: list[tuple[str, Message]] = []
        self.said = SAID


class Conversation(BaseHTTPRequestHandler):
    """One connection from nginx; the path names the file."""

    protocol_version = "HTTP/1.1"
    server: Backend

    def do_GET(self) -> None:
        """Hand the request to nginx, unless it could not do it."""
        self.server.asked.append((self.path, self.headers))
        mine = b"mine" if "X-Accel-Failed" in self.headers else b""
        self.send_response(200)
        for name, value in self.server.said.items():
            hidden = name == "Cache-Control" and not mine
            self.send_header(f"X-Accel-{name}" if hidden else name, value)
        self.send_header("Content-Length", str(len(mine)))
        if not mine:
            self.send_header("X-Accel-Redirect", "/docxy-cache" + self.path.partition("?")[0])
        self.end_headers()
        self.wfile.write(mine)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like the cache's: content for the group, the rest for its owner alone."""
    base = tmp_path_factory.mktemp("cache")
    folder = base / "docxy"
    content = folder / "content"
    content.mkdir(parents=True)
    _open_to_others(folder)
    for path, mode in ((content / "layer", 0o640), (content / "secret", 0o600)):
        path.write_bytes(CONTENT)
        path.chmod(mode)
    (folder / "outside").write_bytes(CONTENT)
    folder.chmod(0o750)
    content.chmod(0o750)
    return folder


def _open_to_others(folder: Path) -> None:
    """Let another user reach a folder of pytest's, as /var/cache is open to all."""
    for parent in folder.parents:
        if parent.owner() == folder.owner() and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o011)


@pytest.fixture(scope="module")
def running_backend() -> Iterator[Backend]:
    with Backend() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def backend(running_backend: Backend) -> Backend:
    running_backend.asked.clear()
    running_backend.said = SAID
    return running_backend


@pytest.fixture(scope="module")
def front(running_backend: Backend, cache: Path) -> Iterator[Front]:
    with proxies.nginx(f"127.0.0.1:{running_backend.server_port}", cache) as running:
        yield running


def once(headers: Message, name: str) -> str:
    """Return the value of a header that stands there once."""
    values = headers.get_all(name, [])
    assert len(values) == 1, f"{name}: {values}"
    return str(values[0])


@pytest.mark.parametrize("version", HTTP_VERSIONS)
def test_file_is_sent_with_what_docxy_says(front: Front, backend: Backend, version: str) -> None:
    """The bytes are the file's; every header of the answer arrives, and none twice."""
    answer = curl(front, "/layer", version)
    assert answer.exit_status == 0
    assert answer.status == 200
    assert answer.body == CONTENT
    assert {name: once(answer.headers, name) for name in SAID} == SAID
    assert f'"GET /layer {answer.http_version.replace("HTTP/2", "HTTP/2.0")}" 200' in front.log
    assert once(answer.headers, "Content-Length") == str(len(CONTENT))
    assert once(answer.headers, "Accept-Ranges") == "bytes"
    assert len(backend.asked) == 1


def test_nothing_is_said_that_docxy_did_not_say(front: Front, backend: Backend) -> None:
    """No header comes from nginx: not when the file came, and no tag of its own."""
    backend.said = {"Content-Type": "application/octet-stream"}
    answer = curl(front, "/layer")
    names = {name.lower() for name in answer.headers}
    assert names == {
        "server", "date", "content-type", "content-length", "connection", "accept-ranges",
    } - ({"connection"} if answer.http_version == "HTTP/2" else set())  # fmt: skip


@pytest.mark.parametrize("version", HTTP_VERSIONS)
@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("0-0", 0, 0),
        ("1000-1999", 1000, 1999),
        ("2999000-", 2_999_000, 2_999_999),
        ("-500", 2_999_500, 2_999_999),
        ("2999999-3000000", 2_999_999, 2_999_999),
    ],
)
def test_range(front: Front, wanted: str, first: int, last: int, version: str) -> None:
    """The range is cut by nginx, past the last byte as well; it says what it says of the whole."""
    answer = curl(front, "/layer", version, "--range", wanted)
    assert answer.status == 206
    assert answer.body == CONTENT[first : last + 1]
    assert once(answer.headers, "Content-Range") == f"bytes {first}-{last}/{len(CONTENT)}"
    assert {name: once(answer.headers, name) for name in SAID} == SAID


def test_several_ranges_are_the_whole(front: Front) -> None:
    """No multipart answer, which no client of a registry asks for."""
    answer = curl(front, "/layer", "--range", "0-1,5-6")
    assert answer.status == 200
    assert answer.body == CONTENT


@pytest.mark.parametrize(
    ("tag", "status"), [('"sha256:4711"', 206), ('"sha256:0815"', 200)], ids=["same", "other"]
)
def test_if_range_compares_docxys_tag(front: Front, tag: str, status: int) -> None:
    """A download goes on where it ended only if it is of the same content."""
    answer = curl(front, "/layer", "--range", "0-9", "--header", f"If-Range: {tag}")
    assert answer.status == status


def test_time_of_the_file_is_nothing(front: Front) -> None:
    """A client that has it "since then" gets it all the same."""
    since = "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"
    assert curl(front, "/layer", "--header", since).status == 200


@pytest.mark.parametrize("version", HTTP_VERSIONS)
@pytest.mark.parametrize(
    "name",
    [
        "evicted",
        pytest.param(
            "secret",
            marks=pytest.mark.skipif(os.getuid() != 0, reason="nginx and Docxy are one user here"),
        ),
    ],
)
def test_file_that_cannot_be_sent(front: Front, backend: Backend, name: str, version: str) -> None:
    """Docxy is asked again, for the same, told why, and its answer arrives as it is."""
    answer = curl(front, f"/{name}?ns=ghcr.io&x=%2F", version)
    assert answer.status == 200
    assert answer.body == b"mine"
    assert {header: once(answer.headers, header) for header in SAID} == SAID
    (first, before), (second, after) = backend.asked
    assert first == second == f"/{name}?ns=ghcr.io&x=%2F"
    assert "X-Accel-Failed" not in before
    assert once(after, "X-Accel-Failed") == "1"
    told = dict.fromkeys(("X-Accel-Failed", "Connection"))
    assert dict(after.items()) | told == dict(before.items()) | told


def test_client_cannot_ask_for_files(front: Front, backend: Backend) -> None:
    """A request for the location itself is Docxy's to answer."""
    assert curl(front, "/docxy-cache/layer").body == b"mine"
    assert [path for path, _ in backend.asked] == ["/docxy-cache/layer"]


def test_client_cannot_say_that_nginx_failed(front: Front, backend: Backend) -> None:
    """What a client claims does not arrive."""
    assert curl(front, "/layer", "--header", "X-Accel-Failed: 1").body == CONTENT
    assert [("X-Accel-Failed" in headers) for _, headers in backend.asked] == [False]


@pytest.mark.parametrize("path", ["/../outside", "/%2e%2e/outside"])
def test_nothing_outside_is_sent(front: Front, path: str) -> None:
    """A path that climbs out of the content ends there."""
    assert CONTENT not in curl(front, path).body


def test_without_the_change_nginx_sends_no_file(running_backend: Backend) -> None:
    """The file as shipped obeys nobody."""
    with proxies.nginx(f"127.0.0.1:{running_backend.server_port}") as front:
        assert curl(front, "/layer").body == b""
