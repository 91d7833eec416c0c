"""Pull an image, from its manifest to the last byte of its last layer, and judge the answers."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from app.doctor.findings import StepResult
from app.doctor.http import ProbeClient, ProbeResponse
from app.doctor.target import ImageReference
from app.doctor.token_flow import ACCEPT, OK, TokenFlow
from app.oci.headers import Headers
from app.oci.manifest import Descriptor, Descriptors, Platform, parse_descriptors

# The headers that Go adds by itself, and those that containerd sends for layers.
_GO: Final = [("Accept-Encoding", "gzip")]
_CONTAINERD: Final = [("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5")]
_PARTIAL: Final = 206
_LEADS: Final = frozenset({301, 302, 303, 307, 308})
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class FetchedContent:
    """The answer for a manifest or blob, with the digest and size that it should have."""

    kind: str
    digest: str
    size: int | None
    response: ProbeResponse


@dataclass(frozen=True, slots=True)
class FetchedRange:
    """The answer for the bytes of a blob from `start` to its end; `size` is the whole blob's."""

    start: int
    size: int
    response: ProbeResponse


@dataclass(slots=True)
class PullResponses:
    """The answers to the requests of a pull, as far as it went."""

    head: ProbeResponse
    contents: list[FetchedContent] = field(default_factory=list)
    blob_head: tuple[Descriptor, ProbeResponse] | None = None
    ranged: FetchedRange | None = None


def pull(
    line: ProbeClient, image: ImageReference, knocked: TokenFlow, head: ProbeResponse
) -> PullResponses:
    """Pull an image as Docker and containerd do, and return the answers; raise NoResponse."""
    seen = PullResponses(head)
    let_in = knocked.authorization
    asked = [*ACCEPT, *_GO, *let_in]
    digest = head.header("docker-content-digest") or str(image.reference)
    read = _fetch_manifest(line, image, seen, digest, head.content_length, asked)
    if read.manifests:
        chosen = _choose_manifest(read.manifests)
        read = _fetch_manifest(line, image, seen, chosen.digest, chosen.size, asked)
    blobs = list({one.digest: one for one in read.blobs if not one.is_foreign}.values())
    if blobs:
        largest = max(blobs, key=lambda one: one.size)
        target = f"/v2/{image.name}/blobs/{largest.digest}"
        seen.blob_head = (largest, line.request("HEAD", target, let_in))
        for one in blobs:
            got = line.get(f"/v2/{image.name}/blobs/{one.digest}", [*_CONTAINERD, *let_in])
            seen.contents.append(FetchedContent("blob", one.digest, one.size, got))
        seen.ranged = _fetch_range(line, target, largest, let_in)
    return seen


def _fetch_manifest(  # noqa: PLR0913, PLR0917 - one request and what it should return
    line: ProbeClient,
    image: ImageReference,
    seen: PullResponses,
    digest: str,
    size: int | None,
    headers: Headers,
) -> Descriptors:
    got = line.get(f"/v2/{image.name}/manifests/{digest}", headers)
    seen.contents.append(FetchedContent("manifest", digest, size, got))
    try:
        return parse_descriptors(got.body)
    except ValueError:
        return Descriptors((), ())


def _choose_manifest(manifests: tuple[Descriptor, ...]) -> Descriptor:
    """Return the manifest for this machine's platform, or the first one if there is none."""
    machine = platform.machine().lower()
    wanted = Platform("linux", _MACHINES.get(machine, machine))
    suited = [one for one in manifests if one.platform and one.platform.satisfies(wanted)]
    return [*suited, *manifests][0]


def _fetch_range(line: ProbeClient, target: str, blob: Descriptor, let_in: Headers) -> FetchedRange:
    start = blob.size // 2
    got = line.get(target, [("Range", f"bytes={start}-"), *let_in])
    return FetchedRange(start, blob.size, got)


def judge_pull(seen: PullResponses) -> Iterator[StepResult]:
    """Yield a step for each answer of a pull, with what is wrong with it."""
    yield _judge_length(
        seen.head, "HEAD of the manifest has a length", _find_manifest_size(seen.contents)
    )
    for part in seen.contents:
        yield _judge_content(part)
    if seen.blob_head:
        blob, head = seen.blob_head
        yield _judge_length(head, "HEAD of a layer has a length", blob.size)
    if seen.ranged:
        yield _judge_range(seen.ranged)


def _find_manifest_size(parts: list[FetchedContent]) -> int | None:
    """Return the size in bytes of the first manifest, or None if it did not arrive intact."""
    for part in parts:
        whole = part.response.status == OK and not part.response.failure
        return part.response.length if whole and part.response.digest == part.digest else None
    return None


def _judge_length(head: ProbeResponse, tried: str, size: int | None) -> StepResult:
    if head.status != OK:
        return _judge_refusal(tried, head)
    if head.content_length is None:
        return StepResult(tried, "none", "length")
    wrong = size is not None and size != head.content_length
    came = f"{head.content_length:,} bytes" + (f" instead of {size:,}" if wrong else "")
    return StepResult(tried, came, "length" if wrong else "")


def _judge_content(part: FetchedContent) -> StepResult:
    got = part.response
    tried = f"{part.kind} {part.digest[:19]}"
    if got.status != OK:
        return _judge_refusal(tried, got)
    if encoding := got.header("content-encoding"):
        return StepResult(tried, f"Content-Encoding: {encoding}", "gzip")
    if not got.length and part.size:
        return StepResult(tried, f"0 of {part.size:,} bytes", "empty")
    if got.failure:
        return StepResult(tried, got.failure, "cut")
    wrong = part.digest.startswith("sha256:") and got.digest != part.digest
    times = f"in {got.total_seconds:.2f} s, the first one after {got.first_byte_seconds:.2f} s"
    came = f"{got.length:,} bytes {times}; the digest is {got.digest if wrong else 'correct'}"
    return StepResult(tried, came, "digest" if wrong else "")


def _judge_refusal(tried: str, got: ProbeResponse) -> StepResult:
    if got.status in _LEADS:
        return StepResult(tried, f"{got.status} to another address", "redirect")
    return StepResult(
        tried, str(got), "pulls-spent" if got.error_code == "TOOMANYREQUESTS" else "refused"
    )


def _judge_range(piece: FetchedRange) -> StepResult:
    got = piece.response
    tried = f"Range: bytes={piece.start}-"
    wanted = f"bytes {piece.start}-{piece.size - 1}/{piece.size}"
    if got.status in _LEADS:
        return StepResult(tried, f"{got.status} to another address", "redirect")
    if got.status in {OK, _PARTIAL} and not got.length:
        return StepResult(tried, "0 bytes", "empty")
    told = got.header("content-range")
    right = got.status == _PARTIAL and told == wanted and got.length == piece.size - piece.start
    came = f"{got.status}, {told or 'no Content-Range'}, {got.length:,} bytes"
    return StepResult(tried, came, "" if right else "range")
