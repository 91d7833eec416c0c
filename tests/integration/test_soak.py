"""The benchmark's crowds of downloads, small and short: memory is flat, and nothing is left.

`python -m bench --only soak` is the large one.
"""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import nginx, soak, soak_page
from bench.content import GIB, Content
from bench.crowd import Kind
from bench.measure import Server
from bench.sections import replace_section
from tests import programs
from tests.lines import all_lines
from tests.servers import ROOT, Docxy, docxy

CLIENTS = 60
SECONDS = 5
WRITE_TIMEOUT = 3


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that nginx's own user may read; pytest's are closed to it."""
    with tempfile.TemporaryDirectory(prefix="docxy-soak-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def soaking(folder: Path) -> Iterator[tuple[Docxy, Server, Content]]:
    """Run Docxy before nginx, which has a blob of 1 GiB and holds none of it in memory."""
    content = Content.write(folder, GIB)
    with nginx.upstream(folder, content) as upstream:
        settings = soak.settings(folder, WRITE_TIMEOUT) | {
            "DOCXY_REGISTRY_URL": upstream.url,
            "DOCXY_CA_BUNDLE": str(upstream.ca),
            "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true",
        }
        with docxy(*soak.ARGUMENTS, **settings) as proxy:
            port = int(proxy.host.rpartition(":")[2])
            yield proxy, Server("Docxy", port, proxy.server.process.pid, upstream.pid), content


@pytest.mark.integration
@pytest.mark.soak
def test_a_crowd_leaves_nothing(folder: Path) -> None:
    """Slow clients, such as leave and such as do not read: all that they took is given back."""
    programs.require("nginx")
    with soaking(folder) as (proxy, server, content):
        passed = soak.soak(
            server,
            content,
            clients=CLIENTS,
            seconds=SECONDS,
            write_timeout=WRITE_TIMEOUT,
            folder=folder,
        )
        for crowd in passed.crowds:
            # Or the crowd was none, and what is counted is not what is there.
            assert crowd.begun["slow"] == CLIENTS // 3
            assert crowd.begun["leaving"] > CLIENTS // 3
            assert crowd.midst.greenlets > 0.75 * CLIENTS
            assert crowd.midst.sockets > 1.25 * CLIENTS  # of most, the upstream's as well
            assert crowd.after.has_no_more_than(passed.before)
        assert any(crowd.cut for crowd in passed.crowds)
        assert passed.left_behind == 0
        assert passed.kib_each <= soak_page.MAX_KIB_EACH
        assert passed.growth <= soak_page.MAX_GROWTH
        begun = sum(crowd.begun.total() for crowd in passed.crowds)
        assert all_lines(proxy).count(f"path={content.blob_path} ") >= begun  # and the warm-up's
        assert "Traceback" not in proxy.log


BEFORE = soak.Held(100_000, 18, 2, 8)
PASSED = soak.CrowdFigures(
    Counter[Kind]({"slow": 1, "leaving": 7, "not reading": 2}), 1, 100_900, 101_200,
    soak.Held(100_900, 24, 8, 11), soak.Held(100_500, 18, 2, 8),
)  # fmt: skip
SOAK = soak.Soak(3, 60, GIB, 10, 0.1, 2, BEFORE, [PASSED, PASSED])


def test_a_section_is_put_into_the_page() -> None:
    """The rest of the page stays, and so does all of it when it is put in again."""
    text = (ROOT / "docs" / "performance.md").read_text()
    section = soak_page.render(SOAK)
    changed = replace_section(text, section)
    assert section in changed
    before, _, rest = text.partition("## Soak\n")
    after = rest[rest.index("\n## ") :]
    assert changed == f"{before}{section.rstrip()}\n{after}"
    assert replace_section(changed, section) == changed


def test_a_page_without_the_section_is_left_alone() -> None:
    """Whoever wants it there says so."""
    with pytest.raises(ValueError, match="0 sections"):
        replace_section("# Performance\n\n## Method\n", soak_page.render(SOAK))


def test_what_is_left_is_told() -> None:
    """A file, a greenlet or memory more, and the target is missed."""
    assert SOAK.kib_each == 300
    assert "missed" not in soak_page.render(SOAK)
    leaking = soak.CrowdFigures(
        PASSED.begun, 1, 101_300, 101_400, PASSED.midst, soak.Held(110_000, 20, 4, 9)
    )  # fmt: skip
    worse = soak.Soak(3, 60, GIB, 10, 0.1, 2, BEFORE, [PASSED, leaking])
    assert worse.left_behind == 3
    assert soak_page.render(worse).count("**missed**") == 3
