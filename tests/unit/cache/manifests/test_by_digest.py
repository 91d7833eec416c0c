"""Manifests: a second pull costs one HEAD, and nobody gets what the registry would refuse."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from app.cache.policy import CachePolicy
from app.oci.errors import (
    RegistryError,
    UpstreamDown,
    UpstreamMisbehaved,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from app.oci.reference import Digest, Operation, Reference, RepositoryName, Tag
from app.registries import Account, Registry
from app.source import Client, Reply, Request
from app.waiting import SingleFlight
from tests.unit.cache.registry import INDEX, LIST, MANIFEST, FakeRegistry, digest_of
from tests.unit.cache.world import ALICE, MALLORY, NAME, World, in_a_directory, read, request

DATA = b'{"schemaVersion":2}'
TAG = Tag.parse("1.0")
OTHER = RepositoryName.parse("mallory/own")


def pushed(world: World, *readers: str, data: bytes = DATA, media_type: str = MANIFEST) -> Digest:
    """Let a repository hold a manifest."""
    return world.registry.repository(NAME, *readers).push(TAG, data, media_type)


def is_served(reply: Reply, data: bytes = DATA) -> bool:
    """Tell whether an answer is the manifest; close it."""
    return reply.status == HTTPStatus.OK and read(reply) == data


def test_a_second_pull_costs_one_head(world: World) -> None:
    """By tag one HEAD, by digest nothing; from another worker too."""
    digest = pushed(world, "")
    cold = world.source().answer(Operation.manifest(NAME, TAG), request(accept=MANIFEST))
    assert cold.header("cache-status") == "docxy; fwd=uri-miss; fwd-status=200; stored"
    assert is_served(cold)
    warm = world.source()
    for reference in (TAG, digest):
        reply = warm.answer(Operation.manifest(NAME, reference), request(accept=MANIFEST))
        assert reply.header("content-type") == MANIFEST
        assert reply.header("docker-content-digest") == digest
        assert reply.length == len(DATA)
        assert is_served(reply)
    assert world.registry.asked == [f"GET {NAME}:{TAG}", f"HEAD {NAME}:{TAG}"]


class Overtaken(SingleFlight[str]):
    """Lets something happen between a look at what is kept and the lead that follows it."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    @contextmanager
    def lead(
        self, key: str, client: Client | None = None, *, patience: float | None = None
    ) -> Iterator[bool]:
        """Lead, a moment too late."""
        self._meanwhile()
        with super().lead(key, client, patience=patience) as leads:
            yield leads


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_who_leads_looks_once_more(by: str, world: World) -> None:
    """A fetch that has just ended is not repeated: each GET is a pull."""
    digest = pushed(world, "")
    reference = TAG if by == "tag" else digest
    first, second = world.source(), world.source()
    flights = Overtaken(lambda: read(first.answer(Operation.manifest(NAME, reference), request())))
    late = replace(
        second,
        manifests_by_tag=replace(second.manifests_by_tag, single_flight=flights),
        manifests_by_digest=replace(second.manifests_by_digest, single_flight=flights),
    )
    reply = late.answer(Operation.manifest(NAME, reference), request())
    assert "collapsed" in reply.header("cache-status")
    assert is_served(reply)
    assert len(world.registry.asked) == 1


def test_who_leads_has_an_old_note_confirmed(world: World) -> None:
    """Writing takes time: a note may be seen only after a client came that is younger than it."""
    digest = pushed(world, "")
    first, second = world.source(), world.source()

    def fetch() -> None:
        read(first.answer(Operation.manifest(NAME, TAG), request()))
        world.clock.time += 60

    late = replace(
        second,
        manifests_by_tag=replace(second.manifests_by_tag, single_flight=Overtaken(fetch)),
    )
    reply = late.answer(Operation.manifest(NAME, TAG), request())
    assert reply.header("docker-content-digest") == digest
    assert is_served(reply)
    assert world.registry.asked == [f"GET {NAME}:{TAG}", f"HEAD {NAME}:{TAG}"]


def test_what_a_hit_says(world: World) -> None:
    """Cache-Status and Age; others may keep only what is public, and only by digest."""
    digest = pushed(world, "", ALICE)
    source = world.source()
    for who in (ALICE, ""):
        read(source.answer(Operation.manifest(NAME, TAG), request(who)))
    reply = source.answer(Operation.manifest(NAME, digest), request())
    assert reply.header("cache-status") == "docxy; hit"
    assert int(reply.header("age")) in {0, 1}
    # It counts from when the registry was asked, a moment ago.
    assert reply.header("cache-control") == "public, max-age=299, immutable"
    assert reply.header("etag") == f'"{digest}"'
    tagged = source.answer(Operation.manifest(NAME, TAG), request())
    assert tagged.header("cache-status") == "docxy; fwd=stale; fwd-status=200"
    assert tagged.header("cache-control") == "private, no-store"
    assert tagged.header("age") == "0"


def test_what_is_not_public_is_for_nobody_on_the_way(world: World) -> None:
    """A miss and a hit of a private image say so, and an upstream's word does not count."""
    digest = pushed(world, ALICE)
    source = world.source()
    for _ in range(2):
        for reference in (TAG, digest):
            reply = source.answer(Operation.manifest(NAME, reference), request(ALICE))
            assert reply.header("cache-control") == "private, no-store"
            assert "max-age" not in str(reply.headers)
            read(reply)
    refused = source.answer(Operation.manifest(NAME, digest), request(MALLORY))
    assert refused.header("cache-control") == "private, no-store"
    assert refused.header("cache-status") == "docxy; fwd=uri-miss; fwd-status=401"


def test_a_tag_moves(world: World) -> None:
    """Whoever pulls gets what the tag means now."""
    pushed(world, "")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    pushed(world, "", data=b"newer")
    assert is_served(source.answer(Operation.manifest(NAME, TAG), request()), b"newer")
    assert world.registry.asked[1:] == [f"HEAD {NAME}:{TAG}", f"GET {NAME}:{TAG}"]
    assert is_served(source.answer(Operation.manifest(NAME, TAG), request()), b"newer")
    assert world.registry.count("GET") == 2


def test_tag_ttl(world: World) -> None:
    """Within it a tag is not asked for by those who may read, and by all others it is."""
    world.policy = CachePolicy(tag_ttl=100)
    pushed(world, "", ALICE)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    pushed(world, "", data=b"newer")
    world.clock.time += 60
    for method in ("GET", "HEAD"):
        reply = source.answer(Operation.manifest(NAME, TAG), request(method=method))
        assert reply.header("cache-status") == "docxy; hit"
        assert reply.header("age") == "60"
        assert read(reply) == (DATA if method == "GET" else b"")
    assert world.registry.asked == [f"GET {NAME}:{TAG}"]
    read(source.answer(Operation.manifest(NAME, TAG), request(MALLORY)))
    assert world.registry.asked[1:] == [f"HEAD {NAME}:{TAG}"]
    world.clock.time += 60
    assert is_served(source.answer(Operation.manifest(NAME, TAG), request()), b"newer")


def test_the_registry_decides_for_each_caller(world: World) -> None:
    """Another caller costs a HEAD and no pull, and gets the registry's words if it is refused."""
    digest = pushed(world, ALICE, "Bearer bob")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, digest), request(ALICE)))
    world.registry.asked.clear()
    reply = source.answer(Operation.manifest(NAME, digest), request("Bearer bob"))
    assert is_served(reply)
    assert world.registry.asked == [f"HEAD {NAME}@{digest}"]
    refused = source.answer(Operation.manifest(NAME, digest), request(MALLORY))
    assert refused.status == HTTPStatus.UNAUTHORIZED
    assert b"UNAUTHORIZED" in read(refused)
    assert refused.challenges


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("by_tag", [True, False], ids=["tag", "digest"])
@pytest.mark.parametrize(
    "shown",
    [
        "",
        MALLORY,
        "Bearer forged.token.x",
        "Bearer for-another-repository",
        "Bearer docxy.stale",
        "Bearer docxy.none",
        f"{ALICE} ",
        f"{ALICE}, {MALLORY}",
    ],
)
def test_a_private_image(world: World, shown: str, method: str, *, by_tag: bool) -> None:
    """Whoever is not let in by the registry gets no byte, before and while it is away."""
    digest = pushed(world, ALICE)
    source = world.source()
    for reference in (TAG, digest):
        read(source.answer(Operation.manifest(NAME, reference), request(ALICE)))
    if shown.strip() == ALICE:
        return  # it is the same, whatever stands around it
    reference = TAG if by_tag else digest
    reply = source.answer(Operation.manifest(NAME, reference), request(shown, method))
    assert reply.status == HTTPStatus.UNAUTHORIZED
    assert DATA not in read(reply)
    for trouble in (429, 503, UpstreamUnreachable("away")):
        world.registry.trouble = trouble
        if isinstance(trouble, RegistryError):
            with pytest.raises(UpstreamUnreachable):
                source.answer(Operation.manifest(NAME, reference), request(shown, method))
        else:
            reply = source.answer(Operation.manifest(NAME, reference), request(shown, method))
            assert reply.status == trouble
            assert DATA not in read(reply)


def test_the_digest_under_ones_own_repository(world: World) -> None:
    """As manifest and as blob, and by a tag of the same name."""
    digest = pushed(world, ALICE)
    world.registry.repository(OTHER, MALLORY).push("mine", b"mine")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, digest), request(ALICE)))
    read(source.answer(Operation.manifest(OTHER, Tag.parse("mine")), request(MALLORY)))
    assert (
        source.answer(Operation.manifest(OTHER, digest), request(MALLORY)).status
        == HTTPStatus.NOT_FOUND
    )
    assert (
        source.answer(Operation.manifest(OTHER, TAG), request(MALLORY)).status
        == HTTPStatus.NOT_FOUND
    )
    assert (
        source.answer(Operation.blob(OTHER, digest), request(MALLORY)).status
        == HTTPStatus.NOT_FOUND
    )


def test_revoked(world: World) -> None:
    """At once where the registry is asked, and at the latest when the grant ends."""
    digest = pushed(world, ALICE, "Bearer bob")
    source, other = world.source(), world.source()
    for who in (ALICE, "Bearer bob"):
        read(source.answer(Operation.manifest(NAME, TAG), request(who)))
    world.registry.repositories[NAME].readers.clear()
    assert is_served(
        other.answer(Operation.manifest(NAME, digest), request(ALICE))
    )  # within its grant
    assert (
        source.answer(Operation.manifest(NAME, TAG), request(ALICE)).status
        == HTTPStatus.UNAUTHORIZED
    )
    assert (
        other.answer(Operation.manifest(NAME, digest), request(ALICE)).status
        == HTTPStatus.UNAUTHORIZED
    )
    assert is_served(other.answer(Operation.manifest(NAME, digest), request("Bearer bob")))
    world.clock.time += 61
    assert (
        other.answer(Operation.manifest(NAME, digest), request("Bearer bob")).status
        == HTTPStatus.UNAUTHORIZED
    )


@pytest.mark.parametrize("later", [1, 3600])
def test_a_repository_that_became_private(world: World, later: float) -> None:
    """What is pushed into it then is for those who may read it, also while the registry is away."""
    pushed(world, "", ALICE)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    world.registry.repositories[NAME].readers.remove("")
    world.clock.time += later
    digest = pushed(world, data=b"new")
    read(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    world.clock.time += 300  # what nobody was granted before lasts no longer
    world.registry.trouble = 503
    for reference in (TAG, digest):
        assert source.answer(Operation.manifest(NAME, reference), request()).status == 503


@pytest.mark.parametrize("size", [5, len(DATA)])
@pytest.mark.parametrize("by_tag", [False, True], ids=["digest", "tag"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("shown", ["", MALLORY])
@pytest.mark.parametrize("kind", ["text/html", "application/json; charset=utf-8"])
def test_a_login_page_is_no_yes(  # noqa: PLR0913 - each of them another way in
    world: World, kind: str, shown: str, method: str, size: int, *, by_tag: bool
) -> None:
    """A server in front of a registry may send everybody there, with a redirect or at once."""
    digest = pushed(world, ALICE)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    world.registry.login_page = b"x" * size
    world.registry.login_kind = kind
    reference = TAG if by_tag else digest
    for _ in range(2):
        reply = source.answer(Operation.manifest(NAME, reference), request(shown, method))
        assert (reply.status, reply.header("content-type")) == (200, kind)
        assert read(reply) == (world.registry.login_page if method == "GET" else b"")
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, reference), request(shown, method)).status == 503


def test_a_404_takes_the_grant_away(world: World) -> None:
    """Of a tag, in a repository that could be read."""
    digest = pushed(world, ALICE)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    read(source.answer(Operation.manifest(NAME, Tag.parse("none")), request(ALICE)))
    world.registry.asked.clear()
    assert is_served(source.answer(Operation.manifest(NAME, digest), request(ALICE)))
    assert world.registry.asked == [f"HEAD {NAME}@{digest}"]


def test_a_404_to_who_takes_something_else(world: World) -> None:
    """Docker-registry says so of OCI's manifests; others still get them."""
    digest = pushed(world, "")
    world.registry.is_strict = True
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(accept=MANIFEST)))
    for method in ("GET", "HEAD"):
        for reference in (TAG, digest):
            reply = source.answer(
                Operation.manifest(NAME, reference), request(method=method, accept=LIST)
            )
            assert reply.status == HTTPStatus.NOT_FOUND
    world.registry.trouble = 503
    for reference in (TAG, digest):
        assert is_served(
            source.answer(Operation.manifest(NAME, reference), request(accept=MANIFEST))
        )
        assert (
            source.answer(Operation.manifest(NAME, reference), request(accept=LIST)).status == 503
        )


@pytest.mark.parametrize("hidden", [False, True])
def test_a_404_to_nobody(world: World, *, hidden: bool) -> None:
    """Signatures are looked for by tags that are not there: what is public stays so.

    Some registries hide with a 404 what is private: so it is asked for what is kept.
    """
    digest = pushed(world, "")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    world.registry.asked.clear()
    if hidden:
        world.registry.trouble = 404
    assert (
        source.answer(Operation.manifest(NAME, Tag.parse("sha256-1.sig")), request()).status == 404
    )
    assert world.registry.asked == [f"GET {NAME}:sha256-1.sig", f"HEAD {NAME}@{digest}"]
    assert not world.gate().has_grant(world.caller_of(source, ""), NAME)
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, digest), request()).status == (
        503 if hidden else 200
    )


def test_a_404_to_somebody(world: World) -> None:
    """It costs no more, and says nothing of what is public."""
    pushed(world, ALICE)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    world.registry.asked.clear()
    read(source.answer(Operation.manifest(NAME, Tag.parse("none")), request(ALICE)))
    assert world.registry.asked == [f"GET {NAME}:none"]
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 503


def test_a_tag_that_is_gone(world: World) -> None:
    """It is forgotten, for stale answers too."""
    pushed(world, "")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    del world.registry.repositories[NAME].tags[TAG]
    reply = source.answer(Operation.manifest(NAME, TAG), request())
    assert reply.status == HTTPStatus.NOT_FOUND
    assert b"MANIFEST_UNKNOWN" in read(reply)
    read(source.answer(Operation.manifest(NAME, Tag.parse(TAG + "x")), request()))
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 503


def test_accept(world: World) -> None:
    """What is kept goes to those who take it; of others the registry decides."""
    digest = pushed(world, "", media_type=INDEX)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(accept=f"{INDEX}, {MANIFEST}")))
    world.registry.asked.clear()
    for taken in (INDEX, f"{MANIFEST};q=0.1,{INDEX.upper()};q=0.5", "*/*", "application/*"):
        assert is_served(source.answer(Operation.manifest(NAME, digest), request(accept=taken)))
    assert is_served(source.answer(Operation.manifest(NAME, digest), request()))
    assert world.registry.asked == []
    for taken in (MANIFEST, "text/html", f"{INDEX};q=0, */*", "application/json"):
        world.registry.asked.clear()
        read(source.answer(Operation.manifest(NAME, digest), request(accept=taken)))
        assert world.registry.count(f"HEAD {NAME}") == 1
        read(source.answer(Operation.manifest(NAME, TAG), request(accept=taken)))
        assert world.registry.requests[-1].headers[0] == ("accept", taken)


def test_tags_are_apart_for_those_who_take_different_types(world: World) -> None:
    """A registry may have two manifests for one tag; stale too."""
    world.policy = CachePolicy(tag_ttl=100)
    digest = pushed(world, "", media_type=INDEX)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(accept=INDEX)))
    old = pushed(world, "", data=b"docker's", media_type=LIST)
    read(source.answer(Operation.manifest(NAME, TAG), request(accept=LIST)))
    assert is_served(source.answer(Operation.manifest(NAME, TAG), request(accept=INDEX)))
    assert is_served(
        source.answer(Operation.manifest(NAME, TAG), request(accept=LIST)), b"docker's"
    )
    assert world.registry.count("GET") == 2
    world.registry.trouble = 503
    for taken, data in ((INDEX, DATA), (LIST, b"docker's"), (f"{LIST},x/y", b"docker's")):
        assert is_served(source.answer(Operation.manifest(NAME, TAG), request(accept=taken)), data)
    assert source.answer(Operation.manifest(NAME, TAG), request(accept=MANIFEST)).status == 503
    assert digest != old


def test_head_is_answered_from_the_gets_entry(world: World) -> None:
    """Never the other way round."""
    digest = pushed(world, "")
    source = world.source()
    reply = source.answer(Operation.manifest(NAME, digest), request(method="HEAD"))
    assert (reply.status, reply.length, read(reply)) == (200, len(DATA), b"")
    read(source.answer(Operation.manifest(NAME, digest), request()))
    assert world.registry.asked == [f"HEAD {NAME}@{digest}", f"GET {NAME}@{digest}"]
    reply = source.answer(Operation.manifest(NAME, digest), request(method="HEAD"))
    assert (reply.status, reply.length, read(reply)) == (200, len(DATA), b"")
    assert reply.header("content-type") == MANIFEST
    assert reply.header("cache-status") == "docxy; hit"
    assert len(world.registry.asked) == 2


def test_a_head_that_tells_another_type(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent by a GET is called as that GET called it."""
    digest = pushed(world, "")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    answer = FakeRegistry._content  # noqa: SLF001

    def content(
        self: FakeRegistry, asked: Request, about: str, data: bytes, media_type: str
    ) -> Reply:
        return answer(
            self, asked, about, data, "text/plain" if asked.method == "HEAD" else media_type
        )

    monkeypatch.setattr(FakeRegistry, "_content", content)
    for reference in (TAG, digest):
        reply = source.answer(Operation.manifest(NAME, reference), request(accept=MANIFEST))
        assert reply.header("content-type") == MANIFEST
        assert is_served(reply)
    assert world.registry.count("GET") == 1


def test_docker_asks_with_head_first(world: World) -> None:
    """A HEAD by tag is passed on, and is all that the second pull costs."""
    digest = pushed(world, "")
    source = world.source()
    for _ in range(2):
        reply = source.answer(Operation.manifest(NAME, TAG), request(method="HEAD"))
        assert reply.header("docker-content-digest") == digest
        assert is_served(source.answer(Operation.manifest(NAME, digest), request()))
    assert world.registry.asked == [
        f"HEAD {NAME}:{TAG}",
        f"GET {NAME}@{digest}",
        f"HEAD {NAME}:{TAG}",
    ]


class WithoutHead(FakeRegistry):
    """A registry that knows no HEAD."""

    def manifest(self, name: RepositoryName, reference: Reference, request: Request) -> Reply:
        """Fetch a manifest."""
        reply = super().manifest(name, reference, request)
        return Reply(status=501) if request.method == "HEAD" else reply


def test_a_registry_that_knows_no_head(world: World) -> None:
    """It is asked with GET, and is not taken for one in trouble."""
    repositories, world.registry = world.registry.repositories, WithoutHead()
    world.registry.repositories = repositories
    digest = pushed(world, ALICE, MALLORY)
    source = world.source()
    assert is_served(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    assert source.answer(Operation.manifest(NAME, TAG), request(ALICE, "HEAD")).status == 501
    for reference in (digest, TAG):
        world.clock.time += 1  # what was said of the tag is older than the question
        reply = source.answer(Operation.manifest(NAME, reference), request(MALLORY))
        assert "fwd=uri-miss; fwd-status=200" in reply.header("cache-status")
        assert is_served(reply)
    assert not source.manifests_by_digest.stale_if_error.has_outage(NAME)


def test_what_a_client_has_already(world: World) -> None:
    """304, on a miss and on a hit; the registry is asked for all of it."""
    digest = pushed(world, "")
    source = world.source()
    for method in ("GET", "HEAD", "GET", "HEAD"):
        for reference in (TAG, digest):
            has = request(method=method, if_none_match=f'"x", W/"{digest}"')
            reply = source.answer(Operation.manifest(NAME, reference), has)
            assert (reply.status, read(reply)) == (304, b"")
            assert reply.header("etag") == f'"{digest}"'
    assert is_served(
        source.answer(Operation.manifest(NAME, digest), request(if_none_match='"another"'))
    )


def test_other_bytes_than_were_asked_for(world: World) -> None:
    """They are refused, and never kept."""
    digest = pushed(world, "")
    world.registry.lies[digest] = b"others"
    source = world.source()
    with pytest.raises(UpstreamMisbehaved) as caught:
        source.answer(Operation.manifest(NAME, digest), request())
    assert "Cache-Status" in caught.value.extra_headers
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    world.registry.lies.clear()
    assert is_served(source.answer(Operation.manifest(NAME, digest), request()))


@in_a_directory
def test_a_damaged_file(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is found when it is read, dropped, and fetched again."""
    digest = pushed(world, "")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, digest), request()))
    (file,) = (one for one in (tmp_path / "cache" / "content").rglob("*") if one.is_file())
    file.write_bytes(DATA.replace(b"2", b"3"))
    assert is_served(source.answer(Operation.manifest(NAME, digest), request()))
    assert "Removed a damaged file" in caplog.text
    assert world.registry.count("GET") == 2
    assert is_served(source.answer(Operation.manifest(NAME, digest), request()))
    assert world.registry.count("GET") == 2


@pytest.mark.parametrize("by_tag", [True, False], ids=["tag", "digest"])
def test_many_at_once_cost_one(world: World, *, by_tag: bool) -> None:
    """Over two workers of one directory."""
    digest = pushed(world, "")
    sources = [world.source(), world.source()]
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(20)

    world.registry.during = wait
    wanted = Operation.manifest(NAME, TAG if by_tag else digest)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(sources[0].answer, wanted, request())
        assert begun.wait(20)
        others = [
            pool.submit(sources[number % 2].answer, wanted, request()) for number in range(19)
        ]
        go_on.set()
        assert all(is_served(one.result(30)) for one in [first, *others])
    assert world.registry.count("GET") == 1


def test_many_at_once_that_fail(world: World) -> None:
    """Each is told so by the registry, and none waits for all the others."""
    pushed(world, ALICE)
    sources = [world.source(), world.source()]
    with ThreadPoolExecutor(20) as pool:
        asked = Operation.manifest(NAME, TAG)
        replies = list(pool.map(lambda n: sources[n % 2].answer(asked, request()), range(20)))
    assert {reply.status for reply in replies} == {401}


@pytest.mark.parametrize(
    "trouble",
    [
        429,
        500,
        503,
        UpstreamUnavailable("cut"),
        UpstreamDown("left alone"),
        UpstreamMisbehaved("nonsense"),
    ],
)
def test_stale(world: World, trouble: RegistryError | int) -> None:
    """What is public is served with its age and a warning, in any worker, to anybody."""
    digest = pushed(world, "")
    read(world.source().answer(Operation.manifest(NAME, TAG), request()))
    world.clock.time += 1000
    world.registry.trouble = trouble
    source = world.source()
    for who in ("", ALICE, "Bearer expired"):
        for reference in (TAG, digest):
            for method in ("GET", "HEAD"):
                reply = source.answer(Operation.manifest(NAME, reference), request(who, method))
                assert reply.status == HTTPStatus.OK
                assert reply.header("warning").startswith('299 - "')
                assert reply.header("cache-status").startswith("docxy; fwd=stale")
                assert reply.header("cache-control") == "private, no-store"
                assert reply.header("age") == "1000" if reference is TAG else reply.header("age")
                assert read(reply) == (DATA if method == "GET" else b"")
    world.clock.time += 7 * 24 * 3600
    if isinstance(trouble, int):
        reply = source.answer(Operation.manifest(NAME, TAG), request())
        assert reply.status == (429 if trouble == 429 else 503)
        assert b"errors" in read(reply)
    else:
        with pytest.raises(type(trouble)):
            source.answer(Operation.manifest(NAME, TAG), request())


def test_stale_ends_when_the_registry_answers(world: World) -> None:
    """It is asked again some seconds later."""
    pushed(world, "")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    world.registry.trouble = 429
    assert source.answer(Operation.manifest(NAME, TAG), request()).header("warning")
    world.registry.trouble = None
    pushed(world, "", data=b"newer")
    assert is_served(source.answer(Operation.manifest(NAME, TAG), request()), b"newer")


def test_a_whole_stale_pull_waits_once(world: World) -> None:
    """A registry that does not answer is not waited for by each request of a pull."""
    pushed(world, "")
    digests = [
        world.registry.repository(NAME).push(f"t{number}", b"%d" % number) for number in range(20)
    ]
    source = world.source()
    for digest in digests:
        read(source.answer(Operation.manifest(NAME, digest), request()))
    world.clock.time += 1000
    world.registry.asked.clear()
    world.registry.trouble = UpstreamUnreachable("away")
    for digest in digests:
        assert source.answer(Operation.manifest(NAME, digest), request()).status == HTTPStatus.OK
    assert len(world.registry.asked) == 1


def test_stale_is_off(world: World) -> None:
    """With stale_ttl 0."""
    world.policy = CachePolicy(stale_ttl=0, grant_ttl=0)
    digest = pushed(world, "")
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request()))
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 503
    assert source.answer(Operation.manifest(NAME, digest), request()).status == 503


def test_a_grant_outlives_the_registry(world: World) -> None:
    """What one may read by digest is read while it is away, as long as the grant lives."""
    digest = pushed(world, ALICE)
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    world.registry.trouble = 503
    assert is_served(source.answer(Operation.manifest(NAME, digest), request(ALICE)))
    assert source.answer(Operation.manifest(NAME, TAG), request(ALICE)).status == 503
    world.clock.time += 61
    assert source.answer(Operation.manifest(NAME, digest), request(ALICE)).status == 503


def test_managed(world: World) -> None:
    """All clients are one caller; what its account may read is public to nobody else."""
    world.row = Registry(
        name="r.example", url="https://r", managed=True, account=Account("robot", "p")
    )
    digest = pushed(world, "")  # the fake below has the account's token itself
    source = world.source()
    read(source.answer(Operation.manifest(NAME, TAG), request(ALICE)))
    assert is_served(source.answer(Operation.manifest(NAME, digest), request(MALLORY)))
    assert len(world.registry.asked) == 1
    world.registry.trouble = 503
    assert source.answer(Operation.manifest(NAME, TAG), request()).status == 503


def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pull goes on uncached."""
    from app.store.errors import StoreError  # noqa: PLC0415

    digest = pushed(world, "")
    source = world.source()

    def full(*_: object, **__: object) -> None:
        raise StoreError(28, "no space")

    store = world.storages.opened[-1]
    for room, name in (
        (store.blobs, "keep"),
        (store.ledger, "record"),
        (store.ledger.notes, "record"),
        (store.ledger.tags, "record"),
    ):
        monkeypatch.setattr(room, name, full)
    for _ in range(2):
        for reference in (TAG, digest):
            reply = source.answer(Operation.manifest(NAME, reference), request())
            assert "stored" not in reply.header("cache-status")
            assert is_served(reply)
    assert digest == digest_of(DATA)
