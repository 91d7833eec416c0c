"""Hubs side by side, each with its own users and images, and the Docxys that serve them all."""

import contextlib
import functools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.hub.accounts import ANONYMOUS, User, default_users
from tests.hub.content import Push, multi_arch
from tests.hub.door import Login
from tests.hub.hub import Hub
from tests.hub.images import DOCKER_KIND, OCI_KIND
from tests.hub.record import Record
from tests.hub.tokens import claims_of
from tests.integration.pulling import Client, Use, Way, client
from tests.integration.secrecy import Secrets
from tests.servers import Docxy, docxy
from tests.tables import write_config

PRIVATE = "alice/private:1"
"""Everywhere, and everywhere another image; alice and carol may read it."""

ALICE: Mapping[str, str] = {
    "docker.io": "alicepw",
    "ghcr.io": "alicepwghcr",
    "quay.io": "alicepwquay",
    "basic.test": "alicepwbasic",
}
"""Her passwords; carol has the same one everywhere."""

CAROL = "carol", "carolpw"

_LOGINS: Mapping[str, tuple[str, Login]] = {
    "docker.io": ("", "token"),
    "ghcr.io": ("ghcr", "token"),
    "quay.io": ("quay", "token"),
    "plain.test": ("plain", "none"),
    "basic.test": ("basic", "basic"),
}
"""The hubs: the seed of what each has of its own, and how it lets users in."""

_LOGIN_FIELDS = {"account", "offline_token", "username", "password", "refresh_token"}


@dataclass(frozen=True)
class Served:
    """A Docxy, and the hubs that it serves."""

    hubs: Mapping[str, Hub]
    """By the registry's name in Docxy's table; two names may mean one hub."""
    proxy: Docxy

    @property
    def host(self) -> str:
        """host:port that means the default registry, with whatever prefix."""
        return self.proxy.host

    @property
    def named_host(self) -> str:
        """host:port of the same Docxy that stands for one registry alone."""
        return self.proxy.host.replace("127.0.0.1", "localhost")

    def way(self, host: str = "", mirrored: Mapping[str, str] | None = None) -> Way:
        """Return how a client reaches this, by one of the two hosts."""
        host = host or self.host
        return Way("plain", f"http://{host}", host, None, lambda: self.proxy.log, mirrored or {})

    def assert_only(self, *names: str) -> None:
        """See that these registries were asked for something, and no other one for anything."""
        asked = {hub for hub in self.hubs.values() if not all(map(_is_ping, hub.requests))}
        assert asked == {self.hubs[name] for name in names}, [
            record for hub in asked for record in hub.requests
        ]


REFUSED = re.compile(
    r"denied|unauthorized|insufficient_scope|authentication required", re.IGNORECASE
)
"""What clients say of an image that they may not have."""

Fresh = Callable[..., Client]
Watch = Callable[[Served], Served]


def of_somebody(hub: Hub) -> list[Record]:
    """Return the requests in which a hub got to know, or could have, who the client is."""
    return [record for record in hub.requests if _tells_who(record)]


def _tells_who(record: Record) -> bool:
    scheme, _, secret = record.headers.get("Authorization", "").partition(" ")
    return (
        scheme not in {"", "Bearer"}
        or (scheme == "Bearer" and claims_of(secret).get("sub") != ANONYMOUS)
        or bool(_LOGIN_FIELDS & {*record.query, *record.body})
    )


def _is_ping(record: Record) -> bool:
    """Tell whether this is Docxy's own look at how a registry lets clients in."""
    return (
        (record.part, record.method, record.path) == ("registry", "GET", "/v2/")
        and "Authorization" not in record.headers
        and record.headers["User-Agent"].startswith("docxy/")
    )


@functools.cache
def _content(seed: str) -> tuple[Push, ...]:
    """Return the same names and tags for every seed, and no blob in common: all of it small."""

    def push(name: str, tag: str, *, private: bool = False) -> Push:
        kind = DOCKER_KIND if name == "library/nginx" else OCI_KIND
        return Push(name, multi_arch(name, kind, 1000, seed), (tag,), private)

    return (
        push("library/nginx", "latest"),
        push("owner/app", "1"),
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
        yield Served({str(row["name"]): by_url[str(row["url"])] for row in rows}, proxy)


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
        ghcr.row("shared.test", prefix_login=True),
        quay.row("managed.test", **_managed("quay.io")),
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


def _managed(name: str) -> dict[str, Any]:
    return {"credentials": "managed", "username": "alice", "password": ALICE[name]}


@pytest.fixture
def watched(hubs: Mapping[str, Hub]) -> Iterator[Watch]:
    """Return what empties the hubs' memory, and sees after the test to what must always hold."""
    watched: list[tuple[Served, Secrets, int]] = []

    def watch(served: Served) -> Served:
        for hub in hubs.values():
            hub.reset()
        secrets = Secrets(served.proxy)
        secrets.look_for([])
        watched.append((served, secrets, len(served.proxy.log)))
        return served

    yield watch
    for served, secrets, before in watched:
        # Shown when the test has failed.
        sys.stdout.write(f"--- Docxy's log\n{served.proxy.log[before:]}")
        assert secrets.look_for([one for hub in hubs.values() for one in hub.requests]) == []
    for hub in hubs.values():
        for record in hub.requests:
            assert record.part != "cdn" or "Authorization" not in record.headers
            assert "ns" not in record.query
            assert not {*record.path.split("/")} & {*_LOGINS, "shared.test", "managed.test"}
    crossed = Counter(token for hub in hubs.values() for token in _tokens(hub))
    assert all(times == 1 for times in crossed.values()), "one hub has seen another one's token"
    for hub in hubs.values():
        hub.reset()
        hub.token_fields = None


def _tokens(hub: Hub) -> set[str]:
    """Return the refresh tokens that a hub has seen, and the issuers of the other tokens."""
    found = set[str]()
    for record in hub.requests:
        scheme, _, secret = record.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            found.add(str(claims_of(secret).get("iss", secret)))
        found.update(record.body.get("refresh_token", []))
    return found


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
