"""Repository names, tags, digests, and the operations that a request asks for.

The grammar is that of the OCI distribution-spec, "Pulling manifests" and "Endpoints".
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import RawIOBase
from typing import Final, Self

from app.oci.errors import DigestInvalid, NameInvalid
from app.oci.scope import Action, Scope

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"

NAME_PATTERN: Final = rf"{_COMPONENT}(?:/{_COMPONENT})*"
TAG_PATTERN: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
# The two registered algorithms have a fixed length; for any other, only the grammar counts.
DIGEST_PATTERN: Final = (
    r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"
    r"|(?!sha256:|sha512:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{1,512})"
)

NAME_LIMIT: Final = 255
"""The maximum number of characters in a name.

Many clients apply this limit to host and name together; no registry is known to allow more.
"""

_NAME = re.compile(NAME_PATTERN)
_TAG = re.compile(TAG_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)


class RepositoryName(str):
    """`library/alpine`: one or more components, without registry, tag or digest."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a name; raise NameInvalid if it is too long or outside the grammar."""
        if len(text) > NAME_LIMIT or not _NAME.fullmatch(text):
            raise NameInvalid
        return cls(text)


class Tag(str):
    """`3.19`: a repository's name for a manifest, which may move to another manifest later."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a tag; raise NameInvalid, as the specification has no code for tags."""
        if not _TAG.fullmatch(text):
            message = "invalid tag"
            raise NameInvalid(message)
        return cls(text)


_REGISTERED_ALGORITHMS: Final = frozenset({"sha256", "sha512"})


class Digest(str):
    """`sha256:...`: a name for content, computed from the content itself."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a digest; raise DigestInvalid if it is outside the grammar."""
        if not _DIGEST.fullmatch(text):
            raise DigestInvalid
        return cls(text)

    @property
    def algorithm(self) -> str:
        """The name of the algorithm: the part before the colon."""
        return self.partition(":")[0]

    @property
    def can_be_verified(self) -> bool:
        """Whether the algorithm is a registered one (OCI image specification, "Digests")."""
        return self.algorithm in _REGISTERED_ALGORITHMS

    @classmethod
    def compute(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of `data` by a registered algorithm."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @classmethod
    def compute_all(cls, data: bytes) -> Iterator[Self]:
        """Yield the digests of `data`, one for each registered algorithm."""
        for algorithm in _REGISTERED_ALGORITHMS:
            yield cls.compute(data, algorithm)

    def matches(self, data: bytes) -> bool:
        """Return whether this is the digest of `data`; false if it cannot be verified."""
        return self.can_be_verified and self.compute(data, self.algorithm) == self


Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """Return `text` as a digest if it has a colon, which no tag has, or else as a tag."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)


def compute_file_digest(file: RawIOBase, like: Digest) -> str:
    """Return the digest of the rest of `file`, by the algorithm of `like`; may raise OSError.

    The algorithm must be a registered one.
    """
    algorithm = like.algorithm
    return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


# The operations that a client asks of a registry (OCI distribution-spec, "Endpoints").


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

    @property
    def is_pull(self) -> bool:
        """Whether it reads from a repository."""
        return self.action is Action.PULL and self.kind is not Kind.PING

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
