"""Requests in the name of a client that has its status line: it cannot react to a 401."""

import json

import pytest
import responses

from app.oci.reference import Digest, Operation, RepositoryName
from app.source import Reply, Request, TokenRequest
from app.upstream.client import Upstream
from tests.unit.upstream.conftest import REGISTRY, TOKENS

DIGEST = Digest("sha256:" + "0123456789abcdef" * 4)
OPERATION = Operation.blob(RepositoryName("library/nginx"), DIGEST)
BLOB = f"{REGISTRY}/v2/library/nginx/blobs/{DIGEST}"
PART = {"Content-Range": "bytes 4-7/8", "Content-Length": "4"}


def ask(upstream: Upstream, token: str, *, answered: bool) -> Reply:
    """Ask for a part of a blob."""
    fields = [("Authorization", f"Bearer {token}"), ("Range", "bytes=4-7")]
    return upstream.answer(OPERATION, Request(method="GET", headers=fields, is_answered=answered))


@pytest.fixture
def registry(discovering: Upstream, upstream: responses.RequestsMock) -> Upstream:
    """Return a registry that has given a client the anonymous token `old`."""
    challenge = f'Bearer realm="{TOKENS}",service="registry.example"'
    upstream.get(f"{REGISTRY}/v2/", status=401, headers={"WWW-Authenticate": challenge})
    upstream.get(TOKENS, body=json.dumps({"token": "old"}))
    discovering.token(TokenRequest(method="GET", parameters=[])).close()
    upstream.get(BLOB, status=401, headers={"WWW-Authenticate": challenge})
    return discovering


def test_an_anonymous_token_is_replaced(
    registry: Upstream, upstream: responses.RequestsMock
) -> None:
    """Any other will do, as where a body is resumed."""
    upstream.get(TOKENS, body=json.dumps({"token": "new"}))
    upstream.get(BLOB, status=206, body=b"blob", headers=PART)
    reply = ask(registry, "old", answered=True)
    assert (reply.status, reply.read()) == (206, b"blob")
    sent = [call.request.headers.get("Authorization") for call in upstream.calls][-3:]
    assert sent == ["Bearer old", None, "Bearer new"]


@pytest.mark.parametrize(("token", "answered"), [("login", True), ("old", False)])
def test_other_tokens_are_the_clients(
    registry: Upstream, upstream: responses.RequestsMock, token: str, *, answered: bool
) -> None:
    """Nobody else can replace a login; and a client without an answer replaces its token itself."""
    asked = len(upstream.calls)
    assert ask(registry, token, answered=answered).status == 401
    assert len(upstream.calls) == asked + 1
