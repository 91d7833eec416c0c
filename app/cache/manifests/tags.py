"""Tags: the digest that the registry last named for each, and when."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.cache.disk import DiskExecutor
from app.oci import media_types
from app.oci.errors import DigestInvalid
from app.oci.reference import Digest, RepositoryName, Tag
from app.store import refusals
from app.store.notes import Evidence, Note
from app.store.refusals import Subject
from app.store.store import Store

_KIND: Final = "tag"

_ANY: Final = "*"
"""In place of the fingerprint of an Accept: the latest answer to any client."""

_MOST: Final = 20
"""Notes of one tag; clients choose the Accept, so only the latest notes stay."""

_YOUNG: Final = 10.0
"""Seconds in which an unchanged note is not written again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagTarget:
    """The manifest that a registry has named for a tag.

    `age` is how many seconds ago that was; None if the machine has been restarted since.
    `is_exact`: the answer was to a client that accepts the same media types.
    """

    digest: Digest
    media_type: str
    age: float | None
    is_exact: bool

    def is_younger(self, seconds: float) -> bool:
        """Return whether the registry said so less than `seconds` ago; False if age is unknown."""
        return self.age is not None and self.age < seconds


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """The manifest that a registry named for a tag; `requested_at` is by the store's clock."""

    digest: Digest
    media_type: str
    requested_at: float


class TagTargets:
    """Remembers what tags mean, separately for clients that accept different media types."""

    def __init__(self, registry: str, disk: DiskExecutor) -> None:
        self._registry = registry
        self._disk = disk
        self._notes = disk.store.tags

    def lookup(self, name: RepositoryName, tag: Tag, accepts: Sequence[str]) -> TagTarget | None:
        """Return what the registry last said a tag means; None if nothing is known.

        An answer to a client with the same `accepts` comes first, then one to any client.
        """
        return self._disk.read(self._lookup, name, tag, media_types.fingerprint(accepts))

    def record(
        self,
        name: RepositoryName,
        tag: Tag,
        accepts: Sequence[str],
        said: TagAnswer,
    ) -> None:
        """Remember what the registry has said, unless it has answered a later request since.

        `said` is dropped too if the registry has said since then that the tag does not exist.
        """
        value = json.dumps({"digest": said.digest, "media_type": said.media_type})
        answer = Evidence(self._build_subject(name, tag), said.requested_at)
        self._disk.write(self._record, name, tag, media_types.fingerprint(accepts), value, answer)

    def forget(self, name: RepositoryName, tag: Tag) -> None:
        """Forget a tag, since the registry has just said that it does not exist."""
        beginning = _build_key(self._registry, name, tag, "")
        self._disk.write(
            self._notes.delete_refused, _KIND, beginning, self._build_subject(name, tag)
        )

    def _lookup(self, name: RepositoryName, tag: Tag, taken: str) -> TagTarget | None:
        for last in (taken, _ANY):
            note = self._notes.lookup(_KIND, _build_key(self._registry, name, tag, last))
            if meaning := _parse_target(note, exact=last == taken):
                return meaning
        return None

    def _build_subject(self, name: RepositoryName, tag: Tag) -> Subject:
        return (self._registry, name, refusals.build_tag_subject(tag))

    def _record(
        self, name: RepositoryName, tag: Tag, taken: str, value: str, answer: Evidence
    ) -> None:
        for last in (taken, _ANY):
            key = _build_key(self._registry, name, tag, last)
            note = self._notes.lookup(_KIND, key)
            young = note is not None and note.age is not None and note.age < _YOUNG
            if not (young and note is not None and note.value == value):
                self._notes.record(_KIND, key, value, _YOUNG, answer)
            if note is None:
                self._notes.keep_latest(_KIND, _build_key(self._registry, name, tag, ""), _MOST)


def lookup_digests(store: Store, registry: str, repository: str, tag: str) -> set[Digest]:
    """Return all digests noted for a tag, for whatever client; raise StoreError."""
    values = store.tags.lookup_prefix(_KIND, _build_key(registry, repository, tag, "")).values()
    found = (_parse_target(Note(value, 0.0, None), exact=False) for value in values)
    return {meaning.digest for meaning in found if meaning}


def forget_tag(store: Store, registry: str, repository: str, tag: str) -> None:
    """Forget all notes of a tag; raise StoreError."""
    for key in store.tags.lookup_prefix(_KIND, _build_key(registry, repository, tag, "")):
        store.tags.delete(_KIND, key)


def forget_tags(store: Store, registry: str, repository: str) -> None:
    """Forget the notes of all tags of a repository; raise StoreError."""
    store.tags.keep_latest(_KIND, f"{registry}/{repository}:", 0)


def _build_key(registry: str, name: str, tag: str, taken: str) -> str:
    return f"{registry}/{name}:{tag} {taken}"


def _parse_target(note: Note | None, *, exact: bool) -> TagTarget | None:
    if note is None:
        return None
    try:
        written = json.loads(note.value)
        digest = Digest.parse(written["digest"])
        media_type = str(written["media_type"])
    except (ValueError, KeyError, TypeError, DigestInvalid):
        return None
    return TagTarget(digest=digest, media_type=media_type, age=note.age, is_exact=exact)
