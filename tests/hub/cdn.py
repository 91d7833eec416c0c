"""The CDN: blobs by signed URL, and nobody who shows credentials."""

import re
from dataclasses import dataclass
from http import HTTPStatus

from tests.hub.files import serve_file, xml
from tests.hub.links import PREFIX, Links
from tests.hub.messages import Answer, Request
from tests.hub.registry import Registry

_PATH = re.compile(PREFIX + r"/(sha256)/[0-9a-f]{2}/([0-9a-f]{64})/data")


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
            return xml(HTTPStatus.BAD_REQUEST, "InvalidArgument", "Only one auth mechanism allowed")
        if request.method not in {"GET", "HEAD"}:
            return xml(HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed", "Read only")
        allowed = self.links.allows(request, "GET") and not (
            request.method == "HEAD" and self.refuse_head
        )
        if not allowed and not self.links.allows(request, request.method):
            return xml(HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired or is not signed")
        match = _PATH.fullmatch(request.path)
        path = self.registry.blob_path(f"{match[1]}:{match[2]}") if match else None
        if path is None or not path.is_file():
            return xml(HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist")
        return serve_file(request, path, f'"{path.parent.name[:32]}"')
