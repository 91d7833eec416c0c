"""The set-ups of docs/access.md: read from where they stand, started, and asked as clients do."""

import base64
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import requests

from app.config.load import load
from tests import programs
from tests.hub.content import single
from tests.hub.hub import Hub
from tests.hub.images import OCI_MANIFEST
from tests.recipes import blocks
from tests.redis_server import redis_server
from tests.servers import ROOT, Docxy, clean_environment, docxy

pytestmark = pytest.mark.integration

PAGE = (ROOT / "docs" / "access.md").read_text(encoding="utf-8")
PASSWORD = "the password of these tests"  # noqa: S105 - of nobody
OFFICIAL, PLATFORM, TEAM = "library/official", "platform/tool", "team/app"
INSIDE, BUILDER, GUEST, OUTSIDE = "10.2.0.1", "10.1.0.7", "10.9.0.1", "203.0.113.9"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        for name in (OFFICIAL, PLATFORM, TEAM):
            hub.push(name, single(name), ["1", "latest"])
        yield hub


@contextlib.contextmanager
def started(hub: Hub, name: str, folder: Path, redis: str = "") -> Iterator[Docxy]:
    """Start a set-up, before this registry."""
    with docxy(**settings(hub, name, folder, redis)) as proxy:
        yield proxy


def settings(hub: Hub, name: str, folder: Path, redis: str = "") -> dict[str, str]:
    """Return what its two files say; only where its own files lie differs, and the registry."""
    table, users = folder / "docxy.toml", folder / "users"
    table.write_text(_file(f"{name}/docxy.toml"))
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    users.write_text(f"alice:{hashed}\nbob:{hashed}\n")
    lines = _file(f"{name}/docxy.env").splitlines()
    said = dict(line.split("=", 1) for line in lines)
    places = {
        "/etc/docxy/docxy.toml": str(table),
        "/etc/docxy/users": str(users),
        "/var/cache/docxy": str(folder / "cache"),
        "redis://127.0.0.1:6379/0": redis,
    }
    moved = {key: places.get(value, value) for key, value in said.items()}
    return moved | hub.settings | {"DOCXY_CACHE_MIN_FREE": "1MB"}


def _file(name: str) -> str:
    """Return a file of the page, which has it once."""
    return _after(f"\n`{name}`:\n")


def _after(line: str) -> str:
    """Return the block of the page after a line that it has once."""
    _, found, rest = PAGE.partition(line)
    assert found, f"{line} is not in docs/access.md"
    assert found not in rest
    return blocks(rest)[0]


def ask(proxy: Docxy, name: str, tag: str = "1", *, client: str = INSIDE, user: str = "") -> int:
    """Ask for a manifest from an address, and return the status."""
    fields = {"X-Forwarded-For": client, "Accept": OCI_MANIFEST}
    if user:
        login = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
        fields["Authorization"] = f"Basic {login}"
    url = f"{proxy.url}/v2/{name}/manifests/{tag}"
    return requests.get(url, headers=fields, timeout=30).status_code


def test_a_team_with_a_login(hub: Hub, tmp_path: Path) -> None:
    """Nobody without a login; the platform's images only for alice."""
    with started(hub, "team", tmp_path) as proxy:
        assert ask(proxy, TEAM) == 401
        assert {user: ask(proxy, TEAM, user=user) for user in ("alice", "bob")} == {
            "alice": 200,
            "bob": 200,
        }
        assert {user: ask(proxy, PLATFORM, user=user) for user in ("alice", "bob")} == {
            "alice": 200,
            "bob": 403,
        }


def test_a_company_without_a_login(hub: Hub, tmp_path: Path) -> None:
    """By network; latest only for the builders."""
    with started(hub, "company", tmp_path) as proxy:
        statuses = {
            (client, tag): ask(proxy, TEAM, tag, client=client)
            for client in (INSIDE, BUILDER, GUEST, OUTSIDE)
            for tag in ("1", "latest")
        }
    assert statuses == {
        (INSIDE, "1"): 200,
        (INSIDE, "latest"): 403,
        (BUILDER, "1"): 200,
        (BUILDER, "latest"): 200,
        (GUEST, "1"): 403,
        (GUEST, "latest"): 403,
        (OUTSIDE, "1"): 403,
        (OUTSIDE, "latest"): 403,
    }


def test_what_would_be_decided_in_the_companys_network(hub: Hub, tmp_path: Path) -> None:
    """The page shows what the command says."""
    (tmp_path / "cache").mkdir()
    asked = ["--network", "10.0.0.0/15", "nginx"]
    shown = _after(f"`{' '.join(asked)}` says:\n")
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "access", "check", *asked],
        cwd=ROOT,
        env=clean_environment(**settings(hub, "company", tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.rstrip(), done.stderr) == (shown.rstrip(), "")
    assert done.returncode == 1


def test_everybody(hub: Hub, tmp_path: Path) -> None:
    """Official images for all but one network, so many for each; no other registry is served."""
    with redis_server() as redis, started(hub, "public", tmp_path, redis.url) as proxy:
        assert ask(proxy, OFFICIAL, client="198.51.100.7") == 200
        assert ask(proxy, TEAM, client="198.51.100.7") == 403
        assert ask(proxy, OFFICIAL, client=OUTSIDE) == 403
        assert ask(proxy, "ghcr.io/team/app", client="198.51.100.7") != 200
        (pulls,) = redis.client.keys("docxy:pulls/address 198.51.100.7/*")
        assert redis.client.get(pulls) == b"1"
        assert ask(proxy, OFFICIAL, client="198.51.100.7") == 200
        redis.client.set(pulls, 200)
        assert ask(proxy, OFFICIAL, client="198.51.100.7") == 429


def test_everybody_reaches_docker_hub_only(
    hub: Hub, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the registry is Docker Hub itself, the well-known ones would be served beside it."""
    written = settings(hub, "public", tmp_path, "redis://127.0.0.1:6379/0")
    for name in written.keys() - hub.settings.keys():
        environment.setenv(name, written[name])
    assert [row.name for row in load().build_registries().rows] == ["docker.io"]
