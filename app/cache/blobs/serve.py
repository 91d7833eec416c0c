"""Answers with a blob, or a part of it, from a file: one that is kept, or one that grows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import FileIO
from typing import Final

from app.cache import cache_status
from app.cache.authz.members import Opened
from app.cache.blobs.byte_range import Part, part_for
from app.cache.blobs.lead import Asking
from app.oci import headers
from app.oci.headers import Headers
from app.source import BodyBroken, FileBody, Reply, Request
from app.spools.chunk_size import WINDOW, Pace
from app.spools.reading import Reading
from app.spools.shared import Spool
from app.spools.shared_file import SharedFile

# The body of an answer, read from what is kept.


class KeptBody(FileBody):
    """Bytes `start` to `end` of a file, the last one not counted; whoever makes one closes it."""

    def __init__(self, file: FileIO, start: int, end: int) -> None:
        self._file = SharedFile.of(file)
        self._position = start
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        pace = Pace()
        while self._position < self._end:
            data = self._read(min(pace.piece, self._end - self._position))
            self._position += len(data)
            pace.hand()
            yield data
            pace.taken(len(data))

    def sent_by(self, send: Callable[[int, int, int], None]) -> int:
        """Have the next part sent, without waiting for the disk on the way."""
        count = min(WINDOW, self._end - self._position)
        if count:
            with self._reading():
                self._file.fetch(count, self._position)
            self._file.send(send, self._position, count)
            self._position += count
        return count

    def close(self) -> None:
        """Close the file; may be called again, at any moment."""
        self._file.close()

    def _read(self, count: int) -> bytes:
        with self._reading():
            data = self._file.read(count, self._position)
        if not data:
            message = "what is kept has become shorter"
            raise BodyBroken(message)
        return data

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"what is kept cannot be read: {error}"
            raise BodyBroken(message) from error


# A hit is handed over to nginx, which sends the file itself (X-Accel-Redirect).

FAILED: Final = "x-accel-failed"
"""With this header nginx asks once more for what it could not open."""

_JUDGED_AGAIN: Final = ("if-match", "if-unmodified-since")
"""nginx judges these by the date of the file, and answers in HTML."""

_CUT: Final = ("content-range", "accept-ranges")
"""nginx cuts the range itself, and says so."""


def can_be(request: Request, part: Part) -> bool:
    """Tell whether nginx may send an answer in our place."""
    return (
        request.method == "GET"
        and part.has_bytes
        and not any(headers.value(request.headers, name) for name in (FAILED, *_JUDGED_AGAIN))
    )


def handed_over(reply: Reply, location: str) -> Reply:
    """Return what tells nginx to send the file at a location.

    `length` stays the length of what nginx will send, for the log.
    """
    fields = headers.without(reply.headers, *_CUT)
    fields.append(("X-Accel-Redirect", location))
    return replace(reply, status=200, headers=fields, body=(), close=_nothing)


def _nothing() -> None:
    pass


_TYPE: Final = "application/octet-stream"
"""What a blob is called, whatever the registry calls it: its manifest says what it is."""


def kept(asking: Asking, opened: Opened, said: Headers, accel_location: str | None) -> Reply:
    """Answer from what is kept."""
    part = part_for(asking.request, asking.digest, opened.size)
    fields = _fields(asking, part, opened.public_left) + said
    if accel_location and can_be(asking.request, part):
        opened.file.close()
        return handed_over(_about(part, fields), f"{accel_location}{opened.location}")
    if asking.request.method == "HEAD" or not part.length:
        opened.file.close()
        return _about(part, fields)
    body = KeptBody(opened.file, part.start, part.end)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def spooled(asking: Asking, spool: Spool, part: Part, said: Headers) -> Reply:
    """Answer a GET from what is being fetched."""
    fields = _fields(asking, part, asking.gate.public_left(asking.caller, asking.name)) + said
    if not part.has_bytes:
        spool.close()
        return _about(part, fields)
    body = Reading(spool, part.start, part.end, asking, asking.request.client)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def _about(part: Part, fields: Headers) -> Reply:
    return Reply(status=part.status, headers=fields, length=part.length)


def _fields(asking: Asking, part: Part, public_left: float) -> Headers:
    described = [("Content-Type", _TYPE), ("Accept-Ranges", "bytes")] if part.has_bytes else []
    return [
        *described,
        ("Docker-Content-Digest", asking.digest),
        *part.fields,
        *cache_status.of_content(asking.digest, public_left),
    ]
