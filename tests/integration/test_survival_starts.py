"""Trouble before the first byte: what is asked again, and what is not."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.hub.hub import Hub
from tests.integration.survival import (
    ALPINE,
    INDEX,
    MANIFEST,
    Surviving,
    Survivor,
    blob_path,
    late_server,
    layer,
)
from tests.servers import wait_until

pytestmark = pytest.mark.integration

TOKEN = f"/auth/token?service=registry.test&scope=repository:{ALPINE}:pull"
Where = dict[str, Any]
FORM = f"grant_type=password&username=alice&password=alicepw&scope=repository:{ALPINE}:pull"


def manifest(_: Hub) -> tuple[str, str, Where]:
    """Ask for a manifest."""
    return "GET", MANIFEST, {"part": "registry", "path": "/manifests/"}


def manifest_head(_: Hub) -> tuple[str, str, Where]:
    """Ask for its head."""
    return "HEAD", MANIFEST, {"part": "registry", "path": "/manifests/"}


def blob_at_the_registry(hub: Hub) -> tuple[str, str, Where]:
    """Ask for a blob, of which the registry should say where it is."""
    return "GET", blob_path(layer(hub).digest), {"part": "registry", "path": "/blobs/"}


def blob_at_the_cdn(hub: Hub) -> tuple[str, str, Where]:
    """Ask for a blob, which the CDN should serve."""
    return "GET", blob_path(layer(hub).digest), {"part": "cdn"}


def tags(_: Hub) -> tuple[str, str, Where]:
    """Ask for tags."""
    return "GET", f"/v2/{ALPINE}/tags/list", {"part": "registry", "path": "/tags/"}


def token(_: Hub) -> tuple[str, str, Where]:
    """Ask for a token."""
    return "GET", TOKEN, {"part": "token"}


Target = Callable[[Hub], tuple[str, str, Where]]
TARGETS = [manifest, manifest_head, blob_at_the_registry, blob_at_the_cdn, tags, token]


FAULTS: Mapping[str, Mapping[str, Any]] = {
    "500": {"status": 500},
    "502": {"status": 502, "body": "<html>bad gateway</html>"},
    "503 twice": {"status": 503, "times": 2},
    "503, wait": {"status": 503, "headers": {"Retry-After": "1"}},
    "504": {"status": 504},
    "hang-up twice": {"hang_up": True, "times": 2},
}


@pytest.mark.parametrize(
    ("target", "name"),
    [*zip(TARGETS * 2, [*FAULTS, *[*FAULTS][3:], *[*FAULTS][:3]], strict=True)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_it_is_asked_again(survivor: Survivor, target: Target, name: str) -> None:
    """No client notices but for the time it takes.

    Each fault comes to two of the targets: tests/unit/upstream/http/test_retries.py has them all.
    """
    fault = FAULTS[name]
    method, path, where = target(survivor.hub)
    fields = [] if path == TOKEN else [survivor.login(), INDEX]
    survivor.hub.forget()
    survivor.hub.fail(**where, **fault)
    answer = survivor.get(path, *fields, method=method)
    assert (answer.status, answer.complete) == (200, True)
    assert survivor.hub.count(where["part"], method) == 1 + fault.get("times", 1)


@pytest.mark.parametrize("target", [manifest, blob_at_the_cdn], ids=lambda target: target.__name__)
def test_silence(survivor: Survivor, target: Target) -> None:
    """Who does not begin to answer in time is asked again."""
    method, path, where = target(survivor.hub)
    authorization = survivor.login()
    survivor.hub.fail(**where, delay=60)
    assert survivor.get(path, authorization, INDEX, method=method).status == 200


def test_trouble_that_stays(survivor: Survivor) -> None:
    """Four times, and the client has the registry's own words."""
    authorization = survivor.login()
    survivor.hub.fail(part="registry", path="/manifests/", status=503, times=None)
    answer = survivor.get(MANIFEST, authorization, INDEX)
    assert answer.status == 503
    assert survivor.hub.count("registry", "GET", "/manifests/") == 4


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(503, {"Retry-After": "30"}, id="503 for long"),
        pytest.param(404, {}, id="404"),
        pytest.param(403, {}, id="403"),
        pytest.param(501, {}, id="501"),
    ],
)
def test_what_is_not_asked_again(survivor: Survivor, status: int, headers: dict[str, str]) -> None:
    """What waiting a little does not change; a long Retry-After is the client's to obey."""
    authorization = survivor.login()
    survivor.hub.fail(part="registry", path="/manifests/", status=status, headers=headers)
    answer = survivor.get(MANIFEST, authorization, INDEX)
    assert answer.status == status
    assert answer.head.value("Retry-After") == headers.get("Retry-After", "")
    assert survivor.hub.count("registry", "GET", "/manifests/") == 1


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param({"hang_up": True}, 503, id="hang-up"),
        pytest.param({"delay": 60}, 504, id="silence"),
        pytest.param({"status": 502}, 502, id="502"),
        pytest.param({"status": 503}, 503, id="503"),
    ],
)
def test_a_post_may_have_had_its_effect(
    survivor: Survivor, fault: Mapping[str, Any], status: int
) -> None:
    """It is sent once, whatever comes back or not."""
    survivor.hub.fail(part="token", method="POST", times=None, **fault)
    answer = survivor.get(
        "/auth/token",
        "Content-Type: application/x-www-form-urlencoded",
        method="POST",
        body=FORM.encode(),
    )
    assert answer.status == status
    assert survivor.hub.count("token", "POST") == 1


def test_a_post_that_cannot_have_been_sent(surviving: Surviving, bad_day: Hub) -> None:
    """Where no connection is made, it is tried again, and then sent once."""
    del bad_day
    with late_server() as late, ThreadPoolExecutor(1) as pool:
        row = {**late.row("late.test"), "token_url": late.url, "token_service": "late"}
        survivor = surviving(rows=(row,))
        answer = pool.submit(
            survivor.get,
            "/auth/token?ns=late.test",
            "Content-Type: application/x-www-form-urlencoded",
            method="POST",
            body=f"service=late.test&{FORM.replace(ALPINE, 'late.test/a')}".encode(),
        )
        wait_until(lambda: "Upstream cannot be reached." in survivor.proxy.log)
        assert not answer.done()
        late.open()
        assert answer.result().status == 200
        assert len(late.bodies) == 1
        assert b"password=alicepw" in late.bodies[0]
        assert "alicepw" not in survivor.proxy.log


def test_nobody_waits_any_more(survivor: Survivor) -> None:
    """A client that leaves in a pause has nothing asked for it any more."""
    authorization = survivor.login()
    where: Where = {"part": "registry", "path": "/manifests/"}
    survivor.hub.fail(**where, status=503, headers={"Retry-After": "4"}, times=None)
    before = len(survivor.proxy.log)
    with survivor.client() as client:
        client.ask(MANIFEST, authorization, INDEX)
        wait_until(lambda: survivor.hub.count("registry", path="/manifests/") == 1)
    left = time.monotonic()
    wait_until(lambda: "status=499" in survivor.proxy.log[before:])
    assert time.monotonic() - left < 3
    assert survivor.hub.count("registry", path="/manifests/") == 1
