"""Which connections of a worker make room for others, without any socket."""

import random
import socket
from typing import Final, cast

import pytest

from server.connections import FRONT, Connection, Connections, format_site, pack_site

PLACES: Final = 80
SHARE, RESERVE = 10, 16
ALICE, MALLORY = pack_site("192.0.2.1"), pack_site("198.51.100.66")


class Room:
    """Connections whose sockets are names, and those that were ended, in their order."""

    def __init__(self, places: int = PLACES) -> None:
        self.ended: list[str] = []
        self.connections = Connections(places, lambda sock: self.ended.append(str(sock)))

    def open(self, name: str, site: bytes = ALICE) -> Connection:
        """Take one in."""
        return self.connections.open(cast("socket.socket", name), site)

    def open_many(self, count: int, site: bytes, name: str = "many") -> list[Connection]:
        """Take in many of one site, called name-0, name-1, ..."""
        return [self.open(f"{name}-{number}", site) for number in range(count)]

    def serve_many(self, count: int) -> list[Connection]:
        """Take in many, each of another site, and serve them."""
        many = [self.open(f"busy-{number}", site(number)) for number in range(count)]
        for connection in many:
            assert self.connections.mark_serving(connection)
        return many


def site(number: int) -> bytes:
    """Return one of 65,536 sites."""
    return pack_site(f"203.0.{number >> 8}.{number & 255}")


def test_a_site_has_a_share() -> None:
    """Its longest waiting makes room for its next, and nobody else's does."""
    room = Room()
    room.open("other", MALLORY)
    room.open_many(SHARE, ALICE)
    assert room.ended == []
    room.open_many(3, ALICE, "more")
    assert room.ended == ["many-0", "many-1", "many-2"]


def test_a_front_has_no_share_of_its_own() -> None:
    """Its connections are those of all its clients: all places may be, and no more."""
    room = Room()
    room.open_many(PLACES, FRONT)
    assert room.ended == []
    room.open("next", FRONT)
    assert room.ended == ["many-0"]


def test_what_is_served_takes_nothing_of_a_share() -> None:
    """Downloads of one site may be as many as there are places."""
    room = Room()
    for number in range(PLACES):
        assert room.connections.mark_serving(room.open(str(number)))
    assert room.ended == []


def test_whoever_waits_most_makes_room() -> None:
    """When all places are taken, it is the site with the most waiting ones."""
    room = Room()
    for number in range(PLACES // 2):
        room.open(f"one-{number}", site(number))
    room.open_many(SHARE - 1, MALLORY)
    for number in range(PLACES // 2, PLACES):
        room.open(f"one-{number}", site(number))
    assert set(room.ended) == {f"many-{number}" for number in range(SHARE - 2)} | {"one-0"}


def test_waiting_again_is_at_the_end_of_the_line() -> None:
    """A kept connection that has just been served is not the longest waiting."""
    room = Room()
    first, *_ = room.open_many(SHARE, ALICE)
    assert room.connections.mark_serving(first)
    room.connections.mark_waiting(first)
    room.open("next")
    assert room.ended == ["many-1"]


def test_a_body_that_is_read_waits() -> None:
    """Its connection counts from the first read to the last, with its turn kept, then not."""
    room = Room()
    first, *others = room.open_many(SHARE, ALICE)
    for connection in (first, *others):
        assert room.connections.mark_serving(connection)
    first.await_body()
    for connection in others:
        connection.await_body()
    first.await_body()
    room.open("next")
    assert room.ended == ["many-0"]
    others[0].end_body()
    assert room.connections.is_serving(others[0])
    room.open("one more")
    assert room.ended == ["many-0"]


def test_the_rest_of_a_body_that_is_skipped_makes_nobody_busy() -> None:
    """After the answer a connection waits, whatever is still read from it."""
    room = Room()
    connection = room.open("one")
    assert room.connections.mark_serving(connection)
    room.connections.mark_waiting(connection)
    connection.await_body()
    connection.end_body()
    assert not room.connections.is_serving(connection)


def test_a_reserve_is_there_when_all_places_are_busy() -> None:
    """New connections come in, but there is no place to serve them; nobody busy is ended."""
    room = Room()
    busy = room.serve_many(PLACES)
    assert room.ended == []
    waiting = [room.open(f"late-{number}", site(1000 + number)) for number in range(RESERVE)]
    assert room.ended == []
    assert not room.connections.mark_serving(waiting[0])
    room.connections.mark_waiting(waiting[0])
    room.open("later", site(2000))
    assert room.ended == ["late-1"]
    room.connections.close(busy[0])
    assert room.connections.mark_serving(waiting[2])


def test_what_is_idle_at_a_stop() -> None:
    """Neither what is served, nor whose body is read, nor what came just now; that is next time."""
    room = Room()
    kept, busy, reading = room.open_many(3, ALICE)
    for connection in (kept, busy, reading):
        assert room.connections.mark_serving(connection)
    room.connections.mark_waiting(kept)
    reading.await_body()
    room.open("new")
    assert list(map(str, room.connections.iter_idle_sockets())) == ["many-0"]
    assert list(map(str, room.connections.iter_idle_sockets())) == ["many-0", "new"]


def test_a_body_that_was_read_keeps_nothing_open_at_a_stop() -> None:
    """Once it is all there, its connection is as idle as any other."""
    room = Room()
    connection = room.open("one")
    assert room.connections.mark_serving(connection)
    connection.await_body()
    connection.end_body()
    room.connections.mark_waiting(connection)
    assert list(map(str, room.connections.iter_idle_sockets())) == ["one"]


def test_how_many_made_room_is_told_once() -> None:
    """By site, for the log."""
    room = Room()
    room.open_many(SHARE + 3, ALICE)
    assert room.connections.take_evicted() == {ALICE: 3}
    assert room.connections.take_evicted() == {}


def test_whatever_happens_there_is_room() -> None:
    """At random: never more than the places and the reserve, and a new one is never the ended."""
    dice = random.Random(14)  # noqa: S311 - no secret
    room = Room(40)
    connections = room.connections
    alive: dict[str, Connection] = {}
    sites = [FRONT, *map(site, range(5))]
    for number in range(5000):
        name = str(number)
        ended = len(room.ended)
        alive[name] = room.open(name, dice.choice(sites))
        assert name not in room.ended
        for gone in room.ended[ended:]:
            connections.close(alive.pop(gone))
        for one in dice.sample([*alive], min(2, len(alive))):
            change(dice.randrange(6), one, alive, connections)
        assert len(alive) <= connections.places + connections.reserve
    for connection in alive.values():
        connections.close(connection)
    assert list(connections.iter_idle_sockets()) == []
    assert connections.take_evicted().total() == len(room.ended)


def change(step: int, one: str, alive: dict[str, Connection], connections: Connections) -> None:
    """Let something happen to a connection."""
    if step == 0:
        connections.close(alive.pop(one))
    elif step == 1:
        connections.mark_waiting(alive[one])
    elif step == 2:
        alive[one].await_body()
    elif step == 3:
        alive[one].end_body()
    elif not connections.mark_serving(alive[one]):
        connections.mark_waiting(alive[one])


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::1", "0.0.0.1", False),
    ],
)
def test_sites(one: str, other: str, are_same: bool) -> None:  # noqa: FBT001 - a column
    """An IPv4 address, however it is written, or 64 bits of IPv6."""
    assert (pack_site(one) == pack_site(other)) is are_same


@pytest.mark.parametrize(
    ("address", "text"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::/64")],
)
def test_sites_are_written(address: str, text: str) -> None:
    """As an operator writes them into a firewall."""
    assert format_site(pack_site(address)) == text


def test_a_front_is_written_as_nothing() -> None:
    """It is no client."""
    assert not format_site(FRONT)
