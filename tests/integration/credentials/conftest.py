"""Three registries behind one Docxy, and after every test: no secret has strayed."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import programs
from tests.hub.accounts import User, default_users
from tests.hub.content import default_content
from tests.hub.hub import Hub
from tests.integration.credentials.ledger import Ledger
from tests.integration.credentials.street import DOCKER, GHCR, HOSTS, QUAY, Street
from tests.servers import docxy
from tests.tables import write_config

BOTH = "carol"
"""Has the same password everywhere."""


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    ledger = Ledger()
    for name in (DOCKER, GHCR, QUAY):
        for user in _users(name).values():
            ledger.note(user.password, name)
    ledger.note(_users(DOCKER)[BOTH].password, DOCKER, GHCR, QUAY)
    return ledger


def _users(name: str) -> Mapping[str, User]:
    return {**default_users(f"-at-{name}"), BOTH: User("carolpw-at-all", reads=("*",))}


@pytest.fixture(scope="session")
def hubs() -> Iterator[Mapping[str, Hub]]:
    """Run a hub for the default registry, a second one with tokens, and one with passwords."""
    programs.require("docker-registry")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(
            Hub(users=_users(DOCKER), content=lambda: default_content(DOCKER))
        )
        others = {
            name: stack.enter_context(
                Hub(
                    users=_users(name),
                    content=lambda name=name: default_content(name),  # type: ignore[misc]
                    login="basic" if name == QUAY else "token",
                    authority=first.authority,
                )
            )
            for name in (GHCR, QUAY)
        }
        hubs = {DOCKER: first, **others}
        for hub in hubs.values():
            hub.limit = hub.user_limit = None
        yield hubs


@pytest.fixture(scope="session")
def passthrough(
    hubs: Mapping[str, Hub], ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Street]:
    """Run Docxy with clients' own logins; two rows take them by prefix as well."""
    rows = [
        hubs[DOCKER].row(DOCKER),
        hubs[GHCR].row(GHCR, hosts=[HOSTS[GHCR]]),
        hubs[QUAY].row(QUAY, hosts=[HOSTS[QUAY]]),
        hubs[GHCR].row("login.test", prefix_login=True),
        hubs[QUAY].row("basic.test", prefix_login=True),
    ]
    path = write_config(tmp_path_factory.mktemp("passthrough") / "docxy.toml", rows)
    yield from _street(path, hubs, ledger)


@pytest.fixture(scope="session")
def by_itself(
    hubs: Mapping[str, Hub], ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Street]:
    """Run Docxy with accounts of its own, whose passwords stand in each of the three places."""
    folder = tmp_path_factory.mktemp("managed")
    secret = folder / "password"
    secret.write_text(f"{hubs[GHCR].users['alice'].password}\n")
    login: dict[str, Any] = {"credentials": "managed", "username": "alice"}
    quay = hubs[QUAY].users["alice"].password
    rows = [
        hubs[DOCKER].row(DOCKER),
        hubs[GHCR].row(GHCR, hosts=[HOSTS[GHCR]], password_file=str(secret), **login),
        hubs[QUAY].row(QUAY, hosts=[HOSTS[QUAY]], password=quay, **login),
        hubs[GHCR].row("nobody.test", credentials="managed"),
        hubs[QUAY].row("stranger.test", credentials="managed"),
    ]
    path = write_config(folder / "docxy.toml", rows)
    account = {
        "DOCXY_CREDENTIALS": "managed",
        "DOCXY_USERNAME": "alice",
        "DOCXY_PASSWORD": hubs[DOCKER].users["alice"].password,
    }
    yield from _street(path, hubs, ledger, **account)


def _street(
    path: Path, hubs: Mapping[str, Hub], ledger: Ledger, **settings: str
) -> Iterator[Street]:
    settings |= {"DOCXY_LOG_LEVEL": "debug", "DOCXY_RETRY_BUDGET": "0.3"}  # time for one retry
    with docxy(DOCXY_CONFIG=str(path), **settings) as proxy:
        street = Street(hubs, proxy, ledger)
        street.session.trust_env = False
        with street.session:
            yield street
        assert [secret for secret in ledger.secrets if secret in proxy.log] == []


@pytest.fixture
def street(passthrough: Street) -> Iterator[Street]:
    """Lend the registries before which clients bring their own logins."""
    yield from _lend(passthrough)


@pytest.fixture
def managed(by_itself: Street) -> Iterator[Street]:
    """Lend the registries at which Docxy has accounts of its own."""
    yield from _lend(by_itself)


def _lend(street: Street) -> Iterator[Street]:
    """Let everything be forgotten, and see afterwards where the secrets went."""
    street.forget()
    before = len(street.proxy.log)
    yield street
    sys.stdout.write(f"--- Docxy's log\n{street.proxy.log[before:]}")  # shown where a test fails
    strays = street.ledger.strays(street.hubs)
    street.forget()
    assert strays == []
