"""The figures as text, as the page first shows them; its script then updates them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.web.languages import Language

# Formatting of bytes and seconds; assets/figures.js must format them in the same way.

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND: Final = 1000
_MAX_WITH_DECIMAL: Final = 9.95
"""Sizes of a kilobyte or more have one decimal place if the number is below this."""
_MINUTE, _HOUR = 60, 3600


def format_size(count: float) -> str:
    """Return a number of bytes in a decimal unit with few digits: `9.5 MB`, `120 MB`."""
    unit = 0
    while count >= _THOUSAND - 0.5 and unit < len(_UNITS) - 1:
        count /= _THOUSAND
        unit += 1
    digits = 1 if unit and count < _MAX_WITH_DECIMAL else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def format_number(count: float) -> str:
    """Return a rounded number with commas between thousands, as all languages here use."""
    return f"{count:,.0f}"


def round_duration(seconds: float) -> tuple[str, int]:
    """Return a duration as the key of its unit (`seconds`, `minutes`, `hours`) and a rounded count.

    Less than two minutes are given in seconds, less than two hours in minutes.
    """
    if seconds < 2 * _MINUTE:
        return "seconds", round(seconds)
    if seconds < 2 * _HOUR:
        return "minutes", round(seconds / _MINUTE)
    return "hours", round(seconds / _HOUR)


MOST_DOWNLOADS: Final = 8
"""The downloads that the page lists; it counts the rest, to leave room for the other figures."""

_TOTALS: Final = {
    "requests": ("total_requests", format_number),
    "bytes_sent": ("total_down", format_size),
    "bytes_received": ("total_up", format_size),
    "retries": ("total_retries", format_number),
    "resumes": ("total_resumes", format_number),
    "pulls_spent": ("total_spent", format_number),
    "pulls_saved": ("total_saved", format_number),
}
_CACHE_RESULTS: Final = ("hits", "revalidated", "collapsed", "stale")
_TRANSLATED_FAULTS: Final = frozenset(
    {"no_space", "min_free", "max_size", "read_only", "permission"}
)
"""Cache faults with their own text; the others are disk errors, which the log describes."""
_DIGITS: Final = 12
"""The characters of a digest that the page shows, as many as Docker does."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure: the key by which the script finds it, its label, and its formatted amount."""

    key: str
    label: str
    amount: str


@dataclass(frozen=True, slots=True)
class Readout:
    """A snapshot of the figures, formatted in one language."""

    snapshot: Mapping[str, Any]
    language: Language

    @property
    def totals(self) -> list[Fact]:
        """The totals since this proxy started."""
        totals = self.snapshot["totals"]
        return [
            Fact(name, self._translate(key), write(totals[name]))
            for name, (key, write) in _TOTALS.items()
        ]

    @property
    def cache(self) -> list[Fact]:
        """The cache's size, entries and hit ratio; empty if there is no cache."""
        figures = self.snapshot["cache"]
        if figures is None:
            return []
        from_cache = sum(figures[result] for result in _CACHE_RESULTS)
        requests = from_cache + figures["misses"]
        size = format_size(figures["size"])
        if figures["max_size"] is not None:
            size = self._translate("of", sent=size, total=format_size(figures["max_size"]))
        amounts = {
            "kept": size,
            "entries": format_number(figures["entries"]),
            "share": f"{from_cache / requests:.0%}" if requests else "-",
            "saved": format_size(figures["bytes_saved"]),
            "evictions": format_number(figures["evictions"]),
            "fetches": format_number(figures["fetch_connections"]),
        }
        return [Fact(key, self._translate(key), amount) for key, amount in amounts.items()]

    @property
    def fault(self) -> str:
        """Why the cache stores nothing, or "" if it works or there is no cache."""
        figures = self.snapshot["cache"]
        if figures is None or not figures["error"]:
            return ""
        return self._translate(
            f"fault_{figures['error']}" if figures["error"] in _TRANSLATED_FAULTS else "fault_io",
            free=format_size(figures["free"]),
            least=format_size(figures["min_free"]),
        )

    @property
    def registries(self) -> list[dict[str, Any]]:
        """Each registry with its state and the pulls that remain (its rate limits)."""
        return [self._build_registry(registry) for registry in self.snapshot["registries"]]

    @property
    def downloads(self) -> list[dict[str, Any]]:
        """The first MOST_DOWNLOADS of the downloads in progress."""
        return [
            self._build_download(download)
            for download in self.snapshot["downloads"][:MOST_DOWNLOADS]
        ]

    @property
    def more(self) -> str:
        """The number of downloads that are not listed, as a sentence; "" if all are."""
        count = len(self.snapshot["downloads"]) - MOST_DOWNLOADS
        return self._translate("more", count=format_number(count)) if count > 0 else ""

    def _build_registry(self, registry: Mapping[str, Any]) -> dict[str, Any]:
        state = {True: "answers", False: "silent", None: "unknown"}[registry["reachable"]]
        if registry["circuit_open"]:
            state = "alone"
        seconds_ago = registry["seconds_ago"]
        budgets = select_scarcest(registry["rate_limits"])
        return {
            "name": registry["name"],
            "default": registry["default"],
            "state": state,
            "says": self._translate(state),
            "heard": ""
            if seconds_ago is None
            else self._translate("heard", time=self._format_duration(seconds_ago)),
            "pulls": self._format_pulls_left("chip_pulls", budgets[0]) if budgets else "",
            "budgets": [self._build_budget(budget) for budget in budgets],
        }

    def _build_budget(self, budget: Mapping[str, Any]) -> dict[str, Any]:
        owner_key = "account" if budget["kind"] == "account" else "anonymous"
        name = budget["identity"].partition("-")[2]
        age = self._translate("heard", time=self._format_duration(budget["seconds_ago"]))
        return {
            "says": self._format_pulls_left("window", budget),
            "whose": f"{self._translate(owner_key, name=name)} · {age}",
            "remaining": budget["remaining"],
            "limit": budget["limit"],
            "low": budget["low"],
        }

    def _format_pulls_left(self, key: str, budget: Mapping[str, Any]) -> str:
        return self._translate(
            key,
            remaining=format_number(budget["remaining"]),
            limit=format_number(budget["limit"]),
            time=self._format_duration(budget["window"]),
        )

    def _build_download(self, download: Mapping[str, Any]) -> dict[str, Any]:
        sent, total = format_size(download["bytes"]), download["total"]
        progress = (
            sent if total is None else self._translate("of", sent=sent, total=format_size(total))
        )
        parts = [progress, self._translate(download["cache"]) if download["cache"] else ""]
        return {
            "name": f"{download['registry']}/{download['repository']}",
            "reference": shorten_reference(download["reference"]),
            "bytes": download["bytes"],
            "total": total,
            "says": " · ".join(part for part in parts if part),
        }

    def _format_duration(self, seconds: float) -> str:
        unit, count = round_duration(seconds)
        return self._translate(unit, count=count)

    def _translate(self, key: str, **values: object) -> str:
        return self.language.texts[f"figures.{key}"].format(**values)


def select_scarcest(budgets: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the four budgets with the smallest share of pulls left, the smallest first."""
    return sorted(budgets, key=lambda budget: budget["remaining"] / max(budget["limit"], 1))[:4]


def shorten_reference(reference: str) -> str:
    """Return a tag unchanged, or a digest shortened to its first 12 hex digits."""
    algorithm, colon, digits = reference.partition(":")
    return f"{algorithm}:{digits[:_DIGITS]}" if colon else reference
