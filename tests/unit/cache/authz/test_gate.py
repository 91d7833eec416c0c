"""The gate: no byte that is kept goes out without a member and a grant."""

import base64
import json
import time
from contextlib import closing
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest

from app.cache.authz import callers
from app.cache.authz.gate import AccessState, AuthorizedContent, Gate
from app.cache.policy import CachePolicy
from app.oci.errors import UpstreamUnavailable
from app.oci.reference import Digest, RepositoryName
from app.source import Reply
from app.store.errors import StoreError
from app.store.ledger import Member
from app.store.storage import Storage
from tests.unit.cache.registry import MANIFEST, digest_of
from tests.unit.cache.world import ALICE, MALLORY, NAME, World, in_a_directory, request
from tests.unit.store.parts import public_age, record_member

DATA = b"what only some may read"
DIGEST = digest_of(DATA)
OTHER = RepositoryName.parse("mallory/own")


def jwt(**claims: object) -> str:
    """Return a Bearer Authorization that claims something."""
    parts = [{"alg": "none"}, claims, {}]
    written = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return f"Bearer {b'.'.join(written).decode()}"


def kept(world: World, *readers: str) -> Storage:
    """Keep a blob of a repository that these may read, and return the storage."""
    world.registry.repository(NAME, *readers).push_blob(DATA)
    storage = world.storages.open()
    storage.blobs.keep(DATA, world.row.name, DIGEST, "")
    return storage


def reads(
    gate: Gate,
    world: World,
    authorization: str,
    name: RepositoryName = NAME,
    content: tuple[Digest, bytes] = (DIGEST, DATA),
) -> bool:
    """Tell whether a caller gets what is kept."""
    digest, data = content
    opened = gate.open(world.caller(authorization), name, digest)
    if opened is None:
        return False
    with closing(opened.blob) as blob:
        assert blob.read() == data
    return True


def reads_stale(gate: Gate, name: RepositoryName = NAME, digest: Digest = DIGEST) -> bool:
    """Tell whether everybody gets what is kept while the registry is away."""
    opened = gate.open_stale(name, digest)
    if opened is not None:
        opened.blob.close()
    return opened is not None


def test_nothing_goes_out_before_the_registry_has_said_yes(world: World) -> None:
    """What is kept is nobody's until then, and nobody's but the caller's after that."""
    gate = world.gate(kept(world, ALICE))
    assert not reads(gate, world, ALICE)
    assert world.ask_blob(gate, ALICE, DIGEST).status == HTTPStatus.OK
    assert reads(gate, world, ALICE)
    for other in ("", MALLORY, f"{ALICE}=", "Bearer YWxpY2U6YQ==", ALICE.lower()):
        assert not reads(gate, world, other)
    assert not reads_stale(gate)


def test_all_workers_share_grants_and_members(world: World) -> None:
    """One question is enough for the machine."""
    world.ask_blob(world.gate(kept(world, ALICE)), ALICE, DIGEST)
    assert reads(world.gate(), world, ALICE)


def test_a_grant_ends(world: World) -> None:
    """After grant_ttl the registry is asked again."""
    gate = world.gate(kept(world, ALICE))
    world.ask_blob(gate, ALICE, DIGEST)
    world.clock.time += 299
    assert reads(gate, world, ALICE) is False  # a login may be a token: 60 s
    world.ask_blob(gate, ALICE, DIGEST)
    world.clock.time += 58
    assert reads(gate, world, ALICE)
    world.clock.time += 3
    assert not reads(gate, world, ALICE)


@pytest.mark.parametrize(
    ("left", "ttl", "until"),
    [
        pytest.param(30, 300, 30, id="the token's end"),
        pytest.param(3000, 300, 300, id="the grant's"),
        pytest.param(-5, 300, 0, id="expired"),
        pytest.param(3000, 0, 0, id="no grants"),
    ],
)
def test_a_grant_is_never_longer_than_the_token_lives(
    world: World, left: float, ttl: float, until: float
) -> None:
    """What a token says of its own end only shortens."""
    world.policy = CachePolicy(grant_ttl=ttl)
    token = jwt(exp=time.time() + left)
    gate = world.gate(kept(world, token))
    world.ask_blob(gate, token, DIGEST)
    assert reads(gate, world, token) is (until > 0)
    world.clock.time += max(until - 2, 0)
    assert reads(gate, world, token) is (until > 0)
    world.clock.time += 3
    assert not reads(gate, world, token)


def test_a_forged_token_reads_nothing(world: World) -> None:
    """Whatever it claims: the registry does not take it."""
    gate = world.gate(kept(world, ALICE))
    world.ask_blob(gate, ALICE, DIGEST)
    forged = jwt(exp=time.time() + 9999, sub="", access=[{"name": NAME, "actions": ["pull"]}])
    assert world.ask_blob(gate, forged, DIGEST).status == HTTPStatus.UNAUTHORIZED
    assert not reads(gate, world, forged)
    assert not reads_stale(gate)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_takes_a_grant_away_at_once(world: World, status: int) -> None:
    """In every worker, also for what the caller has just read."""
    storage = kept(world, ALICE)
    gate, other = world.gate(storage), world.gate()
    world.ask_blob(gate, ALICE, DIGEST)
    assert reads(other, world, ALICE)
    world.registry.trouble = status
    world.ask_blob(gate, ALICE, DIGEST)
    assert not reads(gate, world, ALICE)
    assert not reads(other, world, ALICE)
    world.registry.trouble = None
    world.ask_blob(other, ALICE, DIGEST)
    assert reads(gate, world, ALICE)
    assert reads(other, world, ALICE)


@pytest.mark.parametrize("trouble", [429, 500, 503, UpstreamUnavailable("away")])
def test_trouble_takes_nothing_away(world: World, trouble: UpstreamUnavailable | int) -> None:
    """A registry that says nothing of the caller changes nothing."""
    gate = world.gate(kept(world, ALICE))
    world.ask_blob(gate, ALICE, DIGEST)
    world.registry.trouble = trouble
    if isinstance(trouble, int):
        world.ask_blob(gate, ALICE, DIGEST)
    else:
        with pytest.raises(UpstreamUnavailable):
            world.ask_blob(gate, ALICE, DIGEST)
    assert reads(gate, world, ALICE)


def test_one_refusal_does_not_touch_others(world: World) -> None:
    """Mallory's 401 is not Alice's."""
    gate = world.gate(kept(world, ALICE))
    world.ask_blob(gate, ALICE, DIGEST)
    world.ask_blob(gate, MALLORY, DIGEST)
    assert reads(gate, world, ALICE)


def test_a_digest_under_ones_own_repository(world: World) -> None:
    """A grant for one's own repository does not make it hold what is another's."""
    storage = kept(world, ALICE)
    gate = world.gate(storage)
    world.ask_blob(gate, ALICE, DIGEST)
    mine = world.registry.repository(OTHER, MALLORY).push_blob(b"mine")
    storage.blobs.keep(b"mine", world.row.name, mine, "")
    assert world.ask_blob(gate, MALLORY, mine, OTHER).status == HTTPStatus.OK
    assert gate.has_grant(world.caller(MALLORY), OTHER)
    assert not reads(gate, world, MALLORY, OTHER)
    assert world.ask_blob(gate, MALLORY, DIGEST, OTHER).status == HTTPStatus.NOT_FOUND
    assert not reads(gate, world, MALLORY, OTHER)


def test_another_registry(world: World) -> None:
    """Nothing of one registry counts at another, not even the same credentials."""
    storage = kept(world, ALICE)
    world.ask_blob(world.gate(storage), ALICE, DIGEST)
    elsewhere = Gate("other.example", world.gate(storage)._disk, CachePolicy())  # noqa: SLF001
    assert not reads(elsewhere, world, ALICE)


def test_a_look_tells_what_is_lacking(world: World) -> None:
    """It gives what `open` gives, and nothing more to whoever gets nothing there."""
    storage = kept(world, ALICE)
    gate, alice = world.gate(storage), world.caller(ALICE)
    unknown = digest_of(b"never seen")
    assert gate.open_or_explain(alice, NAME, DIGEST) == AccessState(
        has_grant=False, is_member=False, is_cached=True
    )
    assert gate.open_or_explain(alice, NAME, unknown) == AccessState(
        has_grant=False, is_member=False, is_cached=False
    )
    world.ask_blob(gate, ALICE, DIGEST)
    opened = gate.open_or_explain(alice, NAME, DIGEST)
    assert isinstance(opened, AuthorizedContent)
    with closing(opened.blob) as blob:
        assert blob.read() == DATA
    assert gate.open_or_explain(alice, NAME, unknown) == AccessState(
        has_grant=True, is_member=False, is_cached=False
    )
    nobody = world.caller("")
    assert gate.open_or_explain(nobody, NAME, DIGEST) == AccessState(
        has_grant=False, is_member=True, is_cached=True
    )
    assert gate.open_or_explain(alice, OTHER, DIGEST) == AccessState(
        has_grant=False, is_member=False, is_cached=True
    )
    storage.blobs.delete(world.row.name, DIGEST)
    found = gate.open_or_explain(alice, NAME, DIGEST)
    assert isinstance(found, AccessState)
    assert (found.has_grant, found.is_cached) == (True, False)


def test_a_size_that_differs_makes_no_member(world: World) -> None:
    """Nor a yes: the registry speaks of something else then."""
    gate = world.gate(kept(world, ALICE))
    world.registry.lies[DIGEST] = DATA + b"!"
    world.ask_blob(gate, ALICE, DIGEST)
    assert not gate.has_grant(world.caller(ALICE), NAME)
    assert not gate.lookup_access(world.caller(ALICE), NAME, DIGEST).is_member
    assert not reads(gate, world, ALICE)


@pytest.mark.parametrize("kind", ["application/octet-stream", ""])
def test_a_login_page_that_is_called_octets(world: World, kind: str) -> None:
    """Whatever it is asked for, it opens nothing; nor do the conditions that it knows."""
    gate = world.gate(kept(world, ALICE))
    world.ask_blob(gate, ALICE, DIGEST)
    world.registry.login_page, world.registry.login_kind = b"log in", kind
    for digest in (DIGEST, digest_of(b"never seen")):
        assert world.ask_blob(gate, "", digest).status == HTTPStatus.OK
        assert not reads(gate, world, "")
    gate.fetch_blob(world.caller(""), NAME, lambda: Reply(status=HTTPStatus.NOT_MODIFIED), DIGEST)
    assert not reads(gate, world, "")
    assert not reads_stale(gate)
    assert reads(gate, world, ALICE)


def test_a_blob_that_is_not_kept_is_a_yes_when_it_is_right(world: World) -> None:
    """From when it was asked for, and not if the caller was refused since; of a large one, too."""
    gate, new = world.gate(kept(world, ALICE)), digest_of(b"new")
    alice, answer = world.caller(ALICE), Reply(status=HTTPStatus.OK, length=3)
    gate.record_verified(alice, NAME, new, ("", gate.now()))
    assert not gate.has_grant(alice, NAME)
    gate.fetch_blob(alice, NAME, lambda: answer, new)
    assert not gate.has_grant(alice, NAME)
    gate.record_verified(alice, NAME, new, ("", gate.now()))
    assert gate.has_grant(alice, NAME)
    gate.fetch_blob(alice, NAME, lambda: answer, new)
    gate.fetch_blob(alice, NAME, lambda: Reply(status=HTTPStatus.FORBIDDEN), new)
    gate.record_verified(alice, NAME, new, ("", gate.now()))
    assert not gate.has_grant(alice, NAME)
    gate.fetch_blob(alice, NAME, lambda: Reply(status=HTTPStatus.OK, length=1 << 20), new)
    assert gate.has_grant(alice, NAME)


def test_an_answer_of_another_digest_makes_no_member(world: World) -> None:
    """Nor one that tells no length."""
    gate = world.gate(kept(world, ALICE))
    other = str(digest_of(b"other"))
    caller = world.caller(ALICE)
    for fields, length in (
        ([("Docker-Content-Digest", other)], len(DATA)),
        ([("Docker-Content-Digest", "nonsense")], len(DATA)),
        ([("Docker-Content-Digest", str(DIGEST))], None),
    ):
        reply = Reply(status=200, headers=fields, length=length)
        gate.fetch_blob(caller, NAME, partial(_given, reply), DIGEST)
        assert not gate.lookup_access(world.caller(ALICE), NAME, DIGEST).is_member
    gate.fetch_blob(caller, NAME, partial(_given, Reply(status=206, length=len(DATA))), DIGEST)
    assert not gate.lookup_access(world.caller(ALICE), NAME, DIGEST).is_member


def _given(reply: Reply) -> Reply:
    return reply


def test_a_404_is_believed_of_the_repository(world: World) -> None:
    """What has gone there is not served to those whose grant still lives."""
    gate = world.gate(kept(world, ALICE, MALLORY))
    for who in (ALICE, MALLORY):
        world.ask_blob(gate, who, DIGEST)
    del world.registry.repositories[NAME].blobs[DIGEST]
    assert world.ask_blob(gate, ALICE, DIGEST).status == HTTPStatus.NOT_FOUND
    assert not reads(gate, world, ALICE)
    assert not reads(gate, world, MALLORY)


def test_public_is_what_nobody_may_read(world: World) -> None:
    """It is served stale to everybody, for stale_ttl."""
    gate = world.gate(kept(world, "", ALICE))
    world.ask_blob(gate, ALICE, DIGEST)
    assert not reads_stale(gate)
    nobody = world.caller("")
    assert gate.public_seconds_left(nobody, NAME) == 0
    world.ask_blob(gate, "", DIGEST)
    assert reads_stale(gate)
    assert gate.public_seconds_left(nobody, NAME) == pytest.approx(300, abs=1)
    assert gate.public_seconds_left(world.caller(ALICE), NAME) == 0
    world.clock.time += 7 * 24 * 3600 - 5
    assert reads_stale(gate)
    assert gate.public_seconds_left(nobody, NAME) == 0
    world.clock.time += 6
    assert not reads_stale(gate)


def test_what_is_refused_to_nobody_is_not_public(world: World) -> None:
    """Also where the registry tells it by a 404."""
    gate, other = world.gate(kept(world, "", ALICE)), world.gate()
    world.ask_blob(gate, "", DIGEST)
    world.registry.trouble = 404
    world.ask_blob(gate, "", DIGEST)
    assert not reads_stale(gate)
    assert not reads_stale(other)
    world.registry.trouble = None
    world.ask_blob(other, "", DIGEST)
    assert reads_stale(gate)


def test_what_a_login_alone_was_let_read_is_not_public(world: World) -> None:
    """It may have come since all of it was made private, be that a moment ago."""
    storage = kept(world, "", ALICE)
    new = world.registry.repository(NAME).push_blob(b"new")
    storage.blobs.keep(b"new", world.row.name, new, "")
    gate = world.gate(storage)
    world.ask_blob(gate, "", DIGEST)
    world.ask_blob(gate, ALICE, new)
    assert reads(gate, world, ALICE, content=(new, b"new"))
    assert reads_stale(gate)
    assert not reads_stale(gate, digest=new)
    assert not reads_stale(world.gate(storage), digest=new)
    world.ask_blob(gate, ALICE, DIGEST)
    assert reads_stale(gate)
    world.ask_blob(gate, "", new)
    assert reads_stale(gate, digest=new)


def test_what_nobody_was_given_from_here_is_public(world: World) -> None:
    """Its grant let it be read, though the registry was asked for it by a login only."""
    storage = kept(world, "", ALICE)
    new = world.registry.repository(NAME).push_blob(b"new")
    storage.blobs.keep(b"new", world.row.name, new, "")
    gate = world.gate(storage)
    world.ask_blob(gate, ALICE, new)
    world.ask_blob(gate, "", DIGEST)
    assert not reads_stale(gate, digest=new)
    assert reads(gate, world, "", content=(new, b"new"))
    assert reads_stale(gate, digest=new)


def test_others_keep_nothing_of_a_logins(world: World) -> None:
    """A Cache-Control of what a login alone was let read lets nobody on the way keep it."""
    storage = kept(world, "", ALICE)
    new = world.registry.repository(NAME).push_blob(b"new")
    storage.blobs.keep(b"new", world.row.name, new, "")
    gate = world.gate(storage)
    world.ask_blob(gate, "", DIGEST)
    world.ask_blob(gate, ALICE, new)
    world.ask_blob(gate, ALICE, DIGEST)
    for digest, lasting in ((new, 0), (DIGEST, 300)):
        opened = gate.open(world.caller(ALICE), NAME, digest)
        assert opened is not None
        opened.blob.close()
        assert opened.public_seconds_left == pytest.approx(lasting, abs=1)


@pytest.mark.parametrize(("kind", "public"), [(MANIFEST, True), ("text/html", False)])
def test_a_login_page_proves_nothing(world: World, kind: str, *, public: bool) -> None:
    """Nothing is public because a page was shown in place of a manifest."""
    storage = kept(world, "")
    record_member(
        storage.ledger,
        world.row.name,
        NAME,
        DIGEST,
        Member(MANIFEST, is_public=False),
        asked=world.clock.now(),
    )
    gate = world.gate(storage)
    shown = Reply(status=HTTPStatus.OK, headers=[("Content-Type", kind)])
    gate.recheck_public(world.caller(), NAME, lambda _: shown)
    assert gate.was_public(NAME) is public


def test_a_challenge_is_no_refusal_of_what_is_public(world: World) -> None:
    """Clients that start without a token are answered 401 everywhere."""
    storage = kept(world, "Bearer t")
    gate = world.gate(storage)
    callers.record_anonymous_token(
        storage.ledger, world.caller("Bearer t").name, [NAME], "key", 300
    )
    world.ask_blob(gate, "Bearer t", DIGEST)
    assert reads_stale(gate)
    assert world.ask_blob(gate, "", DIGEST).status == HTTPStatus.UNAUTHORIZED
    assert reads_stale(gate)


def test_a_token_of_nobodys(world: World) -> None:
    """What it opens is public, and what it does not open any more is not; elsewhere it says less.

    `name` here is another repository than those that the token was asked for.
    """
    storage = kept(world, "Bearer t")
    world.registry.repository(OTHER, "Bearer t").push_blob(DATA)
    gate = world.gate(storage)
    callers.record_anonymous_token(
        storage.ledger, world.caller("Bearer t").name, [NAME], "key", 300
    )
    world.ask_blob(gate, "Bearer t", DIGEST)
    world.ask_blob(gate, "Bearer t", DIGEST, OTHER)
    assert reads_stale(gate)
    assert not reads_stale(gate, OTHER)
    world.registry.repositories[NAME].readers.clear()
    world.ask_blob(gate, "Bearer t", DIGEST)
    assert not reads_stale(gate)


def test_a_token_of_nobodys_that_has_ended_is_somebodys(world: World) -> None:
    """Its 401 says nothing of the repository."""
    storage = kept(world, "Bearer t")
    gate = world.gate(storage)
    callers.record_anonymous_token(
        storage.ledger, world.caller("Bearer t").name, [NAME], "key", 300
    )
    world.ask_blob(gate, "Bearer t", DIGEST)
    world.clock.time += 301
    world.registry.repositories[NAME].readers.clear()
    world.ask_blob(gate, "Bearer t", DIGEST)
    assert reads_stale(gate)


def test_a_yes_that_a_refusal_overtook(world: World) -> None:
    """An answer that was on its way while the caller was refused is no grant."""
    gate = world.gate(kept(world, ALICE, ""))

    def refuse() -> None:
        world.registry.during = lambda: None
        world.registry.trouble = 403
        world.ask_blob(gate, ALICE, DIGEST)
        world.ask_blob(gate, "", DIGEST)
        world.registry.trouble = None

    for who in (ALICE, ""):
        world.registry.during = refuse
        assert world.ask_blob(gate, who, DIGEST).status == HTTPStatus.OK
        assert not reads(gate, world, who)
        assert not reads_stale(gate)


@pytest.mark.parametrize("who", [ALICE, ""], ids=["somebody", "nobody"])
@pytest.mark.parametrize("known", [True, False], ids=["granted", "not granted"])
def test_a_yes_that_a_refusal_in_another_worker_overtook(
    world: World, who: str, *, known: bool
) -> None:
    """It is older than the refusal, be there a grant to take away or not; a later yes counts."""
    gate, other = world.gate(kept(world, who)), world.gate()
    if known:
        world.ask_blob(gate, who, DIGEST)

    def refuse() -> None:
        world.registry.during = lambda: None
        world.registry.trouble = 403
        world.ask_blob(other, who, DIGEST)
        world.registry.trouble = None

    world.registry.during = refuse
    assert world.ask_blob(gate, who, DIGEST).status == HTTPStatus.OK
    for one in (gate, other, world.gate()):
        assert not reads(one, world, who)
        assert not reads_stale(one)
    world.ask_blob(gate, who, DIGEST)
    assert reads(other, world, who)
    assert reads_stale(other) is (who == "")


def test_a_yes_that_a_404_in_another_worker_overtook(world: World) -> None:
    """What has gone from a repository does not come back by an older answer, hashed or not."""
    gate, other = world.gate(kept(world, ALICE, MALLORY)), world.gate()
    alice, mallory = world.caller(ALICE), world.caller(MALLORY)
    world.ask_blob(other, MALLORY, DIGEST)
    asked = gate.now()

    def lose() -> None:
        world.registry.during = lambda: None
        del world.registry.repositories[NAME].blobs[DIGEST]
        assert world.ask_blob(other, MALLORY, DIGEST).status == HTTPStatus.NOT_FOUND
        world.registry.repositories[NAME].push_blob(DATA)

    world.registry.during = lose
    assert world.ask_blob(gate, ALICE, DIGEST).status == HTTPStatus.OK
    gate.record_verified(alice, NAME, DIGEST, ("", asked))
    assert gate.has_grant(alice, NAME)
    for one in (gate, other):
        assert not one.lookup_access(mallory, NAME, DIGEST).is_member
        assert not reads(one, world, ALICE)
    world.ask_blob(gate, ALICE, DIGEST)
    assert reads(other, world, ALICE)


def test_what_is_read_while_it_goes_does_not_come_back(world: World) -> None:
    """Nobody reads what a login had asked for, and the registry says meanwhile that it is gone."""
    gate, other = world.gate(kept(world, ALICE, "")), world.gate()
    world.ask_blob(gate, ALICE, DIGEST)
    new = world.registry.repository(NAME).push_blob(b"new")
    world.ask_blob(gate, "", new)
    world.ask_blob(gate, "", new, NAME)
    opened = []

    def lose(one: AuthorizedContent) -> AuthorizedContent:
        del world.registry.repositories[NAME].blobs[DIGEST]
        world.ask_blob(other, ALICE, DIGEST)
        opened.append(one)
        return one

    gate.record_verified(world.caller(), NAME, new, ("", gate.now()))
    gate.open_and_apply(world.caller(), NAME, DIGEST, lose)
    assert opened
    opened[0].blob.close()
    assert not gate.lookup_access(world.caller(), NAME, DIGEST).is_member


@in_a_directory
def test_a_store_that_cannot_be_written_revokes_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all workers, and in the store as soon as it can be written again."""
    storage = kept(world, ALICE, "")
    gate, other = world.gate(storage), world.gate()
    for who in (ALICE, ""):
        world.ask_blob(gate, who, DIGEST)

    def full(*_: object) -> None:
        raise StoreError(28, "no space")

    with monkeypatch.context() as disk:
        disk.setattr(storage.ledger, "refuse", full)
        world.registry.trouble = 403
        for who in (ALICE, ""):
            assert reads(other, world, who)
            assert world.ask_blob(gate, who, DIGEST).status == HTTPStatus.FORBIDDEN
            assert not reads(gate, world, who)
            assert not reads(other, world, who)
        assert not reads_stale(gate)
        assert not reads_stale(other)
    assert reads(world.gate(), world, ALICE) is False
    world.registry.trouble = None
    world.registry.repository(NAME).readers.add(MALLORY)
    world.ask_blob(gate, MALLORY, DIGEST)
    storage.close()
    for who in (ALICE, ""):
        assert not reads(other, world, who)
    assert not reads_stale(other)


@in_a_directory
def test_a_refusal_that_could_not_be_written_ends_with_a_yes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has access again reads again, in all workers."""
    storage = kept(world, ALICE)
    gate, other = world.gate(storage), world.gate()
    world.ask_blob(gate, ALICE, DIGEST)

    def full(*_: object) -> None:
        raise StoreError(28, "no space")

    with monkeypatch.context() as disk:
        disk.setattr(storage.ledger, "refuse", full)
        world.registry.trouble = 403
        world.ask_blob(gate, ALICE, DIGEST)
    assert not reads(other, world, ALICE)
    world.registry.trouble = None
    world.ask_blob(gate, ALICE, DIGEST)
    assert reads(gate, world, ALICE)
    assert reads(other, world, ALICE)


def test_a_store_that_cannot_be_written_grants_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer goes on, and the log says why nothing is kept, once."""
    storage = kept(world, ALICE)
    gate = world.gate(storage)

    def full(*_: object, **__: object) -> None:
        raise StoreError(28, "no space")

    monkeypatch.setattr(storage.ledger, "record", full)
    for _ in range(3):
        assert world.ask_blob(gate, ALICE, DIGEST).status == HTTPStatus.OK
    assert not reads(gate, world, ALICE)
    assert sum("Cache error" in line for line in caplog.messages) == 1


def test_the_type_of_a_manifest(world: World) -> None:
    """It is the one that the registry tells in this repository, and no blob has one."""
    storage = world.storages.open()
    gate, caller = world.gate(storage), world.caller(ALICE)
    digest = world.registry.repository(NAME, ALICE).push("1", DATA)
    world.registry.repository(NAME).push_blob(DATA)
    storage.blobs.keep(DATA, world.row.name, digest, "text/html")
    assert world.ask_blob(gate, ALICE, digest).status == HTTPStatus.OK
    opened = gate.open(caller, NAME, digest)
    assert opened is not None
    opened.blob.close()
    assert opened.media_type == ""
    own = request(ALICE, "HEAD")
    gate.fetch_manifest(caller, NAME, partial(world.registry.manifest, NAME, digest, own), digest)
    world.ask_blob(gate, ALICE, digest)
    opened = gate.open(caller, NAME, digest)
    assert opened is not None
    opened.blob.close()
    assert opened.media_type == MANIFEST


def test_grants_are_not_written_for_each_blob(world: World) -> None:
    """An image of many layers costs a few writes."""
    storage = kept(world, "")
    gate = world.gate(storage)
    world.ask_blob(gate, "", DIGEST)
    before = public_age(storage.ledger, world.row.name, NAME)
    world.clock.time += 10
    for _ in range(5):
        world.ask_blob(gate, "", DIGEST)
    assert public_age(storage.ledger, world.row.name, NAME) == pytest.approx(10, abs=0.1)
    assert before == pytest.approx(0, abs=0.1)
    world.clock.time += 100
    world.ask_blob(gate, "", DIGEST)
    assert public_age(storage.ledger, world.row.name, NAME) == pytest.approx(0, abs=0.1)


@in_a_directory
def test_a_file_that_is_gone(world: World, tmp_path: Path) -> None:
    """What was deleted under our feet is not there, and nothing breaks."""
    gate = world.gate(kept(world, ALICE))
    world.ask_blob(gate, ALICE, DIGEST)
    for path in (tmp_path / "cache" / "content").rglob("*"):
        if path.is_file():
            path.unlink()
    assert not reads(gate, world, ALICE)
