"""Users of the proxy: over a running Docxy with a cache, counting what reached the hub."""

import base64
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import bcrypt
import jwt
import pytest
import requests

from app.access.htpasswd import Htpasswd
from app.access.tokens import TokenIssuer
from app.store.secret import load_secret
from bench.proc import read_cpu_seconds
from tests import programs
from tests.clients.docker import docker
from tests.clients.process import CommandFailed
from tests.hub.hub import Hub
from tests.hub.images import OCI_INDEX, OCI_MANIFEST, Image
from tests.integration.caching import Cached, caching, push
from tests.integration.pulling import client, ours
from tests.servers import ROOT, clean_environment, wait_until

pytestmark = pytest.mark.integration

NAME, OTHER = "library/members", "library/members-too"
CANONICAL = f"docker.io/{NAME}"
SCOPE = f"repository:{NAME}:pull"
KEY = "the key of these tests, of 32 bytes and more"
CAROL, DAVE = ("carol", "carol's password"), ("dave", "dave's password")
_ADDRESSES = count(1)


def line(name: str, password: str, cost: int = 5) -> str:
    """Write a line as `htpasswd -B` does."""
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()}\n"


CAROLS_LINE = line(*CAROL)
MEMBERS = CAROLS_LINE + line(*DAVE)
"""Written once: a password that is hashed again is another one."""


@dataclass(frozen=True)
class Club:
    """A Docxy for its users, and what one can say there."""

    cached: Cached
    path: Path
    key: bytes
    said: list[str] = field(default_factory=list)
    """All that was secret."""

    def ask(
        self,
        path: str,
        authorization: str = "",
        method: str = "GET",
        data: object = None,
        *,
        address: str = "",
    ) -> requests.Response:
        """Ask on a connection of its own, from an address of its own in a network of its own."""
        number = next(_ADDRESSES)
        headers = {
            "Accept": f"{OCI_INDEX}, {OCI_MANIFEST}",
            "X-Forwarded-For": address or f"10.{number >> 8 & 255}.{number & 255}.1",
        } | ({"Authorization": authorization} if authorization else {})
        self.said.append(authorization.partition(" ")[2])
        url = f"{self.cached.proxy.url}{path}"
        return requests.request(method, url, headers=headers, data=data, timeout=60)  # type: ignore[arg-type]

    def token(self, query: str = f"scope={SCOPE}", login: tuple[str, str] = CAROL) -> str:
        """Return an access token."""
        answer = self.ask(f"/auth/token?{query}", basic(*login))
        assert answer.status_code == 200, answer.text
        self.said.extend(value for value in answer.json().values() if len(str(value)) > 40)
        return str(answer.json()["token"])

    def write(self, text: str) -> None:
        """Put other users in place of those of now, and wait until both workers have read them."""
        self.replace(text)
        held = f"Bearer {self.ours().issue_access_token('carol', [])}"
        self.let_each_look(held, "Users file reloaded")

    def let_each_look(self, held: str, told: str) -> None:
        """Ask each worker, since it looks at the file when it is asked, until it has told so."""
        proxy = self.cached.proxy
        for worker in proxy.workers:
            before = proxy.log.count(told)

            def is_told(worker: int = worker, before: int = before) -> bool:
                with proxy.only(worker):
                    self.ask("/v2/", held)
                return proxy.log.count(told) > before

            wait_until(is_told, what=f"worker {worker} to look at the file")

    def replace(self, text: str) -> None:
        """Put another file in the place of this one, so that nobody reads half of it."""
        beside = self.path.with_name("beside")
        beside.write_text(text)
        beside.replace(self.path)

    def ours(self, clock: float = 0.0, key: bytes | None = None) -> TokenIssuer:
        """Return what makes tokens as this Docxy does, at another time or with another key."""
        return TokenIssuer(
            key or self.key,
            Htpasswd(self.path, self.path.read_bytes()),
            lambda: time.time() + clock,
        )


def basic(name: str, password: str) -> str:
    """Return a login as Basic has it."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def image(hub: Hub) -> Image:
    """Return what is there to pull, for the proxy's own account only."""
    image = push(hub, NAME)
    push(hub, OTHER)
    for name in (NAME, OTHER):
        hub.make_private(name)
    return image


@pytest.fixture(scope="module")
def club(hub: Hub, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Club]:
    """Return a Docxy for carol and dave, with the image in its cache."""
    folder = tmp_path_factory.mktemp("club")
    path = folder / "users"
    path.write_text(f"# members\n{MEMBERS}")
    with caching(
        hub,
        folder / "cache",
        DOCXY_CREDENTIALS="managed",
        DOCXY_USERNAME="alice",
        DOCXY_PASSWORD="alicepw",  # noqa: S106 - of this hub only
        DOCXY_TAG_TTL="3600",
        DOCXY_HTPASSWD_FILE=str(path),
        DOCXY_TOKEN_KEY=KEY,
    ) as cached:
        # One that begins later would read a file that a test has changed already.
        cached.proxy.await_workers()
        club = Club(cached, path, KEY.encode())
        for target in targets(image):
            assert club.ask(target, basic(*CAROL)).status_code in {200, 404}
        yield club
        log = cached.proxy.log
        for secret in {KEY, CAROL[1], DAVE[1], "alicepw", "eyJ", "$2b$", *club.said} - {""}:
            assert secret not in log


@pytest.fixture(autouse=True)
def forgotten(hub: Hub, club: Club) -> None:
    """Begin with a hub that was asked nothing."""
    del club
    hub.reset()


def targets(image: Image) -> Sequence[str]:
    """Return all that one can ask of an image."""
    blob = min(image.all_blobs)
    return (
        f"/v2/{NAME}/manifests/1",
        "/v2/members/manifests/1?ns=docker.io",
        f"/v2/docker.io/{NAME}/manifests/1",
        f"/v2/{NAME}/manifests/{image.digest}",
        f"/v2/{NAME}/blobs/{blob}",
        f"/v2/{NAME}/tags/list",
        f"/v2/{NAME}/referrers/{image.digest}",
    )


def refused(club: Club, image: Image, authorization: str, error: str = "") -> None:
    """See that everything is refused, and that nobody else was asked."""
    for target in targets(image):
        for method in ("GET", "HEAD"):
            answer = club.ask(target, authorization, method)
            assert answer.status_code == 401, (target, answer.status_code)
            challenge = answer.headers["WWW-Authenticate"]
            assert f'realm="{club.cached.proxy.url}/auth/token' in challenge
            assert 'service="docxy"' in challenge
            assert not error or f'error="{error}"' in challenge
            assert "Docker-Content-Digest" not in answer.headers
    assert club.cached.hub.requests == []


def test_nothing_without_a_login(club: Club, image: Image) -> None:
    """Also what is kept goes to nobody who has not logged in."""
    refused(club, image, "")
    for path in ("/v2/", "/v1/search?q=x", f"/page/tags?image={NAME}", "/v2/_catalog"):
        assert club.ask(path).status_code == 401
    assert club.ask(f"/auth/token?scope={SCOPE}").status_code == 401
    assert club.ask("/auth/token", method="POST", data={"scope": SCOPE}).status_code == 400
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert club.ask(f"/v2/{NAME}/blobs/uploads/", method=method).status_code == 401
    assert club.cached.hub.requests == []


@pytest.mark.parametrize("path", ["/health", "/", "/config/docker", "/v1/_ping"])
def test_what_needs_no_login(club: Club, path: str) -> None:
    """Balancers, and people who look how to set their client up."""
    assert club.ask(path).status_code == 200
    assert [record for record in club.cached.hub.requests if NAME in record.path] == []


def test_bad_tokens(club: Club, image: Image) -> None:
    """Checked on every request, before the cache and before the registry."""
    good = club.ours().issue_access_token("carol", [CANONICAL])
    claims = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for bad in (
        club.ours(clock=-310).issue_access_token("carol", [CANONICAL]),
        club.ours(key=b"o" * 40).issue_access_token("carol", [CANONICAL]),
        club.ours().issue_access_token("mallory", [CANONICAL]),
        club.ours().issue_refresh_token("carol"),
        jwt.encode(claims, KEY, algorithm="HS256"),
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        f"{head}.{body}.{signature[:-3]}AAA",
        "docxy.none",
    ):
        refused(club, image, f"Bearer {bad}", "invalid_token")


def test_another_repositorys_token(club: Club, image: Image) -> None:
    """A token is for what it was asked for."""
    for query in (f"scope=repository:{OTHER}:pull", f"scope=repository:{NAME}:push", ""):
        refused(club, image, f"Bearer {club.token(query)}", "insufficient_scope")
    assert club.ask("/v2/", f"Bearer {club.token('')}").status_code == 200


@pytest.mark.parametrize("scope", [NAME, "members", f"docker.io/{NAME}", "index.docker.io/members"])
def test_a_token_by_any_name(club: Club, image: Image, scope: str) -> None:
    """However the repository was called for the token, and is called with it."""
    token = club.token(f"scope=repository:{scope}:pull")
    for target in targets(image):
        for method in ("GET", "HEAD"):
            # 405 is the registry's answer to HEAD of a list.
            assert club.ask(target, f"Bearer {token}", method).status_code in {200, 404, 405}
    # The cache knows it all; only lists are asked for again.
    assert club.cached.hub.count("registry", "GET", "/manifests/") == 0


def test_forms(club: Club, image: Image) -> None:
    """By POST, as containerd and BuildKit do; then with the refresh token."""
    form = {"grant_type": "password", "username": CAROL[0], "password": CAROL[1]}
    told = {"service": "docxy", "client_id": "x", "scope": SCOPE, "access_type": "offline"}
    first = club.ask("/auth/token", method="POST", data=form | told).json()
    again = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = club.ask("/auth/token", method="POST", data=again | told).json()
    club.said.extend([first["access_token"], first["refresh_token"], second["access_token"]])
    for found in (first, second):
        answer = club.ask(targets(image)[0], f"Bearer {found['access_token']}")
        assert answer.headers["Docker-Content-Digest"] == image.digest
    for wrong in (
        form | {"password": "x"},
        form | {"username": "mallory"},
        again | {"refresh_token": first["access_token"]},
        again | {"refresh_token": club.ours(key=b"o" * 40).issue_refresh_token("carol")},
    ):
        assert club.ask("/auth/token", method="POST", data=wrong | told).status_code == 401
    assert club.cached.hub.requests == []


def test_what_goes_up(club: Club, hub: Hub) -> None:
    """The proxy's own account, and nothing that a client has sent."""
    name = "library/fresh"
    push(hub, name)
    hub.reset()
    for authorization in (
        basic(*CAROL),
        f"Bearer {club.token(f'scope=repository:{name}:pull')}",
    ):
        assert club.ask(f"/v2/{name}/manifests/1", authorization).status_code == 200
        assert club.ask(f"/v2/{name}/tags/list", authorization).status_code == 200
    assert hub.requests
    for record in hub.requests:
        for value in record.headers.getlist("Authorization"):
            scheme, _, secret = value.partition(" ")
            assert secret not in club.said
            assert scheme == "Bearer" or base64.b64decode(secret) == b"alice:alicepw"


def test_the_log_says_who(club: Club) -> None:
    """The user stands on the request's line; a refusal has one of its own, with the reason."""

    def lines(id_: str) -> list[str]:
        log = club.cached.proxy.log.splitlines()
        return [line for line in log if f"request_id={id_}" in line]

    def ask(id_: str, authorization: str) -> None:
        headers = {"X-Request-ID": id_, "Authorization": authorization}
        headers["X-Forwarded-For"] = "192.0.2.77"
        requests.get(f"{club.cached.proxy.url}/v2/", headers=headers, timeout=30)
        wait_until(lambda: any("path=/v2/" in line for line in lines(id_)), what="its line")

    ask("club-1", basic(*CAROL))
    assert any("user=carol" in line and "status=200" in line for line in lines("club-1"))
    ask("club-2", basic("carol", "wrong-password"))
    assert any("wrong user name or password" in line for line in lines("club-2"))
    assert not any("user=" in line for line in lines("club-2"))
    assert "wrong-password" not in club.cached.proxy.log


@pytest.mark.soak
def test_a_flood_of_logins(club: Club, image: Image) -> None:
    """Hashes are slow: downloads go on beside them, and each login is answered in the end."""
    began = time.monotonic()
    slow = line("slow", "slow password", cost=11)
    one_hash = time.monotonic() - began
    club.write(f"{MEMBERS}{slow}")
    token = f"Bearer {club.token()}"
    blob = [*image.all_blobs][-1]
    with ThreadPoolExecutor(60) as pool:
        flood = [pool.submit(club.ask, "/v2/", basic("slow", f"wrong {n}")) for n in range(60)]
        took = []
        while not all(one.done() for one in flood):
            began = time.monotonic()
            assert club.ask(f"/v2/{NAME}/blobs/{blob}", token).status_code == 200
            took.append(time.monotonic() - began)
        statuses = [one.result().status_code for one in flood]
    assert set(statuses) <= {401, 503}
    # On the event loop a download would wait for all of a worker's hashes, which are thirty.
    assert sorted(took)[len(took) // 2] < max(1.0, 5 * one_hash)


def from_anywhere(number: int) -> str:
    """Return an address in a network that nobody else has."""
    return f"{11 + number % 100}.{number // 100 % 250}.{number // 25000}.1"


def from_one_site(number: int) -> str:
    """Return one of the networks that somebody has who has a /48."""
    return f"2001:db8:7:{number:x}::1"


@pytest.mark.parametrize(
    ("attackers", "users"),
    [
        (from_anywhere, "homes"),
        pytest.param(from_one_site, "an office", marks=pytest.mark.soak),
    ],
)
def test_first_logins_in_a_flood(club: Club, attackers: Callable[[int], str], users: str) -> None:
    """Sixty wrong logins at a time keep nobody out who is right, and never was before."""
    hashed = line("", "right", cost=8)
    club.write(MEMBERS + "".join(f"user{number}{hashed}" for number in range(30)))
    numbers, is_over, before = count(1), threading.Event(), len(club.said)

    def attack() -> None:
        while not is_over.is_set():
            number = next(numbers)
            login = basic(f"user{number % 40}", f"wrong {number}")
            club.ask("/v2/", login, address=attackers(number))

    def log_in(number: int) -> int:
        address = "198.51.100.1" if users == "an office" else f"198.{51 + number}.100.1"
        form = {"grant_type": "password", "username": f"user{number}", "password": "right"}
        return club.ask("/auth/token", method="POST", data=form, address=address).status_code

    with ThreadPoolExecutor(60) as flood, ThreadPoolExecutor(30) as pool:
        attacks = [flood.submit(attack) for _ in range(60)]
        try:
            wait_until(lambda: len(club.said) > before + 90, what="the flood")
            statuses = [*pool.map(log_in, range(30))]
        finally:
            is_over.set()
        for one in attacks:
            one.result()
    club.write(MEMBERS)
    assert statuses == [200] * 30


def test_a_wrong_user_takes_as_long_as_a_wrong_password(club: Club) -> None:
    """In pairs, by each way to send a password: which of two takes longer is chance.

    Of 40 fair coins fewer than 7, or more than 33, are heads once in 50,000 times. How long a
    client waits is also the other tests' doing, so what the workers spend is compared as well.
    """
    club.write(line("known", "a password", cost=8) + line("other", "a password", cost=8))
    master = club.cached.proxy.server.process.pid
    form = {"grant_type": "password"}
    ways: list[Callable[[str, str], requests.Response]] = [
        lambda name, word: club.ask("/v2/", basic(name, word)),
        lambda name, word: club.ask("/auth/token", basic(name, word)),
        lambda name, word: club.ask(
            "/auth/token", method="POST", data=form | {"username": name, "password": word}
        ),
    ]
    spent = {"known": 0.0, "nobody": 0.0}
    longer = 0
    for number in range(40):
        took = {}
        for name in [*spent] if number % 2 else [*reversed(spent)]:
            before, began = read_cpu_seconds(master), time.monotonic()
            assert ways[number % 3](name, f"wrong {number}").status_code == 401
            took[name] = time.monotonic() - began
            spent[name] += read_cpu_seconds(master) - before
        longer += took["known"] > took["nobody"]
    club.write(MEMBERS)
    assert 7 <= longer <= 33
    assert 0.6 < spent["known"] / spent["nobody"] < 1.6


def test_guessing_is_slowed(club: Club) -> None:
    """By address, in each worker; others are let in meanwhile."""
    headers = {"X-Forwarded-For": "192.0.2.99", "Authorization": basic("carol", "guess")}
    url = f"{club.cached.proxy.url}/v2/"
    statuses = [requests.get(url, headers=headers, timeout=30).status_code for _ in range(40)]
    assert statuses[:5] == [401] * 5
    assert statuses.count(401) <= 12
    last = requests.get(url, headers=headers, timeout=30)
    assert (last.status_code, int(last.headers["Retry-After"]) >= 1) == (429, True)
    headers["Authorization"] = basic(*CAROL)
    assert requests.get(url, headers=headers, timeout=30).status_code == 429
    assert club.ask("/v2/", basic(*CAROL)).status_code == 200


def test_users_change(club: Club, image: Image) -> None:
    """Who is removed, or has another password, is out within a second or two; the others stay."""
    held = {name: f"Bearer {club.token(login=(name, word))}" for name, word in (CAROL, DAVE)}
    refresh = club.ours().issue_refresh_token("dave")
    club.write(CAROLS_LINE + line("dave", "another password"))
    path = targets(image)[0]
    assert {club.ask(path, held["dave"]).status_code for _ in range(8)} == {401}
    again = {"grant_type": "refresh_token", "refresh_token": refresh}
    assert club.ask("/auth/token", method="POST", data=again).status_code == 401
    assert club.ask("/v2/", basic(*DAVE)).status_code == 401
    assert club.ask("/v2/", basic("dave", "another password")).status_code == 200
    assert club.ask(path, held["carol"]).status_code == 200
    club.replace("dave:plain\n")
    club.let_each_look(held["carol"], "Users file not reloaded")
    assert {club.ask(path, held["carol"]).status_code for _ in range(8)} == {200}
    club.write(MEMBERS)
    assert {club.ask("/v2/", basic(*DAVE)).status_code for _ in range(8)} == {200}


def test_a_key_of_the_cache(hub: Hub, image: Image, tmp_path: Path) -> None:
    """Without the setting it is the one of the cache's directory, also after a restart."""
    path = tmp_path / "users"
    path.write_text(line(*CAROL))
    settings = {"DOCXY_CREDENTIALS": "managed", "DOCXY_HTPASSWD_FILE": str(path)}
    with caching(hub, tmp_path / "cache", **settings) as cached:
        token = Club(cached, path, b"").token()
    assert (tmp_path / "cache" / "secret").stat().st_mode & 0o777 == 0o600
    secret = load_secret(tmp_path / "cache")
    with caching(hub, tmp_path / "cache", **settings) as cached:
        club = Club(cached, path, b"")
        assert {club.ask("/v2/", f"Bearer {token}").status_code for _ in range(8)} == {200}
        # Whoever has only the cache's own key has none for tokens.
        forged = TokenIssuer(secret, Htpasswd(path, path.read_bytes())).issue_access_token(
            "carol", [CANONICAL]
        )
        assert club.ask(targets(image)[0], f"Bearer {forged}").status_code == 401


def test_rules_for_users(hub: Hub, image: Image, tmp_path: Path) -> None:
    """Dave is refused one image, by whatever name and also where it is kept; carol is not."""
    path, config = tmp_path / "users", tmp_path / "docxy.toml"
    path.write_text(MEMBERS)
    row = {name.lower().removeprefix("docxy_"): value for name, value in hub.settings.items()}
    lines = "".join(f"{name} = {_toml(value)}\n" for name, value in row.items())
    config.write_text(f"""{lines}
[[rules]]
action = "deny"
repository = "{NAME}"
users = ["dave"]
message = "not for dave"
""")
    with caching(
        hub,
        tmp_path / "cache",
        DOCXY_CONFIG=str(config),
        DOCXY_CREDENTIALS="managed",
        DOCXY_USERNAME="alice",
        DOCXY_PASSWORD="alicepw",  # noqa: S106 - of this hub only
        DOCXY_HTPASSWD_FILE=str(path),
        DOCXY_TOKEN_KEY=KEY,
    ) as cached:
        club = Club(cached, path, KEY.encode())
        for target in targets(image):
            assert club.ask(target, basic(*CAROL)).status_code in {200, 404}
        hub.reset()
        held = f"Bearer {club.token(login=DAVE)}"
        for target in targets(image):
            for authorization in (basic(*DAVE), held):
                for method in ("GET", "HEAD"):
                    answer = club.ask(target, authorization, method)
                    assert answer.status_code == 403
                    assert method == "HEAD" or "not for dave" in answer.text
            assert club.ask(target).status_code == 401
        assert hub.requests == []
        wait_until(
            lambda: any(
                "Request refused." in line and "rule=1" in line and "user=dave" in line
                for line in cached.proxy.log.splitlines()
            ),
            what="the refusal's line",
        )
        assert club.ask(f"/v2/{OTHER}/manifests/1", basic(*DAVE)).status_code == 200


def _toml(value: str) -> str:
    return value if value in {"true", "false"} else f'"{value}"'


CLIENTS = ["skopeo", "podman", "buildah", "docker", "docker-containerd", "ctr", "oras"]


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_log_in(club: Club, image: Image, name: str, tmp_path: Path) -> None:
    """Each as one does it by name."""
    with client(name, club.cached.way, "by name", tmp_path) as one:
        reference = f"{club.cached.way.host}/{NAME}:1"
        with pytest.raises(CommandFailed):
            one.pull(reference)
        assert club.cached.hub.requests == []
        one.log_in(*CAROL)
        assert one.pull(reference) == one.kept(image)


@pytest.mark.parametrize("name", ["skopeo", "podman", "ctr", "docker"])
def test_clients_of_a_mirror(club: Club, image: Image, name: str, tmp_path: Path) -> None:
    """As the mirror of Docker Hub, with the login that each has for it."""
    with client(name, club.cached.way, "as mirror", tmp_path) as one:
        one.log_in(*CAROL)
        assert one.pull(f"docker.io/{NAME}:1") == one.kept(image)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param("skopeo", "invalid username/password", id="skopeo"),
        pytest.param("docker", "wrong user name or password for this proxy", id="docker"),
    ],
)
def test_clients_with_a_wrong_password(club: Club, name: str, shown: str, tmp_path: Path) -> None:
    """They say so, and the hub hears nothing."""
    with client(name, club.cached.way, "by name", tmp_path) as one:
        with pytest.raises(CommandFailed) as failure:
            one.log_in("carol", "wrong-password")
        assert shown in failure.value.output
    assert club.cached.hub.requests == []


@pytest.mark.parametrize("kept", ["a token", "the password"])
def test_buildkit_logs_in(club: Club, image: Image, kept: str) -> None:
    """With what `docker login` keeps in place of the password, and with the password itself."""
    programs.require_dockerd(image_store="classic", builder="buildkit")
    host = club.cached.way.host
    dockerfile = f"FROM {host}/{NAME}:1\nCOPY file /\n"
    with docker(image_store="classic") as daemon:

        def build() -> frozenset[str]:
            files = {"file": b"content"}
            return daemon.build(dockerfile, "built", builder="buildkit", files=files)

        with pytest.raises(CommandFailed):
            build()
        assert club.cached.hub.requests == []
        if kept == "a token":
            daemon.login(host, *CAROL)
            assert "identitytoken" in (daemon.home / "cli/config.json").read_text()
        else:
            daemon.store_login(host, *CAROL)
        assert {layer.diff_id for layer in ours(image).layers} < build()


def doctor(club: Club, *arguments: str, password: str = "", said: str = "") -> str:
    """Return what the doctor says, and how it ends; its password is in the environment, or said."""
    url = club.cached.proxy.url
    command = [sys.executable, "-m", "app.doctor", url, "--from-outside", "--image", f"{NAME}:1"]
    env = clean_environment() | ({"DOCTOR_PASSWORD": password} if password else {})
    told = subprocess.run(
        [*command, *arguments],
        cwd=ROOT, env=env, input=said, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert CAROL[1] not in told.stdout + told.stderr
    return f"{told.stdout}{told.stderr}\n{told.returncode}"


def test_the_doctor(club: Club) -> None:
    """It is no user, says so, and takes nothing for a fault because of that."""
    told = doctor(club)
    assert told.endswith("\n0")
    assert "this proxy has users; log in with --user NAME" in told
    assert "FAIL" not in told


def test_the_doctor_logs_in(club: Club) -> None:
    """It pulls as a user then, to the last byte."""
    told = doctor(club, "--user", CAROL[0], password=CAROL[1])
    assert told.endswith("\n0")
    assert "FAIL" not in told
    assert " characters for carol" in told
    assert "blob sha256:" in told
    assert "Range: bytes=" in told


def test_the_doctor_with_a_wrong_password(club: Club) -> None:
    """That is what is wrong, and it says where to look."""
    told = doctor(club, "--user", CAROL[0], said="wrong-password\n")
    assert told.endswith("\n1")
    assert told.count("FAIL") == 1
    assert "FAIL  login as carol: 401" in told
    assert "htpasswd -v FILE NAME" in told
    assert doctor(club, "--user", CAROL[0]).endswith("\n2")
