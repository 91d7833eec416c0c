"""Filling docker-registry, with a token that the hub signs for itself."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus

from tests.hub.accounts import Scope
from tests.hub.images import Image
from tests.hub.registry import Registry

_ACCOUNT = "hub"
_BINARY = {"Content-Type": "application/octet-stream"}


class Pusher:
    """Pushes into one repository, past the front and its record."""

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry = registry
        self._base = f"/v2/{name}"
        token = registry.issuer.sign(_ACCOUNT, [Scope("repository", name, ("pull", "push"))])
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pushed: set[str] = set()

    def push(self, image: Image, tags: Iterable[str]) -> None:
        """Push an image, its platforms first; without tags, by digest."""
        for child in image.platforms.values():
            self.push(child, ())
        for blob in image.blobs:
            self._push_small(blob.data, blob.digest)
        kind = {"Content-Type": image.media_type}
        for reference in tuple(tags) or (image.digest,):
            target = f"{self._base}/manifests/{reference}"
            self._must("PUT", target, HTTPStatus.CREATED, image.body, kind)

    def push_blob(self, chunks: Iterable[bytes]) -> str:
        """Push a blob of any size, which is never whole in memory; return its digest."""
        hasher = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                hasher.update(chunk)
                yield chunk

        chunked = {**_BINARY, "Transfer-Encoding": "chunked"}
        sent = self._must("PATCH", self._upload(), HTTPStatus.ACCEPTED, hashed(), chunked)
        digest = f"sha256:{hasher.hexdigest()}"
        self._must("PUT", f"{sent}&digest={digest}", HTTPStatus.CREATED)
        return digest

    def _push_small(self, data: bytes, digest: str) -> None:
        if digest not in self._pushed:
            target = f"{self._upload()}&digest={digest}"
            self._must("PUT", target, HTTPStatus.CREATED, data, _BINARY)
            self._pushed.add(digest)

    def _upload(self) -> str:
        return self._must("POST", f"{self._base}/blobs/uploads/", HTTPStatus.ACCEPTED)

    def _must(
        self,
        method: str,
        target: str,
        expected: HTTPStatus,
        body: Iterable[bytes] | bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Do one step; return the Location of the next."""
        answer = self._registry.ask(method, target, {**self._headers, **(headers or {})}, body)
        text = answer.read()
        if answer.status != expected:
            message = f"docker-registry answered {method} {target}: {answer.status} {text!r}"
            raise RuntimeError(message)
        return str(answer.headers.get("Location", ""))
