"""The live figures, while a real Docxy of two workers serves real pulls."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from tests import programs
from tests.browser.accessibility import overflow, violations
from tests.browser.visiting import Scheme, Visitor
from tests.hub.content import multi_arch
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import OCI_KIND, OCI_MANIFEST
from tests.pairs import pairs
from tests.servers import Docxy, docxy, wait_until

pytestmark = pytest.mark.integration

NAME = "library/large"
SIZE = 3_000_000
LANGUAGES = {"en-US": "Status", "ko-KR": "상태", "zh-CN": "状态"}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    programs.require("docker-registry")
    with Hub() as hub:
        hub.push(NAME, multi_arch(NAME, OCI_KIND, SIZE), ["1"])
        yield hub


@pytest.fixture(scope="module")
def proxy(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docxy]:
    """Return a Docxy that has a cache, and that somebody has pulled through."""
    settings = hub.settings | {
        "DOCXY_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "DOCXY_CACHE_MAX_SIZE": "50GB",
        "DOCXY_CACHE_MIN_FREE": "1MB",
        "DOCXY_CREDENTIALS": "managed",
        # A registry that is away is noticed in the time of a test.
        "DOCXY_RETRY_BUDGET": "0.5",
        "FORWARDED_ALLOW_IPS": "127.0.0.1",
    }
    with docxy(**settings) as proxy:
        for _ in range(2):
            answer = requests.get(f"{proxy.url}/v2/library/nginx/manifests/latest", timeout=30)
            assert answer.status_code == 200
        yield proxy


def layers(hub: Hub) -> list[str]:
    """Return the digests of the two large blobs."""
    blobs = hub.image(NAME, "1").all_blobs.values()
    return [blob.digest for blob in blobs if blob.size > SIZE // 2]


@contextmanager
def downloading(proxy: Docxy, digest: str) -> Iterator[threading.Thread]:
    """Download a blob meanwhile, to its end."""

    def download() -> None:
        requests.get(f"{proxy.url}/v2/{NAME}/blobs/{digest}", timeout=60)

    thread = threading.Thread(target=download)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


def bar(page: Page) -> float:
    """Return how far the only download is, in bytes; 0 where there is none."""
    bars = page.locator(".figures-download progress")
    value: float = bars.evaluate_all("bars => bars.length ? bars[0].value : 0")
    return value


def bytes_shown(page: Page, fact: str) -> str:
    return page.locator(f'[data-fact="{fact}"]').inner_text()


def test_a_pull_is_seen(visit: Visitor, hub: Hub, proxy: Docxy) -> None:
    """Its bar appears, moves and goes, and plots and sums rise, with nobody touching the page."""
    page = visit(proxy.url)
    expect(page.locator("#figures[data-state=live]")).to_be_visible()
    expect(page.get_by_text("No downloads are running.")).to_be_visible()
    before = bytes_shown(page, "bytes_sent")
    plot = page.locator('[data-plot="down"] polyline')
    drawn = plot.get_attribute("points")
    with Gate() as gate:
        hub.fail(part="cdn", gate=gate, hold_after=400_000, bytes_per_second=1_500_000)
        with downloading(proxy, layers(hub)[0]):
            shown = page.locator(".figures-download")
            expect(shown).to_have_count(1)
            expect(shown).to_contain_text(f"docker.io/{NAME}")
            wait_until(lambda: bar(page) > 300_000, what="the first bytes")
            first = bar(page)
            expect(shown).to_contain_text(re.compile(r"kB of 3\.0 MB · .+/s · \d+ s left · from"))
            gate.open()
            wait_until(lambda: shown.count() == 0 or bar(page) > first, what="more bytes")
        expect(shown).to_have_count(0)
    expect(page.get_by_text("No downloads are running.")).to_be_visible()
    assert bytes_shown(page, "bytes_sent") != before
    assert plot.get_attribute("points") != drawn
    # A name is not told anew each second.
    expect(page.locator('[data-plot="down"] svg')).to_have_attribute("aria-label", re.compile("To"))


def status(proxy: Docxy) -> int:
    """Ask for what is not kept, and return how it is answered."""
    url = f"{proxy.url}/v2/owner/app/manifests/1"
    return requests.head(url, headers={"Accept": OCI_MANIFEST}, timeout=30).status_code


def test_a_registry_that_is_away(visit: Visitor, hub: Hub, proxy: Docxy) -> None:
    """It is shown so, here and in the head of the page, and again when it is back."""
    page = visit(proxy.url)
    chip = page.locator('.chips [data-registry="docker.io"]')
    expect(chip).to_contain_text(re.compile(r"9\d of 100 pulls left"))
    row = page.locator("tr", has_text="docker.io")
    expect(row).to_contain_text("Reachable")
    expect(row).to_contain_text(re.compile(r"9\d of 100 per 6 h"))
    with hub.away("registry"):
        assert status(proxy) >= 500
        expect(row).to_contain_text("Unreachable")
        expect(chip).to_have_attribute("data-state", "silent")
    wait_until(lambda: status(proxy) == 200, what="the registry")
    expect(row).to_contain_text("Reachable")
    expect(chip).to_have_attribute("data-state", "answers")


def test_a_visitor_pauses(visit: Visitor, proxy: Docxy) -> None:
    """What moves can be stopped, and nothing is asked until it goes on."""
    page = visit(proxy.url)
    status = page.get_by_role("status").filter(has_text="Live")
    expect(status).to_be_visible()
    page.get_by_role("button", name="Pause").press("Enter")
    expect(page.locator("#figures")).to_contain_text("Paused")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    # Longer than the longest time between two questions.
    page.wait_for_timeout(2500)
    assert asked == []
    with page.expect_response(lambda response: response.url.endswith("/figures")):
        page.get_by_role("button", name="Resume").press("Enter")
    expect(status).to_be_visible()


def test_the_proxy_is_away(visit: Visitor, proxy: Docxy) -> None:
    """It is said, and asked again later each time, until there is an answer."""
    visit.expect(r"^(failed|console): .*(ERR_CONNECTION_REFUSED|502)")
    page = visit(proxy.url)
    expect(page.locator("#figures[data-state=live]")).to_be_visible()
    page.route("**/figures", lambda route: route.fulfill(status=502))
    expect(page.locator("#figures")).to_contain_text("No answer. Trying again in 2 s.")
    expect(page.locator("#figures")).to_contain_text("No answer. Trying again in 4 s.")
    page.unroute("**/figures")
    # Whoever does not want to wait need not.
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#figures[data-state=live]")).to_be_visible()


def test_the_script_says_what_the_server_said(visit: Visitor, proxy: Docxy) -> None:
    """Both write the same words, but for the plots and for the time; looking counts for nothing."""

    def said(page: Page) -> list[str]:
        return page.locator("#figures table, #figures dl").all_inner_texts()

    def settled(texts: list[str]) -> list[str]:
        return [re.sub(r"\d+ s ago", "...", text) for text in texts]

    plain = visit(proxy.url, scripts="off")
    expect(plain.locator(".figures-plots")).to_be_hidden()
    expect(plain.get_by_role("button", name="Pause")).to_be_hidden()
    live = visit(proxy.url)
    expect(live.locator("#figures[data-state=live]")).to_be_visible()
    assert settled(said(live)) == settled(said(plain))


@pytest.fixture(scope="module")
def useless(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docxy]:
    """Return a Docxy whose cache can keep nothing: no disk has so much room."""
    settings = {
        "DOCXY_CACHE_DIR": str(tmp_path_factory.mktemp("useless")),
        "DOCXY_CACHE_MIN_FREE": "900TB",
    }
    with docxy(**hub.settings | settings) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("language", "scheme"), [("en-US", "light"), ("ko-KR", "dark"), ("zh-CN", "light")]
)
def test_a_cache_that_keeps_nothing(
    visit: Visitor, useless: Docxy, language: str, scheme: Scheme
) -> None:
    """The page says so in red, and how much room there is and would have to be."""
    page = visit(useless.url, language=language, scheme=scheme)
    expect(page.locator("#figures[data-state=live]")).to_be_visible()
    told = page.get_by_role("alert")
    expect(told).to_contain_text("900 TB")
    assert color(told) == color(told, "var(--bad)")
    assert violations(page) == []


def test_a_cache_that_keeps_nothing_without_scripts(visit: Visitor, useless: Docxy) -> None:
    """It is told all the same."""
    page = visit(useless.url, scripts="off")
    expect(page.get_by_role("alert")).to_contain_text("900 TB")


def test_a_cache_that_keeps(visit: Visitor, proxy: Docxy) -> None:
    """Nothing is said then."""
    page = visit(proxy.url)
    expect(page.locator("#figures[data-state=live]")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def color(place: Locator, written: str = "") -> str:
    """Return the colour of a text as it is, or as it would be if it were written so."""
    value: str = place.evaluate(
        """(one, written) => {
            const copy = one.parentElement.appendChild(one.cloneNode(true));
            copy.style.color = written;
            const { color } = getComputedStyle(copy);
            copy.remove();
            return color;
        }""",
        written,
    )
    return value


def test_the_plots_leave_no_hole(visit: Visitor, proxy: Docxy) -> None:
    """Each row of them is full, however many fit."""
    page = visit(proxy.url)
    expect(page.locator(".figures-plots")).to_be_visible()
    for width in (360, 640, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        places = page.evaluate("""
            [...document.querySelectorAll(".figures-plots, .figures-plot")]
                .map((one) => one.getBoundingClientRect()).map(({ y, right }) => [y, right])""")
        (_, whole), *plots = places
        # The later ones of a row take the place of the earlier ones.
        for right in dict(plots).values():
            assert right == pytest.approx(whole - 1, abs=0.5), width  # the border is one pixel


def test_figures_are_kept_for_some(visit: Visitor, proxy: Docxy) -> None:
    """Nobody else is shown the section, asks for its figures, or learns who pulls what."""
    page = visit(proxy.url, headers={"X-Forwarded-For": "203.0.113.9"})
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("#figures")).to_have_count(0)
    asked = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert asked
    assert not [address for address in asked if "figures" in address]
    assert page.request.get(f"{proxy.url}/figures").status == 403


@pytest.fixture(scope="module")
def held(hub: Hub, proxy: Docxy) -> Iterator[None]:
    """Let a download hang while others look."""
    with Gate() as gate:
        hub.fail(part="cdn", gate=gate, hold_after=1_000_000)
        with downloading(proxy, layers(hub)[1]):
            try:
                yield
            finally:
                gate.open()


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(
    ("language", "width", "scheme"), pairs([*LANGUAGES], [360, 1280], get_args(Scheme))
)
def test_it_can_be_read(
    visit: Visitor, proxy: Docxy, language: str, width: int, scheme: Scheme
) -> None:
    """By everybody, says axe-core, in each language and theme, on a telephone and a desk."""
    page = visit(proxy.url, language=language, width=width, scheme=scheme)
    expect(page.get_by_role("heading", name=LANGUAGES[language], exact=True)).to_be_visible()
    expect(page.locator("#figures[data-state=live] .figures-download")).to_have_count(1)
    expect(page.locator("[data-plot] polyline")).to_have_count(6)
    assert overflow(page) <= 0
    assert violations(page) == []
