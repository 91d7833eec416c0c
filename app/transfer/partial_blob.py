"""A blob of which only some chunks may have arrived, as this process sees it.

All its readers and fetchers in the process share one `PartialBlob`. Other processes have their own
over the same files.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from app.oci.reference import Digest
from app.source import Place
from app.threads import NativeThreadPool
from app.transfer import files as transfer_files
from app.transfer import shared_facts
from app.transfer.chunk_map import CHUNK, ChunkMap, FetchState, Head, read_head, write_head
from app.transfer.files import Files, Paths
from app.transfer.lease import Lease, Leases, Span
from app.transfer.readers import Readers
from app.transfer.shared_facts import Confirmations
from app.transfer.verification import Verifier
from app.transfer.writing import GatheringWriter

_THREADS: Final = NativeThreadPool(4)


class PartialBlob:
    """The files of a fetch, its leases, its readers, and those who wait for more bytes.

    A method raises OSError if the files fail, which `close` causes too.
    """

    def __init__(self, digest: Digest, paths: Paths, files: Files) -> None:
        self.digest = digest
        self.paths = paths
        self._files = files
        self._head = files.head
        self.size = files.head.size
        """The size of the whole blob in bytes."""
        self._map = ChunkMap(files.map, self.size)
        self.leases = Leases(files, self._map)
        self.readers = Readers(files)
        self.verifier = Verifier(digest, files, self._map)
        self._condition = threading.Condition(threading.Lock())
        self._needs: dict[object, Callable[[], Sequence[Span]]] = {}

    @property
    def inode(self) -> int:
        """The data file's inode number, which identifies this fetch among those of the blob."""
        return self._head.inode

    @property
    def is_single(self) -> bool:
        """Whether the blob is to be fetched in one stream."""
        return self._head.single

    def read_state(self) -> FetchState:
        """Return the state of the fetch, which another process may have changed."""
        if self._head.state is FetchState.RUNNING:
            # A head that is being written gives the earlier one.
            self._head = read_head(self._files.map) or self._head
        return self._head.state

    # What readers need.

    def readable_end(self, offset: int, limit: int) -> int:
        """Return where the bytes that can be read from `offset` on end; `limit` at most."""
        return self._map.readable_end(offset, limit)

    def read(self, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from `offset`, which must be readable."""
        return self._files.data.read(count, offset)

    def prefetch(self, count: int, offset: int) -> None:
        """Bring readable bytes into memory."""
        self._files.data.prefetch(count, offset)

    def send(self, send: Callable[[int, int, int], None], offset: int, count: int) -> None:
        """Pass readable bytes to `send`, by descriptor, offset and count.

        Raise BodyBroken if the file fails, and what `send` raises.
        """
        self._files.data.send(send, offset, count)

    def wait(self, offset: int, limit: int, seconds: float) -> int:
        """Wait until the byte at `offset` can be read; return where readable bytes end.

        Wait for at most `seconds`. Other processes do not notify this one, so the map is examined
        again when the time is over.
        """
        with self._condition:
            if self.readable_end(offset, limit) <= offset:
                self._condition.wait(seconds)
        return self.readable_end(offset, limit)

    def wake(self) -> None:
        """Wake those who wait, so that they look again."""
        with self._condition:
            self._condition.notify_all()

    # What the workers of this machine tell each other.

    def read_place(self) -> Place | None:
        """Return where the registry's redirects have led, or None if that is not known."""
        return shared_facts.read_place(self._files.map)

    def write_place(self, place: Place | None) -> None:
        """Tell the other workers where the registry's redirects have led."""
        shared_facts.write_place(self._files.map, place)

    @property
    def confirmations(self) -> Confirmations:
        """Whom the registry has let read the blob."""
        return Confirmations(self._files.map)

    # What fetchers need.

    def register_needs(self, reader: object, needs: Callable[[], Sequence[Span]]) -> None:
        """Let `needs` tell which bytes a reader still needs, in order, until `unregister_needs`."""
        self._needs[reader] = needs

    def unregister_needs(self, reader: object) -> None:
        """Forget what a reader needs."""
        self._needs.pop(reader, None)

    def list_needs(self, ahead: int) -> list[Span]:
        """Return the bytes that readers of this process lack, in order of need.

        First comes the reader who has the least to read before it must wait. What is more than
        `ahead` bytes ahead of a reader is not needed yet.
        """
        lacking: list[tuple[int, Span]] = []
        for needs in list(self._needs.values()):
            distance = 0
            for start, end in needs():
                missing = self.readable_end(start, end)
                distance += missing - start
                limit = min(end, missing + ahead - distance)
                if missing < limit:
                    lacking.append((distance, (missing, limit)))
                distance += end - missing
                if distance >= ahead:
                    break
        return [span for _, span in sorted(lacking)]

    def find_needed_end(self, offset: int, ahead: int) -> int:
        """Return where the bytes from `offset` on end that a reader needs; `offset` if none does.

        `ahead` is as in `list_needs`.
        """
        needs = self.list_needs(ahead)
        return max((end for start, end in needs if start <= offset < end), default=offset)

    def is_needed_elsewhere(self, offset: int, ahead: int) -> bool:
        """Return whether nobody fetches what is needed first, and that does not begin at `offset`.

        `ahead` is as in `list_needs`.
        """
        for start, end in self.list_needs(ahead)[:1]:
            missing = self.readable_end(start, end)  # bytes may have arrived since
            return missing not in {offset, end} and not self.leases.is_taken(missing // CHUNK)
        return False

    def needs_fetcher(self, span: Span) -> bool:
        """Return whether the first of these bytes that is missing is fetched by nobody."""
        start, end = span
        missing = self.readable_end(start, end)
        return missing < min(end, self.size) and not self.leases.is_taken(missing // CHUNK)

    def find_missing_end(self, offset: int, limit: int) -> int:
        """Return where the chunks from `offset` on end that are all missing; `limit` at most.

        `offset` is where a chunk begins.
        """
        end = offset
        for index in self._map.missing(self._map.chunks.covering(offset, limit)):
            if index * CHUNK != end:
                break
            end += self._map.chunks.length(index)
        return min(end, max(offset, limit))

    def acquire_lease(self, wanted: Iterable[Span], most: int) -> Lease | None:
        """Return a lease of the first missing bytes that nobody else fetches, `most` at most."""
        return self.leases.acquire(wanted, most)

    def build_writer(self, lease: Lease) -> GatheringWriter:
        """Return the writer of a lease, which hashes in passing what can be hashed already."""

        def write(pieces: list[bytes | bytearray]) -> None:
            offset = lease.position
            lease.write(pieces)
            for piece in pieces:
                self.verifier.feed(offset, piece)
                offset += len(piece)

        return GatheringWriter(write, self.wake)

    @property
    def is_complete(self) -> bool:
        """Whether all bytes have arrived; they may not have been verified yet."""
        return self._map.readable_end(0, self.size) == self.size

    def count_arrived(self) -> int:
        """Return how many bytes of the blob have arrived."""
        return self._map.count_arrived()

    def record(self, state: FetchState) -> None:
        """Record a state, which all processes read, and wake our readers."""
        self._set_head(replace(self._head, state=state))

    def _set_head(self, head: Head) -> None:
        self._head = head
        try:
            self.run_on_thread(write_head, self._files.map, head)
        finally:
            self.wake()

    def discard(self, state: FetchState, *, fetch_single: bool = False) -> None:
        """Record why the fetch ends for good, and remove its files.

        `fetch_single` leaves a mark that the next fetch is to be in one stream.
        """
        try:
            # Readers look for the next fetch as soon as they know the state.
            self.run_on_thread(transfer_files.remove, self._files, self.paths)
            if fetch_single:
                self.run_on_thread(transfer_files.mark_single, self.paths)
        finally:
            self.record(state)

    def has_same_files(self) -> bool:
        """Return whether both files are still at their paths. Waits for the disk."""
        return transfer_files.are_same_files(self._files, self.paths)

    def remove(self) -> None:
        """Unlink the files, unless others have taken their place."""
        self.run_on_thread(transfer_files.remove, self._files, self.paths)

    def run_on_thread(self, work: Callable[..., object], *args: object) -> Any:  # noqa: ANN401 - whatever it gives
        """Run work that waits for the disk on a real thread; return or raise what it does."""
        return _THREADS.submit(work, *args).result()

    def close(self) -> None:
        """Close the files."""
        with suppress(OSError):
            self._files.close()
