"""Hubs side by side, each with its own users and images, and the Docxys that serve them all."""

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.hub.accounts import User, default_users
from tests.hub.content import SIGNATURE_TYPE, Push, multi_arch
from tests.hub.door import Login
from tests.hub.hub import Hub
from tests.hub.images import DOCKER_KIND, OCI_KIND, Kind, artifact
from tests.integration.pulling import Client, Use, Way, client
from tests.integration.registry_table import ALICE, CAROL, Fresh, Served, Watch, shown_to
from tests.integration.secrecy import Secrets
from tests.servers import docxy
from tests.tables import write_config

_LOGINS: Mapping[str, tuple[str, Login]] = {
    "docker.io": ("", "token"),
    "ghcr.io": ("ghcr", "token"),
    "quay.io": ("quay", "token"),
    "plain.test": ("plain", "none"),
    "basic.test": ("basic", "basic"),
}
"""The hubs: the seed of what each has of its own, and how it lets users in."""

_NAMES = {
    *_LOGINS, "shared.test", "managed.test", "closed.test", "ported.test:5000", "ported",
}  # fmt: skip
"""What clients call the registries; no registry's own names hold any of it."""


@functools.cache
def _content(seed: str) -> tuple[Push, ...]:
    """Return the same names and tags for every seed, and no blob in common: all of it small."""

    def push(name: str, *tags: str, kind: Kind = OCI_KIND, private: bool = False) -> Push:
        return Push(name, multi_arch(name, kind, 1000, seed), tags, private)

    app = push("owner/app", "1", "2", "3", "4", "5")
    signed = artifact(SIGNATURE_TYPE, f"signed {seed}".encode(), SIGNATURE_TYPE, app.image)
    return (
        push("library/nginx", "latest", kind=DOCKER_KIND),
        app,
        Push("owner/app", signed),
        push("a/b/c", "1"),
        push("alice/private", "1", private=True),
    )


def _users(seed: str) -> Mapping[str, User]:
    name, password = CAROL
    return {**default_users(seed), name: User(password, reads=("*",))}


@pytest.fixture(scope="session")
def hubs() -> Iterator[Mapping[str, Hub]]:
    """Five hubs."""
    programs.require("docker-registry")
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Hub(
                    users=_users(seed),
                    content=functools.partial(_content, seed),
                    login=login,
                    service=f"service.{name}",
                )
            )
            for name, (seed, login) in _LOGINS.items()
        }


@contextlib.contextmanager
def _serving(
    hubs: Mapping[str, Hub], folder: Path, *rows: Mapping[str, object]
) -> Iterator[Served]:
    by_url = {hub.url: hub for hub in hubs.values()}
    config = write_config(folder / "docxy.toml", rows, log_level="debug")
    with docxy(workers=1, DOCXY_CONFIG=str(config)) as proxy:
        served = {str(row["name"]): by_url[str(row["url"])] for row in rows}
        yield Served(served, proxy, Secrets(proxy))


@pytest.fixture(scope="session")
def passthrough(
    hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Docxy with Docker Hub as default; `localhost` stands for ghcr.io."""
    ghcr, quay = hubs["ghcr.io"], hubs["quay.io"]
    with _serving(
        hubs,
        tmp_path_factory.mktemp("passthrough"),
        hubs["docker.io"].row("docker.io"),
        ghcr.row("ghcr.io", hosts=["localhost"]),
        quay.row("quay.io", discovered=True),
        hubs["plain.test"].row("plain.test"),
        hubs["basic.test"].row("basic.test", prefix_login=True),
        hubs["basic.test"].row("closed.test"),
        ghcr.row("shared.test", prefix_login=True),
        quay.row("managed.test", **_managed("quay.io")),
        quay.row("ported.test:5000", aliases=["ported"]),
    ) as served:
        yield served


@pytest.fixture(scope="session")
def managed(hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Docxy with an account of its own at every registry that has accounts."""
    with _serving(
        hubs,
        tmp_path_factory.mktemp("managed"),
        hubs["docker.io"].row("docker.io", **_managed("docker.io")),
        hubs["ghcr.io"].row("ghcr.io", **_managed("ghcr.io"), hosts=["localhost"]),
        hubs["quay.io"].row("quay.io", **_managed("quay.io"), discovered=True),
        hubs["plain.test"].row("plain.test", credentials="managed"),
        hubs["basic.test"].row("basic.test", **_managed("basic.test")),
    ) as served:
        yield served


@pytest.fixture(scope="session")
def basic_default(
    hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Docxy whose default registry takes Basic credentials only; `localhost` is ghcr.io."""
    with _serving(
        hubs,
        tmp_path_factory.mktemp("basic"),
        hubs["basic.test"].row("basic.test"),
        hubs["ghcr.io"].row("ghcr.io", hosts=["localhost"]),
    ) as served:
        yield served


@pytest.fixture(scope="session")
def plain_default(
    hubs: Mapping[str, Hub], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Docxy whose default registry needs no token; the others are as its documents advise then."""
    with _serving(
        hubs,
        tmp_path_factory.mktemp("plain"),
        hubs["plain.test"].row("plain.test"),
        hubs["quay.io"].row("quay.io", **_managed("quay.io"), discovered=True),
        hubs["ghcr.io"].row("ghcr.io", hosts=["localhost"]),
    ) as served:
        yield served


def _managed(name: str) -> dict[str, Any]:
    return {"credentials": "managed", "username": "alice", "password": ALICE[name]}


@pytest.fixture
def watched(hubs: Mapping[str, Hub]) -> Iterator[Watch]:
    """Return what empties the hubs' memory, and sees after the test to what must always hold."""
    watched: list[tuple[Served, int]] = []

    def watch(served: Served) -> Served:
        for hub in hubs.values():
            hub.reset()
            hub.token_fields = None
        watched.append((served, len(served.proxy.log)))
        return served

    yield watch
    for served, before in watched:
        # Shown when the test has failed.
        sys.stdout.write(f"--- Docxy's log\n{served.proxy.log[before:]}")
    for hub in hubs.values():
        for record in hub.requests:
            assert record.part != "cdn" or "Authorization" not in record.headers
            assert "ns" not in record.query
            assert not {*record.path.split("/")} & _NAMES
    crossed = Counter(token for hub in hubs.values() for token in shown_to(hub))
    assert all(times == 1 for times in crossed.values()), "one hub has seen another one's token"
    for served, _ in watched:
        served.forget()


@pytest.fixture
def served(passthrough: Served, watched: Watch) -> Served:
    """Return the Docxy that clients log in through."""
    return watched(passthrough)


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Return what starts a client that has pulled nothing and knows nobody."""
    with contextlib.ExitStack() as stack:

        def started(name: str, way: Way, use: Use = "by name") -> Client:
            return stack.enter_context(client(name, way, use, tmp_path_factory.mktemp(name)))

        yield started
