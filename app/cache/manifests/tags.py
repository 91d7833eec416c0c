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

_ANY_ACCEPT: Final = "*"
"""Takes the place of an Accept's fingerprint in the key of the latest answer to any client."""

_MAX_NOTES: Final = 20
"""Notes of one tag; clients choose the Accept, so only the latest notes stay."""

_REWRITE_INTERVAL: Final = 10.0
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
        """Return whether the registry named it less than `seconds` ago; False if `age` is None."""
        return self.age is not None and self.age < seconds

    def grow_older(self, seconds: float) -> Self:
        """Return the target as it is some seconds later."""
        return self if self.age is None else replace(self, age=self.age + seconds)

    def is_settled_by(self, answer: TagAnswer) -> bool:
        """Return whether an answer need not be written, since the same was written a moment ago."""
        is_same = (answer.digest, answer.media_type) == (self.digest, self.media_type)
        return is_same and self.is_exact and self.is_latest and self.is_younger(_REWRITE_INTERVAL)


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
        if (hot_entry := self._hot.get((keys[0],))) is not None:
            hot_target, looked_at = hot_entry
            return hot_target.grow_older(self._ledger.now() - looked_at)
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
        answer: TagAnswer,
        current_target: TagTarget | None = None,
    ) -> None:
        """Remember what the registry has said, unless it has answered a later request since.

        `answer` is dropped too if the registry has said since then that the tag does not exist.
        Nothing is done if `current_target`, which was looked up for this request, is the same and
        young.
        """
        if current_target is None or not current_target.is_settled_by(answer):
            self._disk.write(self.write, name, tag, accepts, answer)

    def write(
        self, name: RepositoryName, tag: Tag, accepts: Sequence[str], answer: TagAnswer
    ) -> None:
        """Do as `record` does, on a thread of the disk; may raise StoreError."""
        value = json.dumps({"digest": answer.digest, "media_type": answer.media_type})
        evidence = Evidence(self._build_subject(name, tag), answer.requested_at)
        keys = self._build_keys(name, tag, accepts)
        with self._ledger.transaction():
            notes = self._ledger.tags.lookup_all(_KIND, keys)
            for key in keys:
                note = notes.get(key)
                if note is None or note.value != value or not _is_young(note):
                    self._ledger.tags.record(_KIND, key, value, _REWRITE_INTERVAL, evidence)
            if keys[0] not in notes:
                prefix = _build_key(self._registry, name, tag, "")
                self._ledger.tags.keep_latest(_KIND, prefix, _MAX_NOTES)

    def forget(self, name: RepositoryName, tag: Tag) -> None:
        """Forget a tag, since the registry has just said that it does not exist."""
        prefix = _build_key(self._registry, name, tag, "")
        self._disk.write(
            self._ledger.tags.delete_refused, _KIND, prefix, self._build_subject(name, tag)
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
        fingerprints = (media_types.fingerprint(accepts), _ANY_ACCEPT)
        return [_build_key(self._registry, name, tag, fingerprint) for fingerprint in fingerprints]

    def _build_subject(self, name: RepositoryName, tag: Tag) -> Subject:
        return (self._registry, name, build_tag_subject(tag))


def lookup_digests(ledger: Ledger, registry: str, repository: str, tag: str) -> set[Digest]:
    """Return all digests noted for a tag, for whatever client; may raise StoreError."""
    values = ledger.tags.lookup_prefix(_KIND, _build_key(registry, repository, tag, "")).values()
    targets = (_parse_target(Note(value, 0.0, None), exact=False, latest=False) for value in values)
    return {target.digest for target in targets if target}


def forget_tag(ledger: Ledger, registry: str, repository: str, tag: str) -> None:
    """Forget all notes of a tag; may raise StoreError."""
    for key in ledger.tags.lookup_prefix(_KIND, _build_key(registry, repository, tag, "")):
        ledger.tags.delete(_KIND, key)


def forget_tags(ledger: Ledger, registry: str, repository: str) -> None:
    """Forget the notes of all tags of a repository; may raise StoreError."""
    ledger.tags.keep_latest(_KIND, f"{registry}/{repository}:", 0)


def _build_key(registry: str, name: str, tag: str, fingerprint: str) -> str:
    return f"{registry}/{name}:{tag} {fingerprint}"


def _parse_target(note: Note | None, *, exact: bool, latest: bool) -> TagTarget | None:
    if note is None:
        return None
    try:
        document = json.loads(note.value)
        digest = Digest.parse(document["digest"])
        media_type = str(document["media_type"])
    except (ValueError, KeyError, TypeError, DigestInvalid):
        return None
    return TagTarget(
        digest=digest, media_type=media_type, age=note.age, is_exact=exact, is_latest=latest
    )


def _is_young(note: Note) -> bool:
    return note.age is not None and note.age < _REWRITE_INTERVAL
