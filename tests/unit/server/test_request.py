"""The bounds of a request, to the byte."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn import http
from gunicorn.config import Config
from gunicorn.http.errors import LimitRequestLine

PATH_LIMIT = 8192


def parse(target: str) -> Any:
    """Return the request for a target, as gunicorn's parser makes it here."""
    import server.request  # noqa: F401, PLC0415 - makes gunicorn's parser make our requests

    cfg = Config()
    cfg.set("http_parser", "python")
    cfg.set("limit_request_line", 0)
    parser: Any = http.get_parser(cfg, iter([]), ("127.0.0.1", 1))
    parser.unreader.unread(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return next(parser)


def test_the_longest_path() -> None:
    """It passes, with a query beside it that does not count; one byte more is refused."""
    longest = "/".ljust(PATH_LIMIT, "a")
    assert parse(f"{longest}?{longest}").path == longest
    with pytest.raises(LimitRequestLine):
        parse(f"{longest}a")


@pytest.mark.parametrize(("number", "left"), [(1, 3.0), (2, 15.0)], ids=["first", "later"])
def test_the_time_of_a_head(monkeypatch: pytest.MonkeyPatch, number: int, left: float) -> None:
    """It counts from accept for the first head, and from its first byte for the others."""
    import server.request as module  # noqa: PLC0415

    now, waits = [102.0], list[float]()

    class Timeout(nullcontext[None]):
        def __init__(self, seconds: float, _: Exception) -> None:
            super().__init__()
            waits.append(seconds)

    def chunk() -> bytes:
        now[0] += 10
        return b"GET / HT"

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(module, "gevent", SimpleNamespace(Timeout=Timeout))
    unreader = SimpleNamespace(take_buffered=lambda: b"", chunk=chunk, unread=lambda _: None)
    request: Any = module.BoundedRequest.__new__(module.BoundedRequest)
    request.cfg = SimpleNamespace(keepalive=75)
    request.req_number = number
    request._connection = SimpleNamespace(opened=100.0)  # noqa: SLF001 - as `parse` sets it
    assert request._await_head(unreader) == left  # noqa: SLF001 - which only `parse` calls
    assert waits == [13.0 if number == 1 else 75]
