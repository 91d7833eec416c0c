"""The store as a whole, against a model of it."""

import math
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.store.blobs import SizeLimits
from app.store.errors import StoreError
from app.store.ledger import Member, Note
from app.store.store import Store
from tests.unit.store.parts import (
    REGISTRY,
    ROOMY,
    Stores,
    described,
    digest_of,
    faults,
    fetched_file,
    grant,
    has_grant,
    lookup_member,
    make_private,
    make_public,
    public_age,
    read,
    record_member,
    remove_member,
    revoke,
)

MAX_SIZE = 100
SECONDS = st.floats(min_value=0, max_value=1000)
AGO = st.sampled_from([0.0, 0.5]) | st.floats(min_value=0, max_value=1000)
"""Seconds that a registry's answer takes."""
DATA = st.integers(0, 9).map(lambda n: bytes([n]) * (n * 13 % 47)) | st.just(b"x" * 101)
"""Ten that may fit, and one that never does."""
REPOSITORIES = st.sampled_from(["library/alpine", "library/nginx"])
CALLERS = st.sampled_from(["", "alice", "bob"])
KEYS = st.sampled_from(["a", "b"])


class _Model(RuleBasedStateMachine):
    """What the store must do, said with dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="docxy-store-")
        self.stores = Stores(Path(self.folder.name) / "cache")
        self.clock = self.stores.clock
        self.store = self.open()
        self.kept: OrderedDict[bytes, str] = OrderedDict()
        self.members: dict[tuple[str, bytes], str] = {}
        self.grants: dict[tuple[str, str], float] = {}
        self.publics: dict[str, float] = {}
        self.refused: dict[tuple[object, str], float] = {}
        self.notes: dict[str, tuple[str, str, float, float]] = {}

    def open(self) -> Store:
        return self.stores.open(SizeLimits(max_size=MAX_SIZE, min_free=0))

    def teardown(self) -> None:
        """Close, and look once more at what is left."""
        self.stores.close()
        assert faults(self.stores.directory) == []
        self.folder.cleanup()

    def evict(self, size: int) -> None:
        while sum(map(len, self.kept)) + size > MAX_SIZE:
            self.is_gone(next(iter(self.kept)))

    def is_gone(self, data: bytes) -> None:
        del self.kept[data]
        self.members = {key: value for key, value in self.members.items() if key[1] != data}

    def put(self, data: bytes, media_type: str) -> None:
        self.kept[data] = media_type or self.kept.get(data, "")
        self.kept.move_to_end(data)

    @contextmanager
    def refused_if(self, condition: bool) -> Iterator[None]:  # noqa: FBT001
        if condition:
            with pytest.raises(StoreError):
                yield
        else:
            yield

    @rule(data=DATA, media_type=st.sampled_from(["", "a/b", "c/d"]))
    def take(self, data: bytes, media_type: str) -> None:
        path = fetched_file(self.stores.directory, data)
        with self.refused_if(len(data) > MAX_SIZE):
            self.store.adopt(path, described(data, media_type))
            self.put(data, media_type)
            self.evict(0)
        assert not path.exists()

    @rule(data=DATA, media_type=st.sampled_from(["", "a/b"]))
    def keep(self, data: bytes, media_type: str) -> None:
        with self.refused_if(len(data) > MAX_SIZE):
            self.store.keep(data, REGISTRY, digest_of(data), media_type)
            self.evict(len(data))
            self.put(data, media_type)

    @rule(data=DATA)
    def use(self, data: bytes) -> None:
        content = self.store.open(REGISTRY, digest_of(data))
        assert (content is not None) == (data in self.kept)
        if content is not None:
            with closing(content.blob) as blob:
                assert blob.read() == data
            assert content.media_type == self.kept[data]
            self.kept.move_to_end(data)

    @rule(data=DATA)
    def drop(self, data: bytes) -> None:
        assert self.store.delete(REGISTRY, digest_of(data)) == (data in self.kept)
        if data in self.kept:
            self.is_gone(data)

    @rule(size=st.integers(0, 120))
    def make_room(self, size: int) -> None:
        with self.refused_if(size > MAX_SIZE):
            self.store.make_room(size)
            self.evict(size)

    def is_late(self, subject: object, repository: str, ago: float) -> bool:
        """Tell whether a question of so many seconds ago is older than a refusal."""
        return self.clock.time - ago <= self.refused.get((subject, repository), -math.inf)

    @rule(repository=REPOSITORIES, data=DATA, media_type=st.sampled_from(["", "a/b"]), ago=AGO)
    def add_member(self, repository: str, data: bytes, media_type: str, ago: float) -> None:
        member = Member(media_type, is_public=False)
        digest = digest_of(data)
        record_member(
            self.store.ledger, REGISTRY, repository, digest, member, asked=self.clock.time - ago
        )
        if not self.is_late(data, repository, ago):
            known = self.members.get((repository, data), "")
            self.members[repository, data] = media_type or known

    @rule(repository=REPOSITORIES, data=DATA)
    def remove_member(self, repository: str, data: bytes) -> None:
        remove_member(self.store.ledger, REGISTRY, repository, digest_of(data))
        self.members.pop((repository, data), None)
        self.refused[data, repository] = self.clock.time

    @rule(repository=REPOSITORIES)
    def remove_repository(self, repository: str) -> None:
        only = {data for name, data in self.members if name == repository} - {
            data for name, data in self.members if name != repository
        }
        removed = self.store.admin.remove_repository(REGISTRY, repository)
        assert removed == len(only & set(self.kept))
        for data in only & set(self.kept):
            self.is_gone(data)
        self.members = {key: one for key, one in self.members.items() if key[0] != repository}
        self.grants = {key: one for key, one in self.grants.items() if key[1] != repository}
        self.publics.pop(repository, None)

    @rule(caller=CALLERS, repository=REPOSITORIES, seconds=SECONDS, ago=AGO)
    def grant(self, caller: str, repository: str, seconds: float, ago: float) -> None:
        written = grant(
            self.store.ledger, caller, REGISTRY, repository, seconds, asked=self.clock.time - ago
        )
        assert written != self.is_late(caller, repository, ago)
        if written:
            self.grants[caller, repository] = self.clock.time + seconds

    @rule(caller=CALLERS, repository=REPOSITORIES)
    def revoke(self, caller: str, repository: str) -> None:
        revoke(self.store.ledger, caller, REGISTRY, repository)
        self.grants.pop((caller, repository), None)
        self.refused[caller, repository] = self.clock.time

    @rule(repository=REPOSITORIES, ago=AGO)
    def make_public(self, repository: str, ago: float) -> None:
        asked = self.clock.time - ago
        written = make_public(self.store.ledger, REGISTRY, repository, requested_at=asked)
        assert written != self.is_late(None, repository, ago)
        if written:
            self.publics[repository] = max(asked, self.publics.get(repository, asked))

    @rule(repository=REPOSITORIES)
    def make_private(self, repository: str) -> None:
        make_private(self.store.ledger, REGISTRY, repository)
        self.publics.pop(repository, None)
        self.refused[None, repository] = self.clock.time

    @rule()
    def remove_all(self) -> None:
        self.store.admin.remove_all()
        for data in list(self.kept):
            self.is_gone(data)
        for known in (self.members, self.grants, self.publics, self.notes):
            known.clear()

    @rule(key=KEYS, value=st.text(st.characters(exclude_categories=["Cs"])), seconds=SECONDS)
    def note(self, key: str, value: str, seconds: float) -> None:
        self.store.ledger.notes.record("tag", key, value, seconds)
        self.notes[key] = value, self.clock.boot, self.clock.time, self.clock.time + seconds

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.store.ledger.notes.delete("tag", key)
        self.notes.pop(key, None)

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(back=st.floats(0, 5000))
    def reboot(self, back: float) -> None:
        self.clock.boot, self.clock.time = self.clock.boot + "'", max(self.clock.time - back, 0)
        self.grants.clear()
        self.publics.clear()
        self.refused.clear()

    @rule()
    def start_again(self) -> None:
        self.stores.close()
        self.store = self.open()

    @precondition(lambda self: len(self.stores.opened) < 3)
    @rule()
    def use_another_worker(self) -> None:
        self.store._reader.write_uses()  # noqa: SLF001 - which a second does, or 256 uses
        self.store = self.open()

    @invariant()
    def as_the_model_says(self) -> None:
        store, now = self.store, self.clock.time
        for data in [bytes([n]) * (n * 13 % 47) for n in range(10)]:
            assert (store.stat(REGISTRY, digest_of(data)) is not None) == (data in self.kept)
            assert store.stat("ghcr.io", digest_of(data)) is None
            for repository in ("library/alpine", "library/nginx"):
                member = lookup_member(store.ledger, REGISTRY, repository, digest_of(data))
                known = self.members.get((repository, data))
                assert (None if member is None else member.media_type) == known
        for repository in ("library/alpine", "library/nginx"):
            for caller in ("", "alice", "bob"):
                allowed = now < self.grants.get((caller, repository), -1)
                assert has_grant(store.ledger, caller, REGISTRY, repository) == allowed
            since = self.publics.get(repository)
            age = public_age(store.ledger, REGISTRY, repository)
            assert age == (None if since is None else now - since)
        for key in ("a", "b"):
            assert store.ledger.notes.lookup("tag", key) == self.expected(key)

    def expected(self, key: str) -> Note | None:
        if key not in self.notes:
            return None
        value, boot, since, until = self.notes[key]
        if boot != self.clock.boot:
            return Note(value, 0.0, None)
        return Note(value, max(until - self.clock.time, 0.0), self.clock.time - since)


TestModel = _Model.TestCase
TestModel.settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=40)


def test_two_at_once(stores: Stores) -> None:
    """What one worker keeps, grants, notes and takes away, the other one knows at once."""
    one, other = stores.open(), stores.open()
    one.keep(b"hello", REGISTRY, digest_of(b"hello"), "text/plain")
    assert read(other, digest_of(b"hello")) == b"hello"
    grant(one.ledger, "alice", REGISTRY, "library/alpine", 60, asked=one.clock.now())
    assert has_grant(other.ledger, "alice", REGISTRY, "library/alpine")
    revoke(other.ledger, "alice", REGISTRY, "library/alpine")
    assert not has_grant(one.ledger, "alice", REGISTRY, "library/alpine")
    other.delete(REGISTRY, digest_of(b"hello"))
    assert read(one, digest_of(b"hello")) is None


def test_registries_are_apart(stores: Stores) -> None:
    """The same bytes are kept once for each registry, and one tells nothing of another."""
    store = stores.open(ROOMY)
    digest = digest_of(b"hello")
    store.keep(b"hello", "ghcr.io", digest, "a/b")
    store.keep(b"hello", "localhost:5000", digest, "c/d")
    record_member(store.ledger, "ghcr.io", "a", digest, asked=store.clock.now())
    grant(store.ledger, "alice", "ghcr.io", "a", 60, asked=store.clock.now())
    assert store.stat(REGISTRY, digest) is None
    assert read(store, digest, "localhost:5000") == b"hello"
    assert lookup_member(store.ledger, "localhost:5000", "a", digest) is None
    assert not has_grant(store.ledger, "alice", "localhost:5000", "a")
    assert store.delete("ghcr.io", digest)
    assert read(store, digest, "localhost:5000") == b"hello"
