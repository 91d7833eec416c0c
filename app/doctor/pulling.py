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
_GO_HEADERS: Final = [("Accept-Encoding", "gzip")]
_CONTAINERD_HEADERS: Final = [("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5")]
_PARTIAL: Final = 206
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


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
    client: ProbeClient, image: ImageReference, flow: TokenFlow, head: ProbeResponse
) -> PullResponses:
    """Pull an image as Docker and containerd do, and return the answers; may raise NoResponse."""
    responses = PullResponses(head)
    authorization = flow.authorization
    headers = [*ACCEPT, *_GO_HEADERS, *authorization]
    digest = head.header("docker-content-digest") or str(image.reference)
    descriptors = _fetch_manifest(client, image, responses, digest, head.content_length, headers)
    if descriptors.manifests:
        descriptor = _choose_manifest(descriptors.manifests)
        descriptors = _fetch_manifest(
            client, image, responses, descriptor.digest, descriptor.size, headers
        )
    blobs = list({blob.digest: blob for blob in descriptors.blobs if not blob.is_foreign}.values())
    if blobs:
        largest = max(blobs, key=lambda blob: blob.size)
        target = f"/v2/{image.name}/blobs/{largest.digest}"
        responses.blob_head = (largest, client.request("HEAD", target, authorization))
        for blob in blobs:
            response = client.get(
                f"/v2/{image.name}/blobs/{blob.digest}", [*_CONTAINERD_HEADERS, *authorization]
            )
            responses.contents.append(FetchedContent("blob", blob.digest, blob.size, response))
        responses.ranged = _fetch_range(client, target, largest, authorization)
    return responses


def _fetch_manifest(  # noqa: PLR0913, PLR0917 - one request and what it should return
    client: ProbeClient,
    image: ImageReference,
    responses: PullResponses,
    digest: str,
    size: int | None,
    headers: Headers,
) -> Descriptors:
    response = client.get(f"/v2/{image.name}/manifests/{digest}", headers)
    responses.contents.append(FetchedContent("manifest", digest, size, response))
    try:
        return parse_descriptors(response.body)
    except ValueError:
        return Descriptors((), ())


def _choose_manifest(manifests: tuple[Descriptor, ...]) -> Descriptor:
    """Return the manifest for this machine's platform, or the first one if there is none."""
    machine_name = platform.machine().lower()
    own_platform = Platform("linux", _ARCHITECTURES.get(machine_name, machine_name))
    matching = [
        descriptor
        for descriptor in manifests
        if descriptor.platform and descriptor.platform.satisfies(own_platform)
    ]
    return [*matching, *manifests][0]


def _fetch_range(
    client: ProbeClient, target: str, blob: Descriptor, authorization: Headers
) -> FetchedRange:
    start = blob.size // 2
    response = client.get(target, [("Range", f"bytes={start}-"), *authorization])
    return FetchedRange(start, blob.size, response)


def judge_pull(responses: PullResponses) -> Iterator[StepResult]:
    """Yield a step for each answer of a pull, with what is wrong with it."""
    yield _judge_length(
        responses.head, "HEAD of the manifest has a length", _find_manifest_size(responses.contents)
    )
    for content in responses.contents:
        yield _judge_content(content)
    if responses.blob_head:
        blob, head = responses.blob_head
        yield _judge_length(head, "HEAD of a layer has a length", blob.size)
    if responses.ranged:
        yield _judge_range(responses.ranged)


def _find_manifest_size(contents: list[FetchedContent]) -> int | None:
    """Return the size in bytes of the first manifest, or None if it did not arrive intact."""
    for content in contents:
        is_intact = content.response.status == OK and not content.response.failure
        return (
            content.response.length
            if is_intact and content.response.digest == content.digest
            else None
        )
    return None


def _judge_length(head: ProbeResponse, action: str, size: int | None) -> StepResult:
    if head.status != OK:
        return _judge_refusal(action, head)
    if head.content_length is None:
        return StepResult(action, "none", "length")
    is_wrong = size is not None and size != head.content_length
    outcome = f"{head.content_length:,} bytes" + (f" instead of {size:,}" if is_wrong else "")
    return StepResult(action, outcome, "length" if is_wrong else "")


def _judge_content(content: FetchedContent) -> StepResult:
    reply = content.response
    action = f"{content.kind} {content.digest[:19]}"
    if reply.status != OK:
        return _judge_refusal(action, reply)
    if encoding := reply.header("content-encoding"):
        return StepResult(action, f"Content-Encoding: {encoding}", "gzip")
    if not reply.length and content.size:
        return StepResult(action, f"0 of {content.size:,} bytes", "empty")
    if reply.failure:
        return StepResult(action, reply.failure, "cut")
    wrong = content.digest.startswith("sha256:") and reply.digest != content.digest
    times = f"in {reply.total_seconds:.2f} s, the first one after {reply.first_byte_seconds:.2f} s"
    text = f"{reply.length:,} bytes {times}; the digest is {reply.digest if wrong else 'correct'}"
    return StepResult(action, text, "digest" if wrong else "")


def _judge_refusal(action: str, response: ProbeResponse) -> StepResult:
    if response.status in _REDIRECTS:
        return StepResult(action, f"{response.status} to another address", "redirect")
    return StepResult(
        action,
        str(response),
        "pulls-spent" if response.error_code == "TOOMANYREQUESTS" else "refused",
    )


def _judge_range(fetched: FetchedRange) -> StepResult:
    response = fetched.response
    action = f"Range: bytes={fetched.start}-"
    expected = f"bytes {fetched.start}-{fetched.size - 1}/{fetched.size}"
    if response.status in _REDIRECTS:
        return StepResult(action, f"{response.status} to another address", "redirect")
    if response.status in {OK, _PARTIAL} and not response.length:
        return StepResult(action, "0 bytes", "empty")
    content_range = response.header("content-range")
    is_right = (
        response.status == _PARTIAL
        and content_range == expected
        and response.length == fetched.size - fetched.start
    )
    outcome = f"{response.status}, {content_range or 'no Content-Range'}, {response.length:,} bytes"
    return StepResult(action, outcome, "" if is_right else "range")
