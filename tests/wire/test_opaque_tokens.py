"""Tokens that tell nothing: every worker knows which of them are nobody's."""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Docxy, docxy
from tests.wire.client import Client
from tests.wire.upstream import Connection, Upstream, head, playing, response
from tests.wire.wires import BLOB, upstream_settings

DATA = bytes(range(256)) * 1000
RANGE = re.compile(r"bytes=(\d+)-")


class Registry:
    """A registry of opaque tokens, each of which expires while its first blob is on the way."""

    def __init__(self, upstream: Upstream) -> None:
        self._challenge = f'WWW-Authenticate: Bearer realm="{upstream.url}/token",service="r"'
        self._numbers = itertools.count()
        self._good: set[str] = set()
        upstream.play(self.script)

    def script(self, connection: Connection) -> None:
        """Answer whatever comes on a connection, until one is cut."""
        while True:
            asked = connection.head()
            if asked.target.startswith("/token"):
                token = f"opaque{next(self._numbers)}"
                self._good.add(f"Bearer {token}")
                answer = json.dumps({"token": token}).encode()
                connection.send(response(answer, "Content-Type: application/json"))
                continue
            shown = asked.value("Authorization")
            part = RANGE.match(asked.value("Range"))
            if shown not in self._good:
                connection.send(response(b"{}", self._challenge, status="401 Unauthorized"))
            elif part:
                start = int(part[1])
                told = f"Content-Range: bytes {start}-{len(DATA) - 1}/{len(DATA)}"
                connection.send(response(DATA[start:], told, status="206 Partial Content"))
            else:
                self._good.discard(shown)
                connection.send(head(f"Content-Length: {len(DATA)}"), DATA[:100_000])
                connection.close()
                return


@contextmanager
def proxy_of(home: Path) -> Iterator[Docxy]:
    """Run Docxy with two workers before such a registry."""
    with Upstream() as upstream, playing(upstream):
        Registry(upstream)
        patient = {"DOCXY_RETRY_BUDGET": "10", "DOCXY_RESUME_BUDGET": "10"}
        with docxy(workers=2, **upstream_settings(upstream, home, **patient)) as proxy:
            yield proxy


def test_a_token_that_expires_in_the_middle_of_a_layer(home: Path) -> None:
    """Whichever worker passed it on, and whichever one reads the layer."""
    with proxy_of(home) as proxy:
        for _ in range(16):
            with Client(proxy.host) as client:
                answer = client.get("/auth/token?scope=repository:library/a:pull")
            token = json.loads(answer.body)["token"]
            with Client(proxy.host) as client:
                answer = client.get(BLOB, f"Authorization: Bearer {token}")
            assert (answer.status, answer.body) == (200, DATA)
