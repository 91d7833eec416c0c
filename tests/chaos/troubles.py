"""What goes wrong with one download, at the hub, and what a resume can do about it.

Each kind returns the faults that happen to one download. They name the blob in their path, so a
blob must be in one download at a time only.
"""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.hub.faults import Fault
from tests.hub.gates import Gate
from tests.hub.hub import Hub

PASSING = (500, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The bytes that a download asks for: `length` from `start`, of `total`."""

    path: str
    """A regular expression that is found in the paths of this blob, or manifest, only."""
    start: int
    length: int
    total: int


Kind = Callable[[random.Random, Target], list[Fault]]


def happen(hub: Hub, fault: Fault) -> None:
    """Plan a fault at the hub."""
    fields: dict[str, Any] = {
        field.name: getattr(fault, field.name) for field in dataclasses.fields(fault)
    }
    hub.fail(**fields)


def happened(fault: Fault) -> int:
    """Return how many requests a fault has met."""
    assert fault.gate is not None
    return fault.gate.arrived


def counted() -> Gate:
    """Return a gate that holds nobody and counts who passes: a fault that never was proves nothing.

    Every fault here has one.
    """
    gate = Gate()
    gate.open()
    return gate


def at(part: str, target: Target, **fields: Any) -> Fault:
    """Return a fault of the GETs of one blob at one part of the hub."""
    return Fault(part=part, method="GET", path=target.path, gate=counted(), **fields)


def somewhere(rng: random.Random, target: Target) -> int:
    """Return an offset before the last byte."""
    return rng.randrange(target.length)


def statuses(rng: random.Random, part: str, target: Target) -> list[Fault]:
    """Return a part's 5xx, as often as it may be asked again."""
    return [at(part, target, status=rng.choice(PASSING), times=rng.randint(1, 3))]
