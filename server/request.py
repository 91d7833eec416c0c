"""Requests as worker.py takes them in: with bounds that gunicorn's settings cannot give them."""

import time
from functools import lru_cache
from typing import Any, Final

import gevent
from gunicorn.config import Config
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.message import (  # type: ignore[attr-defined] # not all is in the stubs
    Request,
    _ip_in_allow_list,
)

from server.connections import Connection

_HEAD_TIME: Final = 15.0
"""Seconds that a head may take in all: clients send it in one packet, or some."""
_END: Final = b"\r\n\r\n"
_LINE_LIMIT: Final = 64 * 1024
"""Bytes of a request line: tokens travel in the queries of token requests."""
_PATH_LIMIT: Final = 8 * 1024
"""Bytes of a path as it is sent: a name, a tag and a digest need some hundred."""
_HEAD_LIMIT: Final = 256 * 1024
"""Bytes of all header fields together, and of a trailer: nginx's `4 64k`."""
_UNREAD_LIMIT: Final = 64 * 1024
"""Bytes of a body that nobody asked for, and that are read for the sake of its connection."""

_PEERS: Final = 1024
"""Peers of which it is remembered whether they are trusted."""


class ReadableBody(Body):
    """A body of wrong chunks, or of millions of tiny ones, troubles nobody but its sender.

    Its connection waits, as one without a head does, until all of it is there.
    """

    def __init__(self, reader: Any, connection: Connection | None) -> None:  # noqa: ANN401 - as inherited
        super().__init__(reader)
        self._connection = connection

    def read(self, size: int | None = None) -> bytes:
        """Read; raise ValueError, which werkzeug takes for a bad request, for wrong chunks."""
        gevent.sleep(0)  # while there is always more to read, gevent lets nobody else run
        connection = self._connection
        if connection is not None and not _is_whole(self.reader):
            connection.await_body()
        try:
            return super().read(size)
        except ParseException as error:
            raise ValueError(type(error).__name__) from error
        finally:
            if connection is not None and _is_whole(self.reader):
                connection.end_body()


class BoundedRequest(Request):
    """A request with the bounds that gunicorn's settings cannot give it.

    `limit_request_line` ends at 8,190; without it a line has no end, and since the parser copies
    all that it has with each read, 20 MB of it stopped every download of a worker for 40 seconds.
    """

    def parse(self, unreader: Any) -> Any:  # noqa: ANN401 - as inherited
        """Read the head; raise ParseException for one beyond measure, NoMoreData for a late one."""
        self.limit_request_line = _LINE_LIMIT
        self.max_buffer_headers = _HEAD_LIMIT
        self._connection: Connection | None = getattr(unreader.sock, "connection", None)
        with gevent.Timeout(self._begin(unreader), NoMoreData()):
            unused = super().parse(unreader)
        path = self.path or ""
        if len(path) > _PATH_LIMIT:
            raise LimitRequestLine(len(path), _PATH_LIMIT)
        # gunicorn would answer as what it does not know (RFC 9110, section 2.5).
        self.version = min(self.version or (1, 1), (1, 1))
        return unused

    def _begin(self, unreader: Any) -> float | None:  # noqa: ANN401 - as inherited
        """Wait for the first bytes of a head; return the seconds left for the rest, None for none.

        Between two requests a connection may be idle for longer than a head may take, since fronts
        keep theirs. On a new one the time counts from accept.
        """
        left = head_time(self.cfg)
        patience: float = self.cfg.keepalive
        if self.req_number == 1:
            if self._connection is not None:
                left -= time.monotonic() - self._connection.opened
            patience = left
        begun = unreader.take_buffered()
        if not begun:
            with gevent.Timeout(max(patience, 0), NoMoreData()):
                begun = unreader.chunk()
        unreader.unread(begun)
        return None if _END in begun else max(left, 0)

    def _peer_is_trusted_proxy(self) -> bool:
        """Tell whether the peer may say that a request came by TLS, without reading its address.

        Each request asks it of the same few servers in front.
        """
        return not isinstance(self.peer_addr, tuple) or trusts(self.cfg, self.peer_addr[0])

    def set_body_reader(self) -> None:
        """Make what the application reads the body from."""
        super().set_body_reader()
        if self.body:
            self.body = ReadableBody(self.body.reader, self._connection)

    def should_close(self) -> bool:
        """End the connection rather than read a long body, such as a push's, for nothing."""
        return super().should_close() or self.leaves_body()

    def leaves_body(self) -> bool:
        """Tell whether much of the body is unread, or nobody knows how much."""
        reader: Any = self.body.reader if self.body else None
        if isinstance(reader, LengthReader):
            return reader.length > _UNREAD_LIMIT
        return not _is_whole(reader)


def _is_whole(reader: Any) -> bool:  # noqa: ANN401 - one of gunicorn's readers
    """Tell whether all of a body has been read."""
    return reader.length <= 0 if isinstance(reader, LengthReader) else reader.parser is None


def head_time(cfg: Config) -> float:
    """Return the seconds that a head may take in all; a shorter `keepalive` bounds it too."""
    return min(_HEAD_TIME, cfg.keepalive or _HEAD_TIME)


@lru_cache(_PEERS)
def trusts(cfg: Config, address: str) -> bool:
    """Tell whether a peer is a server in front, by FORWARDED_ALLOW_IPS."""
    networks = cfg.forwarded_allow_networks()
    return bool(_ip_in_allow_list(address, cfg.forwarded_allow_ips, networks))
