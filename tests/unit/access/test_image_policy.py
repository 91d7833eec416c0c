"""What is read to decide of an image, in whose name, and what comes of it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest

from app.access.image_facts import ImageFactsCache
from app.access.image_policy import ImageInspection
from app.access.rules import Condition, Decision, Rule
from app.oci.errors import RuleDenied, UpstreamMisbehaved, UpstreamUnavailable
from app.oci.manifest import Platform
from app.oci.reference import Digest, Kind, Operation, Reference, RepositoryName, Tag
from app.source import BodyBroken, Reply, Request, build_reply
from tests.unit.fake_source import FakeSource

RULE = Rule(number=3, allows=True, condition=Condition((Platform("linux", "amd64"),)))


def digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


class Shelf(FakeSource):
    """One image by tag and digest, whose config can be had, broken or changed."""

    def __init__(self, platform: str = "linux/amd64") -> None:
        super().__init__()
        system, _, architecture = platform.partition("/")
        self.config = json.dumps({"os": system, "architecture": architecture}).encode()
        config = {"digest": digest_of(self.config), "size": len(self.config)}
        self.document = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
        self.told: Reply | None = None
        self.blob_told: Reply | None = None

    def answer(self, operation: Operation, request: Request) -> Reply:
        """Answer with the image's manifest or its config."""
        super().answer(operation, request)
        if operation.kind is Kind.BLOB:
            return replace(self.blob_told or build_reply(200, [], self.config), close=self._close)
        fields = [("Docker-Content-Digest", str(digest_of(self.document)))]
        reply = self.told or build_reply(200, fields, self.document)
        if request.method == "HEAD":
            reply = replace(reply, body=b"")
        return replace(reply, close=self._close)

    @property
    def questions(self) -> list[str]:
        """What was asked, in order."""
        return [f"{call.request.method} {call.method}" for call in self.calls]


def inspect(
    shelf: Shelf, reference: Reference | None = None, method: str = "GET", **known: Any
) -> Reply:
    """Ask for the manifest by tag, unless a digest is given."""
    fields = [("Authorization", "Bearer alice"), ("If-None-Match", '"x"'), ("Range", "bytes=0-1")]
    return ImageInspection(
        source=shelf,
        operation=Operation.manifest(RepositoryName("team/app"), reference or Tag("1")),
        request=Request(method=method, headers=fields),
        keep_outcome=known.get("keep_outcome") or nullcontext,
        facts_cache=known.get("known") or ImageFactsCache(),
        decide=known.get("decide") or asked_again,
    ).inspect_manifest(known.get("decision") or Decision(allowed=True, rule=RULE))


def asked_again(names: frozenset[Digest]) -> Decision:
    pytest.fail(f"what is decided is asked again, for {names}")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("by_digest", [False, True], ids=["tag", "digest"])
def test_a_platform_that_is_served(method: str, *, by_digest: bool) -> None:
    """The answer is the registry's own, and all that was opened is closed."""
    shelf = Shelf()
    reply = inspect(shelf, digest_of(shelf.document) if by_digest else None, method)
    assert (reply.status, reply.read()) == (200, shelf.document * (method == "GET"))
    assert reply.length == len(shelf.document)
    assert shelf.closed == len(shelf.calls)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("by_digest", [False, True], ids=["tag", "digest"])
def test_another_platform(method: str, *, by_digest: bool) -> None:
    """It is refused by the rule that let the question through."""
    shelf = Shelf("windows/amd64")
    with pytest.raises(RuleDenied, match="for linux/amd64 only") as refused:
        inspect(shelf, digest_of(shelf.document) if by_digest else None, method)
    assert refused.value.detail == {"rule": 3}
    assert shelf.closed == len(shelf.calls)


def test_all_is_asked_in_the_clients_name() -> None:
    """With what it sent to log in, and with nothing that would cut an answer."""
    shelf = Shelf()
    inspect(shelf, method="HEAD")
    assert shelf.questions == ["HEAD manifest", "GET manifest", "GET blob"]
    for call in shelf.calls:
        names = {name for name, _ in call.request.headers}
        assert call.request.authorization == "Bearer alice"
        assert not names & {"If-None-Match", "Range"}


@pytest.mark.parametrize(("method", "apart"), [("GET", (1, 2)), ("HEAD", (1, 3))])
def test_what_is_asked_only_to_judge_is_apart(method: str, apart: tuple[int, int]) -> None:
    """The log line says how the client's own request was served."""
    shelf, numbers = Shelf(), list[int]()

    @contextmanager
    def keep_outcome() -> Iterator[None]:
        numbers.append(len(shelf.calls))
        yield
        numbers.append(len(shelf.calls))

    inspect(shelf, method=method, keep_outcome=keep_outcome)
    assert tuple(numbers) == apart
    assert len(shelf.calls) == apart[-1]


def test_it_is_remembered() -> None:
    """The registry decides each time, and is not asked for what cannot change."""
    shelf, known = Shelf(), ImageFactsCache()
    for method in ("GET", "GET", "HEAD"):
        inspect(shelf, method=method, known=known)
    assert shelf.questions == ["GET manifest", "GET blob", "GET manifest", "HEAD manifest"]
    shelf.told = Reply(status=401)
    assert inspect(shelf, known=known).status == 401


def test_a_refusal_of_the_registry_is_passed_on() -> None:
    """Nothing is looked at that the client may not read."""
    shelf = Shelf("windows/amd64")
    shelf.told = Reply(status=404)
    assert inspect(shelf).status == 404
    assert shelf.questions == ["GET manifest"]


def test_a_digest_that_is_only_named() -> None:
    """A HEAD that names a good image's digest does not make another one good."""
    good, bad, known = Shelf(), Shelf("windows/amd64"), ImageFactsCache()
    inspect(good, known=known)
    bad.told = build_reply(200, [("Docker-Content-Digest", digest_of(good.document))], bad.document)
    with pytest.raises(RuleDenied):
        inspect(bad, known=known)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(Reply(status=404), id="not there"),
        pytest.param(Reply(status=304), id="no answer"),
        pytest.param(build_reply(200, [], b"{}"), id="other bytes"),
        pytest.param(build_reply(200, [], b" " * ((1 << 20) + 1)), id="too large"),
    ],
)
def test_a_config_that_cannot_be_read(told: Reply) -> None:
    """It is refused, and asked for again the next time."""
    shelf, known = Shelf(), ImageFactsCache()
    shelf.blob_told = told
    with pytest.raises(RuleDenied):
        inspect(shelf, known=known)
    shelf.blob_told = None
    assert inspect(shelf, known=known).status == 200


def _broken() -> Any:
    yield b"{"
    reason = "cut"
    raise BodyBroken(reason)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(Reply(status=429), id="too many"),
        pytest.param(Reply(status=500), id="ill"),
        pytest.param(Reply(status=200, body=_broken()), id="cut"),
    ],
)
def test_a_config_that_may_be_read_later(told: Reply) -> None:
    """Clients come again after a 503."""
    shelf = Shelf()
    shelf.blob_told = told
    with pytest.raises(UpstreamUnavailable):
        inspect(shelf)
    assert shelf.closed == len(shelf.calls)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b'{"schemaVersion":1,"fsLayers":[]}', id="schema 1"),
        pytest.param(b" " * ((4 << 20) + 1), id="too large"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_that_tells_nothing(document: bytes, method: str) -> None:
    """What cannot be told is refused."""
    shelf = Shelf()
    shelf.document = document
    with pytest.raises(RuleDenied):
        inspect(shelf, method=method)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_index(method: str) -> None:
    """It is served whole, and no config is asked for."""
    shelf = Shelf()
    shelf.document = b'{"schemaVersion":2,"manifests":[]}'
    assert inspect(shelf, method=method).status == 200
    assert not any(call.method == "blob" for call in shelf.calls)


OPEN = Decision(allowed=True, is_provisional=True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_names_of_a_manifest(method: str) -> None:
    """Of a GET they are those of its bytes, of a HEAD what the registry says."""
    shelf = Shelf()
    shelf.told = build_reply(200, [("Docker-Content-Digest", f"sha256:{'0' * 64}")], shelf.document)
    told = list[frozenset[Digest]]()

    def decide(names: frozenset[Digest]) -> Decision:
        told.append(names)
        return Decision(allowed=True)

    reply = inspect(shelf, None, method, decision=OPEN, decide=decide)
    assert (reply.status, reply.read()) == (200, shelf.document * (method == "GET"))
    right = {digest_of(shelf.document), *Digest.compute_all(shelf.document)}
    assert told == [right if method == "GET" else {Digest(f"sha256:{'0' * 64}")}]
    assert shelf.closed == len(shelf.calls) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_name_that_is_denied(method: str) -> None:
    """Nothing is left open."""

    def decide(names: frozenset[Digest]) -> Decision:
        raise RuleDenied(rule=4) if names else AssertionError

    shelf = Shelf()
    with pytest.raises(RuleDenied):
        inspect(shelf, None, method, decision=OPEN, decide=decide)
    assert shelf.closed == len(shelf.calls) == 1


def test_a_name_whose_rule_is_about_images() -> None:
    """What is decided at last is what counts."""
    with pytest.raises(RuleDenied, match="for linux/amd64 only"):
        inspect(
            Shelf("windows/amd64"),
            decision=OPEN,
            decide=lambda _: Decision(allowed=True, rule=RULE),
        )


def test_a_manifest_that_is_too_large_for_names() -> None:
    """It is no registry's usual one, and nobody can say what it is."""
    shelf = Shelf()
    shelf.told = build_reply(200, [], b" " * (4 << 20) + b" ")
    with pytest.raises(UpstreamMisbehaved, match="too large"):
        inspect(shelf, decision=OPEN)
    assert shelf.closed == 1
