"""The gate: what is kept of a registry goes out through here, and nowhere else."""

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
    """Opens what is kept for those whom the registry has lately let read the repository.

    Two things are needed. Member: the registry has said that this repository holds this digest.
    Grant: it has lately let this caller read this repository. Whoever lacks one of them is answered
    by the registry (`ask`), and its answer tells what was lacking.
    """

    def __init__(self, registry: str, disk: Disk, policy: Policy) -> None:
        self._registry = registry
        self._disk = disk
        self._store = disk.store
        self._rights = Rights(registry, disk.store, policy)
        self._members = Membership(registry, disk.store, self._rights)
        self._judging = Judging(self._rights, self._members)

    def open(self, caller: Caller, name: RepositoryName, digest: Digest) -> Opened | None:
        """Return what is kept, if this caller may read it now; whoever gets it closes its file."""
        return self.use(caller, name, digest, _itself)

    def use(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        then: Callable[[Opened], Used | None],
    ) -> Used | None:
        """Do something with what is kept, on the thread that opens it; None if that may not be."""
        return self._use(caller, name, digest, then, _nothing)

    def look(self, caller: Caller, name: RepositoryName, digest: Digest) -> Opened | Standing:
        """Do as `open` does, or else tell what there is: a way to the disk for all of it."""
        otherwise = partial(self._members.standing, caller, name, digest)
        return self._use(caller, name, digest, _itself, otherwise)

    def open_stale(self, name: RepositoryName, digest: Digest) -> Opened | None:
        """Return what everybody may read while the registry cannot be asked."""
        return self.use_stale(name, digest, _itself)

    def use_stale(
        self, name: RepositoryName, digest: Digest, then: Callable[[Opened], Used | None]
    ) -> Used | None:
        """Do something with what everybody may read while the registry cannot be asked."""
        return self._disk.read(lambda: self._used_stale(name, digest, then))

    @property
    def changes(self) -> int:
        """How often this worker has taken something away; each time may concern anybody."""
        return self._rights.changes

    def permits(self, caller: Caller, name: RepositoryName) -> bool:
        """Tell whether a caller may read a repository now."""
        return self._disk.read(self._rights.permits, caller, name)

    def was_public(self, name: RepositoryName) -> bool:
        """Tell whether everybody may read a repository while the registry cannot be asked."""
        return self._disk.read(self._rights.was_public, name)

    def is_nobody(self, caller: Caller, name: RepositoryName) -> bool:
        """Tell whether a caller shows nothing, or a token for a repository that everybody gets."""
        return self._disk.read(self._rights.is_nobody, caller, name)

    def public_left(self, caller: Caller, name: RepositoryName) -> float:
        """Return for how many seconds others may keep what a caller is given; 0 for not at all.

        What is given to a login may be what nobody in particular is given.
        """
        return self._disk.read(self._public_left, caller, name)

    def standing(self, caller: Caller, name: RepositoryName, digest: Digest) -> Standing:
        """Tell how it stands with what a caller was not given; that lets nobody read it."""
        return self._disk.read(self._members.standing, caller, name, digest)

    def unconfirmed(
        self, caller: Caller, name: RepositoryName, digests: Sequence[Digest]
    ) -> tuple[list[Digest], list[Digest]]:
        """Return what is kept and needs the registry's word here, and what is not kept."""
        return self._disk.read(self._members.unconfirmed, caller, name, digests)

    def kept_size(self, digest: Digest) -> int | None:
        """Return the bytes of what is kept, whoever may read it; None if it is not."""
        return self._disk.read(self._store.size, self._registry, digest)

    def now(self) -> float:
        """Return the moment, in seconds of the clock that all workers of the machine share."""
        return self._store.clock.now()

    def verified(
        self, caller: Caller, name: RepositoryName, digest: Digest, sent: tuple[str, float]
    ) -> bool:
        """Note that a repository holds what it has sent to a caller, and what was hashed here.

        `sent` is the media type of a manifest, and the moment at which it was asked for. A blob has
        no type, "": whoever could choose one for it would have a manifest that the registry does
        not know.
        """
        return self._disk.write(self._judging.verified, caller, name, digest, sent)

    def ask(
        self,
        caller: Caller,
        name: RepositoryName,
        question: Callable[[], Reply],
        digest: Digest,
    ) -> Reply:
        """Ask for a blob, in the caller's name: the answer decides what the caller may read."""
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
        """Ask for a manifest, in the caller's name; by a tag, the answer tells the digest.

        `accepts` are the media types that are asked for.
        """
        return self._asked(
            question,
            lambda began, reply: self._judging.manifest(
                caller, name, began, reply, Wanted(digest, accepts)
            ),
        )

    def refused_to_nobody(self, name: RepositoryName) -> None:
        """Note that the registry's token service gives nobody a token for a repository."""
        self._disk.write(self._rights.make_private, name)

    def prove(
        self, caller: Caller, name: RepositoryName, question: Callable[[Held], Reply]
    ) -> None:
        """Have the registry say whether a repository is still public, after a 404 to nobody.

        Some hide with a 404 what is not to be read, and most say with it that one tag is not
        there: it is asked for something that is kept. The answer lets nobody read anything.
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
        """Use what nobody in particular was let read, be the repository public or not by now.

        That it was public says nothing of what has come since: who could tell does not ask.
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
