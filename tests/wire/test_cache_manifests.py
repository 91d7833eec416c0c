"""The cache over the wire: two real workers, and a registry that counts and goes away."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from app.oci.tokens import STALE_PLACEHOLDER
from tests.servers import wait_until
from tests.wire.caching import ALICE, LOGINS, MANIFEST, Caching, caching, manifest_path

CONNECTIONS = 12
"""So many that both workers get some."""


@pytest.fixture(scope="module")
def shared(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caching]:
    """Return a registry, and Docxy with a cache before it, for all tests here."""
    with caching(home, tmp_path_factory.mktemp("caching") / "cache") as made:
        yield made


@pytest.fixture
def cached(shared: Caching) -> Caching:
    """Return them with nothing kept of what the registry has now."""
    shared.registry.renew()
    return shared


@pytest.fixture(scope="module")
def brief(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caching]:
    """Return the same with no grants, so that the registry is asked each time."""
    with caching(home, tmp_path_factory.mktemp("brief") / "cache", DOCXY_GRANT_TTL="0") as made:
        yield made


@pytest.fixture
def asking(brief: Caching) -> Caching:
    """Return them with nothing kept of what the registry has now."""
    brief.registry.renew()
    return brief


def test_a_second_pull_costs_a_head(cached: Caching) -> None:
    """Whichever worker is asked: one GET, and a HEAD for each tag that is pulled again."""
    registry = cached.registry
    for number in range(CONNECTIONS):
        token = cached.token()["token"]
        for reference in ("latest", registry.digest):
            answer = cached.manifest(reference, token)
            assert (answer.status, answer.body) == (200, registry.data)
            assert answer.head.value("Docker-Content-Digest") == registry.digest
            kept = "hit" if reference == registry.digest else "fwd="
            assert kept in answer.head.value("Cache-Status")
        head = cached.manifest(registry.digest, token, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.head.value("Content-Length") == str(len(registry.data))
        assert registry.count("GET", "/manifests/") == 1
        assert registry.count("HEAD", "/manifests/") == number
    assert registry.count("GET", f"{registry.public}:pull") == 1


def test_shared_tokens_tell_the_truth(cached: Caching) -> None:
    """One token for nobody, whichever worker gives it; alice's is hers alone, each time anew."""
    tokens = [cached.token() for _ in range(CONNECTIONS)]
    assert len({one["token"] for one in tokens}) == 1
    for one in tokens[1:]:
        assert one["access_token"] == one["token"]
        assert 280 <= one["expires_in"] <= 300
        age = datetime.now(UTC) - datetime.fromisoformat(one["issued_at"])
        assert age < timedelta(seconds=20)
    hers = {cached.token("", f"Authorization: {ALICE}")["token"] for _ in range(4)}
    assert len(hers) == 4
    assert tokens[0]["token"] not in hers


def test_many_at_once_cost_one(cached: Caching) -> None:
    """Over two workers, by tag and by digest."""
    registry = cached.registry
    token = cached.token()["token"]
    for reference, data in (("latest", registry.data), ("", b'{"other":true}')):
        registry.data = data
        wanted = reference or registry.digest
        registry.slow.clear()
        with ThreadPoolExecutor(30) as pool:
            answers = [pool.submit(cached.manifest, wanted, token) for _ in range(30)]
            wait_until(partial(registry.has_come, wanted), what="a fetch")
            registry.slow.set()
            assert all(one.result(30).body == data for one in answers)
        assert registry.count("GET", wanted) == 1


def pull(cached: Caching, times: int = 1) -> list[str]:
    """Pull the public image as a client that starts from nothing; return the warnings."""
    warnings = []
    for _ in range(times):
        ping = cached.ask("/v2/")
        assert ping.status == 401
        assert 'service="registry.test"' in ping.head.value("WWW-Authenticate")
        token = cached.token()["token"]
        for method in ("HEAD", "GET"):
            for reference in ("latest", cached.registry.digest):
                answer = cached.manifest(reference, token, method=method)
                assert answer.status == 200, answer
                assert answer.body == (cached.registry.data if method == "GET" else b"")
                assert answer.head.value("Docker-Content-Digest") == cached.registry.digest
                warnings.append(answer.head.value("Warning"))
                assert not warnings[-1] or answer.head.value("Age").isdecimal()
    return warnings


def test_everything_is_switched_off(home: Path, tmp_path: Path) -> None:
    """A whole pull from nothing, again and again, while breakers open; private is refused.

    A service that is started now completes it too.
    """
    settings = {"DOCXY_GRANT_TTL": "1"}
    with caching(home, tmp_path / "cache", **settings) as cached:
        registry = cached.registry
        pull(cached)
        hers = cached.hers()
        assert cached.manifest("latest", hers, registry.private).status == 200
        cached.switch_off()
        wait_until(lambda: cached.manifest("latest", hers, registry.private).status == 503)
        # Grants end, and only what is public is left.
        wait_until(lambda: all(pull(cached)))
        warnings = pull(cached, 25)
        assert warnings[-1].startswith('299 - "')
        for token in ("", hers, "docxy.stale", "forged"):
            for reference in ("latest", registry.digest):
                answer = cached.manifest(reference, token, registry.private)
                assert answer.status == 503
                assert registry.data not in answer.body
        wait_until(
            lambda: "Circuit breaker opened" in cached.proxy.log and pull(cached) is not None
        )
        pull(cached, 5)
        with cached.restarted() as again:
            assert all(pull(again, 5))


def test_too_many_requests(asking: Caching) -> None:
    """429 everywhere: public content is served, and private is refused with the 429."""
    registry = asking.registry
    pull(asking)
    hers = asking.hers()
    assert asking.manifest("latest", hers, registry.private).status == 200
    registry.status = registry.token_status = 429
    assert all(pull(asking, 5))
    for _ in range(4):
        assert asking.manifest("latest", hers, registry.private).status == 429
        assert asking.manifest(registry.digest, hers, registry.private).status == 429


def test_only_the_token_service_is_away(asking: Caching) -> None:
    """The stand-in never goes to the registry, and opens nothing that is not public."""
    registry = asking.registry
    registry.lifetime = 61  # too short to be shared for longer than a second
    pull(asking)
    hers = asking.hers()
    assert asking.manifest("latest", hers, registry.private).status == 200
    registry.token_status = 503
    wait_until(lambda: asking.token()["token"] == STALE_PLACEHOLDER, what="a stand-in")
    assert all(pull(asking, 3))
    for reference in ("latest", registry.digest):
        answer = asking.manifest(reference, "docxy.stale", registry.private)
        assert answer.status == 503
        assert registry.data not in answer.body
    assert asking.manifest("latest", hers, registry.private).status == 200
    asked = [one.value("Authorization") for one in registry.upstream.asked]
    assert not any("docxy" in one for one in asked)


def test_a_stand_in_is_worth_nothing_else(cached: Caching) -> None:
    """While tokens can be had, it is no token: the registry's 401 comes back."""
    pull(cached)
    for reference in ("latest", cached.registry.digest):
        answer = cached.manifest(reference, "docxy.stale")
        assert answer.status == 401
        assert cached.registry.data not in answer.body


def test_revoked(cached: Caching) -> None:
    """A refusal in one worker ends the grant in all of them, at once."""
    registry = cached.registry
    hers = cached.hers()
    assert cached.manifest("latest", hers, registry.private).status == 200
    for _ in range(CONNECTIONS):
        answer = cached.manifest(registry.digest, hers, registry.private)
        assert "hit" in answer.head.value("Cache-Status")
    registry.private_open = False
    assert cached.manifest("latest", hers, registry.private).status == 401
    for _ in range(CONNECTIONS):
        assert cached.manifest(registry.digest, hers, registry.private).status == 401
    registry.private_open = True
    assert cached.manifest("latest", hers, registry.private).status == 200
    for _ in range(CONNECTIONS):
        assert cached.manifest(registry.digest, hers, registry.private).status == 200


@pytest.mark.parametrize("who", ["somebody", "nobody"])
def test_a_late_yes_undoes_no_refusal(cached: Caching, who: str) -> None:
    """One worker waits for its answer while another one is refused for the same caller."""
    registry = cached.registry
    cached.proxy.await_workers()
    is_nobody = who == "nobody"
    name = registry.public if is_nobody else registry.private
    token = cached.token()["token"] if is_nobody else cached.hers()
    fields = (f"Accept: {MANIFEST}", f"Authorization: Bearer {token}")
    first, second = cached.proxy.workers
    registry.slow.clear()
    with cached.at(first) as early, cached.at(second) as late:
        early.ask(manifest_path(name, "latest"), *fields)
        wait_until(partial(registry.has_come, f"{name}/manifests/latest"), what="the question")
        registry.private_open = registry.public_open = False
        late.ask(manifest_path(name, "latest"), *fields, method="HEAD")
        assert late.answer("HEAD").status == 401
        registry.slow.set()
        answer = early.answer()
        assert (answer.status, answer.body) == (200, registry.data)
        for worker in (early, late):
            worker.ask(manifest_path(name, registry.digest), *fields)
            assert worker.answer().status == 401
        registry.status = 503
        for worker in (early, late):
            for shown in (fields, fields[:1]):
                worker.ask(manifest_path(name, registry.digest), *shown)
                answer = worker.answer()
                assert answer.status == 503
                assert registry.data not in answer.body


def test_a_grant_ends_with_its_token(cached: Caching) -> None:
    """Not later, in no worker: then the registry is asked again, and refuses."""
    registry = cached.registry
    registry.lifetime = 3
    hers = cached.hers()
    assert cached.manifest("latest", hers, registry.private).status == 200
    assert "hit" in cached.manifest(registry.digest, hers, registry.private).head.value(
        "Cache-Status"
    )
    registry.private_open = False
    wait_until(lambda: cached.manifest(registry.digest, hers, registry.private).status == 401, 10)
    for _ in range(CONNECTIONS):
        assert cached.manifest(registry.digest, hers, registry.private).status == 401


def test_nobody_elses(cached: Caching) -> None:
    """What alice has had kept is not for those whom the registry does not let in."""
    registry = cached.registry
    hers = cached.hers()
    assert cached.manifest("latest", hers, registry.private).status == 200
    nobodys = cached.token(registry.private)["token"]
    for token in ("", nobodys, cached.token()["token"], "docxy.stale", "a.b.c", hers + "x"):
        for reference in ("latest", registry.digest):
            for method in ("GET", "HEAD"):
                for _ in range(3):
                    answer = cached.manifest(reference, token, registry.private, method)
                    assert answer.status == 401
                    assert registry.data not in answer.body


@pytest.mark.parametrize("login", LOGINS, ids=["page", "json"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_registry_that_shows_where_to_log_in(
    cached: Caching, method: str, login: tuple[str, bytes]
) -> None:
    """Its page is no yes to a stranger, whose answer is the page then."""
    registry = cached.registry
    kind, page = registry.login = login
    hers = cached.hers()
    for reference in ("latest", registry.digest):
        assert cached.manifest(reference, hers, registry.private).body == registry.data
    registry.shows_login = True
    for reference in (registry.digest, "latest", registry.digest):
        for token in ("", "forged", str(cached.token()["token"])):
            for _ in range(2):
                answer = cached.manifest(reference, token, registry.private, method)
                assert answer.head.value("Content-Type") == kind
                assert not answer.head.value("Docker-Content-Digest")
                assert answer.body == (page if method == "GET" else b"")
    assert "hit" in cached.manifest(registry.digest, hers, registry.private).head.value(
        "Cache-Status"
    )


def test_the_directory_is_deleted(cached: Caching) -> None:
    """The pull goes on, and what comes is kept again."""
    pull(cached)
    registry = cached.registry
    for path in sorted(cached.directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    cached.directory.rmdir()
    pull(cached, 4)
    assert registry.count("GET", "/manifests/") <= 4
    assert "Traceback" not in cached.proxy.log
