"""A request and an answer, between the sockets and the parts of the hub."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import parse_qs

from werkzeug.datastructures import Headers

BLOCK = 1 << 16
_FORM = "application/x-www-form-urlencoded"


class Body:
    """A request's body, read at most once; what nobody reads is drained for the next request."""

    def __init__(self, stream: BinaryIO, headers: Headers) -> None:
        self._stream = stream
        chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.present = chunked or "Content-Length" in headers
        self._left = int(headers.get("Content-Length", 0))
        self._blocks = self._in_chunks() if chunked else self._counted()

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def whole(self) -> bytes:
        """Return what is left in one piece."""
        return b"".join(self._blocks)

    def drain(self) -> None:
        """Read and drop what is left."""
        for _ in self._blocks:
            pass

    def _counted(self) -> Iterator[bytes]:
        while self._left > 0:
            block = self._stream.read(min(BLOCK, self._left))
            if not block:
                raise ConnectionResetError
            self._left -= len(block)
            yield block

    def _in_chunks(self) -> Iterator[bytes]:
        while size := int(self._line().split(b";")[0], 16):
            self._left = size
            yield from self._counted()
            self._line()
        while self._line().strip():
            pass

    def _line(self) -> bytes:
        line = self._stream.readline()
        if not line:
            raise ConnectionResetError
        return line


@dataclass(slots=True, kw_only=True)
class Request:
    """What a client asks; `headers` are a copy that a fault may change."""

    method: str
    path: str
    raw_query: str
    headers: Headers
    body: Body
    form: dict[str, list[str]] = field(default_factory=dict)
    """The fields of a POSTed form, once `read_form` was called."""

    @property
    def query(self) -> dict[str, list[str]]:
        """The fields of the query."""
        return parse_qs(self.raw_query, keep_blank_values=True)

    @property
    def target(self) -> str:
        """Path and query, as they stood in the request line."""
        return f"{self.path}?{self.raw_query}" if self.raw_query else self.path

    def read_form(self) -> dict[str, list[str]]:
        """Read the body as a form; other bodies give an empty one."""
        if self.headers.get("Content-Type", "").split(";")[0].strip() == _FORM:
            self.form = parse_qs(self.body.whole().decode(errors="replace"), keep_blank_values=True)
        return self.form


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. Without Content-Length the body goes in chunks."""

    status: int
    headers: Headers
    body: Iterable[bytes] = ()

    def close(self) -> None:
        """Give back what the body holds, when it is not read to its end."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()
