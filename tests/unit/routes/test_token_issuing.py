"""Tokens of users whose passwords change while they log in."""

import base64
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from app.access.logins import LoginChecker
from app.access.tokens import Guard, TokenIssuer
from app.routes.context import Services
from tests.unit.routes.conftest import Proxy

KEY = b"k" * 32


class Changing:
    """One user, whose password is another one when it has been checked `after` times."""

    def __init__(self, after: int, *, is_slow: bool) -> None:
        self.is_slow = is_slow
        self._left = after
        self.secret = "old"  # noqa: S105 - of these tests only

    def lookup_secret(self, name: str) -> str | None:
        """Return what it is now."""
        return self.secret if name == "alice" else None

    def get_decoy_secret(self, name: str) -> str:
        """Return what nobody has."""
        return f"nobody's, and not {name}'s"

    def matches(self, secret: str, password: bytes) -> bool:
        """Compare, while somebody writes the file anew."""
        self._left -= 1
        if not self._left:
            self.secret = "new"  # noqa: S105 - as above
        return secret.encode() == password


Changed = Callable[[Changing], Proxy]


@pytest.fixture
def changed(app: Flask, proxy: Proxy) -> Changed:
    """Return what makes a proxy of users."""

    def made(users: Changing) -> Proxy:
        room: Services = app.extensions["docxy"]
        replace(room, guard=Guard(LoginChecker(users), TokenIssuer(KEY, users))).install(app)
        return proxy

    return made


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_password_that_changes_meanwhile(
    changed: Changed,
    method: str,
    is_slow: bool,  # noqa: FBT001 - a table
) -> None:
    """Who knows the old one gets no token that outlives it."""
    proxy = changed(Changing(after=1, is_slow=is_slow))
    if method == "GET":
        login = f"Basic {base64.b64encode(b'alice:old').decode()}"
        answer = proxy.ask("proxy.example/auth/token?offline_token=true", authorization=login)
    else:
        form = "grant_type=password&username=alice&password=old&access_type=offline"
        answer = proxy.ask("proxy.example/auth/token", "POST", form=form)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert b'token"' not in answer.data


def test_a_refresh_token_whose_user_changes_meanwhile(changed: Changed) -> None:
    """The same, where no password is checked at all."""
    users = Changing(after=0, is_slow=False)
    shown = TokenIssuer(KEY, users).issue_refresh_token("alice")
    proxy = changed(users)
    form = f"grant_type=refresh_token&refresh_token={shown}"
    assert proxy.ask("proxy.example/auth/token", "POST", form=form).status_code == 200
    asked = iter(["old", "new"])

    def secret_of(name: str) -> str | None:
        del name
        return next(asked, "new")

    users.lookup_secret = secret_of  # type: ignore[method-assign]
    assert proxy.ask("proxy.example/auth/token", "POST", form=form).status_code == 401


@pytest.mark.parametrize(
    ("more", "status"),
    [
        pytest.param(3060, 200, id="as long as Basic takes"),
        pytest.param(3070, 401, id="longer"),
        pytest.param(70_000, 413, id="no login"),
    ],
)
@pytest.mark.parametrize("is_slow", [False, True])
def test_how_long_a_login_may_be(
    changed: Changed,
    more: int,
    status: int,
    is_slow: bool,  # noqa: FBT001 - a table
) -> None:
    """In a form as in a header, where a longer one cannot come; waiting logins are kept whole."""
    users = Changing(after=0, is_slow=is_slow)
    users.secret = "p" * more
    form = f"grant_type=password&username=alice&password={users.secret}"
    answer = changed(users).ask("proxy.example/auth/token", "POST", form=form)
    assert answer.status_code == status


def test_a_form_of_other_fields(changed: Changed) -> None:
    """Whatever is in it, it is held while its login waits."""
    form = f"grant_type=password&username=alice&password=old&x={'x' * 64 * 1024}"
    proxy = changed(Changing(after=0, is_slow=False))
    assert proxy.ask("proxy.example/auth/token", "POST", form=form).status_code == 413
