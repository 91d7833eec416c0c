"""Pull an image, from its manifest to the last byte of its last layer, and judge the answers."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from app.doctor.findings import Step
from app.doctor.http import Answer, Line
from app.doctor.target import Image
from app.doctor.token_flow import ACCEPT, OK, Knock
from app.oci.headers import Headers
from app.oci.manifest import Descriptor, Named, Platform, named

# The headers that Go adds by itself, and those that containerd sends for layers.
_GO: Final = [("Accept-Encoding", "gzip")]
_CONTAINERD: Final = [("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5")]
_PARTIAL: Final = 206
_LEADS: Final = frozenset({301, 302, 303, 307, 308})
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Part:
    """The answer for a manifest or blob, with the digest and size that it should have."""

    what: str
    digest: str
    size: int | None
    got: Answer


@dataclass(frozen=True, slots=True)
class Piece:
    """The answer for the bytes of a blob from `start` to its end; `size` is the whole blob's."""

    start: int
    size: int
    got: Answer


@dataclass(slots=True)
class Pull:
    """The answers of a pull, as far as it went."""

    head: Answer
    parts: list[Part] = field(default_factory=list)
    blob_head: tuple[Descriptor, Answer] | None = None
    piece: Piece | None = None


def pull(line: Line, image: Image, knocked: Knock, head: Answer) -> Pull:
    """Pull an image as Docker and containerd do, and return the answers; raise NoAnswer."""
    seen = Pull(head)
    let_in = knocked.authorization
    asked = [*ACCEPT, *_GO, *let_in]
    digest = head.value("docker-content-digest") or str(image.reference)
    read = _manifest(line, image, seen, digest, head.declared, asked)
    if read.manifests:
        chosen = _chosen(read.manifests)
        read = _manifest(line, image, seen, chosen.digest, chosen.size, asked)
    blobs = list({one.digest: one for one in read.blobs if not one.elsewhere}.values())
    if blobs:
        largest = max(blobs, key=lambda one: one.size)
        target = f"/v2/{image.name}/blobs/{largest.digest}"
        seen.blob_head = (largest, line.ask("HEAD", target, let_in))
        for one in blobs:
            got = line.get(f"/v2/{image.name}/blobs/{one.digest}", [*_CONTAINERD, *let_in])
            seen.parts.append(Part("blob", one.digest, one.size, got))
        seen.piece = _piece(line, target, largest, let_in)
    return seen


def _manifest(  # noqa: PLR0913, PLR0917 - one question, and what is known before it
    line: Line, image: Image, seen: Pull, digest: str, size: int | None, headers: Headers
) -> Named:
    got = line.get(f"/v2/{image.name}/manifests/{digest}", headers)
    seen.parts.append(Part("manifest", digest, size, got))
    try:
        return named(got.body)
    except ValueError:
        return Named((), ())


def _chosen(manifests: tuple[Descriptor, ...]) -> Descriptor:
    """Return the manifest for this machine's platform, or the first one if there is none."""
    machine = platform.machine().lower()
    wanted = Platform("linux", _MACHINES.get(machine, machine))
    suited = [one for one in manifests if one.platform and one.platform.suits(wanted)]
    return [*suited, *manifests][0]


def _piece(line: Line, target: str, blob: Descriptor, let_in: Headers) -> Piece:
    start = blob.size // 2
    got = line.get(target, [("Range", f"bytes={start}-"), *let_in])
    return Piece(start, blob.size, got)


def judge_pull(seen: Pull) -> Iterator[Step]:
    """Yield a step for each answer of a pull, with what is wrong with it."""
    yield _judge_length(seen.head, "HEAD of the manifest has a length", _whole(seen.parts))
    for part in seen.parts:
        yield _judge_part(part)
    if seen.blob_head:
        blob, head = seen.blob_head
        yield _judge_length(head, "HEAD of a layer has a length", blob.size)
    if seen.piece:
        yield _judge_piece(seen.piece)


def _whole(parts: list[Part]) -> int | None:
    """Return the size in bytes of the first manifest, or None if it did not arrive intact."""
    for part in parts:
        whole = part.got.status == OK and not part.got.broken
        return part.got.length if whole and part.got.digest == part.digest else None
    return None


def _judge_length(head: Answer, tried: str, size: int | None) -> Step:
    if head.status != OK:
        return _refused(tried, head)
    if head.declared is None:
        return Step(tried, "there is none", "length")
    wrong = size is not None and size != head.declared
    came = f"{head.declared:,} bytes" + (f", and it has {size:,}" if wrong else "")
    return Step(tried, came, "length" if wrong else "")


def _judge_part(part: Part) -> Step:
    got = part.got
    tried = f"{part.what} {part.digest[:19]}"
    if got.status != OK:
        return _refused(tried, got)
    if encoding := got.value("content-encoding"):
        return Step(tried, f"Content-Encoding: {encoding}", "gzip")
    if not got.length and part.size:
        return Step(tried, f"0 of {part.size:,} bytes", "empty")
    if got.broken:
        return Step(tried, got.broken, "cut")
    wrong = part.digest.startswith("sha256:") and got.digest != part.digest
    times = f"in {got.seconds:.2f} s, the first one after {got.first:.2f} s"
    came = f"{got.length:,} bytes {times}; the digest is {got.digest if wrong else 'right'}"
    return Step(tried, came, "digest" if wrong else "")


def _refused(tried: str, got: Answer) -> Step:
    if got.status in _LEADS:
        return Step(tried, f"{got.status} to another address", "redirect")
    return Step(tried, str(got), "pulls-spent" if got.code == "TOOMANYREQUESTS" else "refused")


def _judge_piece(piece: Piece) -> Step:
    got = piece.got
    tried = f"Range: bytes={piece.start}-"
    wanted = f"bytes {piece.start}-{piece.size - 1}/{piece.size}"
    if got.status in _LEADS:
        return Step(tried, f"{got.status} to another address", "redirect")
    if got.status in {OK, _PARTIAL} and not got.length:
        return Step(tried, "no byte", "empty")
    told = got.value("content-range")
    right = got.status == _PARTIAL and told == wanted and got.length == piece.size - piece.start
    came = f"{got.status}, {told or 'no Content-Range'}, {got.length:,} bytes"
    return Step(tried, came, "" if right else "range")
