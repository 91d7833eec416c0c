"""Several hubs behind one Docxy, as tests see them: what is where, and what each was asked."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.hub.accounts import ANONYMOUS
from tests.hub.hub import Hub
from tests.hub.record import Record
from tests.hub.tokens import claims_of
from tests.integration.pulling import Client, Way
from tests.integration.secrecy import Secrets
from tests.servers import Docxy

PRIVATE = "alice/private:1"
"""Everywhere, and everywhere another image; alice and carol may read it."""

ALICE: Mapping[str, str] = {
    "docker.io": "alicepw",
    "ghcr.io": "alicepwghcr",
    "quay.io": "alicepwquay",
    "basic.test": "alicepwbasic",
}
"""Her passwords; carol has the same one everywhere."""

CAROL = "carol", "carolpw"


@dataclass(frozen=True)
class Served:
    """A Docxy, and the hubs that it serves."""

    hubs: Mapping[str, Hub]
    """By the registry's name in Docxy's table; two names may mean one hub."""
    proxy: Docxy
    secrets: Secrets

    @property
    def host(self) -> str:
        """host:port that means the default registry, with whatever prefix."""
        return self.proxy.host

    @property
    def named_host(self) -> str:
        """host:port of the same Docxy that stands for one registry alone."""
        return self.proxy.host.replace("127.0.0.1", "localhost")

    def way(self, host: str = "", mirrored: Mapping[str, str] | None = None) -> Way:
        """Return how a client reaches this, by one of the two hosts."""
        host = host or self.host
        return Way("plain", f"http://{host}", host, None, lambda: self.proxy.log, mirrored or {})

    def assert_only(self, *names: str) -> None:
        """See that these registries were asked for something, and no other one for anything."""
        asked = {hub for hub in self.hubs.values() if not all(map(_is_ping, hub.requests))}
        assert asked == {self.hubs[name] for name in names}, [
            record for hub in asked for record in hub.requests
        ]

    def forget(self) -> None:
        """See that no secret of what the hubs were asked is in the log, and empty their memory."""
        hubs = set(self.hubs.values())
        assert self.secrets.look_for([record for hub in hubs for record in hub.requests]) == []
        for hub in hubs:
            hub.forget()


REFUSED = re.compile(
    r"denied|unauthorized|insufficient_scope|authentication required|forbidden", re.IGNORECASE
)
"""What clients say of an image that they may not have."""

Fresh = Callable[..., Client]
Watch = Callable[[Served], Served]


def known_at(hub: Hub) -> set[str]:
    """Return who its clients are, as far as a hub was told; empty where all came as nobody."""
    return {who for record in hub.requests for who in _told(record)} - {ANONYMOUS}


def _told(record: Record) -> Iterator[str]:
    scheme, _, secret = record.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        yield base64.b64decode(secret).decode().partition(":")[0]
    elif scheme:
        yield str(claims_of(secret).get("sub", secret))
    for fields in (record.query, record.body):
        for name in ("account", "username"):
            yield from fields.get(name, [])
        yield from {"password", "refresh_token", "offline_token"} & {*fields}


def _is_ping(record: Record) -> bool:
    """Tell whether this is Docxy's own look at how a registry lets clients in."""
    return (
        (record.part, record.method, record.path) == ("registry", "GET", "/v2/")
        and "Authorization" not in record.headers
        and record.headers["User-Agent"].startswith("docxy/")
    )


def shown_to(hub: Hub) -> set[str]:
    """Return the refresh tokens that a hub has seen, and the issuers of the other tokens."""
    found = set[str]()
    for record in hub.requests:
        scheme, _, secret = record.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer":
            found.add(str(claims_of(secret).get("iss", secret)))
        found.update(record.body.get("refresh_token", []))
    return found
