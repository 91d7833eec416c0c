"""`flask cache verify`."""

from pathlib import Path

from app.store.store import Store
from tests.unit.cli.parts import Run, digest_of, keep, path


def test_all_is_well(run: Run, store: Store) -> None:
    """It ends with 0."""
    keep(store, "library/alpine", b"x" * 2048, b"y")
    result = run("verify")
    assert (result.exit_code, result.stdout) == (0, "2 files, 2.0 KiB: 0 damaged.\n")


def test_what_is_wrong_is_told_and_dropped(run: Run, store: Store, tmp_path: Path) -> None:
    """It ends with 1 once, and with 0 the next time."""
    keep(store, "library/alpine", b"right", b"flips", b"gone")
    path(tmp_path / "cache", digest_of(b"flips")).write_bytes(b"flipt")
    path(tmp_path / "cache", digest_of(b"gone")).unlink()
    result = run("verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"docker.io {digest_of(b'flips')}: the bytes are wrong",
        f"docker.io {digest_of(b'gone')}: the file is missing",
        "3 files, 14 B: 2 damaged.",
    ]
    assert store.stat("docker.io", digest_of(b"right")) is not None
    assert store.stat("docker.io", digest_of(b"flips")) is None
    assert run("verify").exit_code == 0


def test_its_progress_is_no_output(run: Run, store: Store) -> None:
    """The bar goes to standard error."""
    keep(store, "library/alpine", b"right")
    assert "Verifying" in run("verify").stderr
