"""Read a repository for `warm`, anonymously or with this proxy's own account."""

import threading
import time
from contextlib import closing
from http import HTTPStatus
from typing import Final

from app.cli.images import Image
from app.oci import documents, manifest, tokens
from app.oci.headers import Headers
from app.oci.reference import Digest, Operation, Reference, RepositoryName
from app.oci.scope import Scope
from app.source import Reply, Request, Source, TokenRequest
from app.store.storage import Storage

_ACCEPT: Final[Headers] = [("Accept", ", ".join((*manifest.INDEXES, *manifest.MANIFESTS)))]
_MAX_TOKEN_RESPONSE: Final = 1024 * 1024


class ReadError(Exception):
    """Raised if content could not be read; the message says why."""


class RateLimited(ReadError):
    """Raised if the registry answers 429; further requests would only prolong that."""

    def __init__(self) -> None:
        super().__init__("the registry answered 429; try again later")


class Operator:
    """The operator who waits for the command, as the client of its requests; gone after Ctrl-C."""

    def __init__(self) -> None:
        self._is_cancelled = False  # not an Event: a signal handler must not wait for a lock

    def cancel(self) -> None:
        """Stop waiting: requests in progress end soon, even if a registry is silent."""
        self._is_cancelled = True

    def is_gone(self) -> bool:
        """Return whether the operator has stopped waiting."""
        return self._is_cancelled


class RepositoryReader:
    """A reader of one repository of a registry's source; safe for use by several threads.

    Its methods raise ReadError if the registry refuses, and pass on the source's RegistryError.
    """

    def __init__(self, source: Source, name: RepositoryName, operator: Operator) -> None:
        self._source = source
        self._operator = operator
        self._name = name
        self._authorization = ""
        self._lock = threading.Lock()
        self._has_pinged = False

    def fetch_manifest(self, reference: Reference, method: str = "GET") -> Reply:
        """Return a manifest's reply with its body unread; the caller must close it."""
        return self._fetch(Operation.manifest(self._name, reference), method)

    def fetch_blob(self, digest: Digest, method: str = "GET") -> Reply:
        """Return a blob's reply with its body unread; the caller must close it."""
        return self._fetch(Operation.blob(self._name, digest), method)

    def _fetch(self, operation: Operation, method: str) -> Reply:
        self._ping_once()
        authorization = self._authorization
        reply = self._source.answer(operation, self._build_request(method, authorization))
        if reply.status == HTTPStatus.UNAUTHORIZED and _wants_token(reply):
            reply.close()
            request = self._build_request(method, self._renew_token(authorization))
            reply = self._source.answer(operation, request)
        if reply.is_error:
            with closing(reply):
                raise _build_error(reply)
        return reply

    def _build_request(self, method: str, authorization: str) -> Request:
        login = [("Authorization", authorization)] if authorization else []
        return Request(
            method=method,
            headers=[*_ACCEPT, *login],
            client=self._operator,
            renew_authorization=self._renew_token,
        )

    def _ping_once(self) -> None:
        """Ping the registry before the first request, and get a token if it wants one.

        Clients do the same.
        """
        with self._lock:
            if self._has_pinged:
                return
            ping = Request(method="GET", client=self._operator)
            with closing(self._source.answer(Operation.ping(), ping)) as reply:
                if reply.status == HTTPStatus.UNAUTHORIZED and _wants_token(reply):
                    self._authorization = self._fetch_token()
            self._has_pinged = True

    def _renew_token(self, refused_authorization: str) -> str:
        with self._lock:
            if (
                self._authorization == refused_authorization
            ):  # otherwise another thread has renewed it
                self._authorization = self._fetch_token()
            return self._authorization

    def _fetch_token(self) -> str:
        scope = str(Scope.of_repository(self._name))
        request = TokenRequest(method="GET", parameters=[("scope", scope)], client=self._operator)
        with closing(self._source.token(request)) as reply:
            if reply.is_error:
                raise _build_error(reply)
            return f"Bearer {_parse_token(read_body(reply, _MAX_TOKEN_RESPONSE))}"


def read_body(reply: Reply, limit: int) -> bytes:
    """Return the body of a reply; raise ReadError if it is longer than `limit` bytes."""
    data = documents.read_up_to(reply.chunks(), limit)
    if data is None:
        message = "the answer is too long"
        raise ReadError(message)
    return data


def _parse_token(body: bytes) -> str:
    if token := tokens.get_token(documents.parse_object_or_empty(body)):
        return token
    message = "the registry's token service gave no token"
    raise ReadError(message)


def _wants_token(reply: Reply) -> bool:
    return any(challenge.is_bearer for challenge in reply.challenges)


def _build_error(reply: Reply) -> ReadError:
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited()
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ReadError(
            f"the registry answered {reply.status}: the image does not exist, or is private"
        )
    return ReadError(f"the registry answered {reply.status}")


# Checking that content read through the cache was stored.

_BASE_TIMEOUT: Final = 5.0
_MIN_STORE_RATE: Final = 20 * 1024 * 1024
"""Content must be stored within 5 seconds, plus one second for each 20 MiB.

It reaches the disk and gets its name only after its last byte was read.
"""

_POLL_INTERVAL: Final = 0.02


def is_kept(storage: Storage, image: Image, digest: Digest) -> bool:
    """Return whether content is stored and is a known member of the image's repository."""
    member = storage.ledger.lookup("", image.registry, image.repository, digest).member
    return member is not None and storage.blobs.stat(image.registry, digest) is not None


def wait_until_kept(storage: Storage, image: Image, digest: Digest, size: int) -> None:
    """Wait until content of `size` bytes, which was read to its end, is stored.

    Raise ReadError if it is not after 5 seconds, plus one for each 20 MiB.
    """
    deadline = time.monotonic() + _BASE_TIMEOUT + size / _MIN_STORE_RATE
    while not is_kept(storage, image, digest):
        if time.monotonic() > deadline:
            message = "it was fetched, but is not in the cache; check whether the disk is full"
            raise ReadError(message)
        time.sleep(_POLL_INTERVAL)
