"""What nobody can mend: of these answers not one may look complete."""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus

from tests.chaos.errands import Content, Errand
from tests.chaos.raw import Outcome
from tests.chaos.troubles import Kind, Target, at
from tests.hub.faults import Fault

SETTINGS: Mapping[str, str] = {
    "DOCXY_READ_TIMEOUT": "1",
    "DOCXY_RETRY_BUDGET": "2",
    "DOCXY_RESUME_BUDGET": "2",
}
"""Patience is for what can be mended."""

VERIFYING = {**SETTINGS, "DOCXY_VERIFY_BLOBS": "true"}

_OLD = 0.25
"""So many are asked for by HTTP/1.0, where only a reset tells an early end from the end."""


def _for_good(rng: random.Random, target: Target, rest: Fault, **first: object) -> list[Fault]:
    cut = at("cdn", target, **{"cut_after": rng.randrange(target.length), **first})
    return [cut, dataclasses.replace(rest, times=None)]


def cut_for_good(rng: random.Random, target: Target) -> list[Fault]:
    return _for_good(rng, target, at("cdn", target, cut_after=0))


def reset_for_good(rng: random.Random, target: Target) -> list[Fault]:
    return _for_good(rng, target, at("cdn", target, cut_after=0, reset=True), reset=True)


def stalled_for_good(rng: random.Random, target: Target) -> list[Fault]:
    first = {"cut_after": None, "stall_after": rng.randrange(target.length)}
    return _for_good(rng, target, at("cdn", target, stall_after=0), **first)


def cut_then_ill_for_good(rng: random.Random, target: Target) -> list[Fault]:
    return _for_good(rng, target, at("cdn", target, status=503))


def cut_then_gone_for_good(rng: random.Random, target: Target) -> list[Fault]:
    return _for_good(rng, target, at("cdn", target, status=404))


def cut_then_hung_up_for_good(rng: random.Random, target: Target) -> list[Fault]:
    return _for_good(rng, target, at("cdn", target, hang_up=True))


def cut_then_registry_ill(rng: random.Random, target: Target) -> list[Fault]:
    faults = _for_good(rng, target, at("cdn", target, status=403, body="<Error>expired</Error>"))
    return [*faults, at("registry", target, status=500, skip=1, times=None)]


def cut_then_another_blob(rng: random.Random, target: Target) -> list[Fault]:
    total = target.total + rng.randint(1, 9)
    wrong = (("Content-Range", f"bytes {target.start}-{total - 1}/{total}"),)
    rest = at("cdn", target, drop_headers=("Content-Range",), add_headers=wrong)
    return _for_good(rng, target, rest)


def chunked_and_cut_for_good(rng: random.Random, target: Target) -> list[Fault]:
    return _for_good(rng, target, at("cdn", target, cut_after=0, chunked=True), chunked=True)


def _of_length(target: Target, length: int, **fields: object) -> list[Fault]:
    wrong = (("Content-Length", str(length)),)
    dropped = ("Content-Length",)
    return [
        at("cdn", target, drop_headers=dropped, add_headers=wrong, times=None, **fields),
    ]


def said_to_be_longer(rng: random.Random, target: Target) -> list[Fault]:
    longer = target.length + rng.randint(1, 1000)
    return _of_length(target, longer, cut_after=target.length)


def said_to_be_longer_and_held(rng: random.Random, target: Target) -> list[Fault]:
    longer = target.length + rng.randint(1, 1000)
    return _of_length(target, longer, stall_after=target.length)


CUT: Mapping[str, Kind] = {
    "cut for good": cut_for_good,
    "reset for good": reset_for_good,
    "stalled for good": stalled_for_good,
    "cut, then 503 for good": cut_then_ill_for_good,
    "cut, then 404 for good": cut_then_gone_for_good,
    "cut, then hung up for good": cut_then_hung_up_for_good,
    "cut, URL expired, then the registry answers 500 for good": cut_then_registry_ill,
    "cut, then a blob of another size": cut_then_another_blob,
    "in chunks, and cut for good": chunked_and_cut_for_good,
    "a `Content-Length` longer than the blob": said_to_be_longer,
    "a `Content-Length` longer than the blob, and no end": said_to_be_longer_and_held,
}
"""Docxy as it is by default."""


def flipped(rng: random.Random, target: Target) -> list[Fault]:
    return [at("cdn", target, flip_byte=rng.randrange(target.length))]


def flipped_in_chunks(rng: random.Random, target: Target) -> list[Fault]:
    return [at("cdn", target, flip_byte=rng.randrange(target.length), chunked=True)]


def flipped_afterwards(rng: random.Random, target: Target) -> list[Fault]:
    cut = rng.randrange(target.length)
    flip = rng.randrange(target.length - cut)
    return [at("cdn", target, cut_after=cut), at("cdn", target, flip_byte=flip)]


def said_to_be_shorter(rng: random.Random, target: Target) -> list[Fault]:
    if target.length == 1:
        return flipped(rng, target)
    shorter = rng.randrange(1, target.length)
    return _of_length(target, shorter, cut_after=shorter)


def shorter_in_chunks(rng: random.Random, target: Target) -> list[Fault]:
    """Let the chunks end well, of what is not the blob."""
    body = rng.randbytes(max(1, target.length - 1))
    return [at("cdn", target, status=200, body=body, chunked=True)]


WRONG: Mapping[str, Kind] = {
    "one byte flipped": flipped,
    "one byte flipped, in chunks": flipped_in_chunks,
    "cut, then one byte flipped": flipped_afterwards,
    "a `Content-Length` shorter than the blob": said_to_be_shorter,
    "other bytes, in chunks": shorter_in_chunks,
}
"""With DOCXY_VERIFY_BLOBS."""


def planned(
    rng: random.Random, content: Content, kinds: Mapping[str, Kind], count: int
) -> list[Errand]:
    """Plan so many downloads, each kind in its turn; each spoils its blob for ever."""
    return list(_planned(rng, content, list(kinds.items()), count))


def _planned(
    rng: random.Random, content: Content, kinds: Sequence[tuple[str, Kind]], count: int
) -> Iterator[Errand]:
    for number, thing in enumerate(rng.sample(content.blobs, min(count, len(content.blobs)))):
        name, kind = kinds[number % len(kinds)]
        size = len(thing.data)
        target = Target(path=thing.pattern, start=0, length=size, total=size)
        yield Errand(
            number=number,
            what="blob",
            thing=thing,
            part=range(size),
            kind=name,
            faults=kind(rng, target),
            old=rng.random() < _OLD,
        )


def looks_complete(errand: Errand, outcome: Outcome) -> str:
    """Tell why an answer would pass for the blob; "" if it could not."""
    del errand
    if outcome.looks_complete and outcome.status < HTTPStatus.BAD_REQUEST:
        return f"status {outcome.status}, {len(outcome.body)} bytes look complete"
    return ""
