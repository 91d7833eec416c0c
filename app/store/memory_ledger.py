"""A ledger in memory, for the tests of code that needs one.

It shows what a ledger of another engine has to do: it knows nothing about files, tables or other
processes. Nothing in it is bounded, and content is kept elsewhere.
"""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EFBIG
from typing import Any, Final

from app.oci.reference import Digest
from app.store.blobs import Entry
from app.store.errors import build_error
from app.store.ledger import (
    ANONYMOUS_TOKENS_KIND,
    MAX_NOTE_LENGTH,
    NOBODY,
    REFUSAL_LIFETIME,
    Access,
    BootClock,
    Clock,
    Confirmation,
    Denial,
    Evidence,
    Member,
    MemberContent,
    Note,
    Recorded,
    Subject,
    build_caller_subject,
    build_digest_subject,
)
from app.threads import get_unpatched

_Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """A value that was written at `since`, in answer to a question of `asked`; fresh to `until`."""

    boot: str
    asked: float
    since: float
    until: float
    value: str = ""


@dataclass(slots=True)
class _State:
    """All that a transaction may change, or leave as it was."""

    grants: dict[_Key, _Span] = field(default_factory=dict)
    publics: dict[_Key, tuple[str, float]] = field(default_factory=dict)
    members: dict[_Key, Member] = field(default_factory=dict)
    refusals: dict[Subject, tuple[str, float]] = field(default_factory=dict)
    notes: dict[str, dict[_Key, _Span]] = field(default_factory=dict)
    version: int = 0

    def copy(self) -> "_State":
        """Return a copy that later changes leave alone; the values never change."""
        return _State(
            dict(self.grants),
            dict(self.publics),
            dict(self.members),
            dict(self.refusals),
            {table: dict(rows) for table, rows in self.notes.items()},
            self.version,
        )


class MemoryLedger:
    """A `Ledger` of one process; `content` has the entries that `lookup` finds, if any."""

    def __init__(
        self,
        clock: Clock | None = None,
        content: Mapping[tuple[str, Digest], Entry] | None = None,
    ) -> None:
        self.clock: Final = clock or BootClock()
        self._content = {} if content is None else content  # empty at first, and shared
        # The original lock: native threads call the ledger, and may take no other under gevent.
        self._lock: Any = get_unpatched("_thread", "RLock")()
        self._depth = 0
        self.state = _State()
        self.notes = _MemoryNotes(self, "notes")
        self.tags = _MemoryNotes(self, "tags")
        self.tokens = _MemoryNotes(self, "tokens")
        self.lists = _MemoryNotes(self, "lists")
        self.flags = _NoFlags()

    def now(self) -> float:
        """Return the moment by the clock that the ledger was given."""
        return self.clock.now()

    def read_version(self) -> Hashable | None:
        """Return the number of writes."""
        return self.state.version

    @contextmanager
    def transaction(self) -> Iterator[_State]:
        """Yield the state to change; if the block raises, undo all changes."""
        with self._lock:
            saved_state = self.state.copy() if self._depth == 0 else None
            self._depth += 1
            try:
                self.state.version += 1
                yield self.state
            except BaseException:
                if saved_state is not None:
                    saved_state.version = self.state.version  # readers may have seen it
                    self.state = saved_state
                raise
            finally:
                self._depth -= 1

    def lookup(
        self, caller: str, registry: str, repository: str, digest: Digest | None = None
    ) -> Access:
        """Return what is known of a caller, a repository and a digest."""
        with self._lock:
            state, now = self.state, self.now()
            grant = state.grants.get((registry, repository, caller))
            token = self.tokens.lookup(ANONYMOUS_TOKENS_KIND, caller)
            boot, since = state.publics.get((registry, repository), ("", 0.0))
            is_public = boot == self.clock.boot and since <= now
            return Access(
                seconds_left=self.compute_left(grant, now),
                public_age=now - since if is_public else None,
                member=state.members.get((registry, repository, str(digest))),
                anonymous_token=token.value if token and token.seconds_left > 0 else None,
                entry=self._content.get((registry, digest)) if digest else None,
            )

    def find_manifest(self, registry: str, repository: str) -> MemberContent | None:
        """Return any one kept manifest of a repository; None if none is known."""
        with self._lock:
            members = self.list_content(registry, repository)
            return next((member for member in members if member.media_type), None)

    def list_content(self, registry: str, repository: str) -> list[MemberContent]:
        """Return the kept content of a repository, in no particular order."""
        with self._lock:
            return [
                MemberContent(Digest(digest), member.media_type, entry.size)
                for (row_registry, name, digest), member in self.state.members.items()
                if (row_registry, name) == (registry, repository)
                and (entry := self._content.get((registry, Digest(digest)))) is not None
            ]

    def record(self, confirmation: Confirmation) -> Recorded:
        """Write all that a confirmation says, each part unless a refusal of it is younger."""
        repository_key = (confirmation.registry, confirmation.repository)
        requested_at = confirmation.requested_at
        with self.transaction() as state:
            digest, member = confirmation.digest, confirmation.member
            if member is not None and digest is not None:
                subject = (*repository_key, build_digest_subject(digest))
                if not self.is_late(subject, requested_at):
                    previous = state.members.get(
                        (*repository_key, digest), Member("", is_public=False)
                    )
                    state.members[*repository_key, digest] = Member(
                        member.media_type or previous.media_type,
                        is_public=member.is_public or previous.is_public,
                    )
            has_grant = confirmation.grant_seconds is not None and not self.is_late(
                (*repository_key, build_caller_subject(confirmation.caller)), requested_at
            )
            if has_grant and confirmation.grant_seconds is not None:
                now = self.now()
                state.grants[*repository_key, confirmation.caller] = _Span(
                    self.clock.boot, requested_at, now, now + confirmation.grant_seconds
                )
            is_public = confirmation.is_public and not self.is_late(
                (*repository_key, NOBODY), requested_at
            )
            if is_public:
                boot, since = state.publics.get(repository_key, ("", requested_at))
                is_current = boot == self.clock.boot and since <= self.now()
                state.publics[repository_key] = (
                    self.clock.boot,
                    max(requested_at, since) if is_current else requested_at,
                )
        return Recorded(has_grant=has_grant, is_public=is_public)

    def refuse(self, denial: Denial) -> None:
        """Take away what a denial says, and record the refusal of each part as of now."""
        repository_key = (denial.registry, denial.repository)
        with self.transaction() as state:
            if denial.is_public:
                state.publics.pop(repository_key, None)
                self.record_refusal((*repository_key, NOBODY))
            if denial.caller is not None:
                state.grants.pop((*repository_key, denial.caller), None)
                self.record_refusal((*repository_key, build_caller_subject(denial.caller)))
            if denial.absent is not None:
                state.members.pop((*repository_key, denial.absent), None)
                self.record_refusal((*repository_key, build_digest_subject(denial.absent)))

    def mark_public(self, registry: str, repository: str, digest: Digest) -> None:
        """Record that an anonymous request was allowed to read a member."""
        key = (registry, repository, digest)
        with self.transaction() as state:
            if (member := state.members.get(key)) is not None:
                state.members[key] = Member(member.media_type, is_public=True)

    def record_refusal(self, subject: Subject) -> None:
        """Record that a registry refused a subject now."""
        self.state.refusals[subject] = (self.clock.boot, self.now())

    def is_late(self, subject: Subject, requested_at: float) -> bool:
        """Return whether a request that began at `requested_at` may be older than a refusal."""
        boot, refused_at = self.state.refusals.get(subject, ("", 0.0))
        is_refused = boot == self.clock.boot and refused_at >= requested_at
        return is_refused or self.now() - requested_at >= REFUSAL_LIFETIME

    def compute_left(self, span: _Span | None, now: float) -> float:
        """Return for how many more seconds a value is fresh; 0 without a value."""
        if span is None or span.boot != self.clock.boot or span.since > now:
            return 0.0
        return max(span.until - now, 0.0)


class _MemoryNotes:
    """A table of `MemoryLedger` that holds `Notes`."""

    def __init__(self, ledger: MemoryLedger, table: str) -> None:
        self._ledger = ledger
        self._table = table

    @property
    def _rows(self) -> dict[_Key, _Span]:
        return self._ledger.state.notes.setdefault(self._table, {})

    def lookup(self, kind: str, key: str) -> Note | None:
        """Return a note, fresh or stale; None if it is missing."""
        return self.lookup_all(kind, (key,)).get(key)

    def lookup_all(self, kind: str, keys: Sequence[str]) -> dict[str, Note]:
        """Return the notes that exist, by key."""
        now, boot = self._ledger.now(), self._ledger.clock.boot
        spans = {key: span for key in keys if (span := self._rows.get((kind, key)))}
        return {
            key: Note(
                span.value,
                self._ledger.compute_left(span, now),
                now - span.since if span.boot == boot and span.since <= now else None,
            )
            for key, span in spans.items()
        }

    def lookup_prefix(self, kind: str, prefix: str) -> dict[str, str]:
        """Return the values of all keys with a prefix, by key."""
        return {
            key: span.value
            for (row_kind, key), span in list(self._rows.items())
            if row_kind == kind and key.startswith(prefix)
        }

    def record(
        self, kind: str, key: str, value: str, seconds: float, answer: Evidence | None = None
    ) -> None:
        """Remember a value for `seconds`, unless a later answer or refusal is known."""
        if len(value) > MAX_NOTE_LENGTH:
            raise build_error(EFBIG, f"a {kind} of {len(value)} characters is too long for a note")
        with self._ledger.transaction():
            now = self._ledger.now()
            requested_at = now if answer is None else answer.requested_at
            previous = self._rows.get((kind, key))
            if answer is not None and (
                (
                    previous is not None
                    and previous.boot == self._boot
                    and previous.asked > requested_at
                )
                or self._ledger.is_late(answer.subject, requested_at)
            ):
                return
            self._put((kind, key), _Span(self._boot, requested_at, now, now + seconds, value))

    def add_to_set(
        self, kind: str, key: str, members: Iterable[str], limit: int, seconds: float
    ) -> None:
        """Add members to a set, unless it has more than `limit` already."""
        with self._ledger.transaction():
            row = self._rows.get((kind, key))
            existing: set[str] = set(json.loads(row.value)) if row else set()
            if len(existing) > limit:
                return
            now = self._ledger.now()
            value = json.dumps(sorted(existing | set(members))[: limit + 1])
            self._put((kind, key), _Span(self._boot, now, now, now + seconds, value))

    def delete(self, kind: str, key: str) -> None:
        """Delete a note, if there is one."""
        with self._ledger.transaction():
            self._rows.pop((kind, key), None)

    def keep_latest(self, kind: str, prefix: str, limit: int) -> None:
        """Delete all but the `limit` latest notes whose keys have a prefix."""
        with self._ledger.transaction():
            keys = list(self.lookup_prefix(kind, prefix))
            for key in keys[: max(len(keys) - limit, 0)]:
                self._rows.pop((kind, key))

    def delete_refused(self, kind: str, prefix: str, subject: Subject) -> None:
        """Delete the notes whose keys have a prefix, and record a refusal of their subject."""
        with self._ledger.transaction():
            self.keep_latest(kind, prefix, 0)
            self._ledger.record_refusal(subject)

    @property
    def _boot(self) -> str:
        return self._ledger.clock.boot

    def _put(self, key: _Key, span: _Span) -> None:
        rows = self._rows
        rows.pop(key, None)  # so that the latest comes last
        if self._table == "tokens":
            now = self._ledger.now()
            for expired_key in [
                expired_key for expired_key, old_span in rows.items() if old_span.until <= now
            ]:
                rows.pop(expired_key)
        rows[key] = span


class _NoFlags:
    """Flags that nobody sees: there is no other process."""

    def set_flag(self, name: str) -> None:
        """Show it to nobody."""

    def clear_flag(self, name: str) -> None:
        """Show it to nobody."""

    def is_set_elsewhere(self, name: str) -> bool:
        """Return False: nobody has a `name` to show."""
        del name
        return False

    def is_any_set_elsewhere(self) -> bool:
        """Return False."""
        return False
