"""Leases: the right to write some chunks of a blob, for one fetcher at a time.

Two fetchers never write the same chunk. Within a process a set of leased chunks ensures that, and
between processes a lock on one byte of the map for each chunk, which ends with its process.
"""

import threading
from collections.abc import Iterable
from typing import Final

from xxhash import xxh3_64

from app.threads import NativeThreadPool
from app.transfer.chunk_map import CHUNK, ChunkMap, Entry, current_boot
from app.transfer.files import Claim, Files
from app.transfer.shared_file import write_at

_THREADS: Final = NativeThreadPool(4)

Span = tuple[int, int]
"""The bytes from the first number up to but not including the second."""


class Lease:
    """The right to write the bytes from `position` up to `end`, in order.

    Several leases may be written at the same time, each by one fetcher. The holder must close it.
    """

    def __init__(self, leases: "Leases", chunks: range, position: int) -> None:
        self._leases = leases
        self._chunks = chunks
        self.position = position
        """The offset of the next byte to write."""
        # The checksum of the chunk that is being written, and how much of it is in the file.
        self._checksum = xxh3_64()
        self._in_chunk = position % CHUNK
        if self._in_chunk:
            self._checksum.update(
                leases.files.data.pread(self._in_chunk, position - self._in_chunk)
            )

    @property
    def end(self) -> int:
        """The offset after the last byte that the lease covers."""
        return min(self._chunks.stop * CHUNK, self._leases.map.chunks.size)

    @property
    def remaining(self) -> int:
        """The number of bytes that are still to be written."""
        return self.end - self.position

    def write(self, pieces: Iterable[bytes | bytearray]) -> None:
        """Write the next bytes, and then enter them into the map; raise OSError.

        Waits for the disk, so call it on a real thread. Bytes after `end` must not be given.
        """
        self._leases.check_file()
        first, entries = self.position // CHUNK, list[Entry]()
        for piece in pieces:
            write_at(self._leases.files.data, piece, self.position)
            view = memoryview(piece)
            while view:
                room = self._leases.map.chunks.length(self.position // CHUNK) - self._in_chunk
                part, view = view[:room], view[room:]
                self._checksum.update(part)
                self._in_chunk += len(part)
                self.position += len(part)
                if len(part) == room:
                    entries.append(self._build_entry())
                    self._checksum.reset()
                    self._in_chunk = 0
        if self._in_chunk:
            entries.append(self._build_entry())
        self._leases.map.write(first, entries)

    def _build_entry(self) -> Entry:
        return Entry(self._in_chunk, current_boot(), self._checksum.intdigest())

    def extend(self) -> bool:
        """Take the next chunk too, if it is missing and nobody has it; return whether it was."""
        following = self._leases.try_take(self._chunks.stop)
        if following:
            self._chunks = range(self._chunks.start, self._chunks.stop + 1)
        return following

    def close(self) -> None:
        """Give back what is not written; may be called again."""
        chunks, self._chunks = self._chunks, range(self._chunks.stop, self._chunks.stop)
        self._leases.give_back(chunks)


class Leases:
    """The leases of one blob's chunks that this process holds, and those it can get."""

    def __init__(self, files: Files, chunk_map: ChunkMap) -> None:
        self.files = files
        self.map = chunk_map
        self._lock = threading.Lock()
        self._held: set[int] = set()

    def acquire(self, wanted: Iterable[Span], most: int) -> Lease | None:
        """Return a lease of the first missing bytes that nobody else fetches, `most` at most.

        `wanted` are bytes in the order in which they are needed. Return None if all of them are
        there or being fetched. Raise OSError.
        """
        for start, end in wanted:
            begin = start
            while chunks := self._take_first(self.map.chunks.covering(begin, end), most):
                position, kept = _THREADS.submit(self._recheck, chunks).result()
                self.give_back(range(kept.stop, chunks.stop))
                if position < min(kept.stop * CHUNK, self.map.chunks.size):
                    return Lease(self, kept, position)
                self.give_back(kept)
                begin = kept.stop * CHUNK
        return None

    def is_taken(self, index: int) -> bool:
        """Return whether somebody has the lease of a chunk, in any process; raise OSError."""
        return index in self._held or self.files.is_claimed(Claim.CHUNKS, index)

    def try_take(self, index: int) -> bool:
        """Lock a chunk that is missing, if nobody has it; return whether it was. Raise OSError."""
        with self._lock:
            if index in self._held or index >= self.map.chunks.count:
                return False
            if not self.files.claim(Claim.CHUNKS, index):
                return False
            # Another process may have written it before it was locked.
            if self.map.read(index)[0].arrived:
                self.files.release(Claim.CHUNKS, index)
                return False
            self._held.add(index)
            return True

    def give_back(self, chunks: range) -> None:
        """Unlock chunks that this process has locked."""
        if not chunks:
            return
        with self._lock:
            self._held.difference_update(chunks)
            self.files.release(Claim.CHUNKS, chunks.start, len(chunks))

    def check_file(self) -> None:
        """Raise OSError if somebody else has changed the size of the file."""
        if self.files.data.stat().st_size != self.map.chunks.size:
            message = "the file was changed by somebody else"
            raise OSError(message)

    def _take_first(self, chunks: range, most: int) -> range | None:
        """Lock the first chunks in a row that are missing and that nobody has."""
        taken: range | None = None
        with self._lock:
            for index in self.map.missing(chunks):
                if taken is not None and (index != taken.stop or len(taken) * CHUNK >= most):
                    break
                if index not in self._held and self.files.claim(Claim.CHUNKS, index):
                    taken = range(index if taken is None else taken.start, index + 1)
                elif taken is not None:
                    break
            self._held.update(taken or ())
        return taken

    def _recheck(self, chunks: range) -> tuple[int, range]:
        """Return the first missing byte of locked chunks, and those of them that are to be written.

        Bytes of an earlier boot count if they have their checksum. Waits for the disk.
        """
        position: int | None = None
        for index, entry in enumerate(self.map.read(chunks.start, len(chunks)), chunks.start):
            arrived = self._confirm(index, entry)
            if position is None:
                if arrived < self.map.chunks.length(index):
                    position = index * CHUNK + arrived
            elif arrived:
                return position, range(chunks.start, index)
        if position is None:
            position = min(chunks.stop * CHUNK, self.map.chunks.size)
        return position, chunks

    def _confirm(self, index: int, entry: Entry) -> int:
        """Return how many bytes of a chunk are in the file; correct its entry."""
        if not entry.arrived or entry.is_trusted:
            return entry.arrived
        data = self.files.data.pread(entry.arrived, index * CHUNK)
        confirmed = entry.trust() if entry.matches(data) else Entry()
        self.map.write(index, [confirmed])
        return confirmed.arrived
