"""A short chaos run, and small reproductions of what long ones have found."""

import logging
from collections.abc import Iterator

import pytest

from tests import programs
from tests.chaos import chaos
from tests.chaos.raw import RawClient, ask
from tests.hub.hub import Hub
from tests.servers import Docxy, docxy

pytestmark = pytest.mark.integration

SEED = 20

BROKEN_OFF = pytest.mark.parametrize(
    ("cut", "stall"), [pytest.param(20, None, id="cut"), pytest.param(None, 20, id="stalled")]
)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def proxy(hub: Hub) -> Iterator[Docxy]:
    with docxy(**hub.settings, DOCXY_READ_TIMEOUT="1") as proxy:
        yield proxy


@pytest.mark.soak
def test_chaos(caplog: pytest.LogCaptureFixture) -> None:
    """What a resume can mend no client sees; what nobody can mend never looks complete."""
    programs.require("docker-registry")
    caplog.set_level(logging.INFO)
    run = chaos.run(SEED, chaos.SHORT)
    assert run.failures() == []
    tallies = [*run.mended.values(), *run.pulls.values(), *run.cut.values(), *run.wrong.values()]
    assert sum(tally.met for tally in tallies) > 100


@BROKEN_OFF
def test_a_refusal_that_breaks_off(
    cut: int | None, stall: int | None, hub: Hub, proxy: Docxy
) -> None:
    """The challenge is all that a client needs of a 401: containerd dies of a 503 in its place."""
    hub.reset()
    hub.fail(part="registry", path="/manifests/", cut_after=cut, stall_after=stall)
    answer = ask(proxy.host, "GET", "/v2/library/alpine/manifests/latest", {})
    assert answer.status == 401
    assert "www-authenticate" in answer.headers


@BROKEN_OFF
def test_a_token_that_breaks_off(
    cut: int | None, stall: int | None, hub: Hub, proxy: Docxy
) -> None:
    """A token may be asked for again: of all clients, only oras survives a 503 in its place."""
    hub.reset()
    hub.fail(part="token", cut_after=cut, stall_after=stall)
    assert RawClient(proxy.host, "library/alpine").log_in().status == 200
