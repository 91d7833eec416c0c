"""First pulls of images: the cases in which they are measured, and the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bench.puller import CRANE, CTR, DOCKER, PODMAN, RANGES, SKOPEO, UNPACKING

LATENCY: Final = 0.1
"""Seconds added to every request to the registry, its token service and its CDN."""
MB: Final = 1_000_000
RATE: Final = 10 * MB
"""Bytes a second of each connection to the CDN, in the cases that limit it."""
SHARED_RATE: Final = 50 * MB
"""Bytes a second of all connections to the CDN together, in the case of a full line."""
WORKERS: Final = 2

DIRECT: Final = "direct"
COLD: Final = "Docxy, cold cache"
UNCACHED: Final = "Docxy without a cache"
WARM: Final = "Docxy, warm cache"
OWN_WORK: Final = "own work"
"""A direct pull without latency and limit, which takes the time of the client's own work."""


@dataclass(frozen=True, slots=True)
class Case:
    """An image, the limits of the CDN, and the clients that pull the image."""

    name: str
    layers: Sequence[int]
    """The size of each layer in bytes."""
    clients: Sequence[str]
    rounds: int
    rate: int | None = None
    """Bytes a second of each connection to the CDN; None: no limit."""
    shared_rate: int | None = None
    """Bytes a second of all connections to the CDN together."""

    def list_modes(self, client: str) -> list[str]:
        """Return the ways in which a client pulls the image in each round."""
        if client == RANGES:
            # Docxy need not keep a blob of which a client asked for ranges only.
            return [DIRECT, COLD, UNCACHED]
        own_work = [OWN_WORK] if client in UNPACKING else []
        if self.rate is not None:
            # Without a cache, Docxy has the same connection as the client; skip the long wait.
            return [DIRECT, COLD, WARM, *own_work]
        return [DIRECT, COLD, UNCACHED, WARM, *own_work]


ONE_LAYER: Final = "one layer of 200 MB"
FIVE_LAYERS: Final = "100 + 40 + 20 + 10 + 5 MB"
SIXTEEN_LAYERS: Final = "16 layers of 482 KiB"
SEVEN_LAYERS: Final = "7 layers, 4 MB together"
FULL_LINE: Final = "one layer of 200 MB, full line"
PARALLEL: Final = "one layer of 100 MB in parallel ranges"

_ROUNDS: Final = 7
_ALL_CLIENTS: Final = (SKOPEO, DOCKER, PODMAN, CTR, CRANE)
CASES: Final = (
    Case(ONE_LAYER, (200 * MB,), (SKOPEO, DOCKER, CRANE), _ROUNDS, rate=RATE),
    Case(
        FIVE_LAYERS, (100 * MB, 40 * MB, 20 * MB, 10 * MB, 5 * MB), (SKOPEO, DOCKER, CRANE),
        _ROUNDS, rate=RATE,
    ),
    Case(SIXTEEN_LAYERS, (482 * 1024,) * 16, _ALL_CLIENTS, _ROUNDS),
    Case(SEVEN_LAYERS, (4 * MB // 7,) * 7, _ALL_CLIENTS, _ROUNDS),
    Case(FULL_LINE, (200 * MB,), (SKOPEO, CRANE), _ROUNDS, shared_rate=SHARED_RATE),
    Case(PARALLEL, (100 * MB,), (RANGES,), _ROUNDS, rate=RATE),
)  # fmt: skip


def shorten(cases: Sequence[Case], divisor: int = 20) -> list[Case]:
    """Return the cases with one round each, and with large layers divided."""
    return [
        replace(
            case,
            rounds=1,
            layers=[size // divisor if size > MB else size for size in case.layers],
        )
        for case in cases
    ]


@dataclass(frozen=True, slots=True)
class UpstreamCounts:
    """The requests of one pull to the registry, its token service and its CDN."""

    logins: int
    """Pings and token requests."""
    manifests: int
    """GETs; each one that is answered is a pull."""
    heads: int
    """HEADs of manifests."""
    blobs: int
    """Blob requests to the registry."""
    downloads: int
    """Requests to the CDN."""
    sent: int
    """Bytes that the CDN sent."""

    @property
    def total(self) -> int:
        """The number of all requests."""
        return self.logins + self.manifests + self.heads + self.blobs + self.downloads


@dataclass(slots=True)
class ModeFigures:
    """The pulls of one client in one mode, a value for each round."""

    seconds: list[float] = field(default_factory=list)
    upstream_counts: list[UpstreamCounts] = field(default_factory=list)
    upstream_cores: list[float] = field(default_factory=list)
    """Cores that the registry and its CDN used."""


@dataclass(frozen=True, slots=True)
class CaseFigures:
    """The pulls of one client in one case."""

    case: Case
    client: str
    blob_count: int
    """Blobs that the client fetches."""
    size: int
    """Bytes of these blobs."""
    modes: Mapping[str, ModeFigures]


@dataclass(frozen=True, slots=True)
class PullFigures:
    """All measurements of first pulls, except misses of a large blob."""

    load_before: float
    results: Sequence[CaseFigures]
    first_byte: Mapping[str, Sequence[float]]
    """Seconds, direct and cold."""
    memory_growth: Sequence[float]
    """MiB by which the workers grew in each cold pull of the first case."""
    client_versions: Mapping[str, str]
    missing_clients: Sequence[str]

    def get_results(self, case_name: str) -> list[CaseFigures]:
        """Return the figures of all clients in a case."""
        return [result for result in self.results if result.case.name == case_name]
