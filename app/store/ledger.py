"""Ledger: who may read what, and notes. The protocol, its values, and its clock.

A registry's answers are the only source of a ledger. A *yes* is written only if no refusal of its
subject is younger than the request that it answers: answers overtake each other, and while one
worker waits for a registry, another one may be refused for the same caller.

All moments are seconds of the ledger's own clock, which all who share the ledger share.
"""

import time
from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from app.oci.reference import Digest
from app.store.blobs import Entry

NOBODY: Final = "nobody"
"""The subject of a refused anonymous request: the repository is not public."""

ANONYMOUS_TOKENS_KIND: Final = "token of nobody"
"""The kind of the notes, in the table of tokens, that say that a caller's token is anonymous."""

REFUSAL_LIFETIME: Final = 24 * 3600.0
"""Seconds for which a refusal is recorded. A yes to an older request is ignored."""

MAX_NOTE_LENGTH: Final = 64 * 1024
"""The maximum number of characters that a note's value may have. Anything longer is content."""

Subject = tuple[str, str, str]
"""A registry, a repository, and what was refused there: `NOBODY`, a caller, a digest or a tag."""


def build_caller_subject(name: str) -> str:
    """Return the subject of a refusal to a caller."""
    return f"caller {name}"


def build_digest_subject(name: str) -> str:
    """Return the subject of an answer that content is not there."""
    return f"digest {name}"


def build_tag_subject(name: str) -> str:
    """Return the subject of an answer that a tag is not there."""
    return f"tag {name}"


@dataclass(frozen=True, slots=True)
class Member:
    """The known properties of content in a repository.

    `media_type` is the type that the registry reports there, or "" if it is unknown. `is_public`
    says whether the registry has let an anonymous request read the content there.
    """

    media_type: str
    is_public: bool


PLAIN_BLOB: Final = Member("", is_public=False)
"""A blob, if no anonymous request has been allowed to read it."""


@dataclass(frozen=True, slots=True)
class MemberContent:
    """Kept content that a repository is known to hold.

    `media_type` is the type that the registry reports there, or "". `size` is in bytes.
    """

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The knowledge of a caller, a repository and a digest in a ledger at one moment.

    `seconds_left` is for how many more seconds the caller may read the repository; 0 if it may not.
    `public_age` is how many seconds ago the last allowed anonymous request began; None if there was
    none, or if one was refused since. `member` is None if the repository is not known to hold the
    digest, which does not mean that it lacks it. `anonymous_token` is the value of the note that
    says that the caller's token is anonymous; None if there is no such note, or if it has expired.
    `entry` is the content itself, or None if it is not kept beside the ledger.
    """

    seconds_left: float = 0.0
    public_age: float | None = None
    member: Member | None = None
    anonymous_token: str | None = None
    entry: Entry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The facts that a registry's yes to a request confirms, which began at `requested_at`.

    `grant_seconds` is for how long the caller may read the repository from now; None if it gets
    no grant. `is_public`: the request was anonymous. `member` is what the repository holds under
    `digest`; None if the answer does not show that.
    """

    registry: str
    repository: str
    requested_at: float
    caller: str = ""
    grant_seconds: float | None = None
    is_public: bool = False
    digest: Digest | None = None
    member: Member | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The parts of a confirmation that were written. A younger refusal forbids the others."""

    has_grant: bool = False
    is_public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """The rights and the content that a registry's no takes away now.

    `caller` loses its grant for the repository, unless it is None. `is_public`: anonymous callers
    lose theirs. `absent` is a digest that the repository does not hold, if any.
    """

    registry: str
    repository: str
    caller: str | None = None
    is_public: bool = False
    absent: Digest | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A remembered value.

    `seconds_left` is for how many more seconds the value is fresh; 0 means stale. `age` is how many
    seconds ago it was written, or None if the clock has restarted since; in that case
    `seconds_left` is 0.
    """

    value: str
    seconds_left: float
    age: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Identifies a registry's answer: its subject, and when the registry was asked.

    `requested_at` is a moment of the ledger's clock.
    """

    subject: Subject
    requested_at: float


class Notes(Protocol):
    """Values by kind and key, in a table bounded in rows and bytes.

    A full table drops its oldest notes first. Stale notes stay, except in the table of tokens.
    Reading raises nothing unless it says so; writing raises StoreError.
    """

    def lookup(self, kind: str, key: str) -> Note | None:
        """Return a note, fresh or stale; None if it is missing or cannot be read."""

    def lookup_all(self, kind: str, keys: Sequence[str]) -> dict[str, Note]:
        """Return the notes that exist, by key, as of one moment."""

    def lookup_prefix(self, kind: str, prefix: str) -> dict[str, str]:
        """Return the values, fresh or stale, of all keys with a prefix, by key.

        The cost depends only on how many notes match, not on the size of the table.
        May raise StoreError.
        """

    def record(
        self, kind: str, key: str, value: str, seconds: float, answer: Evidence | None = None
    ) -> None:
        """Remember a value for `seconds`, in place of the key's earlier value.

        If the value comes from a registry, `answer` identifies the answer. Nothing is written if
        the earlier value answers a later question, or if the registry has said since `requested_at`
        that the subject is not there.
        """

    def add_to_set(
        self, kind: str, key: str, members: Iterable[str], limit: int, seconds: float
    ) -> None:
        """Add members to a set, which is stored as a sorted JSON list.

        The set holds at most `limit` + 1 members; with more than `limit` it does not change any
        more. Concurrent additions are not lost.
        """

    def delete(self, kind: str, key: str) -> None:
        """Delete a note, if there is one."""

    def keep_latest(self, kind: str, prefix: str, limit: int) -> None:
        """Delete all but the `limit` latest notes whose keys have a prefix."""

    def delete_refused(self, kind: str, prefix: str, subject: Subject) -> None:
        """Delete the notes whose keys have a prefix, and record a refusal of their subject now.

        Call this when the registry has just said that the subject is not there.
        """


class Flags(Protocol):
    """Named flags that all who share the ledger see, even while nothing can be written.

    A flag goes when the process that shows it ends. Nothing raises.
    """

    def set_flag(self, name: str) -> None:
        """Show a flag to the other processes."""

    def clear_flag(self, name: str) -> None:
        """Stop showing a flag. Other processes may still show the same one."""

    def is_set_elsewhere(self, name: str) -> bool:
        """Return whether another process shows a flag."""

    def is_any_set_elsewhere(self) -> bool:
        """Return whether another process shows any flag; this waits for nothing."""


class Ledger(Protocol):
    """The rights to read content: grants, public repositories, members, refusals, and notes.

    A caller's name is an HMAC, which reveals nothing. Only members and notes survive a restart of
    the clock. Methods that read raise nothing: a value that cannot be read counts as unknown.
    Methods that write raise StoreError. All of them may wait, so they are called on real threads.
    """

    @property
    def notes(self) -> Notes:
        """Notes that only Docxy itself chooses, so there are few."""

    @property
    def tags(self) -> Notes:
        """Notes of tags and repositories."""

    @property
    def tokens(self) -> Notes:
        """Notes of anonymous tokens, which go when they expire."""

    @property
    def lists(self) -> Notes:
        """Notes of lists, which are large."""

    @property
    def flags(self) -> Flags:
        """Flags for changes that could not be written."""

    def now(self) -> float:
        """Return the moment, in seconds of the clock that all who share the ledger share."""

    def read_version(self) -> Hashable | None:
        """Return a value that any later write changes, without waiting for anything.

        Return None if no such value can be trusted. Two equal values mean that the results of
        lookups after the first still hold.
        """

    def transaction(self) -> AbstractContextManager[object]:
        """Return a block whose reads and writes, on this thread, cost one transaction.

        A ledger that has transactions writes all of it at the end of the block, or nothing if the
        block raises. Nobody may rely on that, or on nobody else writing meanwhile: `record`,
        `refuse` and each write of a note keep their own promises, in a block or not.
        """

    def lookup(
        self, caller: str, registry: str, repository: str, digest: Digest | None = None
    ) -> Access:
        """Return what is known of a caller, a repository and a digest, as of one moment."""

    def find_manifest(self, registry: str, repository: str) -> MemberContent | None:
        """Return any one kept manifest of a repository; None if none is known."""

    def record(self, confirmation: Confirmation) -> Recorded:
        """Write all that a confirmation says, each part unless a refusal of it is younger.

        A grant replaces the caller's earlier one. A media type replaces the known one; an empty one
        does not. Content that was once shown to an anonymous request stays shown.
        """

    def refuse(self, denial: Denial) -> None:
        """Take away what a denial says, and record the refusal of each part as of now.

        If this raises, the rights to be taken away may count until they expire.
        """

    def mark_public(self, registry: str, repository: str, digest: Digest) -> None:
        """Record that an anonymous request was allowed to read a member.

        If the member is unknown, do nothing.
        """


# The clock: neither a reboot nor setting the wall clock can prolong a deadline.

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """A monotonic clock that starts anew at each boot, and the identity of that boot."""

    @property
    def boot(self) -> str:
        """A string that identifies this boot of the machine."""

    def now(self) -> float:
        """Return the seconds since that boot, including time that the machine was suspended."""


class BootClock:
    """The machine's clock: CLOCK_BOOTTIME and the kernel's boot id (random(4))."""

    def __init__(self) -> None:
        try:
            self.boot = _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            # Without a boot id, this process shares no timed records with others, and none of its
            # own outlive it.
            self.boot = str(uuid4())

    def now(self) -> float:
        """Return the seconds since the machine booted, including time that it was suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
