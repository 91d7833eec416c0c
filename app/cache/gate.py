"""The gate: what is kept of a registry goes out through here, and nowhere else."""

import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, TypeVar

from app.cache.callers import Caller
from app.cache.disk import Disk
from app.cache.opened import Opened
from app.cache.pages import is_page
from app.cache.policy import Policy
from app.cache.rights import Rights
from app.content import Reply
from app.oci.errors import DigestInvalid, RegistryError
from app.oci.reference import Digest, RepositoryName
from app.store.contents import Content
from app.store.errors import StoreError
from app.store.holdings import Held

_NO: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

Used = TypeVar("Used")


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
        return self._disk.read(lambda: self._used(caller, name, digest, then))

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

    def public_left(self, name: RepositoryName) -> float:
        """Return the seconds for which others may keep what is public; 0 for what is not."""
        return self._disk.read(self._rights.public_left, name)

    def holds(self, name: RepositoryName, digest: Digest) -> bool:
        """Tell whether a repository is known to hold something; that lets nobody read it."""
        return self._disk.read(self._store.members.find, self._registry, name, digest) is not None

    def kept_size(self, digest: Digest) -> int | None:
        """Return the bytes of what is kept, whoever may read it; None if it is not."""
        return self._disk.read(self._store.size, self._registry, digest)

    def verified(self, name: RepositoryName, digest: Digest, media_type: str = "") -> bool:
        """Note that a repository holds what it has sent, and what was hashed here.

        `media_type` is the one of a manifest. A blob has none: whoever could choose one for it
        would have a manifest that the registry does not know.
        """
        return self._disk.write(self._store.members.add, self._registry, name, digest, media_type)

    def ask(
        self,
        caller: Caller,
        name: RepositoryName,
        question: Callable[[], Reply],
        digest: Digest | None = None,
    ) -> Reply:
        """Ask for a blob, in the caller's name: the answer decides what the caller may read."""
        return self._asked(caller, name, question, lambda reply: (_told(reply, digest), ""))

    def ask_manifest(
        self,
        caller: Caller,
        name: RepositoryName,
        question: Callable[[], Reply],
        digest: Digest | None = None,
    ) -> Reply:
        """Ask for a manifest, in the caller's name; by a tag, the answer tells the digest."""
        return self._asked(
            caller,
            name,
            question,
            lambda reply: (_told(reply, digest), reply.header("content-type")),
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
        began = time.monotonic()
        with suppress(RegistryError):
            reply = question(held)
            reply.close()
            if reply.status == HTTPStatus.OK and not is_page(reply):
                self._disk.write(self._rights.make_public, name, began)

    def _witness(self, name: RepositoryName) -> Held | None:
        with suppress(StoreError):
            return self._store.holdings.manifest_of(self._registry, name)
        return None

    def _asked(
        self,
        caller: Caller,
        name: RepositoryName,
        question: Callable[[], Reply],
        about: Callable[[Reply], tuple[Digest | None, str]],
    ) -> Reply:
        began = time.monotonic()
        reply = question()
        try:
            self._disk.write(self._note, caller, name, began, reply, about)
        except BaseException:
            reply.close()
            raise
        return reply

    def _note(
        self,
        caller: Caller,
        name: RepositoryName,
        began: float,
        reply: Reply,
        about: Callable[[Reply], tuple[Digest | None, str]],
    ) -> None:
        digest, media_type = about(reply)
        if is_page(reply):
            self._rights.no(caller, name, reply)
        elif reply.status < HTTPStatus.MULTIPLE_CHOICES or reply.status == HTTPStatus.NOT_MODIFIED:
            self._rights.yes(caller, name, began, digest)
            if digest is not None and reply.status == HTTPStatus.OK:
                self._confirm(name, digest, reply.length, media_type)
        elif reply.status in _NO:
            self._rights.no(caller, name, reply)
            if reply.status == HTTPStatus.NOT_FOUND and digest is not None:
                self._rights.lost(name, digest)

    def _confirm(
        self, name: RepositoryName, digest: Digest, size: int | None, media_type: str
    ) -> None:
        """Note that a repository holds what is kept, of which the registry says the same."""
        if size is None or size != self._store.size(self._registry, digest):
            return
        known = self._store.members.find(self._registry, name, digest)
        # A GET has told the type of the bytes that it sent; some registries' HEADs tell another.
        if known is None or (media_type and not known.media_type):
            self._store.members.add(self._registry, name, digest, media_type)

    def _used(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        then: Callable[[Opened], Used | None],
    ) -> Used | None:
        left = self._rights.left(caller, name)
        if left <= 0:
            return None
        content = self._member(name, digest)
        if content is None:
            return None
        public_left = self._rights.public_left(name)
        return then(Opened.of(*content, left, public_left))

    def _used_stale(
        self, name: RepositoryName, digest: Digest, then: Callable[[Opened], Used | None]
    ) -> Used | None:
        if not self._rights.was_public(name):
            return None
        content = self._member(name, digest)
        return None if content is None else then(Opened.of(*content, 0.0, 0.0))

    def _member(self, name: RepositoryName, digest: Digest) -> tuple[Content, str] | None:
        """Open what a repository is known to hold, and tell what it is called there."""
        member = self._store.members.find(self._registry, name, digest)
        if member is None:
            return None
        content = self._store.open(self._registry, digest)
        return None if content is None else (content, member.media_type)


def _itself(opened: Opened) -> Opened | None:
    return opened


def _told(reply: Reply, asked: Digest | None) -> Digest | None:
    """Return the digest that an answer is about; None where it is about another than was asked."""
    text = reply.header("docker-content-digest")
    if not text:
        return asked
    try:
        told = Digest.parse(text)
    except DigestInvalid:
        return None
    return told if asked is None or told == asked else None
