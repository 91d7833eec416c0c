"""The test of the tests: what a visitor should not meet is noticed."""

import pytest
from playwright.sync_api import Browser, Error

from tests.browser.accessibility import overflow, violations
from tests.browser.visiting import Visitor

# One process has all tests of the page: a second Chromium would only slow down the first.
pytestmark = [pytest.mark.integration, pytest.mark.rig]

ELSEWHERE = "http://192.0.2.1/picture.png"


@pytest.fixture
def visitor(chromium: Browser) -> Visitor:
    """Return one whose faults are for the test to look at."""
    return Visitor(chromium)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param("<script>console.error('broken')</script>", "console: broken", id="console"),
        pytest.param("<script>throw new Error('broken')</script>", "error: broken", id="error"),
        pytest.param(f"<img src='{ELSEWHERE}'>", f"another origin: {ELSEWHERE}", id="elsewhere"),
        pytest.param(f"<img src='{ELSEWHERE}'>", f"failed: {ELSEWHERE}", id="failed"),
    ],
)
def test_faults_are_noticed(visitor: Visitor, content: str, fault: str) -> None:
    """Each kind of them."""
    page = visitor("about:blank")
    page.set_content(content, wait_until="networkidle")
    assert [one for one in visitor.close() if one.startswith(fault)]


def test_there_is_no_way_out(visitor: Visitor) -> None:
    """No page can reach anything but this machine."""
    with pytest.raises(Error, match="ERR_PROXY_CONNECTION_FAILED"):
        visitor(ELSEWHERE)
    visitor.close()


def test_bad_pages_are_noticed(visit: Visitor) -> None:
    """What axe-core finds, and what sticks out."""
    page = visit("about:blank", width=360)
    page.set_content("<main style='width:400px'><img src='data:,'></main>")
    found = violations(page)
    assert [one for one in found if one.startswith("image-alt: ")]
    assert overflow(page) > 0
