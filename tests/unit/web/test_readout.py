"""The live section as the server renders it: each state in words, and for whom it is."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

import app.web
from app.access.networks import Networks
from app.config.settings import LOCAL_NETWORKS
from app.routes.context import Services
from app.store.errors import Fault
from app.web.languages import LANGUAGES
from app.web.readout import MOST_DOWNLOADS, Readout
from tests.unit.web.tables import USUAL

DIGEST = f"sha256:{'ab' * 32}"
BUDGET = {
    "identity": "address-1a2b3c4d", "kind": "address", "limit": 100, "remaining": 42,
    "window": 21600, "seconds_ago": 3.0, "low": False,
}  # fmt: skip
REGISTRY = {
    "name": "docker.io", "default": True, "reachable": True, "seconds_ago": 3.0,
    "circuit_open": False, "rate_limits": [BUDGET],
}  # fmt: skip
DOWNLOAD = {
    "registry": "docker.io", "repository": "library/nginx", "reference": DIGEST, "route": "blob",
    "cache": "miss", "bytes": 1_500_000, "total": 3_000_000, "seconds": 3.0,
}  # fmt: skip
CACHE = {
    "size": 5_000_000, "max_size": 50_000_000_000, "entries": 9, "hits": 2.0, "misses": 1.0,
    "stale": 0.0, "collapsed": 0.0, "revalidated": 1.0, "bytes_served": 7.0, "bytes_saved": 4e6,
    "evictions": 0.0, "fetch_connections": 3.0, "free": 3_000_000_000,
    "min_free": 5_000_000_000, "error": "",
}  # fmt: skip
FIGURES: dict[str, Any] = {
    "time": 1.0,
    "registries": [REGISTRY],
    "series": {"until": 0, "bytes_sent": [0.0] * 120},
    "totals": {
        "requests": 1200.0, "bytes_sent": 4e6, "bytes_received": 1e6,
        "retries": 0.0, "resumes": 1.0, "pulls_spent": 2.0, "pulls_saved": 7.0,
    },
    "cache": CACHE,
    "downloads": [DOWNLOAD],
}  # fmt: skip

Look = Callable[..., str]


@dataclass
class Fixed:
    """Figures that stay as they are."""

    figures: dict[str, Any] = field(default_factory=lambda: deepcopy(FIGURES))

    def format_exposition(self) -> bytes:
        """Return none."""
        return b""

    def build_summary(self) -> dict[str, Any]:
        """Return them."""
        return self.figures


def readout(**changes: Any) -> Readout:
    """Return figures with changes, in English."""
    return Readout(deepcopy(FIGURES) | changes, LANGUAGES["en"])


@pytest.fixture
def look(app: Flask, client: FlaskClient) -> Look:
    """Return what shows the page to a local client, or to one elsewhere, with its changes."""
    rooms: Services = app.extensions["docxy"]
    base = replace(
        rooms, registries=USUAL.registries, figures_networks=Networks(LOCAL_NETWORKS)
    )  # fmt: skip

    def show(peer: str = "127.0.0.1", language: str = "en", **changes: Any) -> str:
        figures = Fixed(deepcopy(FIGURES) | changes)
        replace(base, figures=figures).install(app)
        environ = {"REMOTE_ADDR": peer}
        answer = client.get("/", environ_base=environ, headers={"Accept-Language": language})
        assert answer.status_code == 200
        return answer.text

    return show


@pytest.mark.parametrize(
    ("changes", "state", "says"),
    [
        ({}, "answers", "Reachable"),
        ({"reachable": False}, "silent", "Unreachable"),
        (
            {"reachable": False, "circuit_open": True},
            "alone",
            "Unreachable, retried every few seconds",
        ),
        ({"reachable": None, "seconds_ago": None}, "unknown", "Not asked yet"),
    ],
)
def test_states_of_registries(changes: dict[str, Any], state: str, says: str) -> None:
    """Whether one answers, and when it was last heard of, if ever."""
    (one,) = readout(registries=[REGISTRY | changes]).registries
    heard = "" if state == "unknown" else "3 s ago"
    assert (one["state"], one["says"], one["heard"]) == (state, says, heard)


@pytest.mark.parametrize(
    ("changes", "says", "whose"),
    [
        ({}, "42 of 100 per 6 h", "without a login · 3 s ago"),
        (
            {"kind": "account", "identity": "account-1a2b3c4d"},
            "42 of 100 per 6 h",
            "account 1a2b3c4d · 3 s ago",
        ),
    ],
)
def test_pulls_that_are_left(changes: dict[str, Any], says: str, whose: str) -> None:
    """How many of how many, and whose."""
    (one,) = readout(registries=[REGISTRY | {"rate_limits": [BUDGET | changes]}]).registries
    (budget,) = one["budgets"]
    assert (budget["says"], budget["whose"]) == (says, whose)


def test_scarce_pulls_come_first() -> None:
    """Of many identities, those that have the smallest part left."""
    budgets = [BUDGET | {"remaining": remaining} for remaining in (90, 5, 60, 70, 80)]
    (one,) = readout(registries=[REGISTRY | {"rate_limits": budgets}]).registries
    assert [budget["remaining"] for budget in one["budgets"]] == [5, 60, 70, 80]
    assert one["pulls"] == "5 of 100 pulls left"


@pytest.mark.parametrize(
    ("changes", "reference", "says"),
    [
        ({}, "sha256:abababababab", "1.5 MB of 3.0 MB · from the registry, cached"),
        ({"total": None, "cache": ""}, "sha256:abababababab", "1.5 MB"),
        ({"reference": "1.27", "cache": "hit"}, "1.27", "1.5 MB of 3.0 MB · from the cache"),
    ],
)
def test_downloads(changes: dict[str, Any], reference: str, says: str) -> None:
    """What is being downloaded, how far it is, and where from."""
    (one,) = readout(downloads=[DOWNLOAD | changes]).downloads
    assert one["name"] == "docker.io/library/nginx"
    assert (one["reference"], one["says"]) == (reference, says)


def test_many_downloads() -> None:
    """The first ones are shown, the others counted."""
    many = readout(downloads=[DOWNLOAD] * (MOST_DOWNLOADS + 3))
    assert (len(many.downloads), many.more) == (MOST_DOWNLOADS, "and 3 more")
    assert readout().more == ""


def test_the_cache() -> None:
    """What it has and has done."""
    told = {fact.key: fact.amount for fact in readout().cache}
    assert told["kept"] == "5.0 MB of 50 GB"
    assert told["share"] == "75%"
    boundless = {fact.key: fact.amount for fact in readout(cache=CACHE | {"max_size": None}).cache}
    assert boundless["kept"] == "5.0 MB"
    idle = CACHE | {"hits": 0.0, "misses": 0.0, "revalidated": 0.0}
    assert {fact.key: fact.amount for fact in readout(cache=idle).cache}["share"] == "-"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_cache_that_keeps_nothing(look: Look, language: str) -> None:
    """The page says so, and why, before any script has run; otherwise nothing is said."""
    for fault in [*Fault, "one that is new"]:
        texts = LANGUAGES[language].texts
        text = texts.get(f"figures.fault_{fault}", texts["figures.fault_io"])
        expected = text.format(free="3.0 GB", least="5.0 GB")
        shown = '<p class="figures-fault" role="alert" data-part="fault">{}</p>'
        assert shown.format(expected) in look(language=language, cache=CACHE | {"error": fault})
        assert 'data-part="fault" hidden></p>' in look(language=language), fault
        assert "figures-fault" not in look(language=language, cache=None), fault


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_is_in_the_page(look: Look, language: str) -> None:
    """Registries, pulls, downloads and sums are there before any script has run."""
    text = look(language=language)
    say = LANGUAGES[language].texts
    assert say["figures.answers"] in text
    assert '<meter data-part="meter" min="0" max="100" value="42" low="10"' in text
    assert 'max="3000000" value="1500000"' in text
    assert '<dd data-fact="requests">1,200</dd>' in text
    off = f'<p class="figures-empty">{say["figures.no_cache"]}</p>'
    without = look(language=language, cache=None)
    assert [off in text, 'data-plot="results"' in text] == [False, True]
    assert [off in without, 'data-plot="results"' in without] == [True, False]


def test_who_sees_no_figures(look: Look) -> None:
    """Whoever comes from elsewhere is shown neither the section nor its script."""
    text = look("203.0.113.9")
    assert "library/nginx" not in text
    assert "figures.js" not in text
    assert 'id="figures"' not in text


def test_what_comes_from_outside_is_text(look: Look) -> None:
    """A repository's name or a tag has no markup, whatever a registry allows."""
    text = look(downloads=[DOWNLOAD | {"repository": "<b>x", "reference": '"><i>'}])
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;x" in text


def test_the_script_has_all_its_texts() -> None:
    """Each text that it says by its key is there."""
    script = Path(app.web.__file__).parent / "assets" / "figures.js"
    said = re.findall(r'\b(?:say|left)\(\s*"(\w+)"', script.read_text(encoding="utf-8"))
    assert len(said) > 10
    assert set(said) <= set(LANGUAGES["en"].group("figures"))
