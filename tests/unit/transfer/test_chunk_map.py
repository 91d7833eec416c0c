"""The chunk map: its head is read while others write it, and its entries tell what has arrived."""

import os
from pathlib import Path

import pytest
from xxhash import xxh3_64_intdigest

from app.transfer.chunk_map import (
    CHUNK,
    ChunkMap,
    Chunks,
    Entry,
    FetchState,
    Head,
    current_boot,
    read_head,
    write_head,
)
from app.transfer.shared_file import SharedFile

FULL = Entry(0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
LONG = Head(state=FetchState.RUNNING, size=10**15, inode=2**63, single=True)


@pytest.fixture
def file(tmp_path: Path) -> SharedFile:
    """Return an empty file."""
    return SharedFile.open(tmp_path / "map", os.O_RDWR | os.O_CREAT)


class TestHead:
    """The state of a fetch."""

    @pytest.mark.parametrize("state", list(FetchState))
    def test_it_is_read_as_it_was_written(self, file: SharedFile, state: FetchState) -> None:
        """Each state, over a longer one, in a file that never grows."""
        write_head(file, LONG)
        assert read_head(file) == LONG
        before = file.stat().st_size
        write_head(file, Head(state=state))
        assert read_head(file) == Head(state=state)
        assert file.stat().st_size == before
        file.close()

    def test_nothing_was_written_yet(self, file: SharedFile) -> None:
        """An empty file is one that was just made."""
        assert read_head(file) == Head(state=FetchState.REQUESTED)
        file.close()

    @pytest.mark.parametrize(
        "data",
        [b"{", b"[]", b"\xff", b'{"state": "odd"}', b'{"state": "running", "more": 1}', b"null"],
    )
    def test_what_cannot_be_read_says_nothing(self, file: SharedFile, data: bytes) -> None:
        """Whatever stands there."""
        with file.borrow() as descriptor:
            os.pwrite(descriptor, data, 0)
        assert read_head(file) is None
        file.close()

    def test_it_is_apart_from_the_entries(self, file: SharedFile) -> None:
        """Neither overwrites the other."""
        chunk_map = ChunkMap(file, CHUNK)
        chunk_map.create()
        chunk_map.write(0, [FULL])
        write_head(file, LONG)
        assert chunk_map.read(0) == [FULL]
        chunk_map.write(0, [Entry(0, 0, 0)])
        assert read_head(file) == LONG
        file.close()


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (0, []),
        (1, [1]),
        (CHUNK - 1, [CHUNK - 1]),
        (CHUNK, [CHUNK]),
        (2 * CHUNK + 5, [CHUNK, CHUNK, 5]),
    ],
)
def test_chunks(size: int, lengths: list[int]) -> None:
    """They cover each byte of the blob once."""
    chunks = Chunks(size)
    assert [chunks.length(index) for index in range(chunks.count)] == lengths


@pytest.mark.parametrize(
    ("start", "end", "covering"),
    [
        (0, 1, [0]),
        (CHUNK - 1, CHUNK, [0]),
        (CHUNK - 1, CHUNK + 1, [0, 1]),
        (CHUNK, 10**12, [1, 2, 3]),
        (5, 5, [0]),
        (10**12, 10**12, []),
    ],
)
def test_the_chunks_of_a_part(start: int, end: int, covering: list[int]) -> None:
    """Every one that has a byte of it, and none after the end of the blob."""
    assert list(Chunks(3 * CHUNK + 1).covering(start, end)) == covering


class TestEntry:
    """What has arrived of a chunk."""

    def test_its_checksum_is_that_of_all_bytes(self) -> None:
        """Fewer bytes do not match, and neither do others."""
        entry = Entry(6, current_boot(), xxh3_64_intdigest(b"abcdef"))
        assert entry.is_trusted
        assert entry.readable == 6
        assert entry.matches(b"abcdef")
        assert not entry.matches(b"abcdeF")
        assert not entry.matches(b"abcde")

    def test_another_boot_is_not_trusted(self) -> None:
        """Until its checksum has been compared."""
        entry = Entry(6, current_boot() ^ 1, xxh3_64_intdigest(b"abcdef"))
        assert not entry.is_trusted
        assert entry.readable == 0
        assert entry.trust().readable == 6

    def test_nothing_is_no_entry_of_this_boot(self) -> None:
        """The zeros of a new map are those of no boot."""
        assert current_boot() != 0
        assert not Entry().is_trusted

    def test_without_a_boot_id(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each process is a boot of its own then: nothing is believed of another one."""
        monkeypatch.setattr("app.transfer.chunk_map._BOOT_ID", Path("/nowhere/boot_id"))
        as_another_process = current_boot.__wrapped__
        assert as_another_process() != as_another_process()


class TestEntries:
    """The entries of a blob of more chunks than are read at once."""

    SIZE = 600 * CHUNK + 5

    @pytest.fixture
    def chunk_map(self, file: SharedFile) -> ChunkMap:
        """Return a map of which nothing has arrived."""
        chunk_map = ChunkMap(file, self.SIZE)
        chunk_map.create()
        return chunk_map

    def test_where_readable_bytes_end(self, chunk_map: ChunkMap) -> None:
        """At the first byte that has not arrived, or at the limit."""
        full = Entry(CHUNK, current_boot(), 0)
        chunk_map.write(0, [full] * 300)
        chunk_map.write(300, [Entry(7, current_boot(), 0)])
        chunk_map.write(301, [full] * 299)
        assert chunk_map.readable_end(0, 10**12) == 300 * CHUNK + 7
        assert chunk_map.readable_end(300 * CHUNK + 6, 10**12) == 300 * CHUNK + 7
        assert chunk_map.readable_end(300 * CHUNK + 9, 10**12) == 300 * CHUNK + 9
        assert chunk_map.readable_end(301 * CHUNK, 10**12) == 600 * CHUNK
        assert list(chunk_map.missing(range(601))) == [300, 600]
        assert chunk_map.count_arrived() == 599 * CHUNK + 7
        chunk_map.write(300, [full])
        assert chunk_map.readable_end(0, 10**12) == 600 * CHUNK
        assert chunk_map.readable_end(5, 100) == 100
        assert chunk_map.readable_end(600 * CHUNK, 10**12) == 600 * CHUNK
        assert chunk_map.readable_end(self.SIZE, 10**12) == self.SIZE
        assert list(chunk_map.missing(range(601))) == [600]
        assert chunk_map.count_arrived() == 600 * CHUNK

    def test_the_last_chunk_is_short(self, chunk_map: ChunkMap) -> None:
        """It is there when its few bytes are."""
        chunk_map.write(600, [Entry(5, current_boot(), 0)])
        assert list(chunk_map.missing(range(599, 601))) == [599]
        assert chunk_map.readable_end(600 * CHUNK, 10**12) == self.SIZE
        assert chunk_map.count_arrived() == 5

    def test_a_map_that_is_too_short(self, chunk_map: ChunkMap, file: SharedFile) -> None:
        """Entries that are not there are of nothing that has arrived."""
        chunk_map.write(0, [Entry(CHUNK, current_boot(), 0)] * 601)
        with file.borrow() as descriptor:
            os.truncate(descriptor, file.stat().st_size - 32)
        assert chunk_map.read(599, 5) == [Entry(), Entry()]
        assert chunk_map.readable_end(0, 10**12) == 599 * CHUNK


class TestLooks:
    """Readers and fetchers look often, also at blobs of 20 GiB, which have 40,960 chunks."""

    COUNT = 40_960
    SIZE = COUNT * CHUNK - 5

    @pytest.fixture
    def chunk_map(self, file: SharedFile) -> ChunkMap:
        """Return a map of which nothing has arrived."""
        chunk_map = ChunkMap(file, self.SIZE)
        chunk_map.create()
        return chunk_map

    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Return a list of how many bytes each read has asked for."""
        read = list[int]()
        pread = SharedFile.pread

        def count(file: SharedFile, count: int, offset: int) -> bytes:
            read.append(count)
            return pread(file, count, offset)

        monkeypatch.setattr(SharedFile, "pread", count)
        return read

    def look(self, chunk_map: ChunkMap, read: list[int]) -> tuple[int, int, list[int]]:
        """Look for what has arrived, and see that few entries are read for it."""
        read.clear()
        end = chunk_map.readable_end(0, self.SIZE)
        arrived = chunk_map.count_arrived()
        missing = list(chunk_map.missing(range(self.COUNT)))
        assert sum(read) <= 3 * 16 * 16
        return end, arrived, missing

    def test_near_the_end(self, chunk_map: ChunkMap, read: list[int]) -> None:
        """What was there at the last look is not read again, and what has come since is seen."""
        full = Entry(CHUNK, current_boot(), 0)
        last = self.COUNT - 1
        chunk_map.write(0, [full] * (last - 1))
        assert chunk_map.readable_end(0, self.SIZE) == (last - 1) * CHUNK
        before = (last - 1) * CHUNK
        assert self.look(chunk_map, read) == (before, before, [last - 1, last])
        chunk_map.write(last, [Entry(CHUNK - 6, current_boot(), 0)])
        assert self.look(chunk_map, read) == (before, before + CHUNK - 6, [last - 1, last])
        chunk_map.write(last, [Entry(CHUNK - 5, current_boot(), 0)])
        assert self.look(chunk_map, read) == (before, self.SIZE - CHUNK, [last - 1])
        chunk_map.write(last - 1, [full])
        assert self.look(chunk_map, read) == (self.SIZE, self.SIZE, [])
        assert self.look(chunk_map, read) == (self.SIZE, self.SIZE, [])
        assert read == []

    def test_behind_a_gap(self, chunk_map: ChunkMap, read: list[int]) -> None:
        """Neither is what has come after a chunk that is missing."""
        chunk_map.write(1, [Entry(CHUNK, current_boot(), 0)] * (self.COUNT - 2))
        chunk_map.write(self.COUNT - 1, [Entry(CHUNK - 5, current_boot(), 0)])
        assert chunk_map.readable_end(CHUNK, self.SIZE) == self.SIZE
        assert self.look(chunk_map, read) == (0, self.SIZE - CHUNK, [0])

    def test_an_earlier_boot(self, chunk_map: ChunkMap, read: list[int]) -> None:
        """Its chunks may be lost, so they are looked at until they have been checked."""
        old = Entry(CHUNK, current_boot() ^ 1, 0)
        chunk_map.write(0, [Entry(CHUNK, current_boot(), 0)] * (self.COUNT - 2))
        chunk_map.write(self.COUNT - 2, [old, Entry()])
        before = (self.COUNT - 2) * CHUNK
        assert chunk_map.readable_end(0, self.SIZE) == before
        chunk_map.write(self.COUNT - 2, [Entry()])
        assert self.look(chunk_map, read)[0] == before
        chunk_map.write(self.COUNT - 2, [old.trust()])
        assert self.look(chunk_map, read)[0] == before + CHUNK
