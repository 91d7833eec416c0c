"""Proxies as clients see them, for the tests of what clients are told."""

from dataclasses import replace

from app.registries import HUB, WELL_KNOWN, Registries, Registry
from app.web.proxy import Proxy

HARBOR = Registry(name="harbor.example", url="https://harbor.example")
GHCR_HOST = "ghcr.proxy.example"

USUAL = Proxy(url="https://proxy.example", registries=Registries([*WELL_KNOWN.values(), HARBOR]))
"""What docs/registries.md describes."""

_WITH_HOST = replace(WELL_KNOWN["ghcr.io"], hosts=frozenset({GHCR_HOST}))
_ROWS = [row for row in WELL_KNOWN.values() if row.name != "ghcr.io"]

HOSTS = Proxy(url="https://proxy.example", registries=Registries([*_ROWS, _WITH_HOST]))
"""The same with a host for ghcr.io."""

PLAIN = Proxy(url="http://proxy.example:8080", registries=Registries([*_ROWS, _WITH_HOST]))

ALONE = Proxy(url=f"https://{GHCR_HOST}", registries=HOSTS.registries, only=_WITH_HOST)
"""What is seen at that host."""

OWN = Proxy(
    url="https://proxy.example",
    registries=Registries(
        [
            Registry(name="company.example", url="https://company.example"),
            replace(HUB, aliases=HUB.aliases | {"hub"}),
            Registry(name="10.0.0.5:5000", url="http://10.0.0.5:5000", aliases=frozenset({"old"})),
            Registry(name="nowhere.example:5000", url="https://nowhere.example:5000"),
            Registry(name="ghcr.io", url="https://ghcr.io", aliases=frozenset({"lscr.io"})),
        ]
    ),
)
"""Another default registry, aliases, and names with ports."""

BELOW = Proxy(url="https://proxy.example/docxy", registries=HOSTS.registries)

ALL = {"below": BELOW, "usual": USUAL, "hosts": HOSTS, "plain": PLAIN, "alone": ALONE, "own": OWN}
