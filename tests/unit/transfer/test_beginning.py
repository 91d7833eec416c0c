"""Who asks the registry first, who joins, and what becomes of the files."""

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.oci.errors import ClientGone
from app.source import BodyBroken, Unmetered
from app.transfer import files
from app.transfer.files import Files, Paths
from app.transfer.shared_file import SharedFile
from app.transfer.transfers import Beginning, Transfer
from app.transfer.watch import UnreadLimits
from tests.unit.transfer.parts import (
    Cache,
    Gate,
    Origin,
    blob_of,
    digest_of,
    open_body,
    read_all,
    start,
    start_fetch,
    wait_for,
)

DATA = blob_of(10_500)
DIGEST = digest_of(DATA)


class Gone:
    """A client that has left."""

    def is_gone(self) -> bool:
        """Return True."""
        return True


def begin(cache: Cache) -> Beginning:
    beginning = cache.transfers.begin(DIGEST)
    assert beginning is not None
    return beginning


def count_open(folder: Path) -> int:
    """Return how many descriptors of this process are of files in a folder."""
    links = list(Path("/proc/self/fd").iterdir())
    return sum(folder in link.resolve().parents for link in links if link.is_symlink())


def leave_unfinished(cache: Cache, origin: Origin, arrived: int) -> None:
    """Fetch so much of a blob, and let nobody go on."""
    transfer = cache.enter(origin)
    start_fetch(origin, transfer)
    cache.wait_until_fetched(origin)
    assert transfer.blob.count_arrived() == arrived
    transfer.close()
    cache.wait_until_idle(origin)


class TestWhoAsksFirst:
    """One client asks for all, and the others wait for its answer."""

    def test_one_at_a_time(self, tmp_path: Path) -> None:
        """Neither here nor in another process, until the right is given back."""
        here, elsewhere = (Cache(tmp_path) for _ in range(2))
        beginning = begin(here)
        for cache in (here, elsewhere):
            assert cache.transfers.begin(DIGEST) is None
            assert cache.transfers.is_running(DIGEST)
            assert cache.transfers.join(DIGEST, None) is None  # nobody knows the size yet
        beginning.release()
        beginning.release()
        assert not elsewhere.transfers.is_running(DIGEST)
        assert here.list_files() == []
        again = begin(elsewhere)
        beginning.release()  # takes nothing from the other one
        assert here.transfers.begin(DIGEST) is None
        again.release()

    def test_a_refusal_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It stays, and whoever comes sees without a pause that nobody has an answer yet."""
        here, elsewhere = (Cache(tmp_path) for _ in range(2))
        beginning = begin(here)
        caller = ("bob", "team/app")
        elsewhere.transfers.record_refusal(DIGEST, caller, 100.0)
        pauses = list[float]()
        monkeypatch.setattr(files, "_sleep", pauses.append)
        assert elsewhere.transfers.join(DIGEST, None) is None
        assert pauses == []
        transfer = start(beginning, len(DATA))
        transfer.blob.confirmations.record(caller, 99.0)
        assert elsewhere.transfers.find_confirmation(DIGEST, caller, 0.0) is None
        transfer.close()

    def test_a_started_one_is_joined(self, tmp_path: Path) -> None:
        """And never begun again, though its right is given back."""
        here, elsewhere = (Cache(tmp_path) for _ in range(2))
        beginning = begin(here)
        first = start(beginning, len(DATA))
        beginning.release()
        assert here.transfers.begin(DIGEST) is None
        assert elsewhere.transfers.begin(DIGEST) is None
        for cache in (here, elsewhere):
            joined = cache.transfers.join(DIGEST, None)
            assert joined is not None
            assert joined.blob.size == len(DATA)
            joined.close()
        first.close()
        first.close()

    def test_whoever_comes_waits_for_the_answer(self, tmp_path: Path) -> None:
        """Here and in another process, until there is something to read."""
        caches = [Cache(tmp_path) for _ in range(2)]
        beginning = begin(caches[0])
        with ThreadPoolExecutor() as threads:
            waiting = [
                threads.submit(one.transfers.begin_or_join, DIGEST, None, None) for one in caches
            ]
            transfer = start(beginning, len(DATA))
            entered = [one.result(60) for one in waiting]
        for one in (transfer, *entered):
            assert isinstance(one, Transfer)
            assert one.blob.inode == transfer.blob.inode
            one.close()

    def test_whoever_waits_asks_if_the_first_has_no_answer(self, tmp_path: Path) -> None:
        """One after the other."""
        caches = [Cache(tmp_path) for _ in range(2)]
        beginning = begin(caches[0])
        asking = list[Beginning]()

        def ask(cache: Cache) -> None:
            entered = cache.transfers.begin_or_join(DIGEST, None, None)
            assert isinstance(entered, Beginning)
            assert caches[0].transfers.begin(DIGEST) is caches[1].transfers.begin(DIGEST) is None
            asking.append(entered)
            entered.release()

        with ThreadPoolExecutor() as threads:
            waiting = threads.map(ask, caches)
            beginning.release()
            list(waiting)
        assert len(asking) == 2
        assert caches[0].list_files() == []

    def test_nobody_waits_for_ever(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """For one who asks and has no answer."""
        monkeypatch.setattr("app.transfer.transfers._PATIENCE", 0.05)
        here, elsewhere = (Cache(tmp_path) for _ in range(2))
        beginning = begin(here)
        for cache in (here, elsewhere):
            with pytest.raises(OSError, match="no answer"):
                cache.transfers.begin_or_join(DIGEST, None, None)
        beginning.release()

    def test_whoever_waits_may_leave(self, cache: Cache) -> None:
        """Nobody waits for a client that has gone."""
        beginning = begin(cache)
        with pytest.raises(ClientGone):
            cache.transfers.begin_or_join(DIGEST, Gone(), None)
        origin = Origin(DATA, gate=Gate(0), client=Gone())
        with pytest.raises(BodyBroken, match="left"):
            read_all(open_body(origin, start(beginning, len(DATA))))
        origin.gate.let()
        cache.wait_until_fetched(origin)

    def test_what_another_has_fetched_meanwhile(self, cache: Cache) -> None:
        """Whoever gets the right to ask is told, and leaves nothing."""
        beginning = begin(cache)
        assert not beginning.is_cached
        beginning.release()
        origin = Origin(DATA)
        assert cache.read(origin) == DATA
        cache.wait_until_idle(origin)
        late = begin(cache)
        assert late.is_cached
        late.release()
        assert cache.list_files() == []


class TestFiles:
    """Files that cannot be had, or are taken away."""

    def test_nothing_can_be_written(self, cache: Cache) -> None:
        """It says so, and leaves it to whoever wanted it."""
        cache.folder.parent.parent.mkdir()
        cache.folder.parent.write_bytes(b"no directory")
        with pytest.raises(OSError, match=r"Not a directory|File exists"):
            cache.transfers.begin(DIGEST)
        with pytest.raises(OSError, match="Not a directory"):
            cache.transfers.join(DIGEST, None)

    def test_no_room(self, cache: Cache) -> None:
        """Nothing is asked for on behalf of all then, and no file is left."""
        cache.has_room = lambda: False
        origin = Origin(DATA)
        transfer = cache.enter(origin)
        with pytest.raises(OSError, match="room"):
            start_fetch(origin, transfer)
        assert cache.room_asked[0] == len(DATA)
        assert read_all(open_body(origin, transfer)) == DATA
        assert (origin.asked, origin.asked_alone) == ([], [(0, len(DATA))])
        assert list(cache.folder.glob("*.data")) == []

    def test_room_for_what_is_missing(self, cache: Cache) -> None:
        """What an unfinished fetch has left is there already."""
        leave_unfinished(cache, Origin(DATA, fault=lambda _: "cut", cut_at=4000), 4000)
        cache.room_asked.clear()
        assert cache.read(Origin(DATA)) == DATA
        assert cache.room_asked == [len(DATA) - 4000]

    def test_room_is_made_of_unfinished_fetches(self, cache: Cache) -> None:
        """Of those that nobody uses."""
        other = Origin(blob_of(9_000, seed=1), fault=lambda _: "cut", cut_at=4000)
        leave_unfinished(cache, other, 4000)
        left = next(cache.folder.glob("*.data"))
        cache.has_room = lambda: not left.exists()
        origin = Origin(DATA)
        assert cache.read(origin) == DATA
        assert origin.asked_alone == []

    def test_what_cannot_be_kept_is_read_all_the_same(self, cache: Cache) -> None:
        """A store that refuses takes nothing from those who read."""
        cache.refusal = OSError(28, "no room")
        origin = Origin(DATA)
        assert cache.read(origin) == DATA
        cache.wait_until_idle(origin)
        assert cache.list_files() == []
        assert cache.kept == {}

    @pytest.mark.parametrize("is_read_here", [False, True])
    def test_no_more_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_read_here: bool
    ) -> None:
        """Whoever cannot join leaves no file open."""
        here, elsewhere = (Cache(tmp_path) for _ in range(2))
        transfer = start(begin(here), len(DATA))
        before = count_open(here.folder)

        def fail(_: SharedFile, _operation: int, _start: int, _length: int = 1) -> bool:
            raise OSError(errno.ENOLCK, "no locks available")

        with monkeypatch.context() as patch:
            patch.setattr(SharedFile, "try_lock_range", fail)
            with pytest.raises(OSError, match="no locks"):
                (here if is_read_here else elsewhere).transfers.join(
                    DIGEST, Unmetered(lambda: "bob")
                )
        assert count_open(here.folder) == before
        transfer.close()
        assert count_open(here.folder) == 0

    def test_deleted_under_our_feet(self, cache: Cache) -> None:
        """Open files read on; the next one makes the directory anew, and nobody touches that."""
        origin = Origin(DATA, piece=1000, gate=Gate(0))
        old = cache.enter(origin)
        start_fetch(origin, old)
        origin.gate.let(3)
        wait_for(lambda: origin.sent == 3000)
        shutil.rmtree(cache.folder.parent)
        transfer = start(begin(cache), len(DATA))
        origin.gate.let()
        assert read_all(open_body(origin, old)) == DATA
        cache.wait_until_fetched(origin)
        assert transfer.blob.has_same_files()
        assert transfer.blob.count_arrived() == 0
        assert cache.list_files() == [".data", ".map"]
        assert cache.kept == {}
        transfer.close()

    def test_deleted_and_broken_off(self, cache: Cache) -> None:
        """Whoever reads goes on in files that have no name any more."""
        origin = Origin(DATA, fault=lambda number: "cut" if number == 1 else "", cut_at=4000)
        origin.piece, origin.gate = 1000, Gate(0)
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        origin.gate.let(1)
        wait_for(lambda: origin.sent == 1000)
        shutil.rmtree(cache.folder.parent)
        origin.gate.let()
        assert read_all(open_body(origin, transfer, (100, len(DATA)))) == DATA[100:]
        cache.wait_until_fetched(origin)
        assert origin.asked == [(0, len(DATA)), (4000, len(DATA))]
        assert cache.kept == {}


class TestTidy:
    """Unfinished fetches do not stay for ever."""

    def test_what_nobody_uses(self, cache: Cache, tmp_path: Path) -> None:
        """What was left long ago goes; what is fetched or read, and what is young, stays."""
        other = Cache(tmp_path)
        beginning = begin(cache)
        assert other.transfers.remove_idle(0) == 0
        beginning.release()
        origin = Origin(DATA, fault=lambda _: "cut", cut_at=4000, gate=Gate(0))
        transfer = cache.enter(origin)
        start_fetch(origin, transfer)
        assert other.transfers.remove_idle(0) == 0
        transfer.close()
        assert other.transfers.remove_idle(0) == 0
        origin.gate.let()
        cache.wait_until_idle(origin)
        assert other.transfers.remove_idle() == 0
        assert cache.list_files() == [".data", ".map"]
        assert 0 < other.transfers.remove_idle(0) < len(DATA)
        assert cache.list_files() == []
        assert cache.read(Origin(DATA)) == DATA

    def test_what_is_young_is_left_without_a_look(
        self, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its lock would be taken for one who asks: whoever comes then would ask once more."""
        cache.enter(Origin(DATA)).close()
        locked = list[int]()

        def lock(_: SharedFile, operation: int) -> bool:
            locked.append(operation)
            return True

        monkeypatch.setattr(SharedFile, "try_lock", lock)
        assert cache.transfers.remove_idle() == 0
        assert locked == []
        assert cache.transfers.remove_idle(0) == 0
        assert locked
        assert cache.list_files() == []

    def test_whoever_begins_tidies(self, tmp_path: Path) -> None:
        """Once an hour."""
        first = Cache(tmp_path)
        first.enter(Origin(blob_of(100, seed=1))).close()
        for path in first.folder.iterdir():
            os.utime(path, (0, 0))
        begin(Cache(tmp_path)).release()
        wait_for(lambda: first.list_files() == [])

    def test_other_files_are_tidied_too(self, tmp_path: Path) -> None:
        """Those that take up the same space."""
        asked = list[float]()

        def remove(idle: float) -> int:
            asked.append(idle)
            return 7

        cache = Cache(tmp_path, remove_other_idle=remove, unread_limits=UnreadLimits.fixed(0))
        assert cache.transfers.remove_idle(5) == 7
        assert asked == [5]


def test_whoever_comes_at_once_shares_the_files(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of the one who began is of the files that all in this process use."""
    origin = Origin(DATA)
    beginning = cache.transfers.begin(origin.digest)
    assert beginning
    blob = beginning.announce(len(DATA))
    lease = blob.acquire_lease([(0, len(DATA))], len(DATA))
    assert lease
    let_in, joined = files.let_in, list[Transfer | None]()

    def let_in_and_join(opened: Files, paths: Paths) -> bool:
        is_let_in = let_in(opened, paths)
        joined.append(cache.transfers.join(origin.digest, None))
        return is_let_in

    monkeypatch.setattr(files, "let_in", let_in_and_join)
    transfer = beginning.let_in(blob, None)
    lease.write([DATA])
    lease.close()
    (other,) = joined
    assert other
    assert other.blob is transfer.blob
    assert other.blob.is_complete
    transfer.close()
    other.close()
