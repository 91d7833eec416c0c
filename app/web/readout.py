"""Figures as a visitor reads them: what the page says before its script says it anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.web.languages import Language

# Bytes and seconds as people read them; assets/figures.js writes them alike.

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND: Final = 1000
_TEN: Final = 9.95
"""Below this a number has one decimal place, as there is no room for more."""
_MINUTE, _HOUR = 60, 3600


def format_size(count: float) -> str:
    """Return bytes in the unit that leaves few digits: `9.5 MB`, `120 MB`."""
    unit = 0
    while count >= _THOUSAND - 0.5 and unit < len(_UNITS) - 1:
        count /= _THOUSAND
        unit += 1
    digits = 1 if unit and count < _TEN else 0
    return f"{count:.{digits}f} {_UNITS[unit]}"


def format_number(count: float) -> str:
    """Return a whole number, grouped as English, Korean and Chinese group it."""
    return f"{count:,.0f}"


def time(seconds: float) -> tuple[str, int]:
    """Return the unit that a time has, and how many of it, rounded to the nearest."""
    if seconds < 2 * _MINUTE:
        return "seconds", round(seconds)
    if seconds < 2 * _HOUR:
        return "minutes", round(seconds / _MINUTE)
    return "hours", round(seconds / _HOUR)


MOST_DOWNLOADS: Final = 8
"""More are told by their number, or the list would push all else away."""

_TOTALS: Final = {
    "requests": ("total_requests", format_number),
    "bytes_down": ("total_down", format_size),
    "bytes_up": ("total_up", format_size),
    "retries": ("total_retries", format_number),
    "resumes": ("total_resumes", format_number),
    "pulls_spent": ("total_spent", format_number),
    "pulls_saved": ("total_saved", format_number),
}
_FROM_CACHE: Final = ("hits", "revalidated", "joined", "stale")
_TOLD: Final = frozenset({"no_space", "min_free", "max_size", "read_only", "permission"})
"""Faults of the cache that have a text of their own; any other is the disk's, and in the log."""
_DIGITS: Final = 12
"""Characters of a digest that tell it from others, as Docker shows them."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A sum: by which key the script finds it, what it is called, and how much it is."""

    key: str
    label: str
    amount: str


@dataclass(frozen=True, slots=True)
class Readout:
    """The figures of one moment in one language."""

    shown: Mapping[str, Any]
    language: Language

    @property
    def totals(self) -> list[Fact]:
        """What was counted since the start."""
        totals = self.shown["totals"]
        return [
            Fact(name, self._say(key), write(totals[name]))
            for name, (key, write) in _TOTALS.items()
        ]

    @property
    def cache(self) -> list[Fact]:
        """What the cache has and has done; nothing without one."""
        kept = self.shown["cache"]
        if kept is None:
            return []
        from_cache = sum(kept[result] for result in _FROM_CACHE)
        asked = from_cache + kept["misses"]
        size = format_size(kept["size"])
        if kept["max_size"] is not None:
            size = self._say("of", sent=size, total=format_size(kept["max_size"]))
        told = {
            "kept": size,
            "entries": format_number(kept["entries"]),
            "share": f"{from_cache / asked:.0%}" if asked else "-",
            "saved": format_size(kept["bytes_saved"]),
            "evictions": format_number(kept["evictions"]),
        }
        return [Fact(key, self._say(key), amount) for key, amount in told.items()]

    @property
    def fault(self) -> str:
        """Why the cache keeps nothing; "" if it does, or there is none."""
        kept = self.shown["cache"]
        if kept is None or not kept["fault"]:
            return ""
        return self._say(
            f"fault_{kept['fault']}" if kept["fault"] in _TOLD else "fault_io",
            free=format_size(kept["free"]),
            least=format_size(kept["min_free"]),
        )

    @property
    def registries(self) -> list[dict[str, Any]]:
        """Each registry with how it is and what may still be pulled."""
        return [self._registry(one) for one in self.shown["registries"]]

    @property
    def downloads(self) -> list[dict[str, Any]]:
        """The first of the downloads that are under way."""
        return [self._download(one) for one in self.shown["downloads"][:MOST_DOWNLOADS]]

    @property
    def more(self) -> str:
        """How many downloads there are besides."""
        count = len(self.shown["downloads"]) - MOST_DOWNLOADS
        return self._say("more", count=format_number(count)) if count > 0 else ""

    def _registry(self, one: Mapping[str, Any]) -> dict[str, Any]:
        state = {True: "answers", False: "silent", None: "unknown"}[one["reachable"]]
        if one["left_alone"]:
            state = "alone"
        ago = one["seconds_ago"]
        budgets = scarce(one["budgets"])
        return {
            "name": one["name"],
            "default": one["default"],
            "state": state,
            "says": self._say(state),
            "heard": "" if ago is None else self._say("heard", time=self._time(ago)),
            "pulls": self._left("chip_pulls", budgets[0]) if budgets else "",
            "budgets": [self._budget(budget) for budget in budgets],
        }

    def _budget(self, budget: Mapping[str, Any]) -> dict[str, Any]:
        whose = "account" if budget["kind"] == "account" else "anonymous"
        name = budget["identity"].partition("-")[2]
        told = self._say("heard", time=self._time(budget["seconds_ago"]))
        return {
            "says": self._left("window", budget),
            "whose": f"{self._say(whose, name=name)} · {told}",
            "remaining": budget["remaining"],
            "limit": budget["limit"],
            "low": budget["low"],
        }

    def _left(self, key: str, budget: Mapping[str, Any]) -> str:
        return self._say(
            key,
            remaining=format_number(budget["remaining"]),
            limit=format_number(budget["limit"]),
            time=self._time(budget["window"]),
        )

    def _download(self, one: Mapping[str, Any]) -> dict[str, Any]:
        sent, total = format_size(one["bytes"]), one["total"]
        progress = sent if total is None else self._say("of", sent=sent, total=format_size(total))
        parts = [progress, self._say(one["cache"]) if one["cache"] else ""]
        return {
            "name": f"{one['registry']}/{one['repository']}",
            "reference": short(one["reference"]),
            "bytes": one["bytes"],
            "total": total,
            "says": " · ".join(part for part in parts if part),
        }

    def _time(self, seconds: float) -> str:
        unit, count = time(seconds)
        return self._say(unit, count=count)

    def _say(self, key: str, **values: object) -> str:
        return self.language.texts[f"figures.{key}"].format(**values)


def scarce(budgets: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the few identities that have the smallest part of their pulls left."""
    return sorted(budgets, key=lambda one: one["remaining"] / max(one["limit"], 1))[:4]


def short(reference: str) -> str:
    """Return a reference as people recognise it: a tag, or the beginning of a digest."""
    algorithm, colon, digits = reference.partition(":")
    return f"{algorithm}:{digits[:_DIGITS]}" if colon else reference
