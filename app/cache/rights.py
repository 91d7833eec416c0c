"""Who may read which repository of a registry: what its answers say, and until when."""

from http import HTTPStatus
from typing import Final

from app.cache import nobodys
from app.cache.callers import Caller, Kind
from app.cache.lately import Lately
from app.cache.policy import Policy
from app.cache.refusals import Refusals
from app.content import Reply
from app.oci.reference import RepositoryName
from app.store.store import Store

_RENEWED: Final = 0.25
"""Part of its life that a grant has to be old before it is written again."""


class Rights:
    """Turns yes and no into grants; every method waits for the disk, and is called on its threads.

    What writes raises StoreError.
    """

    def __init__(self, registry: str, store: Store, policy: Policy) -> None:
        self._registry = registry
        self._store = store
        self._policy = policy
        self._refused = Refusals(f"{registry} refused", policy.grant_ttl, store)
        self._private = Refusals(f"{registry} private", policy.stale_ttl, store)
        self._written = Lately[float]()
        self.changes = 0
        """How often something was taken away here, written or not."""

    def permits(self, caller: Caller, name: RepositoryName) -> bool:
        """Tell whether the registry has lately let a caller read a repository."""
        return self.left(caller, name) > 0

    def left(self, caller: Caller, name: RepositoryName) -> float:
        """Return for how many more seconds that counts."""
        if caller.lifetime <= 0 or self._refused.counts(caller.name, name):
            return 0.0
        return self._store.grants.left(caller.name, self._registry, name)

    def was_public(self, name: RepositoryName) -> bool:
        """Tell whether the registry has let nobody in particular read it, not too long ago."""
        age = self._public_age(name)
        return age is not None and age < self._policy.stale_ttl

    def public_left(self, name: RepositoryName) -> float:
        """Return for how many more seconds the last yes to nobody counts."""
        age = self._public_age(name)
        return 0.0 if age is None else max(self._policy.grant_ttl - age, 0.0)

    def yes(self, caller: Caller, name: RepositoryName, asked: float) -> None:
        """Note that a question of that moment, by the store's clock, was answered."""
        self._grant(caller, name, asked)
        if self.is_nobody(caller, name):
            self.make_public(name, asked)

    def make_public(self, name: RepositoryName, asked: float) -> None:
        """Note that a question of that moment was answered to nobody in particular."""
        if self._private.since(name, moment=asked):
            return
        age = self._public_age(name)
        is_old = age is None or age >= self._policy.grant_ttl * _RENEWED
        if is_old and not self._store.grants.make_public(self._registry, name, asked=asked):
            return
        self._private.lift(name, moment=asked)

    def no(self, caller: Caller, name: RepositoryName, reply: Reply) -> None:
        """Note a refusal: it takes a grant away, and what was refused to nobody is not public."""
        revokes = self._store.grants.granted(caller.name, self._registry, name)
        at = self._refused.note(caller.name, name, revokes=revokes)
        self.changes += 1
        try:
            if self.is_nobody(caller, name) and not _is_challenge(caller, reply):
                self.make_private(name)
        finally:
            self._revoke(caller.name, name, at)
        if reply.status == HTTPStatus.UNAUTHORIZED and caller.kind is Kind.TOKEN:
            issued = nobodys.find(self._store, caller.name)
            if issued is not None and name in issued.names:  # elsewhere it is rightly refused
                nobodys.refused(self._store, issued)

    def make_private(self, name: RepositoryName) -> None:
        """Note that nobody in particular may read a repository."""
        revokes = self._store.grants.public_age(self._registry, name) is not None
        at = self._private.note(name, revokes=revokes)
        self.changes += 1
        self._unpublish(name, at)

    def is_nobody(self, caller: Caller, name: RepositoryName) -> bool:
        """Tell whether a caller shows nothing, or a token for this that everybody gets."""
        if caller.kind is not Kind.TOKEN:
            return caller.kind is Kind.NOBODY
        issued = nobodys.find(self._store, caller.name)
        return issued is not None and name in issued.names

    def _grant(self, caller: Caller, name: RepositoryName, asked: float) -> None:
        key, now = (caller.name, name), self._store.clock.now()
        if self._refused.since(*key, moment=asked):
            return
        life = min(self._policy.grant_ttl, caller.lifetime)
        left = life - (now - asked)
        if left <= 0:
            return
        written = self._written.get(key)
        is_young = written is not None and now - written < life * _RENEWED
        if is_young and self.permits(caller, name):
            self._refused.lift(*key, moment=asked)
            return
        if self._store.grants.grant(caller.name, self._registry, name, left, asked=asked):
            self._written.put(key, now)
            self._refused.lift(*key, moment=asked)
            self._write_refusals()

    def _revoke(self, caller: str, name: str, at: float) -> None:
        self._store.grants.revoke(caller, self._registry, name)
        self._refused.written(caller, name, at=at)

    def _unpublish(self, name: str, at: float) -> None:
        self._store.grants.make_private(self._registry, name)
        self._private.written(name, at=at)

    def _write_refusals(self) -> None:
        """Write what could not be written before, as soon as something else could be."""
        for (caller, name), at in self._refused.unwritten():
            self._revoke(caller, name, at)
        for (name,), at in self._private.unwritten():
            self._unpublish(name, at)

    def _public_age(self, name: RepositoryName) -> float | None:
        if self._private.counts(name):
            return None
        return self._store.grants.public_age(self._registry, name)


def _is_challenge(caller: Caller, reply: Reply) -> bool:
    """Tell whether a refusal only asks for a token, as registries do of what is public too."""
    return (
        caller.kind is Kind.NOBODY
        and reply.status == HTTPStatus.UNAUTHORIZED
        and any(one.is_bearer for one in reply.challenges)
    )
