"""A visitor of the page: each look is watched, and what no visitor should meet is a fault."""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

Scheme = Literal["light", "dark"]

_PHONE = 640
"""CSS pixels below which a screen is taken for one that is touched."""


@dataclass
class Visitor:
    """Opens pages in one browser, each with an empty memory, and keeps what went wrong there."""

    browser: Browser
    faults: list[str] = field(default_factory=list)
    _contexts: list[BrowserContext] = field(default_factory=list)
    _expected: list[re.Pattern[str]] = field(default_factory=list)

    def __call__(  # noqa: PLR0913 - each one has a default
        self,
        url: str,
        *,
        language: str = "en-US",
        scheme: Scheme = "light",
        width: int = 1280,
        scripts: Literal["run", "off"] = "run",
        permissions: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> Page:
        """Open a page and return it when all that belongs to it is there."""
        context = self.browser.new_context(
            locale=language,
            color_scheme=scheme,
            viewport={"width": width, "height": 800},
            has_touch=width < _PHONE,
            java_script_enabled=scripts == "run",
            reduced_motion="reduce",
            extra_http_headers=headers,
        )
        context.set_default_timeout(10_000)
        context.grant_permissions([*permissions])
        self._contexts.append(context)
        page = context.new_page()
        self.watch(page)
        page.goto(url)
        return page

    def watch(self, page: Page) -> None:
        """Note what goes wrong on a page from now on."""
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._asked)
        page.on("requestfailed", self._failed)

    def expect(self, pattern: str) -> None:
        """Let such a fault pass, for a test that makes it happen."""
        self._expected.append(re.compile(pattern))

    def close(self) -> list[str]:
        """Leave all pages; return the faults that nobody expected."""
        for context in self._contexts:
            context.close()
        return [
            fault for fault in self.faults if not any(one.search(fault) for one in self._expected)
        ]

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _asked(self, request: Request) -> None:
        address, page = urlsplit(request.url), urlsplit(request.frame.page.url)
        if request.is_navigation_request() or address.scheme in {"data", "blob"}:
            return
        if (address.scheme, address.netloc) != (page.scheme, page.netloc):
            self.faults.append(f"another origin: {request.url}")

    def _failed(self, request: Request) -> None:
        # What is under way when a page is left ends so.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"failed: {request.url} {request.failure}")
