import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast, get_args

import pytest

from tests import programs
from tests.hub.door import Login
from tests.hub.hub import Hub
from tests.hub.images import digest_of
from tests.integration.asking import ALPINE, LATEST, PRIVATE, Client, basic, stranger_at
from tests.servers import clean_environment

pytestmark = [pytest.mark.integration, pytest.mark.rig]

ALICE = basic("alice", "alicepw")
BOB = basic("bob", "bobpw")
BASIC_CHALLENGE = 'Basic realm="registry.test"'
MADE_UP = "Bearer made-up"
UNKNOWN = "/v2/library/nothing/manifests/1"


class Strangers:
    """A client without credentials for a hub of each kind; a hub starts with its first use."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._hubs: dict[Login, Hub] = {}

    def at(self, login: Login) -> Client:
        """Return a new client; its hub has forgotten everything."""
        if login not in self._hubs:
            self._hubs[login] = self._stack.enter_context(Hub(login=login))
        self._hubs[login].reset()
        return self._stack.enter_context(stranger_at(self._hubs[login]))


@pytest.fixture(scope="module")
def strangers() -> Iterator[Strangers]:
    programs.require("docker-registry")
    with ExitStack() as stack:
        yield Strangers(stack)


@pytest.fixture
def targets(strangers: Strangers) -> list[str]:
    """One target of each kind, all of them public."""
    image = strangers.at("none").hub.image("library/alpine", "latest")
    blob = next(iter(image.all_blobs))
    return [
        "/v2/",
        LATEST,
        f"{ALPINE}/blobs/{blob}",
        f"{ALPINE}/tags/list",
        f"{ALPINE}/referrers/{image.digest}",
    ]


FOUND = [200, 200, 307, 200, 200]


# Basic


@pytest.mark.parametrize("shown", ["", basic("alice", "wrong"), "Basic !", MADE_UP])
def test_basic_challenge(strangers: Strangers, targets: list[str], shown: str) -> None:
    """Everything is refused to those without a password, in words that name no token server."""
    client = strangers.at("basic")
    for method in ("GET", "HEAD"):
        for target in targets:
            answer = client.ask(method, target, **({"Authorization": shown} if shown else {}))
            assert answer.status_code == 401, target
            assert answer.headers["WWW-Authenticate"] == BASIC_CHALLENGE
            assert client.hub.token_url not in str(answer.headers)


def test_basic_refuses_its_own_tokens(strangers: Strangers) -> None:
    """Even a token of the server that nothing points to buys nothing."""
    client = strangers.at("basic")
    client.log_in(auth=("alice", "alicepw"))
    assert client.get(LATEST).status_code == 401


def test_basic_serves(strangers: Strangers, targets: list[str]) -> None:
    """The password goes with every request and buys what the user may have; no token does."""
    client = strangers.at("basic")
    answers = [client.get(target, Authorization=BOB) for target in targets]
    assert [answer.status_code for answer in answers] == FOUND
    image = client.hub.image("library/alpine", "latest")
    assert answers[1].headers["Docker-Content-Digest"] == image.digest
    assert answers[1].headers["ratelimit-remaining"] == "199;w=21600"
    assert client.hub.count("token") == 0


@pytest.mark.parametrize(("shown", "status"), [(ALICE, 200), (BOB, 403)], ids=["alice", "bob"])
def test_basic_private(strangers: Strangers, shown: str, status: int) -> None:
    """The right password of the wrong user is denied, without a challenge."""
    answer = strangers.at("basic").get(PRIVATE, Authorization=shown)
    assert answer.status_code == status
    assert "WWW-Authenticate" not in answer.headers
    if status == 403:
        assert answer.json()["errors"][0]["code"] == "DENIED"


def test_basic_push(strangers: Strangers) -> None:
    """Who may write can begin an upload."""
    client = strangers.at("basic")
    target = "/v2/alice/private/blobs/uploads/"
    assert client.ask("POST", target, Authorization=ALICE).status_code == 202
    assert client.ask("POST", target, Authorization=BOB).status_code == 403


# None


def test_none_serves(strangers: Strangers, targets: list[str]) -> None:
    """Nobody is asked for anything."""
    client = strangers.at("none")
    assert [client.get(target).status_code for target in targets] == FOUND
    assert client.hub.count("token") == 0


@pytest.mark.parametrize("target", [PRIVATE, UNKNOWN])
def test_none_hides(strangers: Strangers, target: str) -> None:
    """What is private does not exist."""
    answer = strangers.at("none").get(target)
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "NAME_UNKNOWN"


@pytest.mark.parametrize("shown", [MADE_UP, "Bearer ", "Bearer a.b.c", "Bearer", ALICE, BOB, "x"])
def test_none_refuses_what_is_made_up(strangers: Strangers, targets: list[str], shown: str) -> None:
    """Whoever shows anything is refused, also what is public, and not told of a token server."""
    client = strangers.at("none")
    for target in targets:
        answer = client.get(target, Authorization=shown)
        assert answer.status_code == 401, target
        assert "WWW-Authenticate" not in answer.headers


def test_none_refuses_tokens_of_others(strangers: Strangers) -> None:
    """A token of another hub is not taken, though the service has the same name there."""
    client, other = strangers.at("none"), strangers.at("token")
    assert client.hub.service == other.hub.service
    other.log_in()
    assert other.get(LATEST).status_code == 200
    token = str(other.session.headers["Authorization"])
    assert client.get(LATEST, Authorization=token).status_code == 401


def test_none_takes_its_own_tokens(strangers: Strangers) -> None:
    """A token that the hub did sign is good until it expires."""
    client = strangers.at("none")
    client.log_in("alice/private", auth=("alice", "alicepw"))
    assert client.get(PRIVATE).status_code == 200
    client.hub.advance(301)
    assert client.get(PRIVATE).status_code == 401


# Either


@pytest.mark.parametrize("shown", ["", basic("alice", "wrong"), MADE_UP])
def test_either_challenge(strangers: Strangers, shown: str) -> None:
    """One header challenges for both."""
    client = strangers.at("either")
    answer = client.get(LATEST, **({"Authorization": shown} if shown else {}))
    assert answer.status_code == 401
    (challenge,) = answer.raw.headers.getlist("WWW-Authenticate")
    error = ',error="invalid_token"' if shown == MADE_UP else ""
    assert challenge == (
        f'Bearer realm="{client.hub.token_url}",service="registry.test",'
        f'scope="repository:library/alpine:pull"{error}, {BASIC_CHALLENGE}'
    )


@pytest.mark.parametrize(
    ("target", "shown", "status"),
    [(LATEST, BOB, 200), (PRIVATE, ALICE, 200), (PRIVATE, BOB, 401)],
)
def test_either_by_password(strangers: Strangers, target: str, shown: str, status: int) -> None:
    """A password at the registry is enough, for what its user may have."""
    client = strangers.at("either")
    assert client.get(target, Authorization=shown).status_code == status
    assert client.hub.count("token") == 0


def test_either_by_token(strangers: Strangers, targets: list[str]) -> None:
    """So is a token, until it expires."""
    client = strangers.at("either")
    client.log_in()
    assert [client.get(target).status_code for target in targets] == FOUND
    client.hub.advance(301)
    assert client.get(LATEST).status_code == 401


# All of them


@pytest.mark.parametrize("login", get_args(Login))
def test_settings(strangers: Strangers, login: str) -> None:
    """Docxy is told of a token server only where it is the way in."""
    hub = strangers.at(cast("Login", login)).hub
    told = {name for name in hub.settings if "TOKEN" in name}
    assert told == ({"DOCXY_TOKEN_URL", "DOCXY_TOKEN_SERVICE"} if login == "token" else set())
    assert {key for key in hub.row("a.test") if "token" in key} == (
        {"token_url", "token_service"} if login == "token" else set()
    )


@pytest.mark.parametrize("login", get_args(Login))
def test_skopeo(strangers: Strangers, tmp_path: Path, login: str) -> None:
    """A real client finds its way in, and at the right door."""
    programs.require("skopeo")
    hub = strangers.at(cast("Login", login)).hub
    repository = "owner/app" if login == "none" else "alice/private"
    credentials = [] if login == "none" else ["--src-creds", "alice:alicepw"]
    source, target = f"docker://{hub.host}/{repository}:1", f"dir:{tmp_path}/copy"
    env = clean_environment(SSL_CERT_FILE=str(hub.ca_bundle), HOME=str(tmp_path))
    command = ["skopeo", "copy", *credentials, source, target]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
    copied = {digest_of(path.read_bytes()) for path in (tmp_path / "copy").iterdir()}
    image = hub.image(repository, "1")
    assert copied >= {image.digest, *image.all_blobs}
    if login in {"basic", "none"}:
        assert hub.count("token") == 0
