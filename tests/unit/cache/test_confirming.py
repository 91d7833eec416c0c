"""What a manifest names is confirmed in the background, and by nothing but the registry."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from app.background import BackgroundPool
from app.cache.source import CachedSource
from app.oci.errors import RegistryError, UpstreamTimeout, UpstreamUnreachable
from app.oci.reference import Operation, RepositoryName, Tag
from app.registries import Account
from app.source import Reply, TokenRequest, Unmetered
from tests.unit.cache.authz.test_gate import jwt
from tests.unit.cache.registry import ANYBODY, MANIFEST, digest_of
from tests.unit.cache.world import ALICE, NAME, World, read, request

BASE = RepositoryName.parse("library/base")
TAG = Tag.parse("1.0")
SHARED, OWN, CONFIG = b"a shared layer", b"a layer of its own", b"{}"


class Collected(BackgroundPool):
    """Does what is to be done in the background when it is told to."""

    def __init__(self) -> None:
        super().__init__("nothing runs")
        self.works: list[tuple[float, Callable[[], object]]] = []
        self.room = 1000

    def submit(self, work: Callable[[], object], delay: float = 0.0) -> bool:
        """Collect it."""
        if len(self.works) >= self.room:
            return False
        self.works.append((delay, work))
        return True

    def run(self) -> list[float]:
        """Do all that is there now; return how many seconds each was to wait."""
        works, self.works = self.works, []
        for _, work in works:
            work()
        return [delay for delay, _ in works]


def image(layers: Sequence[bytes], **more: object) -> bytes:
    """Return a manifest."""
    named = [{"digest": digest_of(data), "size": len(data), **more} for data in layers]
    config = {"digest": digest_of(CONFIG), "size": len(CONFIG)}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": named}).encode()


@dataclass
class Stage:
    """A registry whose image shares a layer with another one, and a worker before it."""

    world: World
    background: Collected
    source: CachedSource

    def push(
        self, document: bytes, *readers: str, held: Sequence[bytes] = (SHARED, CONFIG)
    ) -> None:
        """Let the repository hold an image and these blobs of it."""
        repository = self.world.registry.repository(NAME, *readers)
        repository.push(TAG, document, MANIFEST)
        for data in held:
            repository.push_blob(data)

    def keep(self, *blobs: bytes) -> None:
        """Keep blobs, of whatever repository."""
        for data in blobs:
            self.world.storages.opened[0].blobs.keep(data, self.world.row.name, digest_of(data), "")

    def pull(self, authorization: str = "", method: str = "GET") -> Reply:
        """Ask for the manifest, and forget what the registry was asked for it."""
        reply = self.source.answer(Operation.manifest(NAME, TAG), request(authorization, method))
        read(reply)
        self.world.registry.asked.clear()
        return reply

    def confirmed(self) -> list[str]:
        """Do what is to be done in the background, and return what the registry was asked."""
        self.background.run()
        return self.world.registry.asked

    def is_stale(self, data: bytes) -> bool:
        """Tell whether everybody is given a blob while the registry is unreachable."""
        opened = self.world.gate().open_stale(NAME, digest_of(data))
        if opened is not None:
            opened.blob.close()
        return opened is not None


def head(data: bytes) -> str:
    """Return how the registry is asked for a blob."""
    return f"HEAD {NAME}/blobs/{digest_of(data)}"


@pytest.fixture
def stage(world: World) -> Stage:
    """Return them, with nothing kept."""
    background = Collected()
    return Stage(world, background, world.source(background))


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "hit"])
def test_what_is_kept_is_asked_for_once(stage: Stage, *, warm: bool) -> None:
    """Not what is not kept, nor what is known; the client's own answer waits for none of it."""
    stage.push(image([SHARED, OWN]), "")
    if warm:
        stage.pull()
        stage.background.works.clear()
        stage.source = stage.world.source(stage.background)
    stage.keep(SHARED, CONFIG)
    assert not stage.is_stale(SHARED)
    stage.pull()
    assert stage.confirmed() == [head(CONFIG), head(SHARED)]
    assert all(one.method == "HEAD" for one in stage.world.registry.requests[-2:])
    assert stage.is_stale(SHARED)
    assert stage.is_stale(CONFIG)
    assert not stage.is_stale(OWN)
    for source in (stage.source, stage.world.source(stage.background)):
        stage.source = source
        stage.pull()
        assert stage.confirmed() == []


def test_what_comes_later_is_asked_for_later(stage: Stage) -> None:
    """A layer that is being fetched for another image is kept some seconds after."""
    stage.push(image([SHARED]), "")
    stage.pull()
    assert stage.confirmed() == []
    (delay,) = [delay for delay, _ in stage.background.works]
    assert 0 < delay < 60
    stage.keep(SHARED)
    assert stage.confirmed() == [head(SHARED)]
    (delay,) = stage.background.run()
    assert 60 < delay < 300
    assert stage.background.works == []


def test_the_manifest_is_not_believed(stage: Stage) -> None:
    """What the registry does not have there becomes no member, and closes nothing.

    Nor is it asked for more of an image then: some say so to each HEAD of a blob.
    """
    stage.push(image([SHARED, OWN]), "", held=[CONFIG, OWN])
    stage.keep(SHARED, OWN, CONFIG)
    stage.pull()
    manifest = digest_of(image([SHARED, OWN]))
    prove = f"HEAD {NAME}@{manifest}"
    assert stage.confirmed() == [head(CONFIG), head(SHARED), prove]
    assert [stage.is_stale(one) for one in (CONFIG, SHARED, OWN)] == [True, False, False]
    stage.pull("Bearer other")
    assert head(SHARED) not in stage.confirmed()


def test_a_missing_blob_closes_nothing(stage: Stage) -> None:
    """A 404 ends the grant of whoever asks, and the manifest's answer gives it back."""
    stage.push(image([SHARED]), ALICE, held=[])
    stage.keep(SHARED)
    stage.pull(ALICE)
    manifest = f"HEAD {NAME}@{digest_of(image([SHARED]))}"
    assert stage.confirmed() == [head(SHARED), manifest]
    asked = stage.world.registry.requests[-1]
    assert (asked.authorization, asked.headers[0]) == (ALICE, ("Accept", MANIFEST))
    gate, caller = stage.source.manifests_by_digest.gate, stage.world.caller_of(stage.source, ALICE)
    assert gate.has_grant(caller, NAME)
    assert not gate.lookup_access(caller, NAME, digest_of(SHARED)).is_member


def test_another_size_is_believed_of_nothing(stage: Stage) -> None:
    """The registry speaks of other bytes then."""
    stage.push(image([SHARED]), "")
    stage.keep(SHARED)
    stage.world.registry.lies[digest_of(SHARED)] = b"another"
    stage.pull()
    assert stage.confirmed() == [head(SHARED)]
    assert not stage.is_stale(SHARED)


def test_a_logins_is_not_shown_to_nobody(stage: Stage) -> None:
    """It is asked in the name of whoever pulls; and in nobody's when nobody does."""
    stage.push(image([SHARED]), "", ALICE)
    stage.keep(SHARED)
    stage.pull(ALICE)
    assert stage.confirmed() == [head(SHARED)]
    assert stage.world.registry.requests[-1].authorization == ALICE
    stage.pull()
    stage.background.works.clear()  # as if that were lost
    assert not stage.is_stale(SHARED)
    stage.source = stage.world.source(stage.background)
    stage.pull()
    assert stage.confirmed() == [head(SHARED)]
    assert stage.world.registry.requests[-1].authorization == ""
    assert stage.is_stale(SHARED)
    stage.pull(ALICE)
    assert stage.confirmed() == []


def test_a_token_for_nobody_is_nobodys(stage: Stage) -> None:
    """What it is shown is public."""
    stage.push(image([SHARED]), ANYBODY)
    stage.keep(SHARED)
    scope = [("scope", f"repository:{NAME}:pull")]
    token = stage.source.token(TokenRequest(method="GET", parameters=scope))
    authorization = f"Bearer {json.loads(read(token))['token']}"
    stage.pull(authorization)
    assert stage.confirmed() == [head(SHARED)]
    assert stage.is_stale(SHARED)


def test_the_own_account(world: World) -> None:
    """A managed registry is asked with it, and what it may read is nobody's."""
    world.row = replace(world.row, managed=True, account=Account("a", "secret"))
    stage = Stage(world, background := Collected(), world.source(background))
    stage.push(image([SHARED]), "")
    stage.keep(SHARED)
    stage.pull(ALICE)
    assert stage.confirmed() == [head(SHARED)]
    assert world.registry.requests[-1].authorization == ""
    assert not stage.is_stale(SHARED)


def test_who_is_refused_is_refused(stage: Stage) -> None:
    """The registry's word counts as if the caller had asked, and nothing more is asked."""
    stage.push(image([SHARED, OWN]), ALICE)
    stage.keep(SHARED, OWN)
    stage.pull(ALICE)
    stage.world.registry.repositories[NAME].readers.clear()
    assert stage.confirmed() == [head(SHARED)]
    caller = stage.world.caller_of(stage.source, ALICE)
    assert not stage.source.manifests_by_digest.gate.has_grant(caller, NAME)


@pytest.mark.parametrize("trouble", [UpstreamUnreachable("away"), 503, 429])
def test_a_registry_in_trouble_is_left_alone(stage: Stage, trouble: RegistryError | int) -> None:
    """After the first failure nothing more is asked for this manifest."""
    stage.push(image([SHARED, OWN]), "")
    stage.keep(SHARED, OWN)
    stage.pull()
    stage.world.registry.trouble = trouble
    assert stage.confirmed() == [head(SHARED)]
    asked = stage.world.registry.requests[-1]
    assert asked.has_fallback is not None
    assert asked.has_fallback()  # one attempt is enough, nobody waits for it
    assert stage.source.manifests_by_digest.stale_if_error.has_outage(NAME) == (trouble != 429)


@pytest.mark.parametrize(
    "trouble", [UpstreamUnreachable("away"), UpstreamTimeout("slow"), 503, 429]
)
def test_what_met_trouble_is_tried_again_soon(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, trouble: RegistryError | int
) -> None:
    """Not at once, and not only when it would be asked for anew."""
    stage.push(image([SHARED, OWN]), "", held=[SHARED, OWN])
    stage.keep(SHARED, OWN)
    stage.pull()
    stage.world.registry.trouble = trouble
    assert stage.confirmed() == [head(SHARED)]
    stage.world.registry.trouble = None
    began = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: began + 10)
    stage.pull()
    assert stage.confirmed() == []
    monkeypatch.setattr("time.monotonic", lambda: began + 40)
    stage.pull()
    assert stage.confirmed() == [head(SHARED), head(OWN)]


def test_nobody_pays(stage: Stage) -> None:
    """What is asked in the background is no client's."""
    stage.push(image([SHARED]), "")
    stage.keep(SHARED)
    read(
        stage.source.answer(
            Operation.manifest(NAME, TAG), replace(request(), payer=Unmetered(lambda: "alice"))
        )
    )
    assert stage.confirmed()[-1] == head(SHARED)
    assert stage.world.registry.requests[-1].payer is None


def test_a_registry_that_is_known_to_be_away_is_not_asked(stage: Stage) -> None:
    """A client has just found out."""
    stage.push(image([SHARED]), "")
    stage.keep(SHARED)
    stage.pull()
    stage.world.registry.trouble = UpstreamUnreachable("away")
    assert stage.source.answer(Operation.manifest(NAME, TAG), request()).header("warning")
    stage.world.registry.asked.clear()
    assert stage.confirmed() == []


def test_a_token_that_has_ended_is_not_shown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has pulled may not read any more by then."""
    bearer = jwt(exp=2_000_000_000.0)
    monkeypatch.setattr("time.time", lambda: 1_999_999_990.0)
    stage.push(image([SHARED]), bearer)
    stage.keep(SHARED)
    stage.pull(bearer)
    monkeypatch.setattr("time.time", lambda: 2_000_000_001.0)
    assert stage.confirmed() == []


def test_who_asks_by_head_or_has_it_already(stage: Stage) -> None:
    """No manifest passes then; nor does one that stands for the registry's answer."""
    stage.push(image([SHARED]), "")
    stage.keep(SHARED)
    stage.pull(method="HEAD")
    assert stage.background.works == []
    stage.pull()
    stage.background.works.clear()
    stage.source = stage.world.source(stage.background)
    etag = f'"{digest_of(image([SHARED]))}"'
    assert (
        stage.source.answer(Operation.manifest(NAME, TAG), request(if_none_match=etag)).status
        == 304
    )
    stage.world.registry.trouble = UpstreamUnreachable("away")
    assert stage.source.answer(Operation.manifest(NAME, TAG), request()).header("warning")
    assert stage.background.works == []


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(image([SHARED], urls=["https://elsewhere.example/layer"]), id="foreign"),
        pytest.param(b'{"schemaVersion":2,"manifests":[]}', id="an index"),
        pytest.param(b"[1]", id="no manifest"),
        pytest.param(b'{"schemaVersion":2,"layers":[{"digest":"sha256:x","size":1}]}', id="wrong"),
        pytest.param(image([SHARED]) + b" " * (1 << 18), id="large"),
    ],
)
def test_what_names_nothing(stage: Stage, document: bytes) -> None:
    """Nothing is asked; layers that clients get elsewhere are nobody's."""
    stage.push(document, "")
    stage.keep(SHARED)
    stage.pull()
    assert stage.confirmed() == []


def test_so_many_blobs_and_no_more(stage: Stage) -> None:
    """Whoever pushes an image chooses what it names; a blob that it names twice is one."""
    layers = [f"layer {number}".encode() for number in range(200)]
    stage.push(image([SHARED, *layers, SHARED]), "", held=[SHARED, *layers])
    stage.keep(SHARED, *layers)
    stage.pull()
    assert len(set(stage.confirmed())) == len(stage.world.registry.asked) == 127


def test_too_much_to_do(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """It is dropped, and the log says so once."""
    stage.push(image([SHARED]), "", ALICE)
    stage.keep(SHARED)
    stage.background.room = 0
    for who in ("", ALICE):
        assert stage.pull(who).status == 200
    assert sum("Queue of manifests" in line for line in caplog.messages) == 1
    stage.background.room = 1000
    stage.pull()
    assert stage.confirmed() == [head(SHARED)]
