"""Docker Hub's index: what goes there, and what of its answers comes back."""

import json

import pytest
import requests
import responses

from app.oci.errors import UpstreamMisbehaved, UpstreamUnavailable
from app.source import Request
from app.upstream.http.connect import Connector
from app.upstream.http.retries import Reliability
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from app.upstream.search import HubSearchIndex
from app.version import VERSION
from tests.unit.upstream.hurry import hurried

INDEX = "https://index.example"
SEARCH = f"{INDEX}/v1/search?q=nginx&n=25&page=1"
FOUND = b'{"num_results": 1, "results": [{"name": "nginx"}]}'
ASKED = Request(
    method="GET",
    headers=[("Via", "1.1 docxy"), ("Authorization", "Basic c2VjcmV0"), ("Cookie", "a=b")],
    query="q=nginx&n=25&page=1",
)


@pytest.fixture
def index() -> HubSearchIndex:
    """Return the index as create_app makes it."""
    session = Session(
        ca_bundles=[],
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=5,
        read_timeout=30,
        connector=Connector(allow_private=False, prefer_ipv4=False),
    )
    return HubSearchIndex(
        INDEX, session, Reliability(retry_budget=45, resume_budget=60, verify_blobs=False)
    )


def test_search(index: HubSearchIndex, upstream: responses.RequestsMock) -> None:
    """Its own words come back with no header of its own; nobody's login goes up."""
    upstream.get(SEARCH, body=FOUND, headers={"Set-Cookie": "a=b", "X-Other": "1"})
    reply = index.search(ASKED)
    assert (reply.status, reply.read(), reply.length) == (200, FOUND, len(FOUND))
    assert reply.headers == [("Content-Type", "application/json")]
    sent = upstream.calls[0].request.headers
    assert dict(sent) == {
        "User-Agent": f"docxy/{VERSION}",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Via": "1.1 docxy",
    }


def test_it_may_have_moved(index: HubSearchIndex, upstream: responses.RequestsMock) -> None:
    """A redirect is followed, and one that leads nowhere is told as what it is."""
    moved = "https://hub.example/search"
    upstream.get(SEARCH, status=301, headers={"Location": moved})
    upstream.get(moved, body=FOUND)
    assert index.search(ASKED).status == 200
    upstream.get(SEARCH, status=302)
    with pytest.raises(UpstreamMisbehaved):
        index.search(ASKED)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"results": {}}', b"[" * 100_000])
def test_what_is_no_result(
    index: HubSearchIndex, upstream: responses.RequestsMock, body: bytes
) -> None:
    """A page, or whatever else is no list of results, goes to nobody."""
    upstream.get(SEARCH, body=body)
    with pytest.raises(UpstreamMisbehaved):
        index.search(ASKED)


def test_a_very_long_answer(index: HubSearchIndex, upstream: responses.RequestsMock) -> None:
    """It is read to a limit."""
    upstream.get(SEARCH, body=b'{"results": []}' + b" " * 2**20)
    with pytest.raises(UpstreamMisbehaved):
        index.search(ASKED)


def test_refusals(index: HubSearchIndex, upstream: responses.RequestsMock) -> None:
    """What is wrong is told as OCI JSON; a 401 asks nobody for a login."""
    for status, told in ((401, 403), (404, 404), (400, 400)):
        upstream.get(SEARCH, status=status, body="<html>", content_type="text/html")
        reply = index.search(ASKED)
        assert (reply.status, list(reply.challenges)) == (told, [])
        assert json.loads(reply.read())["errors"]


def test_enough(index: HubSearchIndex, upstream: responses.RequestsMock) -> None:
    """A 429 is repeated here for some seconds, and the index is left alone."""
    upstream.get(SEARCH, status=429, headers={"Retry-After": "20"}, json={"errors": []})
    for _ in range(3):
        reply = index.search(ASKED)
        assert reply.status == 429
        assert 0 < int(reply.header("retry-after")) <= 20
    assert len(upstream.calls) == 1


def test_it_is_tried_again(index: HubSearchIndex, upstream: responses.RequestsMock) -> None:
    """As whatever may be asked twice."""
    with hurried():
        upstream.get(SEARCH, status=503)
        upstream.get(SEARCH, body=FOUND)
        assert index.search(ASKED).status == 200
        for _ in range(4):
            upstream.get(SEARCH, body=requests.ConnectionError())
        with pytest.raises(UpstreamUnavailable):
            index.search(ASKED)
