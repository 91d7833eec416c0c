"""The benchmark's first pulls, small and few: everything is measured and reported.

`python -m bench --only pulls` is the large one.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import cached, pull_cases, pulls, pulls_page
from bench.cached import DownloadFigures
from bench.pull_cases import (
    COLD,
    DIRECT,
    OWN_WORK,
    UNCACHED,
    WARM,
    Case,
    CaseFigures,
    ModeFigures,
    PullFigures,
    UpstreamCounts,
)
from bench.puller import CRANE, CTR, PODMAN, RANGES, SKOPEO, find_missing
from bench.sections import replace_section
from tests import programs
from tests.servers import ROOT

SIZE = 300_000
CASES = [
    Case(pull_cases.FIVE_LAYERS, [SIZE, SIZE // 2], [SKOPEO, RANGES], 1, rate=SIZE),
    Case(pull_cases.FULL_LINE, [SIZE, SIZE // 2], [SKOPEO], 1, shared_rate=SIZE),
]


@pytest.mark.integration
def test_pulls_are_measured(tmp_path: Path) -> None:
    """Lines are as slow as they should be, caches cold and warm, and requests are counted."""
    programs.require("docker-registry", "skopeo")
    measured = pulls.measure_pulls(tmp_path, CASES)
    limited, ranges, full = measured.results
    assert (limited.client, ranges.client, full.client) == (SKOPEO, RANGES, SKOPEO)
    assert list(limited.modes) == [DIRECT, COLD, WARM]
    assert list(full.modes) == [DIRECT, COLD, UNCACHED, WARM]
    for result, least in ((limited, 1), (full, 1.5)):
        # The config and two layers; a line lets 20 ms more pass at its beginning.
        assert (result.blob_count, result.size > 1.5 * SIZE) == (3, True)
        assert result.modes[DIRECT].seconds[0] > least
        for mode in (mode for mode in result.modes if mode != WARM):
            (counts,) = result.modes[mode].upstream_counts
            assert (counts.manifests, counts.blobs) == (2, 3)
            assert counts.downloads >= 3
            assert counts.sent >= result.size
        (counts,) = result.modes[WARM].upstream_counts
        assert (counts.manifests, counts.blobs, counts.downloads, counts.sent) == (0, 0, 0, 0)
        assert result.modes[WARM].seconds[0] < result.modes[DIRECT].seconds[0]
    assert full.modes[COLD].seconds[0] > 1.5
    # Each range has a connection, and so a line, of its own.
    assert ranges.modes[DIRECT].upstream_counts[0].downloads == 8
    assert ranges.modes[DIRECT].seconds[0] < limited.modes[DIRECT].seconds[0]
    assert ranges.modes[COLD].upstream_counts[0].sent >= ranges.size
    assert min(measured.first_byte[DIRECT]) > 2 * pull_cases.LATENCY
    assert len(measured.memory_growth) == 2
    assert measured.missing_clients == []
    assert "**" in pulls_page.render(measured, MISSES)


def test_short_cases_are_small() -> None:
    """A quick run has every case and every client, once."""
    for case, short in zip(pull_cases.CASES, pull_cases.shorten(pull_cases.CASES), strict=True):
        assert short.rounds == 1
        assert (short.name, short.clients) == (case.name, case.clients)
        assert sum(short.layers) <= 10 * pull_cases.MB


def test_clients_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is left out without its program, or without root for its daemon."""
    monkeypatch.setattr(programs, "path", lambda name: None if name == "podman" else f"/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert find_missing([SKOPEO, PODMAN, CTR, CRANE, RANGES]) == [PODMAN]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert find_missing([SKOPEO, CTR, CRANE, RANGES]) == [CTR]


def build_downloads(speed: float) -> DownloadFigures:
    """Return a miss with this speed."""
    return DownloadFigures([speed], [1], [0.1])


MISSES = {
    cached.UNCACHED: build_downloads(400),
    cached.CACHED: build_downloads(300),
    cached.PEER: build_downloads(300),
}
GOOD = UpstreamCounts(logins=2, manifests=2, heads=1, blobs=3, downloads=3, sent=1000)


def build_result(case: Case, client: str, **seconds: float) -> CaseFigures:
    """Return a pull of one second; `seconds` are those of other modes, by their names here."""
    modes = {
        "direct": DIRECT, "cold": COLD, "uncached": UNCACHED, "warm": WARM, "own": OWN_WORK,
    }  # fmt: skip
    values = {"direct": 1.0, "cold": 0.19, "uncached": 0.19, "warm": 0.14} | seconds
    figures = {modes[name]: ModeFigures([value], [GOOD], [0.1]) for name, value in values.items()}
    return CaseFigures(case, client, 3, 1000, figures)


ALL = PullFigures(
    0.1,
    [build_result(case, case.clients[0]) for case in pull_cases.CASES]
    + [build_result(pull_cases.CASES[2], CTR, direct=2.0, cold=1.4, own=1.0)],
    {DIRECT: [0.2], COLD: [0.21]},
    [8.0],
    {SKOPEO: "1.18.0"},
    [CRANE],
)


def change(case_name: str, client: str, **seconds: float) -> PullFigures:
    """Return all pulls, with other seconds of one of them."""
    changed = [
        build_result(result.case, client, **seconds)
        if (result.case.name, result.client) == (case_name, client)
        else result
        for result in ALL.results
    ]
    assert changed != ALL.results
    return replace(ALL, results=changed)


def count_more(**counts: int) -> PullFigures:
    """Return all pulls, with higher counts of a cold one."""
    worse = build_result(pull_cases.CASES[0], SKOPEO)
    worse.modes[COLD].upstream_counts[0] = replace(GOOD, **counts)
    return replace(ALL, results=[worse, *ALL.results[1:]])


def test_all_targets_are_met() -> None:
    """There is a row for each target, a row for each client, and missing clients are named."""
    section = pulls_page.render(ALL, MISSES)
    assert "All targets are met." in section
    assert section.count("| met |") == 14
    assert "| 16 layers of 482 KiB | ctr | 2.00 (2.00 to 2.00) | 0.70 (0.70 to 0.70) |" in section
    assert "| 0.40 (0.40 to 0.40) |\n" in section
    assert section.count("| 11 |\n") == len(ALL.results)
    assert "missing here: crane." in section


@pytest.mark.parametrize(
    ("measured", "missed"),
    [
        (change(pull_cases.ONE_LAYER, SKOPEO, cold=0.21), "one layer of 200 MB: cold"),
        (change(pull_cases.FIVE_LAYERS, SKOPEO, cold=0.36), "100 + 40"),
        (
            change(pull_cases.SIXTEEN_LAYERS, SKOPEO, cold=0.51),
            "16 layers of 482 KiB: cold, relative to a direct one (skopeo)",
        ),
        (
            change(pull_cases.SIXTEEN_LAYERS, CTR, direct=2.0, cold=1.6, own=1.0),
            "16 layers of 482 KiB: cold, relative to a direct one, both without",
        ),
        (change(pull_cases.SIXTEEN_LAYERS, SKOPEO, warm=0.16), "16 layers of 482 KiB: warm"),
        (change(pull_cases.SEVEN_LAYERS, SKOPEO, cold=0.61), "7 layers"),
        (change(pull_cases.FULL_LINE, SKOPEO, cold=1.06), "one layer of 200 MB, full line"),
        (change(pull_cases.PARALLEL, RANGES, cold=0.21), "one layer of 100 MB in parallel ranges"),
        (replace(ALL, first_byte={DIRECT: [0.2], COLD: [0.221]}), "First byte"),
        (count_more(blobs=4), "Requests to the registry"),
        (count_more(sent=1021), "Bytes from the CDN"),
        (count_more(manifests=3), "GETs of manifests"),
        (replace(ALL, memory_growth=[1.0, 1.0, 17.0]), "Memory"),
    ],
)
def test_a_target_is_missed(measured: PullFigures, missed: str) -> None:
    """It alone is missed, and its reason is given."""
    section = pulls_page.render(measured, MISSES)
    (row,) = (line for line in section.splitlines() if "**missed**" in line)
    assert row.startswith(f"| {missed}")
    assert f"\n- {row.split(' | ')[0][2:]}: " in section


def test_a_slow_miss_is_reported() -> None:
    """Docxy must be as fast as the other cache."""
    slow = MISSES | {cached.CACHED: build_downloads(299)}
    assert pulls_page.render(ALL, slow).count("**missed**") == 1


def test_the_section_replaces_itself_in_the_page() -> None:
    """The published page has the section, which can be replaced again and again."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    section = pulls_page.render(ALL, MISSES)
    changed_page = replace_section(page, section)
    assert section in changed_page
    assert changed_page.count("## First pulls\n") == 1
    assert replace_section(changed_page, section) == changed_page
