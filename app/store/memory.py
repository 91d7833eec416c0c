"""A storage in the memory of one process, for tests of code that uses one."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from app.oci.reference import Digest
from app.source import do_nothing
from app.store.blobs import Entry, SizeLimits
from app.store.leases import MemoryLeases
from app.store.ledger import Clock, MemberContent
from app.store.memory_blobs import MemoryBlobStore
from app.store.memory_ledger import MemoryLedger
from app.store.storage import Statistics, Storage, VerifyResult

_SECRET: Final = bytes(32)
_UNLIMITED: Final = 1 << 30


def open_memory(
    unfinished: Path, limits: SizeLimits | None = None, clock: Clock | None = None
) -> Storage:
    """Return a new storage; those that share the object are its workers.

    Only `max_size` of the limits counts, 1 GiB by default. `unfinished` is a directory.
    """
    blobs = MemoryBlobStore((limits and limits.max_size) or _UNLIMITED)
    ledger = MemoryLedger(clock, blobs.entries)
    return Storage(
        blobs=blobs,
        ledger=ledger,
        leases=MemoryLeases(),
        admin=MemoryAdmin(blobs, ledger),
        secret=_SECRET,
        unfinished=unfinished,
        close=do_nothing,
    )


class MemoryAdmin:
    """An `Admin` of a blob store and a ledger in memory."""

    def __init__(self, blobs: MemoryBlobStore, ledger: MemoryLedger) -> None:
        self._blobs = blobs
        self._ledger = ledger

    def statistics(self) -> Statistics:
        """Return the usage of each registry, and the number of records of each kind."""
        state = self._ledger.state
        rows = {
            "members": len(state.members),
            "grants": len(state.grants),
            "publics": len(state.publics),
            "refusals": len(state.refusals),
        }
        rows |= {
            name: len(state.notes.get(name, ())) for name in ("notes", "tags", "tokens", "lists")
        }
        return Statistics(self._blobs.measure_usage(), rows)

    def list_content(self, registry: str, repository: str) -> list[MemberContent]:
        """Return the kept content of a repository, in no particular order."""
        return self._ledger.list_content(registry, repository)

    def read(self, registry: str, digest: Digest, limit: int) -> bytes:
        """Return content without marking it as used; b"" if it is missing or too long."""
        data = self._blobs.peek(registry, digest)
        return data if len(data) <= limit else b""

    def verify(self) -> Iterator[VerifyResult]:
        """Yield a result for each entry; nothing in memory becomes wrong."""
        for entry in list(self._blobs.entries.values()):
            yield VerifyResult(entry.registry, entry.digest, entry.size, "")

    def remove_members(self, registry: str, repository: str, digests: list[Digest]) -> int:
        """Forget that a repository holds some content; remove what no other repository holds."""
        with self._ledger.transaction() as state:
            removed = [
                digest
                for digest in digests
                if state.members.pop((registry, repository, digest), None)
            ]
            still_held = {digest for holder, _, digest in state.members if holder == registry}
        return sum(
            self._blobs.delete(registry, digest) for digest in removed if digest not in still_held
        )

    def remove_repository(self, registry: str, repository: str) -> int:
        """Forget a repository, and remove the content that no other repository is known to hold."""
        repository_key = (registry, repository)
        with self._ledger.transaction() as state:
            digests = [
                Digest(digest)
                for *row_key, digest in state.members
                if tuple(row_key) == repository_key
            ]
            for caller in [key for key in state.grants if key[:2] == repository_key]:
                del state.grants[caller]
            state.publics.pop(repository_key, None)
            return self.remove_members(registry, repository, digests)

    def remove_older(self, seconds: float) -> int:
        """Remove content stored at least `seconds` ago by the wall clock."""
        cutoff = time.time() - seconds
        return self._remove(lambda entry: entry.stored_at <= cutoff)

    def remove_unused(self, seconds: float) -> int:
        """Remove content last used at least `seconds` ago by the wall clock."""
        cutoff = time.time() - seconds
        return self._remove(lambda entry: entry.used_at <= cutoff)

    def remove_all(self) -> int:
        """Remove all content, and all records but the refusals."""
        with self._ledger.transaction() as state:
            for records in (state.members, state.grants, state.publics, state.notes):
                records.clear()
        return self._remove(lambda _: True)

    def _remove(self, is_unwanted: Callable[[Entry], bool]) -> int:
        unwanted_entries = [
            entry for entry in list(self._blobs.entries.values()) if is_unwanted(entry)
        ]
        return sum(self._blobs.delete(entry.registry, entry.digest) for entry in unwanted_entries)
