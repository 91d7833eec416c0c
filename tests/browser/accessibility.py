"""What axe-core finds on a page: the rules of WCAG 2.2 up to AA, and its own best practices."""

import functools
import json
from importlib import resources
from typing import Any

from playwright.sync_api import Page

_OPTIONS = {
    "resultTypes": ["violations"],
    "runOnly": [
        "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice",
    ],
}  # fmt: skip


def violations(page: Page) -> list[str]:
    """Return each violation with the places where it is."""
    page.evaluate(_axe())
    found: dict[str, Any] = page.evaluate(f"axe.run({json.dumps(_OPTIONS)})")
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    wide: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wide


@functools.cache
def _axe() -> str:
    # The package carries axe-core as a file, so that no test needs node.
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
