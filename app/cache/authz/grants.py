"""Grants: who may read which repository of a registry, and until when.

The registry's answers give grants and take them away.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Generic, TypeVar

from app.cache.authz import callers
from app.cache.authz.callers import Caller, CallerKind
from app.cache.policy import CachePolicy
from app.oci.reference import RepositoryName
from app.source import Reply
from app.store.store import Store

_LATELY_MOST: Final = 10_000
"""Entries of a `BoundedMap`, unless its maker says otherwise."""

Thing = TypeVar("Thing")


class BoundedMap(Generic[Thing]):
    """A bounded dictionary of the latest entries, without a lock.

    It is used on native threads, and under gevent a lock from `threading` belongs to the event
    loop. Each step is one atomic operation of the interpreter. If two threads write at the same
    time, an entry may be lost.
    """

    def __init__(self, most: int = _LATELY_MOST) -> None:
        self._most = most
        self._entries: dict[tuple[str, ...], Thing] = {}

    def put(self, key: tuple[str, ...], thing: Thing) -> None:
        """Add or replace an entry, as the latest; if there are too many, drop the older half."""
        self._entries.pop(key, None)
        self._entries[key] = thing
        if len(self._entries) > self._most:
            self._entries = dict(list(self._entries.items())[-(self._most // 2) :])

    def get(self, key: tuple[str, ...]) -> Thing | None:
        """Return the entry; None if there is none, or it was dropped."""
        return self._entries.get(key)

    def forget(self, key: tuple[str, ...]) -> None:
        """Remove the entry, if there is one."""
        self._entries.pop(key, None)


# Refusals that this process knows, including those that the store could not write.

_MOST: Final = 1000
"""Signs of refusals that revoke nothing. Clients choose how many there are, so the latest stay."""


@dataclass(frozen=True, slots=True)
class _UnwrittenRefusal:
    at: float
    revokes: bool


class RecentRefusals:
    """The recent refusals of a registry; `lifetime` is how many seconds a success may count.

    If the store cannot be written, it goes on saying that a refused caller may read. Until the
    refusal is written, this worker does not believe the store about that caller, and a sign tells
    the other workers not to. Moments are seconds of the store's clock (monotonic, since boot).
    """

    def __init__(self, about: str, lifetime: float, store: Store) -> None:
        self._flag_prefix = about
        self._lifetime = lifetime
        self._flags = store.flags
        self._clock = store.clock
        self._refused_at = BoundedMap[float]()
        self._unwritten: dict[tuple[str, ...], _UnwrittenRefusal] = {}

    def record(self, *key: str, revokes: bool) -> float:
        """Remember a refusal that the store does not have yet, and return its moment.

        `revokes`: the store holds a right that the refusal takes away. If not, the refusal counts
        only against answers that are still on their way.
        """
        now = self._clock.now()
        self._refused_at.put(key, now)
        self._unwritten.pop(key, None)
        self._unwritten[key] = _UnwrittenRefusal(now, revokes)
        self._flags.set_flag(self._build_flag(key))
        if not revokes and len(self._unwritten) > _MOST:
            self._drop_oldest()
        return now

    def mark_written(self, *key: str, at: float) -> None:
        """Record that the store has the refusals up to `at`; a later one it may not have."""
        self._clear_unwritten(key, at)

    def was_refused_since(self, *key: str, moment: float) -> bool:
        """Return whether there was a refusal at `moment` or after it."""
        told = self._refused_at.get(key)
        return told is not None and told >= moment

    def clear(self, *key: str, moment: float) -> None:
        """Forget the refusals before `moment`, when a request began that has succeeded."""
        if not self.was_refused_since(*key, moment=moment):
            self._refused_at.forget(key)
        self._clear_unwritten(key, moment)

    def has_unwritten(self, *key: str) -> bool:
        """Return whether a worker knows of a refusal that the store does not have."""
        return key in self._prune_unwritten() or self._flags.is_set_elsewhere(self._build_flag(key))

    def list_unwritten(self) -> list[tuple[tuple[str, ...], float]]:
        """Return the refusals that the store lacks and that still matter, with their moments."""
        return [(key, one.at) for key, one in self._prune_unwritten().items()]

    def _prune_unwritten(self) -> dict[tuple[str, ...], _UnwrittenRefusal]:
        if self._unwritten:
            ended = self._clock.now() - self._lifetime
            for key, one in list(self._unwritten.items()):
                if one.at < ended:
                    self._clear_unwritten(key, one.at)
        return dict(self._unwritten)

    def _drop_oldest(self) -> None:
        slight = [
            (key, one.at) for key, one in list(self._unwritten.items()) if not one.revokes
        ]  # fmt: skip
        for key, at in slight[:-_MOST]:
            self._clear_unwritten(key, at)

    def _clear_unwritten(self, key: tuple[str, ...], moment: float) -> None:
        found = self._unwritten.get(key)
        if found is not None and found.at <= moment:
            self._unwritten.pop(key, None)
            self._flags.clear_flag(self._build_flag(key))

    def _build_flag(self, key: tuple[str, ...]) -> str:
        return "\n".join((self._flag_prefix, *key))


_RENEWED: Final = 0.25
"""Fraction of its lifetime after which a grant is written again."""


class RegistryGrants:
    """Turns successes and refusals into grants.

    Every method waits for the disk, and is called on the disk's threads. Methods that write raise
    StoreError. Moments are seconds of the store's clock (monotonic, since boot).
    """

    def __init__(self, registry: str, store: Store, policy: CachePolicy) -> None:
        self._registry = registry
        self._store = store
        self._policy = policy
        self._refusals = RecentRefusals(f"{registry} refused", policy.grant_ttl, store)
        self._anonymous_refusals = RecentRefusals(f"{registry} private", policy.stale_ttl, store)
        self._written_at = BoundedMap[float]()
        self.revocation_count = 0
        """How often this worker has withdrawn a right, whether or not the store could write it."""

    def has_grant(self, caller: Caller, name: RepositoryName) -> bool:
        """Return whether the caller has a grant for the repository now."""
        return self.seconds_left(caller, name) > 0

    def seconds_left(self, caller: Caller, name: RepositoryName) -> float:
        """Return for how many more seconds the caller's grant counts; 0 if there is none."""
        if caller.lifetime <= 0 or self._refusals.has_unwritten(caller.name, name):
            return 0.0
        return self._store.grants.seconds_left(caller.name, self._registry, name)

    def was_public(self, name: RepositoryName) -> bool:
        """Return whether an anonymous caller could read it less than `stale_ttl` seconds ago."""
        age = self._public_age(name)
        return age is not None and age < self._policy.stale_ttl

    def public_seconds_left(self, name: RepositoryName) -> float:
        """Return for how many more seconds the last anonymous success counts; 0 if it does not."""
        age = self._public_age(name)
        return 0.0 if age is None else max(self._policy.grant_ttl - age, 0.0)

    def record_success(self, caller: Caller, name: RepositoryName, asked: float) -> None:
        """Record that a request of the caller, begun at `asked`, was allowed."""
        self._grant(caller, name, asked)
        if self.is_anonymous(caller, name):
            self.make_public(name, asked)

    def make_public(self, name: RepositoryName, asked: float) -> None:
        """Record that an anonymous request, begun at `asked`, was allowed."""
        if self._anonymous_refusals.was_refused_since(name, moment=asked):
            return
        age = self._public_age(name)
        is_old = age is None or age >= self._policy.grant_ttl * _RENEWED
        if is_old and not self._store.grants.make_public(self._registry, name, asked=asked):
            return
        self._anonymous_refusals.clear(name, moment=asked)

    def record_refusal(self, caller: Caller, name: RepositoryName, reply: Reply) -> None:
        """Record a refusal: it revokes the caller's grant.

        If the caller is anonymous, the repository is no longer public, except if the refusal is
        only a challenge to fetch a token. A 401 to an anonymous token for this repository means
        that the registry does not accept it: that token is not given out again.
        """
        revokes = self._store.grants.has_grant(caller.name, self._registry, name)
        at = self._refusals.record(caller.name, name, revokes=revokes)
        self.revocation_count += 1
        try:
            if self.is_anonymous(caller, name) and not _is_challenge(caller, reply):
                self.make_private(name)
        finally:
            self._revoke(caller.name, name, at)
        if reply.status == HTTPStatus.UNAUTHORIZED and caller.kind is CallerKind.TOKEN:
            issued = callers.lookup_anonymous_token(self._store, caller.name)
            if issued is not None and name in issued.repositories:  # other repositories may
                callers.forget_anonymous_token(self._store, issued)

    def make_private(self, name: RepositoryName) -> None:
        """Record that anonymous callers may not read a repository."""
        revokes = self._store.grants.public_age(self._registry, name) is not None
        at = self._anonymous_refusals.record(name, revokes=revokes)
        self.revocation_count += 1
        self._unpublish(name, at)

    def is_anonymous(self, caller: Caller, name: RepositoryName) -> bool:
        """Return whether the caller is anonymous: no credentials, or an anonymous token.

        The token must have been issued for this repository.
        """
        if caller.kind is not CallerKind.TOKEN:
            return caller.kind is CallerKind.ANONYMOUS
        issued = callers.lookup_anonymous_token(self._store, caller.name)
        return issued is not None and name in issued.repositories

    def _grant(self, caller: Caller, name: RepositoryName, asked: float) -> None:
        key, now = (caller.name, name), self._store.clock.now()
        if self._refusals.was_refused_since(*key, moment=asked):
            return
        life = min(self._policy.grant_ttl, caller.lifetime)
        left = life - (now - asked)
        if left <= 0:
            return
        written = self._written_at.get(key)
        is_young = written is not None and now - written < life * _RENEWED
        if is_young and self.has_grant(caller, name):
            self._refusals.clear(*key, moment=asked)
            return
        if self._store.grants.grant(caller.name, self._registry, name, left, asked=asked):
            self._written_at.put(key, now)
            self._refusals.clear(*key, moment=asked)
            self._write_refusals()

    def _revoke(self, caller: str, name: str, at: float) -> None:
        self._store.grants.revoke(caller, self._registry, name)
        self._refusals.mark_written(caller, name, at=at)

    def _unpublish(self, name: str, at: float) -> None:
        self._store.grants.make_private(self._registry, name)
        self._anonymous_refusals.mark_written(name, at=at)

    def _write_refusals(self) -> None:
        """Write the refusals that could not be written before, now that a write has succeeded."""
        for (caller, name), at in self._refusals.list_unwritten():
            self._revoke(caller, name, at)
        for (name,), at in self._anonymous_refusals.list_unwritten():
            self._unpublish(name, at)

    def _public_age(self, name: RepositoryName) -> float | None:
        if self._anonymous_refusals.has_unwritten(name):
            return None
        return self._store.grants.public_age(self._registry, name)


def _is_challenge(caller: Caller, reply: Reply) -> bool:
    """Return whether a 401 only asks for a token, as it does for public repositories too."""
    return (
        caller.kind is CallerKind.ANONYMOUS
        and reply.status == HTTPStatus.UNAUTHORIZED
        and any(one.is_bearer for one in reply.challenges)
    )
