"""What the commands need, and who may use them."""

import os
from pathlib import Path

import click
import pytest

from app.cli.context import check_owner
from app.store.errors import build_error
from app.store.store import Store, find_owner
from tests.unit.cli.parts import Run, digest_of, keep, running
from tests.unit.fake_source import FakeSource

ALL = (
    pytest.param(("statistics",), id="statistics"),
    pytest.param(("verify",), id="verify"),
    pytest.param(("remove", "--all"), id="remove"),
)


@pytest.mark.parametrize("arguments", ALL)
def test_without_a_cache(arguments: tuple[str, ...]) -> None:
    """One line says what is missing."""
    result = running(None, FakeSource())(*arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: there is no cache: DOCXY_CACHE_DIR is not set (see docs/cache.md)\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user(tmp_path: Path) -> None:
    """Whose cache it is runs the commands: the workers could not read what root leaves."""
    os.chown(tmp_path, 10001, 10001)
    refused = pytest.raises(
        click.ClickException, match=r"belongs to user 10001, and this command runs as user 0:"
    )
    with refused:
        check_owner(tmp_path, find_owner(tmp_path))
    (tmp_path / "content").mkdir()
    check_owner(tmp_path, find_owner(tmp_path))  # root it is that keeps it, in somebody's directory
    os.chown(tmp_path / "content", 10001, 10001)
    with refused:
        check_owner(tmp_path, find_owner(tmp_path))


def test_no_cache_yet(tmp_path: Path) -> None:
    """Whoever makes it may, but for root: whose it will be is not known."""
    if os.geteuid() == 0:
        with pytest.raises(click.ClickException, match="start Docxy, or run this command"):
            check_owner(tmp_path / "cache", None)
    else:
        check_owner(tmp_path / "cache", None)


def test_what_the_store_cannot_do(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one line, and no traceback."""

    def fail() -> None:
        raise build_error(28, "there is no room")

    monkeypatch.setattr(store.admin, "remove_all", fail)
    result = run("remove", "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: " in result.stderr
    assert "there is no room" in result.stderr


def test_what_was_survived(run: Run, store: Store) -> None:
    """It is told on standard error, and the command goes on."""
    keep(store, "library/alpine", b"x")
    store.survived_errors.report(build_error(5, "the index was broken"))
    result = run("statistics")
    assert result.exit_code == 0
    assert "Warning: " in result.stderr
    assert "the index was broken" in result.stderr
    assert store.stat("docker.io", digest_of(b"x")) is not None
