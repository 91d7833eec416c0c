"""What goes wrong with manifests, HEADs and tokens, and can be mended."""

import random
from collections.abc import Mapping

from tests.chaos.troubles import PASSING, Kind, Target, at, counted, somewhere, statuses
from tests.hub.faults import Fault

_TOKEN = 50
"""Bytes, fewer than the answer with a token has."""


def manifest_ill(rng: random.Random, target: Target) -> list[Fault]:
    times = rng.randint(1, 3)
    status = rng.choice(PASSING)
    return [Fault(path=target.path, status=status, times=times, gate=counted())]


def manifest_hung_up(rng: random.Random, target: Target) -> list[Fault]:
    del rng
    return [Fault(path=target.path, hang_up=True, gate=counted())]


def manifest_cut(rng: random.Random, target: Target) -> list[Fault]:
    return [at("registry", target, cut_after=somewhere(rng, target))]


def manifest_stalled(rng: random.Random, target: Target) -> list[Fault]:
    return [at("registry", target, stall_after=somewhere(rng, target))]


OF_MANIFESTS: Mapping[str, Kind] = {
    "a manifest: 500, 502, 503 or 504, up to three times": manifest_ill,
    "a manifest: hung up": manifest_hung_up,
    "a manifest: cut": manifest_cut,
    "a manifest: stalled in the middle": manifest_stalled,
}


def head_ill(rng: random.Random, target: Target) -> list[Fault]:
    status, times = rng.choice(PASSING), rng.randint(1, 3)
    return [Fault(method="HEAD", path=target.path, status=status, times=times, gate=counted())]


def head_hung_up(rng: random.Random, target: Target) -> list[Fault]:
    del rng
    return [Fault(method="HEAD", path=target.path, hang_up=True, gate=counted())]


OF_HEADS: Mapping[str, Kind] = {
    "HEAD of a blob: 500, 502, 503 or 504, up to three times": head_ill,
    "HEAD of a blob: hung up": head_hung_up,
}


def token_ill(rng: random.Random, target: Target) -> list[Fault]:
    return statuses(rng, "token", target)


def token_hung_up(rng: random.Random, target: Target) -> list[Fault]:
    del rng
    return [at("token", target, hang_up=True)]


def token_cut(rng: random.Random, target: Target) -> list[Fault]:
    return [at("token", target, cut_after=rng.randrange(_TOKEN))]


def token_stalled(rng: random.Random, target: Target) -> list[Fault]:
    return [at("token", target, stall_after=rng.randrange(_TOKEN))]


OF_TOKENS: Mapping[str, Kind] = {
    "a token: 500, 502, 503 or 504, up to three times": token_ill,
    "a token: hung up": token_hung_up,
    "a token: cut": token_cut,
    "a token: stalled in the middle": token_stalled,
}
