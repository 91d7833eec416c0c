"""One Chromium for all tests of the page in a process, and a visitor for each test."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests import programs
from tests.browser.visiting import Visitor

_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    # Nothing but this machine can be reached, whatever a page or Chromium itself asks for.
    "--proxy-server=http://127.0.0.1:1",
    "--proxy-bypass-list=127.0.0.1;[::1];localhost",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Return Debian's Chromium; Playwright's own is never downloaded."""
    programs.require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=programs.path("chromium"),
            args=_ARGUMENTS,
            # Its sandbox needs a user who is not root.
            chromium_sandbox=os.geteuid() != 0,
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visitor]:
    """Open pages; the test fails on a console error, a failed request or one to elsewhere."""
    visitor = Visitor(chromium)
    yield visitor
    assert visitor.close() == []
