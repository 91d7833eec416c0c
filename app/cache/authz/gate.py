"""The gate: the only way out for content that the cache holds of a registry."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from app.cache.authz import evidence
from app.cache.authz.callers import Caller
from app.cache.authz.evidence import Judging, Wanted
from app.cache.authz.grants import Rights
from app.cache.authz.members import Membership, Opened, Standing
from app.cache.disk import Disk
from app.cache.policy import Policy
from app.oci.errors import RegistryError
from app.oci.reference import Digest, RepositoryName
from app.source import Reply
from app.store.admin import Held
from app.store.errors import StoreError

Used = TypeVar("Used")
Other = TypeVar("Other")


class Gate:
    """Opens cached content for callers whom the registry has recently let read the repository.

    A caller needs two things. Member: the registry has said that this repository holds this digest.
    Grant: the registry has recently let this caller read this repository. If either is missing, the
    registry is asked in the caller's name (`ask`), and its answer supplies what was missing.

    The methods wait for the disk on native threads, so that the event loop goes on. Only
    methods that ask the registry raise RegistryError.
    """

    def __init__(self, registry: str, disk: Disk, policy: Policy) -> None:
        self._registry = registry
        self._disk = disk
        self._store = disk.store
        self._rights = Rights(registry, disk.store, policy)
        self._members = Membership(registry, disk.store, self._rights)
        self._judging = Judging(self._rights, self._members)

    def open(self, caller: Caller, name: RepositoryName, digest: Digest) -> Opened | None:
        """Return the cached content, opened; whoever receives it closes its file.

        Return None if the content is not cached, or `caller` may not read it now.
        """
        return self.use(caller, name, digest, _itself)

    def use(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        then: Callable[[Opened], Used | None],
    ) -> Used | None:
        """Return `then(opened)`, called on the thread that opens the content.

        Return None, without calling `then`, if the content is not cached or `caller` may not read
        it. `then` closes the file, unless it hands it on.
        """
        return self._use(caller, name, digest, then, _nothing)

    def look(self, caller: Caller, name: RepositoryName, digest: Digest) -> Opened | Standing:
        """Return what `open` does or, if that is None, what is known, in one trip to the disk."""
        otherwise = partial(self._members.standing, caller, name, digest)
        return self._use(caller, name, digest, _itself, otherwise)

    def open_stale(self, name: RepositoryName, digest: Digest) -> Opened | None:
        """Return public content, opened, for use while the registry cannot be asked.

        Return None if the content is not cached, if no anonymous caller has ever been let read it
        in this repository, or if the repository is not known to have been public recently.
        """
        return self.use_stale(name, digest, _itself)

    def use_stale(
        self, name: RepositoryName, digest: Digest, then: Callable[[Opened], Used | None]
    ) -> Used | None:
        """Return `then(opened)` as `use` does, for content that `open_stale` would return."""
        return self._disk.read(lambda: self._used_stale(name, digest, then))

    @property
    def changes(self) -> int:
        """How often this worker has withdrawn a right or a member; any caller may be affected."""
        return self._rights.changes

    def permits(self, caller: Caller, name: RepositoryName) -> bool:
        """Return whether the caller has a grant for the repository now."""
        return self._disk.read(self._rights.permits, caller, name)

    def was_public(self, name: RepositoryName) -> bool:
        """Return whether anyone may read the repository while the registry cannot be asked.

        This is so if an anonymous caller could read it less than `stale_ttl` seconds ago.
        """
        return self._disk.read(self._rights.was_public, name)

    def is_nobody(self, caller: Caller, name: RepositoryName) -> bool:
        """Return whether the caller is anonymous: no credentials, or an anonymous token.

        The token must have been issued for this repository.
        """
        return self._disk.read(self._rights.is_nobody, caller, name)

    def public_left(self, caller: Caller, name: RepositoryName) -> float:
        """Return for how many seconds shared caches may keep the answer; 0 for not at all.

        It is 0 unless the caller is anonymous. An anonymous caller might be refused what one with
        credentials is given.
        """
        return self._disk.read(self._public_left, caller, name)

    def standing(self, caller: Caller, name: RepositoryName, digest: Digest) -> Standing:
        """Return what is known about content that could not be opened; this grants nothing."""
        return self._disk.read(self._members.standing, caller, name, digest)

    def unconfirmed(
        self, caller: Caller, name: RepositoryName, digests: Sequence[Digest]
    ) -> tuple[list[Digest], list[Digest]]:
        """Return the digests that are cached but unconfirmed here, and those that are not cached.

        A digest is unconfirmed if the registry has not yet said that this repository holds it or,
        if the caller is anonymous, has not yet let an anonymous caller read it here.
        """
        return self._disk.read(self._members.unconfirmed, caller, name, digests)

    def kept_size(self, digest: Digest) -> int | None:
        """Return the size of the cached content in bytes, whoever may read it; None if uncached."""
        return self._disk.read(self._store.size, self._registry, digest)

    def now(self) -> float:
        """Return the seconds since boot (monotonic), a clock that all workers share."""
        return self._store.clock.now()

    def verified(
        self, caller: Caller, name: RepositoryName, digest: Digest, sent: tuple[str, float]
    ) -> bool:
        """Record that a repository sent content to a caller, and that its hash is the digest.

        `sent` is the media type, and the moment of the request by `now`. A blob has no type (""):
        anyone who could choose one for it could turn it into a manifest that the registry does not
        know. Return False if the store could not write it; the log says why.
        """
        return self._disk.write(self._judging.verified, caller, name, digest, sent)

    def ask(
        self,
        caller: Caller,
        name: RepositoryName,
        question: Callable[[], Reply],
        digest: Digest,
    ) -> Reply:
        """Return the answer to `question`, a request for a blob in the caller's name.

        The answer decides what the caller may read from now on. Raise what `question` raises.
        """
        return self._asked(
            question,
            lambda began, reply: self._judging.blob(caller, name, began, reply, digest),
        )

    def ask_manifest(
        self,
        caller: Caller,
        name: RepositoryName,
        question: Callable[[], Reply],
        digest: Digest | None = None,
        accepts: Sequence[str] = (),
    ) -> Reply:
        """Return the answer to `question`, a request for a manifest in the caller's name.

        The answer decides what the caller may read from now on. `digest` is None for a request by
        tag: then the answer supplies the digest. `accepts` are the values of the request's Accept.
        Raise what `question` raises.
        """
        return self._asked(
            question,
            lambda began, reply: self._judging.manifest(
                caller, name, began, reply, Wanted(digest, accepts)
            ),
        )

    def refused_to_nobody(self, name: RepositoryName) -> None:
        """Record that the registry's token service refuses anonymous callers for a repository."""
        self._disk.write(self._rights.make_private, name)

    def prove(
        self, caller: Caller, name: RepositoryName, question: Callable[[Held], Reply]
    ) -> None:
        """Ask the registry whether a repository is still public, after it answered 404.

        Do nothing unless the caller is anonymous.

        Some registries answer 404 to hide a private repository; most mean that one tag does not
        exist. `question` therefore requests a manifest that is cached and known to be a member. The
        answer grants no caller anything. Registry errors are ignored.
        """
        if not self.is_nobody(caller, name):
            return
        held = self._disk.read(self._witness, name)
        if held is None:
            return
        began = self.now()
        with suppress(RegistryError):
            reply = question(held)
            reply.close()
            if reply.status == HTTPStatus.OK and evidence.is_manifest(reply, held.digest):
                self._disk.write(self._rights.make_public, name, began)

    def _witness(self, name: RepositoryName) -> Held | None:
        with suppress(StoreError):
            return self._store.holdings.manifest_of(self._registry, name)
        return None

    def _asked(self, question: Callable[[], Reply], judge: Callable[[float, Reply], None]) -> Reply:
        began = self.now()
        reply = question()
        try:
            self._disk.write(judge, began, reply)
        except BaseException:
            reply.close()
            raise
        return reply

    def _use(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        then: Callable[[Opened], Used | None],
        otherwise: Callable[[], Other],
    ) -> Used | Other:
        unshown = list[Digest]()
        used = self._disk.read(
            lambda: self._used(caller, name, digest, then, unshown) or otherwise()
        )
        if unshown:
            self._disk.write(self._members.show, name, digest)
        return used

    def _used(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        then: Callable[[Opened], Used | None],
        unshown: list[Digest],
    ) -> Used | None:
        left = self._rights.left(caller, name)
        if left <= 0:
            return None
        found = self._members.open(name, digest)
        if found is None:
            return None
        content, member = found
        is_shown = member.is_shown
        if self._members.is_news(caller, name, member):
            unshown.append(digest)
            is_shown = True
        public_left = self._rights.public_left(name) if is_shown else 0.0
        return then(Opened.of(content, member.media_type, left, public_left))

    def _used_stale(
        self, name: RepositoryName, digest: Digest, then: Callable[[Opened], Used | None]
    ) -> Used | None:
        """Use content that an anonymous caller was let read, whether or not it is still public.

        A repository that was public says nothing about content added since, so the member itself
        must have been shown to an anonymous caller.
        """
        if not self._rights.was_public(name):
            return None
        found = self._members.open(name, digest, shown=True)
        if found is None:
            return None
        content, member = found
        return then(Opened.of(content, member.media_type, 0.0, 0.0))

    def _public_left(self, caller: Caller, name: RepositoryName) -> float:
        return self._rights.public_left(name) if self._rights.is_nobody(caller, name) else 0.0


def _nothing() -> None:
    return None


def _itself(opened: Opened) -> Opened | None:
    return opened
