"""The section of docs/performance.md about the cache."""

from collections.abc import Iterator, Mapping
from typing import Final

from bench.cached import CACHED, FILE, HITS, PEER, UNCACHED, CacheFigures, DownloadFigures
from bench.copies import LATENCY, LAYERS, Copies
from bench.figures import Figure
from bench.targets import Target, format_reasons, format_table
from bench.wrk import CONNECTIONS


def render(measured: CacheFigures) -> str:
    """Return the section, with an empty line after it."""
    targets = list(_iter_targets(measured))
    return "\n".join(
        [
            "## The cache\n",
            *format_table(targets),
            *format_reasons(targets),
            *_format_downloads("hit", measured.hits),
            *_format_downloads("miss", measured.misses),
            *_format_manifests(measured),
            *_format_copies(measured),
            *_describe_method(measured),
            "",
        ]
    )


_HIT_REASON: Final = "Its cause was not found."
_MISS_REASON: Final = (
    "Docxy needs more processor time for each GiB, and one thread does all but hashing and "
    "writing. In a profile of 2.6 s, 0.7 s went into TLS, which Python's ssl module reads with two "
    "calls for each 16 KiB, 0.6 s into SHA-256, 0.35 s into sending, 0.25 s into writing, and most "
    "of the rest into Python."
)


def _iter_targets(measured: CacheFigures) -> Iterator[Target]:
    hits, misses = measured.hits, measured.misses
    hit = Figure.ratio(hits[CACHED].speed, hits[FILE].speed)
    yield Target(
        "Speed of a hit, relative to nginx with the same file", "at least 0.9", hit, 2,
        hit.median >= 0.9,
        "Both let the kernel send the file (`sendfile`); before each piece, Docxy checks whether "
        "it is in memory. With `DOCXY_ACCEL_LOCATION` nginx sends it.",
    )  # fmt: skip
    miss = Figure.ratio(misses[CACHED].speed, misses[UNCACHED].speed)
    yield Target(
        "Speed of a miss, relative to Docxy without a cache", "at least 0.5", miss, 2,
        miss.median >= 0.5,
        "With a cache, each byte is also hashed, written to the disk and read again, on the two "
        "cores that the registry and its TLS need, too.",
    )  # fmt: skip
    for kind, fetched, reason in (("hit", hits, _HIT_REASON), ("miss", misses, _MISS_REASON)):
        peer = Figure.ratio(fetched[CACHED].speed, fetched[PEER].speed)
        yield Target(
            f"Speed of a {kind}, relative to docker-registry", "more than 1", peer, 2,
            peer.median > 1,
            reason,
        )  # fmt: skip
    rate = Figure.of(load.requests_per_second for load in measured.manifests[CACHED].loads)
    yield Target(
        "Manifests by digest a second, one worker", "at least 2,000", rate, 0,
        rate.median >= 2000,
        "Most of the time is spent in gunicorn and Flask, for any request.",
    )  # fmt: skip
    yield from _iter_copy_targets(measured.copies)


def _iter_copy_targets(copies: Copies) -> Iterator[Target]:
    cold = Figure.ratio(copies.cold[CACHED], copies.direct)
    yield Target(
        "Time of a cold copy, relative to a direct one", "at most 0.9", cold, 2,
        cold.median <= 0.9,
        "Docxy asks the registry for all but ping and token, and storing a layer of this size "
        "takes four times the processor time of forwarding it: for some fourteen trips to the "
        "threads of the disk, and for the index.",
    )  # fmt: skip
    warm = Figure.ratio(copies.warm[CACHED], copies.direct)
    yield Target(
        "Time of a warm copy, relative to a direct one", "at most 0.2", warm, 2,
        warm.median <= 0.2,
        "Docxy asks the registry whether the tag still means the same manifest, and skopeo itself "
        "takes time.",
    )  # fmt: skip


def _format_downloads(kind: str, measured: Mapping[str, DownloadFigures]) -> Iterator[str]:
    yield f"| one {kind} | {' | '.join(measured)} |"
    yield f"| --- |{' --- |' * len(measured)}"
    for title, digits, values in (
        ("MiB/s", 0, [downloads.speed for downloads in measured.values()]),
        ("processor seconds a GiB", 2, [downloads.cpu for downloads in measured.values()]),
        (
            "first byte, ms",
            1,
            [
                [1000 * seconds for seconds in downloads.first_byte]
                for downloads in measured.values()
            ],
        ),
    ):
        cells = " | ".join(Figure.of(value).text(digits) for value in values)
        yield f"| {title} | {cells} |"
    yield ""


def _format_manifests(measured: CacheFigures) -> Iterator[str]:
    yield "| manifests by digest | requests a second | p50, ms | p99, ms | processor ms a request |"
    yield "| --- | --- | --- | --- | --- |"
    for name, requests in measured.manifests.items():
        rate = Figure.of(load.requests_per_second for load in requests.loads).text(0)
        p50 = Figure.of(load.p50_ms for load in requests.loads).text(1)
        p99 = Figure.of(load.p99_ms for load in requests.loads).text(1)
        yield f"| {name} | {rate} | {p50} | {p99} | {Figure.of(requests.cpu).text(3)} |"
    yield ""


def _format_copies(measured: CacheFigures) -> Iterator[str]:
    copies = measured.copies
    direct = Figure.of(copies.direct)
    yield "| `skopeo copy` | seconds | relative to the direct one |"
    yield "| --- | --- | --- |"
    yield f"| direct | {direct.text(2)} | 1 |"
    for name in copies.cold:
        for kind, times in (("cold", copies.cold[name]), ("warm", copies.warm[name])):
            ratio = Figure.ratio(times, copies.direct)
            yield f"| {name}, {kind} | {Figure.of(times).text(2)} | {ratio.text(2)} |"
    yield ""


def _describe_method(measured: CacheFigures) -> Iterator[str]:
    copies = measured.copies
    blobs = copies.image.all_blobs
    yield (
        f"{measured.rounds} rounds; in each, every server is measured in turn.\n"
        "Client, upstream and servers are those of the other sections; Docxy has one worker, and "
        "its cache is on the disk; the content was written a moment before, so it is in the page "
        "cache."
    )
    yield (
        f"Hit: a blob of {measured.blob_size / 1024**2:,.0f} MiB that the server has stored, "
        f"after another download of it; {HITS} of each server in every round, in turn.\n"
        "nginx: one worker, `sendfile`, no log, the very file that Docxy has stored."
    )
    yield (
        "Miss: the same blob after it was deleted.\nDocxy ends the response when the digest is "
        "verified, and waits for the disk (`fsync`) afterwards; docker-registry fetches the blob a "
        "second time to store it.\nNeither of these is counted."
    )
    yield (
        f"Manifests: wrk, one thread, {CONNECTIONS} persistent connections, "
        f"{measured.load_seconds} s a round, with a Bearer token of 2 KiB; Docxy asks the "
        "registry about it once a minute."
    )
    yield (
        f"Copies: `skopeo copy` of an image in an index, with {LAYERS} layers of "
        f"{sum(one.size for one in blobs.values()) / len(blobs) / 1024:.0f} KiB, a new one in each "
        "round, to a directory; every request to the registry, its token service and its CDN takes "
        f"{1000 * LATENCY:.0f} ms longer.\nDocxy has two workers.\nCold: the cache has another "
        "image of the repository, and so the responses to ping and token request."
    )
    yield "docker-registry: CNCF's, as a pull-through cache, `proxy.remoteurl`, files on the disk."
    yield f"The load average before it was {measured.load_before:.1f}."
