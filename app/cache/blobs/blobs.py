"""Blobs: from what is kept, from what is being fetched, or from the registry."""

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

# What the registry has just told a caller about a blob that is still being fetched.

Key = tuple[str, str, str]
"""Who asks, in which repository, for which digest."""

_COUNTS: Final = 60.0
"""Seconds: who pulls in parts asks again and again, until the blob is kept and so a member."""

_CLIENT_CHECK: Final = 0.25


class Answers:
    """Remembers a yes, and lets those wait who ask what their like is asking already.

    A yes is to one caller, for one digest in one repository: it takes the place of a member, and
    never that of a grant.
    """

    def __init__(self) -> None:
        self._yes = Lately[tuple[int, float]]()
        self._asked: dict[Key, threading.Event] = {}

    def size(self, key: Key) -> int | None:
        """Return the size that was told with a yes, or None."""
        size, told = self._yes.get(key) or (None, 0.0)
        return size if time.monotonic() - told < _COUNTS else None

    def yes(self, key: Key, size: int) -> None:
        """Remember a yes."""
        self._yes.put(key, (size, time.monotonic()))

    def no(self, key: Key) -> None:
        """Forget it."""
        self._yes.forget(key)

    @contextmanager
    def asking(self, key: Key, client: Client | None) -> Iterator[bool]:
        """Tell whether somebody has just asked the same; the others wait for who is the first.

        Raise ClientGone.
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


# Spools beside a store: what was fetched whole becomes an entry.


def fetches_of(disk: Disk, directory: Path, registry: str, unread: UnreadLimits) -> Fetches:
    """Return the fetches of one registry, whose spools lie below the cache's directory."""
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
    """Return how many blobs are being fetched, or were begun, and how many bytes that is.

    Waits for the disk.
    """
    found = [files.held(below) for below in _spools(directory)]
    return sum(number for number, _ in found), sum(size for _, size in found)


def drop_unfinished(directory: Path) -> int:
    """Remove what nobody is fetching, and return how many bytes that was; waits for the disk."""
    return _tidy(directory, 0)


def _tidy(directory: Path, idle: float) -> int:
    return sum(files.tidy(below, idle) for below in _spools(directory))


def _spools(directory: Path) -> list[Path]:
    # Also of registries that are not configured any more.
    return sorted(path for path in (directory / "spools").glob("*") if path.is_dir())


def _keep(disk: Disk, registry: str, whole: Whole) -> None:
    # Without a media type: who could choose one for a blob would have a manifest.
    content = Described(registry=registry, digest=whole.digest, size=whole.size, media_type="")
    disk.move(disk.store.take, whole.path, content)


def _room(disk: Disk, size: int) -> None:
    disk.demand(disk.store.make_room, size)


logger = logging.getLogger(__name__)

_SILENCE: Final = 60.0
"""Seconds in which the trouble of a disk is told once."""


class Blobs:
    """The blobs of one registry.

    What is kept is the gate's to open. Whoever may not read it yet is answered by the registry,
    also before joining what others fetch; and whoever comes first fetches for all.
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
        """Answer with a blob, or a part of it; raise RegistryError."""
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
        """Have the registry say whether a repository holds what is kept; raise RegistryError.

        Return the status of its answer, or None if that is known, or is just being asked.
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
                if asked:  # much may have happened meanwhile
                    standing = self._gate.standing(asking.caller, asking.name, asking.digest)
                if asked and self._may_join(asking, standing):
                    return self._entered(asking)
                return self._asked_first(asking, standing)
        except Refused as refused:
            return cache_status.marked(refused.reply, cache_status.forwarded(refused.reply.status))
        except OSError as error:
            # The disk is full, read-only or gone: a pull needs none.
            self._fetches.failed(error)
            self._tell(error)
            return _passed(asking)

    def _may_join(self, asking: Asking, standing: Standing) -> bool:
        """Tell whether a caller would get the blob, were it kept."""
        told = self._answers.size(asking.key) is not None
        return standing.permitted and (told or standing.holds)

    def _asked_first(self, asking: Asking, standing: Standing) -> Reply:
        """Answer somebody of whom nothing is known, as the registry does."""
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
        """Answer somebody who may join others, if the registry tells the same size to all."""
        entered = self._fetches.enter(asking.digest, asking.request.client, asking.payer)
        if isinstance(entered, Lead):
            return self._led(asking, entered)
        if self._answers.size(asking.key) not in {None, entered.size}:
            entered.close()
            return _passed(asking)
        return self._read(asking, entered, cache_status.joined())

    def _led(self, asking: Asking, lead: Lead) -> Reply:
        """Answer whoever has come first."""
        if lead.is_kept:
            lead.release()  # another one has finished meanwhile
            return self._hit(asking) or _passed(asking)
        if _starts_far_ahead(asking.request, lead):
            lead.release()
            return _passed(asking)
        is_there = lead.offset == lead.size
        spool = led(asking, lead, self._fetches)
        if spool is None:
            return _passed(asking)
        self._answers.yes(asking.key, spool.size)
        # All bytes may be another's, who did not finish: a HEAD has only confirmed them.
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
    """Pass the question on, and keep nothing."""
    reply = asking.as_it_is()
    return cache_status.marked(reply, cache_status.forwarded(reply.status))


def _starts_far_ahead(request: Request, lead: Lead) -> bool:
    """Tell whether a range starts where a fetch from here would come late.

    Where the last bytes of a blob start is not known before the registry has told its size.
    """
    wanted = parse_range(headers.value(request.headers, "range"))
    if wanted is None:
        return False
    return wanted.first is None or wanted.first > lead.offset + AHEAD
