"""429: who repeats the question at once is answered here, and who logs in passes."""

import json

import pytest

from tests.hub.hub import Hub
from tests.integration.survival import ALICE, INDEX, MANIFEST, Surviving, Survivor
from tests.servers import wait_until

pytestmark = pytest.mark.integration

OTHER = "/v2/library/nginx/manifests/latest"


@pytest.fixture
def lone(surviving: Surviving, bad_day: Hub) -> Survivor:
    """Return a Docxy with one worker: each remembers for itself."""
    del bad_day
    return surviving(workers=1)


def refuse(hub: Hub, seconds: str = "30", body: str | None = None) -> None:
    """Let the hub have enough of whoever asks next."""
    hub.fail(part="registry", path="/manifests/", status=429, body=body,
             headers={"Retry-After": seconds})  # fmt: skip


def ask(survivor: Survivor, authorization: str, path: str = MANIFEST) -> int:
    """Return the status of a manifest."""
    answer = survivor.get(path, authorization, INDEX)
    if answer.status == 429:
        assert 1 <= int(answer.head.value("Retry-After")) <= 60
        assert "errors" in json.loads(answer.body)
    return answer.status


def asked(survivor: Survivor) -> int:
    """Return how often the hub was asked for manifests."""
    return survivor.hub.count("registry", path="/manifests/")


@pytest.mark.parametrize("seconds", ["30", "21600"])
def test_who_repeats(lone: Survivor, seconds: str) -> None:
    """Containerd asks five times at once: the registry hears it once."""
    authorization = lone.login()
    refuse(lone.hub, seconds)
    assert [ask(lone, authorization) for _ in range(5)] == [429] * 5
    assert asked(lone) == 1


def test_who_passes(lone: Survivor) -> None:
    """Another repository, another token, and above all somebody who logs in."""
    nobody = lone.login()
    refuse(lone.hub)
    assert ask(lone, nobody) == 429
    assert ask(lone, nobody, OTHER) == 401, "the registry was asked, and has its own opinion"
    assert ask(lone, lone.login(auth=ALICE)) == 200
    assert ask(lone, lone.login()) == 200
    assert ask(lone, nobody) == 429
    assert asked(lone) == 4


def test_it_ends_early(lone: Survivor) -> None:
    """A window rolls: after a second that the registry asked for, it is asked again."""
    authorization = lone.login()
    refuse(lone.hub, "1")
    assert ask(lone, authorization) == 429
    wait_until(lambda: ask(lone, authorization) == 200, 5)


def test_what_counts_every_request(lone: Survivor) -> None:
    """Plain text is about whatever its hearer asks for; who logs in passes."""
    nobody, somebody = lone.login(), lone.login(auth=ALICE)
    refuse(lone.hub, "3", "Too Many Requests")
    assert ask(lone, nobody) == 429
    assert ask(lone, nobody, OTHER) == 429
    assert asked(lone) == 1
    lone.hub.heal()
    assert ask(lone, somebody) == 200
    wait_until(lambda: ask(lone, nobody) == 200, 10)


def test_a_cdn_that_has_enough(lone: Survivor) -> None:
    """It is another host; the registry's own answers are as good as ever."""
    blob = lone.hub.image("library/alpine", "3.19").platforms["linux/amd64"].layers[0]
    authorization = lone.login()
    lone.hub.fail(part="cdn", status=429, body="slow down", headers={"Retry-After": "1"})
    assert lone.get(f"/v2/library/alpine/blobs/{blob.digest}", authorization).status == 429
    assert ask(lone, authorization) == 200


def test_two_workers(survivor: Survivor) -> None:
    """Each hears it once for itself."""
    authorization = survivor.login()
    survivor.hub.fail(
        part="registry", path="/manifests/", status=429, times=None, headers={"Retry-After": "30"}
    )
    assert [ask(survivor, authorization) for _ in range(12)] == [429] * 12
    assert asked(survivor) <= 2
