"""A 429 is answered again for some seconds, to whom it was said and about what."""

import pytest

from app.oci.reference import RepositoryName
from app.source import Reply
from app.upstream.http.backoff import RecentTooManyRequests
from tests.unit.upstream.clock import Clock

NAME = RepositoryName("library/alpine")
OTHER = RepositoryName("library/nginx")
JSON = "application/json; charset=utf-8"


def passed(status: int = 429, seconds: str = "60") -> Reply:
    """Return what of that is passed on."""
    return Reply(status=status, headers=[("Retry-After", seconds)])


def held(memory: RecentTooManyRequests, authorization: str = "", name: str = NAME) -> int:
    """Return the Retry-After of an answer from memory, or 0 where the registry is to be asked."""
    reply = memory.lookup(authorization, name)
    return int(reply.header("retry-after")) if reply else 0


@pytest.fixture
def memory(clock: Clock) -> RecentTooManyRequests:
    """Return one that knows of nothing."""
    del clock
    return RecentTooManyRequests()


def test_who_repeats(memory: RecentTooManyRequests, clock: Clock) -> None:
    """The same identity and repository, for five seconds: the window may have rolled on."""
    assert held(memory, "Bearer a") == 0
    memory.record("Bearer a", NAME, passed(), JSON)
    assert held(memory, "Bearer a") in {5, 6}
    clock.pass_by(4.9)
    assert held(memory, "Bearer a") == 1
    clock.pass_by(0.2)
    assert held(memory, "Bearer a") == 0


@pytest.mark.parametrize(
    ("authorization", "name"),
    [
        pytest.param("Bearer b", NAME, id="another token"),
        pytest.param("Basic b", NAME, id="a login"),
        pytest.param("", NAME, id="nobody"),
        pytest.param("Bearer a", OTHER, id="another repository"),
        pytest.param("Bearer a", "", id="a ping"),
        pytest.param("Bearer alibrary/", RepositoryName("alpine"), id="as if"),
        pytest.param("Bearer a\udcff", NAME, id="bytes"),
    ],
)
def test_who_passes(memory: RecentTooManyRequests, authorization: str, name: str) -> None:
    """Whoever logs in, or gets another token, and whatever else is asked for."""
    memory.record("Bearer a", NAME, passed(), JSON)
    assert held(memory, authorization, name) == 0
    assert held(memory, "Bearer a")


@pytest.mark.parametrize(("seconds", "after"), [("1", 1), ("3", 3), ("60", 5)])
def test_a_short_retry_after(
    memory: RecentTooManyRequests, clock: Clock, seconds: str, after: float
) -> None:
    """No longer than the registry itself asked for."""
    memory.record("", NAME, passed(seconds=seconds), JSON)
    clock.pass_by(after - 0.1)
    assert held(memory)
    clock.pass_by(0.2)
    assert not held(memory)


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8"])
@pytest.mark.parametrize(("seconds", "after"), [("2", 2), ("60", 10)])
def test_what_counts_every_request(
    memory: RecentTooManyRequests, clock: Clock, kind: str, seconds: str, after: float
) -> None:
    """It is no registry's error: who heard it asks for nothing, and so it ends sooner."""
    memory.record("Bearer a", NAME, passed(seconds=seconds), kind)
    clock.pass_by(after - 0.1)
    assert {held(memory, "Bearer a", name) for name in (NAME, OTHER, "")} == {1}
    assert {held(memory, who, NAME) for who in ("Basic b", "Bearer b", "")} == {0}
    clock.pass_by(0.2)
    assert not held(memory, "Bearer a")


def test_a_page_counts_as_any_answer(memory: RecentTooManyRequests) -> None:
    """A web server before the registry may limit what it likes."""
    memory.record("Bearer a", NAME, passed(), "text/html")
    assert held(memory, "Bearer a")
    assert not held(memory, "Bearer a", OTHER)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500, 503])
def test_other_answers(memory: RecentTooManyRequests, status: int) -> None:
    """They are not remembered here."""
    memory.record("", NAME, passed(status, ""), "text/plain")
    assert not held(memory)


def test_memory_is_bounded(memory: RecentTooManyRequests) -> None:
    """The oldest are forgotten first."""
    for number in range(10_001):
        memory.record(f"Bearer {number}", NAME, passed(), JSON)
    assert not held(memory, "Bearer 0")
    assert held(memory, "Bearer 1")
    assert held(memory, "Bearer 10000")


def test_the_same_is_said_again(memory: RecentTooManyRequests) -> None:
    """Clients show the registry's own words, which say how to get more pulls."""
    reply = Reply(status=429, headers=[("Retry-After", "9"), ("X", "y")], body=b"{}")
    noted = memory.record("", NAME, reply, JSON)
    again = memory.lookup("", NAME)
    assert again is not None
    assert (again.status, again.header("x")) == (429, "y")
    assert noted.read() == again.read() == b"{}"


def test_a_head_has_no_words(memory: RecentTooManyRequests) -> None:
    """A GET after it is told in ours."""
    memory.record("", NAME, passed(), "")
    again = memory.lookup("", NAME)
    assert again is not None
    assert b"TOOMANYREQUESTS" in again.read()


def test_what_is_over_is_forgotten(memory: RecentTooManyRequests, clock: Clock) -> None:
    """Memory is for those who may still come."""
    for number in range(100):
        memory.record(f"Bearer {number}", NAME, passed(), JSON)
    clock.pass_by(5.1)
    memory.record("Bearer a", NAME, passed(), JSON)
    assert len(memory) == 1


def test_long_words_are_not_kept(memory: RecentTooManyRequests) -> None:
    """Ten thousand of them would be."""
    reply = Reply(status=429, headers=[("Retry-After", "9")], body=bytes(5000))
    assert len(memory.record("", NAME, reply, JSON).read()) == 5000
    again = memory.lookup("", NAME)
    assert again is not None
    assert b"TOOMANYREQUESTS" in again.read()


PAGE = [("Content-Type", "text/html"), ("Content-Encoding", "gzip"), ("ETag", '"page"')]
LIMITS = [("RateLimit-Limit", "100;w=21600"), ("X-RateLimit-Remaining", "0"), ("Retry-After", "9")]


@pytest.mark.parametrize("body", [[], [bytes(5000)]], ids=["HEAD", "long"])
def test_our_words_have_our_header(memory: RecentTooManyRequests, body: list[bytes]) -> None:
    """Of the answer in whose place they stand only what tells when to come back."""
    memory.record("", NAME, Reply(status=429, headers=[*PAGE, *LIMITS], body=body), JSON)
    again = memory.lookup("", NAME)
    assert again is not None
    *others, (name, _) = again.headers
    assert others == [("Content-Type", "application/json"), *LIMITS[:2]]
    assert name == "Retry-After"
    assert again.length == len(again.read())


@pytest.mark.parametrize("name", ["X-Long", "RateLimit-Policy"])
def test_long_headers_are_not_kept(memory: RecentTooManyRequests, name: str) -> None:
    """Ten thousand of them would be; a small one goes on with its words."""
    fields = [(name, "x" * 5000), ("Retry-After", "9")]
    memory.record("", NAME, Reply(status=429, headers=fields, body=b"{}"), JSON)
    again = memory.lookup("", NAME)
    assert again is not None
    assert {one for one, _ in again.headers} == {"Content-Type", "Retry-After"}
    assert b"TOOMANYREQUESTS" in again.read()


def test_it_is_told(memory: RecentTooManyRequests, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that no registry gave leaves a line."""
    caplog.set_level("INFO")
    memory.record("", NAME, passed(), JSON)
    assert held(memory, "", OTHER) == 0
    assert caplog.messages == []
    assert held(memory)
    assert caplog.messages == ["Repeated a recent 429 without asking the registry."]
