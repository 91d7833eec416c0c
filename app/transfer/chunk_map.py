"""The chunk map: which bytes of a blob are already in its file.

It is a file beside the blob's bytes, and all processes of a machine share it. Its head is a small
JSON object of constant size. After it come the facts of shared_facts.py, and one entry for each
chunk: how many of the chunk's bytes have arrived, from its start on, and their checksum.

Whoever writes bytes writes them first and their entry afterwards. So every byte that an entry
counts is in the file as other processes see it, even if the writer has been killed in between. Only
a crash of the whole machine can lose bytes and keep their entry. Entries therefore name the boot
that they were written in, and those of an earlier boot count for nothing until the checksum has
been compared (`Entry.is_trusted`).
"""

import json
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_intdigest

from app.transfer.shared_file import SharedFile, write_at

CHUNK: Final = 512 * 1024
"""Bytes of a chunk; the last one of a blob may be shorter.

It is what a request for one byte costs upstream, so it is small; a request for more covers many
chunks. Many layers are smaller than this, and come whole with their first chunk."""

_HEAD_LENGTH: Final = 1024
"""The constant size of the head in bytes, so that overwriting it needs no room on a full disk."""

FACTS_OFFSET: Final = _HEAD_LENGTH
_ENTRIES_OFFSET: Final = 12 * 1024
"""Where the facts of shared_facts.py begin, and where the entries do."""

_ENTRY: Final = struct.Struct("<IIQ")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_FIRST_SCAN: Final = 16
_SCAN: Final = 256
"""Entries that are read at once: a few, because most looks end there, and then more."""


class FetchState(StrEnum):
    """The state of a fetch."""

    REQUESTED = "requested"
    """The registry has not answered yet, so the size is unknown."""
    RUNNING = "running"
    VERIFIED = "verified"
    """All bytes are there, and they match the digest."""
    MISMATCHED = "mismatched"
    """All bytes were there, but they do not match the digest."""
    GIVEN_UP = "given up"
    """The disk could not take the bytes. Readers continue without the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a chunk map.

    `size` is the size of the whole blob in bytes. `inode` distinguishes the data file from another
    one of the same name. `single` says that the blob is to be fetched in one stream, because chunks
    from several did not match its digest before.
    """

    state: FetchState = FetchState.REQUESTED
    size: int = 0
    inode: int = 0
    single: bool = False


def write_head(file: SharedFile, head: Head) -> None:
    """Overwrite the head; raise OSError."""
    fields = asdict(head) | {"boot": current_boot()}
    write_at(file, json.dumps(fields).encode().ljust(_HEAD_LENGTH), 0)


def read_head(file: SharedFile) -> Head | None:
    """Return the head; an empty file gives a new one. Raise OSError.

    Return None if the head cannot be parsed, perhaps because it is being written. A blob that was
    verified in an earlier boot counts as running, because its bytes may not have reached the disk.
    """
    data = file.pread(_HEAD_LENGTH, 0)
    return _parse_head(data, current_boot()) if data else Head()


@lru_cache(maxsize=64)
def _parse_head(data: bytes, this_boot: int) -> Head | None:
    # Cached, since a reader looks a thousand times for each GiB and hardly ever finds a new head.
    try:
        fields = json.loads(data)
        boot = fields.pop("boot", 0)
        head = Head(**fields | {"state": FetchState(fields["state"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if head.state is FetchState.VERIFIED and boot != this_boot:
        return replace(head, state=FetchState.RUNNING)
    return head


@cache
def current_boot() -> int:
    """Return a number that differs, in all likelihood, from that of every other boot; never 0.

    Without a boot id, each process is a boot of its own: no other one trusts its entries before the
    checksum has been compared, and so none trusts those of before a crash.
    """
    try:
        text = _BOOT_ID.read_bytes()
    except OSError:
        text = secrets.token_bytes(16)
    return zlib.crc32(text) or 1


@dataclass(frozen=True, slots=True)
class Entry:
    """The state of one chunk.

    `arrived` counts the bytes that are in the file, from the start of the chunk on, and `checksum`
    is their XXH3 (64 bits). `boot` is the boot that wrote the entry.
    """

    arrived: int = 0
    boot: int = 0
    checksum: int = 0

    @property
    def is_trusted(self) -> bool:
        """Whether the bytes are known to be in the file: this boot wrote the entry."""
        return self.boot == current_boot()

    @property
    def readable(self) -> int:
        """How many bytes of the chunk may be read."""
        return self.arrived if self.is_trusted else 0

    def matches(self, data: bytes) -> bool:
        """Return whether `data`, read from the file, is what was written."""
        return len(data) == self.arrived and xxh3_64_intdigest(data) == self.checksum

    def trust(self) -> "Entry":
        """Return the entry as one of this boot, after its checksum has been compared."""
        return replace(self, boot=current_boot())


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a blob of `size` bytes."""

    size: int

    @property
    def count(self) -> int:
        """The number of chunks; 0 for an empty blob."""
        return -(-self.size // CHUNK)

    def length(self, index: int) -> int:
        """Return the bytes of a chunk; only the last one may have less than `CHUNK`."""
        return min(CHUNK, self.size - index * CHUNK)

    def covering(self, start: int, end: int) -> range:
        """Return the indexes of the chunks that have any of the bytes `start` to `end`."""
        return range(start // CHUNK, -(-min(end, self.size) // CHUNK))


class ChunkMap:
    """The entries of a blob's chunks, in an open file. Every method may raise OSError.

    A chunk that can be read whole stays so while its file is open. So the entry of one that has
    been seen whole is not read again when somebody looks for what has arrived.
    """

    def __init__(self, file: SharedFile, size: int) -> None:
        self.chunks = Chunks(size)
        self._file = file
        self._whole = bytearray(self.chunks.count)
        """1 for each chunk that has been seen whole, 0 for the others."""

    def create(self) -> None:
        """Write an entry for each chunk, so that changing one needs no room on a full disk."""
        write_at(self._file, bytes(_ENTRY.size * self.chunks.count), _ENTRIES_OFFSET)

    def read(self, first: int, count: int = 1) -> list[Entry]:
        """Return the entries of `count` chunks; fewer if there are not so many."""
        count = max(0, min(count, self.chunks.count - first))
        data = self._file.pread(count * _ENTRY.size, self._offset(first))
        whole = len(data) - len(data) % _ENTRY.size
        found = [Entry(*fields) for fields in _ENTRY.iter_unpack(data[:whole])]
        return found + [Entry()] * (count - len(found))

    def write(self, first: int, entries: Sequence[Entry]) -> None:
        """Overwrite the entries of chunks in a row. Their bytes must be in the file already."""
        data = b"".join(_ENTRY.pack(one.arrived, one.boot, one.checksum) for one in entries)
        write_at(self._file, data, self._offset(first))

    def readable_end(self, offset: int, limit: int) -> int:
        """Return where the bytes that can be read from `offset` on end; `limit` at most."""
        limit = min(limit, self.chunks.size)
        if offset >= limit:
            return offset
        for index, readable in self._scan(self.chunks.covering(offset, limit)):
            if readable < self.chunks.length(index):
                return max(offset, min(limit, index * CHUNK + readable))
        return limit

    def missing(self, chunks: range) -> Iterator[int]:
        """Yield the indexes of those of the chunks whose bytes are not all readable."""
        for index, readable in self._scan(chunks):
            if readable < self.chunks.length(index):
                yield index

    def count_arrived(self) -> int:
        """Return how many bytes of the blob can be read."""
        parts = sum(
            readable
            for index, readable in self._scan(range(self.chunks.count), skip_empty=True)
            if not self._whole[index]
        )
        lacking = self.chunks.count * CHUNK - self.chunks.size if self._whole[-1:] == b"\1" else 0
        return parts + self._whole.count(1) * CHUNK - lacking

    def _scan(self, chunks: range, *, skip_empty: bool = False) -> Iterator[tuple[int, int]]:
        """Yield the index of each chunk, and how many of its bytes may be read.

        Chunks that have been seen whole may be left out, and so may empty ones with `skip_empty`.
        """
        # Without an Entry for each: a reader looks a thousand times for each GiB.
        boot, index, count = current_boot(), chunks.start, _FIRST_SCAN
        while (index := self._whole.find(0, index, chunks.stop)) >= 0:
            count = min(count, chunks.stop - index)
            data = self._file.pread(count * _ENTRY.size, self._offset(index))
            data = data.ljust(count * _ENTRY.size, b"\0")
            if skip_empty and not data.strip(b"\0"):
                data, index = b"", index + count
            for arrived, written_in, _ in _ENTRY.iter_unpack(data):
                readable = arrived if written_in == boot else 0
                if readable and readable == self.chunks.length(index):
                    self._whole[index] = 1
                yield index, readable
                index += 1
            count = _SCAN

    def _offset(self, index: int) -> int:
        return _ENTRIES_OFFSET + index * _ENTRY.size
