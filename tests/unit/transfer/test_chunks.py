"""Chunks: any interleaving of leases, writes, deaths and readers ends in the same bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.transfer import chunk_map, files
from app.transfer import lease as leasing
from app.transfer.chunk_map import CHUNK, FetchState
from app.transfer.files import Claim, Paths
from app.transfer.lease import Lease
from app.transfer.partial_blob import PartialBlob
from tests.unit.transfer.parts import blob_of, digest_of


class Machine:
    """The processes of a machine that fetch one blob; each has open files of its own."""

    def __init__(self, directory: Path, data: bytes) -> None:
        self.data = data
        self.digest = digest_of(data)
        self.paths = Paths.for_digest(directory / "a" / "b" / "registry", self.digest)
        created = files.create(self.paths)
        assert created
        announced = files.announce(created, len(data))
        assert files.let_in(announced, self.paths)
        self.first = PartialBlob(self.digest, self.paths, announced)

    def process(self) -> PartialBlob:
        """Return the blob as another process sees it: locks belong to an open file (fcntl(2))."""
        opened = files.open_running(self.paths)
        assert opened
        return PartialBlob(self.digest, self.paths, opened)

    def write(self, lease: Lease, count: int) -> None:
        """Write so many of the lease's next bytes."""
        at = lease.position
        lease.write([self.data[at : min(lease.end, at + count)]])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Return a machine with a blob of ten chunks and a bit."""
    machine = Machine(tmp_path, blob_of(10 * CHUNK + 77))
    yield machine
    machine.first.close()


def reboot(patch: pytest.MonkeyPatch, boot: int) -> None:
    """Let entries that were written before be those of an earlier boot."""
    for module in (chunk_map, leasing):
        patch.setattr(module, "current_boot", lambda: boot)


def whole(blob: PartialBlob) -> list[tuple[int, int]]:
    return [(0, blob.size)]


def test_a_lease_is_one_fetchers(machine: Machine) -> None:
    """Neither another greenlet nor another process gets a chunk of it."""
    other = machine.process()
    lease = machine.first.acquire_lease(whole(other), 4 * CHUNK)
    assert lease
    assert (lease.position, lease.end) == (0, 4 * CHUNK)
    second = machine.first.acquire_lease(whole(other), 2 * CHUNK)
    third = other.acquire_lease(whole(other), 100 * CHUNK)
    assert second
    assert third
    assert (second.position, second.end) == (4 * CHUNK, 6 * CHUNK)
    assert (third.position, third.end) == (6 * CHUNK, len(machine.data))
    assert other.acquire_lease(whole(other), CHUNK) is None
    lease.close()
    again = other.acquire_lease(whole(other), CHUNK)
    assert again
    assert (again.position, again.end) == (0, CHUNK)
    other.close()
    freed = machine.first.acquire_lease([(7 * CHUNK, 8 * CHUNK)], CHUNK)
    assert freed
    assert freed.position == 7 * CHUNK


def test_a_lease_goes_on_where_the_last_one_ended(machine: Machine) -> None:
    """In the midst of a chunk too."""
    lease = machine.first.acquire_lease(whole(machine.first), 3 * CHUNK)
    assert lease
    machine.write(lease, CHUNK + 1000)
    lease.close()
    other = machine.process()
    assert other.readable_end(0, 10**9) == CHUNK + 1000
    again = other.acquire_lease(whole(other), 3 * CHUNK)
    assert again
    assert (again.position, again.end) == (CHUNK + 1000, 4 * CHUNK)
    machine.write(again, 10**9)
    assert machine.first.readable_end(5, 10**9) == 4 * CHUNK
    assert machine.first.read(CHUNK, CHUNK // 2) == machine.data[CHUNK // 2 : CHUNK // 2 + CHUNK]
    other.close()


def test_a_lease_grows_into_what_nobody_has(machine: Machine) -> None:
    """It ends where another one begins."""
    lease = machine.first.acquire_lease(whole(machine.first), CHUNK)
    other = machine.process()
    far = other.acquire_lease([(2 * CHUNK, 3 * CHUNK)], CHUNK)
    assert lease
    assert far
    assert lease.extend()
    assert lease.end == 2 * CHUNK
    assert not lease.extend()
    machine.write(lease, 2 * CHUNK)
    assert machine.first.readable_end(0, 10**9) == 2 * CHUNK
    other.close()


def test_the_end_of_the_blob_is_the_end_of_a_lease(machine: Machine) -> None:
    """Its last chunk is short, and nothing follows."""
    lease = machine.first.acquire_lease([(10 * CHUNK, 10**9)], 10**9)
    assert lease
    assert lease.remaining == 77
    assert not lease.extend()
    machine.write(lease, 77)
    assert machine.first.readable_end(10 * CHUNK, 10**9) == len(machine.data)
    assert list(machine.first.leases.map.missing(range(9, 11))) == [9]


class TestAfterACrash:
    """The kernel had not written all; entries of an earlier boot count by their checksum only."""

    @pytest.fixture
    def crashed(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
        """Return a machine that has started again after three and a half chunks."""
        lease = machine.first.acquire_lease(whole(machine.first), 10 * CHUNK)
        assert lease
        machine.write(lease, 3 * CHUNK + 1000)
        lease.close()
        reboot(monkeypatch, 12345)
        return machine

    def test_nothing_is_read_unchecked(self, crashed: Machine) -> None:
        """Whatever the entries say."""
        assert crashed.first.readable_end(0, 10**9) == 0

    def test_what_is_whole_is_kept(self, crashed: Machine) -> None:
        """Once its checksum has been compared."""
        lease = crashed.first.acquire_lease(whole(crashed.first), 10 * CHUNK)
        assert lease
        assert lease.position == 3 * CHUNK + 1000
        assert crashed.first.readable_end(0, 10**9) == 3 * CHUNK + 1000

    def test_what_was_lost_is_fetched_again(self, crashed: Machine) -> None:
        """A page of zeros in the second chunk; the third is good, and stays."""
        with crashed.paths.data.open("r+b") as file:
            file.seek(CHUNK + 4096)
            file.write(bytes(4096))
        lease = crashed.first.acquire_lease(whole(crashed.first), 10 * CHUNK)
        assert lease
        assert (lease.position, lease.end) == (CHUNK, 2 * CHUNK)
        crashed.write(lease, CHUNK)
        lease.close()
        assert crashed.first.readable_end(0, 10**9) == 3 * CHUNK
        lease = crashed.first.acquire_lease(whole(crashed.first), 10 * CHUNK)
        assert lease
        assert lease.position == 3 * CHUNK + 1000

    def test_a_verified_blob_is_verified_again(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its bytes are made durable after it was verified, so they may be lost."""
        machine.first.record(FetchState.VERIFIED)
        other = machine.process()
        assert other.read_state() is FetchState.VERIFIED
        other.close()
        reboot(monkeypatch, 12345)
        other = machine.process()
        assert other.read_state() is FetchState.RUNNING
        other.close()


def test_a_changed_file_is_noticed(machine: Machine) -> None:
    lease = machine.first.acquire_lease(whole(machine.first), CHUNK)
    assert lease
    with machine.paths.data.open("r+b") as file:
        file.truncate(5)
    with pytest.raises(OSError, match="changed by somebody else"):
        machine.write(lease, 10)


def test_verification_is_one_processs(machine: Machine) -> None:
    """The other one takes it over when the first one has ended, and hashes all again."""
    other = machine.process()
    assert machine.first.verifier.claim()
    assert not other.verifier.claim()
    lease = other.acquire_lease(whole(other), 10**9)
    assert lease
    machine.write(lease, 10**9)
    assert not other.verifier.advance()
    machine.first.close()
    assert other.verifier.claim()
    assert other.verifier.advance()
    assert other.verifier.matches()
    other.close()


def test_bytes_are_hashed_in_passing(machine: Machine) -> None:
    """Those that follow each other; the rest is read again when the gap is closed."""
    blob = machine.first
    assert blob.verifier.claim()
    near = blob.acquire_lease(whole(blob), 4 * CHUNK)
    far = blob.acquire_lease(whole(blob), 10**9)
    assert near
    assert far
    for lease in (far, near):
        writer = blob.build_writer(lease)
        writer.write(machine.data[lease.position : lease.end])
        writer.flush()
    assert blob.verifier.position == 4 * CHUNK
    assert blob.verifier.advance()
    assert blob.verifier.matches()


Step = tuple[str, int, int]
"""What one of three processes does, and a number for it."""

STEPS = st.tuples(
    st.sampled_from(["lease", "write", "write", "give back", "die", "reboot"]),
    st.integers(0, 2),
    st.integers(0, 4 * CHUNK),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(STEPS, min_size=5, max_size=60), size=st.integers(1, 6 * CHUNK))
def test_any_interleaving_ends_in_the_same_bytes(
    tmp_path: Path, history: list[Step], size: int
) -> None:
    """No reader ever gets a wrong byte, and no byte is written by two at once."""
    machine = Machine(tmp_path, blob_of(size))
    replay = Replay(machine, [machine.first, machine.process(), machine.process()])
    try:
        with pytest.MonkeyPatch.context() as patch:
            for step in history:
                replay.do(step, patch)
                replay.check()
            replay.complete()
    finally:
        machine.paths.remove()


@dataclass
class Replay:
    """Three processes, and the leases that each of them holds."""

    machine: Machine
    processes: list[PartialBlob]
    leases: list[list[Lease]] = field(default_factory=lambda: [[], [], []])
    boots: Iterator[int] = field(default_factory=lambda: iter(range(2, 10**6)))

    def do(self, step: Step, patch: pytest.MonkeyPatch) -> None:
        """Let a process do something."""
        what, who, number = step
        mine = self.leases[who]
        if what == "lease":
            self._lease(who, number)
        elif what == "write" and mine:
            self.machine.write(mine[-1], number)
        elif what == "give back" and mine:
            mine.pop(0).close()
        elif what == "die":
            self.processes[who].close()
            self.processes[who], self.leases[who] = self.machine.process(), []
        elif what == "reboot":
            self._reboot(number, patch)

    def _lease(self, who: int, number: int) -> None:
        size = len(self.machine.data)
        lease = self.processes[who].acquire_lease([(min(number, size - 1), size)], number)
        if lease is not None:
            self.leases[who].append(lease)

    def _reboot(self, number: int, patch: pytest.MonkeyPatch) -> None:
        for process in self.processes:
            process.close()
        reboot(patch, next(self.boots))
        self.processes = [self.machine.process() for _ in range(3)]
        self.leases = [[], [], []]
        if number % 2:  # and the kernel had not written all
            with self.machine.paths.data.open("r+b") as file:
                file.seek(min(number, len(self.machine.data) - 1))
                file.write(b"\x00")

    def check(self) -> None:
        """Compare what can be read, and see that no two leases have a byte in common."""
        data = self.machine.data
        for blob in self.processes:
            for start in range(0, len(data), CHUNK // 2):
                end = blob.readable_end(start, len(data))
                assert blob.read(end - start, start) == data[start:end]
        held = sorted((lease.position, lease.end) for mine in self.leases for lease in mine)
        assert all(first[1] <= second[0] for first, second in pairwise(held))

    def complete(self) -> None:
        """Let the first process fetch the rest alone, and verify it."""
        last, *others = self.processes
        for process in others:
            process.close()
        for lease in self.leases[0]:
            lease.close()
        data = self.machine.data
        while (following := last.acquire_lease([(0, len(data))], 2 * CHUNK)) is not None:
            self.machine.write(following, 10**9)
            following.close()
        assert last.verifier.claim()
        assert last.verifier.advance()
        assert last.verifier.matches()
        assert self.machine.paths.data.read_bytes() == data
        last.close()


def test_state_is_shared(machine: Machine) -> None:
    other = machine.process()
    machine.first.record(FetchState.GIVEN_UP)
    assert other.read_state() is FetchState.GIVEN_UP
    other.close()


def test_claims_of_one_file_are_apart() -> None:
    """Chunks, verification and readers never lock each other's bytes."""
    assert all(later - earlier > 1 << 39 for earlier, later in pairwise(sorted(Claim)))
