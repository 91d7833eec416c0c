"""A registry that goes and comes: nobody waits meanwhile, and it is found when it is back."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from app.oci.tokens import STALE_PLACEHOLDER
from tests.servers import wait_until
from tests.wire.caching import Caching, blob_path, caching, digest_of, manifest_path
from tests.wire.client import Answer

FOUND = 15.0
"""Seconds in which a registry that is back is found, on a busy machine: probes are three apart."""

BOTH = range(8)
"""So many requests that both workers get some."""


@pytest.fixture(scope="module")
def shared(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caching]:
    """Return a proxy that retries as long as it does by default, and asks each time."""
    settings = {"DOCXY_RETRY_BUDGET": "45", "DOCXY_GRANT_TTL": "0"}
    with caching(home, tmp_path_factory.mktemp("outage") / "cache", **settings) as made:
        yield made


Read = Callable[[Caching, str], Answer]


def bearer(token: str) -> str:
    """Return the line that shows a token."""
    return f"Authorization: Bearer {token}"


def ping(cached: Caching, token: str) -> Answer:
    """Ask whether a token is good."""
    return cached.ask("/v2/", bearer(token))


def tag(cached: Caching, token: str) -> Answer:
    """Ask for the manifest by its tag."""
    return cached.manifest("latest", token)


def manifest(cached: Caching, token: str) -> Answer:
    """Ask for the manifest by its digest."""
    return cached.manifest(cached.registry.digest, token)


def blob(cached: Caching, token: str) -> Answer:
    """Ask for the blob."""
    path = blob_path(cached.registry.public, digest_of(cached.registry.layer))
    return cached.ask(path, bearer(token))


def tags(cached: Caching, token: str) -> Answer:
    """Ask for the tags."""
    return cached.ask(f"/v2/{cached.registry.public}/tags/list", bearer(token))


def referrers(cached: Caching, token: str) -> Answer:
    """Ask for the referrers of the manifest."""
    path = f"/v2/{cached.registry.public}/referrers/{cached.registry.digest}"
    return cached.ask(path, bearer(token))


KEPT = [tag, manifest, blob, tags, referrers]


def is_fresh(answer: Answer) -> bool:
    """Tell whether an answer is the registry's own."""
    return answer.status in {200, 404} and not answer.head.values("Warning")


def all_fresh(cached: Caching, read: Read, token: str) -> bool:
    """Tell whether both workers have the registry's own answer."""
    return all(is_fresh(read(cached, token)) for _ in BOTH)


@pytest.fixture
def cached(shared: Caching) -> Caching:
    """Return a proxy that has kept all that the registry has now, and knows that it is there."""
    shared.registry.renew()
    shared.registry.lifetime = 61  # of which a token is shared for a second
    path = f"/auth/token?service=x&scope=repository:{shared.registry.public}:pull"
    wait_until(lambda: shared.ask(path).status == 200, what="a token service that is back")
    token = str(shared.token()["token"])
    for read in (ping, *KEPT):
        wait_until(partial(all_fresh, shared, read, token))
    return shared


def test_nobody_waits_who_can_be_served(cached: Caching) -> None:
    """Whatever is asked for, a registry that refuses connections is asked once for it."""
    token = str(cached.token()["token"])
    before = len(cached.attempts)
    with cached.registry.upstream.is_gone():
        for _ in BOTH:
            assert ping(cached, token).status == 200
            for read in KEPT:
                answer = read(cached, token)
                assert answer.status == (404 if read is referrers else 200)
                assert answer.head.value("Warning").startswith("299")
        assert json.loads(referrers(cached, token).body)["errors"][0]["code"] == "UNSUPPORTED"
        wait_until(lambda: cached.token()["token"] == STALE_PLACEHOLDER, what="a stand-in")
        for _ in BOTH:
            assert ping(cached, STALE_PLACEHOLDER).status == 200
            assert tag(cached, STALE_PLACEHOLDER).status == 200
    wait_until(lambda: len(cached.attempts) > before)
    assert max(cached.attempts[before:]) == 1


def test_a_login_is_not_confirmed(cached: Caching) -> None:
    """While the registry is away, only a token that everybody gets is good."""
    hers = cached.hers()
    with cached.registry.upstream.is_gone():
        assert ping(cached, hers).status == 503
        assert cached.manifest("latest", hers, cached.registry.private).status == 503


def test_it_is_found_when_it_is_back(cached: Caching) -> None:
    """By requests of clients, also where breakers were open: fresh answers, tokens, all the rest.

    Meanwhile whoever can be served is.
    """
    registry, token = cached.registry, str(cached.token()["token"])
    new = manifest_path(registry.public, "new")
    began = len(cached.proxy.log)

    def is_left_alone() -> bool:
        assert tag(cached, token).status == 200
        assert cached.ask(new, bearer(token)).status == 503
        return cached.proxy.log[began:].count("Circuit breaker opened") >= 2

    with registry.upstream.is_gone():
        wait_until(is_left_alone, what="the breakers of both workers")
        wait_until(lambda: cached.token()["token"] == STALE_PLACEHOLDER, what="a stand-in")
    back = time.monotonic()
    wait_until(lambda: cached.token()["token"] != STALE_PLACEHOLDER, FOUND, "a token")
    wait_until(lambda: all_fresh(cached, tag, token), FOUND)
    wait_until(lambda: all(cached.ask(new, bearer(token)).status == 404 for _ in BOTH), FOUND)
    assert all(ping(cached, token).status == 200 for _ in BOTH)
    assert time.monotonic() - back < FOUND
