"""What passes up to a registry, what passes down to a client, and Link."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci import headers
from app.oci.headers import (
    filter_redirect_headers,
    filter_request_headers,
    filter_response_headers,
    parse_next_link,
    parse_next_query,
)

HOP_BY_HOP = [
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
]


def names(fields: headers.Headers) -> set[str]:
    """Return the names of fields, in lower case."""
    return {name.lower() for name, _ in fields}


@pytest.mark.parametrize(
    "passed", [filter_request_headers, filter_response_headers], ids=["up", "down"]
)
def test_hop_by_hop_stops_here(passed: object) -> None:
    """Hop-by-hop fields pass in neither direction, in whatever case they are written."""
    for name in HOP_BY_HOP:
        assert callable(passed), name
        for written in (name, name.lower(), name.upper()):
            assert name.lower() not in names(passed([(written, "x"), ("Accept", "y")]))


@pytest.mark.parametrize(
    ("passed", "listed"),
    [
        pytest.param(filter_request_headers, ["Range", "User-Agent", "Accept"], id="up"),
        pytest.param(filter_response_headers, ["ETag", "Warning", "Age"], id="down"),
    ],
)
def test_what_connection_names_stops_here(passed: object, listed: list[str]) -> None:
    """Every field that any Connection field names is hop-by-hop too (RFC 9110, 7.6.1)."""
    assert callable(passed)
    one, two, three = listed
    fields = [
        (one, "1"),
        ("Connection", f"close, {one.upper()}"),
        ("connection", f" {two.lower()} ,"),
        (two, "2"),
        (three, "3"),
    ]
    assert names(passed(fields)) - {"accept-encoding"} == {three.lower()}


NEVER_UP = [
    "Host",
    "Cookie",
    "Content-Length",
    "Content-Type",
    "Content-Encoding",
    "Expect",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Forwarded-Prefix",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Anything-New",
    "X-Accel-Failed",
    "X-Original-Forwarded-For",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "X-Request-Start",
    "X-Request-ID",
    "CF-Connecting-IP",
    "CF-IPCountry",
    "CF-Ray",
    "CF-Anything-New",
    "True-Client-IP",
    "Docker-Upload-UUID",
    "Private-Token",
    "Remote-User",
    "X-Anything-New",
]


def test_never_up() -> None:
    """What is not listed stays here: it may open something, or tell who the client is."""
    for name in NEVER_UP:
        for written in (name, name.lower(), name.upper()):
            assert filter_request_headers([(written, "x")]) == [("Accept-Encoding", "identity")], (
                name
            )


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Accept",
        "Range",
        "If-Range",
        "If-None-Match",
        "If-Modified-Since",
        "User-Agent",
    ],
)
def test_always_up(name: str) -> None:
    """Credentials, content negotiation, ranges and conditions reach the registry."""
    assert (name, "value") in filter_request_headers([(name, "value")])


def test_what_follows_a_redirect() -> None:
    """What is asked for, and under which conditions, in whatever case it is written."""
    for name in [
        "Accept",
        "Accept-Encoding",
        "User-Agent",
        "Range",
        "If-Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
    ]:
        for written in (name, name.lower(), name.upper()):
            assert filter_redirect_headers([(written, "x"), (written, "y")]) == [
                (written, "x"),
                (written, "y"),
            ], name


def test_what_stays_behind_a_redirect() -> None:
    """A key may be in any header: what is not known to be none does not go to another host."""
    for name in [
        "Authorization",
        "Cookie",
        "X-Api-Key",
        "Private-Token",
        "X-JFrog-Art-Api",
        "Docker-Upload-UUID",
        "Referer",
        "From",
        "Accept-Language",
        "X-Anything-New",
    ]:
        for written in (name, name.lower(), name.upper()):
            assert filter_redirect_headers([(written, "x"), ("Accept", "y")]) == [
                ("Accept", "y")
            ], name


def test_encoding_is_always_identity() -> None:
    """Sizes and digests are of what is stored, though containerd asks for gzip."""
    up = filter_request_headers([("Accept-Encoding", "gzip"), ("accept-encoding", "zstd")])
    assert up == [("Accept-Encoding", "identity")]


def test_repeated_fields_stay_repeated() -> None:
    """Docker sends one Accept for each type; order counts."""
    up = [("Accept", "a"), ("Range", "1"), ("Accept", "b")]
    assert filter_request_headers(up)[:3] == up
    down = [("Vary", "a"), ("ETag", "1"), ("Vary", "b")]
    assert filter_response_headers(down) == down


NEVER_DOWN = [
    "Set-Cookie",
    "X-Accel-Redirect",
    "X-Accel-Buffering",
    "X-Accel-Anything-New",
    "X-Sendfile",
    "Alt-Svc",
    "Strict-Transport-Security",
    "Clear-Site-Data",
    "Date",
    "Server",
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "X-Request-ID",
    "Docker-RateLimit-Source",
    "Location",
    "Surrogate-Control",
    "CDN-Cache-Control",
    "OCI-Namespace",
    "Access-Control-Allow-Origin",
    "Content-Disposition",
    "X-Anything-New",
]


def test_never_down() -> None:
    """An upstream does not speak for this proxy's host, nor tell its address."""
    for name in NEVER_DOWN:
        for written in (name, name.lower(), name.upper()):
            assert filter_response_headers([(written, "x"), ("ETag", "y")]) == [("ETag", "y")], name


@pytest.mark.parametrize("name", ["Content-Length", "WWW-Authenticate", "Link"])
def test_given_anew(name: str) -> None:
    """What the relay writes itself is not there twice."""
    assert filter_response_headers([(name, "x")]) == []


ALWAYS_DOWN = [
    "Content-Type",
    "Content-Range",
    "Content-Encoding",
    "Accept-Ranges",
    "Docker-Content-Digest",
    "ETag",
    "Last-Modified",
    "Cache-Control",
    "Age",
    "Warning",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "OCI-Filters-Applied",
]


def test_always_down() -> None:
    """What describes the content or the budget reaches the client."""
    for name in ALWAYS_DOWN:
        assert filter_response_headers([(name, "value")]) == [(name, "value")]


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(("ETag", "a\r\nSet-Cookie: x=1"), id="CR LF"),
        pytest.param(("ETag", "a\nb"), id="LF"),
        pytest.param(("ETag", "a\rb"), id="CR"),
        pytest.param(("ETag", "a\0b"), id="NUL"),
        pytest.param(("ETag", "a\x7fb"), id="DEL"),
        pytest.param(("ETag", "€"), id="beyond Latin-1"),
        pytest.param(("ETag\r\nSet-Cookie", "x"), id="CR LF in a name"),
        pytest.param(("ETag ", "x"), id="space in a name"),
        pytest.param(("", "x"), id="no name"),
    ],
)
def test_nothing_breaks_out_of_its_line(field: tuple[str, str]) -> None:
    """A field that could begin another one is not passed down."""
    assert filter_response_headers([field, ("Age", "1")]) == [("Age", "1")]


LISTED = st.sampled_from(sorted(headers.DOWN))


@given(st.lists(st.tuples(LISTED | st.text(max_size=20), st.text(max_size=40)), max_size=6))
def test_no_control_character_passes_down(fields: headers.Headers) -> None:
    """Whatever an upstream sends, what is left can be written as it is."""
    for name, value in filter_response_headers(fields):
        assert not set(name + value) & set("\r\n\0")
        (name + value).encode("latin-1")


TARGETS = st.text(alphabet="abc/?&=%:.~*'", min_size=1, max_size=20)
PARAMETERS = st.sampled_from(
    ["", "; a=b", '; title="rel=next"', '; title="a, <b>; c"', "; rel=prev; rel=next", ';a="\\""']
)
OTHERS = st.builds("<{}>{}".format, TARGETS, PARAMETERS)
NEXT = st.sampled_from(["; rel=next", '; rel="next"', ' ; REL="prev NEXT"', ";rel = next;a=b"])


@given(st.lists(OTHERS, max_size=3), TARGETS, NEXT, st.lists(OTHERS, max_size=3))
def test_the_next_page_among_others(
    before: list[str], target: str, relation: str, after: list[str]
) -> None:
    """It is found in one field and in many, whatever stands beside it."""
    links = [*before, f"<{target}>{relation}", *after]
    assert parse_next_link(links) == parse_next_link([", ".join(links)]) == target


@given(st.lists(st.text() | st.text(alphabet='<>;="\\, relnxt/?#\r\n\xe4'), max_size=4))
def test_no_link_breaks_out(links: list[str]) -> None:
    """Whatever a registry sends, what is taken for a page can be written into a Link."""
    for text in (parse_next_link(links), parse_next_query(links) or ""):
        assert re.fullmatch(r"[\x21-\x7e]*", text)
        assert not set(text) & set("<>")
    assert "#" not in (parse_next_query(links) or "")


def test_value_and_values() -> None:
    """Names have no case; the first value, or every value, or nothing."""
    fields = [("A", "1"), ("b", "2"), ("a", "3")]
    assert headers.get_all(fields, "A") == ["1", "3"]
    assert headers.get_first(fields, "B") == "2"
    assert headers.get_first(fields, "c") == ""
    assert headers.without(fields, "a") == [("b", "2")]


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        pytest.param([], "", id="none"),
        pytest.param(
            ['</v2/a/tags/list?last=x&n=2>; rel="next"'], "/v2/a/tags/list?last=x&n=2", id="one"
        ),
        pytest.param(
            ["<https://r.example/v2/a?n=1>;rel=next"], "https://r.example/v2/a?n=1", id="token"
        ),
        pytest.param(['</a>; rel="prev", </b>; rel="next"'], "/b", id="second of one header"),
        pytest.param(['</a>; rel="prev"', '</b>; rel="next"'], "/b", id="second header"),
        pytest.param(['</a>; rel="next", </b>; rel="next"'], "/a", id="the first counts"),
        pytest.param(['</a>; title="a, <b>; c"; rel="next"'], "/a", id="comma in quotes"),
        pytest.param([r'</a>; title="\"; rel=next"; rel="prev"'], "", id="escaped quote"),
        pytest.param(['</a>; title="; rel=next;"; rel="prev"'], "", id="rel in quotes"),
        pytest.param(['</a?x=1,2>; rel="next"'], "/a?x=1,2", id="comma in the target"),
        pytest.param(['</a>; REL="NEXT"'], "/a", id="case"),
        pytest.param(['</a>; rel="next last"'], "/a", id="two relations"),
        pytest.param(['</a>; rel = "next" ; type="x"'], "/a", id="spaces"),
        pytest.param(['</a>; rel="nextish"'], "", id="another relation"),
        pytest.param(["</a>"], "", id="no relation"),
        pytest.param(['/a; rel="next"'], "", id="no brackets"),
        pytest.param(['<>; rel="next"'], "", id="no target"),
    ],
)
def test_next_link(links: list[str], expected: str) -> None:
    """The target whose relation is next, however it is written (RFC 8288, section 3)."""
    assert parse_next_link(links) == expected


@pytest.mark.parametrize(
    "link",
    [
        pytest.param('<a>"' * 16_000, id="quotes"),
        pytest.param("<" * 60_000, id="brackets"),
        pytest.param("<a>" + '"\\' * 30_000, id="escapes"),
        pytest.param("<a>;rel=" + " " * 60_000, id="spaces"),
        pytest.param("<a>;" + " ;\trel\t" * 8_000, id="parameters"),
        pytest.param("<a>," * 15_000, id="links"),
    ],
)
def test_no_link_takes_long(link: str) -> None:
    """As long as http.client lets a header be, reading it takes a moment."""
    began = time.process_time()
    assert parse_next_link([link]) == ""
    assert time.process_time() - began < 1
