"""Registries at which Docxy has the account: every client gets what that account may have."""

from collections.abc import Iterator

import pytest

from tests.integration.pulling import TABLE, Client, client
from tests.integration.registry_table import CAROL, PRIVATE, Fresh, Served, Watch, known_at
from tests.lines import all_lines

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=TABLE)
def stranger(
    request: pytest.FixtureRequest, managed: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Start a client that knows nobody, for tests of which no two pull the same image."""
    home = tmp_path_factory.mktemp(request.param)
    with client(request.param, managed.way(), "by name", home) as started:
        yield started


@pytest.mark.parametrize(
    ("written", "name"),
    [
        pytest.param(f"HOST/{PRIVATE}", "docker.io", id="default"),
        pytest.param(f"HOST/quay.io/{PRIVATE}", "quay.io", id="prefix"),
        pytest.param(f"HOST/basic.test/{PRIVATE}", "basic.test", id="basic"),
        pytest.param("HOST/plain.test/owner/app:1", "plain.test", id="no-token"),
        pytest.param(f"NAMED/{PRIVATE}", "ghcr.io", id="host"),
    ],
)
def test_private_for_everybody(
    written: str, name: str, stranger: Client, managed: Served, watched: Watch
) -> None:
    """A private image comes to who has no login, and no client asks for a token."""
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
