"""Bodies that break on their way from the registry: the client's own goes on."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.hub.hub import Hub
from tests.integration.survival import (
    INDEX,
    MANIFEST,
    SETTINGS,
    Surviving,
    Survivor,
    blob_path,
    layer,
)

pytestmark = pytest.mark.integration

HALF = 1_000_000


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"cut_after": HALF}, id="cut"),
        pytest.param({"cut_after": 0}, id="cut at the start"),
        pytest.param({"cut_after": 1}, id="cut after a byte"),
        pytest.param({"cut_after": 500_000, "times": 3}, id="cut three times"),
        pytest.param({"cut_after": HALF, "reset": True}, id="reset"),
        pytest.param({"stall_after": HALF}, id="stall"),
        pytest.param({"stall_after": 0}, id="stall at the start"),
        pytest.param({"cut_after": HALF, "chunked": True}, id="chunks"),
        pytest.param({"stall_after": HALF, "chunked": True}, id="chunks, stall"),
    ],
)
def test_a_layer_goes_on(survivor: Survivor, fault: Mapping[str, Any]) -> None:
    """No client notices; the log tells where, and the CDN is asked for the rest alone."""
    hub, blob = survivor.hub, layer(survivor.hub)
    authorization = survivor.login()
    hub.fail(part="cdn", **fault)
    before = len(survivor.proxy.log)
    answer = survivor.get(blob_path(blob.digest), authorization)
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == blob.data
    times = fault.get("times", 1)
    lines = survivor.resumed(before)
    assert len(lines) == times
    assert all("WARNING" in line.upper() and "offset=" in line for line in lines)
    assert hub.count("registry", "GET", "/blobs/") == 1
    assert hub.count("cdn", "GET", status=206) == times
    if "reset" not in fault and times == 1:  # what a reset leaves of the bytes is its own matter
        assert f"offset={fault.get('cut_after', fault.get('stall_after'))} " in lines[0]


def test_a_range_that_is_ignored(survivor: Survivor) -> None:
    """What the client has already is read once more, and dropped."""
    blob = layer(survivor.hub)
    authorization = survivor.login()
    survivor.hub.fail(part="cdn", cut_after=HALF)
    survivor.hub.fail(part="cdn", ignore_range=True)
    answer = survivor.get(blob_path(blob.digest), authorization)
    assert (answer.complete, answer.body == blob.data) == (True, True)
    assert survivor.hub.count("cdn", status=200) == 2


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        pytest.param("bytes=500000-", 500_000, None, id="open"),
        pytest.param("bytes=500000-1699999", 500_000, 1_700_000, id="closed"),
    ],
)
def test_a_clients_own_range(survivor: Survivor, wanted: str, start: int, end: int | None) -> None:
    """It goes on within itself."""
    blob = layer(survivor.hub)
    authorization = survivor.login()
    survivor.hub.fail(part="cdn", cut_after=600_000)
    answer = survivor.get(blob_path(blob.digest), authorization, f"Range: {wanted}")
    assert (answer.status, answer.complete) == (206, True)
    assert answer.body == blob.data[start:end]
    asked = [record.headers["Range"] for record in survivor.hub.select("cdn")]
    assert asked[0] == wanted
    assert asked[1] == f"bytes=1100000-{(end or len(blob.data)) - 1}"


def test_a_url_that_has_expired(survivor: Survivor) -> None:
    """The registry signs another one, and the client's own token opens it."""
    hub, blob = survivor.hub, layer(survivor.hub)
    authorization = survivor.login()
    hub.expire_urls_after(10)
    hub.fail(part="cdn", stall_after=HALF)
    with survivor.client() as client:
        client.ask(blob_path(blob.digest), authorization)
        client.head()
        first = client.exactly(HALF)
        hub.advance(60)
        assert first + client.exactly(len(blob.data) - HALF) == blob.data
    assert hub.count("cdn", status=403) == 1
    assert hub.count("registry", "GET", "/blobs/") == 2
    assert hub.count("token") == 1


def test_an_old_client(survivor: Survivor) -> None:
    """HTTP/1.0, without a length: it has every byte, and a clean end."""
    blob = layer(survivor.hub)
    authorization = survivor.login()
    survivor.hub.fail(part="cdn", cut_after=HALF, chunked=True)
    answer = survivor.get(blob_path(blob.digest), authorization, version="HTTP/1.0")
    assert (answer.complete, answer.body == blob.data) == (True, True)


def test_a_day_that_does_not_end(survivor: Survivor) -> None:
    """Some seconds later the client's connection is cut; what it has is good."""
    hub, blob = survivor.hub, layer(survivor.hub)
    authorization = survivor.login()
    hub.fail(part="cdn", cut_after=HALF)
    hub.fail(part="cdn", status=503, times=None)
    answer = survivor.get(blob_path(blob.digest), authorization)
    assert (answer.status, answer.complete) == (200, False)
    assert answer.body == blob.data[:HALF]
    assert hub.count("cdn") <= 8


@pytest.mark.parametrize("fault", [{"cut_after": 100}, {"stall_after": 100}], ids=["cut", "stall"])
def test_a_manifest_that_breaks(survivor: Survivor, fault: Mapping[str, Any]) -> None:
    """It is small: it is asked for again before a byte of it goes out."""
    authorization = survivor.login()
    whole = survivor.get(MANIFEST, authorization, INDEX)
    survivor.hub.forget()
    survivor.hub.fail(part="registry", path="/manifests/", **fault)
    answer = survivor.get(MANIFEST, authorization, INDEX)
    assert (answer.status, answer.complete, answer.body) == (200, True, whole.body)
    assert survivor.hub.count("registry", "GET", "/manifests/") == 2


def test_a_manifest_that_breaks_every_time(surviving: Surviving, bad_day: Hub) -> None:
    """503, which clients understand, and nothing that looks like a manifest."""
    survivor = surviving(**(SETTINGS | {"DOCXY_RETRY_BUDGET": "0.3"}))
    authorization = survivor.login()
    bad_day.fail(part="registry", path="/manifests/", cut_after=100, times=None)
    answer = survivor.get(MANIFEST, authorization, INDEX)
    assert (answer.status, answer.complete) == (503, True)
    assert b"UNAVAILABLE" in answer.body
    assert 2 <= bad_day.count("registry", "GET", "/manifests/") <= 4
