"""Errors of the store, and what is told of those that were survived."""

import errno
import sqlite3
from pathlib import Path

import pytest

from app.store.errors import BrokenIndex, StoreError, SurvivedErrors, translate_errors


def test_the_systems_errors() -> None:
    """They keep their number, and the file that they are of."""
    with (
        pytest.raises(StoreError, match="try it: No such file") as caught,
        translate_errors("try it"),
    ):
        Path("/nowhere/file").stat()
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == "/nowhere/file"


def test_sqlites_errors(tmp_path: Path) -> None:
    """They get the number that the system has for such a thing."""
    (tmp_path / "broken").write_bytes(b"no database" * 1000)
    connection = sqlite3.connect(tmp_path / "broken")
    with (
        pytest.raises(BrokenIndex, match="try it: file is not a database"),
        translate_errors("try it"),
    ):
        connection.execute("SELECT * FROM x")
    connection.close()
    with pytest.raises(StoreError) as caught, translate_errors("try it"):
        connection.execute("SELECT 1")
    assert caught.value.errno == errno.EIO
    assert not isinstance(caught.value, BrokenIndex)


def test_its_own_errors_pass() -> None:
    """Nothing is wrapped twice; and a fault of the program is none of the store's."""
    with pytest.raises(StoreError, match=r"^\[Errno 28\] full$"), translate_errors("try it"):
        raise StoreError(errno.ENOSPC, "full")
    with pytest.raises(LookupError), translate_errors("try it"):
        raise LookupError


def test_troubles_are_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of them, however often it happens."""
    now = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    troubles = SurvivedErrors()
    full, broken = StoreError(errno.ENOSPC, "full"), StoreError(errno.EIO, "broken")
    for _ in range(3):
        troubles.report(full)
        troubles.report(broken)
    assert troubles.drain() == [full, broken]
    assert troubles.drain() == []
    now[0] += 59
    troubles.report(full)
    assert troubles.drain() == []
    now[0] += 1
    troubles.report(full)
    assert troubles.drain() == [full]


def test_nobody_listens() -> None:
    """Then only the last ones are kept."""
    troubles = SurvivedErrors()
    for number in range(1000):
        troubles.report(StoreError(number, "trouble"))
    assert len(troubles.drain()) == 100
