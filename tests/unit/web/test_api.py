"""/page/...: rewriting, and tags as nobody sees them."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.oci.challenge import Challenge
from app.oci.errors import UpstreamUnreachable
from app.oci.reference import Operation
from app.routes.context import Services
from app.routes.forwarded import ForwardedHeaders
from app.source import Reply, Request, TokenRequest, build_reply
from tests.unit.fake_source import FakeSource
from tests.unit.web.tables import GHCR_HOST, HOSTS

BEARER = Challenge("Bearer", {"realm": "https://auth.example/token"})
REFUSED = replace(build_reply(401, [], b"{}"), challenges=[BEARER])


class Registry(FakeSource):
    """Wants a token for tags, as Docker Hub does, unless it answers something else."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = told({"tags": ["1.9", "latest", "1.10", "edge", "v2", "1.10-alpine"]})
        self.token_reply = told({"token": "for-nobody"})

    def answer(self, operation: Operation, request: Request) -> Reply:
        """List tags to whom has the token."""
        super().answer(operation, request)
        return self.listed if request.authorization == "Bearer for-nobody" else REFUSED

    def token(self, request: TokenRequest) -> Reply:
        """Give the token."""
        super().token(request)
        return self.token_reply


def told(document: object, status: int = 200) -> Reply:
    """Return an answer in JSON."""
    return build_reply(
        status, [("Content-Type", "application/json")], json.dumps(document).encode()
    )


@pytest.fixture
def registries() -> dict[str, Registry]:
    """Return the sources of the table."""
    return {row.name: Registry() for row in HOSTS.registries.rows}


@pytest.fixture
def asked(app: Flask, client: FlaskClient, registries: dict[str, Registry]) -> FlaskClient:
    """Return a client of the proxy."""
    Services(
        registries=HOSTS.registries,
        sources=registries,
        forwarded=ForwardedHeaders(
            trusted="", public_url="https://proxy.example", hosts={GHCR_HOST}
        ),
        write_timeout=60,
    ).install(app)
    return client


@pytest.fixture
def tags(asked: FlaskClient) -> Callable[..., TestResponse]:
    """Return what asks for the tags of an image."""

    def ask(image: str, **headers: str) -> TestResponse:
        return asked.get("/page/tags", query_string={"image": image}, headers=headers)

    return ask


def test_rewriting(asked: FlaskClient) -> None:
    """The text comes back, with what was changed in it and what was left."""
    text = "docker pull nginx\ndocker pull other.example/x\n"
    answer = asked.post("/page/rewrite", data=text, content_type="text/plain")
    assert answer.get_json() == {
        "text": "docker pull proxy.example/nginx\ndocker pull other.example/x\n",
        "changes": [["nginx", "proxy.example/nginx"]],
        "skipped": [["other.example/x", "not served"]],
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.content_type == "application/json"


def test_rewriting_what_is_no_text(asked: FlaskClient) -> None:
    """Bytes that are no UTF-8 do no harm, and a very long text is refused."""
    assert asked.post("/page/rewrite", data=b"\xff\xfe nginx").status_code == 200
    assert asked.post("/page/rewrite", data="nginx\n" * 20_000).status_code == 413
    assert asked.get("/page/rewrite").status_code == 405


@pytest.mark.parametrize(
    ("image", "meant", "address"),
    [
        ("nginx", "docker.io/library/nginx", "proxy.example/library/nginx"),
        (" nginx:1 ", "docker.io/library/nginx", "proxy.example/library/nginx"),
        ("docker.io/owner/app", "docker.io/owner/app", "proxy.example/owner/app"),
        ("quay.io/a/b", "quay.io/a/b", "proxy.example/quay.io/a/b"),
        ("ghcr.io/a/b", "ghcr.io/a/b", f"{GHCR_HOST}/a/b"),
        ("proxy.example/quay.io/a/b", "quay.io/a/b", "proxy.example/quay.io/a/b"),
        (f"{GHCR_HOST}/a/b", "ghcr.io/a/b", f"{GHCR_HOST}/a/b"),
        ("proxy.example/nginx", "docker.io/library/nginx", "proxy.example/library/nginx"),
    ],
)
def test_tags(
    tags: Callable[..., TestResponse],
    registries: dict[str, Registry],
    image: str,
    meant: str,
    address: str,
) -> None:
    """They come from the registry that is meant, with a token of nobody's."""
    registry, _, repository = meant.partition("/")
    answer = tags(image, Authorization="Basic c2VjcmV0OnNlY3JldA==", Cookie="a=b")
    assert answer.get_json() == {
        "image": meant,
        "address": address,
        "tags": ["latest", "1.10", "1.10-alpine", "1.9", "v2", "edge"],
        "more": False,
    }
    first, token, second = registries[registry].calls
    assert first.name == second.name == repository
    assert first.request.headers == []
    assert second.request.headers == [("Authorization", "Bearer for-nobody")]
    assert second.request.query == "n=1000"
    assert (token.token.headers, token.token.parameters) == (
        [],
        [("scope", f"repository:{repository}:pull")],
    )
    assert not any(one.calls for name, one in registries.items() if name != registry)


def test_the_line_has_the_repository(
    tags: Callable[..., TestResponse], caplog: pytest.LogCaptureFixture
) -> None:
    """In the registry's own naming, as on every line."""
    caplog.set_level(logging.INFO, "app.access")
    assert tags("nginx").status_code == 200
    (line,) = (record for record in caplog.records if record.name == "app.access")
    fields = line.__dict__["fields"]
    assert (fields["registry"], fields["repository"]) == ("docker.io", "library/nginx")


def test_more_tags(tags: Callable[..., TestResponse], registries: dict[str, Registry]) -> None:
    """It is said where the registry has more than it told; odd ones are left out."""
    listed = told({"tags": ["1", None, 2, "2"]})
    registries["docker.io"].listed = replace(listed, next_query="last=2")
    document = tags("nginx").get_json()
    assert (document["tags"], document["more"]) == (["2", "1"], True)
    registries["docker.io"].listed = told({"tags": None})
    assert tags("nginx").get_json()["tags"] == []


@pytest.mark.parametrize(
    ("listed", "status", "code"),
    [
        (told({"errors": []}, 404), 404, "NAME_UNKNOWN"),
        (REFUSED, 403, "DENIED"),
        (told({"errors": []}, 403), 403, "DENIED"),
        (told({"errors": []}, 429), 429, "TOOMANYREQUESTS"),
        (told({"errors": []}, 500), 503, "UNAVAILABLE"),
        (told([]), 502, "UNAVAILABLE"),
        (build_reply(200, [], b"<html>"), 502, "UNAVAILABLE"),
        (build_reply(200, [], b'{"tags": ["' + b"a" * 2**20 + b'"]}'), 502, "UNAVAILABLE"),
    ],
)
def test_refusals(
    tags: Callable[..., TestResponse],
    registries: dict[str, Registry],
    listed: Reply,
    status: int,
    code: str,
) -> None:
    """A refusal is told in a way that one can read, and a page is none of the answers."""
    registries["docker.io"].listed = listed
    answer = tags("nginx")
    assert (answer.status_code, answer.get_json()["errors"][0]["code"]) == (status, code)
    assert "WWW-Authenticate" not in answer.headers


def test_no_token(tags: Callable[..., TestResponse], registries: dict[str, Registry]) -> None:
    """Where nobody gets a token, nobody sees tags."""
    registries["docker.io"].token_reply = told({"details": "no"}, 401)
    assert tags("nginx").status_code == 403
    registries["docker.io"].token_reply = told({"token": ""})
    assert tags("nginx").status_code == 502
    registries["docker.io"].error = UpstreamUnreachable()
    assert tags("nginx").status_code == 503


@pytest.mark.parametrize(
    ("image", "status"),
    [
        ("", 400),
        ("Nginx", 400),
        ("../../etc", 400),
        ("a" * 300, 400),
        ("other.example/a", 404),
        ("127.0.0.1:5000/a", 404),
        ("proxy.example/other.example/a", 404),
    ],
)
def test_nothing_is_asked(
    tags: Callable[..., TestResponse], registries: dict[str, Registry], image: str, status: int
) -> None:
    """What names no repository of the table reaches no registry."""
    assert tags(image).status_code == status
    assert not any(one.calls for one in registries.values())
