"""Whether an answer is about what was asked for."""

import pytest

from app.cache.authz import evidence
from app.source import Reply
from tests.unit.cache.registry import INDEX, MANIFEST, digest_of

DATA = b'{"schemaVersion": 2, "layers": []}'
DIGEST = digest_of(DATA)
OTHER = digest_of(b"other")
LOGIN = b'{"error": "log in at https://login.example/"}'


def answer(kind: str, digest: str = "", status: int = 200, data: bytes = b"") -> Reply:
    """Return an answer; without data one to a HEAD, or one whose bytes are still to come."""
    fields = [("Content-Type", kind)] if kind else []
    fields += [("Docker-Content-Digest", digest)] if digest else []
    return Reply(status=status, headers=fields, body=data)


@pytest.mark.parametrize(
    ("reply", "fits"),
    [
        pytest.param(answer(MANIFEST), True, id="manifest"),
        pytest.param(answer(f"{INDEX}; charset=utf-8"), True, id="index with a parameter"),
        pytest.param(
            answer("application/vnd.docker.distribution.manifest.v1+prettyjws"), True, id="signed"
        ),
        pytest.param(answer("application/vnd.oci.artifact.manifest.v1+json"), True, id="artifact"),
        pytest.param(answer(MANIFEST, status=304), False, id="not modified"),
        pytest.param(answer("application/json", DIGEST), True, id="JSON with its digest"),
        pytest.param(answer("text/plain", data=DATA), True, id="bytes of a manifest"),
        pytest.param(answer("application/json", OTHER), False, id="another digest"),
        pytest.param(answer("application/json", "sha256:x"), False, id="no digest"),
        pytest.param(answer("application/json"), False, id="JSON"),
        pytest.param(answer("application/json", data=LOGIN), False, id="a login in JSON"),
        pytest.param(answer("application/json", data=b"[" * 99_999), False, id="too deep"),
        pytest.param(answer("", data=b'{"schemaVersion": []}'), False, id="no version"),
        pytest.param(answer("application/vnd.api+json"), False, id="JSON:API"),
        pytest.param(answer("text/html", DIGEST), False, id="a page with the digest"),
        pytest.param(answer(""), False, id="nothing"),
        pytest.param(answer(MANIFEST, status=202), False, id="another 2xx"),
        pytest.param(answer(MANIFEST, DIGEST, 404), False, id="404"),
        pytest.param(answer(MANIFEST, DIGEST, 307), False, id="a redirect"),
    ],
)
def test_manifests(reply: Reply, *, fits: bool) -> None:
    """The type, the digest, or the bytes say so."""
    assert evidence.is_manifest(reply, DIGEST) is fits


def test_a_manifest_by_tag() -> None:
    """Any digest will do: it is what the tag means."""
    assert evidence.is_manifest(answer("application/json", OTHER), None)
    assert not evidence.is_manifest(answer("application/json"), None)


@pytest.mark.parametrize(
    ("reply", "fits"),
    [
        pytest.param(answer("application/octet-stream"), True, id="octets"),
        pytest.param(answer("binary/octet-stream"), True, id="S3"),
        pytest.param(answer("application/vnd.oci.image.config.v1+json"), True, id="config"),
        pytest.param(answer("application/vnd.docker.image.rootfs.diff.tar.gzip"), True, id="layer"),
        pytest.param(answer("application/x-gzip", status=206), True, id="a part"),
        pytest.param(answer("multipart/byteranges; boundary=x", status=206), True, id="parts"),
        pytest.param(answer(""), True, id="no type"),
        pytest.param(answer("application/json", DIGEST), True, id="JSON with its digest"),
        pytest.param(answer("application/json"), False, id="JSON"),
        pytest.param(answer("application/json", OTHER), False, id="another digest"),
        pytest.param(answer("application/problem+json"), False, id="a problem"),
        pytest.param(answer("text/plain"), False, id="text"),
        pytest.param(answer("text/html; charset=utf-8", DIGEST), False, id="a page"),
        pytest.param(answer("application/octet-stream", status=204), False, id="another 2xx"),
        pytest.param(answer("", status=304), False, id="not modified"),
        pytest.param(answer("application/octet-stream", status=403), False, id="403"),
    ],
)
def test_blobs(reply: Reply, *, fits: bool) -> None:
    """Registries and CDNs have many types for blobs, and others for their own words."""
    assert evidence.is_blob(reply, DIGEST) is fits


@pytest.mark.parametrize(
    ("reply", "is_else"),
    [
        pytest.param(answer("application/json", data=LOGIN), True, id="a login"),
        pytest.param(answer("application/json", data=DATA), False, id="a manifest"),
        pytest.param(answer("application/json"), False, id="a HEAD"),
        pytest.param(answer("application/json", status=503, data=LOGIN), False, id="an error"),
    ],
)
def test_what_is_something_else(reply: Reply, *, is_else: bool) -> None:
    """Only what can be read is known to be so."""
    assert evidence.is_not_manifest(reply) is is_else
