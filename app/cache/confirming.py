"""Confirm in the background that a repository holds the blobs which its manifests name.

A client that has a layer of another image already does not ask for it again, and so the registry
never says that this repository holds the layer too. While the registry is unreachable, a client
that starts from nothing could then not pull the image, although every byte of it is kept.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Final

from app.cache import cache_status
from app.cache.authz.callers import Caller, Callers
from app.cache.authz.gate import Gate
from app.cache.authz.grants import Lately
from app.cache.blobs.blobs import Blobs
from app.cache.disk import Disk
from app.cache.manifests.fetch import Fetching
from app.cache.stale import Away
from app.oci import headers, manifest
from app.oci.errors import RegistryError
from app.oci.reference import Digest, RepositoryName
from app.source import Reply, Request

logger = logging.getLogger(__name__)

_THREADS: Final = 2
_MOST_WAITING: Final = 256
"""Manifests of a process whose blobs are to be confirmed; what comes beyond is dropped."""

_MOST: Final = 128
"""Blobs of one manifest: Docker's images have at most 127 layers, and a config."""

_LARGEST: Final = 1024 * 1024
"""Bytes of a manifest that is read for this; one with so many blobs has some 30 KB."""

_LATER: Final = (15.0, 120.0)
"""Seconds until blobs that are not kept yet are looked for again: they may be being fetched, for
another image. A caller's token lives for five minutes at many registries."""

_AGAIN: Final = 600.0
"""Seconds in which the same is not done again, as far as this process knows."""

_SILENCE: Final = 60.0
"""Seconds in which dropped work is logged once."""


class Background:
    """Work of a process that no client waits for: a few threads, and so much that waits.

    The threads end when there is nothing to do, and with the process.
    """

    def __init__(self, threads: int = _THREADS, most: int = _MOST_WAITING) -> None:
        self._threads = threads
        self._most = most
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._running = 0

    def begin(self, work: Callable[[], None], delay: float = 0.0) -> bool:
        """Do something in so many seconds, or later; return False if too much waits already."""
        with self._changed:
            if len(self._waiting) >= self._most:
                return False
            entry = (time.monotonic() + delay, next(self._numbers), work)
            heapq.heappush(self._waiting, entry)
            self._changed.notify()
            if self._running >= self._threads:
                return True
            self._running += 1
        # In a context of its own: nothing of it belongs to the request that is being served.
        run = partial(Context().run, self._run)
        threading.Thread(target=run, name="cache background", daemon=True).start()
        return True

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                work()
        finally:
            with self._changed:
                self._running -= 1

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while self._waiting:
                left = self._waiting[0][0] - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(left)
        return None


@dataclass(frozen=True, slots=True)
class _Passed:
    """A manifest that was given to somebody: what it names, and how often that was looked for.

    `request` is a HEAD of the manifest in the name of whoever got it.
    """

    name: RepositoryName
    manifest: Digest
    request: Request
    digests: Sequence[Digest] = ()
    attempt: int = 0


class Confirming:
    """Asks a registry, in a caller's name, whether a repository holds what is kept.

    The manifest is not believed: a blob becomes a member by the registry's answer to a HEAD, and
    that answer counts in every way as one to the caller's own question. A HEAD of a blob is no
    pull.
    """

    def __init__(  # noqa: PLR0913 - what one registry's cache consists of
        self,
        *,
        callers: Callers,
        gate: Gate,
        disk: Disk,
        away: Away,
        fetching: Fetching,
        blobs: Blobs,
        background: Background,
    ) -> None:
        self._callers = callers
        self._gate = gate
        self._disk = disk
        self._away = away
        self._fetching = fetching
        self._blobs = blobs
        self._background = background
        self._done = Lately[float]()
        self._told = float("-inf")

    def notice(self, caller: Caller, name: RepositoryName, request: Request, reply: Reply) -> None:
        """Look later at what a manifest names that goes to a caller now; return at once."""
        is_given = request.method == "GET" and reply.status == HTTPStatus.OK
        if not is_given or caller.is_stale or cache_status.outcome(reply) == cache_status.STALE:
            return
        if not isinstance(reply.body, tuple) or (reply.length or 0) > _LARGEST:
            return
        etag = reply.header("etag")  # the manifest's digest, if its bytes were found right
        if etag and self._is_due(caller.name, name, etag):
            accepted = ("Accept", reply.header("content-type"))
            fields = [*headers.without(request.headers, "accept", "range"), accepted]
            own = replace(request, method="HEAD", headers=fields, client=None, renewed=None)
            passed = _Passed(name, Digest.parse(etag.strip('"')), own)
            self._begin(partial(self._read, passed, b"".join(reply.body)))

    def _read(self, passed: _Passed, document: bytes) -> None:
        digests = self._disk.read(_named, document)
        if digests:
            self._confirm(replace(passed, digests=digests))

    def _confirm(self, passed: _Passed) -> None:
        # Anew: since then the caller's token has become older.
        caller, request = self._callers.told_apart(passed.request)
        passed = replace(passed, request=request)
        if caller.lifetime <= 0:
            return
        name = passed.name
        unconfirmed, absent = self._gate.unconfirmed(caller, name, passed.digests)
        kind = "nobody" if self._gate.is_nobody(caller, name) else caller.kind.name
        for digest in unconfirmed:
            if self._away.is_known(name):
                return
            if self._is_due(kind, name, digest) and not self._ask(caller, passed, digest):
                return
        if absent and passed.attempt < len(_LATER):
            later = replace(passed, digests=absent, attempt=passed.attempt + 1)
            self._begin(partial(self._confirm, later), _LATER[passed.attempt])

    def _ask(self, caller: Caller, passed: _Passed, digest: Digest) -> bool:
        """Ask about one blob; return False if the registry is not to be asked about more."""
        fields = headers.without(passed.request.headers, "accept")
        try:
            status = self._blobs.confirm(
                caller, passed.name, digest, replace(passed.request, headers=fields)
            )
            if status != HTTPStatus.NOT_FOUND:
                return status is None or status < HTTPStatus.BAD_REQUEST
            # Some registries hide with a 404 what is not to be read, so it has ended the caller's
            # grant. If only this blob is missing, the manifest is still there.
            told = self._fetching.head(caller, passed.name, passed.manifest, passed.request)
            told.reply.close()
        except RegistryError:
            return False
        return told.digest is not None

    def _is_due(self, *key: str) -> bool:
        """Tell whether something was not done lately; now it is."""
        now = time.monotonic()
        last = self._done.get(key)
        if last is not None and now - last < _AGAIN:
            return False
        self._done.put(key, now)
        return True

    def _begin(self, work: Callable[[], None], delay: float = 0.0) -> None:
        if self._background.begin(work, delay):
            return
        now = time.monotonic()
        if now - self._told >= _SILENCE:
            self._told = now
            logger.warning("Too many manifests wait for their blobs to be confirmed.")


def _named(document: bytes) -> list[Digest]:
    """Return the blobs that a manifest names, without those that no registry has."""
    try:
        blobs = manifest.named(document).blobs
    except ValueError:
        return []
    return list(dict.fromkeys(blob.digest for blob in blobs if not blob.elsewhere))[:_MOST]
