"""The operations for operators on a store in a directory, and the cleanup at each start."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import ENOENT
from io import FileIO
from typing import Final

from app.oci.reference import Digest, compute_file_digest
from app.store import entries
from app.store.blobs import ContentInfo, Entry, RegistryUsage
from app.store.errors import StoreError, translate_errors
from app.store.eviction import Evictor
from app.store.index import Index
from app.store.layout import ContentFile, Layout, Staging
from app.store.ledger import MemberContent
from app.store.schema import MAX_ROWS
from app.store.storage import Statistics, VerifyResult

_ONE_REPOSITORY: Final = "registry = ?1 AND repository = ?2"

_BATCH: Final = 256
"""Entries read in one transaction."""


class DirectoryAdmin:
    """Counts, verifies, removes and tidies the content of a directory: an `Admin`."""

    def __init__(self, layout: Layout, index: Index, staging: Staging, evictor: Evictor) -> None:
        self._layout = layout
        self._index = index
        self._staging = staging
        self._evictor = evictor

    def list_content(self, registry: str, repository: str) -> list[MemberContent]:
        """Return the kept content of a repository, in no particular order."""
        with self._index.connection() as connection:
            rows = connection.execute(
                "SELECT digest, members.media_type, size FROM members "  # noqa: S608 - a constant
                f"JOIN entries USING (registry, digest) WHERE {_ONE_REPOSITORY}",
                (registry, repository),
            ).fetchall()
        return [
            MemberContent(Digest(digest), media_type, size) for digest, media_type, size in rows
        ]

    def read(self, registry: str, digest: Digest, limit: int) -> bytes:
        """Return content without marking it as used.

        Return b"" if it is missing, cannot be read, or has more than `limit` bytes.
        """
        try:
            with translate_errors("read"), FileIO(self._layout.path(registry, digest)) as file:
                data = file.read(limit + 1) or b""
        except StoreError:
            return b""
        return data if len(data) <= limit else b""

    def remove_members(self, registry: str, repository: str, digests: list[Digest]) -> int:
        """Forget that a repository holds some content; remove what no other repository holds.

        Return how many entries were removed.
        """
        with self._index.transaction() as connection:
            unshared = [
                digest
                for digest in digests
                if connection.execute(
                    f"DELETE FROM members WHERE {_ONE_REPOSITORY} AND digest = ?3",  # noqa: S608 - a constant
                    (registry, repository, digest),
                ).rowcount
                and connection.execute(
                    "SELECT 1 FROM members WHERE registry = ? AND digest = ?", (registry, digest)
                ).fetchone()
                is None
            ]
        return sum(self._evictor.delete(registry, digest) for digest in unshared)

    def statistics(self) -> Statistics:
        """Return the statistics, at a cost that does not depend on how much is kept."""
        with self._index.connection() as connection:
            counts = connection.execute("SELECT name, present FROM counts").fetchall()
        return Statistics(self.measure_usage(), dict(counts))

    def measure_usage(self) -> dict[str, RegistryUsage]:
        """Return the usage of each registry; the cost does not depend on the number of entries."""
        with self._index.connection() as connection:
            totals = connection.execute(
                "SELECT registry, entries, bytes FROM totals WHERE entries > 0 ORDER BY registry"
            ).fetchall()
        return {registry: RegistryUsage(number, size) for registry, number, size in totals}

    def verify(self) -> Iterator[VerifyResult]:
        """Read every file, and yield a result for each; remove content that is wrong.

        A file with the right bytes but without an entry gets one. An entry without a file is
        removed.
        """
        with translate_errors("verify"):
            for content_file in self._layout.walk():
                if (result := self._verify_file(content_file)) is not None:
                    yield result
            for entry in self._entries():
                if self._lacks_file(entry):
                    self._evictor.delete_entry(entry)
                    yield VerifyResult(
                        entry.registry, entry.digest, entry.size, "the file is missing"
                    )

    def remove_repository(self, registry: str, repository: str) -> int:
        """Forget a repository, and remove the content that no other repository is known to hold.

        Return how many entries were removed.
        """
        with self._index.transaction() as connection:
            rows = connection.execute(
                "SELECT digest FROM members AS ours WHERE registry = ?1 AND repository = ?2 "
                "AND NOT EXISTS (SELECT 1 FROM members WHERE registry = ?1 "
                "AND digest = ours.digest AND repository != ?2)",
                (registry, repository),
            ).fetchall()
            for table in ("members", "grants", "publics"):
                connection.execute(
                    f"DELETE FROM {table} WHERE registry = ? AND repository = ?",  # noqa: S608 - three names
                    (registry, repository),
                )
        return sum(self._evictor.delete(registry, Digest(digest)) for (digest,) in rows)

    def remove_older(self, seconds: float) -> int:
        """Remove content stored at least `seconds` ago by the wall clock.

        Return how many entries were removed.
        """
        cutoff = time.time() - seconds
        return self._remove(lambda entry: entry.stored_at <= cutoff)

    def remove_unused(self, seconds: float) -> int:
        """Remove content last used at least `seconds` ago by the wall clock.

        Return how many entries were removed.
        """
        cutoff = time.time() - seconds
        return self._remove(lambda entry: entry.used_at <= cutoff)

    def remove_all(self) -> int:
        """Remove all content, members, grants and notes; return how many entries were removed.

        Refusals stay, since an answer that is still on its way may be older than one of them.
        """
        with self._index.transaction() as connection:
            for table in MAX_ROWS.keys() - {"refusals"}:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
        return self._remove(lambda _: True)

    def recover(self) -> None:
        """Complete the moves that dead processes began, and delete the files they left."""
        with translate_errors("tidy"):
            for folder in self._staging.iterate_dead():
                with suppress(FileNotFoundError):
                    for file in folder.iterdir():
                        file.unlink()
                    folder.rmdir()
            with self._index.connection() as connection:
                owners = entries.list_owners(connection)
            for owner in owners:
                if not (self._layout.staging / owner).exists():
                    with self._index.transaction() as connection:
                        entries.complete_moves(connection, self._layout, owner)

    def _verify_file(self, content_file: ContentFile) -> VerifyResult | None:
        """Verify one file and return the result, or None if the file has vanished meanwhile."""
        try:
            with FileIO(content_file.path) as file:
                is_valid = compute_file_digest(file, content_file.digest) == content_file.digest
        except OSError as error:
            if error.errno == ENOENT:
                return None
            is_valid = False  # an unreadable file counts as a wrong one
        with self._index.connection() as connection:
            entry = entries.find(connection, content_file.registry, content_file.digest)
        if is_valid and entry is None and not content_file.path.exists():
            return None  # evicted while we read it
        fault = self._repair(content_file, entry, is_valid=is_valid)
        return VerifyResult(content_file.registry, content_file.digest, content_file.size, fault)

    def _lacks_file(self, entry: Entry) -> bool:
        if self._layout.path(entry.registry, entry.digest).exists():
            return False
        # If it was evicted meanwhile, its entry went before its file.
        with self._index.connection() as connection:
            return entries.find(connection, entry.registry, entry.digest) is not None

    def _repair(self, content_file: ContentFile, entry: Entry | None, *, is_valid: bool) -> str:
        content = ContentInfo(
            registry=content_file.registry,
            digest=content_file.digest,
            size=content_file.size,
            media_type="",
        )
        if not is_valid:
            if entry is None:
                self._evictor.delete_file(content)
            else:
                self._evictor.delete_entry(entry)
            return "the bytes are wrong"
        if entry is not None and entry.size == content_file.size:
            return ""
        with self._index.transaction() as connection:
            entries.put(connection, content)
        return "it had no entry" if entry is None else "its entry had another size"

    def _remove(self, is_unwanted: Callable[[Entry], bool]) -> int:
        unwanted_entries = (entry for entry in self._entries() if is_unwanted(entry))
        return sum(self._evictor.delete(entry.registry, entry.digest) for entry in unwanted_entries)

    def _entries(self) -> Iterator[Entry]:
        last_id = 0
        while True:
            with self._index.connection() as connection:
                batch = entries.list_after(connection, last_id, _BATCH)
            if not batch:
                return
            yield from batch
            last_id = batch[-1].id
