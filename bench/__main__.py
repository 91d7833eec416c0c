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

from bench import machine, nginx, page
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
_FULL: Final = Plan(rounds=7, slow_clients=400, slow_seconds=20, load_seconds=4)
_QUICK: Final = Plan(rounds=2, slow_clients=40, slow_seconds=3, load_seconds=1)

logger = logging.getLogger(__name__)


def main() -> None:
    """Measure, print the page, and put it into docs/ unless it was a quick run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--write", type=Path, help="where the page goes", metavar="FILE")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    started = time.monotonic()
    if arguments.quick:
        run = _run(_QUICK, 128 * MIB)
        text = page.render(run, title="Performance: a quick run, whose figures mean nothing")
    else:
        run = _run(_FULL, GIB)
        text = page.render(run, title="Performance")
    sys.stdout.write(text)
    where = arguments.write or (None if arguments.quick else _PAGE)
    if where is not None:
        where.write_text(text, encoding="utf-8")
    logger.info("done in %.0f s", time.monotonic() - started)


def _run(plan: Plan, blob_size: int) -> page.Run:
    load_before = machine.load_average()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docxy-bench-")))
        # nginx's workers are another user.
        folder.chmod(0o755)
        content = Content.write(folder, blob_size)
        upstream = stack.enter_context(nginx.upstream(folder, content))
        peer = stack.enter_context(nginx.peer(folder, upstream))
        theirs = Server("nginx", peer.port, peer.pid, upstream.pid)
        with (
            _gunicorn("Docxy", upstream) as ours,
            _gunicorn("Flask and requests", upstream, "bench.bare:app") as floor,
        ):
            servers = [theirs, ours, floor]
            downloads = measure_downloads(servers, content, plan.rounds)
            requests = measure_requests(servers, content, plan)
        with _gunicorn("Docxy", upstream) as fresh:
            measure_downloads([fresh], content, 1)
            memory = measure_memory(fresh, content, plan)
        return page.Run(plan, content, _cipher(upstream), load_before, downloads, requests, memory)


@contextlib.contextmanager
def _gunicorn(name: str, upstream: nginx.Upstream, *arguments: str) -> Iterator[Server]:
    """Run an application on one worker of gunicorn, as users run Docxy."""
    settings = {
        "DOCXY_REGISTRY_URL": upstream.url,
        "DOCXY_CA_BUNDLE": str(upstream.ca),
        "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true",
    }
    with docxy(*arguments, workers=1, **settings) as running:
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
