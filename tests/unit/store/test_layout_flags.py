"""Signs: what processes tell each other where nothing can be written."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.store.layout import Flags


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file of the signs is, or will be."""
    return tmp_path / "signs"


def test_others_see_a_sign_until_it_is_taken_down(path: Path) -> None:
    """That one and no other; whose it is knows without looking."""
    ours, other = Flags(path), Flags(path)
    assert not other.is_set_elsewhere("a")
    ours.set_flag("a")
    assert other.is_set_elsewhere("a")
    assert not other.is_set_elsewhere("b")
    assert not ours.is_set_elsewhere("a")
    ours.clear_flag("a")
    assert not other.is_set_elsewhere("a")
    ours.close()
    other.close()


def test_the_same_sign_of_several(path: Path) -> None:
    """It is up until the last of them takes it down."""
    first, second, third = Flags(path), Flags(path), Flags(path)
    first.set_flag("a")
    second.set_flag("a")
    first.clear_flag("a")
    assert third.is_set_elsewhere("a")
    assert first.is_set_elsewhere("a")
    second.close()
    assert not third.is_set_elsewhere("a")
    for one in (first, third):
        one.close()


def test_a_forked_process_has_signs_of_its_own(path: Path) -> None:
    """They go with it, however it ends."""
    ours = Flags(path)
    ours.set_flag("parent")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        ours.set_flag("child")
        os.write(writing, b"y" if ours.is_set_elsewhere("parent") else b"n")
        os.kill(os.getpid(), 9)
    assert os.read(reading, 1) == b"y"
    os.waitpid(child, 0)
    assert not ours.is_set_elsewhere("child")
    ours.close()
    os.close(reading)
    os.close(writing)


def test_threads_that_are_the_first_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one puts up another can take down."""
    path.touch()
    ours, both, opened = Flags(path), threading.Barrier(2), os.open

    def slowly(name: str | Path, flags: int) -> int:
        if name == path:
            both.wait(30)
        return opened(name, flags)

    monkeypatch.setattr("os.open", slowly)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(ours.set_flag, "ab"))
    monkeypatch.undo()
    links = Path("/proc/self/fd").iterdir()
    assert [link for link in links if link.exists() and link.samefile(path)] != []
    for sign in "ab":
        ours.clear_flag(sign)
        assert not ours.is_set_elsewhere(sign)
    ours.close()
    links = Path("/proc/self/fd").iterdir()
    assert [link for link in links if link.exists() and link.samefile(path)] == []


def test_where_there_can_be_no_file(tmp_path: Path) -> None:
    """Nobody sees anything, and nothing fails."""
    ours = Flags(tmp_path / "missing" / "signs")
    ours.set_flag("a")
    ours.clear_flag("a")
    assert not ours.is_set_elsewhere("a")
    ours.close()
