"""The CDN: blobs by signed URL, and nobody who shows credentials."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from werkzeug.datastructures import Headers

from tests.hub.links import PREFIX, Links
from tests.hub.messages import BLOCK, Answer, Request
from tests.hub.registry import Registry

_PATH = re.compile(PREFIX + r"/(sha256)/[0-9a-f]{2}/([0-9a-f]{64})/data")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Unsatisfiable(Exception):
    """A range that begins after the end."""


@dataclass(slots=True)
class Cdn:
    """Serves the bytes from docker-registry's storage."""

    registry: Registry
    links: Links
    refuse_head: bool = True
    """The URLs are signed for GET, and a HEAD is something else."""

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if "Authorization" in request.headers:
            return _xml(
                HTTPStatus.BAD_REQUEST, "InvalidArgument", "Only one auth mechanism allowed"
            )
        if request.method not in {"GET", "HEAD"}:
            return _xml(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", "Read only")
        allowed = self.links.allows(request, "GET") and not (
            request.method == "HEAD" and self.refuse_head
        )
        if not allowed and not self.links.allows(request, request.method):
            return _xml(
                HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired or is not signed"
            )
        match = _PATH.fullmatch(request.path)
        path = self.registry.blob_path(f"{match[1]}:{match[2]}") if match else None
        if path is None or not path.is_file():
            return _xml(HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist")
        return self._blob(request, path, f'"{path.parent.name[:32]}"')

    def _blob(self, request: Request, path: Path, etag: str) -> Answer:
        size = path.stat().st_size
        headers = Headers(
            {
                "Content-Type": "application/octet-stream",
                "Accept-Ranges": "bytes",
                "ETag": etag,
                "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
            }
        )
        known = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
        if etag in known or "*" in known:
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        wanted = request.headers.get("Range")
        if request.headers.get("If-Range", etag) != etag:
            wanted = None
        try:
            part = _part(wanted, size)
        except Unsatisfiable:
            answer = _xml(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "InvalidRange", "No such part"
            )
            answer.headers["Content-Range"] = f"bytes */{size}"
            return answer
        status = HTTPStatus.OK
        if part is None:
            part = range(size)
        else:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        headers["Content-Length"] = str(len(part))
        return Answer(status, headers, _read(path, part))


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


def _xml(status: HTTPStatus, code: str, message: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    headers = Headers({"Content-Type": "application/xml", "Content-Length": str(len(body))})
    return Answer(status, headers, [body])
