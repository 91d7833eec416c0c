"""The token server: who asks, what is granted, and the signed token that says so."""

import datetime as dt
import json
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import jwt
from werkzeug.datastructures import Headers

from tests.hub.accounts import ANONYMOUS, Accounts, Scope
from tests.hub.clock import Clock
from tests.hub.faults import refusal
from tests.hub.keys import SigningKey, signing_key
from tests.hub.messages import Answer, Request

_ALGORITHM = "RS256"
_HUB_EXPIRY = "hub_exp"


class Refused(Exception):
    """Wrong credentials."""


@dataclass(slots=True, kw_only=True)
class Issuer:
    """Signs tokens."""

    service: str
    clock: Clock
    lifetime: int = 300
    name: str = field(default_factory=lambda: f"{uuid.uuid4().hex}.hub.test")
    """Of its own, as the key is not: no hub takes another one's tokens."""
    key: SigningKey = field(default_factory=signing_key)

    def sign(self, account: str, scopes: Sequence[Scope]) -> str:
        """Return a token.

        `exp` is of the real time, for docker-registry (which adds a minute of leeway); `hub_exp`
        is of the hub's time, for the front.
        """
        now = int(time.time())
        claims = {
            "iss": self.name,
            "sub": account,
            "aud": self.service,
            "iat": now,
            "nbf": now - 10,
            "exp": now + self.lifetime,
            "jti": uuid.uuid4().hex,
            _HUB_EXPIRY: self.clock.now() + self.lifetime,
            "access": [
                {"type": scope.kind, "name": scope.name, "actions": list(scope.actions)}
                for scope in scopes
            ],
        }
        headers = {"kid": self.key.kid}
        return jwt.encode(claims, self.key.private, algorithm=_ALGORITHM, headers=headers)

    def has_expired(self, token: str) -> bool:
        """Tell whether the hub's time has passed the token's end."""
        return bool(claims_of(token).get(_HUB_EXPIRY, float("inf")) <= self.clock.now())

    def owner_of(self, token: str) -> str | None:
        """Return whose token this is, if it was signed here and is still good."""
        try:
            claims = jwt.decode(
                token,
                self.key.private.public_key(),
                algorithms=[_ALGORITHM],
                audience=self.service,
                issuer=self.name,
            )
        except jwt.PyJWTError:
            return None
        return None if self.has_expired(token) else str(claims["sub"])


def bearer(request: Request) -> str:
    """Return the token that a request shows; empty for none."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else ""


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says, unverified: verifying is docker-registry's business."""
    try:
        return dict(jwt.decode(token, options={"verify_signature": False, "verify_exp": False}))
    except jwt.PyJWTError:
        return {}


@dataclass(slots=True)
class TokenServer:
    """Answers GET and POST of `/token`."""

    issuer: Issuer
    accounts: Accounts
    fields: Collection[str] | None = None
    """The fields that the answer to a GET has, of those that it could have; None: all."""

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if request.path != "/token":
            return refusal(HTTPStatus.NOT_FOUND, "UNSUPPORTED")
        if request.method not in {"GET", "POST"}:
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", {"Allow": "GET, POST"})
        fields = request.query if request.method == "GET" else request.read_form()
        if fields.get("service", [self.issuer.service]) != [self.issuer.service]:
            return refusal(HTTPStatus.BAD_REQUEST, "UNSUPPORTED", message="unknown service")
        try:
            if request.method == "GET":
                return self._get(request.headers.get("Authorization"), fields)
            return self._post(fields)
        except Refused:
            return refusal(
                HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", message="incorrect username or password"
            )

    def _get(self, authorization: str | None, fields: dict[str, list[str]]) -> Answer:
        account = self._account(authorization)
        token, _ = self._token(account, fields)
        body = {"token": token, "access_token": token}
        if fields.get("offline_token") == ["true"] and account != ANONYMOUS:
            body["refresh_token"] = self.accounts.refresh_token(account)
        return self._reply(body, self.fields)

    def _post(self, fields: dict[str, list[str]]) -> Answer:
        first = {name: values[0] for name, values in fields.items()}
        if not first.get("client_id"):
            return refusal(HTTPStatus.BAD_REQUEST, "UNSUPPORTED", message="client_id is missing")
        match first.get("grant_type"):
            case "password":
                account = first.get("username", "")
                if not self.accounts.admits(account, first.get("password", "")):
                    raise Refused
                refresh_token = self.accounts.refresh_token(account)
            case "refresh_token":
                refresh_token = first.get("refresh_token", "")
                owner = self.accounts.owner_of(refresh_token)
                if owner is None:
                    raise Refused
                account = owner
            case _:
                return refusal(HTTPStatus.BAD_REQUEST, "UNSUPPORTED", message="unknown grant_type")
        token, scopes = self._token(account, fields)
        body = {"access_token": token, "scope": " ".join(map(str, scopes))}
        if first.get("access_type") == "offline" or first["grant_type"] == "refresh_token":
            body["refresh_token"] = refresh_token
        return self._reply(body)

    def _account(self, authorization: str | None) -> str:
        if authorization is None:
            return ANONYMOUS
        account = self.accounts.owner_of_basic(authorization)
        if account is None:
            raise Refused
        return account

    def _token(self, account: str, fields: dict[str, list[str]]) -> tuple[str, list[Scope]]:
        asked = [
            Scope.from_text(text) for value in fields.get("scope", []) for text in value.split()
        ]
        granted = self.accounts.granted(account, [scope for scope in asked if scope])
        return self.issuer.sign(account, granted), granted

    def _reply(self, body: dict[str, str], fields: Collection[str] | None = None) -> Answer:
        issued = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
        whole = body | {"expires_in": self.issuer.lifetime, "issued_at": issued}
        wanted = whole if fields is None else fields
        data = json.dumps({name: whole[name] for name in whole if name in wanted}).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(data))})
        return Answer(HTTPStatus.OK, headers, [data])
