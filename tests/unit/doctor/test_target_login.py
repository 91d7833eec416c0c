"""The doctor's login: whom it is told, and what is said of the answer."""

import base64
import io
import sys
from collections.abc import Iterable

import pytest

from app.doctor import target as doctor_target
from app.doctor import token_flow
from app.doctor.challenges import PATH
from app.doctor.http import ProbeClient, ProbeResponse
from app.doctor.target import Endpoint, UserCredentials
from app.doctor.token_flow import TokenFlow
from tests.unit.doctor.answers import answer, document, error

CAROL = UserCredentials("carol", "s3cr3t of carol")
TARGET = "/v2/owner/app/manifests/1"
TOKEN = document(200, {"token": "t"})
OPEN = answer(Docker_Content_Digest="sha256:4711")


def challenge(service: str) -> ProbeResponse:
    """Return a challenge of some service."""
    text = f'Bearer realm="https://evil.invalid{PATH}",service="{service}"'
    return answer(401, WWW_Authenticate=f'{text},scope="repository:owner/app:pull"')


class Told(ProbeClient):
    """Remembers what it is asked, and answers as a registry of some service does."""

    def __init__(self, service: str) -> None:
        super().__init__(Endpoint.parse("https://proxy.example"), None)
        self._service = service
        self.asked: list[tuple[str, str]] = []

    def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        patience: float = 1,
    ) -> ProbeResponse:
        """Answer."""
        del method, patience
        shown = dict(headers).get("Authorization", "")
        self.asked.append((target.partition("?")[0], shown))
        if target.startswith(PATH):
            return TOKEN
        return OPEN if shown else challenge(self._service)


def test_a_proxy_with_users_is_told() -> None:
    """Once, at its token endpoint, wherever the realm says; then the token does."""
    line = Told("docxy")
    knocked = token_flow.run_token_flow(line, "owner/app", TARGET, CAROL)
    text = base64.b64encode(b"carol:s3cr3t of carol").decode()
    assert line.asked == [(TARGET, ""), (PATH, f"Basic {text}"), (TARGET, "Bearer t")]
    assert (knocked.user, knocked.has_succeeded) == ("carol", True)
    steps = list(token_flow.judge_token_flow(knocked, "pull"))
    assert [step.finding_name for step in steps] == ["", "", ""]
    assert "for carol" in steps[1].outcome
    assert "s3cr3t" not in f"{steps} {CAROL}"


def test_no_other_is() -> None:
    """A login for the proxy is none for a registry behind it."""
    line = Told("registry.docker.io")
    knocked = token_flow.run_token_flow(line, "owner/app", TARGET, CAROL)
    assert line.asked == [(TARGET, ""), (PATH, ""), (TARGET, "Bearer t")]
    assert not knocked.user


@pytest.mark.parametrize(
    ("token", "user", "wrong"),
    [
        pytest.param(error(401, "UNAUTHORIZED"), "carol", "login", id="wrong password"),
        pytest.param(error(429, "TOOMANYREQUESTS"), "carol", "wait", id="slowed"),
        pytest.param(error(429, "TOOMANYREQUESTS"), "", "wait", id="slowed, nobody"),
        pytest.param(error(401, "UNAUTHORIZED"), "", "", id="nobody"),
        pytest.param(error(503, "UNAVAILABLE"), "carol", "upstream", id="busy"),
        pytest.param(document(), "carol", "token", id="no token"),
    ],
)
def test_what_it_answers(token: ProbeResponse, user: str, wrong: str) -> None:
    """As the proxy's own word, which it is."""
    knocked = TokenFlow("owner/app", challenge("docxy"), token, None, user)
    _, step = token_flow.judge_token_flow(knocked, "pull")
    assert step.finding_name == wrong
    assert bool(step.skip_reason) == (not wrong)


@pytest.mark.parametrize(
    ("address", "is_trusted", "may"),
    [
        ("https://proxy.example", True, True),
        ("https://proxy.example", False, False),
        ("https://127.0.0.1", False, False),
        ("http://proxy.example", False, False),
        ("http://127.0.0.1:8000", False, True),
    ],
)
def test_where_a_password_goes(address: str, *, is_trusted: bool, may: bool) -> None:
    """Where nobody else reads it."""
    assert (
        bool(doctor_target.find_login_obstacle(Endpoint.parse(address), is_trusted=is_trusted))
        != may
    )


def test_the_password(environment: pytest.MonkeyPatch) -> None:
    """The environment's, or a line of the standard input; else it is said where it belongs."""
    environment.setattr(sys, "stdin", io.StringIO("of the input \r\nmore\n"))
    assert doctor_target.read_credentials("carol") == UserCredentials("carol", "of the input ")
    environment.setenv(doctor_target.VARIABLE, "of the environment")
    assert doctor_target.read_credentials("carol") == UserCredentials("carol", "of the environment")
    environment.delenv(doctor_target.VARIABLE)
    environment.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(ValueError, match="DOCTOR_PASSWORD"):
        doctor_target.read_credentials("carol")


@pytest.mark.parametrize("text", ["", "a:b", "a\n"])
def test_what_is_no_name(text: str) -> None:
    """It could not be sent."""
    with pytest.raises(ValueError, match="user name"):
        doctor_target.parse_username(text)
