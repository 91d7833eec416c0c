"""What is written is what was hashed."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from app.spools.shared_file import SharedFile
from app.spools.writing import HashingWriter
from tests.servers import wait_until


def test_all_is_written_and_hashed(tmp_path: Path) -> None:
    """Also what was there before."""
    path = tmp_path / "file"
    path.write_bytes(b"old ")
    file = SharedFile.open(path, os.O_RDWR)
    writer = HashingWriter(file, "sha256", lambda: None)
    writer.hash_existing(4)
    writer.write(b"new")
    writer.flush()
    assert path.read_bytes() == b"old new"
    assert writer.hexdigest() == hashlib.sha256(b"old new").hexdigest()
    file.close()


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([1] * 3000, id="single bytes"),
        pytest.param([16 * 1024] * 200, id="records of TLS"),
        pytest.param([256 * 1024, 1, 64 * 1024, 70_000, 0, 300_000] * 8, id="mixed"),
        pytest.param([3 * 1024 * 1024 + 1, 5], id="larger than what may gather"),
    ],
)
def test_pieces_of_all_sizes(tmp_path: Path, sizes: list[int]) -> None:
    """They stay in order, however they are put together."""
    file = SharedFile.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    data = os.urandom(sum(sizes))
    writer, at = HashingWriter(file, "sha256", lambda: None), 0
    for size in sizes:
        writer.write(data[at : at + size])
        at += size
    writer.flush()
    assert writer.length == len(data)
    assert (tmp_path / "file").read_bytes() == data
    assert writer.hexdigest() == hashlib.sha256(data).hexdigest()
    file.close()


def test_a_file_that_somebody_cuts(tmp_path: Path) -> None:
    """There is no hole before what comes next: the digest would be right, and the file wrong."""
    path = tmp_path / "file"
    file = SharedFile.open(path, os.O_RDWR | os.O_CREAT)
    writer = HashingWriter(file, "sha256", lambda: None)
    writer.write(b"12345678")
    writer.flush()
    os.truncate(path, 4)

    def go_on() -> None:
        writer.write(b"9")
        writer.flush()

    with pytest.raises(OSError, match="changed by somebody else"):
        go_on()
    assert path.read_bytes() == b"1234"
    file.close()


def test_what_nobody_expects_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits does not wait for ever."""
    raised = list[str]()
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_type.__name__))
    file = SharedFile.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    writer = HashingWriter(file, "sha256", lambda: None)

    def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr("app.spools.writing.write_at", fail)
    writer.write(b"1")
    with pytest.raises(OSError, match="LookupError"):
        writer.flush()
    wait_until(lambda: raised == ["LookupError"])
    file.close()
