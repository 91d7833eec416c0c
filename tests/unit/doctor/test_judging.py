"""What each check says of what it has seen; the set-ups themselves are in tests/integration."""

import time
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from app.doctor import challenges, examination, front, network, pulling, token_flow
from app.doctor.front import Pushed
from app.doctor.http import Answer, NoAnswer
from app.doctor.network import Reached, Shown
from app.doctor.pulling import Part, Piece, Pull
from app.doctor.target import Place
from app.doctor.token_flow import Knock
from app.oci.manifest import Descriptor
from app.oci.reference import Digest
from tests.unit.doctor.answers import answer, challenged, document, error

PLACE = Place.parse("https://proxy.example")
DAY = 24 * 3600.0
PAGE = {"Content_Type": "text/html"}
OURS = {"X_Request_ID": "4711", "Docker_Distribution_Api_Version": "registry/2.0"}
NOTHING = NoAnswer("the connection was reset")


# The way


@pytest.mark.parametrize(
    ("address", "reached", "wrong"),
    [
        ("https://a.example", Reached((("192.0.2.1", ""), ("2001:db8::1", ""))), ""),
        ("https://a.example", Reached((), "no such name"), "dns"),
        ("https://a.example", Reached((("192.0.2.1", ""), ("2001:db8::1", "no"))), "tcp-some"),
        ("https://a.example", Reached((("192.0.2.1", "no"),)), "tcp"),
        ("https://localhost", Reached((("127.0.0.1", ""), ("::1", "no"))), ""),
        ("http://a.example", Reached((("192.0.2.1", ""),)), "plain-http"),
        ("http://127.0.0.1:8000", Reached((("127.0.0.1", ""),)), ""),
    ],
)
def test_addresses(address: str, reached: Reached, wrong: str) -> None:
    """One that does not answer is found, but not of localhost; plain http only elsewhere."""
    steps = list(network.judge_reached(Place.parse(address), reached))
    assert {step.wrong for step in steps} - {""} == ({wrong} if wrong else set())


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        (Shown("TLSv1.3", 0, 90 * DAY), ""),
        (Shown("TLSv1.3", 0, 70 * DAY), "tls-soon"),
        # Caddy's own authority, and Let's Encrypt's short ones.
        (Shown("TLSv1.3", 59.9 * DAY, 60.4 * DAY), ""),
        (Shown("TLSv1.3", 57 * DAY, 63 * DAY), ""),
        (Shown("TLSv1.3", 55 * DAY, 61 * DAY), "tls-soon"),
        (Shown(code=9, trouble="not yet"), "tls-early"),
        (Shown(code=10, trouble="expired"), "tls-expired"),
        (Shown(code=18, trouble="self-signed"), "tls-chain"),
        (Shown(code=20, trouble="no issuer"), "tls-chain"),
        (Shown(code=62, trouble="name"), "tls-name"),
        (Shown(code=64, trouble="address"), "tls-name"),
        (Shown(trouble="wrong version number"), "tls"),
    ],
)
def test_certificates(shown: Shown, wrong: str) -> None:
    """OpenSSL's reasons have names, and "soon" depends on how long the certificate lasts."""
    assert network.judge_shown(shown, 60 * DAY).wrong == wrong


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (NOTHING, ""),
        (answer(308, Location="https://proxy.example/v2/"), ""),
        (answer(307, Location="https://proxy.example/v2/"), ""),
        (answer(301, Location="https://proxy.example/v2/"), "http-method"),
        (answer(308, Location="https://other.example/v2/"), "http-elsewhere"),
        (answer(308, Location="http://proxy.example/v3/"), "http-elsewhere"),
        (answer(308, Location="/v2/"), "http-elsewhere"),
        (answer(200), "http-open"),
        (challenged("http://proxy.example/auth/token"), "http-open"),
    ],
)
def test_plain_http(seen: front.Seen, wrong: str) -> None:
    """It leads to https at the same host, by a status that keeps the method."""
    assert front.judge_plain(PLACE, seen).wrong == wrong


# The front


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (error(404, "NAME_UNKNOWN", **OURS), ""),
        (answer(502, **PAGE), "away"),
        (answer(504, **PAGE), "away"),
        (answer(404, **PAGE), "error-pages"),
        (answer(200, **PAGE), "not-docxy"),
        (answer(403, **PAGE), "not-docxy"),
        (answer(401, WWW_Authenticate='Basic realm="mine"', **PAGE), "front-login"),
        (answer(401, **PAGE), "not-docxy"),
        (NOTHING, "no-answer"),
    ],
)
def test_who_answers(seen: front.Seen, wrong: str) -> None:
    """Docxy is known by its headers."""
    assert front.judge_answering(seen).wrong == wrong


def test_where_an_answer_leads() -> None:
    """Whoever gave the address of plain http sees the other one."""
    step = front.judge_answering(answer(308, Location="https://proxy.example/v2/", **PAGE))
    assert "308 (text/html) to https://proxy.example/v2/" in step.came


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (error(404, "NAME_UNKNOWN", **OURS), ""),
        (answer(403, **PAGE), "post"),
        (answer(405, **PAGE), "post"),
        (answer(404, **PAGE), ""),
        (NOTHING, ""),
    ],
)
def test_posts(seen: front.Seen, wrong: str) -> None:
    """Docxy answers them; a front that takes GET alone does not let them pass."""
    assert front.judge_post(seen).wrong == wrong


@pytest.mark.parametrize(
    ("pushed", "wrong"),
    [
        (Pushed(error(405, "DENIED")), ""),
        (Pushed(error(405, "DENIED"), early=False), "request-buffering"),
        (Pushed(answer(502, **PAGE), early=False), "request-buffering"),
        (Pushed(answer(502, **PAGE)), ""),
        (Pushed(answer(413, **PAGE)), "body-size"),
        (Pushed(NOTHING), "body-size"),
        (Pushed(answer(403, **PAGE)), ""),
    ],
)
def test_pushes(pushed: Pushed, wrong: str) -> None:
    """Docxy refuses them, and early; that a front forbids them is its own business."""
    assert front.judge_push(pushed).wrong == wrong


@pytest.mark.parametrize(
    ("first", "seconds", "wrong"),
    [(0.01, 1.01, ""), (3.0, 4.0, ""), (1.01, 1.02, "buffering")],
)
def test_drips(first: float, seconds: float, wrong: str) -> None:
    """A slow line is no buffer."""
    seen = Answer(status=200, headers=[], first=first, seconds=seconds)
    assert front.judge_drip(seen).wrong == wrong


def test_no_drip() -> None:
    """An older Docxy is not blamed."""
    assert front.judge_drip(answer(404)).skipped
    assert front.judge_drip(NOTHING).wrong == "no-answer"


# The challenge


@pytest.mark.parametrize(
    ("realm", "wrong"),
    [
        ("https://proxy.example/auth/token", ""),
        ("https://proxy.example:443/auth/token", ""),
        ("https://proxy.example/auth/token?ns=ghcr.io", ""),
        ("http://proxy.example/auth/token", "realm-scheme"),
        ("https://proxy.example:8443/auth/token", "realm-host"),
        ("https://docxy/auth/token", "realm-host"),
        ("http://docxy/auth/token", "realm-host"),
        ("https://auth.docker.io/token", "realm-path"),
        ("", "realm-path"),
    ],
)
def test_realms(realm: str, wrong: str) -> None:
    """Tokens are at this proxy, by the address that was given."""
    assert challenges.judge_ping(PLACE, challenged(realm)).wrong == wrong


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (document(), ""),
        (answer(401), "realm-path"),
        (answer(401, WWW_Authenticate='Basic realm="there"'), ""),
        (error(429, "TOOMANYREQUESTS"), "pulls-spent"),
        (error(503, "UNAVAILABLE"), "upstream"),
        (answer(403, **PAGE), "refused"),
    ],
)
def test_pings(seen: Answer, wrong: str) -> None:
    """Whatever is not 401 is told apart by its code."""
    assert challenges.judge_ping(PLACE, seen).wrong == wrong


def test_a_realm_below_a_path() -> None:
    """It is where the front has put Docxy."""
    place = Place.parse("https://proxy.example/hub")
    for path, wrong in [
        ("/hub/auth/token", ""),
        ("/auth/token", "realm-below"),
        ("/other/auth/token", "realm-path"),
    ]:
        ping = challenged(f"https://proxy.example{path}")
        assert challenges.judge_ping(place, ping).wrong == wrong


def test_forged_headers() -> None:
    """Only a realm that changes shows that they were believed."""
    ours, theirs = (
        challenged(f"{host}/auth/token") for host in ("https://proxy.example", "https://x.invalid")
    )
    for place, forged, wrong in [(PLACE, ours, ""), (PLACE, theirs, "spoofing")]:
        assert [step.wrong for step in challenges.judge_forged(place, ours, forged)] == [wrong]
    assert all(step.skipped for step in challenges.judge_forged(PLACE, document(), document()))
    assert all(step.skipped for step in challenges.judge_forged(PLACE, ours, NOTHING))
    here = Place.parse("http://127.0.0.1:8000")
    assert all(step.skipped for step in challenges.judge_forged(here, ours, theirs))


def test_forged_clients() -> None:
    """It is seen by figures that come, or that do not come any more."""
    for told, forged, wrong in [
        (403, 403, ""),
        (403, 200, "forged-client"),
        (200, 200, ""),
        (200, 403, "forged-client"),
    ]:
        assert challenges.judge_client(PLACE, answer(told), answer(forged)).wrong == wrong
    assert challenges.judge_client(PLACE, answer(404), answer(404)).skipped
    assert challenges.judge_client(PLACE, NOTHING, NOTHING).skipped
    assert not challenges.judge_client(PLACE, answer(403), NOTHING).wrong


# The pull


def knocked(
    first: Answer, token: Answer | None = None, head: Answer | None = None, name: str = "owner/app"
) -> set[str]:
    """Return what is found of a knock."""
    steps = token_flow.judge_knock(Knock(name, first, token, head), "pull")
    return {step.wrong for step in steps} - {""}


def scoped(name: str) -> Answer:
    """Return a challenge for a repository."""
    text = f'Bearer realm="https://proxy.example/auth/token",scope="repository:{name}:pull"'
    return answer(401, WWW_Authenticate=text)


TOKEN = document(200, {"token": "t"})
OPEN = answer(Docker_Content_Digest="sha256:4711")
SCOPE = 'Bearer realm="https://proxy.example/auth/token",error="insufficient_scope"'


def test_knocks() -> None:
    """How far one came says what is wrong."""
    mine = scoped("owner/app")
    assert knocked(mine, TOKEN, OPEN) == set()
    assert knocked(scoped("app"), TOKEN, OPEN) == {"scope"}
    assert knocked(mine, answer(404, **PAGE)) == {"token"}
    assert knocked(mine, document()) == {"token"}
    assert knocked(mine, error(503, "UNAVAILABLE")) == {"upstream"}
    assert knocked(mine, error(429, "TOOMANYREQUESTS")) == {"pulls-spent"}
    assert knocked(mine, TOKEN, answer(401)) == {"authorization"}
    assert knocked(mine, TOKEN, answer(401, WWW_Authenticate=SCOPE)) == {"image"}
    invalid = SCOPE.replace("insufficient_scope", "invalid_token")
    assert knocked(mine, TOKEN, answer(401, WWW_Authenticate=invalid)) == {"refused"}
    assert knocked(mine, TOKEN, answer(404)) == {"image"}
    assert knocked(mine, TOKEN, answer()) == {"digest-header"}
    assert knocked(OPEN, None, OPEN) == set()
    assert knocked(answer(404)) == {"image"}
    assert knocked(answer(500)) == {"refused"}
    basic = answer(401, WWW_Authenticate="Basic realm=x")
    assert knocked(basic, None, basic) == {"image"}


def test_other_ways() -> None:
    """They lead to the same image, or to a registry that is not served."""
    mine = scoped("owner/app")
    for way, wrong in [
        (Knock("owner/app", mine, TOKEN, OPEN), ""),
        (Knock("owner/app", mine, TOKEN, answer(Docker_Content_Digest="sha256:1")), "address-ways"),
        (Knock("owner/app", mine, TOKEN, answer(404)), "address-ways"),
        (Knock("owner/app", mine, answer(404), None), "address-ways"),
    ]:
        assert examination.judge_way("containerd", way, OPEN).wrong == wrong
    unknown = error(404, "NAME_UNKNOWN")
    assert examination.judge_way("podman", Knock("x", unknown, None, unknown), OPEN).skipped
    assert challenges.is_of_another(mine, challenged("https://proxy.example/auth/token"))
    assert challenges.is_of_another(OPEN, mine)
    assert not challenges.is_of_another(mine, mine)
    assert not challenges.is_of_another(answer(403), mine)


BODY = b'{"layers": []}'
WHOLE = answer(200, BODY)


@pytest.mark.parametrize(
    ("got", "wrong"),
    [
        (WHOLE, ""),
        (answer(200, BODY, Content_Encoding="gzip"), "gzip"),
        (answer(200, b"other"), "digest"),
        (answer(200, BODY[:3], cut="3 of 14 bytes came"), "cut"),
        (answer(200, b""), "empty"),
        (answer(307, Location="https://cdn.example"), "redirect"),
        (error(429, "TOOMANYREQUESTS"), "pulls-spent"),
        (answer(500), "refused"),
    ],
)
def test_parts(got: Answer, wrong: str) -> None:
    """A manifest or blob is what it was said to be, byte for byte."""
    seen = Pull(answer(Content_Length="14"), [Part("blob", WHOLE.digest, len(BODY), got)])
    assert {step.wrong for step in pulling.judge_pull(seen)} - {""} == ({wrong} if wrong else set())


@pytest.mark.parametrize(
    ("head", "wrong"),
    [
        (answer(Content_Length="14"), ""),
        (answer(), "length"),
        (answer(Content_Length="0"), "length"),
        (answer(Content_Length="40"), "length"),
        (answer(307), "redirect"),
        (answer(403), "refused"),
    ],
)
def test_lengths(head: Answer, wrong: str) -> None:
    """HEAD tells the length that GET has, of manifests and of blobs."""
    parts = [Part("manifest", WHOLE.digest, None, WHOLE)]
    (of_manifest, *_) = pulling.judge_pull(Pull(head, parts))
    blob = (Descriptor(Digest(WHOLE.digest), len(BODY)), head)
    (*_, of_blob) = pulling.judge_pull(Pull(answer(Content_Length="14"), parts, blob))
    assert (of_manifest.wrong, of_blob.wrong) == (wrong, wrong)


@pytest.mark.parametrize(
    ("got", "wrong"),
    [
        (answer(206, b"56789", Content_Range="bytes 5-9/10"), ""),
        (answer(200, b"0123456789"), "range"),
        (answer(206, b"56789", Content_Range="bytes 4-9/10"), "range"),
        (answer(206, b"567", Content_Range="bytes 5-9/10"), "range"),
        (answer(416), "range"),
        (answer(206, Content_Range="bytes 5-9/10"), "empty"),
        (answer(307), "redirect"),
    ],
)
def test_ranges(got: Answer, wrong: str) -> None:
    """The second half is answered by the second half."""
    seen = Pull(answer(Content_Length="14"), piece=Piece(5, 10, got))
    (*_, step) = pulling.judge_pull(seen)
    assert step.wrong == wrong


# What the registry and the clocks say


@pytest.mark.parametrize(
    ("limit", "remaining", "wrong"),
    [
        ("100;w=21600", "76;w=21600", ""),
        ("100;w=21600", "9;w=21600", "pulls-low"),
        ("100;w=21600", "0;w=21600", "pulls-spent"),
    ],
)
def test_pulls(limit: str, remaining: str, wrong: str) -> None:
    """Less than a tenth is few."""
    head = answer(RateLimit_Limit=limit, RateLimit_Remaining=remaining)
    assert token_flow.judge_pulls(head).wrong == wrong
    assert token_flow.judge_pulls(answer(RateLimit_Limit="many")).skipped


@pytest.mark.parametrize(
    ("date", "issued", "wrong"),
    [
        pytest.param(0, 0, "", id="right"),
        pytest.param(-3600, -3600, "clock-here", id="here ahead"),
        pytest.param(3600, 3600, "clock-here", id="here behind"),
        pytest.param(0, -200, "", id="a token that was kept"),
        pytest.param(0, -3600, "clock-proxy", id="proxy ahead"),
        pytest.param(0, 3600, "clock-proxy", id="proxy behind"),
        pytest.param(0, None, "", id="no date of a token"),
    ],
)
def test_clocks(date: float, issued: float | None, wrong: str) -> None:
    """The token service tells whose clock is wrong."""
    now = time.time()
    head = answer(Date=formatdate(now + date, usegmt=True))
    read: dict[str, object] = {"token": "t", "expires_in": 300}
    if issued is not None:
        read["issued_at"] = datetime.fromtimestamp(now + issued, UTC).isoformat()
    steps = list(token_flow.judge_clocks(head, document(200, read)))
    assert {step.wrong for step in steps} - {""} == ({wrong} if wrong else set())
    assert [step.skipped != "" for step in token_flow.judge_clocks(answer(), None)] == [True]


def test_registries() -> None:
    """One that is not served is nobody's business, and no answer is an answer."""
    away = document(503, {"upstream": "no connection"})
    ok = document(200, {"upstream": "ok"})
    judged = {
        (name, step.wrong, step.skipped != "")
        for name, seen in {"": ok, "a": away, "b": error(404, "NAME_UNKNOWN"), "c": ok}.items()
        for step in examination.judge({name: seen})
    }
    assert judged == {("", "", False), ("a", "upstream-other", False), ("c", "", False)}
    assert [step.wrong for step in examination.judge({"": away})] == ["upstream"]
    assert [step.wrong for step in examination.judge({"": NOTHING})] == ["no-answer"]
    assert [step.skipped != "" for step in examination.judge({"": answer(404)})] == [True]
