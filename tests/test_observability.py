"""The dashboard and the alert rules: they parse, and every series in them is one that is there."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.events import Budget, Event
from app.metrics.figures import Metrics
from app.oci.errors import RegistryError
from app.source import CacheState, Source
from app.upstream.http.errors import label
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
    metrics.build_observer("docker.io").record_budget(
        Budget(identity="account-1", limit=2, remaining=1, window=3)
    )
    metrics.observe(Event.CACHE_FAILED, "io")
    text = metrics.build_figures(sources, "docker.io", Kept()).format_exposition().decode()
    return dict(re.findall(r"# TYPE (\S+) (\S+)", text))


class Kept:
    """A cache with a maximum."""

    def measure_usage(self) -> tuple[int, int]:
        """Return what it has."""
        return 1, 2

    def read_state(self) -> CacheState:
        """Return how it is."""
        return CacheState(max_size=3)


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


def here(name: str, labels: str = "") -> str:
    """Return a series as Prometheus has it from one Docxy."""
    more = f", {labels}" if labels else ""
    return f'{name}{{job="docxy", instance="here"{more}}}'


HUB = 'registry="docker.io"'
ALICE = f'{HUB}, identity="account-1"'
FAILING: dict[str, dict[str, str]] = {
    "DocxyDown": {here("up"): "0x120"},
    "DocxyServerErrors": {
        here("docxy_requests_total", 'status="5xx"'): "0+6x120",
        here("docxy_requests_total", 'status="2xx"'): "0+94x120",
    },
    "DocxyUpstreamErrors": {
        here("docxy_upstream_requests_total", HUB): "0+10x120",
        here("docxy_upstream_errors_total", f'{HUB}, error="timeout"'): "0+2x120",
        here("docxy_upstream_errors_total", f'{HUB}, error="connect"'): "0+1x120",
    },
    "DocxyUpstreamCircuitOpen": {here("docxy_upstream_circuits_open", HUB): "1x120"},
    "DocxyPullsLow": {
        here("docxy_pulls_remaining", ALICE): "9x120",
        here("docxy_pulls_limit", ALICE): "100x120",
    },
    "DocxyPullsSpentFast": {
        here("docxy_pulls_spent_total", HUB): "0+1x120",
        here("docxy_pulls_limit", ALICE): "100x120",
    },
    "DocxySlow": {
        here("docxy_time_to_first_byte_seconds_bucket", 'route="manifest", le="5.0"'): "0+8x120",
        here("docxy_time_to_first_byte_seconds_bucket", 'route="manifest", le="10.0"'): "0+10x120",
        here("docxy_time_to_first_byte_seconds_bucket", 'route="manifest", le="+Inf"'): "0+10x120",
    },
    "DocxyCacheChurn": {
        here("docxy_cache_evictions_total"): "0+1x120",
        here("docxy_cache_entries"): "1000x120",
    },
    "DocxyCacheNotWritable": {here("docxy_cache_writable"): "0x120"},
    "DocxyCacheErrors": {here("docxy_cache_errors_total", 'error="io"'): "0+1x120"},
    "DocxyWrongPasswords": {
        here("docxy_refusals_total", 'rule="password"'): "0+2x120",
        here("docxy_refusals_total", 'rule="slowed"'): "0+2x120",
    },
}
"""What Prometheus has seen in two hours, by the alert that it has to give."""

WELL = {
    here("up"): "1x120",
    here("docxy_requests_total", 'status="5xx"'): "0+5x120",
    here("docxy_requests_total", 'status="2xx"'): "0+95x120",
    here("docxy_upstream_requests_total", HUB): "0+10x120",
    here("docxy_upstream_errors_total", f'{HUB}, error="timeout"'): "0+2x120",
    here("docxy_upstream_circuits_open", HUB): "0x120",
    here("docxy_pulls_remaining", ALICE): "10x120",
    here("docxy_pulls_limit", ALICE): "100x120",
    here("docxy_pulls_spent_total", HUB): "0+0.8x120",
    here("docxy_time_to_first_byte_seconds_bucket", 'route="manifest", le="5.0"'): "0+9x120",
    here("docxy_time_to_first_byte_seconds_bucket", 'route="manifest", le="+Inf"'): "0+10x120",
    here("docxy_cache_evictions_total"): "0+1x120",
    here("docxy_cache_entries"): "2000x120",
    here("docxy_cache_writable"): "1x120",
    here("docxy_cache_errors_total", 'error="io"'): "0+0.5x120",
    here("docxy_cache_errors_total", 'error="too_large"'): "0+9x120",
    here("docxy_refusals_total", 'rule="password"'): "0+3x120",
    here("docxy_refusals_total", 'rule="1"'): "0+99x120",
}
"""The same of a Docxy that is just well enough."""


def test_alerts_are_given(tmp_path: Path) -> None:
    """Each where it is due, and none before."""
    programs.require("promtool")
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    names = [rule["alert"] for rule in rules]
    assert sorted(FAILING) == sorted(names)
    cases = [(WELL, set[str]()), *((series, {name}) for name, series in FAILING.items())]
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": one, "values": many} for one, many in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count by (alertname) (ALERTS{{alertname="{name}", '
                    f'alertstate="firing"}})',
                    "eval_time": "2h",
                    "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}]
                    if name in given
                    else [],
                }
                for name in names
            ],
        }
        for series, given in cases
    ]
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": tests}))
    done = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


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


def kinds(error: type[RegistryError]) -> Iterator[type[RegistryError]]:
    """Yield a class of errors and all of its subclasses."""
    yield error
    for one in error.__subclasses__():
        yield from kinds(one)


def test_every_error_is_described() -> None:
    """The page has each value of the label `error` of docxy_upstream_errors_total, and no other."""
    _, _, table = PAGE.read_text().partition("`error` of `docxy_upstream_errors_total`")
    table, _, _ = table.partition("`error` of `docxy_cache_errors_total`")
    documented = re.findall(r"^\| `(?!error`)([a-z_]+)` \|", table, re.MULTILINE)
    assert set(documented) == {label(kind()) for kind in kinds(RegistryError)}


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
