"""What a test of the wire is given: an upstream, a proxy before it, and clients."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import Docxy
from tests.wire.client import Client
from tests.wire.upstream import Script, Upstream, response

NETRC_PASSWORD = "netrc-password-of-the-host"  # noqa: S105 - it must never be seen


@dataclass(frozen=True)
class Wire:
    """A scripted upstream and the proxy before it."""

    upstream: Upstream
    proxy: Docxy

    def play(self, script: Script) -> None:
        """Let the upstream play this."""
        self.upstream.play(script)

    def client(self, **options: Any) -> Client:
        """Connect a client to the proxy."""
        return Client(self.proxy.host, **options)


@dataclass(frozen=True)
class Certificates:
    """What a TLS upstream needs, and the file with its authority."""

    context: ssl.SSLContext
    ca_path: Path


Start = Callable[..., Wire]

MANIFEST = "/v2/library/alpine/manifests/latest"
DIGEST = "sha256:" + "5" * 64
BLOB = f"/v2/library/alpine/blobs/{DIGEST}"


REPEATED = {"DOCXY_RETRY_BUDGET": "10"}
"""For a way through another proxy, on which the end of a kept connection comes late."""


def manifest(tag: str) -> str:
    """Return the path of a manifest."""
    return f"/v2/library/alpine/manifests/{tag}"


def location(url: str, status: str = "307 Temporary Redirect") -> bytes:
    """Return a redirect."""
    return response(b"", f"Location: {url}", status=status)


def upstream_settings(upstream: Upstream, home: Path, **more: str) -> dict[str, str]:
    """Return the settings of a proxy for this upstream."""
    settings = {
        "HOME": str(home),
        "DOCXY_REGISTRY_URL": upstream.url,
        "DOCXY_TOKEN_URL": f"{upstream.url}/token",
        "DOCXY_TOKEN_SERVICE": "registry.test",
        "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true",
        # A script is played once: what a second attempt makes good is tested elsewhere.
        "DOCXY_RETRY_BUDGET": "0.001",
        "DOCXY_RESUME_BUDGET": "0.001",
    }
    return settings | more
