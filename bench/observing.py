"""What it costs to be seen: manifests with counts and lines in the log, and without either."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
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


_What = tuple[str, str]
"""What answers, and whether it is seen."""


@dataclass(frozen=True, slots=True)
class Observing:
    """All that was measured of it."""

    processes: int
    rounds: int
    seconds: int
    load_before: float
    asked: Mapping[_What, Asked]


def measure(plan: Plan, folder: Path, content: Content, upstream: nginx.Upstream) -> Observing:
    """Ask four Docxys for a manifest, in turn in every round, and then four others.

    Each variant is more than one process: those with the same settings differ, too.
    """
    load_before = machine.load_average()
    measured = {(what, how): Asked() for what in (FORWARDED, KEPT) for how in (SEEN, UNSEEN)}
    for number in range(plan.observed_processes):
        with _running(folder / f"observed {number}", upstream, measured) as running:
            for server in running.values():
                wrk.load(_url(server, content), _WARM_UP)
            for _ in range(plan.observed_rounds):
                for what, server in running.items():
                    _ask(server, content, plan.observed_seconds, measured[what])
        logger.info("observing: processes %s of %s", number + 1, plan.observed_processes)
    return Observing(
        plan.observed_processes,
        plan.observed_rounds,
        plan.observed_seconds,
        load_before,
        measured,
    )


@contextmanager
def _running(
    folder: Path, upstream: nginx.Upstream, wanted: Iterable[_What]
) -> Iterator[dict[_What, Server]]:
    with ExitStack() as stack:
        running = dict[_What, Server]()
        for what, how in wanted:
            settings = dict(_BLIND) if how == UNSEEN else {}
            if what == KEPT:
                settings["DOCXY_CACHE_DIR"] = str(folder / how)
            running[what, how] = stack.enter_context(
                servers.gunicorn(what, upstream, workers=1, **settings)
            )
        yield running


def _ask(server: Server, content: Content, seconds: int, measured: Asked) -> None:
    before = proc.cpu_seconds(server.pid)
    load = wrk.load(_url(server, content), seconds)
    measured.loads.append(load)
    measured.cpu.append(1000 * (proc.cpu_seconds(server.pid) - before) / load.requests)


def _url(server: Server, content: Content) -> str:
    return f"http://127.0.0.1:{server.port}{content.manifest_path_by_digest}"
