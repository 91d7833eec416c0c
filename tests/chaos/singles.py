"""One fault for one pull: the rows of the table of real clients."""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.troubles import counted
from tests.hub.faults import Fault
from tests.hub.images import Image
from tests.integration.pulling import ours

_MANIFESTS = "/manifests/"


@dataclass(frozen=True, slots=True)
class Single:
    """A row: what goes wrong. `corrupts`: nobody can mend it, and the pull must fail."""

    name: str
    faults: Callable[[Image], Sequence[Fault]]
    corrupts: bool = False
    endless: bool = False
    """Clients wait for ever when they meet it without a proxy, so there it is not tried."""


def _fault(**fields: Any) -> Fault:
    return Fault(gate=counted(), **fields)


def _at_layer(image: Image, **fields: Any) -> Fault:
    """Let the large layer of this machine's platform suffer."""
    return _fault(part="cdn", method="GET", path=_layer(image)[0], **fields)


def _layer(image: Image) -> tuple[str, int]:
    blob = ours(image).layers[1]
    return blob.digest.partition(":")[2], blob.size


def _cut(image: Image) -> Fault:
    return _at_layer(image, cut_after=_layer(image)[1] // 2)


def _cut_once(image: Image) -> Sequence[Fault]:
    return [_cut(image)]


def _cut_three_times(image: Image) -> Sequence[Fault]:
    return [_at_layer(image, cut_after=_layer(image)[1] // 5, times=3)]


def _range_ignored(image: Image) -> Sequence[Fault]:
    return [_cut(image), _at_layer(image, ignore_range=True)]


def _stalled(image: Image) -> Sequence[Fault]:
    return [_at_layer(image, stall_after=_layer(image)[1] // 2)]


def _flipped(image: Image) -> Sequence[Fault]:
    return [_at_layer(image, flip_byte=_layer(image)[1] // 2)]


def _short(image: Image) -> Sequence[Fault]:
    size = _layer(image)[1] - 1000
    length = (("Content-Length", str(size)),)
    return [
        _at_layer(image, drop_headers=("Content-Length",), add_headers=length, cut_after=size),
    ]


def _chunked(image: Image) -> Sequence[Fault]:
    return [_at_layer(image, chunked=True)]


def _chunked_and_cut(image: Image) -> Sequence[Fault]:
    return [_at_layer(image, chunked=True, cut_after=_layer(image)[1] // 2)]


def _blob_503(image: Image) -> Sequence[Fault]:
    del image
    return [_fault(part="registry", method="GET", path="/blobs/", status=503)]


def _cdn_503(image: Image) -> Sequence[Fault]:
    del image
    return [_fault(part="cdn", method="GET", status=503, body="<Error>SlowDown</Error>")]


def _manifest(**fields: Any) -> Callable[[Image], Sequence[Fault]]:
    def faults(image: Image) -> Sequence[Fault]:
        del image
        return [_fault(part="registry", path=_MANIFESTS, **fields)]

    return faults


def _token(**fields: Any) -> Callable[[Image], Sequence[Fault]]:
    def faults(image: Image) -> Sequence[Fault]:
        del image
        return [_fault(part="token", method="GET", **fields)]

    return faults


def _gzipped(image: Image) -> Sequence[Fault]:
    child = ours(image)
    headers = {
        "Content-Type": child.media_type,
        "Content-Encoding": "gzip",
        "Docker-Content-Digest": child.digest,
    }
    body = gzip.compress(child.body, mtime=0)
    path = f"{_MANIFESTS}{child.digest}"
    return [_fault(method="GET", path=path, status=200, headers=headers, body=body, times=None)]


ROWS: Sequence[Single] = (
    Single("a layer is cut once in the middle", _cut_once),
    Single("a layer is cut three times", _cut_three_times),
    Single("a layer is cut, and `Range` ignored (200)", _range_ignored),
    Single("a layer stalls in the middle", _stalled, endless=True),
    Single("a layer in chunks, without `Content-Length`", _chunked),
    Single("a layer in chunks is cut", _chunked_and_cut),
    Single("503 once on a blob", _blob_503),
    Single("503 once at the CDN", _cdn_503),
    Single("503 once on a manifest", _manifest(status=503)),
    Single("502 once on a manifest", _manifest(status=502)),
    Single("500 once on a manifest", _manifest(status=500)),
    Single("hung up once on a manifest", _manifest(hang_up=True)),
    Single("the first answer about a manifest is cut", _manifest(method="GET", cut_after=20)),
    Single("503 once on a token", _token(status=503)),
    Single("the answer with a token is cut", _token(cut_after=20)),
    Single(
        "no `Docker-Content-Digest` on manifests",
        _manifest(drop_headers=("Docker-Content-Digest",), times=None),
    ),
    Single("a manifest is encoded with gzip", _gzipped),
    Single("one byte of a layer is flipped", _flipped, corrupts=True),
    Single("a layer is shorter than its descriptor", _short, corrupts=True),
)
