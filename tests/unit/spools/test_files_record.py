"""What is said of a fetch, read while others write it."""

import os
from pathlib import Path

import pytest

from app.spools import files
from app.spools.files import FetchRecord, FetchState
from app.spools.shared_file import SharedFile

SAID = FetchRecord(state=FetchState.RUNNING, size=10**15, inode=2**63, failures=2)


@pytest.fixture
def file(tmp_path: Path) -> SharedFile:
    """Return an empty file."""
    return SharedFile.open(tmp_path / "record", os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("state", list(FetchState))
def test_it_is_read_as_it_was_written(file: SharedFile, state: FetchState) -> None:
    """Each state, over a longer one, in a file that never grows."""
    files.write_record(file, SAID)
    before = file.stat().st_size
    files.write_record(file, FetchRecord(state=state))
    assert files.read_record(file) == FetchRecord(state=state)
    assert file.stat().st_size == before
    file.close()


def test_nothing_was_said_yet(file: SharedFile) -> None:
    """An empty file is one that was just made."""
    assert files.read_record(file) == FetchRecord(state=FetchState.REQUESTED)
    file.close()


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"\xff", b'{"state": "odd"}', b'{"state": "running", "more": 1}', b"null"]
)
def test_what_cannot_be_read_says_nothing(file: SharedFile, data: bytes) -> None:
    """Whatever stands there."""
    with file.borrow() as descriptor:
        os.pwrite(descriptor, data, 0)
    assert files.read_record(file) is None
    file.close()
