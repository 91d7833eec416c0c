"""Docxy behind nginx, which sends what the cache holds (DOCXY_ACCEL_LOCATION)."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import programs, proxies
from tests.clients.skopeo import Skopeo
from tests.hub.hub import Hub
from tests.integration.curling import Answer, curl
from tests.integration.pulling import whole
from tests.lines import all_lines
from tests.proxies import Front
from tests.servers import Docxy, docxy, wait_until

pytestmark = pytest.mark.integration

REPOSITORY = "library/alpine"
SIZE = 5_000_000
GIVEN_BACK = (
    "Docker-Content-Digest",
    "ETag",
    "Docker-Distribution-Api-Version",
    "Cache-Status",
    "Cache-Control",
    "Content-Type",
    "X-Request-ID",
    "X-Content-Type-Options",
    "Content-Security-Policy",
)


@dataclass(frozen=True)
class Place:
    """A hub, a Docxy with a cache, and an nginx that sends from there."""

    hub: Hub
    proxy: Docxy
    front: Front
    cache: Path
    digest: str
    """Of a blob that is kept."""

    @property
    def path(self) -> str:
        """The blob's."""
        return f"/v2/{REPOSITORY}/blobs/{self.digest}"

    def ask(self, path: str, *arguments: str) -> Answer:
        """Ask nginx with a token."""
        query = f"service=registry.test&scope=repository:{REPOSITORY}:pull"
        token = json.loads(curl(self.front, f"/auth/token?{query}").body)["token"]
        return curl(self.front, path, "--header", f"Authorization: Bearer {token}", *arguments)

    def line(self, answer: Answer) -> str:
        """Return what Docxy has logged of a request, its last line of it."""
        request_id = answer.headers["X-Request-ID"]
        found: list[str] = []

        def logged() -> bool:
            found.extend(re.findall(rf".*Request\..* request_id={request_id}.*", self.proxy.log))
            return bool(found)

        wait_until(logged, what="the line of a request")
        return found[-1]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    programs.require("docker-registry")
    with tempfile.TemporaryDirectory(prefix="docxy-accelerated-") as name:
        base = Path(name)
        base.chmod(0o755)
        cache = base / "cache"
        with (
            Hub() as hub,
            docxy(
                **hub.settings, DOCXY_CACHE_DIR=str(cache), DOCXY_ACCEL_LOCATION="/docxy-cache/"
            ) as proxy,
            proxies.nginx(proxy.host, cache) as front,
        ):
            digest = hub.push_blob(REPOSITORY, SIZE, seed="accelerated")
            made = Place(hub, proxy, front, cache, digest)
            assert len(made.ask(made.path).body) == SIZE
            wait_until(lambda: any(cache.glob(f"content/*/*/*/{digest.partition(':')[2]}")))
            hub.reset()
            yield made


@pytest.fixture(autouse=True)
def _as_new(place: Place) -> Iterator[None]:
    yield
    place.hub.reset()


def is_whole(answer: Answer, digest: str) -> bool:
    return f"sha256:{hashlib.sha256(answer.body).hexdigest()}" == digest


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_hit_is_nginxs(place: Place, version: str) -> None:
    """All bytes, every header once, and a line that says who sent them and how many."""
    answer = place.ask(place.path, version)
    assert answer.status == 200
    assert is_whole(answer, place.digest)
    assert {name: len(answer.headers.get_all(name, [])) for name in GIVEN_BACK} == dict.fromkeys(
        GIVEN_BACK, 1
    )
    assert answer.headers["Docker-Content-Digest"] == place.digest
    assert answer.headers["ETag"] == f'"{place.digest}"'
    assert answer.headers["Cache-Status"].startswith("docxy; hit")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert not [name for name in answer.headers if name.lower().startswith("x-accel")]
    line = place.line(answer)
    assert "sent_by_nginx=True" in line
    assert f" bytes={SIZE} " in line
    assert "incomplete" not in line
    assert place.hub.count("cdn", "GET", "") == 0


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("0-99", 0, 99), ("4999990-", 4_999_990, SIZE - 1), ("100-5000000", 100, SIZE - 1)],
)
def test_a_range(place: Place, wanted: str, first: int, last: int) -> None:
    """It is cut by nginx, and the line tells its bytes."""
    answer = place.ask(place.path, "--range", wanted)
    assert answer.status == 206
    assert answer.headers.get_all("Content-Range") == [f"bytes {first}-{last}/{SIZE}"]
    assert len(answer.body) == last - first + 1
    assert f" bytes={last - first + 1} " in place.line(answer)


def test_what_is_docxys_to_answer(place: Place) -> None:
    """HEAD, a range beyond the end, what the client has already, and what there is not."""
    head = place.ask(place.path, "--head")
    assert head.headers.get_all("Content-Length") == [str(SIZE)]
    assert "sent_by_nginx" not in place.line(head)
    beyond = place.ask(place.path, "--range", f"{SIZE}-")
    assert beyond.status == 416
    assert b"<html" not in beyond.body
    assert place.ask(place.path, "--header", f'If-None-Match: "{place.digest}"').status == 304
    missing = place.ask(f"/v2/{REPOSITORY}/blobs/sha256:{'0' * 64}")
    assert missing.status == 404
    assert json.loads(missing.body)["errors"][0]["code"] == "BLOB_UNKNOWN"


def test_who_may_not_read_it_gets_nothing(place: Place) -> None:
    """Neither without a token, nor by the place of the file."""
    assert curl(place.front, place.path).status == 401
    (file,) = place.cache.glob(f"content/*/*/*/{place.digest.partition(':')[2]}")
    inside = f"/docxy-cache/{file.relative_to(place.cache / 'content')}"
    for path in (inside, "/docxy-cache/", "/docxy-cache/../index.sqlite"):
        answer = place.ask(path)
        assert answer.status == 404
        assert b"<html" not in answer.body


def test_a_registry_cannot_name_a_file(place: Place) -> None:
    """What a registry, its CDN or its token server sends as X-Accel-Redirect ends at Docxy."""
    (file,) = place.cache.glob(f"content/*/*/*/{place.digest.partition(':')[2]}")
    inside = f"/docxy-cache/{file.relative_to(place.cache / 'content')}"
    other = place.hub.push_blob(REPOSITORY, 1000, seed="other")
    place.hub.fail(times=None, add_headers=(("X-Accel-Redirect", inside),))
    for path in (f"/v2/{REPOSITORY}/blobs/{other}", f"/v2/{REPOSITORY}/tags/list", "/v2/"):
        answer = place.ask(path)
        assert 0 < len(answer.body) < SIZE
        assert "sent_by_nginx" not in place.line(answer)


@pytest.mark.skipif(os.getuid() != 0, reason="nginx and Docxy are one user here")
def test_a_file_that_nginx_may_not_read(place: Place) -> None:
    """The pull goes on without nginx's help."""
    (file,) = place.cache.glob(f"content/*/*/*/{place.digest.partition(':')[2]}")
    file.chmod(0o600)
    try:
        answer = place.ask(place.path)
    finally:
        file.chmod(0o640)
    assert is_whole(answer, place.digest)
    assert len(answer.headers.get_all("Cache-Control", [])) == 1
    assert "sent_by_nginx" not in place.line(answer)


@pytest.mark.skipif(os.getuid() != 0, reason="nginx and Docxy are one user here")
def test_nginx_may_read_nothing_but_content(place: Place) -> None:
    """What is not whole yet, who may read what, and the secret are Docxy's alone."""
    content = place.cache / "content"
    others = [path for path in place.cache.iterdir() if path != content]
    assert {path.name for path in others} >= {"index.sqlite", "aside", "secret", "unfinished"}
    for path in others:
        assert path.stat().st_mode & 0o077 == 0, path
    for path in content.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path


def test_a_client_pulls_twice(place: Place, tmp_path: Path) -> None:
    """The second pull costs the registry no blob, and nginx sends them all."""
    programs.require("skopeo")
    image = place.hub.image(REPOSITORY, "latest")
    skopeo = Skopeo(tmp_path, ca=place.front.ca_path)
    reference = f"{place.front.host}/{REPOSITORY}:latest"
    assert skopeo.copy_all(reference) == whole(image)
    wanted = {digest.partition(":")[2] for digest in image.all_blobs}

    def are_kept() -> bool:
        return wanted <= {path.name for path in place.cache.glob("content/*/*/*/*")}

    wait_until(are_kept, what="Docxy to keep the blobs")
    place.hub.reset()
    before = all_lines(place.proxy).count("sent_by_nginx=True")
    assert skopeo.copy_all(reference) == whole(image)
    assert place.hub.count("cdn", "GET", "") == 0
    assert all_lines(place.proxy).count("sent_by_nginx=True") - before == len(image.all_blobs)


def test_a_cache_that_was_deleted(place: Place) -> None:
    """Last of all: what was kept is fetched again."""
    shutil.rmtree(place.cache / "content")
    answer = place.ask(place.path)
    assert is_whole(answer, place.digest)
