"""A table that cannot be used stops the start: status 1, one message, and no worker."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.servers import ROOT, clean_environment

_ROW: Final = '[[registries]]\nname = "{}"\n'
DOCKER: Final = _ROW.format("docker.io")
GHCR: Final = _ROW.format("ghcr.io")
SECRET: Final = "secret-of-the-operator"  # noqa: S105 - it must never be seen

# A name for each, the file, and what the message has to say: where, and what to do. The start
# takes a second, so that only one of each kind is here.
BAD: Final[dict[str, tuple[str, list[str]]]] = {
    "no TOML": (f'{DOCKER}password = "{SECRET}\n', ["{path}: invalid TOML", "line 3"]),
    "an unknown key": (
        f"{DOCKER}pasword = '{SECRET}'\n",
        ["{path}: registries 1: pasword", "did you mean password?"],
    ),
    "a name twice": (
        f"{GHCR}{_ROW.format('GHCR.IO')}",
        ["{path}: registries: two tables are named ghcr.io; remove one"],
    ),
    "an alias of the known": (
        f"{DOCKER}{_ROW.format('x.test')}aliases = ['index.docker.io']\n",
        [
            "{path}: registries: index.docker.io stands for both docker.io and x.test; ",
            "remove it from one of the tables",
        ],
    ),
    "a host twice": (
        f"{DOCKER}hosts = ['a.test']\n{GHCR}hosts = ['A.test']\n",
        ["{path}: registries: a.test stands for both docker.io and ghcr.io; remove it"],
    ),
    "a name that hides images": (_ROW.format("library"), ["{path}: registries 1: name: "]),
    "a login without managed": (
        f"{DOCKER}username = 'a'\npassword = '{SECRET}'\n",
        ["{path}: registries 1", 'credentials = "managed"'],
    ),
    "no password file": (
        f"{DOCKER}credentials = 'managed'\nusername = 'a'\npassword_file = '/nonexistent'\n",
        ["{path}: registries 1: password_file", "cannot be read"],
    ),
}


def start(path: Path, text: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run gunicorn with this file until it ends."""
    path.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0"],
        cwd=ROOT,
        env=clean_environment(DOCXY_CONFIG=str(path), **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


Ended = dict[str, tuple[Path, "subprocess.CompletedProcess[str]"]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Start Docxy with each file, several at once."""

    def run(name: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        path = tmp_path_factory.mktemp("start") / "docxy.toml"
        return path, start(path, BAD[name][0])

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(BAD, pool.map(run, BAD), strict=True))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_stops_the_start(ended: Ended, name: str) -> None:
    """One message says where and what to do, and no secret; nothing is tried again."""
    path, process = ended[name]
    said = process.stdout + process.stderr
    assert process.returncode == 1
    assert said.count("Docxy cannot start: one setting is wrong.") == 1
    assert [text for text in BAD[name][1] if text.format(path=path) not in said] == []
    for text in ("Traceback", "Booting worker", SECRET, "pydantic"):
        assert text not in said
    assert "docs/configuration.md" in said


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Of several rows and of the environment; the default registry stands in one place only."""
    text = f"{DOCKER}pasword = 'x'\nurl = 'nonsense'\n{GHCR}hosts = ['a b']\nlog_level = 'x'\n"
    process = start(tmp_path / "docxy.toml", text, DOCXY_LOG_FORMAT="xml", DOCXY_TOKN_URL="x")
    said = process.stdout + process.stderr
    assert process.returncode == 1
    for told in (
        "registries 1: pasword",
        "registries 1: url",
        "registries 2: hosts",
        "registries 2: log_level",
        "DOCXY_LOG_FORMAT",
        "DOCXY_TOKN_URL",
    ):
        assert said.count(f"  {told}") + said.count(f"docxy.toml: {told}") == 1, told
