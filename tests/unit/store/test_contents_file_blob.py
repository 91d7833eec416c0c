"""What is kept, read here or sent by the kernel."""

import os
from collections.abc import Iterator
from errno import EIO
from io import FileIO
from pathlib import Path

import pytest

from app.source import BodyBroken
from app.store.contents import FileBlobBody

DATA = os.urandom(5_000_000)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileIO]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with FileIO(path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("start", "end"), [(0, len(DATA)), (1, 2), (17, 4_000_000), (len(DATA) - 1, len(DATA))]
)
def test_parts_are_exact(file: FileIO, start: int, end: int) -> None:
    """Both ways give the same bytes, and the one goes on where the other has stopped."""
    read, sent = FileBlobBody(file, start, end), FileBlobBody(file, start, end)
    found: list[bytes] = []

    def send(descriptor: int, offset: int, count: int) -> None:
        found.append(os.pread(descriptor, count, offset))

    assert b"".join(read) == DATA[start:end]
    count = sent.send_next(send)
    assert count == len(found[0])
    assert b"".join([*found, *sent]) == DATA[start:end]
    assert sent.send_next(send) == 0


def test_what_fails_to_be_sent_is_the_clients(file: FileIO) -> None:
    """A connection that breaks is told from a file that does, and nothing counts as sent."""
    body = FileBlobBody(file, 0, len(DATA))

    def send(*_: int) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        body.send_next(send)
    assert b"".join(body) == DATA


def test_a_closed_file_is_not_sent(file: FileIO) -> None:
    """Whoever has closed it gets no other file's bytes."""
    body = FileBlobBody(file, 0, len(DATA))
    body.close()
    with pytest.raises(BodyBroken):
        body.send_next(lambda *_: None)


def test_a_file_that_became_shorter_is_not_sent(file: FileIO) -> None:
    """Nobody knows how much was sent of what failed: the transfer breaks, and no more is said."""
    body = FileBlobBody(file, 0, len(DATA))

    def send(descriptor: int, offset: int, count: int) -> None:
        if len(os.pread(descriptor, count, offset)) < count:
            raise OSError(EIO, "the file is shorter than what is sent of it")

    assert body.send_next(send)
    os.truncate(str(file.name), 1000)
    with pytest.raises(BodyBroken, match="shorter"):
        body.send_next(send)
