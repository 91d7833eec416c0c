"""The bounds of a request, to the byte."""

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
