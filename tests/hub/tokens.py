"""The token server: who asks, what is granted, and the signed token that says so."""

import base64
import binascii
import datetime as dt
import json
import time
import uuid
from collections.abc import Sequence
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

ISSUER = "hub.test"
_HUB_EXPIRY = "hub_exp"


class Refused(Exception):
    """Wrong credentials."""


@dataclass(slots=True, kw_only=True)
class Issuer:
    """Signs tokens."""

    service: str
    clock: Clock
    lifetime: int = 300
    key: SigningKey = field(default_factory=signing_key)

    def sign(self, account: str, scopes: Sequence[Scope]) -> str:
        """Return a token.

        `exp` is of the real time, for docker-registry (which adds a minute of leeway); `hub_exp`
        is of the hub's time, for the front.
        """
        now = int(time.time())
        claims = {
            "iss": ISSUER,
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
        return jwt.encode(claims, self.key.private, algorithm="RS256", headers=headers)

    def has_expired(self, token: str) -> bool:
        """Tell whether the hub's time has passed the token's end."""
        return bool(claims_of(token).get(_HUB_EXPIRY, float("inf")) <= self.clock.now())


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says, unverified: verifying is docker-registry's business."""
    try:
        return dict(jwt.decode(token, options={"verify_signature": False, "verify_exp": False}))
    except jwt.PyJWTError:
        return {}


@dataclass(frozen=True, slots=True)
class TokenServer:
    """Answers GET and POST of `/token`."""

    issuer: Issuer
    accounts: Accounts

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
        return self._reply(body)

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
        kind, _, secret = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(secret, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Refused from None
        if kind.lower() != "basic" or not self.accounts.admits(name, password):
            raise Refused
        return name

    def _token(self, account: str, fields: dict[str, list[str]]) -> tuple[str, list[Scope]]:
        asked = [
            Scope.from_text(text) for value in fields.get("scope", []) for text in value.split()
        ]
        granted = self.accounts.granted(account, [scope for scope in asked if scope])
        return self.issuer.sign(account, granted), granted

    def _reply(self, body: dict[str, str]) -> Answer:
        issued = dt.datetime.now(dt.UTC).isoformat().replace("+00:00", "Z")
        whole = body | {"expires_in": self.issuer.lifetime, "issued_at": issued}
        data = json.dumps(whole).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(data))})
        return Answer(HTTPStatus.OK, headers, [data])
