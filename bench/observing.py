"""What it costs to be seen: manifests with counts and lines in the log, and without either."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import machine, nginx, proc, servers, wrk
from bench.cached import Asked
from bench.content import Content
from bench.measure import Plan, Server

logger = logging.getLogger(__name__)

FORWARDED: Final = "forwarded"
KEPT: Final = "from the cache"
SEEN: Final = "counted and logged"
UNSEEN: Final = "neither"

_BLIND: Final = {"DOCXY_METRICS": "false", "DOCXY_LOG_LEVEL": "warning"}
_WARM_UP: Final = 1


@dataclass(frozen=True, slots=True)
class Observing:
    """All that was measured of it, by what answers and by whether it is seen."""

    rounds: int
    load_before: float
    load_seconds: int
    asked: Mapping[tuple[str, str], Asked]


def measure(plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream) -> Observing:
    """Ask four Docxys for a manifest, in turn in every round, each pair one after the other."""
    load_before = machine.load_average()
    measured = {(what, how): Asked() for what in (FORWARDED, KEPT) for how in (SEEN, UNSEEN)}
    with ExitStack() as stack:
        running = dict[tuple[str, str], Server]()
        for what, how in measured:
            settings = dict(_BLIND) if how == UNSEEN else {}
            if what == KEPT:
                settings["DOCXY_CACHE_DIR"] = str(folder / f"cache {how}")
            running[what, how] = stack.enter_context(
                servers.gunicorn(what, upstream, workers=1, **settings)
            )
        for server in running.values():
            wrk.load(_url(server, content), _WARM_UP)
        for number in range(plan.rounds):
            for key, server in running.items():
                _ask(server, content, plan.load_seconds, measured[key])
            logger.info("observing: round %s of %s", number + 1, plan.rounds)
    return Observing(plan.rounds, load_before, plan.load_seconds, measured)


def _ask(server: Server, content: Content, seconds: int, measured: Asked) -> None:
    before = proc.cpu_seconds(server.pid)
    load = wrk.load(_url(server, content), seconds)
    measured.loads.append(load)
    measured.cpu.append(1000 * (proc.cpu_seconds(server.pid) - before) / load.requests)


def _url(server: Server, content: Content) -> str:
    return f"http://127.0.0.1:{server.port}{content.manifest_path_by_digest}"
