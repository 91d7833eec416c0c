"""Storage, the parts that a cache is built on, and Admin, the protocol for operators.

The code that opens a storage chooses the implementations; all other code knows only the protocols.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.oci.reference import Digest
from app.store.blobs import BlobStore, RegistryUsage
from app.store.leases import Leases
from app.store.ledger import Ledger, MemberContent


@dataclass(frozen=True, slots=True)
class Statistics:
    """The usage of each registry, and the number of records of each kind."""

    registries: dict[str, RegistryUsage]
    table_rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The result for one piece of content, or for an entry without content.

    `size` is in bytes. `fault` says what was wrong; "" means nothing.
    """

    registry: str
    digest: Digest
    size: int
    fault: str


class Admin(Protocol):
    """The operations for operators, in no client's name: no method checks who may read.

    Every method except `read` may raise StoreError. Methods that remove something return how many
    entries of content they removed.
    """

    def statistics(self) -> Statistics:
        """Return the statistics, at a cost that does not depend on how much is kept."""

    def list_content(self, registry: str, repository: str) -> list[MemberContent]:
        """Return the kept content of a repository, in no particular order."""

    def read(self, registry: str, digest: Digest, limit: int) -> bytes:
        """Return content without marking it as used.

        Return b"" if it is missing, cannot be read, or has more than `limit` bytes.
        """

    def verify(self) -> Iterator[VerifyResult]:
        """Read all content, and yield a result for each; remove wrong content."""

    def remove_members(self, registry: str, repository: str, digests: list[Digest]) -> int:
        """Forget that a repository holds some content; remove what no other repository holds."""

    def remove_repository(self, registry: str, repository: str) -> int:
        """Forget a repository, and remove the content that no other repository is known to hold."""

    def remove_older(self, seconds: float) -> int:
        """Remove content stored at least `seconds` ago by the wall clock."""

    def remove_unused(self, seconds: float) -> int:
        """Remove content last used at least `seconds` ago by the wall clock."""

    def remove_all(self) -> int:
        """Remove all content, members, grants and notes.

        Refusals stay, since an answer that is still on its way may be older than one of them.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The parts that a cache is built on; all workers that share them are given the same.

    `secret` is the key of the names of callers in the ledger. `unfinished` is a directory of this
    machine for blobs that are being fetched. `close` releases what this process has open.
    """

    blobs: BlobStore
    ledger: Ledger
    leases: Leases
    admin: Admin
    secret: bytes
    unfinished: Path
    close: Callable[[], None]
