"""Signed URLs and tokens that really expire, by the hub's clock, in the middle of downloads."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.crowd import AT_ONCE, Tally
from tests.chaos.raw import Outcome, RawClient
from tests.hub.gates import Gate
from tests.hub.hub import Hub
from tests.hub.images import digest_of
from tests.servers import wait_until

KIND = "cut, and an hour passes before it goes on"

_HOUR = 3600
_SIZE = 200_000


def run(hub: Hub, host: str, rng: random.Random, downloads: int) -> Tally:
    """Cut downloads, sixteen at once, and let an hour pass while they are asked for again.

    Docxy must run with a read timeout that nothing here comes near to.
    Each wave has a repository of its own: Docxy keeps its own token for one by its own clock,
    which does not move.
    """
    tally = Tally()
    for wave in range(0, downloads, AT_ONCE):
        count = min(AT_ONCE, downloads - wave)
        _wave(hub, host, f"library/wave{wave}", [rng.randbytes(_SIZE) for _ in range(count)], tally)
    return tally


def _wave(hub: Hub, host: str, repository: str, blobs: Sequence[bytes], tally: Tally) -> None:
    for blob in blobs:
        hub.push_blob(repository, blob)
    client = RawClient(host, repository)
    client.log_in()
    hub.forget()
    with Gate() as gate, ThreadPoolExecutor(len(blobs)) as pool:
        for blob in blobs:
            hex_digest = digest_of(blob).partition(":")[2]
            hub.fail(part="cdn", path=hex_digest, cut_after=len(blob) // 2)
            hub.fail(part="cdn", path=hex_digest, gate=gate)
        coming = [pool.submit(client.ask, "GET", f"blobs/{digest_of(blob)}", {}) for blob in blobs]
        wait_until(lambda: gate.arrived == len(blobs), what="all that were cut")
        hub.advance(_HOUR)
        gate.open()
        answers = [one.result() for one in coming]
    for blob, answer in zip(blobs, answers, strict=True):
        _judge(hub, blob, answer, tally)


def _judge(hub: Hub, blob: bytes, answer: Outcome, tally: Tally) -> None:
    digest = digest_of(blob)
    path = digest.partition(":")[2]
    tally.tried += 1
    tally.met += hub.count("cdn", "GET", path, 403) + hub.count("registry", "GET", path, 401)
    if answer.status != 200 or not answer.looks_complete or answer.body != blob:
        tally.lost.append(f"{KIND}: {digest}: status {answer.status} {answer.error}")
    if not hub.count("cdn", "GET", path, 403) or not hub.count("registry", "GET", path, 401):
        tally.calm.append(f"{KIND}: {digest}: nothing had expired")
