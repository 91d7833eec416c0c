"""One chaos run: a crowd and real clients under faults that can be mended, then what cannot be."""

import logging
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import crowd, errands, expiry, hopeless, limits, outage, pulls
from tests.chaos.crowd import AT_ONCE, Tallies, Tally
from tests.chaos.errands import Errand
from tests.chaos.raw import Outcome
from tests.chaos.troubles import Kind
from tests.hub.hub import Hub
from tests.integration.pulling import Way
from tests.servers import docxy

logger = logging.getLogger(__name__)

WORKERS = 2
SETTINGS: Mapping[str, str] = {"DOCXY_READ_TIMEOUT": "1"}
"""So that what stalls does not take half a minute each."""

_WAVE_OF = 160
"""Of so many downloads, one wave is of those that expire, and one of those in an outage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is tried."""

    downloads: int
    blobs: int
    """In the hub; each is downloaded several times, if need be."""
    hopeless: int
    """Downloads that are cut for good, and as many that are wrong."""
    limited: int
    clients: Sequence[str]
    pulls: int
    """Of each client."""

    @property
    def in_outages(self) -> int:
        """Those of the downloads during which the CDN is away."""
        return max(2, self.downloads // _WAVE_OF) * AT_ONCE

    @property
    def expiring(self) -> int:
        """Those of the downloads in whose middle URLs and tokens expire by the clock."""
        return max(1, self.downloads // _WAVE_OF) * AT_ONCE


FULL = Plan(
    downloads=1000, blobs=220, hopeless=220, limited=20, clients=pulls.CLIENTS, pulls=10
)  # fmt: skip
SHORT = Plan(downloads=92, blobs=44, hopeless=11, limited=1, clients=("skopeo", "podman"), pulls=1)


@dataclass(slots=True, kw_only=True)
class Run:
    """What one run has found."""

    seed: int
    plan: Plan
    mended: Tallies = field(default_factory=dict)
    pulls: Tallies = field(default_factory=dict)
    limited: Tally = field(default_factory=Tally)
    cut: Tallies = field(default_factory=dict)
    wrong: Tallies = field(default_factory=dict)
    seconds: float = 0

    def failures(self) -> list[str]:
        """List all that should not be."""
        parts = (self.mended, self.pulls, {"": self.limited}, self.cut, self.wrong)
        return [line for part in parts for line in crowd.lost(part.values())]


def run(seed: int, plan: Plan) -> Run:
    """Run it all; the same seed gives the same requests and the same faults."""
    logger.info("The seed is %s.", seed)
    started = time.monotonic()
    result = Run(seed=seed, plan=plan)
    with Hub() as hub:
        hub.limit = None
        content = errands.Content.push(hub, _rng(seed, "content"), plan.blobs, AT_ONCE)
        _mendable(hub, content, result)
        _expiring(hub, result)
        hub.reset()
        result.cut = _hopeless(hub, content, result, hopeless.CUT, hopeless.SETTINGS)
        result.wrong = _hopeless(hub, content, result, hopeless.WRONG, hopeless.VERIFYING)
    result.seconds = time.monotonic() - started
    return result


def _rng(seed: int, part: str) -> random.Random:
    """Return the numbers of one part of a run, which no other part disturbs."""
    return random.Random(f"{seed} {part}")  # noqa: S311


def _mendable(hub: Hub, content: errands.Content, result: Run) -> None:
    plan = result.plan
    images = pulls.Plan.push(hub, _rng(result.seed, "pulls"), plan.clients, plan.pulls)
    downloads = plan.downloads - plan.expiring - plan.in_outages
    planned = errands.planned(_rng(result.seed, "crowd"), content, downloads)
    logger.info("%s errands, and %s pulls each of %s", len(planned), plan.pulls, plan.clients)
    with (
        tempfile.TemporaryDirectory(prefix="docxy-chaos-") as home,
        docxy(workers=WORKERS, **hub.settings, **SETTINGS) as proxy,
    ):
        way = Way("plain", proxy.url, proxy.host, None, lambda: proxy.log)
        with pulls.Pulling(hub, way, images, Path(home)) as pulling:
            result.mended = crowd.run(hub, proxy.host, planned, _wrong)
            result.pulls = pulling.tallies()


def _wrong(errand: Errand, outcome: Outcome) -> str:
    return errand.wrong(outcome)


def _expiring(hub: Hub, result: Run) -> None:
    plan = result.plan
    logger.info("%s downloads that expire, %s in outages", plan.expiring, plan.in_outages)
    with docxy(workers=WORKERS, **hub.settings) as proxy:
        rng = _rng(result.seed, "expiry")
        result.mended[expiry.KIND] = expiry.run(hub, proxy.host, rng, plan.expiring)
        rng = _rng(result.seed, "outage")
        result.mended |= outage.run(hub, proxy.host, rng, plan.in_outages)
        rng = _rng(result.seed, "limits")
        result.limited = limits.run(hub, proxy.host, rng, plan.limited)


def _hopeless(
    hub: Hub,
    content: errands.Content,
    result: Run,
    kinds: Mapping[str, Kind],
    settings: Mapping[str, str],
) -> Tallies:
    rng = _rng(result.seed, "hopeless")
    count = result.plan.hopeless
    logger.info("%s downloads that nobody can mend", count)
    with docxy(workers=WORKERS, **hub.settings, **settings) as proxy:
        planned = hopeless.planned(rng, content, kinds, count)
        tallies = crowd.run(hub, proxy.host, planned, hopeless.looks_complete)
    hub.heal()
    return tallies
