"""A descriptor that several use: nobody ever reads by a number that is another file's."""

import errno
import fcntl
import io
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.transfer.shared_file import SharedFile, write_at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of 300,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 30_000)
    return path


def is_open(descriptor: int) -> bool:
    """Tell whether a number is a file's."""
    return Path(f"/proc/self/fd/{descriptor}").exists()


def test_it_is_closed_once_and_by_the_last(path: Path) -> None:
    """Whoever has it goes on; nobody else gets it."""
    file = SharedFile.open(path, os.O_RDONLY)
    with file.borrow() as descriptor, file.borrow():
        file.close()
        assert is_open(descriptor)
        with pytest.raises(OSError, match="closed"), file.borrow():
            pass
        assert os.pread(descriptor, 3, 0) == b"012"
    assert not is_open(descriptor)
    reused = os.open(path, os.O_RDONLY)
    assert reused == descriptor
    file.close()
    assert is_open(reused)
    os.close(reused)


def test_another_owner_is_taken_over(path: Path) -> None:
    """Its own way to close is used."""
    inner = io.FileIO(path)
    file = SharedFile.from_file(inner)
    assert file.read(5, 2) == b"23456"
    file.close()
    assert inner.closed


def test_what_is_not_in_memory_is_read_all_the_same(path: Path) -> None:
    """On a thread then."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    shared = SharedFile.open(path, os.O_RDONLY)
    assert shared.read(1_000_000, 5) == path.read_bytes()[5:]
    assert shared.read(10, 1_000_000) == b""
    shared.close()
    with pytest.raises(OSError, match="closed"):
        shared.read(1, 0)


def test_it_is_written_and_locked(path: Path) -> None:
    """Locks are each opening's own."""
    one, other = (SharedFile.open(path, os.O_RDWR) for _ in range(2))
    write_at(one, b"abc", 10)
    assert other.pread(5, 9) == b"9abc3"
    assert one.stat().st_size == 300_000
    assert one.try_lock(fcntl.LOCK_EX)
    assert not other.is_unlocked()
    assert not other.try_lock(fcntl.LOCK_SH)
    one.unlock()
    assert other.is_unlocked()
    assert other.try_lock(fcntl.LOCK_SH)
    one.close()
    other.close()


@dataclass
class Changing:
    """Files that come and go while they are read."""

    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)
    slots: list[tuple[bytes, SharedFile] | None] = field(default_factory=lambda: [None] * 4)

    def come_and_go(self, slot: int) -> None:
        """Open one after the other; each is closed by another thread, or at once."""
        path = self.folder / f"{slot}"
        for number in range(300):
            content = f"{slot}-{number};".encode() * 2000
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            file = SharedFile.open(path, os.O_RDONLY)
            self.slots[slot] = (content, file)
            file.close() if number % 2 else threading.Timer(0.002, file.close).start()
        self.stop.set()

    def read(self, number: int) -> None:
        """Read what is open, or was."""
        while not self.stop.is_set():
            content, file = self.slots[number % 4] or (b"", None)
            with suppress(OSError):
                data = file.read(5000, number) if file else b""
                if data != content[number : number + 5000]:
                    self.faults.append(f"{number}: {data[:20]!r}")


def test_closed_while_many_read(tmp_path: Path) -> None:
    """Each reader sees its own bytes, or an error."""
    changing = Changing(tmp_path)
    threads = [threading.Thread(target=changing.come_and_go, args=[slot]) for slot in range(4)]
    threads += [threading.Thread(target=changing.read, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert changing.faults == []


def test_a_system_without_range_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lock could be had then, and nobody sees one: downloads go on."""
    one, other = (SharedFile.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert one.try_lock_range(fcntl.F_WRLCK, 7)
    assert not other.try_lock_range(fcntl.F_WRLCK, 7)
    assert other.try_lock_range(fcntl.F_WRLCK, 8)
    assert (other.is_range_locked(0, 7), other.is_range_locked(0, 8)) == (False, True)
    assert one.try_lock_range(fcntl.F_UNLCK, 7)
    assert other.try_lock_range(fcntl.F_WRLCK, 7)

    def unknown(*_: object) -> bytes:
        raise OSError(errno.EINVAL, "invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", unknown)
    assert one.try_lock_range(fcntl.F_WRLCK, 7)
    assert not one.is_range_locked(0, 8)
    one.close()
    other.close()
