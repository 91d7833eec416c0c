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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field, replace
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
from app.cache.stale import Away, is_trouble
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

_LARGEST: Final = 256 * 1024
"""Bytes of a manifest that is read for this; one with so many blobs has some 30 KB. So many wait
in memory at the same time."""

_LATER: Final = (15.0, 120.0)
"""Seconds until blobs that are not kept yet are looked for again: they may be being fetched, for
another image. A caller's token lives for five minutes at many registries."""

_AGAIN: Final = 600.0
"""Seconds in which the same is not done again, as far as this process knows."""

_AFTER_TROUBLE: Final = 15.0
"""Seconds in which it is not tried again if the registry had no answer."""

_SILENCE: Final = 60.0
"""Seconds in which dropped work is logged once."""


@dataclass(frozen=True, slots=True, order=True)
class _Work:
    """What waits, in the order in which it is due and came."""

    due: float
    number: int
    work: Callable[[], None] = field(compare=False)
    is_delayed: bool = field(compare=False)


class Background:
    """Work of a process that no client waits for: a few threads, and so much that waits.

    The threads end when there is nothing to do, and with the process.
    """

    def __init__(self, threads: int = _THREADS, most: int = _MOST_WAITING) -> None:
        self._threads = threads
        self._most = most
        self._changed = threading.Condition()
        self._waiting: list[_Work] = []
        self._numbers = itertools.count()
        self._running = 0

    def begin(self, work: Callable[[], None], delay: float = 0.0) -> bool:
        """Do something in so many seconds, or later; return False if too much waits already.

        What is delayed takes half of the room at most: it waits long, and the rest does not.
        """
        with self._changed:
            delayed = sum(one.is_delayed for one in self._waiting)
            is_full = delay > 0 and delayed >= self._most // 2
            if is_full or len(self._waiting) >= self._most:
                return False
            due = time.monotonic() + delay
            entry = _Work(due, next(self._numbers), work, is_delayed=delay > 0)
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
                left = self._waiting[0].due - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._waiting).work
                self._changed.wait(left)
        return None


@dataclass(frozen=True, slots=True)
class _Passed:
    """A manifest that was given to somebody: what it names, and how often that was looked for.

    `key` tells it from others. `request` is a HEAD of the manifest in the name of whoever got it.
    """

    key: tuple[str, ...]
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
        key = (caller.name, name, etag)
        if not etag or not self._is_due(key):
            return
        accepted = ("Accept", reply.header("content-type"))
        own = replace(
            request,
            method="HEAD",
            headers=[*headers.without(request.headers, "accept", "range"), accepted],
            client=None,
            payer=None,
            renewed=None,
            has_fallback=_nobody_waits,
        )
        passed = _Passed(key, name, Digest.parse(etag.strip('"')), own)
        self._begin(passed, partial(self._read, passed, b"".join(reply.body)))

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
            key = (kind, name, digest)
            if self._away.is_known(name):
                self._put_off(passed.key)
                return
            if not self._is_due(key):
                continue
            try:
                goes_on = self._ask(caller, passed, digest)
            except _Trouble:
                self._put_off(passed.key)
                self._put_off(key)
                return
            if not goes_on:
                return
        if absent and passed.attempt < len(_LATER):
            later = replace(passed, digests=absent, attempt=passed.attempt + 1)
            self._begin(passed, partial(self._confirm, later), _LATER[passed.attempt])

    def _ask(self, caller: Caller, passed: _Passed, digest: Digest) -> bool:
        """Ask about one blob; return False if the registry is not to be asked about more.

        Raise _Trouble if it has no answer.
        """
        name, asked = passed.name, passed.request
        own = replace(asked, headers=headers.without(asked.headers, "accept"))
        with self._learning(name) as heard:
            status = self._blobs.confirm(caller, name, digest, own)
            heard(status)
            if status != HTTPStatus.NOT_FOUND:
                return status is None or status < HTTPStatus.BAD_REQUEST
            # Some registries hide with a 404 what is not to be read, so it has ended the caller's
            # grant. If only this blob is missing, the manifest is still there, and its answer gives
            # the grant back. Others answer 404 to every HEAD of a blob: this image's
            # other blobs are not asked for, since that would cost two questions each.
            told = self._fetching.head(caller, name, passed.manifest, asked)
            told.reply.close()
            heard(told.reply.status)
        return False

    @contextmanager
    def _learning(self, name: RepositoryName) -> Iterator[Callable[[int | None], None]]:
        """Yield what an answer's status is told to; tell `away` of trouble, and raise _Trouble."""

        def hear(status: int | None) -> None:
            if status is not None and is_trouble(status):
                self._away.learn(name, status)
                raise _Trouble

        try:
            yield hear
        except RegistryError as error:
            self._away.learn(name, error)
            raise _Trouble from error

    def _is_due(self, key: tuple[str, ...]) -> bool:
        """Tell whether something was not done lately; now it is."""
        now = time.monotonic()
        until = self._done.get(key)
        if until is not None and now < until:
            return False
        self._done.put(key, now + _AGAIN)
        return True

    def _put_off(self, key: tuple[str, ...]) -> None:
        """Let something be done soon that could not be done now."""
        self._done.put(key, time.monotonic() + _AFTER_TROUBLE)

    def _begin(self, passed: _Passed, work: Callable[[], None], delay: float = 0.0) -> None:
        if self._background.begin(work, delay):
            return
        self._done.forget(passed.key)
        now = time.monotonic()
        if now - self._told >= _SILENCE:
            self._told = now
            logger.warning("Too many manifests wait for their blobs to be confirmed.")


class _Trouble(Exception):
    """The registry has no answer now."""


def _nobody_waits() -> bool:
    return True


def _named(document: bytes) -> list[Digest]:
    """Return the blobs that a manifest names, without those that no registry has."""
    try:
        blobs = manifest.named(document).blobs
    except ValueError:
        return []
    return list(dict.fromkeys(blob.digest for blob in blobs if not blob.elsewhere))[:_MOST]
