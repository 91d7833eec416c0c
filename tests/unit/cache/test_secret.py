"""The key by which callers are told apart."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.cache.secret import secret_of
from app.store.errors import StoreError


def test_all_have_the_same(tmp_path: Path) -> None:
    """Whoever comes first makes it, for its owner's eyes only."""
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: secret_of(tmp_path), range(32)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_half_a_key(tmp_path: Path) -> None:
    """It is said what to do."""
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(StoreError, match="remove it"):
        secret_of(tmp_path)


def test_another_directory(tmp_path: Path) -> None:
    """It has another key."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert secret_of(tmp_path / "a") != secret_of(tmp_path / "b")
