"""Fetches that nobody reads: whose they are, how many go on, how far, and who pays."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.source import FetchAccount, Unmetered
from app.transfer import files
from app.transfer.readers import Readers, Slots
from app.transfer.shared_blob import TransferOptions
from app.transfer.shared_file import SharedFile
from app.transfer.transfers import UNREAD_OF_ALL, UNREAD_OF_ONE, Transfers
from app.transfer.watch import ReaderWatch, UnreadLimits
from tests.unit.transfer.parts import (
    Cache,
    Origin,
    blob_of,
    digest_of,
    slow_origin,
    start,
    start_fetch,
    wait_for,
)

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


def test_what_nobody_else_reads_is_charged(tmp_path: Path) -> None:
    """All of it, whether the client that began it has stayed or not."""
    alice = Account("alice")
    cache, origin = Cache(tmp_path, unread_limits=ALL), slow_origin(DATA, payer=alice)
    transfer = cache.enter(origin)
    start_fetch(origin, transfer)
    origin.gate.let(10)
    wait_for(lambda: transfer.blob.count_arrived() == 10 * PIECE)
    transfer.close()
    origin.gate.let()
    cache.wait_until_idle(origin)
    assert cache.kept
    assert (alice.charged, alice.did[-3:]) == (len(DATA), ["unread", "read", "over"])


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in this process", "in another one"])
@pytest.mark.parametrize("reader", ["bob", "", "alice"])
def test_somebody_reads_along(tmp_path: Path, reader: str, *, elsewhere: bool) -> None:
    """Nobody is charged for what comes then, but a client that has come back to its own fetch.

    It is charged by the request that reads, where that is in the same process.
    """
    alice, again = Account("alice"), Account(reader)
    cache, origin = Cache(tmp_path, unread_limits=ALL), slow_origin(DATA, payer=alice)
    transfer = cache.enter(origin)
    start_fetch(origin, transfer)
    origin.gate.let(4)
    wait_for(lambda: transfer.blob.count_arrived() == 4 * PIECE)
    transfer.close()
    process = Cache(tmp_path, cache) if elsewhere else cache
    joined = process.transfers.join(DIGEST, again if reader else None)
    assert joined is not None
    origin.gate.let()
    wait_for(lambda: DIGEST in cache.kept)
    joined.close()
    cache.wait_until_idle(origin)
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


def test_it_ends_with_the_clients_bytes(tmp_path: Path) -> None:
    """What came stays for whoever goes on."""
    alice = Account("alice", has=6 * PIECE)
    cache, origin = Cache(tmp_path, unread_limits=ALL), slow_origin(DATA, payer=alice)
    transfer = cache.enter(origin)
    start_fetch(origin, transfer)
    transfer.close()
    origin.gate.let()
    cache.wait_until_idle(origin)
    assert alice.did[-1] == "over"
    assert 6 * PIECE <= alice.charged < len(DATA)
    again = cache.enter(slow_origin(DATA))
    assert again.blob.count_arrived() == alice.charged == origin.sent
    again.close()


@pytest.mark.parametrize("whole", [True, False], ids=["all", "part"])
def test_who_wants_a_part_is_no_reason_to_fetch_all(tmp_path: Path, *, whole: bool) -> None:
    """The limit is the one of what was asked for."""
    limits = UnreadLimits(whole=len(DATA), part=2 * PIECE)
    cache, origin = Cache(tmp_path, unread_limits=limits), slow_origin(DATA)
    transfer = cache.enter(origin)
    start_fetch(origin, transfer, whole=whole)
    transfer.close()
    origin.gate.let()
    cache.wait_until_idle(origin)
    assert bool(cache.kept) == whole
    assert whole or origin.sent == 3 * PIECE


def test_a_break_is_charged_too(tmp_path: Path) -> None:
    """A registry that breaks off has sent what it has sent."""
    alice = Account("alice")
    origin = slow_origin(DATA, payer=alice, fault=lambda _: "cut", cut_at=3 * PIECE)
    cache = Cache(tmp_path, unread_limits=ALL)
    transfer = cache.enter(origin)
    start_fetch(origin, transfer)
    transfer.close()
    origin.gate.let()
    cache.wait_until_idle(origin)
    assert (alice.charged, alice.did[-1]) == (3 * PIECE, "over")


@pytest.mark.parametrize("reads_along", [False, True])
def test_what_is_skipped_is_charged_and_bounded(tmp_path: Path, *, reads_along: bool) -> None:
    """A registry that knows no ranges sends the beginning again, over the same line."""
    cache = Cache(tmp_path, unread_limits=UnreadLimits.fixed(2 * PIECE))
    beginning = slow_origin(DATA, fault=lambda _: "cut", cut_at=15 * PIECE)
    transfer = cache.enter(beginning)
    start_fetch(beginning, transfer)
    beginning.gate.let()
    cache.wait_until_fetched(beginning)
    assert transfer.blob.count_arrived() == 15 * PIECE
    transfer.close()
    alice = Account("alice")
    again = slow_origin(DATA, payer=alice, knows_ranges=False)
    transfer = cache.enter(again)
    start_fetch(again, transfer)
    if not reads_along:
        transfer.close()
    again.gate.let()
    cache.wait_until_fetched(again)
    transfer.close()
    assert alice.charged == again.sent
    assert bool(cache.kept) == reads_along
    assert (again.sent > 15 * PIECE) == reads_along


def test_slots(tmp_path: Path) -> None:
    """Each client has some, and all have some, by whichever process they were taken."""
    terms = {"for_one": UNREAD_OF_ONE, "for_all": UNREAD_OF_ALL}
    workers = [Slots(tmp_path / "unread", **terms) for _ in range(2)]
    taken = [workers[number % 2].try_acquire("alice") for number in range(UNREAD_OF_ONE)]
    assert None not in taken
    assert [worker.try_acquire("alice") for worker in workers] == [None, None]
    others = [
        workers[0].try_acquire(f"client {number}")
        for number in range(UNREAD_OF_ALL - UNREAD_OF_ONE)
    ]
    assert None not in others
    assert [worker.try_acquire("bob") for worker in workers] == [None, None]
    assert taken[0] is not None
    taken[0].close()
    last = workers[1].try_acquire("bob")
    assert last is not None
    assert workers[0].try_acquire("alice") is None
    for slot in (*taken[1:], *others, last):
        assert slot is not None
        slot.close()


def test_without_a_slot_it_stops(tmp_path: Path) -> None:
    """However much it might still take; one that is read needs none."""
    cache, origin = (
        Cache(tmp_path, unread_limits=ALL),
        slow_origin(DATA, payer=Unmetered(lambda: "alice")),
    )
    transfer = cache.enter(origin)
    slots = Slots(cache.folder.parent.parent / "unread", for_one=UNREAD_OF_ONE, for_all=99)
    held = [slots.try_acquire("alice") for _ in range(UNREAD_OF_ONE)]
    start_fetch(origin, transfer)
    origin.gate.let(10)
    wait_for(lambda: transfer.blob.count_arrived() == 10 * PIECE)
    transfer.close()
    origin.gate.let()
    cache.wait_until_idle(origin)
    assert not cache.kept
    assert 10 * PIECE <= origin.sent < len(DATA)
    for slot in held:
        assert slot is not None
        slot.close()
    other = Origin(DATA)
    assert cache.read(other) == DATA


def test_one_fetch_takes_one_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connections look at the same time."""
    cache, origin = Cache(tmp_path), slow_origin(DATA)
    transfer = cache.enter(origin)
    slots = Slots(tmp_path / "unread", for_one=2, for_all=2)
    taken, second = list[SharedFile | None](), threading.Event()
    acquire = Slots.try_acquire

    def try_acquire(self: Slots, key: str) -> SharedFile | None:
        slot = acquire(self, key)
        taken.append(slot)
        if len(taken) > 1:
            second.set()
        second.wait(0.2)  # long enough for another connection to look
        return slot

    monkeypatch.setattr(Slots, "try_acquire", try_acquire)
    opened = files.open_running(transfer.blob.paths)
    assert opened is not None
    watch = ReaderWatch(DIGEST, Readers(opened), slots, limit=10**7, payer=lambda: None)

    def look() -> None:
        for _ in range(3):
            watch.record_received(3 * 10**5)
            assert watch.may_continue()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == 1
    watch.close()
    monkeypatch.undo()
    again = [slots.try_acquire("") for _ in range(2)]
    for slot in again:
        assert slot is not None
        slot.close()
    opened.close()
    transfer.close()


@pytest.mark.parametrize("name", ["unread", "connections"])
def test_a_registry_of_any_name(tmp_path: Path, name: str) -> None:
    """The locks are not where the files of a registry may be to lie."""
    directory = tmp_path / "cache" / "unfinished" / name
    options = TransferOptions(adopt=lambda _: None, make_room=lambda _: None, unread_limits=ALL)
    transfers, origin = Transfers(directory, options), slow_origin(DATA)
    beginning = transfers.begin(DIGEST)
    assert beginning is not None
    transfer = start(beginning, len(DATA))
    start_fetch(origin, transfer)
    transfer.close()
    origin.gate.let()
    wait_for(lambda: not transfers.is_running(DIGEST))
    assert origin.verified == 1
