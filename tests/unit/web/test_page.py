"""GET /: the page, in the visitor's language, under a strict policy."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape
from werkzeug.test import TestResponse

from app.access.logins import LoginChecker
from app.access.networks import Networks
from app.access.tokens import Guard, TokenIssuer
from app.access.users import SharedSecret
from app.config.settings import Settings
from app.factory import create_app
from app.registries import Registries
from app.routes.context import Services, get_services
from app.routes.forwarded import ForwardedHeaders
from app.web.clients import CLIENTS
from app.web.languages import LANGUAGES
from app.web.page import POLICY
from app.web.setup import build_steps
from app.web.shown import mark_own_addresses
from tests.unit.web.tables import ALL, BELOW, GHCR_HOST, HOSTS
from tests.unit.web.test_readout import FIGURES, REGISTRY, Fixed

Show = Callable[..., TestResponse]


@pytest.fixture
def show(app: Flask, client: FlaskClient) -> Show:
    """Return what asks for the page of a proxy whose table has a host for ghcr.io."""
    Services(
        registries=HOSTS.registries,
        sources={},
        forwarded=ForwardedHeaders(trusted="10.0.0.0/8", public_url=None, hosts={GHCR_HOST}),
        write_timeout=60,
    ).install(app)

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
    assert "Cross-Origin-Opener-Policy" not in show(base_url="http://proxy.example").headers
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


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x>', "</textarea><b>", "a\n<b>"]
)
def test_what_is_typed_is_text(show: Show, text: str) -> None:
    """Whatever it is, by a link or by the form, it is shown and never read as markup."""
    form = {"method": "POST", "data": {"text": text}}
    for answer in (show("/", query_string={"text": text}), show(**form)):
        assert answer.status_code == 200
        page = Elements(answer.text)
        assert {"alert(1)", "x"} & {one.get("src") for one in page.named("img")} == set()
        assert list(page.named("b")) == []
        assert all("src" in one for one in page.named("script"))
        assert str(escape(text)) in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("<b>.example", 400, id="markup"),
        pytest.param('"onload=alert(1)', 400, id="a quote"),
        pytest.param("front.example:8443", 200, id="a host"),
    ],
)
def test_the_host_that_is_told(show: Show, host: str, status: int) -> None:
    """Only what can be a host stands in the page, and only from a server that may be believed."""
    told = {"X-Forwarded-Host": host, "X-Forwarded-Proto": "https"}
    answer = show(headers=told, environ_overrides={"REMOTE_ADDR": "10.0.0.1"})
    assert answer.status_code == status
    assert (f"https://{host}" in answer.text) == (status == 200)
    assert host not in show(headers=told).text


def test_rewriting_by_a_form(show: Show) -> None:
    """It is rewritten as /page/rewrite does it, and nothing of it is in an address."""
    text = "docker pull nginx\r\ndocker pull other.example/x\r\n"
    answer = show(method="POST", data={"text": text})
    assert (
        "docker pull <mark>proxy.example/nginx</mark>\ndocker pull other.example/x" in answer.text
    )
    assert "does not serve its registry" in answer.text
    assert answer.headers.getlist("Content-Security-Policy") == [POLICY]


def test_a_form_of_another_kind(show: Show) -> None:
    """What is no form, or too long, does no harm."""
    assert show(method="POST", data=b"\xff\xfe", content_type="text/plain").status_code == 200
    assert show(method="POST", data={"text": "nginx\n" * 50_000}).status_code == 413
    assert show("/", query_string={"text": "x" * 60_000}).status_code == 200


def test_choosing_a_language(show: Show) -> None:
    """A choice is remembered by a cookie that scripts cannot read; nothing else sets one."""
    answer = show("/?lang=ko", headers={"Accept-Language": "zh"})
    assert '<html lang="ko"' in answer.text
    (cookie,) = answer.headers.getlist("Set-Cookie")
    assert cookie.startswith("lang=ko; ")
    for attribute in ("Secure", "HttpOnly", "Path=/", "SameSite=Lax"):
        assert attribute in cookie.split("; ")
    assert "Secure" not in show("/?lang=ko", base_url="http://proxy.example").headers["Set-Cookie"]
    assert "Set-Cookie" not in show("/?lang=xx").headers
    assert '<html lang="zh-Hans"' in show(headers={"Accept-Language": "zh-TW"}).text
    assert '<html lang="zh-Hans"' in show(headers={"Cookie": "lang=zh"}).text


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_proxy_in_every_language(app: Flask, show: Show, code: str) -> None:
    """Whatever the table is, each client that is named has what one needs, with unique ids."""
    for name in ALL:
        proxy = ALL[name]
        Services(
            registries=proxy.registries,
            sources={},
            forwarded=ForwardedHeaders(
                trusted="", public_url=proxy.url, hosts=proxy.registries.hosts
            ),
            write_timeout=60,
        ).install(app)
        answer = show(f"/?lang={code}", base_url=proxy.url)
        assert answer.status_code == 200, name
        found = [str(has["id"]) for _, has in Elements(answer.text).found if "id" in has]
        assert sorted(found) == sorted(set(found)), name
        for client in CLIENTS.values():
            shown = [step for step in build_steps(client, proxy) if step.content]
            assert shown, client.name
            assert all(f'id="client-{client.name}"' in answer.text for _ in shown), name
            for step in shown:
                assert str(mark_own_addresses(step.content, proxy)) in answer.text, name


def test_below_a_path(app: Flask, show: Show) -> None:
    """Where the proxy is below a path of another site, nothing of the page leads out of it."""
    Services(
        registries=BELOW.registries,
        sources={},
        forwarded=ForwardedHeaders(trusted="", public_url=BELOW.url),
        write_timeout=60,
    ).install(app)
    answer = show("/?lang=ko")
    assert 'data-root="/docxy/"' in answer.text
    addresses = [
        address
        for _, attributes in Elements(answer.text).found
        for name in ("href", "src", "action")
        if (address := attributes.get(name))
    ]
    assert len(addresses) > 20
    assert all(address.startswith(("/docxy/", "#")) for address in addresses)
    assert "Path=/docxy/;" in answer.headers["Set-Cookie"]


def test_figures_are_for_some(show: Show) -> None:
    """Whoever may not see figures is told the registries and their names, and no more."""
    answer = show(environ_overrides={"REMOTE_ADDR": "203.0.113.9"})
    assert 'id="figures"' not in answer.text
    assert "figures.js" not in answer.text
    assert "/metrics" not in answer.text
    assert answer.text.count(f"<code>{GHCR_HOST}/owner/app</code>") == 1


def test_states_in_the_head(app: Flask, show: Show) -> None:
    """Whoever may see figures is told at once which registries answer, and where pulls are left."""
    told = {**REGISTRY, "reachable": False, "rate_limits": []}
    figures = Fixed(FIGURES | {"registries": [REGISTRY, {**told, "name": "ghcr.io"}]})
    replace(app.extensions["docxy"], figures=figures, figures_networks=Networks("*")).install(app)
    chips = show().text.partition('class="chips"')[2].partition("</ul>")[0]
    assert 'data-registry="docker.io" data-state="answers"' in chips
    assert 'data-registry="ghcr.io" data-state="silent"' in chips
    assert '<span class="unseen" data-chip="says">Unreachable</span>' in chips
    assert '<span data-chip="pulls">42 of 100 pulls left</span>' in chips
    # No figures of it yet.
    assert "<li>quay.io" in chips


def test_the_login_of_users(app: Flask, show: Show) -> None:
    """Whose login it is stands there, and nothing where there is none."""
    assert "For private images of the default registry" in show().text
    with app.app_context():
        room = get_services()
    users = SharedSecret("s" * 16)
    guard = Guard(LoginChecker(users), TokenIssuer(b"k" * 32, users))
    replace(room, guard=guard).install(app)
    told = show().text
    assert "This proxy requires a login" in told
    assert "To log in here: <code>docker login proxy.example</code>" in told
    assert "For private images" not in told
    managed = [replace(row, managed=True) for row in room.registries.rows]
    replace(room, registries=Registries(managed)).install(app)
    assert "docker login" not in show().text
