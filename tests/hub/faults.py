"""What a test lets go wrong: which requests, how often, and how the answer suffers."""

import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ParamSpec

from werkzeug.datastructures import Headers

from tests.hub.gates import Gate
from tests.hub.lines import Line
from tests.hub.messages import Answer, Request

P = ParamSpec("P")


class Cut(Exception):
    """End the connection here, in the middle of the body."""


class Stall(Exception):
    """Send nothing more, but hold the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong; the fields up to `skip` choose the requests."""

    part: str | None = None
    """registry, token, cdn, region or index."""
    method: str | None = None
    path: str | None = None
    """A regular expression to be found in the path."""
    times: int | None = 1
    """For so many requests; None: until `heal`."""
    skip: int = 0
    """After so many fitting requests that go well."""

    delay: float = 0
    """Seconds before the answer; ends early when the client leaves or the hub closes."""
    gate: Gate | None = None
    """Wait here before the answer, after the delay, in the same way."""
    hold_after: int | None = None
    """Wait at the gate so many bytes (at least 1) into the body, and not before the answer."""
    hang_up: bool = False
    """Close the connection without any answer."""
    status: int | None = None
    """Answer so instead of asking the part, with `headers` and `body`."""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | str | None = None
    """Default: errors as JSON."""
    no_head: bool = False
    """Answer 405 to HEAD; other methods do not fit."""
    ignore_range: bool = False
    """Answer as if the request had no Range."""

    drop_headers: tuple[str, ...] = ()
    add_headers: tuple[tuple[str, str], ...] = ()
    """Added to what is there, so that a name can occur twice."""
    chunked: bool = False
    """Send the body in chunks, without Content-Length."""
    flip_byte: int | None = None
    """Invert this byte, counted in the body of this answer (not in the blob)."""
    cut_after: int | None = None
    """Close after so many bytes of the body; a shorter body is not cut."""
    reset: bool = False
    """Cut with a TCP reset; bytes that are still under way are then lost, too."""
    stall_after: int | None = None
    """Send nothing after so many bytes of the body until the client or the hub closes."""
    bytes_per_second: int | None = None
    """For each of these answers alone."""
    line: Line | None = None
    """For all answers together that have this line."""

    def fits(self, part: str, request: Request) -> bool:
        """Tell whether this request suffers."""
        method = "HEAD" if self.no_head else self.method
        return (
            self.part in {None, part}
            and method in {None, request.method}
            and (self.path is None or re.search(self.path, request.path) is not None)
        )

    def answer(self, request: Request, inner: Callable[[Request], Answer]) -> Answer:
        """Answer with this fault in the head; the body suffers in `pieces`."""
        if self.no_head:
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", {"Allow": "GET"})
        if self.status is not None:
            answer = self._own_answer(self.status)
        else:
            if self.ignore_range:
                request.headers.remove("Range")
            answer = inner(request)
        for name in self.drop_headers:
            answer.headers.remove(name)
        for name, value in self.add_headers:
            answer.headers.add(name, value)
        if self.chunked:
            answer.headers.remove("Content-Length")
        return answer

    def _own_answer(self, status: int) -> Answer:
        if self.body is None:
            return refusal(status, "UNKNOWN", self.headers)
        body = self.body.encode() if isinstance(self.body, str) else self.body
        headers = Headers({"Content-Type": "text/plain"})
        headers.update(dict(self.headers))
        headers.setdefault("Content-Length", str(len(body)))
        return Answer(status, headers, [body])

    def pieces(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the body as far as it goes; raise `Cut` or `Stall` at its untimely end."""
        ends = [(self.cut_after, Cut), (self.stall_after, Stall)]
        end, ending = min(
            ((at, kind) for at, kind in ends if at is not None),
            default=(None, Cut),
            key=lambda pair: pair[0],
        )
        position = 0
        if end == 0:
            raise ending
        for whole in body:
            piece = self._flipped(whole, position)
            if end is not None and position + len(piece) >= end:
                yield piece[: end - position]
                raise ending
            position += len(piece)
            yield piece

    def held(self, body: Iterable[bytes], wait_at: Callable[[Gate], None]) -> Iterator[bytes]:
        """Yield the body, and wait at the gate where it is held."""
        left = self.hold_after
        for whole in body:
            piece = whole
            if left is not None and self.gate and len(piece) >= left:
                yield piece[:left]
                wait_at(self.gate)
                piece, left = piece[left:], None
            elif left is not None:
                left -= len(piece)
            yield piece

    def _flipped(self, piece: bytes, position: int) -> bytes:
        if self.flip_byte is None or not position <= self.flip_byte < position + len(piece):
            return piece
        at = self.flip_byte - position
        return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]


def refusal(
    status: int, code: str, headers: Mapping[str, str] | None = None, message: str = ""
) -> Answer:
    """Return an error as the distribution specification writes it."""
    errors = {"errors": [{"code": code, "message": message or HTTPStatus(status).phrase}]}
    body = json.dumps(errors).encode()
    fields = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
    fields.update(dict(headers or {}))
    return Answer(status, fields, [body])


class Faults:
    """The faults that still have to happen, in the order in which they were planned."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: list[Fault] = []

    def planner(self, make: Callable[P, Fault]) -> Callable[P, Fault]:
        """Return `make` with the effect that what it makes is going to happen."""

        def fail(*args: P.args, **kwargs: P.kwargs) -> Fault:
            fault = make(*args, **kwargs)
            with self._lock:
                self._planned.append(fault)
            return fault

        return fail

    def heal(self) -> None:
        """Let nothing more go wrong."""
        with self._lock:
            self._planned.clear()

    def take(self, part: str, request: Request) -> Fault:
        """Return the first fault that fits and count it; without one, a fault that does nothing."""
        with self._lock:
            for index, fault in enumerate(self._planned):
                if not fault.fits(part, request):
                    continue
                if fault.skip:
                    self._planned[index] = dataclasses.replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times == 1:
                    del self._planned[index]
                elif fault.times is not None:
                    self._planned[index] = dataclasses.replace(fault, times=fault.times - 1)
                return fault
        return Fault()
