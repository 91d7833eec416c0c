"""What goes wrong with the download of a blob, and can be mended."""

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from tests.chaos.troubles import PASSING, Kind, Target, at, somewhere, statuses
from tests.hub.faults import Fault
from tests.hub.gates import Gate

_AGAIN_AND_AGAIN = 10
_REDIRECT = 50
"""Bytes, fewer than the body of a redirect has."""


def _cut(rng: random.Random, target: Target, **fields: Any) -> Fault:
    return at("cdn", target, cut_after=somewhere(rng, target), **fields)


def _silence(part: str, target: Target) -> Fault:
    """Return a fault that says nothing until its client leaves."""
    return dataclasses.replace(at(part, target), gate=Gate())


def cut_once(rng: random.Random, target: Target) -> list[Fault]:
    return [_cut(rng, target)]


def cut_three_times(rng: random.Random, target: Target) -> list[Fault]:
    faults, left = [], target.length
    for _ in range(3):
        cut = rng.randrange(left)
        faults.append(at("cdn", target, cut_after=cut))
        left -= cut
    return faults


def cut_ten_times(rng: random.Random, target: Target) -> list[Fault]:
    step = target.length // (_AGAIN_AND_AGAIN + 1)
    if not step:
        return cut_three_times(rng, target)
    return [at("cdn", target, cut_after=step, times=_AGAIN_AND_AGAIN)]


def reset(rng: random.Random, target: Target) -> list[Fault]:
    return [_cut(rng, target, reset=True)]


def stalled(rng: random.Random, target: Target) -> list[Fault]:
    return [at("cdn", target, stall_after=somewhere(rng, target))]


def chunked_and_cut(rng: random.Random, target: Target) -> list[Fault]:
    return [_cut(rng, target, chunked=True)]


def chunked(rng: random.Random, target: Target) -> list[Fault]:
    del rng
    return [at("cdn", target, chunked=True)]


def slow(rng: random.Random, target: Target) -> list[Fault]:
    rate = round(max(20, target.length) * rng.uniform(0.5, 2))
    return [at("cdn", target, bytes_per_second=rate)]


def silent_registry(rng: random.Random, target: Target) -> list[Fault]:
    del rng
    return [_silence("registry", target)]


def silent_cdn(rng: random.Random, target: Target) -> list[Fault]:
    del rng
    return [_silence("cdn", target)]


def registry_hangs_up(rng: random.Random, target: Target) -> list[Fault]:
    return [at("registry", target, hang_up=True, reset=rng.random() < 1 / 2)]


def cdn_hangs_up(rng: random.Random, target: Target) -> list[Fault]:
    return [at("cdn", target, hang_up=True, reset=rng.random() < 1 / 2)]


def registry_ill(rng: random.Random, target: Target) -> list[Fault]:
    return statuses(rng, "registry", target)


def cdn_ill(rng: random.Random, target: Target) -> list[Fault]:
    return statuses(rng, "cdn", target)


def redirect_cut(rng: random.Random, target: Target) -> list[Fault]:
    return [at("registry", target, cut_after=rng.randrange(_REDIRECT))]


def redirect_stalled(rng: random.Random, target: Target) -> list[Fault]:
    return [at("registry", target, stall_after=rng.randrange(_REDIRECT))]


def told_to_wait(rng: random.Random, target: Target) -> list[Fault]:
    del rng
    return [at("registry", target, status=503, headers={"Retry-After": "1"})]


def url_expired(rng: random.Random, target: Target) -> list[Fault]:
    return [_cut(rng, target), at("cdn", target, status=403, body="<Error>expired</Error>")]


def token_expired(rng: random.Random, target: Target) -> list[Fault]:
    return [*url_expired(rng, target), at("registry", target, status=401, skip=1)]


def range_ignored(rng: random.Random, target: Target) -> list[Fault]:
    return [_cut(rng, target), at("cdn", target, ignore_range=True)]


def ill_on_the_way_back(rng: random.Random, target: Target) -> list[Fault]:
    return [
        _cut(rng, target),
        at("cdn", target, status=rng.choice(PASSING)),
        at("registry", target, status=rng.choice(PASSING), skip=1),
    ]


def wrong_length_afterwards(rng: random.Random, target: Target) -> list[Fault]:
    wrong = (("Content-Length", str(target.length + rng.randint(1, 1000))),)
    return [
        _cut(rng, target),
        at("cdn", target, drop_headers=("Content-Length",), add_headers=wrong),
    ]


def wrong_part_afterwards(rng: random.Random, target: Target) -> list[Fault]:
    other = f"bytes {target.total}-{target.total + 9}/{target.total + 10}"
    wrong = (("Content-Range", other),)
    return [
        _cut(rng, target),
        at("cdn", target, drop_headers=("Content-Range",), add_headers=wrong),
    ]


def less_than_asked_afterwards(rng: random.Random, target: Target) -> list[Fault]:
    if target.length == 1:
        return cut_once(rng, target)
    cut = rng.randrange(target.length - 1)
    start = target.start + cut
    given = rng.randrange(1, target.length - cut)
    headers = (
        ("Content-Range", f"bytes {start}-{start + given - 1}/{target.total}"),
        ("Content-Length", str(given)),
    )
    dropped = ("Content-Range", "Content-Length")
    return [
        at("cdn", target, cut_after=cut),
        at("cdn", target, drop_headers=dropped, add_headers=headers, cut_after=given),
    ]


def everything(rng: random.Random, target: Target) -> list[Fault]:
    return [
        at("registry", target, status=rng.choice(PASSING)),
        at("cdn", target, hang_up=True),
        _cut(rng, target),
        at("cdn", target, status=403, body="<Error>expired</Error>"),
        # Met on the way to the first byte or later: a kept connection to the CDN that hangs up is
        # replaced without asking the registry.
        at("registry", target, hang_up=True, skip=1),
    ]


OF_BLOBS: Mapping[str, Kind] = {
    "cut once": cut_once,
    "cut three times": cut_three_times,
    "cut ten times": cut_ten_times,
    "reset": reset,
    "stalled in the middle": stalled,
    "in chunks, without a length": chunked,
    "in chunks, and cut": chunked_and_cut,
    "slow": slow,
    "the registry says nothing": silent_registry,
    "the CDN says nothing": silent_cdn,
    "the registry hangs up": registry_hangs_up,
    "the CDN hangs up": cdn_hangs_up,
    "500, 502, 503 or 504 of the registry, up to three times": registry_ill,
    "500, 502, 503 or 504 of the CDN, up to three times": cdn_ill,
    "the redirect to the CDN is cut": redirect_cut,
    "the redirect to the CDN stalls": redirect_stalled,
    "503 with `Retry-After: 1`": told_to_wait,
    "cut, then the signed URL has expired": url_expired,
    "cut, then the URL and the token have expired": token_expired,
    "cut, then `Range` is ignored": range_ignored,
    "cut, then the CDN and the registry answer 5xx": ill_on_the_way_back,
    "cut, then a wrong `Content-Length`": wrong_length_afterwards,
    "cut, then another part than was asked for": wrong_part_afterwards,
    "cut, then less than was asked for": less_than_asked_afterwards,
    "5xx, hung up, cut, URL expired, hung up": everything,
}
"""What a resume, or asking again, can mend."""
