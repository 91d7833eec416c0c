"""Grants: who may read which repository of a registry, and until when.

The registry's answers give grants and take them away.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Generic, TypeVar

from app.cache.authz import callers
from app.cache.authz.callers import Caller, CallerKind
from app.cache.policy import CachePolicy
from app.oci.reference import Digest, RepositoryName
from app.source import Reply
from app.store.blobs import Entry
from app.store.ledger import Access, Confirmation, Denial, Ledger, Member, Recorded

_DEFAULT_MAX_ENTRIES: Final = 10_000
"""The entries that a `BoundedMap` holds by default."""

Value = TypeVar("Value")


class BoundedMap(Generic[Value]):
    """A bounded dictionary of the latest entries, without a lock.

    It is used on native threads, and under gevent a lock from `threading` belongs to the event
    loop. Each step is one atomic operation of the interpreter, unlike the steps of a map of
    cachetools. If two threads write at the same time, an entry may be lost.
    """

    def __init__(self, max_entries: int = _DEFAULT_MAX_ENTRIES) -> None:
        self._most = max_entries
        self._entries: dict[tuple[str, ...], Value] = {}

    def put(self, key: tuple[str, ...], value: Value) -> None:
        """Add or replace an entry, as the latest; if there are too many, drop the older half."""
        self._entries.pop(key, None)
        self._entries[key] = value
        if len(self._entries) > self._most:
            self._entries = dict(list(self._entries.items())[-(self._most // 2) :])

    def get(self, key: tuple[str, ...]) -> Value | None:
        """Return the entry; None if it was never put, or was dropped."""
        return self._entries.get(key)

    def forget(self, key: tuple[str, ...]) -> None:
        """Remove the entry, if there is one."""
        self._entries.pop(key, None)


# Refusals that this process knows, including those that the store could not write.

_MAX_UNWRITTEN: Final = 1000
"""Flags of refusals that revoke nothing. Clients choose how many there are, so the latest stay."""


@dataclass(frozen=True, slots=True)
class _UnwrittenRefusal:
    at: float
    revokes: bool


class RecentRefusals:
    """The recent refusals of a registry; `lifetime` is how many seconds a success may count.

    If the store cannot be written, it goes on saying that a refused caller may read. Until the
    refusal is written, this worker does not believe the store about that caller, and a flag tells
    the other workers not to. Moments are seconds of the store's clock (monotonic, since boot).
    """

    def __init__(self, flag_prefix: str, lifetime: float, ledger: Ledger) -> None:
        self._flag_prefix = flag_prefix
        self._lifetime = lifetime
        self._flags = ledger.flags
        self._now = ledger.now
        self._refused_at = BoundedMap[float]()
        self._unwritten: dict[tuple[str, ...], _UnwrittenRefusal] = {}

    def record(self, *key: str, revokes: bool) -> float:
        """Remember a refusal that the store does not have yet, and return its time.

        `revokes`: the store holds a right that the refusal takes away. If not, the refusal counts
        only against answers that are still on their way.
        """
        now = self._now()
        self._refused_at.put(key, now)
        self._unwritten.pop(key, None)
        self._unwritten[key] = _UnwrittenRefusal(now, revokes)
        self._flags.set_flag(self._build_flag(key))
        if not revokes and len(self._unwritten) > _MAX_UNWRITTEN:
            self._drop_oldest()
        return now

    def mark_written(self, *key: str, refused_at: float) -> None:
        """Record that the store has the refusals up to `refused_at`; it may lack a later one."""
        self._clear_unwritten(key, refused_at)

    def was_refused_since(self, *key: str, moment: float) -> bool:
        """Return whether there was a refusal at `moment` or after it."""
        refused_at = self._refused_at.get(key)
        return refused_at is not None and refused_at >= moment

    def clear(self, *key: str, moment: float) -> None:
        """Forget the refusals before `moment`, when a request began that has succeeded."""
        if not self.was_refused_since(*key, moment=moment):
            self._refused_at.forget(key)
        self._clear_unwritten(key, moment)

    def has_unwritten(self, *key: str) -> bool:
        """Return whether a worker knows of a refusal that the store does not have."""
        if key in self._prune_unwritten():
            return True
        # Asking for any flag costs less than asking for this one.
        return self._flags.is_any_set_elsewhere() and self._flags.is_set_elsewhere(
            self._build_flag(key)
        )

    def list_unwritten(self) -> list[tuple[tuple[str, ...], float]]:
        """Return the refusals that the store lacks and that still matter, with the time of each."""
        return [(key, refusal.at) for key, refusal in self._prune_unwritten().items()]

    def _prune_unwritten(self) -> dict[tuple[str, ...], _UnwrittenRefusal]:
        if self._unwritten:
            expired_before = self._now() - self._lifetime
            for key, refusal in list(self._unwritten.items()):
                if refusal.at < expired_before:
                    self._clear_unwritten(key, refusal.at)
        return dict(self._unwritten)

    def _drop_oldest(self) -> None:
        droppable = [
            (key, item.at) for key, item in list(self._unwritten.items()) if not item.revokes
        ]  # fmt: skip
        for key, refused_at in droppable[:-_MAX_UNWRITTEN]:
            self._clear_unwritten(key, refused_at)

    def _clear_unwritten(self, key: tuple[str, ...], moment: float) -> None:
        refusal = self._unwritten.get(key)
        if refusal is not None and refusal.at <= moment:
            self._unwritten.pop(key, None)
            self._flags.clear_flag(self._build_flag(key))

    def _build_flag(self, key: tuple[str, ...]) -> str:
        return "\n".join((self._flag_prefix, *key))


def _confirm_nothing(_: object) -> None:
    return None


def _is_never(_: object) -> bool:
    return False


_RENEWAL_FRACTION: Final = 0.25
"""Fraction of its lifetime after which a grant is written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The knowledge about a caller, a repository and a digest, as far as it counts now.

    `seconds_left`: for how many more seconds the caller may read the repository; 0 if it may not.
    `public_age`: seconds since the last allowed anonymous request began; None if it does not count.
    `is_anonymous`: the caller has no credentials, or an anonymous token that was issued for this
    repository. `member` and `entry` are those of `Access`.
    """

    seconds_left: float
    public_age: float | None
    is_anonymous: bool
    member: Member | None
    entry: Entry | None

    @property
    def is_newly_public(self) -> bool:
        """Whether the caller is the first anonymous one who may read the member."""
        return self.member is not None and not self.member.is_public and self.is_anonymous


Shown = tuple[Digest, Callable[[Standing], Member | None]]
"""A digest, and a function that returns the member to record; None if nothing about it is new."""


class RegistryGrants:
    """Turns successes and refusals into grants.

    Every method waits for the disk, and is called on the disk's threads. Methods that write raise
    StoreError. Moments are seconds of the ledger's clock (monotonic, since boot).
    """

    def __init__(self, registry: str, ledger: Ledger, policy: CachePolicy) -> None:
        self._registry = registry
        self._ledger = ledger
        self._policy = policy
        self._refusals = RecentRefusals(f"{registry} refused", policy.grant_ttl, ledger)
        self._anonymous_refusals = RecentRefusals(f"{registry} private", policy.stale_ttl, ledger)
        self._written_at = BoundedMap[float]()
        self.revocation_count = 0
        """How often this worker has withdrawn a right, whether or not the store could write it."""

    def lookup(
        self, caller: Caller, name: RepositoryName, digest: Digest | None = None
    ) -> Standing:
        """Return what is known and counts now, in one transaction.

        Refusals that no worker could write yet count as well. They are looked up first: one that is
        written in the meantime is in the ledger by the time the ledger is read.
        """
        is_refused = caller.lifetime <= 0 or self._refusals.has_unwritten(caller.name, name)
        is_private = self._anonymous_refusals.has_unwritten(name)
        access = self._ledger.lookup(caller.name, self._registry, name, digest)
        return Standing(
            seconds_left=0.0 if is_refused else access.seconds_left,
            public_age=None if is_private else access.public_age,
            is_anonymous=_is_anonymous(caller, name, access),
            member=access.member,
            entry=access.entry,
        )

    def was_public(self, standing: Standing) -> bool:
        """Return whether an anonymous caller could read it less than `stale_ttl` seconds ago."""
        return standing.public_age is not None and standing.public_age < self._policy.stale_ttl

    def compute_public_left(self, standing: Standing) -> float:
        """Return for how many more seconds the last anonymous success counts; 0 if it does not."""
        age = standing.public_age
        return 0.0 if age is None else max(self._policy.grant_ttl - age, 0.0)

    def record_success(
        self,
        caller: Caller,
        name: RepositoryName,
        requested_at: float,
        shown_content: Shown | None = None,
        standing: Standing | None = None,
    ) -> None:
        """Record that a request of the caller, begun at `requested_at`, was allowed.

        If the caller is anonymous, the repository is public. `shown_content` is the content that
        the answer is about. All of it is one transaction, which only reads if nothing is new.
        `standing` is the result of a lookup just before, if there was one.
        """
        digest, decide = shown_content or (None, _confirm_nothing)
        key = (caller.name, name)
        is_refused = self._refusals.was_refused_since(*key, moment=requested_at)
        # Without memory of a grant that was written lately, one must be written.
        now = self._ledger.now()
        may_last = min(self._policy.grant_ttl, caller.lifetime) > now - requested_at
        will_write = may_last and not is_refused and self._is_due(caller, name, now)
        with self._ledger.transaction() if will_write else nullcontext():
            standing = standing or self.lookup(caller, name, digest)
            member = decide(standing)
            now = self._ledger.now()
            seconds_left = min(self._policy.grant_ttl, caller.lifetime) - (now - requested_at)
            is_allowed = not is_refused and seconds_left > 0
            needs_grant = is_allowed and (
                self._is_due(caller, name, now) or standing.seconds_left <= 0
            )
            confirms_public = (
                standing.is_anonymous
                and not self._anonymous_refusals.was_refused_since(name, moment=requested_at)
            )
            needs_public = confirms_public and self._is_public_due(standing)
            recorded = Recorded()
            if needs_grant or needs_public or member is not None:
                recorded = self._ledger.record(
                    Confirmation(
                        registry=self._registry,
                        repository=name,
                        requested_at=requested_at,
                        caller=caller.name,
                        grant_seconds=seconds_left if needs_grant else None,
                        is_public=needs_public,
                        digest=digest,
                        member=member,
                    )
                )
        # Change the memory of this worker only when the transaction has been committed.
        if recorded.has_grant:
            self._written_at.put(key, now)
        if recorded.has_grant or (is_allowed and not needs_grant):
            self._refusals.clear(*key, moment=requested_at)
        if recorded.is_public or (confirms_public and not needs_public):
            self._anonymous_refusals.clear(name, moment=requested_at)
        if recorded.has_grant:
            self._write_refusals()

    def make_public(self, name: RepositoryName, requested_at: float) -> None:
        """Record that an anonymous request, begun at `requested_at`, was allowed."""
        if self._anonymous_refusals.was_refused_since(name, moment=requested_at):
            return
        confirmation = Confirmation(
            registry=self._registry, repository=name, requested_at=requested_at, is_public=True
        )
        if self._ledger.record(confirmation).is_public:
            self._anonymous_refusals.clear(name, moment=requested_at)

    def record_refusal(
        self,
        caller: Caller,
        name: RepositoryName,
        reply: Reply,
        digest: Digest | None = None,
        is_absent: Callable[[Member | None], bool] = _is_never,
    ) -> None:
        """Record a refusal: it revokes the caller's grant.

        `is_absent` takes the known member, and returns whether the refusal says that the repository
        does not hold `digest`.

        If the caller is anonymous, the repository is no longer public, except if the refusal is
        only a challenge to fetch a token. A 401 to an anonymous token for this repository means
        that the registry does not accept it: that token is not given out again.
        """
        access = self._ledger.lookup(caller.name, self._registry, name, digest)
        refused_at = self._refusals.record(caller.name, name, revokes=access.seconds_left > 0)
        self.revocation_count += 1
        is_private = _is_anonymous(caller, name, access) and not _is_challenge(caller, reply)
        private_at = self._remember_private(name, access) if is_private else 0.0
        self._ledger.refuse(
            Denial(
                registry=self._registry,
                repository=name,
                caller=caller.name,
                is_public=is_private,
                absent=digest if is_absent(access.member) else None,
            )
        )
        self._refusals.mark_written(caller.name, name, refused_at=refused_at)
        if is_private:
            self._anonymous_refusals.mark_written(name, refused_at=private_at)
        if reply.status == HTTPStatus.UNAUTHORIZED and caller.kind is CallerKind.TOKEN:
            token = callers.parse_anonymous_token(access.anonymous_token)
            if token is not None and name in token.repositories:  # other repositories may
                callers.forget_anonymous_token(self._ledger, token)

    def make_private(self, name: RepositoryName) -> None:
        """Record that anonymous callers may not read a repository."""
        refused_at = self._remember_private(name, self._ledger.lookup("", self._registry, name))
        self._unpublish(name, refused_at)

    def _remember_private(self, name: RepositoryName, access: Access) -> float:
        self.revocation_count += 1
        return self._anonymous_refusals.record(name, revokes=access.public_age is not None)

    def _is_due(self, caller: Caller, name: RepositoryName, now: float) -> bool:
        """Return whether this worker has not written the caller's grant lately."""
        written_at = self._written_at.get((caller.name, name))
        lifetime = min(self._policy.grant_ttl, caller.lifetime)
        return written_at is None or now - written_at >= lifetime * _RENEWAL_FRACTION

    def _is_public_due(self, standing: Standing) -> bool:
        age = standing.public_age
        return age is None or age >= self._policy.grant_ttl * _RENEWAL_FRACTION

    def _revoke(self, caller: str, name: str, refused_at: float) -> None:
        self._ledger.refuse(Denial(registry=self._registry, repository=name, caller=caller))
        self._refusals.mark_written(caller, name, refused_at=refused_at)

    def _unpublish(self, name: str, refused_at: float) -> None:
        self._ledger.refuse(Denial(registry=self._registry, repository=name, is_public=True))
        self._anonymous_refusals.mark_written(name, refused_at=refused_at)

    def _write_refusals(self) -> None:
        """Write the refusals that could not be written before, now that a write has succeeded."""
        for (caller, name), refused_at in self._refusals.list_unwritten():
            self._revoke(caller, name, refused_at)
        for (name,), refused_at in self._anonymous_refusals.list_unwritten():
            self._unpublish(name, refused_at)


def _is_anonymous(caller: Caller, name: RepositoryName, access: Access) -> bool:
    if caller.kind is not CallerKind.TOKEN:
        return caller.kind is CallerKind.ANONYMOUS
    token = callers.parse_anonymous_token(access.anonymous_token)
    return token is not None and name in token.repositories


def _is_challenge(caller: Caller, reply: Reply) -> bool:
    """Return whether a 401 only asks for a token, as it does for public repositories too."""
    return (
        caller.kind is CallerKind.ANONYMOUS
        and reply.status == HTTPStatus.UNAUTHORIZED
        and any(challenge.is_bearer for challenge in reply.challenges)
    )
