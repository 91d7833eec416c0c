"""A CDN that is away for seconds: it refuses connections, in the middle of downloads and before."""

import contextlib
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.crowd import AT_ONCE, Tally
from tests.chaos.raw import Outcome, RawClient
from tests.hub.hub import Hub
from tests.hub.images import digest_of
from tests.servers import wait_until

IN_THE_MIDDLE = "the CDN refuses connections for 1 to 6 s, in the middle"
BEFORE = "the CDN refuses connections for up to 1 s, before the first byte"

_SIZE = 200_000
_NEVER = threading.Event()


def run(hub: Hub, host: str, rng: random.Random, downloads: int) -> dict[str, Tally]:
    """Let the CDN be away in waves of sixteen downloads, by turns as the two kinds say.

    Docxy must run with a read timeout that nothing here comes near to.
    """
    tallies = {IN_THE_MIDDLE: Tally(), BEFORE: Tally()}
    for wave in range(0, downloads, AT_ONCE):
        kind = IN_THE_MIDDLE if (wave // AT_ONCE) % 2 == 0 else BEFORE
        seconds = rng.uniform(1, 6) if kind == IN_THE_MIDDLE else rng.uniform(0.2, 1)
        blobs = [rng.randbytes(_SIZE) for _ in range(AT_ONCE)]
        for blob in blobs:
            hub.push_blob(f"library/outage{wave}", blob)
        client = RawClient(host, f"library/outage{wave}")
        client.log_in()
        _wave(hub, client, blobs, (kind, seconds), tallies[kind])
    return tallies


def _wave(
    hub: Hub, client: RawClient, blobs: Sequence[bytes], outage: tuple[str, float], tally: Tally
) -> None:
    kind, seconds = outage
    hub.forget()
    with ThreadPoolExecutor(len(blobs)) as pool, contextlib.ExitStack() as away:
        if kind == BEFORE:
            away.enter_context(hub.away("cdn"))
        else:
            for blob in blobs:
                path = digest_of(blob).partition(":")[2]
                hub.fail(part="cdn", path=path, stall_after=len(blob) // 2)
        coming = [pool.submit(client.ask, "GET", f"blobs/{digest_of(blob)}", {}) for blob in blobs]
        if kind == BEFORE:
            wait_until(lambda: hub.count("registry", "GET", "/blobs/") >= len(blobs))
        else:
            wait_until(lambda: hub.count("cdn", "GET") == len(blobs), what="all that stall")
            away.enter_context(hub.away("cdn"))
        _NEVER.wait(seconds)
        away.close()
        answers = [one.result() for one in coming]
    hub.heal()
    for blob, answer in zip(blobs, answers, strict=True):
        _judge(hub, blob, answer, kind, tally)


def _judge(hub: Hub, blob: bytes, answer: Outcome, kind: str, tally: Tally) -> None:
    digest = digest_of(blob)
    path = digest.partition(":")[2]
    asked = hub.count("cdn" if kind == IN_THE_MIDDLE else "registry", "GET", path)
    tally.tried += 1
    tally.met += asked - 1
    if answer.status != 200 or not answer.looks_complete or answer.body != blob:
        tally.lost.append(f"{kind}: {digest}: status {answer.status} {answer.error}")
    if asked < 2:
        tally.calm.append(f"{kind}: {digest}: it was never asked for again")
