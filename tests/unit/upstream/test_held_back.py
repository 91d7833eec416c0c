"""A 429 is answered again for some seconds, to whom it was said and about what."""

import pytest
import requests

from app.content import Reply
from app.oci.errors import TooManyRequests
from app.oci.reference import RepositoryName
from app.upstream.held_back import HeldBack
from tests.unit.upstream.clock import Clock

NAME = RepositoryName("library/alpine")
OTHER = RepositoryName("library/nginx")
JSON = "application/json; charset=utf-8"


def told(status: int = 429, kind: str = JSON) -> requests.Response:
    """Return what a registry answered."""
    response = requests.Response()
    response.status_code = status
    response.headers["Content-Type"] = kind
    return response


def passed(status: int = 429, seconds: str = "60") -> Reply:
    """Return what of that is passed on."""
    return Reply(status=status, headers=[("Retry-After", seconds)])


def held(memory: HeldBack, authorization: str = "", name: RepositoryName | None = NAME) -> int:
    """Return the Retry-After of an answer from memory, or 0 where the registry is to be asked."""
    try:
        memory.check(authorization, name)
    except TooManyRequests as error:
        return int(error.added["Retry-After"])
    return 0


@pytest.fixture
def memory(clock: Clock) -> HeldBack:
    """Return one that knows of nothing."""
    del clock
    return HeldBack()


def test_who_repeats(memory: HeldBack, clock: Clock) -> None:
    """The same identity and repository, for five seconds: the window may have rolled on."""
    assert held(memory, "Bearer a") == 0
    memory.note("Bearer a", NAME, told(), passed())
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
        pytest.param("Bearer a", None, id="a ping"),
        pytest.param("Bearer alibrary/", RepositoryName("alpine"), id="as if"),
        pytest.param("Bearer a\udcff", NAME, id="bytes"),
    ],
)
def test_who_passes(memory: HeldBack, authorization: str, name: RepositoryName | None) -> None:
    """Whoever logs in, or gets another token, and whatever else is asked for."""
    memory.note("Bearer a", NAME, told(), passed())
    assert held(memory, authorization, name) == 0
    assert held(memory, "Bearer a")


@pytest.mark.parametrize(("seconds", "after"), [("1", 1), ("3", 3), ("60", 5)])
def test_a_short_retry_after(memory: HeldBack, clock: Clock, seconds: str, after: float) -> None:
    """No longer than the registry itself asked for."""
    memory.note("", NAME, told(), passed(seconds=seconds))
    clock.pass_by(after - 0.1)
    assert held(memory)
    clock.pass_by(0.2)
    assert not held(memory)


@pytest.mark.parametrize("kind", ["text/plain", "text/html; charset=utf-8", ""])
@pytest.mark.parametrize(("seconds", "after"), [("2", 2), ("60", 10)])
def test_what_counts_every_request(
    memory: HeldBack, clock: Clock, kind: str, seconds: str, after: float
) -> None:
    """It is no registry's error: nobody asks for anything, and so it ends sooner."""
    memory.note("Bearer a", NAME, told(kind=kind), passed(seconds=seconds))
    clock.pass_by(after - 0.1)
    for authorization in ("Bearer a", "Basic b", ""):
        for name in (NAME, OTHER, None):
            assert held(memory, authorization, name) == 1
    clock.pass_by(0.2)
    assert not held(memory, "Bearer a")


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500, 503])
def test_other_answers(memory: HeldBack, status: int) -> None:
    """They are not remembered here."""
    memory.note("", NAME, told(status, "text/plain"), passed(status, ""))
    assert not held(memory)


def test_memory_is_bounded(memory: HeldBack) -> None:
    """The oldest are forgotten first."""
    for number in range(10_001):
        memory.note(f"Bearer {number}", NAME, told(), passed())
    assert not held(memory, "Bearer 0")
    assert held(memory, "Bearer 1")
    assert held(memory, "Bearer 10000")
