"""WWW-Authenticate: what registries send is read, what they must not send breaks nothing."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.challenge import Challenge, parse_challenges

REALM = "https://auth.example/token"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param([""], [], id="empty"),
        pytest.param(
            [f'Bearer realm="{REALM}",service="registry.example"'],
            [Challenge("Bearer", {"realm": REALM, "service": "registry.example"})],
            id="Docker Hub's",
        ),
        pytest.param(
            ['Bearer realm="r",scope="repository:a:pull,push"'],
            [Challenge("Bearer", {"realm": "r", "scope": "repository:a:pull,push"})],
            id="comma in quotes",
        ),
        pytest.param(
            ['Bearer realm="r", Basic realm="b"'],
            [Challenge("Bearer", {"realm": "r"}), Challenge("Basic", {"realm": "b"})],
            id="two in one header",
        ),
        pytest.param(
            ['Bearer realm="r",service="s",Basic realm="b",charset="UTF-8"'],
            [
                Challenge("Bearer", {"realm": "r", "service": "s"}),
                Challenge("Basic", {"realm": "b", "charset": "UTF-8"}),
            ],
            id="two without spaces",
        ),
        pytest.param(
            ['Bearer realm="r"', 'Basic realm="b"'],
            [Challenge("Bearer", {"realm": "r"}), Challenge("Basic", {"realm": "b"})],
            id="two headers",
        ),
        pytest.param(
            ["Negotiate, Basic realm=b"],
            [Challenge("Negotiate"), Challenge("Basic", {"realm": "b"})],
            id="a scheme alone, and a token as value",
        ),
        pytest.param(
            ['Negotiate YII+/=, Bearer realm="r"'],
            [Challenge("Negotiate"), Challenge("Bearer", {"realm": "r"})],
            id="token68",
        ),
        pytest.param(["Negotiate abc=="], [Challenge("Negotiate")], id="token68 at the end"),
        pytest.param(
            [r'Bearer realm="a \"b\" \\ c",error="x"'],
            [Challenge("Bearer", {"realm": r'a "b" \ c', "error": "x"})],
            id="escapes",
        ),
        pytest.param(
            ['bEaReR ReAlM = "r" , SERVICE\t=\ts'],
            [Challenge("bEaReR", {"realm": "r", "service": "s"})],
            id="case and spaces",
        ),
        pytest.param(
            [' ,, Bearer realm="r",, ,service="s" ,'],
            [Challenge("Bearer", {"realm": "r", "service": "s"})],
            id="empty list elements",
        ),
        pytest.param(
            ['Bearer realm=""'], [Challenge("Bearer", {"realm": ""})], id="empty parameter"
        ),
        pytest.param(
            ['Bearer realm="r",self="s"'],
            [Challenge("Bearer", {"realm": "r", "self": "s"})],
            id="a parameter called self",
        ),
        pytest.param(
            ['Basic realm="Bearer realm=x, y"'],
            [Challenge("Basic", {"realm": "Bearer realm=x, y"})],
            id="a challenge in quotes is none",
        ),
        pytest.param(['realm="r"'], [], id="parameters without a scheme"),
        pytest.param(["@"], [], id="garbage"),
        pytest.param(
            ['Basic realm="b", @garbage'],
            [Challenge("Basic", {"realm": "b"})],
            id="garbage after a challenge",
        ),
        pytest.param(
            ["@", 'Basic realm="b"'], [Challenge("Basic", {"realm": "b"})], id="garbage before one"
        ),
    ],
)
def test_parse(values: list[str], expected: list[Challenge]) -> None:
    """Every challenge of every value is found, with its parameters."""
    assert parse_challenges(values) == expected


@pytest.mark.parametrize(
    ("text", "bearer", "basic"),
    [
        pytest.param("BEARER", [True], [False], id="bearer"),
        pytest.param("basic", [False], [True], id="basic"),
        pytest.param("Negotiate", [False], [False], id="neither"),
    ],
)
def test_schemes(text: str, bearer: list[bool], basic: list[bool]) -> None:
    """Schemes have no case (RFC 9110, section 11.1)."""
    challenges = parse_challenges([text])
    assert [one.is_bearer for one in challenges] == bearer
    assert [one.is_basic for one in challenges] == basic


def test_with_parameters_replaces_only_what_it_names() -> None:
    """The original stays as it was; order and other parameters are kept."""
    before = Challenge("Bearer", {"realm": "r", "service": "s"})
    after = before.with_parameters({"realm": "ours", "scope": "x"})
    assert str(before) == 'Bearer realm="r",service="s"'
    assert str(after) == 'Bearer realm="ours",service="s",scope="x"'


NAMES = st.from_regex(r"[!#$%&'*+.^_`|~0-9a-z-]+", fullmatch=True)
SCHEMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]*", fullmatch=True)
VALUES = st.text(
    alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
)
CHALLENGES = st.builds(Challenge, SCHEMES, st.dictionaries(NAMES, VALUES, max_size=5))


@given(st.lists(CHALLENGES, max_size=4))
def test_what_is_written_is_read(challenges: list[Challenge]) -> None:
    """Challenges survive being written into one header, and into one header each."""
    assert parse_challenges([str(one) for one in challenges]) == challenges
    assert parse_challenges([", ".join(str(one) for one in challenges)]) == challenges


@given(st.lists(st.text() | st.text(alphabet='Bearer scop="\\,= \t\r\n@'), max_size=3))
def test_nothing_crashes(values: list[str]) -> None:
    """Whatever an upstream sends is read or left; what was read can be written again."""
    for challenge in parse_challenges(values):
        text = str(challenge)
        assert text.startswith(challenge.scheme)
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text)
        assert parse_challenges([text])[0].scheme == challenge.scheme


def test_folded_lines_pass_no_newline_on() -> None:
    """An obs-fold (RFC 9112, section 5.2), which http.client leaves in, ends as one line."""
    (challenge,) = parse_challenges(['Bearer realm="https://a.example/token",\r\n service="s"'])
    assert str(challenge) == 'Bearer realm="https://a.example/token",service="s"'
    for split in parse_challenges(['Bearer realm="a\r\n b",service="s"']):
        assert not set("\r\n") & set(str(split))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('Bearer realm="' + "\\x" * 30_000, id="unterminated"),
        pytest.param("a" * 60_000 + "@", id="word"),
        pytest.param("a" * 30_000 + "=" * 30_000 + '"', id="equals"),
        pytest.param(" ,\t" * 20_000, id="separators"),
        pytest.param("Bearer " + "a/" * 30_000 + '"', id="token68"),
        pytest.param("a " * 30_000, id="schemes"),
        pytest.param("Bearer " + ",".join(f"p{n}=x" for n in range(8_000)), id="parameters"),
    ],
)
def test_no_header_takes_long(value: str) -> None:
    """As long as http.client lets a header be, reading it takes a moment."""
    began = time.process_time()
    parse_challenges([value])
    assert time.process_time() - began < 1


def test_no_control_character_passes_on() -> None:
    """No server would send such a header on; the rest of it is as it was."""
    for control in [*map(chr, range(9)), *map(chr, range(10, 32)), "\x7f"]:
        (challenge,) = parse_challenges([f'Bearer realm="{REALM}",service="a{control}b"'])
        assert challenge.parameters == {"realm": REALM, "service": "a b"}, control
        assert str(challenge).isprintable(), control


@pytest.mark.parametrize("values", [["Basic " * 40], ["Basic"] * 40, ["Basic " * 9] * 5])
def test_a_flood_of_challenges(values: list[str]) -> None:
    """Thousands fit into one head, each to be written anew for a client that reads the first."""
    assert parse_challenges(values) == [Challenge("Basic")] * 16
