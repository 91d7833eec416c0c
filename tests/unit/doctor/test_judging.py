"""What each check says of what it has seen; the set-ups themselves are in tests/integration."""

import time
from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from app.doctor import challenges, examination, front, network, pulling, token_flow
from app.doctor.front import PushResult
from app.doctor.http import NoResponse, ProbeResponse
from app.doctor.network import ConnectResults, TlsHandshake
from app.doctor.pulling import FetchedContent, FetchedRange, PullResponses
from app.doctor.target import Endpoint
from app.doctor.token_flow import TokenFlow
from app.oci.manifest import Descriptor
from app.oci.reference import Digest
from tests.unit.doctor.answers import answer, challenged, document, error

PLACE = Endpoint.parse("https://proxy.example")
DAY = 24 * 3600.0
PAGE = {"Content_Type": "text/html"}
OURS = {"X_Request_ID": "4711", "Docker_Distribution_Api_Version": "registry/2.0"}
NOTHING = NoResponse("the connection was reset")


# The way


@pytest.mark.parametrize(
    ("address", "reached", "wrong"),
    [
        ("https://a.example", ConnectResults((("192.0.2.1", ""), ("2001:db8::1", ""))), ""),
        ("https://a.example", ConnectResults((), "no such name"), "dns"),
        (
            "https://a.example",
            ConnectResults((("192.0.2.1", ""), ("2001:db8::1", "no"))),
            "tcp-some",
        ),
        ("https://a.example", ConnectResults((("192.0.2.1", "no"),)), "tcp"),
        ("https://localhost", ConnectResults((("127.0.0.1", ""), ("::1", "no"))), ""),
        ("http://a.example", ConnectResults((("192.0.2.1", ""),)), "plain-http"),
        ("http://127.0.0.1:8000", ConnectResults((("127.0.0.1", ""),)), ""),
    ],
)
def test_addresses(address: str, reached: ConnectResults, wrong: str) -> None:
    """One that does not answer is found, but not of localhost; plain http only elsewhere."""
    steps = list(network.judge_connections(Endpoint.parse(address), reached))
    assert {step.finding_name for step in steps} - {""} == ({wrong} if wrong else set())


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        (TlsHandshake("TLSv1.3", 0, 90 * DAY), ""),
        (TlsHandshake("TLSv1.3", 0, 70 * DAY), "tls-soon"),
        # Caddy's own authority, and Let's Encrypt's short ones.
        (TlsHandshake("TLSv1.3", 59.9 * DAY, 60.4 * DAY), ""),
        (TlsHandshake("TLSv1.3", 57 * DAY, 63 * DAY), ""),
        (TlsHandshake("TLSv1.3", 55 * DAY, 61 * DAY), "tls-soon"),
        (TlsHandshake(verify_code=9, error="not yet"), "tls-early"),
        (TlsHandshake(verify_code=10, error="expired"), "tls-expired"),
        (TlsHandshake(verify_code=18, error="self-signed"), "tls-chain"),
        (TlsHandshake(verify_code=20, error="no issuer"), "tls-chain"),
        (TlsHandshake(verify_code=62, error="name"), "tls-name"),
        (TlsHandshake(verify_code=64, error="address"), "tls-name"),
        (TlsHandshake(error="wrong version number"), "tls"),
    ],
)
def test_certificates(shown: TlsHandshake, wrong: str) -> None:
    """OpenSSL's reasons have names, and "soon" depends on how long the certificate lasts."""
    assert network.judge_handshake(shown, 60 * DAY).finding_name == wrong


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
def test_plain_http(seen: front.ProbeOutcome, wrong: str) -> None:
    """It leads to https at the same host, by a status that keeps the method."""
    assert front.judge_plain(PLACE, seen).finding_name == wrong


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
def test_who_answers(seen: front.ProbeOutcome, wrong: str) -> None:
    """Docxy is known by its headers."""
    assert front.judge_is_docxy(seen).finding_name == wrong


def test_where_an_answer_leads() -> None:
    """Whoever gave the address of plain http sees the other one."""
    step = front.judge_is_docxy(answer(308, Location="https://proxy.example/v2/", **PAGE))
    assert "308 (text/html) to https://proxy.example/v2/" in step.outcome


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
def test_posts(seen: front.ProbeOutcome, wrong: str) -> None:
    """Docxy answers them; a front that takes GET alone does not let them pass."""
    assert front.judge_post(seen).finding_name == wrong


@pytest.mark.parametrize(
    ("pushed", "wrong"),
    [
        (PushResult(error(405, "DENIED")), ""),
        (PushResult(error(405, "DENIED"), is_early=False), "request-buffering"),
        (PushResult(answer(502, **PAGE), is_early=False), "request-buffering"),
        (PushResult(answer(502, **PAGE)), ""),
        (PushResult(answer(413, **PAGE)), "body-size"),
        (PushResult(NOTHING), "body-size"),
        (PushResult(answer(403, **PAGE)), ""),
    ],
)
def test_pushes(pushed: PushResult, wrong: str) -> None:
    """Docxy refuses them, and early; that a front forbids them is its own business."""
    assert front.judge_push(pushed).finding_name == wrong


@pytest.mark.parametrize(
    ("first", "seconds", "wrong"),
    [(0.01, 1.01, ""), (3.0, 4.0, ""), (1.01, 1.02, "buffering")],
)
def test_drips(first: float, seconds: float, wrong: str) -> None:
    """A slow line is no buffer."""
    seen = ProbeResponse(status=200, headers=[], first_byte_seconds=first, total_seconds=seconds)
    assert front.judge_drip(seen).finding_name == wrong


def test_no_drip() -> None:
    """An older Docxy is not blamed."""
    assert front.judge_drip(answer(404)).skip_reason
    assert front.judge_drip(NOTHING).finding_name == "no-answer"


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
    assert challenges.judge_ping(PLACE, challenged(realm)).finding_name == wrong


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
def test_pings(seen: ProbeResponse, wrong: str) -> None:
    """Whatever is not 401 is told apart by its code."""
    assert challenges.judge_ping(PLACE, seen).finding_name == wrong


def test_a_realm_below_a_path() -> None:
    """It is where the front has put Docxy."""
    place = Endpoint.parse("https://proxy.example/hub")
    for path, wrong in [
        ("/hub/auth/token", ""),
        ("/auth/token", "realm-below"),
        ("/other/auth/token", "realm-path"),
    ]:
        ping = challenged(f"https://proxy.example{path}")
        assert challenges.judge_ping(place, ping).finding_name == wrong


def test_forged_headers() -> None:
    """Only a realm that changes shows that they were believed."""
    ours, theirs = (
        challenged(f"{host}/auth/token") for host in ("https://proxy.example", "https://x.invalid")
    )
    for place, forged, wrong in [(PLACE, ours, ""), (PLACE, theirs, "spoofing")]:
        assert [
            step.finding_name for step in challenges.judge_forged_host(place, ours, forged)
        ] == [wrong]
    assert all(
        step.skip_reason for step in challenges.judge_forged_host(PLACE, document(), document())
    )
    assert all(step.skip_reason for step in challenges.judge_forged_host(PLACE, ours, NOTHING))
    here = Endpoint.parse("http://127.0.0.1:8000")
    assert all(step.skip_reason for step in challenges.judge_forged_host(here, ours, theirs))


def test_forged_clients() -> None:
    """It is seen by figures that come, or that do not come any more."""
    for told, forged, wrong in [
        (403, 403, ""),
        (403, 200, "forged-client"),
        (200, 200, ""),
        (200, 403, "forged-client"),
    ]:
        assert (
            challenges.judge_forged_client(PLACE, answer(told), answer(forged)).finding_name
            == wrong
        )
    assert challenges.judge_forged_client(PLACE, answer(404), answer(404)).skip_reason
    assert challenges.judge_forged_client(PLACE, NOTHING, NOTHING).skip_reason
    assert not challenges.judge_forged_client(PLACE, answer(403), NOTHING).finding_name


# The pull


def knocked(
    first: ProbeResponse,
    token: ProbeResponse | None = None,
    head: ProbeResponse | None = None,
    name: str = "owner/app",
) -> set[str]:
    """Return what is found of a knock."""
    steps = token_flow.judge_token_flow(TokenFlow(name, first, token, head), "pull")
    return {step.finding_name for step in steps} - {""}


def scoped(name: str) -> ProbeResponse:
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
        (TokenFlow("owner/app", mine, TOKEN, OPEN), ""),
        (
            TokenFlow("owner/app", mine, TOKEN, answer(Docker_Content_Digest="sha256:1")),
            "address-ways",
        ),
        (TokenFlow("owner/app", mine, TOKEN, answer(404)), "address-ways"),
        (TokenFlow("owner/app", mine, answer(404), None), "address-ways"),
    ]:
        assert examination.judge_other_name("containerd", way, OPEN).finding_name == wrong
    unknown = error(404, "NAME_UNKNOWN")
    assert examination.judge_other_name(
        "podman", TokenFlow("x", unknown, None, unknown), OPEN
    ).skip_reason
    assert challenges.is_other_registry(mine, challenged("https://proxy.example/auth/token"))
    assert challenges.is_other_registry(OPEN, mine)
    assert not challenges.is_other_registry(mine, mine)
    assert not challenges.is_other_registry(answer(403), mine)


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
def test_parts(got: ProbeResponse, wrong: str) -> None:
    """A manifest or blob is what it was said to be, byte for byte."""
    seen = PullResponses(
        answer(Content_Length="14"), [FetchedContent("blob", WHOLE.digest, len(BODY), got)]
    )
    assert {step.finding_name for step in pulling.judge_pull(seen)} - {""} == (
        {wrong} if wrong else set()
    )


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
def test_lengths(head: ProbeResponse, wrong: str) -> None:
    """HEAD tells the length that GET has, of manifests and of blobs."""
    parts = [FetchedContent("manifest", WHOLE.digest, None, WHOLE)]
    (of_manifest, *_) = pulling.judge_pull(PullResponses(head, parts))
    blob = (Descriptor(Digest(WHOLE.digest), len(BODY)), head)
    (*_, of_blob) = pulling.judge_pull(PullResponses(answer(Content_Length="14"), parts, blob))
    assert (of_manifest.finding_name, of_blob.finding_name) == (wrong, wrong)


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
def test_ranges(got: ProbeResponse, wrong: str) -> None:
    """The second half is answered by the second half."""
    seen = PullResponses(answer(Content_Length="14"), ranged=FetchedRange(5, 10, got))
    (*_, step) = pulling.judge_pull(seen)
    assert step.finding_name == wrong


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
    assert token_flow.judge_pulls(head).finding_name == wrong
    assert token_flow.judge_pulls(answer(RateLimit_Limit="many")).skip_reason


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
    assert {step.finding_name for step in steps} - {""} == ({wrong} if wrong else set())
    assert [step.skip_reason != "" for step in token_flow.judge_clocks(answer(), None)] == [True]


def test_registries() -> None:
    """One that is not served is nobody's business, and no answer is an answer."""
    away = document(503, {"upstream": "no connection"})
    ok = document(200, {"upstream": "ok"})
    judged = {
        (name, step.finding_name, step.skip_reason != "")
        for name, seen in {"": ok, "a": away, "b": error(404, "NAME_UNKNOWN"), "c": ok}.items()
        for step in examination.judge_upstreams({name: seen})
    }
    assert judged == {("", "", False), ("a", "upstream-other", False), ("c", "", False)}
    assert [step.finding_name for step in examination.judge_upstreams({"": away})] == ["upstream"]
    assert [step.finding_name for step in examination.judge_upstreams({"": NOTHING})] == [
        "no-answer"
    ]
    assert [step.skip_reason != "" for step in examination.judge_upstreams({"": answer(404)})] == [
        True
    ]
