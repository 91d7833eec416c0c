"""Answers that carry a blob, or a part of it, from a file: a cached one or a growing spool."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import FileIO
from typing import Final

from app.cache import cache_status
from app.cache.authz.members import AuthorizedContent
from app.cache.blobs.byte_range import SelectedRange, select_range
from app.cache.blobs.lead import BlobRequest
from app.oci import headers
from app.oci.headers import Headers
from app.source import BodyBroken, FileBody, Reply, Request
from app.spools.chunk_size import WINDOW, AdaptiveChunkSize
from app.spools.reading import SpoolBody
from app.spools.shared import Spool
from app.spools.shared_file import SharedFile


class CachedBody(FileBody):
    """A body of bytes `start` to `end` (exclusive) of a cached file.

    Whoever makes one closes it. Reading raises BodyBroken if the file cannot be read or is shorter.
    """

    def __init__(self, file: FileIO, start: int, end: int) -> None:
        self._file = SharedFile.from_file(file)
        self._position = start
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        pace = AdaptiveChunkSize()
        while self._position < self._end:
            data = self._read(min(pace.size, self._end - self._position))
            self._position += len(data)
            pace.record_handed()
            yield data
            pace.record_taken(len(data))

    def send_next(self, send: Callable[[int, int, int], None]) -> int:
        """Send the next part with `send`, and return its length in bytes; 0 at the end.

        The part is read into the page cache first, so that `send` need not wait for the disk.
        """
        count = min(WINDOW, self._end - self._position)
        if count:
            with self._translate_errors():
                self._file.prefetch(count, self._position)
            self._file.send(send, self._position, count)
            self._position += count
        return count

    def close(self) -> None:
        """Close the file; may be called repeatedly, and at any moment."""
        self._file.close()

    def _read(self, count: int) -> bytes:
        with self._translate_errors():
            data = self._file.read(count, self._position)
        if not data:
            message = "what is kept has become shorter"
            raise BodyBroken(message)
        return data

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"what is kept cannot be read: {error}"
            raise BodyBroken(message) from error


# X-Accel-Redirect: nginx sends the file of a hit itself.

FAILED: Final = "x-accel-failed"
"""The header with which nginx repeats a request for a file that it could not open."""

_JUDGED_AGAIN: Final = ("if-match", "if-unmodified-since")
"""Conditions that nginx would evaluate against the date of the file, and answer in HTML."""

_CUT: Final = ("content-range", "accept-ranges")
"""Headers that nginx sets itself, since it cuts the range."""


def can_accelerate(request: Request, part: SelectedRange) -> bool:
    """Return whether nginx may send the part in Docxy's place."""
    return (
        request.method == "GET"
        and part.has_bytes
        and not any(headers.get_first(request.headers, name) for name in (FAILED, *_JUDGED_AGAIN))
    )


def build_accel_reply(reply: Reply, location: str) -> Reply:
    """Return `reply` as an answer that tells nginx to send the file at `location`.

    Its `length` stays the number of bytes that nginx will send, for the log.
    """
    fields = headers.without(reply.headers, *_CUT)
    fields.append(("X-Accel-Redirect", location))
    return replace(reply, status=200, headers=fields, body=(), close=_close_nothing)


def _close_nothing() -> None:
    pass


_TYPE: Final = "application/octet-stream"
"""The Content-Type of every blob, whatever the registry's. The manifest gives the real type."""


def build_cached_reply(
    asking: BlobRequest, opened: AuthorizedContent, said: Headers, accel_location: str | None
) -> Reply:
    """Return the answer from a cached blob, or one for nginx if `accel_location` is set.

    The answer's body owns the file of `opened`; if there is no body, the file is closed.
    """
    part = select_range(asking.request, asking.digest, opened.size)
    fields = _build_headers(asking, part, opened.public_seconds_left) + said
    if accel_location and can_accelerate(asking.request, part):
        opened.file.close()
        return build_accel_reply(
            _build_bodiless(part, fields), f"{accel_location}{opened.location}"
        )
    if asking.request.method == "HEAD" or not part.length:
        opened.file.close()
        return _build_bodiless(part, fields)
    body = CachedBody(opened.file, part.start, part.end)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def build_spooled_reply(
    asking: BlobRequest, spool: Spool, part: SelectedRange, said: Headers
) -> Reply:
    """Return the answer to a GET from a running fetch; it closes `spool`."""
    fields = (
        _build_headers(asking, part, asking.gate.public_seconds_left(asking.caller, asking.name))
        + said
    )
    if not part.has_bytes:
        spool.close()
        return _build_bodiless(part, fields)
    body = SpoolBody(spool, part.start, part.end, asking, asking.request.client)
    return Reply(
        status=part.status, headers=fields, length=part.length, body=body, close=body.close
    )


def _build_bodiless(part: SelectedRange, fields: Headers) -> Reply:
    return Reply(status=part.status, headers=fields, length=part.length)


def _build_headers(asking: BlobRequest, part: SelectedRange, public_left: float) -> Headers:
    described = [("Content-Type", _TYPE), ("Accept-Ranges", "bytes")] if part.has_bytes else []
    return [
        *described,
        ("Docker-Content-Digest", asking.digest),
        *part.headers,
        *cache_status.build_content_headers(asking.digest, public_left),
    ]
