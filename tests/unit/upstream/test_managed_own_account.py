"""The proxy's own account: tried by one caller, told once, and left alone where it is refused."""

import base64
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest

from app.oci.challenge import Challenge
from app.oci.errors import (
    AccountRefused,
    Denied,
    RegistryError,
    TooManyRequests,
    UpstreamUnavailable,
)
from app.oci.headers import get_first
from app.oci.reference import Kind, Operation
from app.registries import Account, Registry
from app.source import Reply, Request, TokenRequest, build_reply
from app.upstream.managed import OwnAccount
from tests.lines import line_of
from tests.unit.fake_source import FakeSource
from tests.unit.upstream.clock import Clock

PATIENCE = 10.0
"""Seconds until a test gives up on another thread; nothing waits so long when all is well."""

ME = Account("me", "s3cr3t")
BASIC = "Basic " + base64.b64encode(b"me:s3cr3t").decode()

BEARER = Challenge("Bearer", {"realm": "https://auth.example/token", "service": "s"})
PASSWORD = Challenge("Basic", {"realm": "Registry"})


class Guarded(FakeSource):
    """A registry that takes the account, or does not; it can be held back while it is asked."""

    def __init__(self, *challenges: Challenge) -> None:
        super().__init__()
        self.challenges = challenges
        self.takes = {BASIC}
        self.closed_to_all = ""
        self.statuses: dict[str, int] = {}
        """What is answered whatever is shown, by scope; a login's is "", a ping's "ping"."""
        self.logins: list[str] = []
        """What the account was shown for."""
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self.inside: threading.Barrier | None = None

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Ask for tokens, or for a password, which a registry without tokens checks here."""
        assert operation.kind is Kind.PING
        shown = request.authorization
        if shown:
            self._meet("ping")
        known = shown in self.takes and self.challenges == (PASSWORD,)
        status = 401 if self.challenges and not known else 200
        status = self.statuses.get("ping", status) if shown else status
        return replace(
            build_reply(status, [], b"{}"), challenges=self.challenges, close=self._close
        )

    def token(self, request: TokenRequest) -> Reply:
        """Give a token to whom the service knows."""
        scope = dict(request.parameters).get("scope", "")
        self._meet(scope)
        shown = get_first(request.headers, "authorization")
        known = shown in self.takes or not shown
        status = 401 if not known or scope == self.closed_to_all != "" else 200
        reply = build_reply(self.statuses.get(scope, status), [], b'{"token":"t","expires_in":300}')
        return replace(reply, close=self._close)

    def _meet(self, login: str) -> None:
        self.logins.append(login)
        self.began.set()
        assert self.may_end.wait(PATIENCE)
        if self.inside is not None:
            self.inside.wait(PATIENCE)
        if self.error is not None:
            raise self.error


@pytest.fixture
def tokens() -> Guarded:
    """Return a registry that asks for tokens."""
    return Guarded(BEARER)


@pytest.fixture
def passwords() -> Guarded:
    """Return a registry that asks for a password."""
    return Guarded(PASSWORD)


def own(source: Guarded, account: Account | None = ME) -> OwnAccount:
    """Return this proxy's account at a registry."""
    row = Registry(name="r.example", url="https://r.example", managed=True, account=account)
    return OwnAccount(source, row)


def outcome(ask: Callable[[], object]) -> str:
    """Return what comes of asking: the name of an error, or what is answered."""
    try:
        return str(ask())
    except RegistryError as error:
        return type(error).__name__


def got(account: OwnAccount, scope: str) -> str:
    """Return the token for a scope, or the name of an error."""
    return outcome(lambda: account.issue_token(scope).value)


def at_once(source: Guarded, asks: Sequence[Callable[[], object]]) -> list[str]:
    """Ask from many threads while the registry holds the first one back; return what came."""
    waiting = threading.Semaphore(0)

    def one(ask: Callable[[], object]) -> str:
        waiting.release()
        return outcome(ask)

    source.began.clear()
    source.may_end.clear()
    with ThreadPoolExecutor(len(asks)) as pool:
        answers: list[Future[str]] = [pool.submit(one, ask) for ask in asks]
        for _ in asks:
            assert waiting.acquire(timeout=PATIENCE)
        assert source.began.wait(PATIENCE)
        source.may_end.set()
        return [answer.result(PATIENCE) for answer in answers]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the errors in the log."""
    return [line_of(record) for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_good_account(tokens: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked for each scope that is wanted, and for nothing else."""
    account = own(tokens)
    assert [got(account, scope) for scope in "aba"] == ["t", "t", "t"]
    assert tokens.logins == ["a", "b", "a"]
    assert told(caplog) == []


def test_a_wrong_password_for_many_repositories(tokens: Guarded) -> None:
    """Any client can ask for any name: it is shown for one, and once without any."""
    tokens.takes = set()
    account = own(tokens)
    assert {got(account, str(number)) for number in range(40)} == {"AccountRefused"}
    assert not account.check_accepted()
    assert tokens.logins == ["0", ""]
    assert tokens.closed == 3  # the ping's answer as well


def test_a_wrong_password_and_many_clients(tokens: Guarded) -> None:
    """Those who come while the first one finds out do not try for themselves."""
    tokens.takes = set()
    account = own(tokens)
    asks = [lambda scope=str(number): account.issue_token(scope) for number in range(16)]
    assert at_once(tokens, asks) == ["AccountRefused"] * 16
    assert len(tokens.logins) == 2


def test_a_wrong_password_is_told(
    tokens: Guarded, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for all who meet it: the operator reads which registry, and no secret."""
    tokens.takes = set()
    account = own(tokens)
    for times in (1, 2):
        for scope in "abc":
            got(account, scope)
            account.check_accepted()
        assert len(told(caplog)) == times
        clock.pass_by(60 * times)
    assert "registry=r.example" in told(caplog)[0]
    assert "credentials" in told(caplog)[0]
    for secret in (ME.password, BASIC.removeprefix("Basic ")):
        assert secret not in caplog.text


def test_a_wrong_password_is_tried_again(tokens: Guarded, clock: Clock) -> None:
    """After a minute: the operator may have mended it where it is checked."""
    tokens.takes = set()
    account = own(tokens)
    got(account, "a")
    clock.pass_by(59.9)
    assert got(account, "b") == "AccountRefused"
    assert tokens.logins == ["a", ""]
    tokens.takes = {BASIC}
    clock.pass_by(0.1)
    assert [got(account, scope) for scope in "bc"] == ["t", "t"]
    assert tokens.logins == ["a", "", "b", "c"]


def test_pauses_grow(tokens: Guarded, clock: Clock) -> None:
    """Registries lock accounts: up to an hour; and from a minute again where it was good since."""
    tokens.takes = set()
    account = own(tokens)
    assert not account.check_accepted()
    for tries, pause in enumerate((60, 120, 240, 480, 960, 1920, 3600, 3600), start=1):
        clock.pass_by(pause - 0.1)
        assert not account.check_accepted()
        assert len(tokens.logins) == tries
        clock.pass_by(0.2)
        assert not account.check_accepted()
        assert len(tokens.logins) == tries + 1
    tokens.takes = {BASIC}
    clock.pass_by(3600)
    assert account.check_accepted()
    tokens.takes = set()
    clock.pass_by(60)
    assert not account.check_accepted()
    tokens.takes = {BASIC}
    clock.pass_by(60)
    assert account.check_accepted()


def test_a_good_account_is_not_asked_for_a_minute(tokens: Guarded, clock: Clock) -> None:
    """Whoever is refused something asks whether it is good: that is no login for each of them."""
    account = own(tokens)
    for _ in range(3):
        assert account.check_accepted()
    clock.pass_by(59.9)
    assert account.check_accepted()
    assert tokens.logins == [""]
    clock.pass_by(0.1)
    assert account.check_accepted()
    assert tokens.logins == ["", ""]


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_that_is_refused(tokens: Guarded, status: int) -> None:
    """However the service says so: some answer 403 to a wrong password."""
    tokens.statuses = {"": status, "a": 401, "b": 401}
    account = own(tokens)
    assert [got(account, scope) for scope in "ab"] == ["AccountRefused"] * 2
    assert tokens.logins == ["a", ""]


def test_one_caller_tries_it_again(tokens: Guarded, clock: Clock) -> None:
    """Of all who wait for the minute to end, too."""
    tokens.takes = set()
    account = own(tokens)
    got(account, "a")
    clock.pass_by(60)
    asks = [lambda scope=str(number): account.issue_token(scope) for number in range(16)]
    assert at_once(tokens, asks) == ["AccountRefused"] * 16
    assert len(tokens.logins) == 4


def test_one_scope_that_is_refused(tokens: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """The account logs in without it, and so it is the scope's fault: all others are given."""
    tokens.closed_to_all = "not ours"
    account = own(tokens)
    assert got(account, "not ours") == "AccountRefused"
    assert account.check_accepted()
    assert tokens.logins == ["not ours", ""]
    assert [got(account, scope) for scope in ("a", "not ours", "b")] == ["t", "AccountRefused", "t"]
    assert told(caplog) == []


def test_a_password_that_is_changed(
    tokens: Guarded, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An account that was good is tried once more, and then not for a while."""
    account = own(tokens)
    got(account, "a")
    tokens.takes = set()
    assert got(account, "b") == "AccountRefused"
    assert not account.check_accepted()
    assert got(account, "c") == "AccountRefused"
    assert tokens.logins == ["a", "b", ""]
    assert len(told(caplog)) == 1
    clock.pass_by(60)
    tokens.takes = {BASIC}
    assert got(account, "c") == "t"


def test_who_has_been_let_in_waits_for_nobody(tokens: Guarded) -> None:
    """Once it is known to be good, a service that is slow for one is not slow for all."""
    account = own(tokens)
    got(account, "a")
    tokens.inside = threading.Barrier(8)  # passes when eight have come
    asks = [lambda scope=str(number): account.issue_token(scope).value for number in range(8)]
    assert at_once(tokens, asks) == ["t"] * 8


def test_nobody_waits_for_nobody(tokens: Guarded) -> None:
    """Without an account there is nothing to find out."""
    account = own(tokens, None)
    tokens.inside = threading.Barrier(8)
    asks = [lambda scope=str(number): account.issue_token(scope).value for number in range(8)]
    assert at_once(tokens, asks) == ["t"] * 8


def test_nobody_is_refused(tokens: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """It is the registry's word on that scope, and says nothing of an account."""
    tokens.statuses = {"a": 401}
    account = own(tokens, None)
    assert [got(account, scope) for scope in "aba"] == ["Denied", "t", "Denied"]
    assert told(caplog) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        pytest.param(403, Denied, id="403"),
        pytest.param(429, TooManyRequests, id="429"),
        pytest.param(500, UpstreamUnavailable, id="500"),
    ],
)
def test_what_is_no_word_on_the_account(
    tokens: Guarded, status: int, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """It is raised as it is, and the next one is asked for as ever."""
    tokens.statuses = {"a": status}
    account = own(tokens)
    assert [got(account, scope) for scope in "aba"] == [error.__name__, "t", error.__name__]
    assert tokens.logins == ["a", "b", "a"]
    assert told(caplog) == []


def test_who_cannot_be_asked_whether_it_is_good(
    tokens: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Then nothing is known, nothing is remembered, and the next caller is not stuck."""
    tokens.statuses = {"a": 401, "": 503}
    account = own(tokens)
    assert got(account, "a") == "UpstreamUnavailable"
    with pytest.raises(UpstreamUnavailable):
        account.check_accepted()
    tokens.statuses = {}
    assert got(account, "a") == "t"
    assert told(caplog) == []


def test_a_registry_that_cannot_be_reached(tokens: Guarded) -> None:
    """What the source raises passes, and the next caller is not stuck."""
    tokens.error = UpstreamUnavailable("away")
    account = own(tokens)
    assert got(account, "a") == "UpstreamUnavailable"
    tokens.error = None
    assert got(account, "a") == "t"


def test_basic(passwords: Guarded) -> None:
    """The credentials as they are sent, proven once; of nobody nothing, and nobody is asked."""
    account = own(passwords)
    assert [account.get_basic_authorization() for _ in range(3)] == [BASIC] * 3
    assert own(passwords, None).get_basic_authorization() == ""
    assert passwords.logins == ["ping"]


def test_a_wrong_password_where_there_are_no_tokens(
    passwords: Guarded, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is wrong the ping tells; then it is not handed out for a minute."""
    passwords.takes = set()
    account = own(passwords)
    for _ in range(3):
        assert not account.check_accepted()
        with pytest.raises(AccountRefused):
            account.get_basic_authorization()
    assert passwords.logins == ["ping"]
    assert passwords.closed == 2  # an anonymous one went before
    assert len(told(caplog)) == 1
    passwords.takes = {BASIC}
    clock.pass_by(60)
    assert account.get_basic_authorization() == BASIC


def test_many_who_want_a_password(passwords: Guarded) -> None:
    """One of them proves it, and the others see none that is wrong."""
    passwords.takes = set()
    account = own(passwords)
    assert at_once(passwords, [account.get_basic_authorization] * 16) == ["AccountRefused"] * 16
    assert passwords.logins == ["ping"]


def test_many_who_were_refused(passwords: Guarded) -> None:
    """One of them asks whether it is the account's fault, where it is."""
    passwords.takes = set()
    account = own(passwords)
    assert at_once(passwords, [account.check_accepted] * 16) == ["False"] * 16
    assert passwords.logins == ["ping"]


@pytest.mark.parametrize("status", [200, 403, 404, 429, 500])
def test_a_good_password_where_there_are_no_tokens(
    passwords: Guarded, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Only 401 says that it is wrong: one repository's refusal is not the account's."""
    passwords.statuses = {"ping": status}
    account = own(passwords)
    assert account.check_accepted()
    assert account.get_basic_authorization() == BASIC
    assert told(caplog) == []
