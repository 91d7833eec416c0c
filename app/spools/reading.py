"""The body of one response, read from a growing spool."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from app.oci.errors import RegistryError
from app.source import BodyBroken, Client, FileBody
from app.spools.chunk_size import WINDOW, Pace
from app.spools.filling import fill
from app.spools.lead import Lead
from app.spools.record import State
from app.spools.resuming import Ask, Rest, rest_of
from app.spools.shared import Spool

_SHORTEST: Final = 0.005
_LONGEST: Final = 0.1
"""The least and most seconds between two looks at a file that another process fills."""

_CLIENT_CHECK: Final = 0.25
"""Seconds between two checks whether the waiting client has left."""
_MOST_FAILURES: Final = 3
"""Fetchers in a row that bring no bytes, after which readers stop taking over."""


class _Alone(Exception):
    """The file is of no more use; ask the registry for the rest, for this reader alone."""


class Reading(FileBody):
    """The bytes of a blob from `start` up to but not including `end`; reading raises BodyBroken.

    The last byte of the blob is held back until the whole blob is verified. The creator must close
    the reading, whether it was read or not; that closes the spool.
    """

    def __init__(
        self, spool: Spool, start: int, end: int, ask: Ask, client: Client | None = None
    ) -> None:
        self._spool = spool
        self._position = start
        self._from_first = start == 0
        self._end = end
        self._ask = ask
        self._client = client
        self._length = 0
        self._state = State.RUNNING
        self._checked = time.monotonic()
        self._close_rest: Callable[[], None] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._from_file()
        except _Alone:
            yield from self._from_registry()

    def sent_by(self, send: Callable[[int, int, int], None]) -> int:
        """Wait for the next part, pass it to `send`, and return its size in bytes.

        `send` gets a descriptor, an offset and a count. Return 0 at the end, or if the file is of
        no more use; the caller then iterates over the rest. Raise BodyBroken, and what `send`
        raises.
        """
        try:
            while not self._is_complete():
                count = min(self._readable(), self._end, self._position + WINDOW) - self._position
                if count > 0:
                    with _on_file():
                        self._spool.fetch(count, self._position)
                    self._spool.send(send, self._position, count)
                    self._position += count
                    return count
                self._wait()
        except _Alone:
            pass  # iterating raises it again, and asks the registry
        return 0

    def close(self) -> None:
        """Close the spool and the registry's reply; may be called again, at any moment."""
        self._closed = True
        self._spool.close()
        if self._close_rest is not None:
            self._close_rest()

    def _from_file(self) -> Iterator[bytes]:
        pace = Pace()
        while not self._is_complete():
            wanted = min(self._readable(), self._end) - self._position
            if wanted <= 0:
                self._wait()
                continue
            data = self._read(min(wanted, pace.piece))
            self._position += len(data)
            pace.hand()
            yield data
            pace.taken(len(data))

    def _is_complete(self) -> bool:
        if self._position < self._end:
            return False
        # Even the end of an empty blob waits until the blob is verified to be empty.
        return self._end < self._spool.size or self._state is State.VERIFIED

    def _readable(self) -> int:
        held_back = 0 if self._state is State.VERIFIED else 1
        return min(self._length, self._spool.size - held_back)

    def _read(self, count: int) -> bytes:
        with _on_file():
            data = self._spool.read(count, self._position)
        if not data:
            raise _Alone
        return data

    def _wait(self) -> None:
        """Wait until there may be more; raise BodyBroken or _Alone if there never will be."""
        pause, waited = _SHORTEST, 0.0
        known = self._length
        while not self._looked() and self._length <= known:
            if waited and self._goes_on():
                continue
            with _on_file():
                self._length = self._spool.wait(known, pause)
            waited += pause
            pause = min(2 * pause, _LONGEST)
            self._check_client()

    def _looked(self) -> bool:
        """Read the state, and return whether the blob is verified; raise BodyBroken or _Alone."""
        if self._closed:
            message = "it was closed"
            raise BodyBroken(message)
        with _on_file():
            self._state = self._spool.state
        if self._state is State.WRONG:
            message = "the digest is wrong"
            raise BodyBroken(message)
        if self._state is State.GIVEN_UP:
            raise _Alone
        if self._state is not State.VERIFIED:
            return False
        self._length = self._spool.size
        return True

    def _check_client(self) -> None:
        now = time.monotonic()
        if self._client is not None and now - self._checked > _CLIENT_CHECK:
            self._checked = now
            if self._client.gone():
                message = "the client left"
                raise BodyBroken(message)

    def _goes_on(self) -> bool:
        """Take the fetch over if its fetcher has died, and return whether we did.

        Raise BodyBroken if the registry does not continue the blob, and _Alone if the file fails.
        """
        with _on_file():
            lead = self._spool.take_over()
        if lead is None:
            return False
        if lead.said.failures >= _MOST_FAILURES:
            lead.release()
            message = "the registry broke off"
            raise BodyBroken(message)
        rest = self._rest(lead)
        whole = self._from_first and self._end == self._spool.size
        fill(lead, rest, self._ask, whole=whole)
        return True

    def _rest(self, lead: Lead) -> Rest:
        try:
            if lead.offset == self._spool.size:
                return Rest((), _nothing)
            rest = rest_of(self._ask.rest(lead.offset), lead.offset, self._spool.size)
        except RegistryError as error:
            lead.break_off(lead.offset)
            raise BodyBroken(str(error)) from error
        except BaseException:
            lead.release()
            raise
        if rest is None:
            lead.release()
            message = "the registry does not go on"
            raise BodyBroken(message)
        return rest

    def _from_registry(self) -> Iterator[bytes]:
        self._spool.close()
        is_whole = self._from_first and self._end == self._spool.size
        unwanted = is_whole and self._ask.only_verified
        if self._closed or self._position >= self._end or unwanted:
            message = "it cannot be verified any more"
            raise BodyBroken(message)
        try:
            reply = self._ask.part(self._position, self._end)
        except RegistryError as error:
            raise BodyBroken(str(error)) from error
        rest = rest_of(reply, self._position, self._spool.size)
        if rest is None:
            message = "the registry does not go on"
            raise BodyBroken(message)
        self._close_rest = rest.close
        for data in rest.wanted():
            piece = data[: self._end - self._position]
            self._position += len(piece)
            if piece:
                yield piece
            if self._position >= self._end:
                return
        message = "the registry sent too little"
        raise BodyBroken(message)


@contextmanager
def _on_file() -> Iterator[None]:
    """Translate OSError to _Alone."""
    try:
        yield
    except OSError as error:
        raise _Alone from error


def _nothing() -> None:
    pass
