"""The dashboard and the alert rules: they parse, and every series in them is one that is there."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from app.content import Budget, Source
from app.metrics.metrics import Metrics
from tests import programs
from tests.servers import ROOT
from tests.unit.fake_source import FakeSource

ALERTS = ROOT / "deploy" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana.json"
PAGE = ROOT / "docs" / "observability.md"
SERIES = re.compile(r"docxy_[a-z_]+")
PARTS = ("_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def there() -> dict[str, str]:
    """Return the series that a Docxy with a cache has, each with its kind."""
    metrics, sources = Metrics(), dict[str, Source]({"docker.io": FakeSource()})
    metrics.of("docker.io").told(Budget(identity="account-1", limit=2, remaining=1, window=3))
    text = metrics.figures(sources, "docker.io", lambda: (1, 2), None).exposition().decode()
    return dict(re.findall(r"# TYPE (\S+) (\S+)", text))


def named(text: str) -> set[str]:
    """Return the series that a text names, histograms by their own names."""
    found = set(SERIES.findall(text))
    return {re.sub(rf"({'|'.join(PARTS)})$", "", name) for name in found}


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def expressions() -> Iterator[str]:
    """Return what the panels ask Prometheus for."""
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_promtool_takes_the_rules() -> None:
    """They have no fault that Prometheus knows of."""
    programs.require("promtool")
    done = subprocess.run(
        ["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    assert f"{len(rules)} rules found" in done.stdout


def test_promtool_takes_the_dashboard(tmp_path: Any) -> None:
    """Its expressions are ones, when Grafana has filled in what is its own."""
    programs.require("promtool")
    filled = [expr.replace("$__rate_interval", "5m") for expr in expressions()]
    rules = [
        {"record": "x:y:z", "expr": one, "labels": {"n": str(n)}} for n, one in enumerate(filled)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_series_is_there(there: dict[str, str]) -> None:
    """Nobody looks at a plot, or waits for an alert, of what is never counted."""
    assert named(ALERTS.read_text()) <= set(there)
    assert named(" ".join(expressions())) <= set(there)


def test_every_series_is_described(there: dict[str, str]) -> None:
    """The page names all of them, and no others."""
    assert named(PAGE.read_text()) == set(there)


def test_every_alert_is_described() -> None:
    """Whoever is woken finds what to do."""
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    page = PAGE.read_text()
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in page] == []


def test_panels_have_their_places() -> None:
    """No two are in one place, or have one number."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
