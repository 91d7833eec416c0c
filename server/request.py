"""gunicorn's request with bounds of time and size that gunicorn's settings cannot express."""

import ipaddress
import time
from functools import lru_cache
from typing import Any, Final

import gevent
from gunicorn import http, util
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser

from server.connections import Connection

_HEAD_TIMEOUT: Final = 15.0
"""Seconds in which a whole head must arrive: clients send it in one packet or a few."""
_HEAD_END: Final = b"\r\n\r\n"
_LINE_LIMIT: Final = 64 * 1024
"""Bytes of a request line: tokens travel in the queries of token requests."""
_PATH_LIMIT: Final = 8 * 1024
"""Bytes of a path as it is sent: a name, a tag and a digest need a few hundred."""
_HEAD_LIMIT: Final = 256 * 1024
"""Bytes of all header fields together, and of a trailer: nginx's limit of `4 64k`."""
_UNREAD_LIMIT: Final = 64 * 1024
"""Bytes of an unread body that are still read and discarded, to keep the connection open."""

_CACHE_SIZE: Final = 1024
"""The number of peers for which `is_trusted_peer` caches its answer."""


class ReadableBody(Body):
    """A request body whose malformed or countless tiny chunks affect only its sender.

    Until the whole body has arrived its connection counts as waiting, like one without a head.
    """

    def __init__(self, reader: Any, connection: Connection | None) -> None:  # noqa: ANN401 - as inherited
        super().__init__(reader)
        self._connection = connection

    def read(self, size: int | None = None) -> bytes:
        """Return up to `size` bytes of the body, or all of it for `None`; `b""` is its end.

        Raise ValueError for malformed chunks, which Werkzeug answers with 400.
        """
        gevent.sleep(0)  # a reader that always finds data would never yield to other greenlets
        connection = self._connection
        if connection is not None and not _is_fully_read(self.reader):
            connection.await_body()
        try:
            return super().read(size)
        except ParseException as error:
            raise ValueError(type(error).__name__) from error
        finally:
            if connection is not None and _is_fully_read(self.reader):
                connection.end_body()


class BoundedRequest(Request):
    """A request with bounds that gunicorn's settings cannot express.

    `limit_request_line` allows 8,190 bytes at most, and 0 means no limit at all. The parser copies
    all it has on each read, so a line of 20 MB stopped every download of a worker for 40 seconds.
    """

    def parse(self, unreader: Any) -> Any:  # noqa: ANN401 - as inherited
        """Read the head and return the unused bytes after it, as the base class does.

        Raise ParseException if the head is malformed or too large, and NoMoreData if it is late.
        """
        self.limit_request_line = _LINE_LIMIT
        self.max_buffer_headers = _HEAD_LIMIT
        sock = getattr(unreader, "sock", None)
        self._connection: Connection | None = getattr(sock, "connection", None)
        with gevent.Timeout(self._await_head(unreader), NoMoreData()):
            unused = super().parse(unreader)
        path = self.path or ""
        if len(path) > _PATH_LIMIT:
            raise LimitRequestLine(len(path), _PATH_LIMIT)
        # gunicorn would answer with the client's version, even one that it does not implement
        # (RFC 9110, section 2.5).
        self.version = min(self.version or (1, 1), (1, 1))
        return unused

    def _await_head(self, unreader: Any) -> float | None:  # noqa: ANN401 - as inherited
        """Wait for the first bytes of a head, and return the seconds left for the rest of it.

        Return `None` if the head is already complete. Raise NoMoreData if nothing arrives in time.
        Between two requests a connection may be idle for `keepalive` seconds, which is longer than
        a head may take, because servers in front keep theirs open. On a new connection the time of
        a head counts from accept.
        """
        head_seconds = get_head_timeout(self.cfg)
        patience: float = self.cfg.keepalive
        if self.req_number == 1:
            if self._connection is not None:
                head_seconds -= time.monotonic() - self._connection.opened
            patience = head_seconds
        received = unreader.take_buffered()
        if not received:
            wait_started_at = time.monotonic()
            with gevent.Timeout(max(patience, 0), NoMoreData()):
                received = unreader.chunk()
            if self.req_number == 1:
                head_seconds -= time.monotonic() - wait_started_at
        unreader.unread(received)
        return None if _HEAD_END in received else max(head_seconds, 0)

    def _peer_is_trusted_proxy(self) -> bool:
        """Return whether to believe the peer that a request came by TLS.

        The answer is cached by address, since each request asks about the same few servers in
        front; that saves 3 % of a small response's time. A peer on a Unix socket is trusted.
        """
        return not isinstance(self.peer_addr, tuple) or is_trusted_peer(self.cfg, self.peer_addr[0])

    def set_body_reader(self) -> None:
        """Set `body` to a `ReadableBody`, from which the application reads."""
        super().set_body_reader()
        if self.body:
            self.body = ReadableBody(self.body.reader, self._connection)

    def should_close(self) -> bool:
        """Return whether to close the connection after this request.

        A long unread body, such as a push's, is not worth reading to keep the connection.
        """
        return super().should_close() or self.has_unread_body()

    def has_unread_body(self) -> bool:
        """Return whether more than 64 KiB of the body is unread, or an unknown amount."""
        reader: Any = self.body.reader if self.body else None
        if isinstance(reader, LengthReader):
            return reader.length > _UNREAD_LIMIT
        return not _is_fully_read(reader)


def _is_fully_read(reader: Any) -> bool:  # noqa: ANN401 - one of gunicorn's readers
    """Return whether a body has been read to its end."""
    return reader.length <= 0 if isinstance(reader, LengthReader) else reader.parser is None


# These three are changed for the whole process, since gunicorn has no setting for them. Where it
# does not heed the first one, `are_made_by_parser` refuses the start. The others save 3 % each of
# the processor time of a manifest from the cache, and of `/v2/`.
RequestParser.mesg_class = BoundedRequest

_date_of = lru_cache(1)(util.http_date)


def _http_date(timestamp: float | None = None) -> str:
    """Return the Date header, formatted once a second."""
    return _date_of(int(time.time() if timestamp is None else timestamp))


util.http_date = _http_date
# Each request would make one, which takes two locks to find an error stream that never changes.
wsgi.WSGIErrorsWrapper = lru_cache(1)(wsgi.WSGIErrorsWrapper)  # type: ignore[misc,assignment]


def are_made_by_parser(cfg: Config) -> bool:
    """Return whether gunicorn's parser makes a `BoundedRequest` of what a client sends.

    gunicorn has no setting for the class of its requests. The master calls this, so the whole head
    is there from the start: nothing waits for it, and no event loop starts before the fork.
    """
    try:
        parser: Any = http.get_parser(cfg, (), ("127.0.0.1", 0))
        parser.unreader.unread(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        request = next(parser)
    except (AttributeError, TypeError, ParseException, StopIteration):
        return False  # gunicorn's parser is not the one that this module was written for
    return isinstance(request, BoundedRequest) and request.limit_request_line == _LINE_LIMIT


def get_head_timeout(cfg: Config) -> float:
    """Return the seconds in which a whole head must arrive: 15, or `keepalive` if it is shorter."""
    return min(_HEAD_TIMEOUT, cfg.keepalive or _HEAD_TIMEOUT)


@lru_cache(_CACHE_SIZE)
def is_trusted_peer(cfg: Config, address: str) -> bool:
    """Return whether a peer's IP address is that of a trusted server in front.

    FORWARDED_ALLOW_IPS lists those servers.
    """
    if "*" in cfg.forwarded_allow_ips:
        return True
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:  # a Unix socket has none
        return False
    return any(peer in network for network in cfg.forwarded_allow_networks())
