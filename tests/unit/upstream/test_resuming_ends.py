"""Where a body that goes on ends: whole, or given up."""

import socket
from dataclasses import dataclass, field, replace

import pytest

from app.source import BodyBroken
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
    """Answers that bring nothing are asked for as long as the budget is, ever more rarely."""
    hosts = Hosts(BLOB, [Answer(cut=300), *[Answer(cut=0)] * 50])
    assert pull(hosts)[:2] == (BLOB[:300], False)
    assert 9 <= len(hosts.at_cdn) <= 18


def test_progress_begins_anew() -> None:
    """A line that breaks every 64 KiB brings the whole blob without waiting."""
    blob = BLOB * 64 * 8
    hosts = Hosts(blob, [Answer(cut=64 * 1024)] * 7)
    data, complete, lines = pull(hosts)
    assert (data, complete) == (blob, True)
    assert len(resumed(lines)) == 7
    assert all(" attempt=1 " in line for line in resumed(lines))


def test_a_trickle_is_no_progress() -> None:
    """A line that breaks every few bytes brings the whole blob as well, but by few requests."""
    hosts = Hosts(BLOB, [Answer(cut=10)] * 90)
    with hosts.up(), hurried() as clock:
        began = clock.now
        assert b"".join(fetched(hosts.upstream())) == BLOB
    assert clock.now - began > 85 * 8 * 0.5


@pytest.mark.parametrize(("budget", "least", "most"), [(0.001, 0, 0), (0.2, 1, 1), (60, 8, 16)])
def test_a_budget_of_time(budget: float, least: int, most: int) -> None:
    """No attempt begins later than that after the break."""
    hosts = Hosts(BLOB, [Answer(cut=300), *[Answer(status=503)] * 50])
    assert pull(hosts, budget=budget)[:2] == (BLOB[:300], False)
    # The first of them asks where the signed URL led, and then the registry.
    assert least <= len(hosts.at_cdn) - 1 - (least > 0) <= most


@pytest.mark.parametrize(("told", "asked"), [("20", (3, 4)), ("59", (1, 2)), ("61", (1, 1))])
def test_a_host_that_says_when_to_come_again(told: str, asked: tuple[int, int]) -> None:
    """It is not asked earlier, and not at all where that is too late."""
    ill = Answer(status=503, fields=(f"Retry-After: {told}",))
    hosts = Hosts(BLOB, [Answer(cut=300), *[ill] * 50])
    assert pull(hosts, budget=60)[:2] == (BLOB[:300], False)
    assert asked[0] <= len(hosts.at_registry) - 1 <= asked[1]


def test_every_attempt_that_fails_is_told() -> None:
    """With the offset and the reason."""
    hosts = Hosts(BLOB, [Answer(cut=300), Answer(status=503), Answer(status=503)])
    data, complete, lines = pull(hosts)
    assert (data, complete) == (BLOB, True)
    told = [line for line in lines if "Resume attempt failed" in line]
    assert told
    assert all("offset=300" in line and "reason=503" in line for line in told)


@pytest.mark.parametrize("size", [1, 300, len(BLOB) - 1])
def test_a_part_of_what_has_no_length_and_tells_no_total(size: int) -> None:
    """It may be any part: taken for the rest, it would make a short blob look complete."""
    part = Answer(shortened=len(BLOB) - size, no_total=True)
    hosts = Hosts(BLOB, [Answer(cut=0, chunked=True), *[part] * 50])
    data, complete, _ = pull(hosts)
    assert not complete
    assert data == b""


@pytest.mark.parametrize("cut", [0, 1, 300, len(BLOB) - 1])
@pytest.mark.parametrize("ignores_range", [True, False])
def test_only_the_connection_ends(cut: int, *, ignores_range: bool) -> None:
    """Without length and chunks, a cut looks like the end; whoever is asked again knows."""
    whole = Answer(unframed=True, ignores_range=ignores_range)
    hosts = Hosts(BLOB, [replace(whole, cut=cut), *[whole] * 9])
    assert pull(hosts)[:2] == (BLOB, True)


@pytest.mark.parametrize("ignores_range", [True, False])
def test_an_end_that_is_one(*, ignores_range: bool) -> None:
    """Two answers that end at the same byte, or a 416."""
    whole = Answer(unframed=True, ignores_range=ignores_range)
    hosts = Hosts(BLOB, [whole] * 9)
    assert pull(hosts)[:2] == (BLOB, True)
    assert len(hosts.at_cdn) == 2


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
        self.clock.pass_by(5)
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
