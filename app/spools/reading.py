"""The body of one response, read from a growing spool."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from app.oci.errors import RegistryError
from app.piece_size import BY_KERNEL, FROM_FILE, AdaptivePieceSize
from app.source import BodyBroken, Client, FileBody, do_nothing
from app.spools.fetches import Spool
from app.spools.files import FetchState
from app.spools.filling import RemainingBody, RestFetcher, parse_rest, start_fetch_thread
from app.spools.lead import FetchLease
from app.waiting import CLIENT_CHECK

_SHORTEST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
"""The least and most seconds between two looks at a file that another process fills."""

_MAX_FAILURES: Final = 3
"""Fetchers in a row that bring no bytes, after which readers stop taking over."""


class _SpoolUnusable(Exception):
    """The file is of no more use; ask the registry for the rest, for this reader alone."""


class SpoolBody(FileBody):
    """The bytes of a blob from `start` up to but not including `end`; reading raises BodyBroken.

    The last byte of the blob is held back until the whole blob is verified. Its creator must
    close it, whether it was read or not; that closes the spool.
    """

    def __init__(
        self, spool: Spool, start: int, end: int, fetcher: RestFetcher, client: Client | None = None
    ) -> None:
        self._spool = spool
        self._position = start
        self._from_first = start == 0
        self._end = end
        self._fetcher = fetcher
        self._client = client
        self._available = 0
        self._state = FetchState.RUNNING
        self._checked_at = time.monotonic()
        self._close_rest: Callable[[], None] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._iterate_file()
        except _SpoolUnusable:
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
                    min(self._compute_readable_end(), self._end, self._position + BY_KERNEL)
                    - self._position
                )
                if count > 0:
                    with _translate_errors():
                        self._spool.prefetch(count, self._position)
                    self._spool.send(send, self._position, count)
                    self._position += count
                    return count
                self._wait()
        except _SpoolUnusable:
            pass  # iterating raises it again, and asks the registry
        return 0

    def close(self) -> None:
        """Close the spool and the registry's reply; may be called again, at any moment."""
        self._closed = True
        self._spool.close()
        if self._close_rest is not None:
            self._close_rest()

    def _iterate_file(self) -> Iterator[bytes]:
        pieces = AdaptivePieceSize(FROM_FILE)
        while not self._is_complete():
            count = min(self._compute_readable_end(), self._end) - self._position
            if count <= 0:
                self._wait()
                continue
            data = self._read(min(count, pieces.size))
            self._position += len(data)
            pieces.record_handed()
            yield data
            pieces.record_taken(len(data))

    def _is_complete(self) -> bool:
        if self._position < self._end:
            return False
        # Even the end of an empty blob waits until the blob is verified to be empty.
        return self._end < self._spool.size or self._state is FetchState.VERIFIED

    def _compute_readable_end(self) -> int:
        held_back_bytes = 0 if self._state is FetchState.VERIFIED else 1
        return min(self._available, self._spool.size - held_back_bytes)

    def _read(self, count: int) -> bytes:
        with _translate_errors():
            data = self._spool.read(count, self._position)
        if not data:
            raise _SpoolUnusable
        return data

    def _wait(self) -> None:
        """Wait until more bytes may have arrived.

        Raise BodyBroken or _SpoolUnusable if none can arrive any more.
        """
        pause, waited_seconds = _SHORTEST_PAUSE, 0.0
        known_size = self._available
        while not self._update_state() and self._available <= known_size:
            if waited_seconds and self._try_take_over():
                continue
            with _translate_errors():
                self._available = self._spool.wait(known_size, pause)
            waited_seconds += pause
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._check_client()

    def _update_state(self) -> bool:
        """Read the state, and return whether the blob is verified.

        Raise BodyBroken or _SpoolUnusable if the blob cannot be completed from this spool.
        """
        if self._closed:
            message = "the body was closed"
            raise BodyBroken(message)
        with _translate_errors():
            self._state = self._spool.state
        if self._state is FetchState.MISMATCHED:
            message = "the digest is wrong"
            raise BodyBroken(message)
        if self._state is FetchState.GIVEN_UP:
            raise _SpoolUnusable
        if self._state is not FetchState.VERIFIED:
            return False
        self._available = self._spool.size
        return True

    def _check_client(self) -> None:
        now = time.monotonic()
        if self._client is not None and now - self._checked_at > CLIENT_CHECK:
            self._checked_at = now
            if self._client.is_gone():
                message = "the client left"
                raise BodyBroken(message)

    def _try_take_over(self) -> bool:
        """Take the fetch over if its fetcher has died, and return whether we did.

        Raise BodyBroken if the registry does not continue the blob, and _SpoolUnusable if the file
        fails.
        """
        with _translate_errors():
            lead = self._spool.try_take_over()
        if lead is None:
            return False
        if lead.record.failures >= _MAX_FAILURES:
            lead.release()
            message = "the registry broke off"
            raise BodyBroken(message)
        rest = self._fetch_rest(lead)
        is_whole = self._from_first and self._end == self._spool.size
        start_fetch_thread(lead, rest, self._fetcher, is_whole=is_whole)
        return True

    def _fetch_rest(self, lead: FetchLease) -> RemainingBody:
        try:
            if lead.offset == self._spool.size:
                return RemainingBody((), do_nothing)
            rest = parse_rest(self._fetcher.fetch_rest(lead.offset), lead.offset, self._spool.size)
        except RegistryError as error:
            lead.fail(lead.offset)
            raise BodyBroken(str(error)) from error
        except BaseException:
            lead.release()
            raise
        if rest is None:
            lead.release()
            message = "the registry does not continue the blob"
            raise BodyBroken(message)
        return rest

    def _iterate_registry(self) -> Iterator[bytes]:
        self._spool.close()
        is_whole = self._from_first and self._end == self._spool.size
        must_be_verified = is_whole and self._fetcher.only_verified
        if self._closed or self._position >= self._end or must_be_verified:
            message = "the blob cannot be verified any more"
            raise BodyBroken(message)
        try:
            reply = self._fetcher.fetch_range(self._position, self._end)
        except RegistryError as error:
            raise BodyBroken(str(error)) from error
        rest = parse_rest(reply, self._position, self._spool.size)
        if rest is None:
            message = "the registry does not continue the blob"
            raise BodyBroken(message)
        self._close_rest = rest.close
        for data in rest.iterate_wanted():
            piece = data[: self._end - self._position]
            self._position += len(piece)
            if piece:
                yield piece
            if self._position >= self._end:
                return
        message = "the registry sent too little"
        raise BodyBroken(message)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate OSError to _SpoolUnusable."""
    try:
        yield
    except OSError as error:
        raise _SpoolUnusable from error
