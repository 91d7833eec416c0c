"""The section of docs/performance.md about the cache."""

from collections.abc import Iterator, Mapping
from typing import Final

from bench.cached import CACHED, FILE, HITS, PEER, UNCACHED, Cached, Fetched
from bench.copies import LATENCY, LAYERS, Copies
from bench.figures import Figure
from bench.targets import Target, reasons, table
from bench.wrk import CONNECTIONS


def render(measured: Cached) -> str:
    """Return the section, with an empty line after it."""
    targets = list(_targets(measured))
    return "\n".join(
        [
            "## The cache\n",
            *table(targets),
            *reasons(targets),
            *_downloads("hit", measured.hits),
            *_downloads("miss", measured.misses),
            *_manifests(measured),
            *_copies(measured),
            *_method(measured),
            "",
        ]
    )


_WHY_NO_HIT: Final = "Its cause was not found."
_WHY_NO_MISS: Final = (
    "Docxy needs more of the processor for each GiB, and one thread does all but hashing and "
    "writing. In a profile of 2.6 s, 0.7 s went into TLS, which Python's ssl module reads with two "
    "calls for each 16 KiB, 0.6 s into SHA-256, 0.35 s into sending, 0.25 s into writing, and most "
    "of the rest into Python."
)


def _targets(measured: Cached) -> Iterator[Target]:
    hits, misses = measured.hits, measured.misses
    hit = Figure.ratio(hits[CACHED].speed, hits[FILE].speed)
    yield Target(
        "Speed of a hit, in parts of nginx's that sends the same file", "at least 0.9", hit, 2,
        hit.median >= 0.9,
        "Both hand the file to the kernel (`sendfile`); Docxy looks before each piece whether it "
        "is in memory. With `DOCXY_ACCEL_LOCATION` it is nginx that sends it.",
    )  # fmt: skip
    miss = Figure.ratio(misses[CACHED].speed, misses[UNCACHED].speed)
    yield Target(
        "Speed of a miss, in parts of Docxy's without a cache", "at least 0.5", miss, 2,
        miss.median >= 0.5,
        "Beside what it costs without a cache, each byte is hashed, written to the disk and read "
        "again, on the two cores that the registry and its TLS need as well.",
    )  # fmt: skip
    for kind, fetched, why in (("hit", hits, _WHY_NO_HIT), ("miss", misses, _WHY_NO_MISS)):
        peer = Figure.ratio(fetched[CACHED].speed, fetched[PEER].speed)
        yield Target(
            f"Speed of a {kind}, in parts of docker-registry's", "more than 1", peer, 2,
            peer.median > 1,
            why,
        )  # fmt: skip
    rate = Figure.of(load.requests_per_second for load in measured.manifests[CACHED].loads)
    yield Target(
        "Manifests by digest a second, one worker", "at least 2,000", rate, 0,
        rate.median >= 2000,
        "Most of the time is spent in gunicorn and Flask, whatever they are asked for.",
    )  # fmt: skip
    yield from _targets_of_copies(measured.copies)


def _targets_of_copies(copies: Copies) -> Iterator[Target]:
    cold = Figure.ratio(copies.cold[CACHED], copies.direct)
    yield Target(
        "Time of a cold copy, in parts of a direct one's", "at most 0.9", cold, 2,
        cold.median <= 0.9,
        "The registry has to be asked for all but ping and token, and a layer of this size that is "
        "kept takes four times the processor time of one that is forwarded: for some fourteen ways "
        "to the disk's threads and back, and for the index.",
    )  # fmt: skip
    warm = Figure.ratio(copies.warm[CACHED], copies.direct)
    yield Target(
        "Time of a warm copy, in parts of a direct one's", "at most 0.2", warm, 2,
        warm.median <= 0.2,
        "The registry is asked whether the tag still leads to the same, and skopeo itself takes "
        "its time.",
    )  # fmt: skip


def _downloads(kind: str, measured: Mapping[str, Fetched]) -> Iterator[str]:
    yield f"| one {kind} | {' | '.join(measured)} |"
    yield f"| --- |{' --- |' * len(measured)}"
    for what, digits, values in (
        ("MiB/s", 0, [one.speed for one in measured.values()]),
        ("processor seconds a GiB", 2, [one.cpu for one in measured.values()]),
        ("first byte, ms", 1, [[1000 * x for x in one.first_byte] for one in measured.values()]),
    ):
        cells = " | ".join(Figure.of(value).text(digits) for value in values)
        yield f"| {what} | {cells} |"
    yield ""


def _manifests(measured: Cached) -> Iterator[str]:
    yield "| manifests by digest | requests a second | p50, ms | p99, ms | processor ms a request |"
    yield "| --- | --- | --- | --- | --- |"
    for name, asked in measured.manifests.items():
        rate = Figure.of(load.requests_per_second for load in asked.loads).text(0)
        p50 = Figure.of(load.p50_ms for load in asked.loads).text(1)
        p99 = Figure.of(load.p99_ms for load in asked.loads).text(1)
        yield f"| {name} | {rate} | {p50} | {p99} | {Figure.of(asked.cpu).text(3)} |"
    yield ""


def _copies(measured: Cached) -> Iterator[str]:
    copies = measured.copies
    direct = Figure.of(copies.direct)
    yield "| `skopeo copy` | seconds | in parts of the direct one |"
    yield "| --- | --- | --- |"
    yield f"| direct | {direct.text(2)} | 1 |"
    for name in copies.cold:
        for kind, times in (("cold", copies.cold[name]), ("warm", copies.warm[name])):
            ratio = Figure.ratio(times, copies.direct)
            yield f"| {name}, {kind} | {Figure.of(times).text(2)} | {ratio.text(2)} |"
    yield ""


def _method(measured: Cached) -> Iterator[str]:
    copies = measured.copies
    blobs = copies.image.all_blobs
    yield (
        f"{measured.rounds} rounds; in each, every server is measured in turn.\n"
        "Client, upstream and servers are those of the other sections; Docxy has one worker, its "
        "cache is on the disk, and what is read was written a moment ago, so it is in the page "
        "cache."
    )
    yield (
        f"Hit: a blob of {measured.blob_size / 1024**2:,.0f} MiB which the server keeps, after "
        f"another download of it; {HITS} of each server in every round, in turn.\n"
        "nginx: one worker, `sendfile`, no log, the very file that Docxy keeps."
    )
    yield (
        "Miss: the same blob after it was dropped.\nDocxy ends the answer only when the digest is "
        "right, and waits for the disk (`fsync`) afterwards; docker-registry fetches it a second "
        "time to keep it.\nBoth is waited for and not counted."
    )
    yield (
        f"Manifests: wrk, one thread, {CONNECTIONS} kept connections, {measured.load_seconds} s a "
        "round, with a Bearer token of 2 KiB; Docxy asks the registry about it once a minute."
    )
    yield (
        f"Copies: `skopeo copy` of an image in an index, with {LAYERS} layers of "
        f"{sum(one.size for one in blobs.values()) / len(blobs) / 1024:.0f} KiB, a new one in each "
        "round, to a directory; every request to the registry, its token service and its CDN takes "
        f"{1000 * LATENCY:.0f} ms longer.\nDocxy has two workers.\nCold: the cache has another "
        "image of the repository, and so the answers to ping and token request."
    )
    yield "docker-registry: CNCF's, as a pull-through cache, `proxy.remoteurl`, files on the disk."
    yield f"The load average before it was {measured.load_before:.1f}."
