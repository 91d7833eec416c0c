"""Callers are told apart by all that they show a registry, and the registry is shown no more."""

import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cache.authz.callers import DEFAULT_TOKEN_LIFETIME, CallerKind, Callers
from app.registries import Account, Registry
from tests.unit.cache.authz.test_gate import jwt
from tests.unit.cache.world import ALICE, KEY, ROW, request


@pytest.mark.parametrize(
    ("authorization", "kind"),
    [
        pytest.param("", CallerKind.ANONYMOUS, id="none"),
        pytest.param("  ", CallerKind.ANONYMOUS, id="empty"),
        pytest.param("Bearer docxy.none", CallerKind.ANONYMOUS, id="nothing"),
        pytest.param("bearer docxy.stale", CallerKind.ANONYMOUS, id="no token to be had"),
        pytest.param("Bearer t", CallerKind.TOKEN, id="token"),
        pytest.param("Bearer docxy.stale, Bearer t", CallerKind.TOKEN, id="two lines"),
        pytest.param(ALICE, CallerKind.CREDENTIALS, id="login"),
        pytest.param("Basic docxy.none", CallerKind.CREDENTIALS, id="no token of ours"),
        pytest.param("Negotiate x", CallerKind.CREDENTIALS, id="anything else"),
    ],
)
def test_kinds(authorization: str, kind: CallerKind) -> None:
    """What a caller shows, and what of it the registry gets."""
    caller, own = Callers(ROW, KEY).identify(request(authorization))
    assert caller.kind is kind
    assert own.authorization == ("" if kind is CallerKind.ANONYMOUS else authorization)
    assert caller.has_stale_placeholder is (authorization == "bearer docxy.stale")


def test_the_registry_gets_nothing_that_callers_are_not_told_apart_by() -> None:
    """Whatever else could open it."""
    fields = {"X_JFrog_Art_Api": "key", "Cookie": "c", "Accept": "a", "Range": "bytes=0-1"}
    _, own = Callers(ROW, KEY).identify(request(ALICE, **fields))
    assert sorted(name.lower() for name, _ in own.headers) == ["accept", "authorization", "range"]


def test_names_tell_nothing() -> None:
    """No secret is in them, and none of another registry, address or key is the same."""
    shown = [request(ALICE), request("Bearer t"), request()]
    rows = [ROW, Registry(name="o.example", url=ROW.url), Registry(name=ROW.name, url="https://o")]
    names = {
        Callers(row, key).identify(one)[0].name
        for row in rows
        for key in (KEY, b"other")
        for one in shown
    }
    assert len(names) == 18
    assert not any("YWxpY2U6YQ" in name for name in names)


def test_the_scheme_has_no_case() -> None:
    """One token is one caller."""
    callers = Callers(ROW, KEY)
    told = {callers.identify(request(f"{scheme} t"))[0].name for scheme in ("Bearer", "bearer")}
    assert told == {callers.hash_bearer("t")}


def test_managed() -> None:
    """All clients are one caller, and what they send is for this proxy alone."""
    account = Account("robot", "secret")
    row = Registry(name="r.example", url="https://r", managed=True, account=account)
    callers = Callers(row, KEY)
    alice, own = callers.identify(request(ALICE))
    assert alice == callers.identify(request())[0]
    assert alice.kind is CallerKind.ACCOUNT
    assert own.authorization == ""
    nobody = Registry(name="r.example", url="https://r", managed=True)
    assert Callers(nobody, KEY).identify(request(ALICE))[0].kind is CallerKind.ANONYMOUS


@pytest.mark.parametrize("shown", ["account robot", "account\trobot", "Bearer account robot"])
def test_nobody_shows_an_account(shown: str) -> None:
    """Not even where clients' own credentials pass through after an account was configured."""
    account = Account("robot", "secret")
    managed = Registry(name="r.example", url="https://r", managed=True, account=account)
    known = [
        Callers(row, KEY).identify(request(shown))[0].name
        for row in (managed, replace(managed, managed=False, account=None))
    ]
    assert known[0] != known[1]


def test_another_account_is_another_caller() -> None:
    """A proxy that has changed its account starts from nothing."""
    rows = [
        Registry(name="r.example", url="https://r", managed=True, account=Account(user, "p"))
        for user in ("one", "two")
    ]
    assert len({Callers(row, KEY).identify(request())[0].name for row in rows}) == 2


@pytest.mark.parametrize(
    ("claims", "left"),
    [
        pytest.param({"exp": 100}, 0, id="long ago"),
        pytest.param({}, DEFAULT_TOKEN_LIFETIME, id="nothing said"),
        pytest.param({"exp": "soon"}, DEFAULT_TOKEN_LIFETIME, id="a word"),
        pytest.param({"exp": True}, DEFAULT_TOKEN_LIFETIME, id="a truth"),
        pytest.param({"exp": 10**400}, DEFAULT_TOKEN_LIFETIME, id="no number that counts"),
        pytest.param({"exp": float("nan")}, DEFAULT_TOKEN_LIFETIME, id="no number"),
        pytest.param({"exp": float("inf")}, DEFAULT_TOKEN_LIFETIME, id="for ever"),
    ],
)
def test_lifetimes(claims: dict[str, object], left: float) -> None:
    """What a token says of its end, each time it is shown."""
    callers = Callers(ROW, KEY)
    for _ in range(2):
        assert callers.identify(request(jwt(**claims)))[0].lifetime == left


def test_a_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds from now, also of a token that was shown before."""
    callers, now = Callers(ROW, KEY), time.time()
    token = jwt(exp=now + 100)
    for later, left in ((0, 100), (70, 30), (100, 0), (200, 0)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert callers.identify(request(token))[0].lifetime == pytest.approx(left, abs=2)


def test_tokens_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as they are among those that were shown last; memory has an end."""
    parsed = list[str]()
    monkeypatch.setattr("app.cache.authz.callers._MAX_TOKENS", 2)
    monkeypatch.setattr("app.cache.authz.callers.parse_lifetime", parsed.append)
    callers = Callers(ROW, KEY)
    for token in "abacab":
        callers.identify(request(f"Bearer {token}"))
    assert parsed == ["a", "b", "c", "b"]


@given(st.text(alphabet=st.characters(codec="latin-1"), max_size=60))
def test_any_authorization(text: str) -> None:
    """Whatever is sent, there is a caller, and never more than the registry is asked with."""
    caller, own = Callers(ROW, KEY).identify(request(text))
    assert (own.authorization == "") == (caller.kind is CallerKind.ANONYMOUS)
    assert caller.lifetime in {math.inf, DEFAULT_TOKEN_LIFETIME}
