"""The page in a browser: what one types, copies and chooses, with scripts and without."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from playwright.sync_api import Page, expect

from app.web.clients import CLIENTS
from tests import programs
from tests.browser.accessibility import overflow, violations
from tests.browser.visiting import Scheme, Visitor
from tests.hub.hub import Hub
from tests.pairs import pairs
from tests.servers import Docxy, docxy

pytestmark = pytest.mark.integration

UNSEEN = {"DOCXY_FIGURES_NETWORKS": "192.0.2.1"}
CLIPBOARD = ("clipboard-read", "clipboard-write")

REWRITTEN = [
    ("nginx", "{host}/nginx", "Image names that were rewritten: 1."),
    ("ghcr.io/owner/app:1", "{host}/ghcr.io/owner/app:1", "Image names that were rewritten: 1."),
    ("docker pull nginx:1.27", "docker pull {host}/nginx:1.27", "rewritten: 1."),
    ("FROM golang AS build\nFROM build", "FROM {host}/golang AS build\nFROM build", "rewritten: 1"),
    (
        "services:\n  a:\n    image: nginx\n  b:\n    image: $B\n",
        "services:\n  a:\n    image: {host}/nginx\n  b:\n    image: $B\n",
        "the image depends on the value of a variable.",
    ),
    ("<b>bold</b> & nothing", "<b>bold</b> & nothing", "This text contains no image name."),
    ("{host}/nginx", "{host}/nginx", "it already uses this proxy."),
    ("docker pull quay.io/a/b", "docker pull quay.io/a/b", "does not serve its registry."),
]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def site(hub: Hub) -> Iterator[Docxy]:
    """Return a Docxy that serves a hub and ghcr.io, and shows its figures to nobody."""
    with docxy(**hub.settings, **UNSEEN, DOCXY_WELL_KNOWN="ghcr.io") as proxy:
        yield proxy


def clipboard(page: Page) -> str:
    """Return what is in the clipboard."""
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def lines(text: str) -> str:
    """Return a text without the end of its last line, which a browser does not show."""
    return text.rstrip("\n")


def test_rewriting_while_one_types(site: Docxy, visit: Visitor) -> None:
    """What comes out is what the proxy says of each text, and it is told what was left and why."""
    page = visit(site.url)
    shown, told = page.locator("#rewritten"), page.locator("#rewriting")
    for typed, rewritten, note in REWRITTEN:
        page.get_by_label("Original").fill(typed.replace("{host}", site.host))
        expect(told).to_contain_text(note)
        expect(shown).to_have_text(rewritten.replace("{host}", site.host))
        assert lines(shown.inner_text()) == lines(rewritten.replace("{host}", site.host))
    page.get_by_label("Original").fill("")
    expect(told).to_be_hidden()
    assert shown.inner_text() == ""


def test_rewriting_a_long_text(site: Docxy, visit: Visitor) -> None:
    """What is too long is refused in words."""
    visit.expect("413")
    page = visit(site.url)
    page.get_by_label("Original").fill("n" * 70_000)
    expect(page.locator("#rewriting")).to_contain_text("too long")


def test_rewriting_without_scripts(site: Docxy, visit: Visitor) -> None:
    """The same, by a form that the server answers."""
    page = visit(site.url, scripts="off")
    for typed, rewritten, note in REWRITTEN:
        page.locator("#typed").fill(typed.replace("{host}", site.host))
        page.get_by_role("button", name="Rewrite").click()
        assert lines(page.locator("#rewritten").inner_text()) == lines(
            rewritten.replace("{host}", site.host)
        )
        assert note in page.locator("#rewriting").inner_text()
        assert page.locator("#typed").input_value() == typed.replace("{host}", site.host)


def test_examples(site: Docxy, visit: Visitor) -> None:
    """They fill the box at once, and are links where no script runs."""
    page = visit(site.url)
    expect(page.locator("#rewritten mark")).to_have_count(2)
    page.get_by_role("link", name="compose.yaml").click()
    expect(page.locator("#rewriting li")).to_have_count(1)
    expect(page.locator("#rewritten")).to_contain_text(f"image: {site.host}/nginx:alpine")
    plain = visit(site.url, scripts="off")
    plain.get_by_role("link", name="compose.yaml").click()
    assert plain.locator("#rewritten").inner_text() == page.locator("#rewritten").inner_text()


def test_tabs_by_keyboard(site: Docxy, visit: Visitor) -> None:
    """One tab stop; arrows, Home and End choose, and the address tells what is shown."""
    page = visit(site.url)
    tabs = page.get_by_role("tab")
    assert tabs.count() == len(CLIENTS)
    tabs.first.focus()
    for key, name in [
        ("ArrowDown", "podman"),
        ("ArrowRight", "containerd"),
        ("ArrowUp", "podman"),
        ("Home", "docker"),
        ("ArrowLeft", "gitlab-ci"),
        ("ArrowDown", "docker"),
        ("End", "gitlab-ci"),
    ]:
        page.keyboard.press(key)
        expect(page.locator(f"#tab-{name}")).to_be_focused()
        expect(page.locator(f"#tab-{name}")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tabpanel")).to_have_count(1)
        expect(page.locator(f"#client-{name}")).to_be_visible()
        assert page.url.endswith(f"#client-{name}")
    assert page.locator(".tabs [tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    expect(page.locator("#client-gitlab-ci .copy").first).to_be_focused()


def test_a_link_to_a_client(site: Docxy, visit: Visitor) -> None:
    """Its address shows its tab, also while the page is open."""
    page = visit(f"{site.url}/#client-k3s")
    expect(page.get_by_role("tab", name="k3s")).to_have_attribute("aria-selected", "true")
    page.evaluate("location.hash = '#client-talos'")
    expect(page.locator("#client-talos")).to_be_visible()
    expect(page.locator("#client-k3s")).to_be_hidden()


def test_without_scripts(site: Docxy, visit: Visitor) -> None:
    """All clients are there, one below the other, and nothing that would do nothing."""
    page = visit(site.url, width=360, scripts="off")
    for name in CLIENTS:
        assert page.locator(f"#client-{name}").is_visible(), name
    for gone in (".copy", ".theme", ".find"):
        assert not [one for one in page.locator(gone).all() if one.is_visible()], gone
    assert "docker search" in page.locator("#search").inner_text()
    assert overflow(page) == 0


def test_copying(site: Docxy, visit: Visitor) -> None:
    """What is copied of a client's file is the file."""
    page = visit(site.url, permissions=CLIPBOARD)
    for name, client in CLIENTS.items():
        page.locator(f"#tab-{name}").click()
        button = page.get_by_role("tabpanel").locator(".copy").first
        button.click()
        expect(button).to_have_text("Copied")
        told = page.request.get(f"{site.url}/config/{name}").text()
        assert clipboard(page) == lines(told).removeprefix(f"# {client.path}\n")


def test_copying_by_keyboard(site: Docxy, visit: Visitor) -> None:
    """A button is pressed as any other, keeps the focus, and is heard of."""
    page = visit(site.url, permissions=CLIPBOARD)
    button = page.get_by_role("button", name="Copy: Address")
    button.press("Enter")
    expect(page.locator("#told")).to_have_text("Copied")
    expect(button).to_be_focused()
    assert clipboard(page) == site.url
    # It says again what it does, after a while.
    expect(button).to_have_text("Copy")


def test_copying_where_browsers_keep_the_clipboard(site: Docxy, visit: Visitor) -> None:
    """A page that comes over http from elsewhere has no navigator.clipboard."""
    page = visit("about:blank", permissions=CLIPBOARD)
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.goto(site.url)
    page.get_by_role("button", name="Copy: Address").click()
    expect(page.get_by_role("button", name="Copy: Address")).to_have_text("Copied")
    words = page.locator("#words")
    words.focus()
    page.keyboard.press("Control+v")
    expect(words).to_have_value(site.url)


def test_copying_that_is_not_allowed(site: Docxy, visit: Visitor) -> None:
    """Where it fails, the button says so."""
    page = visit("about:blank")
    page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error())")
    page.goto(site.url)
    button = page.get_by_role("button", name="Copy: Address")
    button.click()
    expect(button).to_have_text("Select and copy")


@pytest.mark.parametrize(
    ("language", "tag", "title"),
    [
        ("en-GB", "en", "Set up a client"),
        ("ko-KR", "ko", "클라이언트 설정"),
        ("zh-CN", "zh-Hans", "配置客户端"),
        ("de-DE", "en", "Set up a client"),
    ],
)
def test_languages(site: Docxy, visit: Visitor, language: str, tag: str, title: str) -> None:
    """The page is in the browser's language, in English where there is none, without a cookie."""
    page = visit(site.url, language=language)
    assert page.locator("html").get_attribute("lang") == tag
    assert page.locator("#setup-title").inner_text() == title
    assert page.context.cookies() == []


def test_choosing_a_language(site: Docxy, visit: Visitor) -> None:
    """A choice is remembered, scripts speak it too, and another one takes its place."""
    page = visit(site.url, language="en-US")
    page.get_by_role("link", name="한국어").click()
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    page.goto(site.url)
    expect(page.get_by_role("link", name="한국어")).to_have_attribute("aria-current", "true")
    page.locator("#typed").fill("quay.io/a/b")
    expect(page.locator("#rewriting")).to_contain_text("제공하지 않는 레지스트리")
    page.get_by_role("link", name="简体中文").click()
    page.goto(site.url)
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["value"]) == ("lang", "zh")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes(site: Docxy, visit: Visitor, scheme: Scheme) -> None:
    """The system's theme, unless the visitor chooses one; that one stays until it is taken back."""
    other = {"light": "dark", "dark": "light"}[scheme]
    page = visit(site.url, scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    first = page.evaluate(background)
    page.get_by_role("radio", name=other.title()).check()
    assert page.evaluate(background) != first
    page.reload()
    expect(page.get_by_role("radio", name=other.title())).to_be_checked()
    second = page.evaluate(background)
    assert second != first
    page.keyboard.press("Tab")
    page.get_by_role("radio", name=other.title()).focus()
    page.get_by_role("radio", name="As the system").check()
    assert page.evaluate(background) == first
    page.reload()
    assert page.evaluate(background) == first


def test_on_paper(site: Docxy, visit: Visitor) -> None:
    """It is dark on white, all of a file is there, and nothing that one can only press."""
    page = visit(site.url)
    page.get_by_role("radio", name="Dark").check()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for pressed in (".copy", ".tabs", ".theme", ".find"):
        expect(page.locator(pressed).first).to_be_hidden()
    expect(page.locator("#code-docker-1")).to_be_visible()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.block pre')).maxHeight") == "none"
    )


def test_searching(site: Docxy, visit: Visitor) -> None:
    """Docker Hub is searched; what it says of an image is text; tags come by a button."""
    page = visit(site.url, permissions=CLIPBOARD)
    page.get_by_label("Search words, or an image name").fill("nginx")
    page.keyboard.press("Enter")
    expect(page.locator("#found-status")).to_have_text("Results on Docker Hub: 2")
    rows = page.locator(".results > li")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("Official")
    expect(rows.nth(1)).to_contain_text("Mine & <b>bold</b>.")
    page.get_by_role("button", name="Tags of nginx").first.click()
    expect(rows.nth(0).locator("pre")).to_have_text(f"docker pull {site.host}/library/nginx:latest")
    assert violations(page) == []


def test_tags(site: Docxy, visit: Visitor) -> None:
    """The tags of an image, and the command for the one that is chosen."""
    page = visit(site.url, permissions=CLIPBOARD, width=360)
    page.get_by_label("Search words, or an image name").fill("alpine")
    page.get_by_role("button", name="Tags", exact=True).click()
    expect(page.locator("#found-status")).to_have_text("Tags: 27")
    page.get_by_role("button", name="3.19", exact=True).click()
    page.get_by_role("button", name="Copy: Pull").click()
    expect(page.get_by_role("button", name="Copy: Pull")).to_have_text("Copied")
    assert clipboard(page) == f"docker pull {site.host}/library/alpine:3.19"
    assert overflow(page) == 0
    assert violations(page) == []
    # A name with a registry is the name of an image, whichever button is pressed.
    page.get_by_label("Search words, or an image name").fill("docker.io/owner/app:2")
    page.keyboard.press("Enter")
    expect(page.locator(".found-tags pre")).to_have_text(f"docker pull {site.host}/owner/app:1")


@pytest.mark.parametrize(
    ("words", "button", "told"),
    [
        pytest.param("nothing-like-it", "Search", "Docker Hub found no images", id="no result"),
        pytest.param("alice/private", "Tags", "does not exist, or is private", id="private"),
        pytest.param("quay.io/a/b", "Tags", "does not serve that registry", id="not served"),
        pytest.param("no name at all", "Tags", "not a valid image name", id="no name"),
    ],
)
def test_nothing_found(site: Docxy, visit: Visitor, words: str, button: str, told: str) -> None:
    """What is not found is told in words, and leaves nothing of an earlier answer."""
    visit.expect(r"console: Failed to load resource: .* 40[0-4] ")
    page = visit(site.url)
    page.get_by_label("Search words, or an image name").fill("alpine")
    page.get_by_role("button", name="Tags", exact=True).click()
    expect(page.locator(".tags")).to_be_visible()
    page.get_by_label("Search words, or an image name").fill(words)
    page.locator(".find").get_by_role("button", name=button, exact=True).click()
    expect(page.locator("#found-status")).to_contain_text(told)
    expect(page.locator(".tags")).to_have_count(0)


def test_what_a_rule_denies(visit: Visitor, hub: Hub, tmp_path: Path) -> None:
    """It is told with the rule's own words, and not as an image that is not there."""
    visit.expect(r"console: Failed to load resource: .* 403 ")
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\naction = "deny"\nrepository = "nginx"\nmessage = "Ask Jo."\n')
    with docxy(**hub.settings, **UNSEEN, DOCXY_CONFIG=str(rules)) as proxy:
        page = visit(proxy.url)
        page.get_by_label("Search words, or an image name").fill("nginx")
        page.get_by_role("button", name="Tags", exact=True).click()
        expect(page.locator("#found-status")).to_have_text("This proxy denies this image: Ask Jo.")


def test_what_wants_a_login(site: Docxy, visit: Visitor) -> None:
    """Whoever gives none where the browser asks for one is told so."""
    visit.expect(r"console: Failed to load resource: .* 401 ")
    page = visit(site.url)
    # With its challenge, a browser without a visitor would wait for ever.
    refusal = {"errors": [{"code": "UNAUTHORIZED", "message": "log in", "detail": None}]}
    page.route("**/page/tags?*", lambda route: route.fulfill(status=401, json=refusal))
    page.get_by_label("Search words, or an image name").fill("alpine")
    page.get_by_role("button", name="Tags", exact=True).click()
    expect(page.locator("#found-status")).to_have_text("This proxy requires a login for this.")


@pytest.mark.parametrize(
    ("language", "scheme", "width"),
    pairs(["en-US", "ko-KR", "zh-CN"], ["light", "dark"], [360, 1280]),
)
def test_for_everybody(
    site: Docxy, visit: Visitor, language: str, scheme: Scheme, width: int
) -> None:
    """axe-core finds nothing, nothing sticks out, and figures are for others."""
    page = visit(site.url, language=language, scheme=scheme, width=width)
    page.locator("#typed").fill("nginx\nquay.io/a/b\n")
    expect(page.locator("#rewriting li")).to_have_count(1)
    assert violations(page) == []
    assert overflow(page) == 0
    assert page.locator("#figures").count() == 0
    assert "/metrics" not in page.content()


def test_each_client_for_everybody(site: Docxy, visit: Visitor) -> None:
    """axe-core finds nothing in any of the tabs either."""
    page = visit(site.url, width=360)
    page.evaluate("document.querySelectorAll('.panel').forEach((one) => { one.hidden = false })")
    for scheme in get_args(Scheme):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
