"""GET /: the page, in the visitor's language, under a strict policy."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from app.routes.forwarded import Forwarded
from app.routes.rooms import Rooms
from app.settings import Settings
from app.web.page import POLICY
from tests.unit.web.tables import GHCR_HOST, HOSTS

Show = Callable[..., TestResponse]


@pytest.fixture
def show(app: Flask, client: FlaskClient) -> Show:
    """Return what asks for the page of a proxy whose table has a host for ghcr.io."""
    Rooms(
        registries=HOSTS.registries,
        sources={},
        forwarded=Forwarded(trusted="10.0.0.0/8", public_url=None, hosts={GHCR_HOST}),
        write_timeout=60,
    ).put_into(app)

    def ask(path: str = "/", method: str = "GET", **more: Any) -> TestResponse:
        more.setdefault("base_url", "https://proxy.example")
        return client.open(path, method=method, **more)

    return ask


class Elements(HTMLParser):
    """Collects the elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep one."""
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> Iterator[dict[str, str | None]]:
        """Give the attributes of each element of a kind."""
        return (attributes for name, attributes in self.found if name == tag)


def test_headers(show: Show) -> None:
    """One strict policy, no cookie, and nobody keeps it for somebody else."""
    answer = show()
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.headers.getlist("Content-Security-Policy") == [POLICY]
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Vary"] == "Accept-Language, Cookie"
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "Set-Cookie" not in answer.headers


def test_head(show: Show) -> None:
    """A HEAD has the same head, and no body."""
    answer = show(method="HEAD")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == show().headers["Content-Length"]


@pytest.mark.parametrize("path", ["/", "/page/static/page.css"])
def test_switched_off(client: FlaskClient, settings: Settings, path: str) -> None:
    """Without the page there is nothing there, in JSON as everywhere."""
    off = settings.model_copy(update={"page": False, "well_known": ()})
    answer = create_app(off).test_client().get(path)
    assert answer.status_code == 404
    assert answer.get_json()["errors"][0]["code"] == "UNSUPPORTED"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    assert client.get(path).status_code == 200


def test_nothing_runs_that_stands_in_the_page(show: Show) -> None:
    """No script, style or handler in line, which the policy would forbid; all files are ours."""
    text = show("/?text=nginx").text
    assert not re.search(r"<style|<script(?![^>]*\ssrc=)|javascript:", text)
    for tag, attributes in Elements(text).found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "action"):
            address = attributes.get(name)
            if tag in {"script", "link", "img", "form", "use"} and address is not None:
                assert re.match(r"/(?!/)|#", address), (tag, address)


def test_all_its_files_are_there(show: Show) -> None:
    """Each is served, to be kept for ever by this address."""
    page = Elements(show().text)
    addresses = [one["src"] for one in page.named("script")]
    addresses += [one["href"] for one in page.named("link")]
    assert len(addresses) >= 3
    for address in addresses:
        assert address
        answer = show(address)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
