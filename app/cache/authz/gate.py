"""The gate: opens cached content, for callers who may read it.

Blobs that are still being fetched are outside it (app/cache/blobs/blobs.py).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self, TypeVar

from app.cache.authz import evidence
from app.cache.authz.callers import Caller, CallerKind
from app.cache.authz.evidence import EvidenceRecorder, RequestedContent
from app.cache.authz.grants import RegistryGrants, Standing
from app.cache.disk import DiskExecutor
from app.cache.policy import CachePolicy
from app.oci.errors import RegistryError
from app.oci.reference import Digest, RepositoryName
from app.source import Reply
from app.store.blobs import Content
from app.store.ledger import MemberContent


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedContent(Content):
    """Cached content, opened for a caller who may read it; `media_type` is the repository's.

    `seconds_left`: seconds for which the caller may read it. `public_seconds_left`: seconds for
    which shared caches may keep it; 0 unless it is public.
    """

    seconds_left: float
    public_seconds_left: float

    @classmethod
    def from_content(
        cls, content: Content, media_type: str, seconds_left: float, public_seconds_left: float
    ) -> Self:
        """Return the content with the media type and the rights it has in one repository."""
        return cls(
            blob=content.blob,
            size=content.size,
            media_type=media_type,
            stored_at=content.stored_at,
            location=content.location,
            seconds_left=seconds_left,
            public_seconds_left=public_seconds_left,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessState:
    """The state of content that could not be opened for a caller.

    `has_grant`: the caller may read the repository. `is_member`: the repository holds the digest.
    `is_cached`: the bytes are cached, whoever may read them.
    """

    has_grant: bool
    is_member: bool
    is_cached: bool


Result = TypeVar("Result")

_NOBODY: Final = Caller("", CallerKind.ANONYMOUS)
"""Stands for all anonymous callers, where only what is public matters."""


class Gate:
    """Opens cached content for callers that the registry has recently allowed to read.

    A caller needs two things. Member: the registry has said that this repository holds this digest.
    Grant: the registry has recently let this caller read this repository. If either is missing, the
    registry is asked in the caller's name (`fetch_blob`), and its answer supplies what was missing.

    The methods wait for the disk on native threads, so that the event loop goes on. Only
    methods that ask the registry raise RegistryError.
    """

    def __init__(self, registry: str, disk: DiskExecutor, policy: CachePolicy) -> None:
        self._registry = registry
        self._disk = disk
        self._ledger = disk.ledger
        self._grants = RegistryGrants(registry, disk.ledger, policy)
        self._recorder = EvidenceRecorder(self._grants, self._ledger, registry)

    def open(
        self, caller: Caller, name: RepositoryName, digest: Digest
    ) -> AuthorizedContent | None:
        """Return the cached content, opened; its recipient closes the blob.

        Return None if the content is not cached, or `caller` may not read it now.
        """
        return self.open_and_apply(caller, name, digest, _return_unchanged)

    def open_and_apply(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        use: Callable[[AuthorizedContent], Result | None],
    ) -> Result | None:
        """Return what `use` returns for the content, on the thread that opens it.

        Return None, without calling `use`, if the content is not cached or `caller` may not read
        it. `use` closes the blob, unless it hands it on.
        """
        return self._open_and_record(
            caller,
            name,
            digest,
            lambda result: None if isinstance(result, AccessState) else use(result),
        )

    def open_or_explain(
        self, caller: Caller, name: RepositoryName, digest: Digest
    ) -> AuthorizedContent | AccessState:
        """Return what `open` returns or, in place of None, an AccessState; one trip to the disk."""
        return self._open_and_record(caller, name, digest, lambda result: result)

    def open_stale(self, name: RepositoryName, digest: Digest) -> AuthorizedContent | None:
        """Return public content, opened, for use while the registry cannot be asked.

        Return None if the content is not cached, if no anonymous caller was ever allowed to read it
        in this repository, or if the repository is not known to have been public recently.
        """
        return self.open_stale_and_apply(name, digest, _return_unchanged)

    def open_stale_and_apply(
        self,
        name: RepositoryName,
        digest: Digest,
        use: Callable[[AuthorizedContent], Result | None],
    ) -> Result | None:
        """Do as `open_and_apply` does, for content that `open_stale` would return."""
        return self._disk.read(lambda: self._open_public(name, digest, use))

    @property
    def revocation_count(self) -> int:
        """How often this worker has withdrawn a right or a member; any caller may be affected."""
        return self._grants.revocation_count

    def has_grant(self, caller: Caller, name: RepositoryName) -> bool:
        """Return whether the caller has a grant for the repository now."""
        return self._disk.read(self._grants.lookup, caller, name).seconds_left > 0

    def was_public(self, name: RepositoryName) -> bool:
        """Return whether anyone may read the repository while the registry cannot be asked.

        This is so if an anonymous caller could read it less than `stale_ttl` seconds ago.
        """
        return self._grants.was_public(self._disk.read(self._grants.lookup, _NOBODY, name))

    def is_anonymous(self, caller: Caller, name: RepositoryName) -> bool:
        """Return whether the caller is anonymous: no credentials, or an anonymous token.

        The token must have been issued for this repository.
        """
        if caller.kind is not CallerKind.TOKEN:
            return caller.kind is CallerKind.ANONYMOUS
        return self._disk.read(self._grants.lookup, caller, name).is_anonymous

    def public_seconds_left(self, caller: Caller, name: RepositoryName) -> float:
        """Return for how many seconds shared caches may keep the answer; 0 for not at all.

        It is 0 unless the caller is anonymous: the registry might refuse an anonymous caller what
        it gives to one with credentials.
        """
        standing = self._disk.read(self._grants.lookup, caller, name)
        return self._grants.compute_public_left(standing) if standing.is_anonymous else 0.0

    def lookup_access(self, caller: Caller, name: RepositoryName, digest: Digest) -> AccessState:
        """Return what is known about content that could not be opened; this grants nothing."""
        return self._disk.read(lambda: self._describe(self._grants.lookup(caller, name, digest)))

    def find_unconfirmed(
        self, caller: Caller, name: RepositoryName, digests: Sequence[Digest]
    ) -> tuple[list[Digest], list[Digest]]:
        """Return the digests that are cached but unconfirmed here, and those that are not cached.

        A digest is unconfirmed if the registry has not yet said that this repository holds it or,
        if the caller is anonymous, has not yet let an anonymous caller read it here.
        """
        return self._disk.read(self._find_unconfirmed, caller, name, digests)

    def lookup_size(self, digest: Digest) -> int | None:
        """Return the size of the cached content in bytes, whoever may read it; None if uncached."""
        blob_stat = self._disk.read(self._disk.blobs.stat, self._registry, digest)
        return None if blob_stat is None else blob_stat.size

    def now(self) -> float:
        """Return the seconds since boot (monotonic), a clock that all workers share."""
        return self._ledger.now()

    def record_verified(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        response_info: tuple[str, float],
        write_too: Callable[[], None] | None = None,
    ) -> bool:
        """Record that a repository sent content to a caller, and that its hash is the digest.

        `response_info` is the media type, and the moment of the request by `now`. A blob's type is
        "": a caller who could choose another could turn the blob into a manifest that the registry
        does not know. `write_too` is called in the same transaction. Return False if the store
        could not write the record; the log says why.
        """
        return self._disk.write(
            self._recorder.record_verified, caller, name, digest, response_info, write_too
        )

    def fetch_blob(
        self,
        caller: Caller,
        name: RepositoryName,
        fetch: Callable[[], Reply],
        digest: Digest,
    ) -> Reply:
        """Return the answer to `fetch`, a request for a blob in the caller's name.

        The answer decides what the caller may read from now on. Raise what `fetch` raises.
        """
        return self._fetch_and_record(
            fetch,
            lambda requested_at, reply: self._recorder.record_blob(
                caller, name, requested_at, reply, digest
            ),
        )

    def fetch_manifest(
        self,
        caller: Caller,
        name: RepositoryName,
        fetch: Callable[[], Reply],
        digest: Digest | None = None,
        accepts: Sequence[str] = (),
    ) -> Reply:
        """Return the answer to `fetch`, a request for a manifest in the caller's name.

        The answer decides what the caller may read from now on. `digest` is None for a request by
        tag: then the answer supplies the digest. `accepts` are the values of the request's Accept.
        Raise what `fetch` raises.
        """
        return self._fetch_and_record(
            fetch,
            lambda requested_at, reply: self._recorder.record_manifest(
                caller, name, requested_at, reply, RequestedContent(digest, accepts)
            ),
        )

    def record_anonymous_refusal(self, name: RepositoryName) -> None:
        """Record that the registry's token service refuses anonymous callers for a repository."""
        self._disk.write(self._grants.make_private, name)

    def recheck_public(
        self, caller: Caller, name: RepositoryName, fetch: Callable[[MemberContent], Reply]
    ) -> None:
        """Ask the registry whether a repository is still public, after it answered 404.

        Do nothing unless the caller is anonymous.

        Some registries answer 404 to hide a private repository; most mean that one tag does not
        exist. `fetch` therefore requests a manifest that is cached and known to be a member. The
        answer grants no caller anything. Registry errors are ignored.
        """
        if not self.is_anonymous(caller, name):
            return
        member = self._disk.read(self._ledger.find_manifest, self._registry, name)
        if member is None:
            return
        requested_at = self.now()
        with suppress(RegistryError):
            reply = fetch(member)
            reply.close()
            if reply.status == HTTPStatus.OK and evidence.is_manifest(reply, member.digest):
                self._disk.write(self._grants.make_public, name, requested_at)

    def _fetch_and_record(
        self, fetch: Callable[[], Reply], record: Callable[[float, Reply], None]
    ) -> Reply:
        requested_at = self.now()
        reply = fetch()
        try:
            self._disk.write(record, requested_at, reply)
        except BaseException:
            reply.close()
            raise
        return reply

    def _open_and_record(
        self,
        caller: Caller,
        name: RepositoryName,
        digest: Digest,
        use: Callable[[AuthorizedContent | AccessState], Result],
    ) -> Result:
        """Call `use` on the thread that opens the content, or fails to; return its result."""
        newly_public = list[Digest]()
        result = self._disk.read(
            lambda: use(self._open_granted(caller, name, digest, newly_public))
        )
        if newly_public:
            self._disk.write(self._ledger.mark_public, self._registry, name, digest)
        return result

    def _open_granted(
        self, caller: Caller, name: RepositoryName, digest: Digest, newly_public: list[Digest]
    ) -> AuthorizedContent | AccessState:
        standing = self._grants.lookup(caller, name, digest)
        if standing.seconds_left <= 0 or standing.member is None or standing.entry is None:
            return self._describe(standing)
        content = self._disk.blobs.open_entry(standing.entry)
        if content is None:
            return self._describe(standing)
        is_public = standing.member.is_public
        if standing.is_newly_public:
            newly_public.append(digest)
            is_public = True
        return AuthorizedContent.from_content(
            content,
            standing.member.media_type,
            standing.seconds_left,
            self._grants.compute_public_left(standing) if is_public else 0.0,
        )

    def _open_public(
        self,
        name: RepositoryName,
        digest: Digest,
        use: Callable[[AuthorizedContent], Result | None],
    ) -> Result | None:
        """Use content that an anonymous caller was allowed to read, even if it is no longer public.

        A repository that was public says nothing about content added since, so the member itself
        must have been shown to an anonymous caller.
        """
        standing = self._grants.lookup(_NOBODY, name, digest)
        if not self._grants.was_public(standing):
            return None
        member, entry = standing.member, standing.entry
        if member is None or not member.is_public or entry is None:
            return None
        content = self._disk.blobs.open_entry(entry)
        if content is None:
            return None
        return use(AuthorizedContent.from_content(content, member.media_type, 0.0, 0.0))

    def _describe(self, standing: Standing) -> AccessState:
        entry = standing.entry
        return AccessState(
            has_grant=standing.seconds_left > 0,
            is_member=standing.member is not None,
            is_cached=entry is not None and self._disk.blobs.has_entry(entry),
        )

    def _find_unconfirmed(
        self, caller: Caller, name: RepositoryName, digests: Sequence[Digest]
    ) -> tuple[list[Digest], list[Digest]]:
        unconfirmed, absent = list[Digest](), list[Digest]()
        for digest in digests:
            standing = self._grants.lookup(caller, name, digest)
            if standing.entry is None or not self._disk.blobs.has_entry(standing.entry):
                absent.append(digest)
            elif standing.member is None or standing.is_newly_public:
                unconfirmed.append(digest)
        return unconfirmed, absent


def _return_unchanged(content: AuthorizedContent) -> AuthorizedContent | None:
    return content
