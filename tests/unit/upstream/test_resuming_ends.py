"""Where a body that goes on ends: whole, or given up."""

import socket
from dataclasses import dataclass, field

import pytest

from app.content import BodyBroken
from tests.unit.upstream.blobs import BLOB, GOOD, Answer, Hosts, fetched, pull, resumed
from tests.unit.upstream.clock import Clock
from tests.unit.upstream.hurry import hurried
from tests.unit.upstream.server import Server


def test_a_part_that_ends_early() -> None:
    """A server may give less than was asked for; the rest is asked for next."""
    hosts = Hosts(BLOB, [Answer(cut=300), Answer(shortened=100), Answer(shortened=50)])
    data, complete, lines = pull(hosts)
    assert (data, complete) == (BLOB, True)
    assert [line.partition("offset=")[2].split()[0] for line in resumed(lines)] == [
        "300", "924", "974",
    ]  # fmt: skip


def test_it_ends_at_last() -> None:
    """Six attempts that bring nothing are enough."""
    hosts = Hosts(BLOB, [Answer(cut=300), *[Answer(cut=0)] * 50])
    assert pull(hosts)[:2] == (BLOB[:300], False)
    assert len(hosts.at_cdn) == 7


def test_progress_begins_anew() -> None:
    """A line that breaks every few bytes brings the whole blob."""
    hosts = Hosts(BLOB, [Answer(cut=10)] * 90)
    data, complete, lines = pull(hosts)
    assert (data, complete) == (BLOB, True)
    assert len(resumed(lines)) == 90
    assert all(" attempt=1 " in line for line in resumed(lines))


@pytest.mark.parametrize(("budget", "attempts"), [(0.001, 0), (0.2, 1), (60, 6)])
def test_a_budget_of_time(budget: float, attempts: int) -> None:
    """No attempt begins later than that after the break."""
    hosts = Hosts(BLOB, [Answer(cut=300), *[Answer(status=503)] * 50])
    assert pull(hosts, budget=budget)[:2] == (BLOB[:300], False)
    assert len(hosts.at_cdn) == 1 + attempts + (attempts > 0)


@dataclass
class Expiring(Hosts):
    """A registry whose tokens expire while the first answer is on its way."""

    def cdn(self, peer: socket.socket, server: Server) -> None:
        """Let the token expire."""
        self.token = "Bearer another"  # noqa: S105 - nobody has it
        super().cdn(peer, server)


def test_a_login_that_has_expired() -> None:
    """Only its owner has a new one: the client learns of the break at once."""
    hosts = Expiring(BLOB, [Answer(cut=300), Answer(status=403)])
    assert pull(hosts)[:2] == (BLOB[:300], False)
    assert (len(hosts.at_registry), len(hosts.at_cdn)) == (2, 2)


@dataclass
class Slow(Hosts):
    """Servers that take their time for each answer."""

    clock: Clock = field(default_factory=Clock)

    def cdn(self, peer: socket.socket, server: Server) -> None:
        """Answer late."""
        self.clock.pass_by(20)
        super().cdn(peer, server)


def test_the_budget_is_of_time_without_a_byte() -> None:
    """Answers that bring nothing are no progress."""
    hosts = Slow(BLOB, [Answer(cut=300), *[Answer(cut=0)] * 50])
    with hosts.up(), hurried() as clock:
        hosts.clock = clock
        pieces = fetched(hosts.upstream(60))
        assert next(pieces) == BLOB[:300]
        began = clock.now
        with pytest.raises(BodyBroken):
            next(pieces)
    assert clock.now - began <= 60 + 20


@pytest.mark.parametrize("size", [1, 300, len(BLOB) - 1])
def test_a_part_of_what_has_no_length(size: int) -> None:
    """Chunks tell no length; the total does, and not the end of the part that happened to come."""
    part = Answer(shortened=len(BLOB) - size)
    hosts = Hosts(BLOB, [Answer(cut=0, chunked=True), part])
    assert pull(hosts)[:2] == (BLOB, True)


def test_only_the_last_chunk_is_missing() -> None:
    """All bytes have come, and the total in the 416 says so (RFC 9110, section 15.5.17)."""
    end = Answer(status=416, fields=(f"Content-Range: bytes */{len(BLOB)}",))
    hosts = Hosts(BLOB, [Answer(cut=6 * len(BLOB), chunked=True), *[end] * 9])
    assert pull(hosts)[:2] == (BLOB, True)


@pytest.mark.parametrize("good", [True, False], ids=["in time", "too late"])
def test_what_is_whole_is_not_asked_for_again(*, good: bool) -> None:
    """A good answer is one request, and a body that nobody reads on is none more."""
    hosts = Hosts(BLOB, [GOOD if good else Answer(cut=300)])
    with hosts.up(), hurried():
        pieces = fetched(hosts.upstream())
        next(pieces)
        if good:
            assert list(pieces) == []
        pieces.close()  # type: ignore[attr-defined] # a generator
    assert len(hosts.at_cdn) == 1
