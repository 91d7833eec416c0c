"""The head of an upstream's answer: read strictly, and in a time that its length bounds."""

import http.client
import io
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.http.response import (
    HTTP_1_0,
    HTTP_1_1,
    must_close,
    parse_framing,
    read_fields,
    read_status,
)


def read(text: bytes) -> list[tuple[str, str]]:
    """Read the fields of a head."""
    return read_fields(io.BytesIO(text)).items()


def message(*fields: tuple[str, str]) -> http.client.HTTPMessage:
    """Return a head with these fields."""
    head = http.client.HTTPMessage()
    for name, value in fields:
        head[name] = value
    return head


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"\r\n", [], id="none"),
        pytest.param(b"A: b\r\n\r\n", [("A", "b")], id="one"),
        pytest.param(b"A: b\n\n", [("A", "b")], id="without CR"),
        pytest.param(b"A:b\r\n\r\n", [("A", "b")], id="no space"),
        pytest.param(b"A: \t b c \t\r\n\r\n", [("A", "b c")], id="spaces around"),
        pytest.param(b"A:\r\n\r\n", [("A", "")], id="empty"),
        pytest.param(b"A: \t \r\n\r\n", [("A", "")], id="nothing but spaces"),
        pytest.param(b"A: b:c\r\n\r\n", [("A", "b:c")], id="a colon in the value"),
        pytest.param(b"A: \xe4\r\n\r\n", [("A", "\xe4")], id="not ASCII"),
        pytest.param(b"a: 1\r\nB:2\r\nA:3\r\n\r\n", [("a", "1"), ("B", "2"), ("A", "3")], id="3"),
        pytest.param(b"A: b\r\n c\r\n\r\n", [("A", "b c")], id="folded"),
        pytest.param(b"A: b \r\n \t c\t \r\n\td\r\n\r\n", [("A", "b c d")], id="folded twice"),
        pytest.param(b"A:\r\n b\r\nC: d\r\n\r\n", [("A", "b"), ("C", "d")], id="folded at once"),
    ],
)  # fmt: skip
def test_fields(text: bytes, expected: list[tuple[str, str]]) -> None:
    """Each field as it was sent, without the spaces around it."""
    assert read(text) == expected


def test_what_follows_the_head_is_left() -> None:
    """The body is for whoever reads next."""
    reader = io.BytesIO(b"A: b\r\n\r\nC: d\r\n\r\n")
    assert read_fields(reader).items() == [("A", "b")]
    assert reader.read() == b"C: d\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"no field\r\n\r\n", id="no colon"),
        pytest.param(b"A: b\r\nno field\r\n\r\n", id="no colon after a field"),
        pytest.param(b": b\r\n\r\n", id="empty name"),
        pytest.param(b"A : b\r\n\r\n", id="space after the name"),
        pytest.param(b"A B: c\r\n\r\n", id="space in the name"),
        pytest.param(b"A\x00: c\r\n\r\n", id="NUL in the name"),
        pytest.param(b"\xe4: c\r\n\r\n", id="name not ASCII"),
        pytest.param(b" A: b\r\n\r\n", id="folded without a field"),
        pytest.param(b"A: b\rC: d\r\n\r\n", id="bare CR"),
        pytest.param(b"A: b\r\r\n\r\n", id="two CR"),
        pytest.param(b"A: b\x00c\r\n\r\n", id="NUL in the value"),
        pytest.param(b"A: b\r\n c\x00\r\n\r\n", id="NUL in a folded line"),
        pytest.param(b"A: b\r\n c\rd\r\n\r\n", id="bare CR in a folded line"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"A: b\r\n", id="no empty line"),
        pytest.param(b"A: b", id="half a line"),
        pytest.param(b"A: b\r\n\r", id="half an empty line"),
        pytest.param(b"A: b\r\n" * 257 + b"\r\n", id="too many"),
        pytest.param(b"A: " + b"b" * 64 * 1024 + b"\r\n\r\n", id="too long"),
        pytest.param(b"A: b\r\n " + b"c" * 64 * 1024 + b"\r\n\r\n", id="too long, folded"),
    ],
)
def test_what_is_no_head(text: bytes) -> None:
    """It is refused: whoever reads on behind this proxy could read something else."""
    with pytest.raises(http.client.HTTPException):
        read(text)


def test_the_limits_can_be_reached() -> None:
    """As many fields, and a line as long, as are allowed."""
    assert len(read(b"A: b\r\n" * 256 + b"\r\n")) == 256
    value = b"b" * (64 * 1024 - 5)
    assert read(b"A: " + value + b"\r\n\r\n") == [("A", value.decode())]


@pytest.mark.parametrize("end", [b"b\r\n", b"\r\n", b"b\rc\r\n"], ids=["value", "none", "bare CR"])
@pytest.mark.parametrize(
    "begin", [b"A: a", b"A: ", b"A: a\r\n a", b"A: a\r\n "], ids=["in", "before", "folded", "fold"]
)
def test_many_spaces_take_no_time(begin: bytes, end: bytes) -> None:
    """A pattern that tries every split of them would take minutes."""
    spaces = 60 * 1024
    started = time.process_time()
    try:
        fields = read(begin + b" " * spaces + end + b"\r\n")
    except http.client.HTTPException:
        assert b"\rc" in end
    else:
        assert b"\rc" not in end
        assert [name for name, _ in fields] == ["A"]
    assert time.process_time() - started < 1


def lines(name: str, *values: str) -> list[tuple[str, str]]:
    """Return a field that is repeated."""
    return [(name, value) for value in values]


def lengths(*values: str) -> list[tuple[str, str]]:
    """Return these lengths."""
    return lines("Content-Length", *values)


def codings(*values: str) -> list[tuple[str, str]]:
    """Return these transfer codings."""
    return lines("Transfer-Encoding", *values)


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        pytest.param(HTTP_1_1, [], (False, None), id="none"),
        pytest.param(HTTP_1_0, [], (False, None), id="none, 1.0"),
        pytest.param(HTTP_1_1, codings("chunked"), (True, None), id="chunked"),
        pytest.param(HTTP_1_1, codings("Chunked"), (True, None), id="case"),
        pytest.param(HTTP_1_1, lengths("0"), (False, 0), id="zero"),
        pytest.param(HTTP_1_0, lengths("42"), (False, 42), id="1.0"),
        pytest.param(HTTP_1_1, lengths("007"), (False, 7), id="zeros"),
        pytest.param(HTTP_1_1, lengths("9" * 18), (False, 10**18 - 1), id="the longest"),
    ],
)
def test_framing(
    version: int, fields: list[tuple[str, str]], expected: tuple[bool, int | None]
) -> None:
    """Chunked, of a length, or neither."""
    assert parse_framing(version, message(*fields)) == expected


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(codings("gzip"), id="another coding"),
        pytest.param(codings("gzip, chunked"), id="two in one"),
        pytest.param(codings("gzip", "chunked"), id="two"),
        pytest.param(codings("chunked", "chunked"), id="chunked twice"),
        pytest.param(codings("identity"), id="identity"),
        pytest.param(codings(""), id="empty coding"),
        pytest.param(codings("chunked\x0b"), id="almost chunked"),
        pytest.param([*codings("chunked"), *lengths("5")], id="both"),
        pytest.param([*lengths("5"), *codings("chunked")], id="both, length first"),
        pytest.param(lengths("5", "7"), id="two lengths"),
        pytest.param(lengths("5", "5"), id="one length twice"),
        *(
            pytest.param(lengths(length), id=f"length {length!r}")
            for length in (
                "", "-5", "+5", "five", "0x5", "5_0", "5, 5", "5,7", "5.0", "5e3", "5 5", "\xb2",
                "5;", "5\t5", "9" * 19,
            )
        ),
    ],
)  # fmt: skip
def test_framing_that_leaves_a_doubt(fields: list[tuple[str, str]]) -> None:
    """Where the body ends is for one reader as for any other, or the answer is refused."""
    with pytest.raises(http.client.HTTPException):
        parse_framing(HTTP_1_1, message(*fields))


def test_chunks_in_http_1_0() -> None:
    """Some readers do not see the coding there (RFC 9112, section 6.1)."""
    with pytest.raises(http.client.HTTPException):
        parse_framing(HTTP_1_0, message(*codings("chunked")))


def status(text: bytes) -> tuple[int, int, str]:
    """Read a status line."""
    return read_status(io.BytesIO(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", (HTTP_1_1, 200, "OK"), id="plain"),
        pytest.param(b"HTTP/1.0 200 OK\n", (HTTP_1_0, 200, "OK"), id="1.0, without CR"),
        pytest.param(b"HTTP/1.9 200 OK\r\n", (HTTP_1_1, 200, "OK"), id="later"),
        pytest.param(b"HTTP/1.1 404\r\n", (HTTP_1_1, 404, ""), id="no reason"),
        pytest.param(b"HTTP/1.1 404 \r\n", (HTTP_1_1, 404, ""), id="empty reason"),
        pytest.param(b"HTTP/1.1 599 \xe4  b\r\n", (HTTP_1_1, 599, "\xe4  b"), id="odd reason"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\n", (HTTP_1_1, 204, "None"),
            id="interim",
        ),
    ],
)  # fmt: skip
def test_status(text: bytes, expected: tuple[int, int, str]) -> None:
    """Version, status and reason of the final answer."""
    assert status(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\r\nHTTP/1.1 200 OK\r\n", id="an empty line before"),
        pytest.param(b"xHTTP/1.1 200 OK\r\n", id="garbage before"),
        pytest.param(b" HTTP/1.1 200 OK\r\n", id="space before"),
        pytest.param(b"http/1.1 200 OK\r\n", id="case"),
        pytest.param(b"HTTP/2 200\r\n", id="version 2"),
        pytest.param(b"HTTP/1.10 200 OK\r\n", id="version 1.10"),
        pytest.param(b"HTTP/1 200 OK\r\n", id="version 1"),
        pytest.param(b"HTTP/1.1  200 OK\r\n", id="two spaces"),
        pytest.param(b"HTTP/1.1\t200 OK\r\n", id="tab"),
        pytest.param(b"HTTP/1.1 +20 OK\r\n", id="sign"),
        pytest.param(b"HTTP/1.1 2_0 OK\r\n", id="underscore"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n", id="four digits"),
        pytest.param(b"HTTP/1.1 20 OK\r\n", id="two digits"),
        pytest.param(b"HTTP/1.1 600 OK\r\n", id="beyond"),
        pytest.param(b"HTTP/1.1 099 OK\r\n", id="below"),
        pytest.param(b"HTTP/1.1 200OK\r\n", id="no space"),
        pytest.param(b"HTTP/1.1 200 O\rK\r\n", id="bare CR"),
        pytest.param(b"HTTP/1.1 200 O\x00K\r\n", id="NUL"),
        pytest.param(b"HTTP/1.1 200 " + b"K" * 64 * 1024 + b"\r\n", id="too long"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\n", id="101"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, id="nothing but interim"),
        pytest.param(b"ok", id="cut, but no HTTP"),
    ],
)
def test_what_is_no_status(text: bytes) -> None:
    """It is refused, and not taken for an answer that was cut."""
    with pytest.raises(http.client.HTTPException) as failed:
        status(text)
    assert not isinstance(failed.value, ConnectionResetError)


@pytest.mark.parametrize(
    "text",
    [b"", b"H", b"HTTP", b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 200 OK\r"],
)
def test_a_status_that_is_cut(text: bytes) -> None:
    """That is a connection that broke, which may be asked again."""
    with pytest.raises(ConnectionResetError):
        status(text)


NAMES = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", fullmatch=True)
VALUES = st.from_regex(r"[^\r\n\x00 \t]([^\r\n\x00]*[^\r\n\x00 \t])?", fullmatch=True).map(
    lambda text: text.encode("latin-1", "ignore").strip(b" \t").decode("latin-1")
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=20), st.sampled_from(["\r\n", "\n"]))
def test_what_is_written_is_read(fields: list[tuple[str, str]], end: str) -> None:
    """All fields, in their order, whatever is in them."""
    lines = "".join(f"{name}: {value}{end}" for name, value in fields) + end
    assert read(lines.encode("latin-1")) == fields


@given(st.binary(max_size=200) | st.text("aA: \t\r\n\x00", max_size=60).map(str.encode))
def test_any_bytes(text: bytes) -> None:
    """They are a head or an HTTPException; what is read could stand in one."""
    for whole in (text, text + b"\r\n\r\n"):
        try:
            fields = read(whole)
        except http.client.HTTPException:
            continue
        for name, value in fields:
            assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
            assert not set(value) & set("\r\n\x00")


@given(st.binary(max_size=60) | st.from_regex(rb"HTTP/1\.[0-9] [0-9]{2,4}( [^\r\n]*)?\r?\n"))
def test_any_status(text: bytes) -> None:
    """It is the final answer's, or an HTTPException."""
    try:
        version, code, reason = status(text)
    except http.client.HTTPException:
        return
    assert version in {HTTP_1_0, HTTP_1_1}
    assert 200 <= code < 600
    assert not set(reason) & set("\r\n\x00")


CODINGS = st.sampled_from(["chunked", "CHUNKED", "gzip", "chunked, chunked", "identity", ""])


@given(
    st.sampled_from([HTTP_1_0, HTTP_1_1]),
    st.lists(CODINGS, max_size=2),
    st.lists(st.text("0123456789+-, x\xb2", max_size=4), max_size=2),
)
def test_any_framing(version: int, coded: list[str], long: list[str]) -> None:
    """Never two ends at once; and a length is one that int() and everybody else reads alike."""
    fields = [*codings(*coded), *lengths(*long)]
    try:
        chunked, length = parse_framing(version, message(*fields))
    except http.client.HTTPException:
        assert fields
        return
    assert not (chunked and length is not None)
    assert chunked == (len(coded) == 1)
    assert ([] if length is None else [length]) == [int(one) for one in long]
    assert all(re.fullmatch("[0-9]+", one) for one in long)


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        pytest.param(11, [], False, id="1.1"),
        pytest.param(11, ["keep-alive"], False, id="1.1, keep-alive"),
        pytest.param(11, ["close"], True, id="1.1, close"),
        pytest.param(11, ["Close"], True, id="1.1, case"),
        pytest.param(11, ["x-a , close"], True, id="1.1, in a list"),
        pytest.param(11, ["x-a", "close"], True, id="1.1, two fields"),
        pytest.param(11, ["closed"], False, id="1.1, begins so"),
        pytest.param(HTTP_1_0, [], True, id="1.0"),
        pytest.param(HTTP_1_0, ["Keep-Alive"], False, id="1.0, keep-alive"),
        pytest.param(HTTP_1_0, ["keep-alive, close"], True, id="1.0, both"),
        pytest.param(HTTP_1_0, ["x-a"], True, id="1.0, something else"),
    ],
)
def test_closes(version: int, options: list[str], expected: bool) -> None:  # noqa: FBT001 - a table
    """HTTP/1.1 stays open unless it says so, HTTP/1.0 only if it says so (RFC 9112, 9.3)."""
    assert must_close(version, message(*(("Connection", option) for option in options))) is expected


def test_folded_lines_without_end() -> None:
    """They are no new fields, and the head has a limit as a whole."""
    head = io.BytesIO(b"A: b\r\n" + b" c\r\n" * 100_000)
    with pytest.raises(http.client.HTTPException, match="too large"):
        read_fields(head)
    assert head.tell() <= 256 * 1024 + 4
