"""Fetches that nobody reads: whose they are, how many go on, how far, and who pays."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.source import FetchAccount, Reply, Unmetered
from app.spools import filling
from app.spools.fetches import Fetches
from app.spools.filling import parse_rest
from app.spools.lead import LIMIT_FOR_ALL, LIMIT_PER_CLIENT, FetchOptions, UnreadLimits, UnreadSlots
from tests.unit.spools.parts import Bench, Body, FakeAsk, begun, blob_of, digest_of, fill, wait_for

PIECE = 1000
DATA = blob_of(20 * PIECE)
DIGEST = digest_of(DATA)
ALL = UnreadLimits.fixed(len(DATA))


@dataclass
class Account:
    """A client that has so many bytes, and what became of its fetch."""

    identity: str
    has: int = 10**9
    charged: int = 0
    did: list[str] = field(default_factory=list)

    def open_account(self, digest: str) -> FetchAccount:
        """Be its own account."""
        assert digest == DIGEST
        return self

    def charge(self, count: int) -> None:
        """Add up."""
        self.charged += count

    def try_acquire(self) -> bool:
        """Go on while there is something left."""
        self._note("unread")
        return self.charged < self.has

    def release(self) -> None:
        """Note that somebody reads, or that it is over."""
        self._note("read")

    def settle(self) -> None:
        """Note that it is over."""
        self._note("over")

    def _note(self, what: str) -> None:
        if self.did[-1:] != [what]:
            self.did.append(what)


def is_over(bench: Bench) -> bool:
    return not bench.fetches().is_running(DIGEST)


def test_what_nobody_else_reads_is_charged(bench: Bench) -> None:
    """All of it, whether the client that began it has stayed or not."""
    alice = Account("alice")
    lead, spool = begun(bench.fetches(unread_limits=ALL), DATA, payer=alice)
    body = Body(DATA)
    fill(lead, body, alice)
    body.let(10)
    wait_for(lambda: spool.available == 10 * PIECE)
    spool.close()
    body.let_all()
    wait_for(lambda: bench.keep.has(DIGEST) and is_over(bench))
    assert (alice.charged, alice.did[-3:]) == (len(DATA), ["unread", "read", "over"])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in this process", "in another one"])
@pytest.mark.parametrize("reader", ["bob", "", "alice"])
def test_somebody_reads_along(bench: Bench, reader: str, *, elsewhere: bool) -> None:
    """Nobody is charged for what comes then, but a client that has come back to its own fetch.

    It is charged by the request that reads, where that is in the same process.
    """
    alice, again = Account("alice"), Account(reader)
    fetches = bench.fetches(unread_limits=ALL)
    lead, spool = begun(fetches, DATA, payer=alice)
    body = Body(DATA)
    fill(lead, body, alice)
    body.let(4)
    wait_for(lambda: spool.available == 4 * PIECE)
    spool.close()
    joined = (bench.fetches() if elsewhere else fetches).join(DIGEST, again if reader else None)
    assert joined is not None
    body.let_all()
    wait_for(lambda: bench.keep.has(DIGEST) and is_over(bench))
    joined.close()
    assert alice.did[-1] == "over"
    if reader != "alice":
        # The bytes since the last look are those of whoever reads when it comes.
        assert (alice.charged <= 4 * PIECE, again.charged) == (True, 0)
    elif elsewhere:
        assert (alice.charged, again.charged) == (len(DATA), 0)
    else:
        assert alice.charged + again.charged == len(DATA)
        assert again.charged >= len(DATA) - 4 * PIECE
        assert again.did[-1] == "over"


def test_it_ends_with_the_clients_bytes(bench: Bench) -> None:
    """What came stays for whoever goes on."""
    alice = Account("alice", has=6 * PIECE)
    fetches = bench.fetches(unread_limits=ALL)
    lead, spool = begun(fetches, DATA, payer=alice)
    spool.close()
    body = Body(DATA)
    body.let_all()
    fill(lead, body, alice)
    wait_for(lambda: is_over(bench))
    assert alice.did[-1] == "over"
    assert 6 * PIECE <= alice.charged < len(DATA)
    again = fetches.try_acquire(DIGEST)
    assert again is not None
    assert again.offset == alice.charged
    again.release()


@pytest.mark.parametrize(
    ("whole", "is_kept"),
    [pytest.param(True, True, id="all"), pytest.param(False, False, id="part")],
)
def test_who_wants_a_part_is_no_reason_to_fetch_all(
    bench: Bench, *, whole: bool, is_kept: bool
) -> None:
    """The limit is the one of what was asked for."""
    fetches = bench.fetches(unread_limits=UnreadLimits(whole=len(DATA), part=2 * PIECE))
    lead, spool = begun(fetches, DATA)
    spool.close()
    body = Body(DATA)
    body.let_all()
    fill(lead, body, whole=whole)
    wait_for(lambda: is_over(bench))
    assert bench.keep.has(DIGEST) == is_kept


def test_a_break_is_charged_too(bench: Bench) -> None:
    """A registry that breaks off has sent what it has sent."""
    alice = Account("alice")
    lead, spool = begun(bench.fetches(unread_limits=ALL), DATA, payer=alice)
    spool.close()
    body = Body(DATA[: 3 * PIECE], breaks=True)
    body.let_all()
    fill(lead, body, alice)
    wait_for(lambda: is_over(bench))
    assert (alice.charged, alice.did[-1]) == (3 * PIECE, "over")


@pytest.mark.parametrize("reads_along", [False, True])
def test_what_is_skipped_is_charged_and_bounded(bench: Bench, *, reads_along: bool) -> None:
    """A registry that knows no ranges sends the beginning again, over the same line."""
    limit, alice = UnreadLimits.fixed(2 * PIECE), Account("alice")
    lead, spool = begun(bench.fetches(unread_limits=limit), DATA)
    beginning = Body(DATA[: 15 * PIECE], breaks=True)
    beginning.let_all()
    fill(lead, beginning)
    wait_for(lambda: is_over(bench))
    spool.close()
    fetches = bench.fetches(unread_limits=limit)
    lead, spool = begun(fetches, DATA, payer=alice)
    assert lead.offset == 15 * PIECE
    again = Body(DATA)
    rest = parse_rest(Reply(status=200, length=len(DATA), body=again), lead.offset, len(DATA))
    assert rest is not None
    if not reads_along:
        spool.close()
    again.let_all()
    filling.start_fetch_thread(lead, rest, FakeAsk(DATA, payer=alice), is_whole=True)
    wait_for(lambda: is_over(bench))
    spool.close()
    assert alice.charged == again.given * PIECE
    assert bench.keep.has(DIGEST) == reads_along
    assert (again.given > 15) == reads_along


def test_slots(tmp_path: Path) -> None:
    """Each client has some, and all have some, by whichever process they were taken."""
    workers = [UnreadSlots(tmp_path / "unread") for _ in range(2)]
    taken = [workers[number % 2].try_acquire("alice") for number in range(LIMIT_PER_CLIENT)]
    assert None not in taken
    assert [worker.try_acquire("alice") for worker in workers] == [None, None]
    others = [
        workers[0].try_acquire(f"client {number}")
        for number in range(LIMIT_FOR_ALL - LIMIT_PER_CLIENT)
    ]
    assert None not in others
    assert [worker.try_acquire("bob") for worker in workers] == [None, None]
    for slot in taken[:1]:
        assert slot is not None
        slot.close()
    assert workers[1].try_acquire("bob") is not None
    assert workers[0].try_acquire("alice") is None


def test_without_a_slot_it_stops(bench: Bench) -> None:
    """However much it might still take; one that is read needs none."""
    slots = UnreadSlots(bench.directory / "unread")
    fetches = bench.fetches(unread_limits=ALL)
    lead, spool = begun(fetches, DATA, payer=Unmetered(lambda: "alice"))
    held = [slots.try_acquire("alice") for _ in range(LIMIT_PER_CLIENT)]
    body = Body(DATA)
    fill(lead, body, Unmetered(lambda: "alice"))
    body.let(10)
    wait_for(lambda: spool.available == 10 * PIECE)
    spool.close()
    body.let_all()
    wait_for(lambda: is_over(bench))
    assert not bench.keep.has(DIGEST)
    again = fetches.try_acquire(DIGEST)
    assert again is not None
    assert 10 * PIECE <= again.offset < len(DATA)
    again.release()
    for slot in held:
        assert slot is not None
        slot.close()


def test_a_registry_of_any_name(bench: Bench) -> None:
    """The locks are not where the spools of a registry may be to lie."""
    fetches = Fetches(
        bench.directory / "spools" / "unread", FetchOptions(adopt=bench.keep, make_room=_anything)
    )
    slot = fetches.unread_slots.try_acquire("alice")
    assert slot is not None
    slot.close()
    lead, spool = begun(fetches, DATA)
    spool.close()
    lead.release()


def _anything(size: int) -> None:
    assert size
