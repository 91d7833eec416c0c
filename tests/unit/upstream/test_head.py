"""The head of an upstream's answer: read strictly, and in a time that its length bounds."""

import http.client
import io
import time

import pytest

from app.upstream.head import HTTP_1_0, closes, is_chunked, read_fields


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


@pytest.mark.parametrize(
    ("codings", "expected"),
    [
        pytest.param([], False, id="none"),
        pytest.param(["chunked"], True, id="chunked"),
        pytest.param(["Chunked"], True, id="case"),
    ],
)
def test_chunked(codings: list[str], expected: bool) -> None:  # noqa: FBT001 - a table
    """Chunked, or no coding at all."""
    assert is_chunked(message(*(("Transfer-Encoding", coding) for coding in codings))) is expected


@pytest.mark.parametrize(
    "codings",
    [
        pytest.param(["gzip"], id="another"),
        pytest.param(["gzip, chunked"], id="two in one"),
        pytest.param(["gzip", "chunked"], id="two"),
        pytest.param(["chunked", "chunked"], id="twice"),
        pytest.param(["identity"], id="identity"),
        pytest.param([""], id="empty"),
        pytest.param(["chunked\x0b"], id="almost"),
    ],
)
def test_other_codings_are_refused(codings: list[str]) -> None:
    """Nobody can tell where such a body ends."""
    with pytest.raises(http.client.HTTPException):
        is_chunked(message(*(("Transfer-Encoding", coding) for coding in codings)))


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
    assert closes(version, message(*(("Connection", option) for option in options))) is expected


def test_folded_lines_without_end() -> None:
    """They are no new fields, and the head has a limit as a whole."""
    head = io.BytesIO(b"A: b\r\n" + b" c\r\n" * 100_000)
    with pytest.raises(http.client.HTTPException, match="too large"):
        read_fields(head)
    assert head.tell() <= 256 * 1024 + 4
