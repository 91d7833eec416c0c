"""Real clients that pull amid the chaos, each image with its own faults."""

import logging
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.chaos.crowd import Tally
from tests.chaos.of_blobs import OF_BLOBS
from tests.chaos.of_others import OF_MANIFESTS
from tests.chaos.troubles import Target, happen, happened
from tests.clients.process import CommandFailed
from tests.hub.faults import Fault
from tests.hub.hub import Hub
from tests.hub.images import Image, image, layer, noise
from tests.integration.pulling import Client, Way, client

logger = logging.getLogger(__name__)

CLIENTS = ("skopeo", "podman", "oras", "ctr")

_LAYER = 300_000
_LAYERS = 2


@dataclass(frozen=True, slots=True)
class Pull:
    """One image for one client, and what goes wrong with it."""

    reference: str
    image: Image
    faults: Sequence[Fault]


@dataclass(frozen=True, slots=True)
class Plan:
    """The pulls of each client, from one seed."""

    pulls: Mapping[str, Sequence[Pull]]

    @classmethod
    def push(cls, hub: Hub, rng: random.Random, names: Sequence[str], count: int) -> "Plan":
        """Fill the hub with images that no two pulls share, so that all pulls are cold ones."""
        return cls({name: [_pull(hub, rng, f"{name}{n}") for n in range(count)] for name in names})


def _pull(hub: Hub, rng: random.Random, name: str) -> Pull:
    seed = f"{name} {rng.random()}"
    layers = [
        layer({f"/srv/{n}.bin": noise(rng.randint(1, _LAYER), f"{seed} {n}")})
        for n in range(_LAYERS)
    ]
    pushed = hub.push(f"library/{name}", image([*layers, layer({"/seed": seed.encode()})]), ["1"])
    faults = [
        fault
        for blob in pushed.blobs
        for fault in _of(rng, blob.digest.partition(":")[2], blob.size)
    ]
    name_of_kind = rng.choice(sorted(OF_MANIFESTS))
    manifest = Target(
        path=f"/library/{name}/manifests/", start=0, length=len(pushed.body), total=len(pushed.body)
    )
    faults += OF_MANIFESTS[name_of_kind](rng, manifest)
    return Pull(f"library/{name}:1", pushed, faults)


def _of(rng: random.Random, path: str, size: int) -> list[Fault]:
    kind = OF_BLOBS[rng.choice(sorted(OF_BLOBS))]
    return kind(rng, Target(path=path, start=0, length=size, total=size))


class Pulling:
    """Pulls in the background; a context manager, at whose end all pulls have ended."""

    def __init__(self, hub: Hub, way: Way, plan: Plan, home: Path) -> None:
        self._hub, self._way, self._plan, self._home = hub, way, plan, home
        self._stack = ExitStack()
        self._running: dict[str, Future[Tally]] = {}

    def __enter__(self) -> Self:
        pool = self._stack.enter_context(ThreadPoolExecutor(len(self._plan.pulls) or 1))
        self._running = {name: pool.submit(self._run, name) for name in self._plan.pulls}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tallies(self) -> dict[str, Tally]:
        """Wait for the end and return how the pulls of each client went."""
        return {name: future.result() for name, future in self._running.items()}

    def _run(self, name: str) -> Tally:
        tally = Tally()
        try:
            with client(name, self._way, "by name", self._home / name) as real:
                for pull in self._plan.pulls[name]:
                    self._pull(name, real, pull, tally)
        except pytest.skip.Exception as skipped:
            logger.warning("%s pulls nothing: %s", name, skipped)
        return tally

    def _pull(self, name: str, real: Client, pull: Pull, tally: Tally) -> None:
        for fault in pull.faults:
            happen(self._hub, fault)
        tally.tried += 1
        try:
            got = real.pull(f"{self._way.host}/{pull.reference}")
        except CommandFailed as error:
            tally.lost.append(f"{name}: {pull.reference}: {error}")
        else:
            missing = real.kept(pull.image) - got
            tally.lost += [f"{name}: {pull.reference} lacks {missing}"] if missing else []
        tally.met += sum(map(happened, pull.faults))
        if not all(map(happened, pull.faults)):
            tally.calm.append(f"{name}: {pull.reference}: not all faults came")
