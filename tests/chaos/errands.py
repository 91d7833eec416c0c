"""What the crowd asks for, and what goes wrong with it: all of it from one seed."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from tests.chaos.of_blobs import OF_BLOBS
from tests.chaos.of_others import OF_HEADS, OF_MANIFESTS, OF_TOKENS
from tests.chaos.raw import Outcome
from tests.chaos.troubles import Kind, Target
from tests.hub.faults import Fault
from tests.hub.hub import Hub
from tests.hub.images import digest_of, image, layer

REPOSITORY = "library/chaos"

T = TypeVar("T")
What = Literal["blob", "range", "HEAD", "manifest", "token"]

_SIZES = 22
"""Blobs have 1 byte to four megabytes, as many between one power of two and the next."""
_FIRST_SIZES = (1, 2, 3)
_PUSHES = 6
_RANGES = 0.2
_OTHERS = 0.1
"""For each download, so many HEADs, manifests and tokens."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A blob or a manifest in the hub."""

    path: str
    """Below the repository."""
    data: bytes
    digest: str

    @property
    def pattern(self) -> str:
        """What is found in its paths, here and at the CDN, and in no other's."""
        return self.digest.partition(":")[2]


_TOKEN = Thing("", b"token", "token:token")
_OTHER_WHATS: tuple[What, ...] = ("HEAD", "manifest", "token")


@dataclass(frozen=True, slots=True)
class Content:
    """What lies in the repository of the crowd."""

    blobs: Sequence[Thing]
    manifests: Sequence[Thing]

    @classmethod
    def push(cls, hub: Hub, rng: random.Random, blobs: int, manifests: int) -> "Content":
        """Fill the hub."""
        sizes = [round(2 ** rng.uniform(0, _SIZES)) for _ in range(blobs)]
        sizes[: len(_FIRST_SIZES)] = _FIRST_SIZES
        data = [rng.randbytes(size) for size in sizes]
        with ThreadPoolExecutor(_PUSHES) as pool:
            for _ in pool.map(partial(hub.push_blob, REPOSITORY), data):
                pass
        images = [image([layer({"/n": f"{n}".encode()})]) for n in range(manifests)]
        for one in images:
            hub.push(REPOSITORY, one)
        return cls(
            [Thing(f"blobs/{digest_of(one)}", one, digest_of(one)) for one in data],
            [Thing(f"manifests/{one.digest}", one.body, one.digest) for one in images],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One request of the crowd's, and its faults."""

    number: int
    what: What
    thing: Thing
    part: range
    """The bytes that are asked for."""
    kind: str
    faults: Sequence[Fault]
    old: bool = False
    """By HTTP/1.0, which has no chunks."""

    @property
    def method(self) -> str:
        """GET or HEAD."""
        return "HEAD" if self.what == "HEAD" else "GET"

    @property
    def fields(self) -> Mapping[str, str]:
        """The headers of the request."""
        if self.what != "range":
            return {}
        return {"Range": f"bytes={self.part.start}-{self.part.stop - 1}"}

    def wrong(self, outcome: Outcome) -> str:
        """Tell how an answer differs from what it should be; "" for a good one."""
        if outcome.status != (206 if self.what == "range" else 200):
            return f"status {outcome.status} {outcome.error} {outcome.body[:200]!r}"
        return "" if self.what == "token" else self._wrong_body(outcome)

    def _wrong_body(self, outcome: Outcome) -> str:
        length = outcome.headers.get("content-length", "")
        wanted = b"" if self.what == "HEAD" else self.thing.data[self.part.start : self.part.stop]
        if not outcome.looks_complete:
            return f"broken after {len(outcome.body)} bytes of {len(wanted)}: {outcome.error}"
        if outcome.body != wanted:
            return f"other bytes, {len(outcome.body)} instead of {len(wanted)}"
        if length not in {"", str(len(self.part))}:
            return f"Content-Length {length} instead of {len(self.part)}"
        if self.what == "HEAD" and not length:
            return "HEAD without a length"
        return ""

    def __str__(self) -> str:
        return (
            f"errand {self.number}: {self.what} of {self.part} of {len(self.thing.data)} bytes "
            f"at {self.thing.path}, {self.kind}"
        )


def planned(rng: random.Random, content: Content, downloads: int) -> list[Errand]:
    """Plan so many downloads of blobs, and HEADs and manifests between them."""
    whats: list[What] = []
    for _ in range(downloads):
        whats.append("range" if rng.random() < _RANGES else "blob")
        whats += ["HEAD"] if rng.random() < _OTHERS else []
        whats += [other for other in _OTHER_WHATS if rng.random() < _OTHERS]
    blobs, manifests = _in_turn(rng, content.blobs), _in_turn(rng, content.manifests)
    things = {"manifest": manifests, "token": itertools.repeat(_TOKEN)}
    of_blobs = _in_turn(rng, list(OF_BLOBS.items()))
    kinds = {
        "blob": of_blobs,
        "range": of_blobs,
        "HEAD": _in_turn(rng, list(OF_HEADS.items())),
        "manifest": _in_turn(rng, list(OF_MANIFESTS.items())),
        "token": _in_turn(rng, list(OF_TOKENS.items())),
    }
    errand = partial(_errand, rng)
    return [
        errand(number, what, next(things.get(what, blobs)), next(kinds[what]))
        for number, what in enumerate(whats)
    ]


def _errand(
    rng: random.Random, number: int, what: What, thing: Thing, named: tuple[str, Kind]
) -> Errand:
    part = range(len(thing.data))
    if what == "range":
        start = rng.randrange(len(part))
        part = range(start, rng.randint(start + 1, len(part)))
    target = Target(path=thing.pattern, start=part.start, length=len(part), total=len(thing.data))
    name, kind = named
    return Errand(
        number=number,
        what=what,
        thing=thing,
        part=part,
        kind=name,
        faults=kind(rng, target),
    )


def _in_turn(rng: random.Random, things: Sequence[T]) -> Iterator[T]:
    """Yield all in a random order, and again in another one, so that each has its turn."""
    while True:
        yield from rng.sample(things, len(things))
