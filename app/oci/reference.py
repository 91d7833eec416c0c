"""Repository names, tags and digests: OCI distribution-spec, "Pulling manifests"."""

import hashlib
import re
from collections.abc import Iterator
from io import FileIO
from typing import Final, Self

from app.oci.errors import DigestInvalid, NameInvalid

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"

NAME_PATTERN: Final = rf"{_COMPONENT}(?:/{_COMPONENT})*"
TAG_PATTERN: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
# The two registered algorithms have one length each; any other is taken as the grammar has it.
DIGEST_PATTERN: Final = (
    r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"
    r"|(?!sha256:|sha512:)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{1,512})"
)

NAME_LIMIT: Final = 255
"""Many clients limit host and name together to this; no registry is known to allow more."""

_NAME = re.compile(NAME_PATTERN)
_TAG = re.compile(TAG_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)


class RepositoryName(str):
    """`library/alpine`: one or more components, without registry, tag or digest."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a name; raise NameInvalid."""
        if len(text) > NAME_LIMIT or not _NAME.fullmatch(text):
            raise NameInvalid
        return cls(text)


class Tag(str):
    """`3.19`: the name that a repository gives to a manifest, until it gives it to another."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a tag; raise NameInvalid (the specification has no code for tags)."""
        if not _TAG.fullmatch(text):
            message = "invalid tag"
            raise NameInvalid(message)
        return cls(text)


_REGISTERED: Final = frozenset({"sha256", "sha512"})


class Digest(str):
    """`sha256:...`: the name of content by what it is."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return `text` as a digest; raise DigestInvalid."""
        if not _DIGEST.fullmatch(text):
            raise DigestInvalid
        return cls(text)

    @property
    def algorithm(self) -> str:
        """What stands before the colon."""
        return self.partition(":")[0]

    @property
    def can_be_verified(self) -> bool:
        """Whether it is by a registered algorithm (OCI image specification, "Digests")."""
        return self.algorithm in _REGISTERED

    @classmethod
    def every(cls, data: bytes) -> Iterator[Self]:
        """Give the digests of some bytes, one by each registered algorithm."""
        for algorithm in _REGISTERED:
            yield cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    def is_of(self, data: bytes) -> bool:
        """Tell whether it is the digest of these bytes, as far as that can be verified."""
        if not self.can_be_verified:
            return False
        return hashlib.new(self.algorithm, data).hexdigest() == self.partition(":")[2]


Reference = Tag | Digest


def parse_reference(text: str) -> Reference:
    """Return `text` as a digest if it has a colon, which no tag has, or else as a tag."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)


# Whether bytes are what their digest says.


def digest_of(data: bytes, like: Digest) -> str:
    """Return the digest of bytes, by the algorithm of another one."""
    algorithm = like.algorithm
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def digest_of_file(file: FileIO, like: Digest) -> str:
    """Return the digest of all that is left to read; raise OSError."""
    algorithm = like.algorithm
    return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
