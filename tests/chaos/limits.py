"""A 429 is no fault to be mended: it is the client's to hear of, and to wait as it says."""

import random
from http import HTTPStatus

from tests.chaos.crowd import Tally
from tests.chaos.raw import RawClient
from tests.hub.hub import Hub
from tests.hub.images import digest_of
from tests.servers import wait_until

KIND = "429 with `Retry-After: 1` on a blob"

_SIZE = 10_000


def run(hub: Hub, host: str, rng: random.Random, downloads: int) -> Tally:
    """Answer 429 to downloads; each must see it, with its Retry-After, and succeed later.

    Each in a repository of its own, as Docxy answers for one from memory for a while.
    """
    tally = Tally()
    for number in range(downloads):
        blob = rng.randbytes(_SIZE)
        path = f"blobs/{digest_of(blob)}"
        client = RawClient(host, f"library/limited{number}")
        hub.push_blob(client.repository, blob)
        client.log_in()
        hub.forget()
        hub.fail(part="registry", path="/blobs/", status=429, headers={"Retry-After": "1"})
        answer = client.ask("GET", path, {})
        tally.tried += 1
        tally.met += hub.count("registry", "GET", "/blobs/", 429)
        if answer.status != HTTPStatus.TOO_MANY_REQUESTS or answer.headers["retry-after"] != "1":
            tally.lost.append(f"{KIND}: status {answer.status}, {answer.headers}")
        wait_until(lambda: client.ask("GET", path, {}).body == blob, what="the end of a 429")  # noqa: B023
    return tally
