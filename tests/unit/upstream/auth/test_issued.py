"""Tokens that this proxy gets itself: shared, renewed in time, and what comes of bad answers."""

import base64
import json
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.errors import (
    AccountRefused,
    ClientGone,
    Denied,
    RegistryError,
    TooManyRequests,
    UpstreamMisbehaved,
    UpstreamUnavailable,
)
from app.oci.headers import get_first
from app.registries import Account
from app.source import build_reply
from app.upstream.auth.issued import IssuedToken, IssuedTokens, issue_token
from app.upstream.auth.remembered import OUTAGE_LIFETIME, PASSING_LIFETIME
from app.upstream.http.deadlines import NO_LIMIT, SHARED_LIMIT, Call
from tests.unit.fake_source import FakeSource
from tests.unit.upstream.clock import Clock
from tests.unit.upstream.gone import Gone

PATIENCE = 10.0
"""Seconds until a test gives up on another thread; nothing waits so long when all is well."""

SCOPE = "repository:a/b:pull"
ME = Account("me", "pw")


class Service:
    """A token service: numbers its tokens, can be held back, and can fail."""

    def __init__(self, clock: Clock | None = None, lifetime: float = 300) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.lifetime = lifetime
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self._now = clock or Clock()

    def __call__(self, scope: str, call: Call) -> IssuedToken:
        """Issue a token that is to be renewed after two thirds of its life."""
        del call
        self.asked.append(scope)
        name = f"{scope}#{len(self.asked)}"
        self.began.set()
        assert self.may_end.wait(PATIENCE)
        if self.failure is not None:
            raise self.failure
        now = self._now()
        return IssuedToken(name, now + self.lifetime * 2 / 3, now + self.lifetime)

    def hold(self) -> None:
        """Let the next asking wait."""
        self.began.clear()
        self.may_end.clear()


def at_once(service: Service, asks: Sequence[Callable[[], str]]) -> list[Future[str]]:
    """Ask from many threads while the first asking is held back, then let it end."""
    waiting = threading.Semaphore(0)

    def one(ask: Callable[[], str]) -> str:
        waiting.release()
        return ask()

    service.hold()
    with ThreadPoolExecutor(len(asks)) as pool:
        answers = [pool.submit(one, ask) for ask in asks]
        for _ in asks:
            assert waiting.acquire(timeout=PATIENCE)
        assert service.began.wait(PATIENCE)
        service.may_end.set()
    return answers


@pytest.fixture
def service(clock: Clock) -> Service:
    """Return a token service on whose clock nothing happens by itself."""
    return Service(clock)


@pytest.fixture
def tokens(service: Service) -> IssuedTokens:
    """Return the tokens that it issues."""
    return IssuedTokens(service)


def test_one_token_for_each_scope(service: Service, tokens: IssuedTokens) -> None:
    """It is asked for when it is first needed, and then it is there."""
    assert [tokens.get(scope) for scope in "abaab"] == ["a#1", "b#2", "a#1", "a#1", "b#2"]
    assert service.asked == ["a", "b"]


def test_single_flight(service: Service, tokens: IssuedTokens) -> None:
    """Many who need one at once wait for one answer."""
    answers = at_once(service, [lambda: tokens.get("a")] * 8)
    assert {answer.result() for answer in answers} == {"a#1"}
    assert service.asked == ["a"]


def test_a_client_that_has_left_waits_no_longer(service: Service, tokens: IssuedTokens) -> None:
    """The one who asks goes on, for the others."""
    service.hold()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(tokens.get, "a", Call(Gone()))
        assert service.began.wait(PATIENCE)
        with pytest.raises(ClientGone):
            tokens.get("a", Call(Gone()))
        service.may_end.set()
        assert asking.result(PATIENCE) == "a#1"


def test_a_failure_is_shared(service: Service, tokens: IssuedTokens) -> None:
    """Those who waited get it, each its own; none of them asks again."""
    service.failure = UpstreamUnavailable("away")
    answers = at_once(service, [lambda: tokens.get("a")] * 8)
    errors = [answer.exception() for answer in answers]
    assert {str(error) for error in errors} == {"away"}
    assert len({id(error) for error in [service.failure, *errors]}) == 9
    assert service.asked == ["a"]


def test_scopes_do_not_wait_for_each_other(service: Service, tokens: IssuedTokens) -> None:
    """A service that is slow for one is not slow for those who have theirs."""
    tokens.get("b")
    service.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(tokens.get, "a")
        assert service.began.wait(PATIENCE)
        assert tokens.get("b") == "b#1"
        service.may_end.set()
        assert waiting.result(PATIENCE) == "a#2"


def test_a_token_is_renewed_before_it_expires(
    service: Service, tokens: IssuedTokens, clock: Clock
) -> None:
    """Nobody is given one that ends on its way."""
    tokens.get("a")
    clock.pass_by(199.9)
    assert tokens.get("a") == "a#1"
    clock.pass_by(0.1)
    assert tokens.get("a") == "a#2"
    assert service.asked == ["a", "a"]


def test_others_go_on_while_one_renews(
    service: Service, tokens: IssuedTokens, clock: Clock
) -> None:
    """The old token is still good, so nobody but the one who asks waits."""
    tokens.get("a")
    clock.pass_by(200)
    service.hold()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(tokens.get, "a")
        assert service.began.wait(PATIENCE)
        assert [tokens.get("a") for _ in range(5)] == ["a#1"] * 5
        service.may_end.set()
        assert renewing.result(PATIENCE) == "a#2"
    assert tokens.get("a") == "a#2"
    assert service.asked == ["a", "a"]


def test_all_wait_for_a_token_that_has_expired(
    service: Service, tokens: IssuedTokens, clock: Clock
) -> None:
    """There is nothing to go on with."""
    tokens.get("a")
    clock.pass_by(300)
    answers = at_once(service, [lambda: tokens.get("a")] * 8)
    assert {answer.result() for answer in answers} == {"a#2"}
    assert service.asked == ["a", "a"]


def test_a_renewal_that_fails(service: Service, tokens: IssuedTokens, clock: Clock) -> None:
    """The old token goes on to its end; the service is asked again every few seconds only."""
    tokens.get("a")
    service.failure = UpstreamUnavailable("away")
    clock.pass_by(200)
    for asked in (2, 3):
        assert [tokens.get("a") for _ in range(3)] == ["a#1"] * 3
        assert len(service.asked) == asked
        clock.pass_by(PASSING_LIFETIME)
    clock.pass_by(100 - 2 * PASSING_LIFETIME)
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable, match="away"):
            tokens.get("a")
    assert len(service.asked) == 4
    service.failure = None
    clock.pass_by(OUTAGE_LIFETIME)
    assert tokens.get("a") == "a#5"


def test_a_failure_counts_for_some_seconds(
    service: Service, tokens: IssuedTokens, clock: Clock
) -> None:
    """Many may want to ask; and one scope's failure is no other's."""
    service.failure = Denied("no")
    for _ in range(3):
        with pytest.raises(Denied, match="no"):
            tokens.get("a")
        clock.pass_by(PASSING_LIFETIME / 3 - 0.01)
    assert service.asked == ["a"]
    service.failure = None
    assert tokens.get("b") == "b#2"
    clock.pass_by(0.1)
    assert tokens.get("a") == "a#3"


def test_a_failure_is_raised_afresh(service: Service, tokens: IssuedTokens) -> None:
    """Nothing of the request that met it is kept alive, and no traceback grows."""
    service.failure = TooManyRequests(headers={"Retry-After": "7"})
    raised = []
    for _ in range(3):
        with pytest.raises(TooManyRequests) as caught:
            tokens.get("a")
        raised.append(caught.value)
        assert caught.value.extra_headers == {"Retry-After": "7"}
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert len({id(error) for error in [service.failure, *raised]}) == 4
    assert len({len(list(traceback.walk_tb(error.__traceback__))) for error in raised}) == 1


def test_what_is_no_registry_error_does_not_lock(
    service: Service, tokens: IssuedTokens, clock: Clock
) -> None:
    """An error of ours is raised, and the next caller is not stuck behind it."""
    service.failure = ValueError("ours")
    with pytest.raises(ValueError, match="ours"):
        tokens.get("a")
    service.failure = None
    assert tokens.get("a") == "a#2"
    clock.pass_by(200)
    service.failure = ValueError("ours")
    with pytest.raises(ValueError, match="ours"):
        tokens.get("a")
    service.failure = None
    assert tokens.get("a") == "a#4"


def test_a_hurried_caller_hurries_nobody_else(clock: Clock) -> None:
    """A token is asked for in its own time; a timeout would be everybody's for some seconds."""
    given: list[float | None] = []

    def issued(scope: str, call: Call) -> IssuedToken:
        given.append(call.seconds_left(None))
        return IssuedToken(f"{scope}#{len(given)}", clock() + 200, clock() + 300)

    tokens = IssuedTokens(issued)
    call = NO_LIMIT.limit_time(0)
    with pytest.raises(TimeoutError):
        call.seconds_left(None)
    assert (tokens.get("a", call), tokens.replace_refused("a#1", "a", call)) == ("a#1", "a#2")
    assert given == [SHARED_LIMIT] * 2


def test_after_a_token_that_is_refused(service: Service, tokens: IssuedTokens) -> None:
    """A token that the registry does not take is replaced, however long it would be good."""
    assert tokens.get("a") == "a#1"
    assert tokens.replace_refused("a#1", "a") == "a#2"
    assert tokens.get("a") == "a#2"
    assert service.asked == ["a", "a"]


def test_after_a_token_that_was_replaced(service: Service, tokens: IssuedTokens) -> None:
    """Who comes late with the old one gets the new one, and nobody is asked."""
    old = tokens.get("a")
    new = tokens.replace_refused(old, "a")
    assert [tokens.replace_refused(old, "a") for _ in range(3)] == [new] * 3
    assert service.asked == ["a", "a"]


def test_after_no_token(service: Service, tokens: IssuedTokens) -> None:
    """The registry asks for one after all: there may be one, or it is the first."""
    assert tokens.replace_refused("", "a") == "a#1"
    assert tokens.replace_refused("", "a") == "a#1"
    assert service.asked == ["a"]


def test_many_after_one_refusal(service: Service, tokens: IssuedTokens) -> None:
    """A token that is revoked is revoked for all who use it; one of them asks."""
    old = tokens.get("a")
    answers = at_once(service, [lambda: tokens.replace_refused(old, "a")] * 8)
    assert {answer.result() for answer in answers} == {"a#2"}
    assert service.asked == ["a", "a"]


def test_after_and_no_new_one(service: Service, tokens: IssuedTokens, clock: Clock) -> None:
    """The refused token does not come back when the service fails."""
    old = tokens.get("a")
    service.failure = UpstreamUnavailable("away")
    with pytest.raises(UpstreamUnavailable, match="away"):
        tokens.replace_refused(old, "a")
    with pytest.raises(UpstreamUnavailable, match="away"):
        tokens.get("a")
    assert service.asked == ["a", "a"]
    service.failure = None
    clock.pass_by(PASSING_LIFETIME)
    assert tokens.get("a") == "a#3"


def test_as_many_scopes_as_are_kept(service: Service, tokens: IssuedTokens) -> None:
    """What was not used for longest goes first; memory has an end."""
    for number in range(10_000):
        tokens.get(str(number))
    assert tokens.get("0") == "0#1"
    tokens.get("one more")
    assert tokens.get("0") == "0#1"
    assert len(service.asked) == 10_001
    assert tokens.get("1") == "1#10002"


def test_a_token_does_not_show() -> None:
    """What is printed of it may end in a log."""
    assert "s3cr3t" not in repr(IssuedToken("s3cr3t", 1, 2))


def answering(status: int = 200, body: bytes = b'{"token":"t"}', **fields: str) -> FakeSource:
    """Return a registry whose token service answers so."""
    source = FakeSource()
    named = [(name.replace("_", "-"), text) for name, text in fields.items()]
    source.reply = build_reply(status, named, body)
    return source


def test_what_is_asked_as_nobody() -> None:
    """The scope, and who asks; no credentials."""
    source = answering()
    assert issue_token(source, None, SCOPE).value == "t"
    (call,) = source.calls
    assert (call.method, call.token.method) == ("token", "GET")
    assert call.token.parameters == [("client_id", "docxy"), ("scope", SCOPE)]
    assert call.token.headers == []
    assert source.closed == 1


def test_a_token_is_asked_for_in_the_time_of_its_call() -> None:
    """And no longer than its caller's fallback allows."""
    source, call = answering(), Call(has_fallback=lambda: True).share()
    issue_token(source, None, SCOPE, call)
    asked = source.calls[0].token
    assert (asked.deadline, asked.has_fallback) == (call.deadline, call.has_fallback)


def test_a_login_alone() -> None:
    """An empty scope is none: some services refuse it, and some take it for one."""
    source = answering()
    issue_token(source, ME, "")
    assert source.calls[0].token.parameters == [("client_id", "docxy"), ("account", "me")]


@pytest.mark.parametrize(
    ("username", "password"),
    [
        pytest.param("me", "pw", id="plain"),
        pytest.param("robot$me", "p:w+/=", id="marks"),
        pytest.param("m\u00e9", "p\u00e4ss \U0001f433", id="UTF-8"),
    ],
)
def test_what_is_asked_with_an_account(username: str, password: str) -> None:
    """Basic credentials, and the account's name as clients send it."""
    source = answering()
    issue_token(source, Account(username, password), SCOPE)
    (call,) = source.calls
    assert ("account", username) in call.token.parameters
    scheme, encoded = get_first(call.token.headers, "authorization").split()
    assert scheme == "Basic"
    assert base64.b64decode(encoded).decode() == f"{username}:{password}"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param({"token": "t"}, "t", id="token"),
        pytest.param({"access_token": "a"}, "a", id="access token"),
        pytest.param({"token": "t", "access_token": "a"}, "t", id="both"),
        pytest.param({"token": "", "access_token": "a"}, "a", id="an empty token"),
        pytest.param({"token": None, "access_token": "a"}, "a", id="no token"),
        pytest.param({"token": "x" * 20_000}, "x" * 20_000, id="a long one"),
    ],
)
def test_the_token(document: dict[str, object], expected: str) -> None:
    """Both names are in use: distribution's `spec/auth/token.md`."""
    assert issue_token(answering(body=json.dumps(document).encode()), None, SCOPE).value == expected


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="a page"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[" * 100_000, id="depth"),
        pytest.param(b"null", id="null"),
        pytest.param(b'["t"]', id="a list"),
        pytest.param(b"{}", id="no token"),
        pytest.param(b'{"token":7}', id="a number"),
        pytest.param(b'{"token":["t"]}', id="a list as token"),
        pytest.param(b'{"token":"a\\r\\nX: y"}', id="a line's end"),
        pytest.param(b'{"token":"a\\u0000"}', id="a control character"),
        pytest.param(b'{"token":"\\u00e4"}', id="no ASCII"),
        pytest.param(b'{"token":""}', id="an empty token"),
        pytest.param(b'{"access_token":""}', id="an empty access token"),
        pytest.param(b'{"token":"a b"}', id="a space"),
    ],
)
def test_no_token(body: bytes) -> None:
    """What could not stand in a header is none."""
    source = answering(body=body)
    with pytest.raises(UpstreamMisbehaved, match=r"^the token service gave no token$"):
        issue_token(source, None, SCOPE)
    assert source.closed == 1


@pytest.mark.parametrize(
    ("told", "renewed", "lifetime"),
    [
        pytest.param("300", 270, 300, id="five minutes"),
        pytest.param("3600.5", 3570.5, 3600.5, id="an hour and a bit"),
        pytest.param("90", 60, 90, id="where both margins meet"),
        pytest.param("60", 40, 60, id="a minute"),
        pytest.param("3", 2, 3, id="short"),
        pytest.param(None, 40, 60, id="missing: the specification says a minute"),
        pytest.param("0", 40, 60, id="zero"),
        pytest.param("-5", 40, 60, id="negative"),
        pytest.param('"300"', 40, 60, id="text"),
        pytest.param("null", 40, 60, id="null"),
        pytest.param("[300]", 40, 60, id="a list"),
        pytest.param("NaN", 40, 60, id="not a number"),
        pytest.param("-Infinity", 40, 60, id="negative without end"),
        pytest.param("false", 40, 60, id="false"),
        pytest.param("true", 40, 60, id="true, which Python takes for 1"),
        pytest.param("86400", 86370, 86400, id="a day"),
        pytest.param("31536000", 86370, 86400, id="a year: no more than a day"),
        pytest.param(f"1{'0' * 400}", 86370, 86400, id="more than a float holds"),
        pytest.param("1e400", 86370, 86400, id="more than a float holds, written so"),
        pytest.param("Infinity", 86370, 86400, id="without end"),
    ],
)
def test_how_long_it_lives(clock: Clock, told: str | None, renewed: float, lifetime: float) -> None:
    """From when it was asked for; it is renewed half a minute before, or in its last third."""
    field = "" if told is None else f',"expires_in":{told}'
    token = issue_token(answering(body=f'{{"token":"t"{field}}}'.encode()), None, SCOPE)
    assert token.renew_at - clock() == pytest.approx(renewed)
    assert token.expires_at - clock() == pytest.approx(lifetime)


def test_the_time_that_the_answer_took_counts(clock: Clock) -> None:
    """The service may have begun to count when it was asked."""

    def slowly() -> Iterator[bytes]:
        clock.pass_by(10)
        yield b'{"token":"t","expires_in":300}'

    slow = FakeSource()
    slow.answers(body=slowly())
    assert issue_token(slow, None, SCOPE).expires_at - clock() == 290


@given(st.floats(min_value=0.001, max_value=86400))
def test_a_token_is_renewed_while_it_is_good(seconds: float) -> None:
    """After it was asked for, and before it expires."""
    body = json.dumps({"token": "t", "expires_in": seconds}).encode()
    token = issue_token(answering(body=body), None, SCOPE)
    asked_at = token.expires_at - seconds
    assert asked_at < token.renew_at < token.expires_at


@pytest.mark.parametrize(
    ("status", "account", "error"),
    [
        pytest.param(400, None, UpstreamMisbehaved, id="400"),
        pytest.param(401, None, Denied, id="401 to nobody"),
        pytest.param(401, ME, AccountRefused, id="401 to an account"),
        pytest.param(403, None, Denied, id="403 to nobody"),
        pytest.param(403, ME, Denied, id="403 to an account"),
        pytest.param(404, None, Denied, id="404"),
        pytest.param(404, ME, Denied, id="404 to an account"),
        pytest.param(405, None, UpstreamMisbehaved, id="405"),
        pytest.param(204, None, UpstreamMisbehaved, id="nothing"),
        pytest.param(201, None, UpstreamMisbehaved, id="created"),
        pytest.param(429, None, TooManyRequests, id="429"),
        pytest.param(429, ME, TooManyRequests, id="429 to an account"),
        pytest.param(500, None, UpstreamUnavailable, id="500"),
        pytest.param(503, ME, UpstreamUnavailable, id="503"),
        pytest.param(599, None, UpstreamUnavailable, id="599"),
    ],
)
def test_refusals(status: int, account: Account | None, error: type[RegistryError]) -> None:
    """The client did nothing wrong that a login would mend: it is never told 401."""
    source = answering(status, b'{"details":"s3cr3t"}')
    with pytest.raises(RegistryError) as caught:
        issue_token(source, account, SCOPE)
    assert type(caught.value) is error
    assert caught.value.status != 401
    assert "s3cr3t" not in str(caught.value)
    assert source.closed == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({"Retry_After": "7"}, "7", id="told"),
        pytest.param({}, "30", id="not told"),
    ],
)
def test_when_to_come_back(fields: dict[str, str], told: str) -> None:
    """A 429 says so."""
    with pytest.raises(TooManyRequests) as caught:
        issue_token(answering(429, b"", **fields), None, SCOPE)
    assert caught.value.extra_headers == {"Retry-After": told}


def test_a_service_that_cannot_be_reached() -> None:
    """What the source raises is what the client is told."""
    source = answering()
    source.error = UpstreamUnavailable("auth.example: cannot be reached")
    with pytest.raises(UpstreamUnavailable, match=r"^auth\.example: "):
        issue_token(source, ME, SCOPE)


def test_a_body_that_breaks_is_closed() -> None:
    """An error on the way leaves no connection behind."""
    source = FakeSource()

    def broken() -> Iterator[bytes]:
        yield b'{"token":'
        message = "broken"
        raise ValueError(message)

    source.answers(body=broken())
    with pytest.raises(ValueError, match="broken"):
        issue_token(source, None, SCOPE)
    assert source.closed == 1
