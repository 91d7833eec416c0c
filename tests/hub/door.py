"""Who may come in: the ways in which registries want credentials.

docker-registry behind the door always wants a token. Where clients show something else, the door
signs one for them, and it says in its own words what docker-registry refuses.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from tests.hub.accounts import ANONYMOUS, Accounts, Scope
from tests.hub.faults import refusal
from tests.hub.messages import Answer, Request
from tests.hub.tokens import Issuer, bearer

Login = Literal["token", "basic", "none", "either"]
"""token: Docker Hub's dance. basic: user and password at the registry itself, always.
none: nobody is asked, as at registry.k8s.io. either: one header challenges for both."""

_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")
_ACTIONS = ("pull", "push", "delete")
_EXPIRED = "Bearer expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Stands before the front."""

    login: Login
    issuer: Issuer
    accounts: Accounts
    inner: Callable[[Request], Answer]

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        match self.login:
            case "token":
                self._expire(request)
                return self.inner(request)
            case "basic":
                return self._basic(request)
            case "none":
                return self._none(request)
            case "either":
                return self._either(request)

    def _basic(self, request: Request) -> Answer:
        account = self.accounts.owner_of_basic(request.headers.get("Authorization"))
        if account is None:
            challenge = {"WWW-Authenticate": self._challenge}
            return refusal(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", challenge)
        self._show(request, account)
        return _instead_of_a_challenge(self.inner(request), HTTPStatus.FORBIDDEN, "DENIED")

    def _none(self, request: Request) -> Answer:
        """Who shows anything but a token of this hub's has it from elsewhere, or made it up."""
        shown = request.headers.get("Authorization")
        account = ANONYMOUS if shown is None else self.issuer.owner_of(bearer(request))
        if account is None:
            return refusal(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", message="not a token of ours")
        self._show(request, account)
        return _instead_of_a_challenge(self.inner(request), HTTPStatus.NOT_FOUND, "NAME_UNKNOWN")

    def _either(self, request: Request) -> Answer:
        shown = request.headers.get("Authorization", "")
        if shown.lower().startswith("basic "):
            self._show(request, self.accounts.owner_of_basic(shown))
        else:
            self._expire(request)
        answer = self.inner(request)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            challenge = answer.headers["WWW-Authenticate"]
            answer.headers["WWW-Authenticate"] = f"{challenge}, {self._challenge}"
        return answer

    @property
    def _challenge(self) -> str:
        return f'Basic realm="{self.issuer.service}"'

    def _show(self, request: Request, account: str | None) -> None:
        """Let docker-registry see a token for an account, or nothing for nobody."""
        request.headers.remove("Authorization")
        if account is None:
            return
        match = _REPOSITORY.match(request.path)
        asked = [Scope("repository", match[1], _ACTIONS)] if match else []
        token = self.issuer.sign(account, self.accounts.granted(account, asked))
        request.headers["Authorization"] = f"Bearer {token}"

    def _expire(self, request: Request) -> None:
        """Spoil a token that is too old by the hub's clock: docker-registry has another one."""
        token = bearer(request)
        if token and self.issuer.has_expired(token):
            request.headers["Authorization"] = _EXPIRED


def _instead_of_a_challenge(answer: Answer, status: HTTPStatus, code: str) -> Answer:
    """Return what a registry without tokens says where docker-registry wants another one."""
    if answer.status != HTTPStatus.UNAUTHORIZED:
        return answer
    answer.close()
    return refusal(status, code)
