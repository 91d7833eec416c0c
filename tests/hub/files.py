"""Bytes of docker-registry's storage as object stores serve them: in parts, under a strong ETag."""

import re
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from werkzeug.datastructures import Headers

from tests.hub.messages import BLOCK, Answer, Request

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Unsatisfiable(Exception):
    """A range that begins after the end."""


def serve_file(
    request: Request, path: Path, etag: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer a GET or a HEAD of a file, with these headers or those of a mere blob."""
    size = path.stat().st_size
    fields = Headers(
        {
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
        }
    )
    fields.update(dict(headers or {}))
    known = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
    if etag in known or "*" in known:
        return Answer(HTTPStatus.NOT_MODIFIED, fields)
    wanted = request.headers.get("Range")
    if request.headers.get("If-Range", etag) != etag:
        wanted = None
    try:
        part = _part(wanted, size)
    except Unsatisfiable:
        answer = xml(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "InvalidRange", "No such part")
        answer.headers["Content-Range"] = f"bytes */{size}"
        return answer
    status = HTTPStatus.OK
    if part is None:
        part = range(size)
    else:
        status = HTTPStatus.PARTIAL_CONTENT
        fields["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    fields["Content-Length"] = str(len(part))
    return Answer(status, fields, _read(path, part))


def xml(status: HTTPStatus, code: str, message: str) -> Answer:
    """Return an error as object stores write it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    headers = Headers({"Content-Type": "application/xml", "Content-Length": str(len(body))})
    return Answer(status, headers, [body])


def _part(header: str | None, size: int) -> range | None:
    """Return the bytes that a Range asks for; None for all: several ranges may be ignored."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        part = range(max(0, size - int(last)), size)
    elif last and int(last) < int(first):
        return None
    else:
        part = range(int(first), min(size, int(last) + 1) if last else size)
    if not part:
        raise Unsatisfiable
    return part


def _read(path: Path, part: range) -> Iterator[bytes]:
    left = len(part)
    with path.open("rb") as file:
        file.seek(part.start)
        while left > 0 and (block := file.read(min(BLOCK, left))):
            left -= len(block)
            yield block
