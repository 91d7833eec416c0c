"""The body of one response, read from a blob whose chunks are still arriving."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from app.oci.errors import RegistryError
from app.piece_size import BY_KERNEL, FROM_FILE, AdaptivePieceSize
from app.source import BodyBroken, Client, FileBody, Reply
from app.transfer.chunk_map import FetchState
from app.transfer.lease import Span
from app.transfer.partial_blob import PartialBlob
from app.transfer.readers import NOBODYS
from app.transfer.rest import parse_rest
from app.waiting import CLIENT_CHECK

_SHORTEST: Final = 0.005
_LONGEST: Final = 0.1
"""The least and most seconds between two looks at a file that another process fills."""


class ReaderOrigin(Protocol):
    """What a reader needs from the registry. The methods may raise RegistryError."""

    @property
    def only_verified(self) -> bool:
        """Whether the client must not get bytes that nobody has hashed."""

    def fetch_alone(self, span: Span) -> Reply:
        """Ask for bytes for this client alone."""

    def ensure_fetch(self, span: Span) -> None:
        """See to it that somebody fetches the bytes; raise OSError if the files fail."""

    def restart(self) -> "Reading | None":
        """Return another fetch of the blob, after the first one brought wrong bytes, or None."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A blob being fetched, where its bytes come from, and how to stop reading it."""

    blob: PartialBlob
    origin: ReaderOrigin
    release: Callable[[], None]


class _FileUnusable(Exception):
    """The file is of no more use; ask the registry for the rest, for this reader alone."""


class BlobBody(FileBody):
    """The bytes of a blob from `start` up to but not including `end`; reading raises BodyBroken.

    If these are all bytes of the blob, the last one is held back until the blob is verified. A part
    is given as the registry sent it, since whoever wants the end of a blob may not want the rest.
    If the origin wants `only_verified` bytes, all of them are held back. `later` are parts that
    will be selected afterwards, so that they are fetched meanwhile. The creator must close the
    body, whether it was read or not.
    """

    def __init__(
        self, reading: Reading, span: Span, client: Client | None, later: Sequence[Span] = ()
    ) -> None:
        self._reading = reading
        self.select(*span)
        self._later = later
        self._client = client
        self._has_sent = False
        self._has_restarted = False
        self._is_alone = False
        self._state = FetchState.RUNNING
        self._checked_at = time.monotonic()
        self._close_rest: Callable[[], None] | None = None
        self._closed = False
        self._register()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._iterate_file()
        except _FileUnusable:
            self._abandon_file()
            yield from self._iterate_registry()

    def send_next(self, send: Callable[[int, int, int], None]) -> int:
        """Wait for the next part, pass it to `send`, and return its size in bytes.

        `send` gets a descriptor, an offset and a count. Return 0 at the end, or if the file is of
        no more use; the caller then iterates over the rest. Raise BodyBroken, and what `send`
        raises.
        """
        try:
            while not self._is_complete():
                count = (
                    min(self._compute_readable_end(), self._position + BY_KERNEL) - self._position
                )
                if count > 0:
                    with _translate_errors():
                        self._reading.blob.prefetch(count, self._position)
                    self._reading.blob.send(send, self._position, count)
                    self._position += count
                    self._has_sent = True
                    return count
                self._wait()
        except _FileUnusable:
            self._abandon_file()
        return 0  # iterating asks the registry for the rest

    def close(self) -> None:
        """Stop reading, and close the registry's reply; may be called again, at any moment."""
        first, self._closed = not self._closed, True
        if self._close_rest is not None:
            self._close_rest()
        if first:
            self._leave()

    def select(self, start: int, end: int) -> None:
        """Go on with the bytes from `start` up to but not including `end`."""
        self._position, self._end, self._available = start, end, 0
        self._is_whole = (start, end) == (0, self._reading.blob.size)

    # For a body that nobody reads yet.

    def prefetch(self) -> None:
        """See to it that somebody fetches the bytes, before they are read."""
        with suppress(OSError):
            self._reading.origin.ensure_fetch((self._position, self._end))

    def select_all(self) -> None:
        """Go on with the whole blob."""
        self.select(0, self._reading.blob.size)

    def is_running(self) -> bool:
        """Return whether the blob is still being fetched."""
        try:
            return self._reading.blob.read_state() is FetchState.RUNNING
        except OSError:
            return False

    def has_other_readers(self) -> bool:
        """Return whether a client reads the blob, in any process."""
        with suppress(OSError):
            return self._reading.blob.readers.is_other(NOBODYS)
        return False

    def _register(self) -> None:
        self._reading.blob.register_needs(self, lambda: [(self._position, self._end), *self._later])

    def _abandon_file(self) -> None:
        """Let nobody fetch for this reader any more, since it asks the registry alone."""
        self._is_alone = True
        self._leave()

    def _leave(self) -> None:
        self._reading.blob.unregister_needs(self)
        self._reading.release()

    def _iterate_file(self) -> Iterator[bytes]:
        pace = AdaptivePieceSize(FROM_FILE)
        while not self._is_complete():
            wanted = self._compute_readable_end() - self._position
            if wanted <= 0:
                self._wait()
                continue
            data = self._read(min(wanted, pace.size))
            self._position += len(data)
            self._has_sent = True
            pace.record_handed()
            yield data
            pace.record_taken(len(data))

    def _is_complete(self) -> bool:
        """Return whether all is read; raise _FileUnusable if the rest is for the registry."""
        # Even the end of an empty blob waits until the blob is verified to be empty.
        waits = self._is_whole and self._state is not FetchState.VERIFIED
        if self._position >= self._end and not waits:
            return True
        if self._is_alone:
            raise _FileUnusable
        return False

    def _compute_readable_end(self) -> int:
        if self._state is FetchState.VERIFIED:
            return self._end
        if self._reading.origin.only_verified:
            return self._position
        return min(self._available, self._end - self._is_whole)

    def _read(self, count: int) -> bytes:
        with _translate_errors():
            data = self._reading.blob.read(count, self._position)
        if not data:
            raise _FileUnusable
        return data

    def _wait(self) -> None:
        """Wait until there may be more.

        Raise BodyBroken or _FileUnusable if there never will be.
        """
        pause, known = _SHORTEST, self._available
        while not self._update_state() and self._available <= max(known, self._position):
            with _translate_errors():
                self._reading.origin.ensure_fetch((self._position, self._end))
                # At the end of the part nothing more can be read, and the wait is for the digest.
                at = max(self._position, self._available)
                self._available = self._reading.blob.wait(at, self._end, pause)
            pause = min(2 * pause, _LONGEST)
            self._check_client()

    def _update_state(self) -> bool:
        """Read the state, and return whether the blob is verified.

        Raise BodyBroken or _FileUnusable if the blob cannot be completed from this file.
        """
        if self._closed:
            message = "it was closed"
            raise BodyBroken(message)
        with _translate_errors():
            self._state = self._reading.blob.read_state()
        if self._state is FetchState.MISMATCHED:
            self._restart()
        if self._state is FetchState.GIVEN_UP:
            raise _FileUnusable
        return self._state is FetchState.VERIFIED

    def _restart(self) -> None:
        """Read from another fetch, once, if the client has nothing yet; raise BodyBroken if not."""
        may_restart = not self._has_sent and not self._has_restarted
        reading = self._reading.origin.restart() if may_restart else None
        if reading is None:
            message = "the digest is wrong"
            raise BodyBroken(message)
        self._has_restarted = True
        self._leave()
        self._reading, self._available = reading, 0
        self._state = FetchState.RUNNING
        self._register()
        if self._closed:
            self._leave()

    def _check_client(self) -> None:
        now = time.monotonic()
        if self._client is not None and now - self._checked_at > CLIENT_CHECK:
            self._checked_at = now
            if self._client.is_gone():
                message = "the client left"
                raise BodyBroken(message)

    def _iterate_registry(self) -> Iterator[bytes]:
        if self._closed or self._position >= self._end or self._reading.origin.only_verified:
            message = "it cannot be verified any more"
            raise BodyBroken(message)
        try:
            reply = self._reading.origin.fetch_alone((self._position, self._end))
        except RegistryError as error:
            raise BodyBroken(str(error)) from error
        rest = parse_rest(reply, self._position, self._reading.blob.size)
        if rest is None:
            message = "the registry does not go on"
            raise BodyBroken(message)
        self._close_rest = rest.close
        try:
            for data in rest.iterate_wanted():
                piece = data[: self._end - self._position]
                self._position += len(piece)
                if piece:
                    yield piece
                if self._position >= self._end:
                    return
        finally:
            rest.close()
        message = "the registry sent too little"
        raise BodyBroken(message)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate OSError to _FileUnusable, except the registry's own failure."""
    try:
        yield
    except BodyBroken:
        raise
    except OSError as error:
        raise _FileUnusable from error
