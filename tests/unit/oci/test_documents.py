"""What registries give out as JSON."""

from typing import Any

import pytest

from app.oci import documents


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([], b"", id="nothing"),
        pytest.param([b"abc", b"", b"de"], b"abcde", id="as much as may be"),
        pytest.param([b"abc", b"def"], None, id="too much"),
        pytest.param([b"abcdefghi"], None, id="too much at once"),
    ],
)
def test_a_limit(pieces: list[bytes], expected: bytes | None) -> None:
    """What is longer is not read on."""
    rest = iter([*pieces, b"x", b"y"] if expected is None else pieces)
    assert documents.read_up_to(rest, 5) == expected
    assert [*rest] == ([] if expected is not None else [b"x", b"y"])


def test_an_object() -> None:
    """As the standard library reads it: of two fields of one name the last one counts."""
    assert documents.parse_object(b'{"a":{"b":1},"a":[2]}') == {"a": [2]}


def test_an_object_of_fields() -> None:
    """Each object in it is made as the caller wants it."""
    assert documents.parse_object(b'{"A":[{"B":1,"b":2}]}', _last_of_each_case) == {"a": [{"b": 2}]}


def _last_of_each_case(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name.lower(): value for name, value in pairs}


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{} {}", id="two"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"{}"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 100_000, id="nested too deeply"),
        pytest.param(b'{"a":' * 100_000, id="nested objects"),
    ],
)
def test_what_is_no_object(document: bytes) -> None:
    """It is a ValueError, whatever is wrong with it."""
    with pytest.raises(ValueError, match=r"."):
        documents.parse_object(document)


def test_an_object_or_none_at_all() -> None:
    """A caller that treats a document without an object as one without fields gets {}."""
    assert documents.parse_object_or_empty(b'{"a":1}') == {"a": 1}
    assert documents.parse_object_or_empty(b"[" * 100_000) == {}
    assert documents.parse_object_or_empty(b"null") == {}
