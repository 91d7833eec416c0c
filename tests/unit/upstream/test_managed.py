"""A registry at which this proxy has the credentials: what it is asked, and what clients see."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import pytest

from app.oci import tokens
from app.oci.challenge import Challenge
from app.oci.errors import AccountRefused, Denied, TooManyRequests, UpstreamUnavailable
from app.oci.reference import Digest, Operation, RepositoryName, Tag
from app.registries import Account, Registry
from app.source import Reply, Request, RequestBody, Source, TokenRequest, build_reply
from app.upstream.managed import ManagedSource
from tests.unit.fake_source import Call, FakeSource
from tests.unit.upstream.clock import Clock

NAME = RepositoryName("library/nginx")
SCOPE = "repository:library/nginx:pull"
LATEST = Tag("latest")
DIGEST = Digest("sha256:" + "0" * 64)
ME = Account("me", "pw")
BASIC = "Basic bWU6cHc="
REFUSED = b'{"errors":[{"code":"UNAUTHORIZED"}]}'

BEARER = Challenge("Bearer", {"realm": "https://auth.example/token", "service": "s"})
PASSWORD = Challenge("Basic", {"realm": "Registry"})


class Guarded(FakeSource):
    """A registry that lets in who has an Authorization of `admits`, or with "" everybody.

    `closed_to_all` is a repository that it shows to nobody, whatever their login.
    """

    def __init__(self, *challenges: Challenge, admits: set[str] | None = None) -> None:
        super().__init__()
        self.challenges = challenges
        self.told_by_ping: Sequence[Challenge] = challenges
        self.admits = {f"Bearer t{n}" for n in range(1, 9)} if admits is None else admits
        self.token_status = 200
        self.ping_status: int | None = None
        self.closed_to_all = ""
        self._numbers = count(1)

    def _answer(self, call: Call) -> Reply:
        super()._answer(call)
        reply = self._told(call)
        return replace(reply, close=self._close)

    def _told(self, call: Call) -> Reply:
        if call.method == "token":
            if self.closed_to_all and self.closed_to_all in str(call.token.parameters):
                return build_reply(401, [], REFUSED)
            number = next(self._numbers) if "scope" in dict(call.token.parameters) else 0
            body = json.dumps({"token": f"t{number}", "expires_in": 300})
            return build_reply(self.token_status, [], body.encode())
        if call.method == "ping":
            known = call.request.authorization in self.admits
            status = 401 if self.told_by_ping and not known else 200
            return replace(
                build_reply(self.ping_status or status, [], b"{}"), challenges=self.told_by_ping
            )
        is_known = call.request.authorization in self.admits and call.name != self.closed_to_all
        if not self.challenges or is_known:
            return self.reply
        return replace(build_reply(401, [], REFUSED), challenges=self.challenges)

    @property
    def asked(self) -> list[str]:
        """Return what was asked, without the pings, and with what Authorization.

        A token for no scope is a login.
        """
        return [
            "login"
            if call.method == "token" and "scope" not in dict(call.token.parameters)
            else f"{call.method} {call.request.authorization}".rstrip()
            for call in self.calls
            if call.method != "ping"
        ]


def manage(inner: Source, account: Account | None) -> ManagedSource:
    """Return a registry at which this proxy has an account, or none."""
    row = Registry(name="r.example", url="https://r.example", managed=True, account=account)
    return ManagedSource(inner, row)


def get(authorization: str = "") -> Request:
    """Return a GET as a view makes it."""
    fields = [("Accept", "a/b")]
    if authorization:
        fields.append(("Authorization", authorization))
    return Request(method="GET", headers=fields)


Ask = Callable[[Source, Request], Reply]


def asking(operation: Operation) -> Ask:
    """Return what asks a source for an operation."""
    return lambda source, request: source.answer(operation, request)


ASKED = [
    pytest.param(asking(Operation.manifest(NAME, LATEST)), "manifest", id="tag"),
    pytest.param(asking(Operation.manifest(NAME, DIGEST)), "manifest", id="digest"),
    pytest.param(asking(Operation.blob(NAME, DIGEST)), "blob", id="blob"),
    pytest.param(asking(Operation.tags(NAME)), "tags", id="tags"),
    pytest.param(asking(Operation.referrers(NAME, DIGEST)), "referrers", id="refs"),
]


@pytest.mark.parametrize(("ask", "method"), ASKED)
@pytest.mark.parametrize("account", [None, ME], ids=["nobody", "account"])
def test_bearer(ask: Ask, method: str, account: Account | None) -> None:
    """A token for the repository is asked for, once, and goes with every question."""
    inner = Guarded(BEARER)
    inner.answers(b"body", headers=[("ETag", '"x"')])
    managed = manage(inner, account)
    for _ in range(2):
        reply = ask(managed, get())
        assert (reply.status, reply.length, reply.header("etag")) == (200, 4, '"x"')
    assert inner.asked == ["token", f"{method} Bearer t1", f"{method} Bearer t1"]
    *_, token = [call.token for call in inner.calls if call.method == "token"]
    assert ("scope", SCOPE) in token.parameters
    assert (("account", "me") in token.parameters) == (account is not None)


def test_each_repository_has_its_token() -> None:
    """The token of one would not open another."""
    inner = Guarded(BEARER)
    managed = manage(inner, None)
    for name in ("a/b", "c/d", "a/b"):
        managed.answer(Operation.tags(RepositoryName(name)), get())
    assert inner.asked == ["token", "tags Bearer t1", "token", "tags Bearer t2", "tags Bearer t1"]


@pytest.mark.parametrize(("ask", "method"), ASKED)
@pytest.mark.parametrize(
    ("challenges", "account", "expected"),
    [
        pytest.param([PASSWORD], ME, BASIC, id="Basic"),
        pytest.param([PASSWORD], None, "", id="Basic, and no account"),
        pytest.param([], ME, "", id="open, with an account"),
        pytest.param([], None, "", id="open"),
    ],
)
def test_no_token(
    ask: Ask, method: str, challenges: list[Challenge], account: Account | None, expected: str
) -> None:
    """What the registry does not ask for is not sent: a password to whoever wants one only."""
    inner = Guarded(*challenges, admits={BASIC})
    ask(manage(inner, account), get())
    assert inner.asked == [f"{method} {expected}".rstrip()]


def test_either() -> None:
    """A registry that takes both gets tokens: a password is seen by no more than needs be."""
    inner = Guarded(PASSWORD, BEARER)
    manage(inner, ME).answer(Operation.tags(NAME), get())
    assert inner.asked == ["token", "tags Bearer t1"]


@pytest.mark.parametrize("challenges", [[BEARER], [PASSWORD], []], ids=["Bearer", "Basic", "open"])
@pytest.mark.parametrize("sent", ["Bearer theirs", "Basic dGhlaXJz", "Negotiate theirs"])
@pytest.mark.parametrize(("ask", "method"), ASKED)
def test_what_a_client_sends_is_for_this_proxy_alone(
    ask: Ask, method: str, challenges: list[Challenge], sent: str
) -> None:
    """Its Authorization never reaches the registry; its other headers do."""
    inner = Guarded(*challenges, admits={"Bearer t1", BASIC})
    assert ask(manage(inner, ME), get(sent)).status == 200
    question = inner.calls[-1].request
    assert inner.calls[-1].method == method
    assert question.authorization in {"Bearer t1", BASIC, ""}
    assert question.headers[0] == ("Accept", "a/b")
    assert not [call for call in inner.calls if call.request.authorization == sent]
    assert not [call for call in inner.calls if sent in dict(call.token.headers).values()]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_method_and_the_query_pass(method: str) -> None:
    """A GET of a manifest is billed: HEAD stays HEAD, when it is asked once more too."""
    inner = Guarded(BEARER, admits={"Bearer t2"})
    request = Request(method=method, query="n=2")
    manage(inner, None).answer(Operation.tags(NAME), request)
    assert inner.asked == ["token", "tags Bearer t1", "token", "tags Bearer t2"]
    questions = [call.request for call in inner.calls if call.method == "tags"]
    assert [(one.method, one.query) for one in questions] == [(method, "n=2")] * 2


def test_a_token_that_is_refused_is_replaced() -> None:
    """It may have been revoked: once more, with a new one, and the next client has that too."""
    inner = Guarded(BEARER)
    managed = manage(inner, None)
    managed.answer(Operation.tags(NAME), get())
    inner.admits = {"Bearer t2"}
    assert managed.answer(Operation.tags(NAME), get()).status == 200
    assert managed.answer(Operation.tags(NAME), get()).status == 200
    assert inner.asked == [
        "token",
        "tags Bearer t1",
        "tags Bearer t1",
        "token",
        "tags Bearer t2",
        "tags Bearer t2",
    ]


def test_a_request_with_a_body_is_not_repeated() -> None:
    """Its bytes can be read once; the client hears that it was refused."""
    inner = Guarded(BEARER, admits=set())
    request = Request(method="PUT", body=RequestBody([b"{}"], 2))
    assert manage(inner, None).answer(Operation.manifest(NAME, LATEST), request).status == 403
    assert inner.asked == ["token", "manifest Bearer t1"]


def test_a_repository_that_asks_though_the_ping_does_not() -> None:
    """An open registry may have rooms that are not."""
    inner = Guarded(BEARER)
    inner.told_by_ping = []
    managed = manage(inner, None)
    assert managed.answer(Operation.tags(NAME), get()).status == 200
    assert inner.asked == ["tags", "token", "tags Bearer t1"]


@pytest.mark.parametrize(
    ("challenges", "account", "expected"),
    [
        pytest.param(
            [BEARER], None, ["token", "tags Bearer t1", "token", "tags Bearer t2"], id="Bearer"
        ),
        pytest.param([PASSWORD], None, ["tags"], id="Basic, and no account"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_this_proxy_may_not_read(
    method: str, challenges: list[Challenge], account: Account | None, expected: list[str]
) -> None:
    """403, and no challenge: no login of the client's would help. Never more than once more."""
    inner = Guarded(*challenges, admits=set())
    reply = manage(inner, account).answer(Operation.tags(NAME), Request(method=method))
    assert (reply.status, list(reply.challenges)) == (403, [])
    assert reply.read() == REFUSED
    assert inner.asked == expected


@pytest.mark.parametrize("challenge", [BEARER, PASSWORD], ids=["Bearer", "Basic"])
def test_one_repository_that_the_account_may_not_read(challenge: Challenge) -> None:
    """Some registries answer 401 there: it is 403, and the account stays good for the others."""
    inner = Guarded(challenge, admits={BASIC, "Bearer t1", "Bearer t2", "Bearer t3"})
    inner.closed_to_all = "not/ours"
    managed = manage(inner, ME)
    for _ in range(2):
        with pytest.raises(Denied):
            managed.answer(Operation.tags(RepositoryName("not/ours")), get())
        assert managed.answer(Operation.tags(NAME), get()).status == 200
    assert inner.closed == len(inner.calls) - 2  # the answers to the client are the client's


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_wrong_password_where_there_are_no_tokens(method: str, clock: Clock) -> None:
    """It is shown to the ping, and to no repository; then to nobody for a minute."""
    inner = Guarded(PASSWORD, admits=set())
    managed = manage(inner, ME)
    for name in ("a/b", "c/d", "a/b"):
        with pytest.raises(AccountRefused):
            managed.answer(Operation.tags(RepositoryName(name)), Request(method=method))
    assert inner.asked == []
    shown = [call.method for call in inner.calls if call.request.authorization]
    assert shown == ["ping"]
    assert inner.closed == len(inner.calls)
    inner.admits = {BASIC}
    clock.pass_by(60)
    assert managed.answer(Operation.tags(NAME), Request(method=method)).status == 200


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_other_refusals_pass(status: int) -> None:
    """As they are, and without a second try."""
    inner = Guarded(BEARER)
    inner.reply = build_reply(status, [("Retry-After", "7")], b'{"errors":[]}')
    reply = manage(inner, None).answer(Operation.tags(NAME), get())
    assert (reply.status, reply.header("retry-after")) == (status, "7")
    assert inner.asked == ["token", "tags Bearer t1"]


def test_every_reply_is_closed() -> None:
    """Those that no client sees here, and the client's by whoever relays it."""
    inner = Guarded(BEARER, admits={"Bearer t2"})
    reply = manage(inner, None).answer(Operation.tags(NAME), get())
    assert [call.method for call in inner.calls] == ["ping", "token", "tags", "token", "tags"]
    assert inner.closed == 4
    reply.close()
    assert inner.closed == 5


@pytest.mark.parametrize(
    ("status", "account", "error", "asked"),
    [
        pytest.param(401, ME, AccountRefused, ["token", "login"], id="the account is refused"),
        pytest.param(401, None, Denied, ["token"], id="nobody is"),
        pytest.param(403, ME, Denied, ["token"], id="403"),
        pytest.param(403, None, Denied, ["token"], id="403, nobody"),
        pytest.param(429, ME, TooManyRequests, ["token"], id="429"),
        pytest.param(500, ME, UpstreamUnavailable, ["token"], id="500"),
    ],
)
def test_a_token_that_is_not_given(
    status: int, account: Account | None, error: type[Exception], asked: list[str]
) -> None:
    """The registry is not asked at all, nor the token service by each client in turn.

    An account that is refused is tried without a scope as well.
    """
    inner = Guarded(BEARER)
    inner.token_status = status
    managed = manage(inner, account)
    for _ in range(3):
        with pytest.raises(error):
            managed.answer(Operation.tags(NAME), get())
    assert inner.asked == asked


def test_a_registry_that_cannot_be_reached() -> None:
    """What the source raises passes."""
    inner = Guarded(BEARER)
    inner.error = UpstreamUnavailable("away")
    managed = manage(inner, ME)
    for ask in (lambda: managed.answer(Operation.tags(NAME), get()), managed.reach):
        with pytest.raises(UpstreamUnavailable, match="away"):
            ask()


@pytest.mark.parametrize("account", [None, ME], ids=["nobody", "account"])
@pytest.mark.parametrize("status", [204, 302, 403, 404, 429, 500, 503])
def test_a_ping_that_says_nothing(status: int, account: Account | None) -> None:
    """What the registry asks for is not known, and so nothing is sent to it."""
    inner = Guarded(BEARER)
    inner.ping_status = status
    with pytest.raises(UpstreamUnavailable, match=str(status)):
        manage(inner, account).answer(Operation.tags(NAME), get())
    assert inner.asked == []
    assert inner.closed == len(inner.calls) == 1


def test_what_else_a_client_sends() -> None:
    """What identifies it stays here, in whatever header; what is asked for goes on."""
    inner = Guarded()
    secrets = [("Cookie", "a=b"), ("X-Api-Key", "k"), ("PRIVATE-TOKEN", "p")]
    managed = manage(inner, None)
    asked = Request(method="GET", headers=[*secrets, ("Accept", "a/b"), ("Range", "bytes=5-")])
    managed.answer(Operation.tags(NAME), asked)
    assert inner.calls[-1].request.headers == [("Accept", "a/b"), ("Range", "bytes=5-")]


@pytest.mark.parametrize("sent", ["", "Bearer theirs", "Basic dGhlaXJz"])
def test_ping(sent: str) -> None:
    """No client needs a token here; whatever it sends is good, and the registry is not asked."""
    inner = Guarded(BEARER)
    reply = manage(inner, ME).answer(Operation.ping(), get(sent))
    assert (reply.status, list(reply.challenges)) == (200, [])
    assert json.loads(reply.read()) == {}
    assert inner.calls == []


def test_reach() -> None:
    """The registry is asked, as health wants to know."""
    inner = Guarded(BEARER)
    manage(inner, ME).reach()
    assert inner.asked == ["reach"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_token(method: str) -> None:
    """Who insists gets one that says nothing; a password sent with it goes nowhere."""
    inner = Guarded(BEARER)
    parameters = [("username", "alice"), ("password", "s3cr3t"), ("scope", SCOPE)]
    fields = [("Authorization", "Basic dGhlaXJz")]
    request = TokenRequest(method=method, parameters=parameters, headers=fields)
    reply = manage(inner, ME).token(request)
    document = json.loads(reply.read())
    assert reply.status == 200
    assert document["token"] == document["access_token"] == tokens.PLACEHOLDER
    assert inner.calls == []
