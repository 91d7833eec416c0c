"""The operations that a client asks of a registry (OCI distribution-spec, "Endpoints")."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from app.oci.reference import Digest, Reference, RepositoryName
from app.oci.scope import Action, Scope


class Kind(StrEnum):
    """The kinds of operations."""

    PING = "ping"
    MANIFEST = "manifest"
    BLOB = "blob"
    TAGS = "tags"
    REFERRERS = "referrers"


_NO_REPOSITORY: Final = RepositoryName()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation at a registry. Use the class methods to create one.

    `repository` is in the registry's own naming, and "" for a ping. `reference` is the tag or
    digest of a manifest, the digest of a blob, or the digest that others refer to.
    """

    kind: Kind
    repository: RepositoryName = _NO_REPOSITORY
    reference: Reference | None = None
    action: Action = Action.PULL

    @classmethod
    def ping(cls) -> Self:
        """Return the request `GET /v2/`, which tests whether the registry accepts the login."""
        return cls(Kind.PING)

    @classmethod
    def manifest(cls, name: RepositoryName, reference: Reference) -> Self:
        """Return the request for a manifest."""
        return cls(Kind.MANIFEST, name, reference)

    @classmethod
    def blob(cls, name: RepositoryName, digest: Digest) -> Self:
        """Return the request for a blob or a range of it."""
        return cls(Kind.BLOB, name, digest)

    @classmethod
    def tags(cls, name: RepositoryName) -> Self:
        """Return the request for one page of a repository's tags."""
        return cls(Kind.TAGS, name)

    @classmethod
    def referrers(cls, name: RepositoryName, digest: Digest) -> Self:
        """Return the request for an index of the manifests that refer to a digest."""
        return cls(Kind.REFERRERS, name, digest)

    @property
    def scope(self) -> str:
        """The scope of a token for this operation; "" for a ping, which needs none."""
        return str(Scope.of_repository(self.repository, self.action)) if self.repository else ""

    @property
    def manifest_reference(self) -> Reference | None:
        """The tag or digest of the manifest, or None if the operation is not about one."""
        return self.reference if self.kind is Kind.MANIFEST else None
