"""Tokens: nobody's are shared and tell the truth, all others pass, and stand-ins open little."""

import json
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import pytest

from app.cache.policy import CachePolicy
from app.oci.errors import (
    RegistryError,
    TooManyRequests,
    UpstreamDown,
    UpstreamTimeout,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from app.oci.reference import Operation, RepositoryName, Tag
from app.source import Reply, TokenRequest, build_reply
from tests.unit.cache.authz.test_gate import jwt
from tests.unit.cache.registry import ANYBODY, FakeRegistry
from tests.unit.cache.world import ALICE, NAME, World, read, request

SCOPE = f"repository:{NAME}:pull"
TAG = Tag.parse("1.0")
DATA = b"{}"


def asked(*scopes: str, authorization: str = "", **fields: str) -> TokenRequest:
    """Return a token request."""
    headers = [("Authorization", authorization)] if authorization else []
    parameters = [("scope", scope) for scope in scopes or (SCOPE,)]
    return TokenRequest(method="GET", parameters=[*parameters, *fields.items()], headers=headers)


def document(reply: Reply) -> dict[str, Any]:
    """Return what a token answer says; it is never for anybody on the way."""
    assert reply.status == HTTPStatus.OK
    assert reply.header("cache-control") == "private, no-store"
    found = json.loads(read(reply))
    assert isinstance(found, dict)
    return found


def test_nobodys_tokens_are_shared(world: World) -> None:
    """By all workers, for the same scopes, in whatever order and by whatever client."""
    first = document(world.source().token(asked()))
    assert first == {"token": "token1", "expires_in": 300}  # byte for byte the registry's
    source = world.source()
    for again in (asked(), asked(client_id="other"), asked(SCOPE, SCOPE)):
        assert document(source.token(again))["token"] == "token1"  # noqa: S105
    assert document(source.token(asked(SCOPE, "repository:a:pull")))["token"] == "token2"  # noqa: S105
    assert document(source.token(asked(f"repository:a:pull {SCOPE}")))["token"] == "token2"  # noqa: S105
    assert world.registry.tokens == 2


def test_they_tell_the_truth_about_what_is_left(world: World) -> None:
    """To clients that count from now, and to those that count from when it was issued."""
    source = world.source()
    read(source.token(asked()))
    world.clock.time += 100
    told = document(source.token(asked()))
    assert told["token"] == told["access_token"] == "token1"  # noqa: S105
    assert told["expires_in"] in {199, 200}
    issued = datetime.fromisoformat(told["issued_at"])
    assert abs(datetime.now(UTC) - issued) < timedelta(seconds=5)
    world.clock.time += 139
    assert document(source.token(asked()))["expires_in"] in {60, 61}
    world.clock.time += 2
    assert document(source.token(asked()))["token"] == "token2"  # noqa: S105


def test_a_token_ages_on_its_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long its service took to answer is part of its life."""
    late, monotonic, give = [0.0], time.monotonic, FakeRegistry.token

    def slowly(registry: FakeRegistry, request: TokenRequest) -> Reply:
        late[0] += 100
        return give(registry, request)

    monkeypatch.setattr(FakeRegistry, "token", slowly)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + late[0])
    source = world.source()
    read(source.token(asked()))
    assert document(source.token(asked()))["expires_in"] in {199, 200}
    assert world.registry.tokens == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"token": "t"}, id="60 s, as the specification has it"),
        pytest.param({"token": "t", "expires_in": 60}, id="too short"),
        pytest.param({"token": "t", "expires_in": "300"}, id="no number"),
        pytest.param({"token": "t", "expires_in": -1}, id="less than nothing"),
        pytest.param({"token": "t", "expires_in": True}, id="a truth"),
        pytest.param({"token": "t", "expires_in": 1e400}, id="for ever"),
        pytest.param(
            {"token": "t", "expires_in": 300, "issued_at": "2020-01-01T00:00:00Z"},
            id="issued long ago",
        ),
        pytest.param({"expires_in": 300}, id="no token"),
        pytest.param({"token": 7, "expires_in": 300}, id="a number"),
        pytest.param({"token": "docxy.none", "expires_in": 3600}, id="one of ours"),
        pytest.param([], id="a list"),
    ],
)
def test_what_is_not_shared(world: World, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    """What ends soon, or cannot be read, is passed on as it is."""
    calls = []

    def token(_: FakeRegistry, request: TokenRequest) -> Reply:
        calls.append(request)
        return build_reply(200, [], json.dumps(answer).encode())

    monkeypatch.setattr(FakeRegistry, "token", token)
    source = world.source()
    for _ in range(2):
        assert json.loads(read(source.token(asked()))) == json.loads(json.dumps(answer))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("scopes", "length", "is_shared"),
    [
        pytest.param(16, 2500, True, id="as many as are remembered"),
        pytest.param(17, 2500, False, id="too many scopes"),
        pytest.param(1, 16 * 1024, True, id="as long as is remembered"),
        pytest.param(1, 16 * 1024 + 1, False, id="a token that is too long"),
    ],
)
def test_how_much_is_remembered_of_a_token(
    world: World, monkeypatch: pytest.MonkeyPatch, scopes: int, length: int, *, is_shared: bool
) -> None:
    """A client chooses how many scopes it asks for, and a registry how long a token is."""
    calls = []

    def token(_: FakeRegistry, request: TokenRequest) -> Reply:
        calls.append(request)
        return build_reply(200, [], json.dumps({"token": "t" * length, "expires_in": 300}).encode())

    monkeypatch.setattr(FakeRegistry, "token", token)
    source, wanted = world.source(), asked(*(f"repository:a{n}:pull" for n in range(scopes)))
    for _ in range(2):
        assert json.loads(read(source.token(wanted)))["token"] == "t" * length
    assert len(calls) == (1 if is_shared else 2)
    held = world.storages.open().admin.statistics().table_rows["tokens"]
    assert held == (2 if is_shared else 0)


def test_names_that_are_too_long_together(world: World) -> None:
    """Sixteen scopes may have 4,000 characters, and the token is given all the same."""
    source = world.source()
    wanted = asked(*(f"repository:{'a' * 250}{number:02}:pull" for number in range(16)))
    first = document(source.token(wanted))["token"]
    assert document(source.token(wanted))["token"] != first
    assert world.storages.open().admin.statistics().table_rows["tokens"] == 0


def test_a_token_that_says_itself_when_it_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That counts, if it is earlier."""
    token = jwt(exp=time.time() + 120).removeprefix("Bearer ")
    answer = json.dumps({"token": token, "expires_in": 300}).encode()
    monkeypatch.setattr(FakeRegistry, "token", lambda *_: build_reply(200, [], answer))
    source = world.source()
    read(source.token(asked()))
    assert document(source.token(asked()))["expires_in"] in {118, 119, 120}
    world.clock.time += 61
    assert json.loads(read(source.token(asked())))["expires_in"] == 300


@pytest.mark.parametrize(
    "somebody",
    [
        asked(authorization=ALICE),
        asked(username="u"),
        asked(account="u"),
        asked(refresh_token="r"),  # noqa: S106
        asked(anything="else"),
        TokenRequest(method="POST", parameters=[("scope", SCOPE)]),
    ],
)
def test_answers_to_anyone_with_credentials_are_not_kept(
    world: World, somebody: TokenRequest
) -> None:
    """Nor given what nobody was given; and what they open is not public."""
    world.registry.repository(NAME, ANYBODY).push(TAG, DATA)
    source = world.source()
    read(source.token(asked()))
    first = document(source.token(somebody))["token"]
    assert document(source.token(somebody))["token"] != first
    assert world.registry.token_requests[-1] is somebody
    read(source.answer(Operation.manifest(NAME, TAG), request(f"Bearer {first}")))
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 503


def test_a_shared_token_that_the_registry_refuses(world: World) -> None:
    """It may have changed its keys: the next one who asks gets another token."""
    world.registry.repository(NAME, ANYBODY).push(TAG, DATA)
    source = world.source()
    token = document(source.token(asked()))["token"]
    world.registry.open.clear()
    read(source.answer(Operation.manifest(NAME, TAG), request(f"Bearer {token}")))
    again = document(source.token(asked()))["token"]
    assert again != token
    assert read(source.answer(Operation.manifest(NAME, TAG), request(f"Bearer {again}"))) == DATA


def test_a_shared_token_that_is_refused_elsewhere(world: World) -> None:
    """Whoever shows it where it was not issued for costs the others none."""
    world.registry.repository(NAME, ANYBODY)
    source = world.source()
    token = document(source.token(asked()))["token"]
    refused = source.answer(
        Operation.manifest(RepositoryName.parse("a/b"), TAG), request(f"Bearer {token}")
    )
    assert refused.status == HTTPStatus.UNAUTHORIZED
    assert document(source.token(asked()))["token"] == token


def test_nothing_but_what_nobody_says_goes_up(world: World) -> None:
    """A header that could be a login would make the answer somebody's."""
    wanted = TokenRequest(
        method="GET",
        parameters=[("scope", SCOPE)],
        headers=[("X-Api-Key", "k"), ("User-Agent", "u"), ("Authorization", "")],
    )
    read(world.source().token(wanted))
    assert world.registry.token_requests[-1].headers == [("User-Agent", "u")]


def public(world: World) -> None:
    """Have somebody pull a public image with a token of nobody's."""
    world.registry.repository(NAME, ANYBODY).push(TAG, DATA)
    source = world.source()
    token = document(source.token(asked()))["token"]
    read(source.answer(Operation.manifest(NAME, TAG), request(f"Bearer {token}")))
    read(source.answer(Operation.ping(), request()))
    world.clock.time += 1000


@pytest.mark.parametrize("trouble", [429, 503, UpstreamUnreachable("away"), TooManyRequests()])
def test_a_pull_from_nothing_while_all_is_away(world: World, trouble: RegistryError | int) -> None:
    """Ping, token and manifests are answered; the token never goes up."""
    public(world)
    world.registry.trouble = world.registry.token_trouble = trouble
    source = world.source()
    world.registry.requests.clear()
    for _ in range(30):  # until a breaker would be open
        ping = source.answer(Operation.ping(), request())
        assert ping.status == HTTPStatus.UNAUTHORIZED
        assert ping.challenges[0].parameters["service"] == "s"
        told = document(source.token(asked()))
        assert told["token"] == told["access_token"] == "docxy.stale"  # noqa: S105
        assert told["expires_in"] == 60
        reply = source.answer(Operation.manifest(NAME, TAG), request("Bearer docxy.stale"))
        assert reply.header("warning")
        assert read(reply) == DATA
        world.registry.trouble = UpstreamDown("left alone")
    assert not any(one.authorization for one in world.registry.requests)


@pytest.mark.parametrize(
    ("trouble", "raised", "pause"),
    [
        (429, 429, 10),
        (TooManyRequests(), TooManyRequests, 10),
        (503, UpstreamUnavailable, 2),
        (UpstreamDown("x"), UpstreamUnavailable, 2),
        (UpstreamTimeout("x"), UpstreamUnavailable, 10),
    ],
)
def test_only_the_token_service_is_away(
    world: World, trouble: RegistryError | int, raised: type[RegistryError] | int, pause: int
) -> None:
    """The registry's 401 says nothing then: what is public is served, and all else refused so.

    The token service is asked again soon, unless that takes long or is too much for it.
    """
    public(world)
    private = Tag.parse("private")
    secret = world.registry.repository("team/secret", ALICE)
    secret.push(private, DATA)
    world.registry.token_trouble = trouble
    source = world.source()
    assert document(source.token(asked()))["token"] == "docxy.stale"  # noqa: S105
    reply = source.answer(Operation.manifest(NAME, TAG), request("Bearer docxy.stale"))
    assert reply.header("warning")
    assert read(reply) == DATA
    name = type(NAME).parse("team/secret")
    read(source.answer(Operation.manifest(name, private), request(ALICE)))
    kind = TooManyRequests if raised == 429 else raised
    assert isinstance(kind, type)
    with pytest.raises(kind):
        source.answer(Operation.manifest(name, private), request("Bearer docxy.stale"))
    world.registry.token_trouble = None
    before = world.registry.count("token")
    world.clock.time += pause - 1
    assert document(source.token(asked()))["token"] == "docxy.stale"  # noqa: S105
    assert world.registry.count("token") == before
    world.clock.time += 1
    assert document(source.token(asked()))["token"].startswith("token")
    assert source.answer(Operation.manifest(NAME, TAG), request("Bearer docxy.stale")).status == 401


def test_nothing_public_no_stand_in(world: World) -> None:
    """Then the token service's own answer goes on."""
    world.registry.token_trouble = 429
    assert world.source().token(asked()).status == 429
    world.registry.token_trouble = UpstreamUnreachable("away")
    with pytest.raises(UpstreamUnreachable):
        world.source().token(asked())


def test_no_stand_in_for_somebody(world: World) -> None:
    """Who has credentials is told the truth."""
    public(world)
    world.registry.token_trouble = 503
    assert world.source().token(asked(authorization=ALICE)).status == 503


def test_a_stand_in_opens_nothing_that_has_become_private(world: World) -> None:
    """While the registry answers, its word counts: the stand-in is no secret."""
    public(world)
    source = world.source()
    world.registry.repositories[NAME].readers = {ALICE}
    assert source.answer(Operation.manifest(NAME, TAG), request("Bearer docxy.stale")).status == 401
    token = document(source.token(asked()))["token"]
    read(
        source.answer(Operation.manifest(NAME, TAG), request(f"Bearer {token}"))
    )  # refused, and so not public
    world.registry.trouble = world.registry.token_trouble = 503
    assert source.token(asked()).status == 503
    assert source.answer(Operation.manifest(NAME, TAG), request("Bearer docxy.stale")).status == 503


def test_a_token_that_is_refused_to_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """ghcr.io refuses the token itself: then the repository is not public any more."""
    public(world)
    source = world.source()
    monkeypatch.setattr(FakeRegistry, "token", lambda *_: build_reply(403, [], b"{}"))
    assert source.token(asked()).status == 403
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 503


@pytest.mark.parametrize(
    "scopes",
    [
        pytest.param([SCOPE, "repository:private/app:pull"], id="another repository"),
        pytest.param([SCOPE, "registry:catalog:*"], id="no repository"),
        pytest.param([f"repository:{NAME}:pull,push"], id="a push"),
        pytest.param([f"repository:a{n}:pull" for n in range(16)] + [SCOPE], id="many"),
    ],
)
def test_a_refusal_of_more_than_one_pull(
    world: World, monkeypatch: pytest.MonkeyPatch, scopes: list[str]
) -> None:
    """It may be about the other part, so it says nothing of what is public."""
    public(world)
    source = world.source()
    monkeypatch.setattr(FakeRegistry, "token", lambda *_: build_reply(401, [], b"{}"))
    assert source.token(asked(*scopes)).status == 401
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 200


def test_the_token_of_the_whole_pull(world: World) -> None:
    """A pull with a shared token earns its grant, and makes the image public."""
    world.registry.repository(NAME, ANYBODY).push(TAG, DATA)
    source = world.source()
    token = document(source.token(asked()))["token"]
    reply = source.answer(Operation.manifest(NAME, TAG), request(f"Bearer {token}"))
    assert read(reply) == DATA
    reply = source.answer(Operation.manifest(NAME, TAG), request(f"Bearer {token}"))
    assert reply.header("cache-status") == "docxy; fwd=stale; fwd-status=200"
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).header("warning")


def test_tokens_off(world: World) -> None:
    """With stale_ttl 0 there are no stand-ins."""
    world.policy = CachePolicy(stale_ttl=0)
    public(world)
    world.registry.token_trouble = 503
    assert world.source().token(asked()).status == 503
