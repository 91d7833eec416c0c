"""Registries at which Docxy has the account: every client gets what that account may have."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.integration.pulling import TABLE, Client, client
from tests.integration.registry_table import CAROL, PRIVATE, Fresh, Served, Watch, known_at
from tests.lines import all_lines

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=TABLE)
def kind(request: pytest.FixtureRequest) -> str:
    """Return the name of a client of the table."""
    return str(request.param)


@pytest.fixture(scope="module")
def stranger(
    kind: str, managed: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Start a client that knows nobody, for tests of which no two pull the same image."""
    with client(kind, managed.way(), "by name", tmp_path_factory.mktemp(kind)) as started:
        yield started


FOR_CLIENTS: Final = [(f"HOST/{PRIVATE}", "docker.io"), (f"NAMED/{PRIVATE}", "ghcr.io")]
"""By default and by host, which clients read each in its own way."""
FOR_REGISTRIES: Final = [
    (f"HOST/quay.io/{PRIVATE}", "quay.io"),
    (f"HOST/basic.test/{PRIVATE}", "basic.test"),
    ("HOST/plain.test/owner/app:1", "plain.test"),
]
"""Prefixes, for a client all alike: by discovery, with Basic credentials, without a token."""


def addresses(kind: str) -> list[tuple[str, str]]:
    """Return the first two, and one of the others, which clients take in turn."""
    return [*FOR_CLIENTS, FOR_REGISTRIES[[*TABLE].index(kind) % len(FOR_REGISTRIES)]]


@pytest.mark.parametrize("at", range(len(FOR_CLIENTS) + 1))
def test_private_for_everybody(
    kind: str, at: int, stranger: Client, managed: Served, watched: Watch
) -> None:
    """A private image comes to who has no login, and no client asks for a token."""
    written, name = addresses(kind)[at]
    served = watched(managed)
    before = len(all_lines(served.proxy))
    hub = served.hubs[name]
    reference = written.replace("HOST", served.host).replace("NAMED", served.named_host)
    repository = "owner/app" if "owner/app" in written else "alice/private"
    assert stranger.pull(reference) == stranger.kept(hub.image(repository, "1"))
    log = all_lines(served.proxy)[before:]
    assert "/manifests/" in log
    assert "/auth/token" not in log
    assert [asked.query["client_id"] for asked in hub.select("token")] in ([], [["docxy"]])
    served.assert_only(name)


@pytest.mark.parametrize("name", TABLE)
def test_a_login_is_for_nobody(name: str, managed: Served, watched: Watch, fresh: Fresh) -> None:
    """Who has a login all the same is let in, and no registry hears of it."""
    served = watched(managed)
    client = fresh(name, served.way())
    client.log_in(*CAROL)
    for registry in ("docker.io", "ghcr.io"):
        image = served.hubs[registry].image("alice/private", "1")
        assert client.pull(f"{served.host}/{registry}/{PRIVATE}") == client.kept(image)
        assert known_at(served.hubs[registry]) == {"alice"}
