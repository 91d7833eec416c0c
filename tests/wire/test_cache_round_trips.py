"""What a client's request costs the registry: one round trip where one is enough."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import wait_until
from tests.wire.caching import (
    MANIFEST,
    Caching,
    Registry,
    blob_path,
    caching,
    digest_of,
    manifest_path,
)
from tests.wire.client import Answer

Where = Callable[[Registry], str]
"""Where something is in the private repository."""


def tag(registry: Registry) -> str:
    """Return the path of the tag."""
    return manifest_path(registry.private, "latest")


def manifest(registry: Registry) -> str:
    """Return the path of the manifest by its digest."""
    return manifest_path(registry.private, registry.digest)


def blob(registry: Registry) -> str:
    """Return the path of the blob."""
    return blob_path(registry.private, digest_of(registry.layer))


@pytest.fixture(scope="module")
def shared(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caching]:
    with caching(home, tmp_path_factory.mktemp("trips") / "cache") as made:
        yield made


@pytest.fixture
def cached(shared: Caching) -> Caching:
    """Return a proxy that keeps nothing of what the registry has now."""
    shared.registry.renew()
    return shared


def ask(cached: Caching, where: Where, token: str = "", method: str = "GET") -> Answer:
    """Ask for something, with a token or with nothing."""
    fields = [f"Authorization: Bearer {token}"] if token else []
    path = where(cached.registry)
    return cached.ask(path, f"Accept: {MANIFEST}", *fields, method=method)


def keep(cached: Caching, where: Where) -> None:
    """Have something kept that alice has read, and begin to count."""
    hers = cached.hers()
    assert ask(cached, where, hers).status == 200
    if where is not tag:
        wait_until(lambda: "hit" in ask(cached, where, hers).head.value("Cache-Status"))
    cached.registry.upstream.asked.clear()


def nobody(_: Caching) -> str:
    """Show no token."""
    return ""


def stranger(cached: Caching) -> str:
    """Show a token that does not open the repository."""
    return str(cached.token(cached.registry.private)["token"])


@pytest.mark.parametrize("who", [nobody, stranger])
@pytest.mark.parametrize("where", [tag, manifest, blob])
@pytest.mark.parametrize(
    ("kept", "method", "asked"),
    [
        pytest.param(False, "GET", "GET", id="GET of what is not kept"),
        pytest.param(True, "GET", "HEAD", id="GET of what is kept"),
        pytest.param(True, "HEAD", "HEAD", id="HEAD of what is kept"),
    ],
)
def test_a_challenge_costs_one_round_trip(  # noqa: PLR0913 - a table of four axes
    cached: Caching,
    where: Where,
    who: Callable[[Caching], str],
    method: str,
    asked: str,
    *,
    kept: bool,
) -> None:
    """The registry is asked once, and the client sees its challenge and an error in OCI JSON."""
    if kept:
        keep(cached, where)
    answer = ask(cached, where, who(cached), method)
    assert cached.registry.content_asked == [asked]
    assert answer.status == 401
    assert f'realm="{cached.proxy.url}/auth/token' in answer.head.value("WWW-Authenticate")
    assert answer.head.value("Content-Type") == "application/json"
    (said,) = answer.head.values("Cache-Status")
    assert said.endswith("; fwd-status=401")
    if method == "GET" and kept:
        assert json.loads(answer.body)["errors"][0]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    ("where", "granted", "asked"),
    [
        pytest.param(tag, True, ["HEAD"], id="tag, granted"),
        pytest.param(tag, False, ["HEAD"], id="tag, not granted"),
        pytest.param(manifest, True, [], id="manifest, granted"),
        pytest.param(manifest, False, ["HEAD"], id="manifest, not granted"),
        pytest.param(blob, True, [], id="blob, granted"),
        pytest.param(blob, False, ["HEAD"], id="blob, not granted"),
    ],
)
def test_what_is_kept_costs_a_head_at_most(
    cached: Caching, where: Where, asked: list[str], *, granted: bool
) -> None:
    """A caller whom the registry has not let in before pays one HEAD."""
    keep(cached, where)
    token = cached.hers()
    if granted:
        assert ask(cached, tag, token).status == 200
        cached.registry.upstream.asked.clear()
    assert ask(cached, where, token).status == 200
    assert cached.registry.content_asked == asked


@pytest.mark.parametrize("where", [tag, manifest, blob])
@pytest.mark.parametrize(
    ("status", "asked"),
    [
        pytest.param(429, ["HEAD"], id="429"),
        # Harbor answers 404 to the HEAD of a blob that a GET would bring, and clients show words.
        pytest.param(403, ["HEAD", "GET"], id="403"),
        pytest.param(404, ["HEAD", "GET"], id="404"),
    ],
)
def test_other_refusals(cached: Caching, where: Where, status: int, asked: list[str]) -> None:
    """A HEAD is enough to learn that the registry has had enough; of other refusals it is not."""
    keep(cached, where)
    token = cached.hers()
    cached.registry.status = status
    answer = ask(cached, where, token)
    assert answer.status == status
    assert "errors" in json.loads(answer.body)
    assert cached.registry.content_asked == asked
