"""Measures Docxys with different settings by requests for the same manifest in turn."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import machine, nginx, proc, servers, wrk
from bench.cached import Asked
from bench.clients import TOKEN
from bench.content import Content
from bench.measure import Plan, Server

logger = logging.getLogger(__name__)

FORWARDED: Final = "forwarded"
KEPT: Final = "from the cache"

_WARM_UP: Final = 1

What = tuple[str, str]
"""Where the answer comes from, and the name of the settings."""

Settings = Callable[[Path], Mapping[str, str]]
"""Returns the settings of a Docxy, given a folder of its own."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The measurements of all variants."""

    processes: int
    rounds: int
    seconds: int
    load_before: float
    asked: Mapping[What, Asked]


@dataclass(frozen=True, slots=True)
class Variants:
    """Settings by name, each measured without and with a cache.

    Each is started several times, since processes with the same settings differ, too.
    """

    title: str
    settings: Mapping[str, Settings]
    token: Callable[[Mapping[What, Server]], str] = lambda _: TOKEN
    """Returns the token of all requests, once the servers run."""

    def measure(
        self, plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream
    ) -> Compared:
        """Request a manifest from all variants in turn in each round, with each start."""
        load_before = machine.load_average()
        asked = {(what, how): Asked() for what in (FORWARDED, KEPT) for how in self.settings}
        for number in range(plan.observed_processes):
            place = folder / f"{self.title} {number}"
            with self._running(place, upstream) as running:
                token = self.token(running)
                for server in running.values():
                    wrk.load(_url(server, content), _WARM_UP, token)
                for _ in range(plan.observed_rounds):
                    for what, server in running.items():
                        _ask(server, content, plan.observed_seconds, token, asked[what])
            logger.info("%s: processes %s of %s", self.title, number + 1, plan.observed_processes)
        return Compared(
            plan.observed_processes,
            plan.observed_rounds,
            plan.observed_seconds,
            load_before,
            asked,
        )

    @contextmanager
    def _running(self, folder: Path, upstream: nginx.Upstream) -> Iterator[dict[What, Server]]:
        with ExitStack() as stack:
            running = dict[What, Server]()
            for what in (FORWARDED, KEPT):
                for how, settings in self.settings.items():
                    own = folder / what / how
                    own.mkdir(parents=True)
                    cache = {"DOCXY_CACHE_DIR": str(own / "cache")} if what == KEPT else {}
                    running[what, how] = stack.enter_context(
                        servers.gunicorn(what, upstream, workers=1, **settings(own), **cache)
                    )
            yield running


def _ask(server: Server, content: Content, seconds: int, token: str, measured: Asked) -> None:
    before = proc.cpu_seconds(server.pid)
    load = wrk.load(_url(server, content), seconds, token)
    measured.loads.append(load)
    measured.cpu.append(1000 * (proc.cpu_seconds(server.pid) - before) / load.requests)


def _url(server: Server, content: Content) -> str:
    return f"http://127.0.0.1:{server.port}{content.manifest_path_by_digest}"
