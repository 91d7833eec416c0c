"""The machine's clock."""

import time
from pathlib import Path

import pytest

from app.store.ledger import BootClock


def test_the_machines_clock() -> None:
    """It never goes back, and every process sees the same boot."""
    clock = BootClock()
    assert (
        clock.boot == BootClock().boot == Path("/proc/sys/kernel/random/boot_id").read_text()[:-1]
    )
    first = clock.now()
    assert 0 < time.monotonic() <= first + 0.001
    assert clock.now() >= first


def test_without_a_boot_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process is a boot of its own then: nothing is believed of another one."""
    monkeypatch.setattr("app.store.ledger._BOOT_ID", Path("/nowhere/boot_id"))
    assert BootClock().boot != BootClock().boot
