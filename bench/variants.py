"""Measures Docxys with different settings by requests for the same manifest in turn."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import machine, nginx, proc, servers, wrk
from bench.cached import RequestFigures
from bench.clients import TOKEN
from bench.content import Content
from bench.measure import Plan, Server

logger = logging.getLogger(__name__)

FORWARDED: Final = "forwarded"
CACHED: Final = "from the cache"

_WARM_UP: Final = 1

Variant = tuple[str, str]
"""Where the answer comes from, and the name of the settings."""

Settings = Callable[[Path], Mapping[str, str]]
"""Returns the settings of a Docxy, given a folder of its own."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The measurements of all variants."""

    processes: int
    rounds: int
    seconds: int
    load_before: float
    asked: Mapping[Variant, RequestFigures]


@dataclass(frozen=True, slots=True)
class Variants:
    """Settings by name, each measured without and with a cache.

    Each is started several times, since processes with the same settings differ, too.
    """

    title: str
    settings: Mapping[str, Settings]
    token: Callable[[Mapping[Variant, Server]], str] = lambda _: TOKEN
    """Returns the token of all requests, once the servers run."""

    def measure(
        self, plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream
    ) -> Comparison:
        """Request a manifest from all variants in turn in each round, with each start."""
        load_before = machine.load_average()
        requests = {
            (variant, settings_name): RequestFigures()
            for variant in (FORWARDED, CACHED)
            for settings_name in self.settings
        }
        for number in range(plan.observed_processes):
            variant_folder = folder / f"{self.title} {number}"
            with self._running(variant_folder, upstream) as running:
                token = self.token(running)
                for server in running.values():
                    wrk.load(_build_url(server, content), _WARM_UP, token)
                for _ in range(plan.observed_rounds):
                    for variant, server in running.items():
                        _measure_requests(
                            server, content, plan.observed_seconds, token, requests[variant]
                        )
            logger.info("%s: processes %s of %s", self.title, number + 1, plan.observed_processes)
        return Comparison(
            plan.observed_processes,
            plan.observed_rounds,
            plan.observed_seconds,
            load_before,
            requests,
        )

    @contextmanager
    def _running(self, folder: Path, upstream: nginx.Upstream) -> Iterator[dict[Variant, Server]]:
        with ExitStack() as stack:
            running = dict[Variant, Server]()
            for kind in (FORWARDED, CACHED):
                for settings_name, settings in self.settings.items():
                    own_folder = folder / kind / settings_name
                    own_folder.mkdir(parents=True)
                    cache = {"DOCXY_CACHE_DIR": str(own_folder / "cache")} if kind == CACHED else {}
                    running[kind, settings_name] = stack.enter_context(
                        servers.gunicorn(kind, upstream, workers=1, **settings(own_folder), **cache)
                    )
            yield running


def _measure_requests(
    server: Server, content: Content, seconds: int, token: str, measured: RequestFigures
) -> None:
    cpu_before = proc.read_cpu_seconds(server.pid)
    load = wrk.load(_build_url(server, content), seconds, token)
    measured.loads.append(load)
    measured.cpu.append(1000 * (proc.read_cpu_seconds(server.pid) - cpu_before) / load.requests)


def _build_url(server: Server, content: Content) -> str:
    return f"http://127.0.0.1:{server.port}{content.manifest_path_by_digest}"
