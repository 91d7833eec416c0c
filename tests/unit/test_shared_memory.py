"""Memory that the workers share: what one leaves, and what another one finds."""

import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import shared_memory
from app.shared_memory import SharedValue


@given(name=st.binary(max_size=20), content=st.binary(max_size=50))
def test_what_was_left_is_found(name: bytes, content: bytes) -> None:
    """Under its own name, and under no other one."""
    slot = SharedValue(mmap.mmap(-1, 200))
    assert slot.get(name) is None
    slot.put(b"another", b"content")
    slot.put(name, content)
    assert slot.get(name) == content
    assert slot.get(name + b"x") is None


def test_what_is_too_large_is_not_left() -> None:
    """Neither is what was there before, which counts no more."""
    slot = SharedValue(mmap.mmap(-1, 100))
    slot.put(b"name", b"small")
    slot.put(b"name", b"x" * 100)
    assert slot.get(b"name") is None


@pytest.mark.parametrize("size", [0, 1, 20, 36, 40, 60])
def test_what_is_half_written_is_nothing(size: int) -> None:
    """A worker may be killed at any byte, and another one may have begun since."""
    old, new = mmap.mmap(-1, 200), mmap.mmap(-1, 200)
    SharedValue(old).put(b"name", b"old" * 10)
    SharedValue(new).put(b"name", b"new" * 10)
    old[:size] = new[:size]
    assert SharedValue(old).get(b"name") in {b"old" * 10, None}


def test_another_process_finds_it() -> None:
    """It is one memory, also after a fork."""
    slot = SharedValue(mmap.mmap(-1, 200))
    if not (child := os.fork()):
        slot.put(b"name", b"content")
        shared_memory.mark_booted(4095)
        os._exit(0)
    os.waitpid(child, 0)
    assert slot.get(b"name") == b"content"
    assert shared_memory.has_booted(4095)
    shared_memory.clear_booted(4095)
    assert not shared_memory.has_booted(4095)
