"""The key by which callers are told apart."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.store.errors import StoreError
from app.store.secret import load_secret, load_token_key


def test_all_have_the_same(tmp_path: Path) -> None:
    """Whoever comes first makes it, for its owner's eyes only."""
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_secret(tmp_path), range(32)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_half_a_key(tmp_path: Path) -> None:
    """It is said what to do."""
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(StoreError, match="remove it"):
        load_secret(tmp_path)


def test_another_directory(tmp_path: Path) -> None:
    """It has another key."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert load_secret(tmp_path / "a") != load_secret(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_key_for_others(tmp_path: Path, mode: int) -> None:
    """It signs nothing, and it is said what to do."""
    key = load_token_key(tmp_path)
    (tmp_path / "secret").chmod(mode)
    with pytest.raises(StoreError, match=f"has the mode {mode:04o}.*remove it"):
        load_token_key(tmp_path)
    (tmp_path / "secret").unlink()
    assert load_token_key(tmp_path) != key


def test_a_key_for_a_group(tmp_path: Path) -> None:
    """The operator, or Kubernetes, has chosen its members."""
    key = load_token_key(tmp_path)
    (tmp_path / "secret").chmod(0o660)
    assert load_token_key(tmp_path) == key
    assert key != load_secret(tmp_path)


def test_what_is_no_key(tmp_path: Path) -> None:
    """Neither a link, which leads elsewhere, nor a pipe, which nobody may ever write to."""
    path, other = tmp_path / "secret", tmp_path / "other"
    other.write_bytes(b"x" * 32)
    path.symlink_to(other)
    with pytest.raises(StoreError):
        load_secret(tmp_path)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(StoreError, match="holds no key"):
        load_secret(tmp_path)
