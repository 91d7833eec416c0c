"""/v2/<name>/...: what reaches the source, and what is refused before."""

import pytest
from flask.testing import FlaskClient

from app.oci.headers import get_all
from tests.unit.fake_source import FakeSource

SHA256 = "sha256:" + "0123456789abcdef" * 4
MANIFEST = "/v2/library/nginx/manifests/latest"

ROUTES = [
    pytest.param(MANIFEST, ("manifest", "library/nginx", "latest"), id="manifest by tag"),
    pytest.param(
        f"/v2/a/b/manifests/{SHA256}", ("manifest", "a/b", SHA256), id="manifest by digest"
    ),
    pytest.param(f"/v2/a/b/blobs/{SHA256}", ("blob", "a/b", SHA256), id="blob"),
    pytest.param("/v2/a/b/tags/list", ("tags", "a/b", ""), id="tags"),
    pytest.param(f"/v2/a/b/referrers/{SHA256}", ("referrers", "a/b", SHA256), id="referrers"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "expected"), ROUTES)
def test_routes(
    client: FlaskClient, source: FakeSource, method: str, path: str, expected: tuple[str, str, str]
) -> None:
    """Each route asks for its thing, with the method that the client used."""
    source.answers(b"body")
    answer = client.open(path, method=method)
    (call,) = source.calls
    assert answer.status_code == 200
    assert answer.content_length == 4
    assert answer.data == (b"" if method == "HEAD" else b"body")
    assert (call.method, call.name, call.reference) == expected
    assert call.request.method == method
    assert source.closed == 1


def test_head_reads_nothing(client: FlaskClient, source: FakeSource) -> None:
    """A HEAD takes no byte of a body, even if the source has one, and closes it."""
    source.answers(b"body")
    client.head(MANIFEST)
    assert (source.read, source.closed) == (0, 1)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/v2/nginx/manifests/x", "library/nginx", id="short"),
        pytest.param("/v2/docker.io/nginx/manifests/x", "library/nginx", id="prefix"),
        pytest.param("/v2/index.docker.io/a/b/manifests/x", "a/b", id="alias"),
        pytest.param("/v2/a/b/manifests/x?ns=docker.io", "a/b", id="ns"),
        pytest.param(
            "/v2/nginx/manifests/x?ns=registry-1.docker.io", "library/nginx", id="ns alias"
        ),
        pytest.param("/v2/docker.io/a/b/manifests/x?ns=docker.io", "a/b", id="both"),
        pytest.param("/v2/a/b/manifests/x?ns=", "a/b", id="empty ns"),
        pytest.param("/v2/a%2Fb/manifests/x", "a/b", id="encoded slash"),
        pytest.param("/v2/%61/b/manifests/x", "a/b", id="encoded letter"),
    ],
)
def test_names_are_completed(client: FlaskClient, source: FakeSource, path: str, name: str) -> None:
    """The source is asked in the registry's naming, however the client addressed it."""
    assert client.get(path).status_code == 200
    assert source.calls[0].name == name


@pytest.mark.parametrize(
    ("path", "query"),
    [
        pytest.param("/v2/a/b/tags/list", "", id="none"),
        pytest.param("/v2/a/b/tags/list?n=2&last=x", "n=2&last=x", id="paging"),
        pytest.param("/v2/a/b/tags/list?n=2&ns=docker.io&last=x", "n=2&last=x", id="without ns"),
        pytest.param("/v2/a/b/tags/list?n=0", "n=0", id="zero"),
        pytest.param("/v2/a/b/tags/list?last=a%2Bb%26c", "last=a%2Bb%26c", id="encoded"),
        pytest.param("/v2/a/b/tags/list?n=", "n=", id="empty value"),
        pytest.param(
            f"/v2/a/b/referrers/{SHA256}?artifactType=application%2Fx%2Bjson",
            "artifactType=application%2Fx%2Bjson",
            id="artifactType",
        ),
        pytest.param("/v2/a/b/manifests/x?n=2", "", id="not with manifests"),
        pytest.param(f"/v2/a/b/blobs/{SHA256}?x=y", "", id="not with blobs"),
    ],
)
def test_queries(client: FlaskClient, source: FakeSource, path: str, query: str) -> None:
    """A query passes where the answer depends on it, and `ns` never."""
    client.get(path)
    assert source.calls[0].request.query == query


def test_request_headers_arrive(client: FlaskClient, source: FakeSource) -> None:
    """What the client sent is there for the source to choose from, in full."""
    sent = [
        ("Accept", "application/vnd.oci.image.index.v1+json"),
        ("Accept", "application/vnd.docker.distribution.manifest.v2+json"),
        ("Authorization", "Bearer abc"),
        ("Range", "bytes=5-"),
        ("If-None-Match", '"x"'),
    ]
    client.get(MANIFEST, headers=sent)
    request = source.calls[0].request
    assert request.authorization == "Bearer abc"
    assert get_all(request.headers, "range") == ["bytes=5-"]
    assert get_all(request.headers, "if-none-match") == ['"x"']
    accepted = ",".join(get_all(request.headers, "accept"))
    assert [kind.strip() for kind in accepted.split(",")] == [value for _, value in sent[:2]]


REFUSED = [
    pytest.param("/v2/UPPER/manifests/x", 400, "NAME_INVALID", id="upper case"),
    pytest.param("/v2/a/../b/manifests/x", 400, "NAME_INVALID", id="parent"),
    pytest.param("/v2/a/%2e%2e/b/manifests/x", 400, "NAME_INVALID", id="encoded parent"),
    pytest.param("/v2//a/manifests/x", 400, "NAME_INVALID", id="two slashes"),
    pytest.param("/v2/a:5000/b/manifests/x", 400, "NAME_INVALID", id="port"),
    pytest.param("/v2/%FF/manifests/x", 400, "NAME_INVALID", id="not UTF-8"),
    pytest.param("/v2/%00/manifests/x", 400, "NAME_INVALID", id="NUL"),
    pytest.param("/v2/a%0Ab/manifests/x", 400, "NAME_INVALID", id="newline"),
    pytest.param("/v2/a%3Fb/manifests/x", 400, "NAME_INVALID", id="encoded question mark"),
    pytest.param("/v2/a%23b/manifests/x", 400, "NAME_INVALID", id="encoded hash"),
    pytest.param(f"/v2/{'a' * 256}/manifests/x", 400, "NAME_INVALID", id="long"),
    pytest.param(f"/v2/{'a' * 248}/manifests/x", 400, "NAME_INVALID", id="long with library"),
    pytest.param("/v2/UPPER/tags/list", 400, "NAME_INVALID", id="tags of upper case"),
    pytest.param("/v2/a/manifests/b%20c", 400, "NAME_INVALID", id="tag with a space"),
    pytest.param("/v2/a/manifests/latest%0A", 400, "NAME_INVALID", id="tag with a newline"),
    pytest.param(f"/v2/a/manifests/{'x' * 129}", 400, "NAME_INVALID", id="long tag"),
    pytest.param("/v2/a/manifests/.x", 400, "NAME_INVALID", id="tag with a dot"),
    pytest.param("/v2/a/manifests/sha256:abc", 400, "DIGEST_INVALID", id="short digest"),
    pytest.param("/v2/a/blobs/latest", 400, "DIGEST_INVALID", id="blob by tag"),
    pytest.param(f"/v2/a/blobs/{SHA256.upper()}", 400, "DIGEST_INVALID", id="upper case digest"),
    pytest.param(f"/v2/a/blobs/{SHA256}/..", 400, "DIGEST_INVALID", id="parent behind a digest"),
    pytest.param("/v2/a/referrers/latest", 400, "DIGEST_INVALID", id="referrers of a tag"),
    pytest.param("/v2/_catalog", 404, "UNSUPPORTED", id="catalog"),
    pytest.param("/v2/a/b", 404, "UNSUPPORTED", id="no such route"),
    pytest.param("/v2/a/b/blobs/uploads", 404, "UNSUPPORTED", id="uploads"),
    pytest.param("/v2/a/b/blobs/uploads/", 404, "UNSUPPORTED", id="uploads with a slash"),
    pytest.param("/v2/a/b/blobs/uploads/uuid?_state=x", 404, "UNSUPPORTED", id="one upload"),
    pytest.param("/v2/a/tags", 404, "UNSUPPORTED", id="tags without list"),
    pytest.param("/v1/search?q=x", 404, "UNSUPPORTED", id="search"),
    pytest.param("/index.html", 404, "UNSUPPORTED", id="a file"),
    pytest.param("/v2x", 404, "UNSUPPORTED", id="longer than v2"),
    pytest.param("/v2/a/b/manifests/x?ns=quay.io", 404, "NAME_UNKNOWN", id="unknown ns"),
    pytest.param("/v2/quay.io/a/manifests/x", 404, "NAME_UNKNOWN", id="unknown prefix"),
    pytest.param("/v2/?ns=quay.io", 404, "NAME_UNKNOWN", id="ping of an unknown ns"),
]


@pytest.mark.parametrize(("path", "status", "code"), REFUSED)
def test_refused(
    client: FlaskClient, source: FakeSource, path: str, status: int, code: str
) -> None:
    """What no registry could answer ends here, as OCI JSON, and no source is asked."""
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.content_type == "application/json"
    (error,) = answer.get_json()["errors"]
    assert error["code"] == code
    assert error["message"]
    assert source.calls == []


PUSHES = [
    "/v2",
    "/v2/",
    MANIFEST,
    "/v2/a/b/blobs/uploads/",
    "/v2/a/b/blobs/uploads/uuid?digest=x",
    f"/v2/a/b/blobs/{SHA256}",
    "/v2/a/b/tags/list",
    "/v2/UPPER/manifests/x",
    "/v2/a%0Ab/manifests/x",
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_pushes(client: FlaskClient, source: FakeSource, method: str) -> None:
    """A proxy that only reads: 405 DENIED, the reason in the status line, and what is allowed."""
    for path in PUSHES:
        answer = client.open(path, method=method, data=b"x")
        assert answer.status_code == 405, path
        assert {name.strip() for name in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}, (
            path
        )
        assert answer.status == "405 This proxy only serves pulls", path
        assert answer.get_json()["errors"][0]["code"] == "DENIED", path
        assert source.calls == [], path


@pytest.mark.parametrize("path", ["/v2/", MANIFEST])
def test_methods_that_nobody_knows(client: FlaskClient, source: FakeSource, path: str) -> None:
    """They are told the same as pushes."""
    answer = client.open(path, method="PROPFIND")
    assert answer.status_code == 405
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}
    assert source.calls == []
