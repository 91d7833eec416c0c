"""Answers that go on in the middle of a blob, and those that do not."""

import pytest

from app.source import Reply
from app.transfer.rest import parse_rest, parse_size

DATA = b"0123456789"


def answer(status: int, where: str = "", length: int | None = None, **fields: str) -> Reply:
    """Return an answer in pieces of three bytes."""
    body = [DATA[at : at + 3] for at in range(0, 10, 3)] if status == 200 else [DATA[4:]]
    given = [*([("Content-Range", where)] if where else []), *fields.items()]
    return Reply(status=status, headers=given, length=length, body=body)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer(206, "bytes 4-9/10"), id="the rest"),
        pytest.param(answer(206, "bytes 4-9/*"), id="the rest of nobody knows how much"),
        pytest.param(answer(200, length=10), id="the whole"),
    ],
)
def test_it_goes_on(reply: Reply) -> None:
    """From the byte that is asked for."""
    rest = parse_rest(reply, 4, 10)
    assert rest is not None
    assert b"".join(rest.iterate_wanted()) == DATA[4:]


def test_each_arrival_is_told() -> None:
    """With what is skipped of it, which has crossed the network too."""
    rest = parse_rest(answer(200, length=10), 4, 10)
    assert rest is not None
    assert list(rest.iterate_arrivals()) == [(3, b""), (3, b"45"), (3, b"678"), (1, b"9")]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(answer(206, "bytes 3-9/10"), id="another start"),
        pytest.param(answer(206, "bytes 4-9/11"), id="another size"),
        pytest.param(answer(206), id="no range"),
        pytest.param(answer(206, "bytes=4-9"), id="an odd range"),
        pytest.param(answer(200, length=11), id="another whole"),
        pytest.param(answer(200), id="a whole of no length"),
        pytest.param(answer(401, length=0), id="a refusal"),
    ],
)
def test_it_does_not_go_on(reply: Reply) -> None:
    """What is no part of the same is nothing."""
    assert parse_rest(reply, 4, 10) is None


@pytest.mark.parametrize(
    ("reply", "size"),
    [
        (answer(200, length=10), 10),
        (answer(206, "bytes 4-9/10"), 10),
        (answer(206, "bytes 4-9/*"), None),
        (answer(200), None),
        (answer(200, length=10, **{"Content-Encoding": "gzip"}), None),
        (answer(200, length=10, **{"Content-Encoding": "identity"}), 10),
        (answer(404, length=10), None),
    ],
)
def test_the_size(reply: Reply, size: int | None) -> None:
    """It is told by the whole and by a part; an encoded form has another one."""
    assert parse_size(reply) == size
