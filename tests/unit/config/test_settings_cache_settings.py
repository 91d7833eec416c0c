"""The settings of the cache: sizes as people write them, and a directory that can be used."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from app.cache.source import CachedSource
from app.config.load import SettingsError, load
from app.config.types import AccelLocation, ByteSize, Size
from app.factory import build_unread_limits, create_app
from app.transfer.watch import UnreadLimits
from tests.unit.config.test_types import refused


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0", 0),
        pytest.param(0, 0, id="nothing, in the file"),
        ("1048576", 1 << 20),
        pytest.param(1 << 20, 1 << 20, id="a number, in the file"),
        ("1024B", 1024),
        ("4KiB", 4096),
        ("50GB", 50 * 10**9),
        ("10GiB", 10 << 30),
        ("10 gib", 10 << 30),
        ("1.5TB", 15 * 10**11),
        ("3G", 3 * 10**9),
        ("3Gi", 3 << 30),
        ("7B", 7),
    ],
)
def test_sizes(written: object, meant: int) -> None:
    """Both kinds of units, and none for what is large, or nothing."""
    assert TypeAdapter(Size).validate_python(written) == meant


@pytest.mark.parametrize("written", ["", "lots", "-1", "1GG", "GB", "1e9", "5 G B"])
def test_no_sizes(written: str) -> None:
    """It is said what to write."""
    assert refused(Size, written) == "write a size like 50GB or 10GiB"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("5", "5 without a unit means bytes; did you mean 5GB? Write 5B for bytes"),
        ("0.5", "0.5 without a unit means bytes; did you mean 0.5GB? Write 0.5B for bytes"),
        (50, "50 without a unit means bytes; did you mean 50GB? Write 50B for bytes"),
        (1.5, "1.5 without a unit means bytes; did you mean 1.5GB? Write 1.5B for bytes"),
        ("5000", "5000 without a unit means bytes; did you mean 5000MB? Write 5000B for bytes"),
    ],
)
def test_sizes_without_a_unit(written: object, told: str) -> None:
    """A small number is a unit forgotten, in the environment and in the file."""
    assert refused(Size, written) == told


@pytest.mark.parametrize(
    "name", ["CACHE_MAX_SIZE", "CACHE_MIN_FREE", "CACHE_UNREAD_LIMIT", "LIMIT_BYTES"]
)
def test_every_size_wants_its_unit(environment: pytest.MonkeyPatch, name: str) -> None:
    """The start ends with what was meant."""
    environment.setenv(f"DOCXY_{name}", "5")
    with pytest.raises(SettingsError, match=f"DOCXY_{name}: 5 without a unit .* mean 5GB"):
        load()


def test_a_cache_of_nothing(environment: pytest.MonkeyPatch) -> None:
    """No cache is one that has no directory."""
    environment.setenv("DOCXY_CACHE_MAX_SIZE", "0")
    with pytest.raises(SettingsError, match=r"DOCXY_CACHE_MAX_SIZE: .*greater than 0"):
        load()


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, "0"), (1000, "1000"), (5 << 30, "5GiB"), (1536, "1536"), (1 << 50, "1024TiB")],
)
def test_bytes(number: int, written: str) -> None:
    """A default is told as people write it."""
    assert str(ByteSize(number)) == written


@pytest.mark.parametrize("written", ["docxy", "/docxy", "/", "/a b/", "/../", "/a/./", "//"])
def test_no_locations(written: str) -> None:
    """It is a prefix of nginx's, and nothing else."""
    with pytest.raises(ValidationError):
        TypeAdapter(AccelLocation).validate_python(written)


def test_a_directory_is_made(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By who uses it; every registry has a cache then, and nobody else may look into it."""
    environment.setenv("DOCXY_CACHE_DIR", str(tmp_path / "a" / "b"))
    settings = load()
    assert settings.cache_dir == tmp_path / "a" / "b"
    assert not (tmp_path / "a").exists()
    rooms = create_app(settings).extensions["docxy"]
    assert all(isinstance(source, CachedSource) for source in rooms.sources.values())
    assert settings.cache_dir.stat().st_mode & 0o007 == 0


def test_nothing_is_kept_without_one(environment: pytest.MonkeyPatch) -> None:
    """And no source is wrapped."""
    environment.setenv("DOCXY_CACHE_DIR", "")
    rooms = create_app(load()).extensions["docxy"]
    assert not any(isinstance(source, CachedSource) for source in rooms.sources.values())


@pytest.mark.parametrize("below", ["", "cache", "a/b"])
def test_a_directory_that_cannot_be(
    environment: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    """One line says so."""
    (tmp_path / "file").touch()
    environment.setenv("DOCXY_CACHE_DIR", str(tmp_path / "file" / below))
    with pytest.raises(SettingsError, match="DOCXY_CACHE_DIR: the directory cannot be written"):
        load()


@pytest.mark.parametrize(
    ("variables", "whole", "part"),
    [
        pytest.param({}, 1 << 30, 16 << 20, id="nothing is limited"),
        pytest.param({"LIMIT_DOWNLOADS": "3"}, 16 << 20, 16 << 20, id="something is"),
        pytest.param({"CACHE_UNREAD_LIMIT": "0"}, 0, 0, id="nothing unread"),
        pytest.param(
            {"CACHE_UNREAD_LIMIT": "2GiB", "LIMIT_DOWNLOADS": "3"}, 2 << 30, 2 << 30, id="as set"
        ),
    ],
)
def test_what_may_be_unread(
    environment: pytest.MonkeyPatch, variables: dict[str, str], whole: int, part: int
) -> None:
    """By itself far less where a client asks for a part, or may have only so much."""
    for name, value in variables.items():
        environment.setenv(f"DOCXY_{name}", value)
    assert build_unread_limits(load()) == UnreadLimits(whole=whole, part=part)
