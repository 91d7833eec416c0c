"""The question for the rest of a blob, and with whose token it is asked."""

import pytest
import requests
import responses

from app.oci.conditional import ContentRange
from app.oci.errors import Denied
from app.oci.headers import Headers
from app.upstream.http.redirects import Redirects
from app.upstream.http.session import Session
from app.upstream.resume import BlobRangeRequester

URL = "https://registry.example.com/v2/a/b/blobs/sha256:0"
CDN = "https://cdn.example.net/layer?signature=s3cr3t"
PART = ContentRange(300, 1000, 1000)
THEIRS: Headers = [
    ("Authorization", "Bearer old"), ("Accept", "*/*"), ("Range", "bytes=0-999"),
    ("If-Range", '"theirs"'), ("If-Match", "a"), ("If-None-Match", "b"),
    ("If-Modified-Since", "c"), ("If-Unmodified-Since", "d"),
]  # fmt: skip


def nothing(refused: str) -> str:
    """Renew nothing: it is the client's."""
    del refused
    return ""


def again(session: Session, renewed: object = nothing) -> BlobRangeRequester:
    """Return what is under test."""
    return BlobRangeRequester(
        redirects=Redirects(session),
        url=URL,
        fields=THEIRS,
        client=None,
        budget=60,
        renew_authorization=renewed,  # type: ignore[arg-type] # a function
    )


def broken(url: str, **fields: str) -> requests.Response:
    """Return the answer that broke."""
    response = requests.Response()
    response.url = url
    response.headers.update(fields)
    return response


def sent(upstream: responses.RequestsMock, number: int = 0) -> dict[str, str]:
    """Return the fields of a request, without what every request has."""
    usual = {"user-agent", "accept-encoding", "connection"}
    fields = upstream.calls[number].request.headers
    return {name: value for name, value in fields.items() if name.lower() not in usual}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(PART, "bytes=300-999", id="known"),
        pytest.param(ContentRange(300, None, None), "bytes=300-", id="no end"),
        pytest.param(ContentRange(0, 1, 5), "bytes=0-0", id="one byte"),
    ],
)
def test_at_the_same_place(
    session: Session, upstream: responses.RequestsMock, part: ContentRange, expected: str
) -> None:
    """The same signed URL, no credentials, and none of the client's conditions."""
    upstream.get(CDN, status=206)
    answer = again(session).request_same_url(part, broken(CDN))
    assert answer is not None
    assert answer.status_code == 206
    assert sent(upstream) == {"Accept": "*/*", "Range": expected}


@pytest.mark.parametrize(
    ("etag", "expected"),
    [('"a"', '"a"'), ('W/"a"', None), ("", None), ("a", None)],
)
def test_if_range(
    session: Session, upstream: responses.RequestsMock, etag: str, expected: str | None
) -> None:
    """A strong ETag of the answer that broke."""
    upstream.get(CDN, status=206)
    again(session).request_same_url(PART, broken(CDN, ETag=etag))
    assert sent(upstream).get("If-Range") == expected


def test_the_registry_itself_is_no_such_place(
    session: Session, upstream: responses.RequestsMock
) -> None:
    """There the client's credentials are needed, which from_registry() sends."""
    assert again(session).request_same_url(PART, broken(f"{URL}?x=y")) is None
    assert len(upstream.calls) == 0


def test_from_the_registry(session: Session, upstream: responses.RequestsMock) -> None:
    """With the client's token there, and without it where that leads."""
    upstream.get(URL, status=307, headers={"Location": CDN})
    upstream.get(CDN, status=206)
    assert again(session).request_from_registry(PART).url == CDN
    wanted = {"Accept": "*/*", "Range": "bytes=300-999"}
    assert sent(upstream, 0) == {**wanted, "Authorization": "Bearer old"}
    assert sent(upstream, 1) == wanted


def test_a_token_that_may_be_replaced(session: Session, upstream: responses.RequestsMock) -> None:
    """Once, after the registry has refused the old one."""
    upstream.get(URL, status=401)
    upstream.get(URL, status=206)
    assert again(session, lambda _: "Bearer new").request_from_registry(PART).status_code == 206
    assert [sent(upstream, one)["Authorization"] for one in (0, 1)] == ["Bearer old", "Bearer new"]


def test_a_new_token_that_is_refused(session: Session, upstream: responses.RequestsMock) -> None:
    """It may have been a remembered one: another is asked for, and no third one."""
    for _ in range(3):
        upstream.get(URL, status=401)
    refused: list[str] = []

    def renewed(token: str) -> str:
        refused.append(token)
        return f"Bearer {len(refused)}"

    assert again(session, renewed).request_from_registry(PART).status_code == 401
    assert refused == ["Bearer old", "Bearer 1"]


@pytest.mark.parametrize("status", [200, 206, 403, 404, 416, 429, 500, 503])
def test_other_answers_renew_nothing(
    session: Session, upstream: responses.RequestsMock, status: int
) -> None:
    """A token is asked for only where it is missing."""
    upstream.get(URL, status=status)
    unasked = pytest.fail
    assert (
        again(session, lambda _: unasked("asked")).request_from_registry(PART).status_code == status
    )


def test_a_login_is_the_clients(session: Session, upstream: responses.RequestsMock) -> None:
    """Nothing is asked in its name, and nothing as somebody else."""
    upstream.get(URL, status=401)
    with pytest.raises(Denied):
        again(session).request_from_registry(PART)
    assert len(upstream.calls) == 1


def test_a_401_of_the_cdn(session: Session, upstream: responses.RequestsMock) -> None:
    """It is not about the token, which never went there."""
    upstream.get(URL, status=307, headers={"Location": CDN})
    upstream.get(CDN, status=401)
    assert (
        again(session, lambda _: pytest.fail("asked")).request_from_registry(PART).status_code
        == 401
    )


def test_no_token_for_nobody(session: Session, upstream: responses.RequestsMock) -> None:
    """That is a RegistryError as any."""
    upstream.get(URL, status=401)

    def renewed(refused: str) -> str:
        assert refused == "Bearer old"
        raise Denied

    with pytest.raises(Denied):
        again(session, renewed).request_from_registry(PART)
