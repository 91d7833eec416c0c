"""Blobs: their length, parts and conditions, signed URLs, and a large one."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.hub import Hub
from tests.integration.pulling import WayName
from tests.integration.raw import Raw, RawBy

pytestmark = pytest.mark.integration

BLOBS = "/v2/library/alpine/blobs"


def layer(hub: Hub) -> tuple[str, bytes]:
    """Return the digest and the bytes of a layer of two megabytes."""
    image = hub.image("library/alpine", "3.19").platforms["linux/amd64"]
    return image.layers[1].digest, image.layers[1].data


def logged_in(raw_by: RawBy, way: WayName) -> Raw:
    raw = raw_by(way)
    raw.log_in("library/alpine")
    return raw


def answered_here(hub: Hub, digest: str) -> None:
    """Let the registry answer a HEAD by itself, as Docker Hub does."""


def sent_to_the_cdn(hub: Hub, digest: str) -> None:
    """Let the registry send a HEAD to the CDN, which takes it."""
    location = {"Location": hub.front.links.url(digest, "HEAD")}
    hub.fail(part="registry", method="HEAD", path="/blobs/", status=307, headers=location, body="")


def refused_by_the_cdn(hub: Hub, digest: str) -> None:
    """Let the registry send a HEAD to a URL that was signed for GET, where a HEAD is refused."""
    location = {"Location": hub.front.links.url(digest, "GET")}
    hub.fail(part="registry", method="HEAD", path="/blobs/", status=307, headers=location, body="")


@pytest.mark.parametrize("way", ["plain", "nginx", "caddy"])
@pytest.mark.parametrize("fate", [answered_here, sent_to_the_cdn, refused_by_the_cdn])
def test_head(fate: Callable[[Hub, str], None], way: WayName, raw_by: RawBy, hub: Hub) -> None:
    """HEAD of a blob tells its exact length, and the next request finds the connection clean."""
    raw = logged_in(raw_by, way)
    digest, data = layer(hub)
    fate(hub, digest)
    answer = raw.ask("HEAD", f"{BLOBS}/{digest}")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(data))
    assert "Content-Range" not in answer.headers
    assert answer.content == b""
    assert raw.ask("GET", f"{BLOBS}/{digest}").content == data
    assert sum(record.sent or 0 for record in hub.select("cdn")) <= len(data) + 1_000


def test_a_signed_url_is_used_once(raw_by: RawBy, hub: Hub) -> None:
    """An expired URL hurts nobody, since Docxy asks for a new one each time."""
    digest, data = layer(hub)
    for _ in range(2):
        raw = logged_in(raw_by, "plain")
        assert raw.ask("GET", f"{BLOBS}/{digest}").content == data
        hub.advance(3600)
    assert hub.count("registry", "GET", "/blobs/", 307) == 2
    assert {record.status for record in hub.select("cdn")} == {200}
    first, second = (record.raw_query for record in hub.select("cdn"))
    assert first != second


@pytest.mark.parametrize("way", ["plain", "nginx", "caddy"])
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        pytest.param("bytes=0-", range(2_000_000 + 97_987), id="all"),
        pytest.param("bytes=0-0", range(1), id="first"),
        pytest.param("bytes=1000000-1999999", range(1_000_000, 2_000_000), id="middle"),
    ],
)
def test_range(asked: str, part: range, way: WayName, raw_by: RawBy, hub: Hub) -> None:
    """A part of a blob is exactly that part, and says which it is."""
    raw = logged_in(raw_by, way)
    digest, data = layer(hub)
    part = range(part.start, min(part.stop, len(data)))
    answer = raw.ask("GET", f"{BLOBS}/{digest}", Range=asked)
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {part[0]}-{part[-1]}/{len(data)}"
    assert answer.headers["Content-Length"] == str(len(part))
    assert answer.content == data[part.start : part.stop]


def test_range_after_the_end(raw_by: RawBy, hub: Hub) -> None:
    """A part that begins after the end is refused, with the size."""
    raw = logged_in(raw_by, "nginx")
    digest, data = layer(hub)
    answer = raw.ask("GET", f"{BLOBS}/{digest}", Range=f"bytes={len(data)}-")
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize("way", ["plain", "nginx", "caddy"])
def test_a_blob_that_the_client_has(way: WayName, raw_by: RawBy, hub: Hub) -> None:
    """A condition goes up to the CDN, and its 304 comes down without a body."""
    raw = logged_in(raw_by, way)
    digest, _ = layer(hub)
    first = raw.ask("HEAD", f"{BLOBS}/{digest}")
    whole = raw.ask("GET", f"{BLOBS}/{digest}")
    assert first.status_code == whole.status_code == 200
    etag = whole.headers["ETag"]
    assert len(whole.content) == int(whole.headers["Content-Length"])
    answer = raw.ask("GET", f"{BLOBS}/{digest}", If_None_Match=etag)
    assert answer.status_code == 304
    assert answer.headers["ETag"] == etag
    assert answer.content == b""
    assert hub.count("cdn", "GET", status=304) == 1


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("size", [20_000_000, pytest.param(200_000_000, marks=pytest.mark.soak)])
def test_a_large_blob(size: int, raw_by: RawBy, hub: Hub) -> None:
    """It comes through nginx byte for byte, and so does a part; nginx writes no file.

    The front's folders for temporary files are gone: were they needed, this would break off.
    """
    digest = hub.push_blob("library/alpine", size, seed=f"large {size}")
    path = hub.front.registry.blob_path(digest)
    assert f"sha256:{sha256(path)}" == digest
    raw = logged_in(raw_by, "nginx")
    answer = raw.ask("GET", f"{BLOBS}/{digest}")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(size)
    assert answer.headers["Docker-Content-Digest"] == digest
    hasher = hashlib.sha256()
    for piece in answer.iter_content(1 << 20):
        hasher.update(piece)
    assert f"sha256:{hasher.hexdigest()}" == digest
    start, end = 12_345_678, 17_345_677
    answer = raw.ask("GET", f"{BLOBS}/{digest}", Range=f"bytes={start}-{end}")
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{size}"
    with path.open("rb") as file:
        file.seek(start)
        assert answer.content == file.read(end - start + 1)
