"""Blobs: from the store, from a running fetch, or from the registry."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from app.cache import cache_status
from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.gate import Gate
from app.cache.authz.grants import Lately
from app.cache.authz.members import Opened, Standing
from app.cache.blobs import serve
from app.cache.blobs.byte_range import part_for
from app.cache.blobs.lead import Asking, Refused, led
from app.cache.disk import Disk
from app.cache.head_first import conclude
from app.cache.policy import AHEAD, Policy
from app.cache.stale import Away
from app.oci import headers
from app.oci.conditional import parse_range
from app.oci.errors import ClientGone
from app.oci.headers import Headers
from app.oci.reference import Digest, RepositoryName
from app.source import Client, Reply, Request, Source
from app.spools import files
from app.spools.fetches import Fetches
from app.spools.lead import Lead, Terms, UnreadLimits, Whole
from app.spools.shared import Spool
from app.store.entries import Described

# Recent successes: what the registry has just said to a caller about a blob still being fetched.

Key = tuple[str, str, str]
"""Caller, repository and digest."""

_COUNTS: Final = 60.0
"""Seconds for which a success counts. A client that pulls in parts asks again and again until the
blob is cached and so becomes a member."""

_CLIENT_CHECK: Final = 0.25


class Answers:
    """Remembers successes, and makes identical requests wait for the first.

    A success is about one caller, repository and digest. It can stand in for a member, never for a
    grant.
    """

    def __init__(self) -> None:
        self._yes = Lately[tuple[int, float]]()
        self._asked: dict[Key, threading.Event] = {}

    def size(self, key: Key) -> int | None:
        """Return the size in bytes that a success reported; None if none came in the last 60 s."""
        size, told = self._yes.get(key) or (None, 0.0)
        return size if time.monotonic() - told < _COUNTS else None

    def yes(self, key: Key, size: int) -> None:
        """Remember a success, and the size in bytes that it reported."""
        self._yes.put(key, (size, time.monotonic()))

    def no(self, key: Key) -> None:
        """Forget the success, since the registry has refused."""
        self._yes.forget(key)

    @contextmanager
    def asking(self, key: Key, client: Client | None) -> Iterator[bool]:
        """Yield False to the first of concurrent callers with a key, True to the others.

        The others wait until the first has left the context. Raise ClientGone if the client
        disconnects while it waits.
        """
        event = threading.Event()
        other = self._asked.setdefault(key, event)
        if other is not event:
            _wait(other, client)
            yield True
            return
        try:
            yield False
        finally:
            del self._asked[key]
            event.set()


def _wait(event: threading.Event, client: Client | None) -> None:
    while not event.wait(_CLIENT_CHECK):
        if client is not None and client.gone():
            raise ClientGone


# Spools: a blob that was fetched whole moves from its spool to the store.


def fetches_of(disk: Disk, directory: Path, registry: str, unread: UnreadLimits) -> Fetches:
    """Return the fetches of one registry, whose spools are below the cache's directory."""
    below = directory / "spools" / registry
    keep, room = partial(_keep, disk, registry), partial(_room, disk)
    is_kept = partial(disk.store.has, registry)
    terms = Terms(
        keep=keep,
        room=room,
        is_kept=is_kept,
        unread=unread,
        tidy_others=partial(_tidy, directory),
        failed=disk.count,
    )
    return Fetches(below, terms)


def held(directory: Path) -> tuple[int, int]:
    """Return the number of unfinished blobs, and their size in bytes; waits for the disk.

    Both running and abandoned fetches count.
    """
    found = [files.held(below) for below in _spools(directory)]
    return sum(number for number, _ in found), sum(size for _, size in found)


def drop_unfinished(directory: Path) -> int:
    """Remove abandoned fetches, and return their size in bytes; waits for the disk."""
    return _tidy(directory, 0)


def _tidy(directory: Path, idle: float) -> int:
    return sum(files.tidy(below, idle) for below in _spools(directory))


def _spools(directory: Path) -> list[Path]:
    # Includes registries that are no longer configured.
    return sorted(path for path in (directory / "spools").glob("*") if path.is_dir())


def _keep(disk: Disk, registry: str, whole: Whole) -> None:
    # No media type: anyone who could choose one for a blob could turn it into a manifest.
    content = Described(registry=registry, digest=whole.digest, size=whole.size, media_type="")
    disk.move(disk.store.take, whole.path, content)


def _room(disk: Disk, size: int) -> None:
    disk.demand(disk.store.make_room, size)


logger = logging.getLogger(__name__)

_SILENCE: Final = 60.0
"""Seconds in which trouble with the disk is logged once."""


class Blobs:
    """The blobs of one registry.

    Only the gate opens cached blobs. If a caller may not read a blob yet, the registry is asked
    first, even if another client is fetching that blob already. The first client to come fetches
    for all.
    """

    def __init__(
        self,
        inner: Source,
        gate: Gate,
        away: Away,
        fetches: Fetches,
        policy: Policy,
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._away = away
        self._fetches = fetches
        self._policy = policy
        self._answers = Answers()
        self._told = float("-inf")

    def blob(self, caller: Caller, name: RepositoryName, digest: Digest, request: Request) -> Reply:
        """Return a blob or the requested part of it, or the registry's refusal.

        Raise RegistryError if the registry cannot be asked and no public copy is cached. Raise
        ClientGone if the client disconnects while it waits for others.
        """
        asking = self._asking(caller, name, digest, request)
        found = self._gate.look(caller, name, digest)
        if isinstance(found, Opened):
            return self._kept(asking, found)

        def missed(asked: Request) -> Reply:
            return self._missed(replace(asking, request=asked), found)

        reply = self._away.ask(caller, name, request, missed, partial(self._stale, asking))
        if reply.is_error:
            self._answers.no(asking.key)
        return reply

    def confirm(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> int | None:
        """Ask the registry with a HEAD whether a repository holds a cached blob.

        Return the status of its answer. Return None, without asking, if the blob is confirmed or
        not cached, or if another request has just asked. Raise RegistryError.
        """
        asking = self._asking(caller, name, digest, request)
        with self._answers.asking(asking.key, request.client) as asked:
            if asked or not self._gate.unconfirmed(caller, name, [digest])[0]:
                return None
            reply = asking.head()
            reply.close()
            return reply.status

    def _asking(
        self, caller: Caller, name: RepositoryName, digest: Digest, request: Request
    ) -> Asking:
        return Asking(
            inner=self._inner,
            gate=self._gate,
            caller=caller,
            name=name,
            digest=digest,
            request=request,
            began=self._gate.now(),
            only_verified=self._policy.verify_blobs,
        )

    def _hit(self, asking: Asking) -> Reply | None:
        opened = self._gate.open(asking.caller, asking.name, asking.digest)
        return None if opened is None else self._kept(asking, opened)

    def _kept(self, asking: Asking, opened: Opened) -> Reply:
        said = cache_status.hit(cache_status.age_of(opened.taken))
        return serve.kept(asking, opened, said, self._policy.accel_location)

    def _stale(self, asking: Asking, status: int | None) -> Reply | None:
        opened = self._gate.open_stale(asking.name, asking.digest)
        if opened is None:
            return None
        said = cache_status.stale(status, cache_status.age_of(opened.taken))
        return serve.kept(asking, opened, said, self._policy.accel_location)

    def _missed(self, asking: Asking, standing: Standing) -> Reply:
        if asking.request.method != "GET" or not Fetches.takes(asking.digest):
            return _passed(asking)
        try:
            if self._may_join(asking, standing):
                return self._entered(asking)
            with self._answers.asking(asking.key, asking.request.client) as asked:
                if asked:  # after a wait, the state may have changed
                    standing = self._gate.standing(asking.caller, asking.name, asking.digest)
                if asked and self._may_join(asking, standing):
                    return self._entered(asking)
                return self._asked_first(asking, standing)
        except Refused as refused:
            return cache_status.marked(refused.reply, cache_status.forwarded(refused.reply.status))
        except OSError as error:
            # The disk is full, read-only or gone; a pull works without it.
            self._fetches.failed(error)
            self._tell(error)
            return _passed(asking)

    def _may_join(self, asking: Asking, standing: Standing) -> bool:
        """Return whether the caller could read the blob if it were cached."""
        told = self._answers.size(asking.key) is not None
        return standing.permitted and (told or standing.holds)

    def _asked_first(self, asking: Asking, standing: Standing) -> Reply:
        """Serve a client whose rights are unknown: the registry's answer decides."""
        if not standing.is_kept:
            lead = self._fetches.lead(asking.digest)
            if lead is not None:
                return self._led(asking, lead)
        head = asking.head()
        if refusal := conclude(head, asking.request):
            raise Refused(refusal)
        head.close()
        fits = head.length is not None and evidence.is_blob(head, asking.digest)
        if head.status != HTTPStatus.OK or head.length is None or not fits:
            return _passed(asking)
        self._answers.yes(asking.key, head.length)
        return self._hit(asking) or self._entered(asking)

    def _entered(self, asking: Asking) -> Reply:
        """Serve a client that may share a running fetch.

        The registry must have reported the same size to both; if not, pass the request on.
        """
        entered = self._fetches.enter(asking.digest, asking.request.client, asking.payer)
        if isinstance(entered, Lead):
            return self._led(asking, entered)
        if self._answers.size(asking.key) not in {None, entered.size}:
            entered.close()
            return _passed(asking)
        return self._read(asking, entered, cache_status.joined())

    def _led(self, asking: Asking, lead: Lead) -> Reply:
        """Serve the client that has the right to fetch."""
        if lead.is_kept:
            lead.release()  # another fetch has finished meanwhile
            return self._hit(asking) or _passed(asking)
        if _starts_far_ahead(asking.request, lead):
            lead.release()
            return _passed(asking)
        is_there = lead.offset == lead.size
        spool = led(asking, lead, self._fetches)
        if spool is None:
            return _passed(asking)
        self._answers.yes(asking.key, spool.size)
        # If an earlier leader fetched all bytes and did not finish, a HEAD only confirmed them.
        said = (
            cache_status.joined()
            if is_there
            else cache_status.forwarded(HTTPStatus.OK, stored=True)
        )
        return self._read(asking, spool, said)

    def _read(self, asking: Asking, spool: Spool, said: Headers) -> Reply:
        part = part_for(asking.request, asking.digest, spool.size)
        if part.start > spool.length + AHEAD:
            spool.close()
            return _passed(asking)
        return serve.spooled(asking, spool, part, said)

    def _tell(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._told >= _SILENCE:
            self._told = now
            fields = {"error": str(error)}
            logger.warning("Blobs are passed on, and not kept.", extra={"fields": fields})


def _passed(asking: Asking) -> Reply:
    """Return the registry's answer to the client's own request, and keep nothing."""
    reply = asking.as_it_is()
    return cache_status.marked(reply, cache_status.forwarded(reply.status))


def _starts_far_ahead(request: Request, lead: Lead) -> bool:
    """Return whether a range starts more than `AHEAD` bytes ahead of where the fetch begins.

    A suffix range ("the last n bytes") counts as far ahead: its start is unknown until the registry
    has reported the size.
    """
    wanted = parse_range(headers.value(request.headers, "range"))
    if wanted is None:
        return False
    return wanted.first is None or wanted.first > lead.offset + AHEAD
