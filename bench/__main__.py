"""Run the benchmark and write docs/performance.md."""

import argparse
import logging
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Final

from bench import (
    access_page,
    cache_page,
    cached,
    machine,
    nginx,
    observing_page,
    page,
    pull_cases,
    pulls,
    pulls_page,
    servers,
    soak,
    soak_page,
)
from bench.access import ACCESS
from bench.content import GIB, MIB, Content
from bench.measure import (
    Plan,
    Server,
    measure_downloads,
    measure_memory,
    measure_requests,
)
from bench.observing import OBSERVING
from bench.sections import replace_section
from tests.servers import ROOT

_PAGE: Final = ROOT / "docs" / "performance.md"
_FULL: Final = Plan(
    rounds=7, slow_clients=400, slow_seconds=20, load_seconds=3,
    observed_processes=3, observed_rounds=3, observed_seconds=2,
    copies=5, pulls=pull_cases.CASES,
    soak_clients=500, soak_seconds=60, soak_write_timeout=10,
)  # fmt: skip
_QUICK: Final = Plan(
    rounds=2, slow_clients=40, slow_seconds=3, load_seconds=1,
    observed_processes=2, observed_rounds=1, observed_seconds=1,
    copies=2, pulls=pull_cases.shorten(pull_cases.CASES),
    soak_clients=60, soak_seconds=8, soak_write_timeout=4,
)  # fmt: skip

logger = logging.getLogger(__name__)


def main() -> None:
    """Measure, print the page, and put it into docs/ unless it was a quick run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument(
        "--only",
        choices=["access", "cache", "observing", "pulls", "soak"],
        help="measure and write this section alone",
    )
    parser.add_argument("--write", type=Path, help="where the page goes", metavar="FILE")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # It logs each redirect, with the signed URL.
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    started = time.monotonic()
    output = arguments.write or (None if arguments.quick else _PAGE)
    if arguments.only:
        _write_section(arguments.only, _QUICK if arguments.quick else _FULL, output)
    else:
        _write_page(output, quick=arguments.quick)
    logger.info("done in %.0f s", time.monotonic() - started)


def _write_page(output: Path | None, *, quick: bool) -> None:
    if quick:
        run = _measure_all(_QUICK, 128 * MIB)
        text = page.render(run, title="Performance: a quick run, whose figures mean nothing")
    else:
        run = _measure_all(_FULL, GIB)
        text = page.render(run, title="Performance")
    sys.stdout.write(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


def _write_section(name: str, plan: Plan, output: Path | None) -> None:
    with servers.upstream(GIB) as (folder, content, upstream):
        if name == "soak":
            section = soak_page.render(_run_soak(plan, folder, content, upstream))
        elif name == "observing":
            section = observing_page.render(OBSERVING.measure(plan, folder, content, upstream))
        elif name == "access":
            section = access_page.render(ACCESS.measure(plan, folder, content, upstream))
        elif name == "pulls":
            misses_folder = folder / "misses"
            misses_folder.mkdir()
            misses = cached.measure_misses(plan.rounds, misses_folder, content, upstream)
            section = pulls_page.render(pulls.measure_pulls(folder, plan.pulls), misses)
        else:
            section = cache_page.render(cached.measure(plan, folder, content, upstream))
    sys.stdout.write(section)
    if output is not None:
        output.write_text(
            replace_section(output.read_text(encoding="utf-8"), section), encoding="utf-8"
        )


def _measure_all(plan: Plan, blob_size: int) -> page.Run:
    load_before = machine.load_average()
    with servers.upstream(blob_size) as (folder, content, upstream):
        with (
            nginx.peer(folder, upstream) as peer,
            servers.gunicorn("Docxy", upstream) as docxy,
            servers.gunicorn("Flask and requests", upstream, "bench.bare:app") as floor,
        ):
            compared = [Server("nginx", peer.port, peer.pid, upstream.pid), docxy, floor]
            downloads = measure_downloads(compared, content, plan.rounds)
            requests = measure_requests(compared, content, plan)
        with servers.gunicorn("Docxy", upstream) as fresh_server:
            measure_downloads([fresh_server], content, 1)
            memory = measure_memory(fresh_server, content, plan)
        cached_figures = cached.measure(plan, folder, content, upstream)
        observing = OBSERVING.measure(plan, folder, content, upstream)
        access = ACCESS.measure(plan, folder, content, upstream)
        pull_figures = pulls.measure_pulls(folder, plan.pulls)
        soak_figures = _run_soak(plan, folder, content, upstream)
        return page.Run(
            plan,
            content,
            _read_cipher(upstream),
            load_before,
            downloads,
            requests,
            memory,
            cached_figures,
            observing,
            access,
            pull_figures,
            soak_figures,
        )


def _run_soak(plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream) -> soak.Soak:
    settings = soak.settings(folder, plan.soak_write_timeout)
    with servers.gunicorn("Docxy", upstream, *soak.ARGUMENTS, workers=2, **settings) as server:
        return soak.soak(
            server,
            content,
            clients=plan.soak_clients,
            seconds=plan.soak_seconds,
            write_timeout=plan.soak_write_timeout,
            folder=folder,
        )


def _read_cipher(upstream: nginx.Upstream) -> str:
    context = ssl.create_default_context(cafile=upstream.ca)
    with (
        socket.create_connection(("127.0.0.1", upstream.port)) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as connection,
    ):
        cipher = connection.cipher()
    return cipher[0] if cipher else "no cipher"


if __name__ == "__main__":
    main()
