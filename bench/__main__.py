"""Run the benchmark and write docs/performance.md."""

import argparse
import contextlib
import logging
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import machine, nginx, page, soak, soak_page
from bench.content import GIB, MIB, Content
from bench.measure import (
    Plan,
    Server,
    measure_downloads,
    measure_memory,
    measure_requests,
)
from tests.servers import ROOT, docxy

_PAGE: Final = ROOT / "docs" / "performance.md"
_FULL: Final = Plan(
    rounds=7, slow_clients=400, slow_seconds=20, load_seconds=4,
    soak_clients=500, soak_seconds=60, soak_write_timeout=10,
)  # fmt: skip
_QUICK: Final = Plan(
    rounds=2, slow_clients=40, slow_seconds=3, load_seconds=1,
    soak_clients=60, soak_seconds=8, soak_write_timeout=4,
)  # fmt: skip

logger = logging.getLogger(__name__)


def main() -> None:
    """Measure, print the page, and put it into docs/ unless it was a quick run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--only", choices=["soak"], help="measure and write this section alone")
    parser.add_argument("--write", type=Path, help="where the page goes", metavar="FILE")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    started = time.monotonic()
    where = arguments.write or (None if arguments.quick else _PAGE)
    if arguments.only:
        _soak_alone(_QUICK if arguments.quick else _FULL, where)
    else:
        _everything(where, quick=arguments.quick)
    logger.info("done in %.0f s", time.monotonic() - started)


def _everything(where: Path | None, *, quick: bool) -> None:
    if quick:
        run = _run(_QUICK, 128 * MIB)
        text = page.render(run, title="Performance: a quick run, whose figures mean nothing")
    else:
        run = _run(_FULL, GIB)
        text = page.render(run, title="Performance")
    sys.stdout.write(text)
    if where is not None:
        where.write_text(text, encoding="utf-8")


def _soak_alone(plan: Plan, where: Path | None) -> None:
    with _upstream(GIB) as (folder, content, upstream):
        section = soak_page.render(_soak(plan, folder, content, upstream))
    sys.stdout.write(section)
    if where is not None:
        text = soak_page.put_into(where.read_text(encoding="utf-8"), section)
        where.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _upstream(blob_size: int) -> Iterator[tuple[Path, Content, nginx.Upstream]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docxy-bench-")))
        # nginx's workers are another user.
        folder.chmod(0o755)
        content = Content.write(folder, blob_size)
        yield folder, content, stack.enter_context(nginx.upstream(folder, content))


def _run(plan: Plan, blob_size: int) -> page.Run:
    load_before = machine.load_average()
    with _upstream(blob_size) as (folder, content, upstream):
        with (
            nginx.peer(folder, upstream) as peer,
            _gunicorn("Docxy", upstream) as ours,
            _gunicorn("Flask and requests", upstream, "bench.bare:app") as floor,
        ):
            servers = [Server("nginx", peer.port, peer.pid, upstream.pid), ours, floor]
            downloads = measure_downloads(servers, content, plan.rounds)
            requests = measure_requests(servers, content, plan)
        with _gunicorn("Docxy", upstream) as fresh:
            measure_downloads([fresh], content, 1)
            memory = measure_memory(fresh, content, plan)
        soaked = _soak(plan, folder, content, upstream)
        return page.Run(
            plan, content, _cipher(upstream), load_before, downloads, requests, memory, soaked
        )


def _soak(plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream) -> soak.Soak:
    settings = soak.settings(folder, plan.soak_write_timeout)
    with _gunicorn("Docxy", upstream, *soak.ARGUMENTS, workers=2, **settings) as server:
        return soak.soak(
            server,
            content,
            clients=plan.soak_clients,
            seconds=plan.soak_seconds,
            write_timeout=plan.soak_write_timeout,
            folder=folder,
        )


@contextlib.contextmanager
def _gunicorn(
    name: str, upstream: nginx.Upstream, *arguments: str, workers: int = 1, **more: str
) -> Iterator[Server]:
    """Run an application on gunicorn, as users run Docxy."""
    settings = more | {
        "DOCXY_REGISTRY_URL": upstream.url,
        "DOCXY_CA_BUNDLE": str(upstream.ca),
        "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true",
    }
    with docxy(*arguments, workers=workers, **settings) as running:
        port = int(running.host.rpartition(":")[2])
        yield Server(name, port, running.server.process.pid, upstream.pid)


def _cipher(upstream: nginx.Upstream) -> str:
    context = ssl.create_default_context(cafile=upstream.ca)
    with (
        socket.create_connection(("127.0.0.1", upstream.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        cipher = connection.cipher()
    return cipher[0] if cipher else "no cipher"


if __name__ == "__main__":
    main()
