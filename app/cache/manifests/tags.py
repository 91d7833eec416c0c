"""Tags: the digest that the registry last named for each, and when."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Self

from app.cache.disk import DiskExecutor, HotMap
from app.oci import media_types
from app.oci.errors import DigestInvalid
from app.oci.reference import Digest, RepositoryName, Tag
from app.store.ledger import Evidence, Ledger, Note, Subject, build_tag_subject

_KIND: Final = "tag"

_ANY: Final = "*"
"""Takes the place of an Accept's fingerprint in the key of the latest answer to any client."""

_MOST: Final = 20
"""Notes of one tag; clients choose the Accept, so only the latest notes stay."""

_YOUNG: Final = 10.0
"""Seconds in which an unchanged note is not written again."""


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """The manifest that a registry named for a tag; `requested_at` is by the ledger's clock."""

    digest: Digest
    media_type: str
    requested_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TagTarget:
    """The manifest that a registry has named for a tag.

    `age` is how many seconds ago that was; None if the machine has been restarted since.
    `is_exact`: the answer was to a client that accepts the same media types. `is_latest`: it is
    also the latest answer to any client.
    """

    digest: Digest
    media_type: str
    age: float | None
    is_exact: bool
    is_latest: bool

    def is_younger(self, seconds: float) -> bool:
        """Return whether the registry said so less than `seconds` ago; False if age is unknown."""
        return self.age is not None and self.age < seconds

    def grow_older(self, seconds: float) -> Self:
        """Return the target as it is some seconds later."""
        return self if self.age is None else replace(self, age=self.age + seconds)

    def is_settled_by(self, said: TagAnswer) -> bool:
        """Return whether an answer need not be written, since the same was written a moment ago."""
        is_same = (said.digest, said.media_type) == (self.digest, self.media_type)
        return is_same and self.is_exact and self.is_latest and self.is_younger(_YOUNG)


class TagTargets:
    """Remembers what tags mean, separately for clients that accept different media types."""

    def __init__(self, registry: str, disk: DiskExecutor) -> None:
        self._registry = registry
        self._disk = disk
        self._ledger: Ledger = disk.ledger
        self._hot = HotMap[tuple[TagTarget, float]](disk.ledger)

    def lookup(self, name: RepositoryName, tag: Tag, accepts: Sequence[str]) -> TagTarget | None:
        """Return what the registry last said a tag means; None if nothing is known.

        An answer to a client with the same `accepts` comes first, then one to any client.
        """
        keys = self._build_keys(name, tag, accepts)
        if (hot := self._hot.get((keys[0],))) is not None:
            known, looked_at = hot
            return known.grow_older(self._ledger.now() - looked_at)
        version, now = self._ledger.read_version(), self._ledger.now()
        target = self._disk.read(self._lookup, keys)
        if target is not None:
            size = len(keys[0]) + len(target.media_type)
            self._hot.put((keys[0],), (target, now), size=size, seconds_left=inf, version=version)
        return target

    def record(
        self,
        name: RepositoryName,
        tag: Tag,
        accepts: Sequence[str],
        said: TagAnswer,
        known: TagTarget | None = None,
    ) -> None:
        """Remember what the registry has said, unless it has answered a later request since.

        `said` is dropped too if the registry has said since then that the tag does not exist.
        Nothing is done if `known`, which was looked up for this request, is the same and young.
        """
        if known is None or not known.is_settled_by(said):
            self._disk.write(self.write, name, tag, accepts, said)

    def write(
        self, name: RepositoryName, tag: Tag, accepts: Sequence[str], said: TagAnswer
    ) -> None:
        """Do as `record` does, on a thread of the disk; raise StoreError."""
        value = json.dumps({"digest": said.digest, "media_type": said.media_type})
        answer = Evidence(self._build_subject(name, tag), said.requested_at)
        keys = self._build_keys(name, tag, accepts)
        with self._ledger.transaction():
            notes = self._ledger.tags.lookup_all(_KIND, keys)
            for key in keys:
                note = notes.get(key)
                if note is None or note.value != value or not _is_young(note):
                    self._ledger.tags.record(_KIND, key, value, _YOUNG, answer)
            if keys[0] not in notes:
                beginning = _build_key(self._registry, name, tag, "")
                self._ledger.tags.keep_latest(_KIND, beginning, _MOST)

    def forget(self, name: RepositoryName, tag: Tag) -> None:
        """Forget a tag, since the registry has just said that it does not exist."""
        beginning = _build_key(self._registry, name, tag, "")
        self._disk.write(
            self._ledger.tags.delete_refused, _KIND, beginning, self._build_subject(name, tag)
        )

    def _lookup(self, keys: Sequence[str]) -> TagTarget | None:
        notes = self._ledger.tags.lookup_all(_KIND, keys)
        exact, latest = (notes.get(key) for key in keys)
        is_latest = exact is not None and latest is not None and exact.value == latest.value
        return _parse_target(
            exact, exact=True, latest=is_latest and latest is not None and _is_young(latest)
        ) or _parse_target(latest, exact=False, latest=True)

    def _build_keys(self, name: RepositoryName, tag: Tag, accepts: Sequence[str]) -> list[str]:
        """Return the keys of the answers to clients with this Accept, and to any client."""
        taken = (media_types.fingerprint(accepts), _ANY)
        return [_build_key(self._registry, name, tag, last) for last in taken]

    def _build_subject(self, name: RepositoryName, tag: Tag) -> Subject:
        return (self._registry, name, build_tag_subject(tag))


def lookup_digests(ledger: Ledger, registry: str, repository: str, tag: str) -> set[Digest]:
    """Return all digests noted for a tag, for whatever client; raise StoreError."""
    values = ledger.tags.lookup_prefix(_KIND, _build_key(registry, repository, tag, "")).values()
    found = (_parse_target(Note(value, 0.0, None), exact=False, latest=False) for value in values)
    return {meaning.digest for meaning in found if meaning}


def forget_tag(ledger: Ledger, registry: str, repository: str, tag: str) -> None:
    """Forget all notes of a tag; raise StoreError."""
    for key in ledger.tags.lookup_prefix(_KIND, _build_key(registry, repository, tag, "")):
        ledger.tags.delete(_KIND, key)


def forget_tags(ledger: Ledger, registry: str, repository: str) -> None:
    """Forget the notes of all tags of a repository; raise StoreError."""
    ledger.tags.keep_latest(_KIND, f"{registry}/{repository}:", 0)


def _build_key(registry: str, name: str, tag: str, taken: str) -> str:
    return f"{registry}/{name}:{tag} {taken}"


def _parse_target(note: Note | None, *, exact: bool, latest: bool) -> TagTarget | None:
    if note is None:
        return None
    try:
        written = json.loads(note.value)
        digest = Digest.parse(written["digest"])
        media_type = str(written["media_type"])
    except (ValueError, KeyError, TypeError, DigestInvalid):
        return None
    return TagTarget(
        digest=digest, media_type=media_type, age=note.age, is_exact=exact, is_latest=latest
    )


def _is_young(note: Note) -> bool:
    return note.age is not None and note.age < _YOUNG
