"""Read a repository for `warm`, anonymously or with this proxy's own account."""

import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from http import HTTPStatus
from typing import Final

from app.cli.images import Image
from app.oci import manifest
from app.oci.headers import Headers
from app.oci.reference import Digest, Reference, RepositoryName
from app.source import Reply, Request, Source, TokenRequest
from app.store.store import Store

_ACCEPT: Final[Headers] = [("Accept", ", ".join((*manifest.INDEXES, *manifest.MANIFESTS)))]
_LONGEST_ANSWER: Final = 1024 * 1024


class NotRead(Exception):
    """Raised if content could not be read; the message says why."""


class Exhausted(NotRead):
    """Raised if the registry answers 429; further requests would only prolong that."""

    def __init__(self) -> None:
        super().__init__("the registry answers 429: it has had enough for now")


class Operator:
    """The operator who waits for the command, as the client of its requests; gone after Ctrl-C."""

    def __init__(self) -> None:
        self._has_left = False  # not an Event: a signal handler must not wait for a lock

    def leave(self) -> None:
        """Stop waiting: requests in progress end soon, even if a registry is silent."""
        self._has_left = True

    def gone(self) -> bool:
        """Return whether the operator has stopped waiting."""
        return self._has_left


class Repository:
    """A reader of one repository of a registry's source; safe for use by several threads.

    Its methods raise NotRead if the registry refuses, and pass on the source's RegistryError.
    """

    def __init__(self, source: Source, name: RepositoryName, operator: Operator) -> None:
        self._source = source
        self._operator = operator
        self._name = name
        self._authorization = ""
        self._renewing = threading.Lock()
        self._begun = False

    def manifest(self, reference: Reference, method: str = "GET") -> Reply:
        """Return a manifest's reply with its body unread; the caller must close it."""
        return self._answer(
            lambda request: self._source.manifest(self._name, reference, request), method
        )

    def blob(self, digest: Digest, method: str = "GET") -> Reply:
        """Return a blob's reply with its body unread; the caller must close it."""
        return self._answer(lambda request: self._source.blob(self._name, digest, request), method)

    def _answer(self, ask: Callable[[Request], Reply], method: str) -> Reply:
        self._begin()
        used = self._authorization
        reply = ask(self._request(method, used))
        if reply.status == HTTPStatus.UNAUTHORIZED and _wants_token(reply):
            reply.close()
            reply = ask(self._request(method, self._renewed(used)))
        if reply.is_error:
            with closing(reply):
                raise _refusal(reply)
        return reply

    def _request(self, method: str, authorization: str) -> Request:
        login = [("Authorization", authorization)] if authorization else []
        return Request(
            method=method,
            headers=[*_ACCEPT, *login],
            client=self._operator,
            renewed=self._renewed,
        )

    def _begin(self) -> None:
        """Ping the registry before the first request, and get a token if it wants one.

        Clients do the same.
        """
        with self._renewing:
            if self._begun:
                return
            with closing(self._source.ping(Request(method="GET", client=self._operator))) as reply:
                if reply.status == HTTPStatus.UNAUTHORIZED and _wants_token(reply):
                    self._authorization = self._token()
            self._begun = True

    def _renewed(self, refused: str) -> str:
        with self._renewing:
            if self._authorization == refused:  # otherwise another thread has renewed it
                self._authorization = self._token()
            return self._authorization

    def _token(self) -> str:
        scope = f"repository:{self._name}:pull"
        asked = TokenRequest(method="GET", parameters=[("scope", scope)], client=self._operator)
        with closing(self._source.token(asked)) as reply:
            if reply.is_error:
                raise _refusal(reply)
            return f"Bearer {_token_in(whole(reply, _LONGEST_ANSWER))}"


def whole(reply: Reply, most: int) -> bytes:
    """Return the body of a reply; raise NotRead if it is longer than `most` bytes."""
    return b"".join(_bounded(reply.body, most))


def _bounded(body: Iterable[bytes], most: int) -> Iterable[bytes]:
    for piece in body:
        most -= len(piece)
        if most < 0:
            message = "the answer is too long"
            raise NotRead(message)
        yield piece


def _token_in(body: bytes) -> str:
    try:
        match json.loads(body):
            case {"token": str(token)} | {"access_token": str(token)} if token:
                return token
    except (ValueError, RecursionError):
        pass
    message = "the registry's token service gave no token"
    raise NotRead(message)


def _wants_token(reply: Reply) -> bool:
    return any(challenge.is_bearer for challenge in reply.challenges)


def _refusal(reply: Reply) -> NotRead:
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Exhausted()
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return NotRead(f"the registry answers {reply.status}: it is not there for everybody")
    return NotRead(f"the registry answers {reply.status}")


# Checking that content read through the cache was stored.

_PATIENCE: Final = 5.0
_SLOWEST: Final = 20 * 1024 * 1024
"""Content must be stored within _PATIENCE seconds, plus a second for each _SLOWEST bytes.

It reaches the disk and gets its name only after its last byte was read.
"""

_PAUSE: Final = 0.02


def is_kept(store: Store, image: Image, digest: Digest) -> bool:
    """Return whether content is stored and is a known member of the image's repository."""
    member = store.members.find(image.registry, image.repository, digest)
    return member is not None and store.has(image.registry, digest)


def check_kept(store: Store, image: Image, digest: Digest, size: int) -> None:
    """Wait until content of `size` bytes that was read to its end is stored.

    Raise NotRead if it is not after 5 seconds, plus one for each 20 MiB.
    """
    given_up = time.monotonic() + _PATIENCE + size / _SLOWEST
    while not is_kept(store, image, digest):
        if time.monotonic() > given_up:
            message = "it was read, but is not kept: is the disk full?"
            raise NotRead(message)
        time.sleep(_PAUSE)
