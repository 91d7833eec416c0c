"""What is kept of a private repository goes to nobody whom its registry would refuse."""

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.clients.process import CommandFailed
from tests.hub.accounts import User
from tests.hub.content import multi_arch
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import OCI_KIND, Blob, Image
from tests.integration.asking import basic
from tests.integration.caching import ACCEPT, Cached, caching, push, switched_off
from tests.integration.survival import ALICE, blob_path
from tests.servers import wait_until
from tests.tables import write_config
from tests.wire.client import Answer

pytestmark = pytest.mark.integration

HERS = "alice/secret"
OWN = "bob/own"
REFUSED = frozenset({401, 403, 404})
AWAY = REFUSED | {429, 503}
BOB = ("bob", "bobpw")
NOBODY = "X-Nobody: is asking"

ADDRESSES: dict[str, Callable[[str], str]] = {
    "by-default": lambda path: f"/v2/{path}",
    "by-prefix": lambda path: f"/v2/docker.io/{path}",
    "by-ns": lambda path: f"/v2/{path}?ns=docker.io",
}


def addresses(first: int) -> Iterator[Callable[[str], str]]:
    """Give the addresses in turn, without end; the first is the one of this number."""
    return itertools.islice(itertools.cycle(ADDRESSES.values()), first % len(ADDRESSES), None)


@dataclass(frozen=True)
class Target:
    """What may be asked of a repository that holds an image."""

    method: str
    rest: str
    fields: tuple[str, ...] = (ACCEPT,)


@dataclass(frozen=True)
class Secret:
    """A Docxy that has kept all of an image which alice alone may read, and how she reads it."""

    cached: Cached
    hub: Hub
    other: Hub
    """The registry ghcr.io of the same Docxy."""

    image: Image
    alice: str

    def leaks(
        self, authorization: str, first: int, refused: frozenset[int] = REFUSED
    ) -> list[tuple[Target, Answer]]:
        """Ask for everything, and return what is no refusal or says more than one.

        Addresses take turns, and begin with the one of this number.
        """
        asked = [
            (target, self.ask(target, authorization, address(f"{HERS}/{target.rest}")))
            for target, address in zip(targets(self.image), addresses(first), strict=False)
        ]
        return [
            (target, answer)
            for target, answer in asked
            if answer.status not in refused or tells(answer)
        ]

    def ask(self, target: Target, authorization: str, path: str) -> Answer:
        """Ask on a connection of its own: either worker may answer."""
        return self.cached.get(path, authorization, *target.fields, method=target.method)


def targets(image: Image) -> list[Target]:
    """Return every way to ask for an image, or for a part of it."""
    child = image.platforms["linux/amd64"]
    layer, config = child.layers[1].digest, child.blobs[0].digest
    found = [
        Target(method, rest)
        for method in ("GET", "HEAD")
        for rest in (
            "manifests/1", f"manifests/{image.digest}", f"manifests/{child.digest}",
            f"blobs/{layer}", f"blobs/{config}",
        )
    ]  # fmt: skip
    found += [
        Target("GET", f"blobs/{layer}", (f"Range: bytes={span}",)) for span in ("0-99", "9-", "-5")
    ]
    found += [
        Target("GET", f"manifests/{image.digest}", (ACCEPT, f'If-None-Match: "{image.digest}"')),
        Target("GET", f"blobs/{layer}", (f'If-None-Match: "{layer}"',)),
        Target("GET", f"referrers/{image.digest}"),
        Target("GET", "tags/list"),
    ]
    return found


def tells(answer: Answer) -> bool:
    """Tell whether a refusal says what is there."""
    names = {"docker-content-digest", "etag", "age", "content-range"}
    return bool(answer.head.names & names) or len(answer.body) > 2000


def content(image: Image) -> list[Target]:
    """Return those that are about content, and not about lists."""
    return [target for target in targets(image) if target.rest.startswith(("manifests/", "blobs/"))]


def read_all(cached: Cached, image: Image, authorization: str, name: str) -> None:
    """Pull all that there is, by GET."""
    whole = [image, *image.platforms.values()]
    for manifest in whole:
        path = f"/v2/{name}/manifests/{manifest.digest}"
        assert cached.get(path, authorization, ACCEPT).body == manifest.body
    assert cached.get(f"/v2/{name}/manifests/1", authorization, ACCEPT).body == image.body
    for digest, blob in image.all_blobs.items():
        path = blob_path(digest, name)
        assert cached.get(path, authorization).body == blob.data
        # Its last bytes may come a moment before it is kept.
        wait_until(lambda path=path: is_kept(cached, path, authorization), what=digest)  # type: ignore[misc]


def is_kept(cached: Cached, path: str, authorization: str) -> bool:
    """Tell whether the cache answers by itself."""
    answer = cached.get(path, authorization, method="HEAD")
    return answer.head.value("Cache-Status").startswith("docxy; hit")


@pytest.fixture(scope="module")
def stage(
    busy_hub: Hub, sturdy_hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secret]:
    """Run a Docxy before two registries, which has kept alice's image and bob's own."""
    folder = tmp_path_factory.mktemp("private")
    rows = [busy_hub.row("docker.io"), sturdy_hub.row("ghcr.io")]
    config = write_config(folder / "docxy.toml", rows)
    image = push(busy_hub, HERS)
    busy_hub.make_private(HERS)
    own = push(busy_hub, OWN)
    with caching(busy_hub, folder / "cache", DOCXY_CONFIG=str(config)) as cached:
        alice = cached.login(HERS, ALICE)
        read_all(cached, image, alice, HERS)
        read_all(cached, own, cached.login(OWN), OWN)
        yield Secret(cached, busy_hub, sturdy_hub, image, alice)


@pytest.fixture
def secret(stage: Secret) -> Iterator[Secret]:
    """Return it, before hubs that nobody has asked yet."""
    for hub in (stage.hub, stage.other):
        hub.reset()
    yield stage
    for hub in (stage.hub, stage.other):
        hub.reset()


def bearer(token: str) -> str:
    """Return the line of a header."""
    return f"Authorization: Bearer {token}"


def forged(alice: str) -> str:
    """Return alice's token as somebody else would sign it."""
    token = alice.rpartition(" ")[2]
    claims = jwt.decode(token, options={"verify_signature": False})
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    headers = {"kid": jwt.get_unverified_header(token)["kid"]}
    return bearer(jwt.encode(claims, key, algorithm="RS256", headers=headers))


def unsigned(alice: str) -> str:
    """Return alice's token without a signature."""
    claims = jwt.decode(alice.rpartition(" ")[2], options={"verify_signature": False})
    return bearer(jwt.encode(claims, "", algorithm="none"))


def altered(alice: str) -> str:
    """Return alice's token with another content under her signature."""
    head, payload, signature = alice.rpartition(" ")[2].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    changed = json.dumps(claims | {"exp": claims["exp"] + 3600}).encode()
    written = base64.urlsafe_b64encode(changed).decode().rstrip("=")
    return bearer(f"{head}.{written}.{signature}")


def expired(secret: Secret) -> str:
    """Return a token of alice's that was too old from the beginning."""
    secret.hub.expire_tokens_after(0)
    try:
        return secret.cached.login(HERS, ALICE)
    finally:
        secret.hub.expire_tokens_after(300)


STRANGERS: dict[str, Callable[[Secret], str]] = {
    "no-token": lambda _: NOBODY,
    "empty": lambda _: "Authorization: ",
    "token-for-nobody": lambda secret: secret.cached.login(HERS),
    "bob": lambda secret: secret.cached.login(HERS, BOB),
    "bob-for-his-own": lambda secret: secret.cached.login(OWN, BOB),
    "alice-for-another": lambda secret: secret.cached.login("alice/private", ALICE),
    "expired": expired,
    "forged": lambda secret: forged(secret.alice),
    "unsigned": lambda secret: unsigned(secret.alice),
    "altered": lambda secret: altered(secret.alice),
    "of-another-registry": lambda secret: secret.cached.login("ghcr.io/alice/private", ALICE),
    "bob-by-password": lambda _: f"Authorization: {basic(*BOB)}",
    "wrong-password": lambda _: f"Authorization: {basic('alice', 'wrong')}",
    "stand-in": lambda _: bearer("docxy.stale"),
    "opaque": lambda _: bearer("opaque"),
}


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_its_owner_is_served(address: Callable[[str], str], secret: Secret) -> None:
    """A control: alice has all of it from the cache, and the tag is all that is asked for."""
    for target in content(secret.image):
        answer = secret.ask(target, secret.alice, address(f"{HERS}/{target.rest}"))
        assert answer.status in {200, 206, 304}, (target, answer)
    rest = [one for one in secret.hub.requests if one.path != f"/v2/{HERS}/manifests/1"]
    assert [one for one in rest if one.path != "/v2/"] == []
    assert secret.hub.pulls == 0


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers(name: str, secret: Secret) -> None:
    """Tag, digest, parts of it, HEAD, ranges and conditions are refused, by every address.

    Each stranger asks for everything and by every address; all together ask for each thing by
    each address.
    """
    assert secret.leaks(STRANGERS[name](secret), [*STRANGERS].index(name)) == []
    assert secret.hub.count("cdn") == secret.hub.pulls == 0


@pytest.mark.parametrize("name", ["podman", "ctr"])
def test_clients_of_strangers(name: str, secret: Secret, tmp_path: Path) -> None:
    """Neither nobody nor bob can pull what alice has pulled, and alice can again.

    Podman asks for tokens as skopeo and buildah do, and ctr as Docker does.
    """
    reference = f"{secret.cached.way.host}/{HERS}:1"
    for user in ((), BOB):
        with secret.cached.fresh(name, tmp_path / f"{len(user)}") as client:
            if user:
                client.log_in(*user)
            with pytest.raises(CommandFailed):
                client.pull(reference)
    assert secret.hub.pulls == 0
    with secret.cached.fresh(name, tmp_path / "alice") as client:
        client.log_in(*ALICE)
        assert client.pull(reference) == client.kept(secret.image)
    assert secret.hub.pulls == secret.hub.count("cdn") == 0


@dataclass(frozen=True)
class Deserted:
    """Another Docxy on the same cache, and the strangers as they came before all was away."""

    secret: Secret
    strangers: dict[str, str]


@pytest.fixture(scope="module")
def second(stage: Secret, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deserted]:
    """Run it."""
    hub, other = stage.hub, stage.other
    config = write_config(
        tmp_path_factory.mktemp("deserted") / "docxy.toml",
        [hub.row("docker.io"), other.row("ghcr.io")],
    )
    settings = {"DOCXY_CONFIG": str(config), "DOCXY_RETRY_BUDGET": "0.01"}
    with caching(hub, stage.cached.directory, **settings) as cached:
        secret = replace(stage, cached=cached)
        yield Deserted(secret, {name: made(secret) for name, made in STRANGERS.items()})


@pytest.fixture
def deserted(second: Deserted, secret: Secret) -> Iterator[Deserted]:
    """Let both registries be away."""
    with switched_off(secret.hub), switched_off(secret.other):
        yield second


@pytest.mark.parametrize("stranger", STRANGERS)
def test_strangers_while_the_registry_is_away(stranger: str, deserted: Deserted) -> None:
    """Nothing private is stale, by no address."""
    shown = deserted.strangers[stranger]
    assert deserted.secret.leaks(shown, [*STRANGERS].index(stranger), refused=AWAY) == []


def test_what_is_public_while_the_registry_is_away(deserted: Deserted) -> None:
    """A control: bob's own image is everybody's; the secret's digests in it are nobody's."""
    secret, strangers = deserted.secret, deserted.strangers
    own = secret.hub.image(OWN, "1")
    for line in (NOBODY, strangers["stand-in"]):
        answer = secret.cached.get(f"/v2/{OWN}/manifests/1", line, ACCEPT)
        assert (answer.status, answer.body) == (200, own.body)
        blob = secret.image.platforms["linux/amd64"].layers[1].digest
        for rest in (f"blobs/{blob}", f"manifests/{secret.image.digest}"):
            answer = secret.cached.get(f"/v2/{OWN}/{rest}", line, ACCEPT)
            assert answer.status in AWAY
            assert not tells(answer)


@pytest.mark.parametrize(
    ("who", "name"),
    [
        pytest.param(lambda secret: secret.cached.login(OWN, BOB), OWN, id="bob-in-his-own"),
        pytest.param(lambda secret: secret.cached.login(OWN), OWN, id="nobody-in-his-own"),
        pytest.param(lambda secret: secret.alice, OWN, id="alice-in-another"),
        pytest.param(
            lambda secret: secret.cached.login("ghcr.io/owner/app"),
            "ghcr.io/owner/app",
            id="nobody-elsewhere",
        ),
        pytest.param(
            lambda secret: secret.cached.login("ghcr.io/alice/private"),
            f"ghcr.io/{HERS}",
            id="the-same-name-elsewhere",
        ),
        pytest.param(lambda _: NOBODY, "library/alpine", id="nobody-in-a-public-one"),
    ],
)
def test_its_digests_in_other_repositories(
    who: Callable[[Secret], str], name: str, secret: Secret
) -> None:
    """Who knows a digest may not ask another repository or another registry for it."""
    authorization = who(secret)
    found = [
        (target, answer)
        # Twice: docker-registry says 304 of whatever it does not hold, which must change nothing.
        for target in content(secret.image) * 2
        if "sha256:" in target.rest
        for answer in [secret.ask(target, authorization, f"/v2/{name}/{target.rest}")]
        if answer.status not in REFUSED or tells(answer)
        if answer.status != 304 or "If-None-Match" not in str(target.fields)
    ]
    assert found == []
    layer = secret.image.platforms["linux/amd64"].layers[1].digest
    answer = secret.cached.get(f"/v2/owner/app/blobs/{layer}?ns=ghcr.io", authorization)
    assert answer.status in REFUSED


def test_while_it_is_fetched(secret: Secret) -> None:
    """Nobody joins a download that its registry would refuse to them."""
    image = push(secret.hub, "alice/fetched", 400_000)
    secret.hub.make_private("alice/fetched")
    cached = secret.cached
    layer = image.platforms["linux/amd64"].layers[1]
    path = blob_path(layer.digest, "alice/fetched")
    strangers = [stranger(secret) for stranger in STRANGERS.values()]
    strangers += [cached.login("alice/fetched", BOB), cached.login("alice/fetched")]
    with Gate() as gate:
        secret.hub.fail(part="cdn", gate=gate, hold_after=100_000)
        with cached.client() as alice:
            alice.ask(path, cached.login("alice/fetched", ALICE))
            wait_until(lambda: gate.arrived == 1, what="the fetch")
            assert_refused(cached, path, layer, strangers)
            gate.open()
            assert alice.answer().body == layer.data
    assert secret.hub.count("cdn") == 1
    assert_refused(cached, path, layer, strangers)


def assert_refused(cached: Cached, path: str, layer: Blob, strangers: list[str]) -> None:
    """Ask for a blob in every way."""
    asked = [
        (method, fields)
        for method in ("GET", "HEAD")
        for fields in ((), ("Range: bytes=0-9",), (f'If-None-Match: "{layer.digest}"',))
    ]
    for stranger in strangers:
        for method, fields in asked:
            answer = cached.get(path, stranger, *fields, method=method)
            assert answer.status in REFUSED, (method, fields, answer)
            assert not tells(answer)


def hidden(secret: Secret, cached: Cached, name: str) -> tuple[Image, str]:
    """Push an image for a test of its own, and let alice pull it; return her token, too."""
    image = push(secret.hub, name)
    secret.hub.make_private(name)
    alice = cached.login(name, ALICE)
    read_all(cached, image, alice, name)
    return image, alice


def by_digest(cached: Cached, image: Image, name: str, authorization: str) -> set[int]:
    """Ask for all that has a digest, and return the statuses."""
    manifests = [f"manifests/{one.digest}" for one in (image, *image.platforms.values())]
    blobs = [f"blobs/{digest}" for digest in image.all_blobs]
    return {
        cached.get(f"/v2/{name}/{rest}", authorization, ACCEPT, method=method).status
        for rest in (*manifests, *blobs)
        for method in ("GET", "HEAD")
    }


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_counts_at_once(status: int, secret: Secret) -> None:
    """What the registry refuses once, the cache does not give either, by whatever worker."""
    cached, name = secret.cached, f"alice/revoked{status}"
    image, alice = hidden(secret, cached, name)
    secret.hub.reset()
    assert by_digest(cached, image, name, alice) == {200}
    assert secret.hub.requests == []
    secret.hub.fail(part="registry", path=f"^/v2/{name}/", status=status, times=None)
    assert cached.get(f"/v2/{name}/manifests/1", alice, ACCEPT).status in REFUSED
    assert by_digest(cached, image, name, alice) <= REFUSED


def test_a_refusal_of_one_digest_counts_for_all(secret: Secret) -> None:
    """Something that is gone may mean that the whole repository is closed: it is asked again."""
    cached, name = secret.cached, "alice/partly"
    image, alice = hidden(secret, cached, name)
    unknown = "blobs/sha256:" + "0" * 64
    assert cached.get(f"/v2/{name}/{unknown}", alice).status == 404
    secret.hub.fail(part="registry", path=f"^/v2/{name}/", status=403, times=None)
    assert by_digest(cached, image, name, alice) <= REFUSED


def test_access_that_is_taken_away(secret: Secret, tmp_path: Path) -> None:
    """No more than `grant_ttl` later nothing is given, though nothing was asked meanwhile."""
    with caching(secret.hub, tmp_path / "cache", DOCXY_GRANT_TTL="2") as cached:
        name = "alice/taken"
        image, alice = hidden(secret, cached, name)
        secret.hub.fail(part="registry", path=f"^/v2/{name}/", status=403, times=None)
        blob = blob_path(image.platforms["linux/amd64"].layers[1].digest, name)
        wait_until(lambda: cached.get(blob, alice).status in REFUSED, 3)
        assert by_digest(cached, image, name, alice) <= REFUSED


def test_a_user_who_may_not_any_more(secret: Secret) -> None:
    """A new token tells what its owner may now, whatever an older one has read."""
    cached, name = secret.cached, "alice/former"
    image, _ = hidden(secret, cached, name)
    before = secret.hub.users["alice"]
    secret.hub.users["alice"] = User(before.password)
    try:
        assert by_digest(cached, image, name, cached.login(name, ALICE)) <= REFUSED
    finally:
        secret.hub.users["alice"] = before


def test_a_token_that_expires(secret: Secret) -> None:
    """A grant does not outlive the token that it was given to."""
    cached, name = secret.cached, "alice/expiring"
    secret.hub.expire_tokens_after(4)
    try:
        image, alice = hidden(secret, cached, name)
    finally:
        secret.hub.expire_tokens_after(300)
    blob = blob_path(image.platforms["linux/amd64"].layers[1].digest, name)
    secret.hub.reset()
    assert cached.get(blob, alice).status == 200
    assert secret.hub.count("registry", path="/blobs/") == 0
    wait_until(lambda: cached.get(blob, alice).status in REFUSED, 6)
    assert by_digest(cached, image, name, alice) <= REFUSED


def test_what_is_not_public_any_more(secret: Secret, tmp_path: Path) -> None:
    """The registry has refused it to nobody in particular: so does the cache, and always."""
    hub, name = secret.hub, "was/public"
    image = push(hub, name)
    with caching(hub, tmp_path / "cache", DOCXY_RETRY_BUDGET="0.01") as cached:
        nobody = cached.login(name)
        read_all(cached, image, nobody, name)
        with switched_off(hub):
            assert by_digest(cached, image, name, nobody) == {200}
        hub.fail(part="registry", path=f"^/v2/{name}/", status=401, times=None)
        wait_until(
            lambda: cached.get(f"/v2/{name}/manifests/1", nobody, ACCEPT).status in REFUSED,
            what="the registry that is back",
        )
        assert by_digest(cached, image, name, nobody) <= REFUSED
        with switched_off(hub):
            for line in (nobody, NOBODY, bearer("docxy.stale")):
                assert by_digest(cached, image, name, line) <= AWAY
                answer = cached.get(f"/v2/{name}/manifests/1", line, ACCEPT)
                assert answer.status in AWAY


def test_what_came_after_it_was_made_private(secret: Secret, tmp_path: Path) -> None:
    """Nobody in particular was ever let read it, though all of the repository was public once."""
    hub, name = secret.hub, "was/open"
    image = push(hub, name)
    with caching(hub, tmp_path / "cache", DOCXY_RETRY_BUDGET="0.01") as cached:
        read_all(cached, image, cached.login(name), name)
        hub.make_private(name)
        newer = hub.push(name, multi_arch("newer", OCI_KIND, 300_000), ["1"])
        read_all(cached, newer, cached.login(name, ALICE), name)
        added = [f"blobs/{digest}" for digest in {*newer.all_blobs} - {*image.all_blobs}]
        added += [f"manifests/{one.digest}" for one in (newer, *newer.platforms.values())]
        with switched_off(hub):
            for line in (NOBODY, bearer("docxy.stale")):
                for rest in added:
                    answer = cached.get(f"/v2/{name}/{rest}", line, ACCEPT)
                    assert answer.status in AWAY, rest
                answer = cached.get(f"/v2/{name}/manifests/1", line, ACCEPT)
                assert answer.body != newer.body
