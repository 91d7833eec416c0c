"""The machine that the doctor runs on: settings, alone and together, and the cache's disk."""

from pathlib import Path

import pytest

from app.config.load import load
from app.doctor import machine
from app.doctor.machine import CacheDisk, Machine
from app.doctor.target import Endpoint


def found(environment: pytest.MonkeyPatch, **variables: str) -> set[str]:
    """Return what is found with these variables."""
    for name, value in variables.items():
        environment.setenv(name, value)
    return {step.finding_name for step in machine.judge_machine(machine.inspect_machine())} - {""}


PUBLIC = "https://proxy.example"
SETTINGS = [
    ({}, set()),
    ({"DOCXY_PUBLIC_URL": PUBLIC}, set()),
    ({"DOCXY_PUBLIC_URL": "http://127.0.0.1:8000"}, set()),
    ({"DOCXY_PUBLIC_URL": "http://proxy.example"}, {"public-http"}),
    ({"DOCXY_PUBLIC_URL": PUBLIC, "DOCXY_REGISTRY_URL": PUBLIC}, {"loop"}),
    ({"DOCXY_TAG_TTL": "60", "DOCXY_ACCEL_LOCATION": "/x/"}, {"cache-off"}),
    ({"DOCXY_WRITE_TIMEOUT": "3600"}, {"timeouts"}),
    ({"DOCXY_CREDENTIALS": "managed"}, set()),
    ({"DOCXY_READ_TIMEOUT": "never"}, {"settings"}),
    ({"DOCXY_CACHE_DIR": "/proc/nowhere"}, {"cache-directory"}),
    ({"DOCXY_CACHE_DIR": "/proc/nowhere", "DOCXY_X": "1"}, {"cache-directory", "settings"}),
]


@pytest.mark.parametrize(("variables", "wrong"), SETTINGS)
def test_settings(
    environment: pytest.MonkeyPatch, variables: dict[str, str], wrong: set[str]
) -> None:
    """Each contradiction is one finding."""
    assert found(environment, **variables) == wrong


def test_registries_without_tokens(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A registry beside a managed one needs to be managed, too, or a host."""
    table = '[[registries]]\nname = "docker.io"\ncredentials = "managed"\n'
    path = tmp_path / "registries.toml"
    path.write_text(f'{table}[[registries]]\nname = "ghcr.io"\n')
    assert found(environment, DOCXY_CONFIG=str(path)) == {"managed-mixed"}
    path.write_text(f'{table}[[registries]]\nname = "ghcr.io"\nhosts = ["g.example"]\n')
    assert found(environment, DOCXY_CONFIG=str(path)) == set()


def test_each_fault_of_the_settings_is_said(environment: pytest.MonkeyPatch) -> None:
    """In the words of Docxy's own message."""
    environment.setenv("DOCXY_NOTHING", "1")
    environment.setenv("DOCXY_READ_TIMEOUT", "never")
    steps = list(machine.judge_machine(machine.inspect_machine()))
    assert [step.outcome.partition(":")[0] for step in steps] == [
        "DOCXY_NOTHING",
        "DOCXY_READ_TIMEOUT",
    ]


def test_the_address(environment: pytest.MonkeyPatch) -> None:
    """The one that is set is the one that was asked."""
    environment.setenv("DOCXY_PUBLIC_URL", PUBLIC)
    settings = load()
    same = machine.judge_address(settings, Endpoint.parse(f"{PUBLIC}:443"))
    other = machine.judge_address(settings, Endpoint.parse("https://other.example"))
    assert same is not None
    assert other is not None
    assert (same.finding_name, other.finding_name) == ("", "other-address")
    assert machine.judge_address(None, Endpoint.parse(PUBLIC)) is None


GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "most", "keeper", "wrong"),
    [
        (50 * GIB, "", 10, set()),
        (4 * GIB, "", 10, {"cache-space"}),
        (50 * GIB, "98GiB", 10, {"cache-size"}),
        (50 * GIB, "90GiB", 10, set()),
        (50 * GIB, "", 0, {"cache-directory"}),
    ],
)
def test_the_disk(  # noqa: PLR0913, PLR0917 - a table
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    free: int,
    most: str,
    keeper: int,
    wrong: set[str],
) -> None:
    """Room, and whose it is."""
    environment.setenv("DOCXY_CACHE_DIR", str(tmp_path))
    environment.setenv("DOCXY_CACHE_MAX_SIZE", most)
    disk = CacheDisk(path=tmp_path, total=100 * GIB, free=free, owner=10, content_owner=keeper)
    judged = machine.judge_machine(Machine(settings=load(), disk=disk))
    assert {step.finding_name for step in judged} - {""} == wrong


def test_no_directory_is_left_behind(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reading the settings makes it, and Docxy may be another user; one with content stays."""
    path = tmp_path / "cache"
    assert found(environment, DOCXY_CACHE_DIR=str(path), DOCXY_CACHE_MIN_FREE="0") == set()
    assert not path.exists()
    (path / "content").mkdir(parents=True)
    assert found(environment, DOCXY_CACHE_DIR=str(path)) == set()
    assert (path / "content").is_dir()
