"""Test what the server in front does to requests and responses, without any registry."""

import http.client
import io
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from app.doctor.findings import StepResult
from app.doctor.http import AGENT, NoResponse, ProbeClient, ProbeResponse, describe_error
from app.doctor.target import Endpoint
from app.oci import media_types
from app.oci.challenge import parse_challenges
from app.oci.headers import get_all

# A push whose body is sent until an answer arrives, which shows whether the front reads it first.

SIZE: Final = 2 << 20
_PIECE: Final = 64 * 1024
_PAUSE: Final = 0.1
"""Seconds to wait for an answer after each piece."""
_PATIENCE: Final = 10.0
_REST: Final = 1.0
"""Seconds to wait for each further part of an answer that has begun."""
_FAILED: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_TARGET: Final = "/v2/library/doctor/blobs/uploads/"


@dataclass(frozen=True, slots=True)
class PushResult:
    """The answer to a push, and whether it came before the whole body was sent."""

    answer: ProbeResponse | NoResponse
    is_early: bool = True


def push(line: ProbeClient) -> PushResult:
    """Push SIZE bytes of zeros, and return the answer.

    Docxy answers before it has read the body, which some fronts occasionally take for a failure.
    So a push without an answer, or with a 502 or 504, is repeated once.
    """
    pushed = _push_once(line)
    failed = isinstance(pushed.answer, NoResponse) or pushed.answer.status in _FAILED
    return _push_once(line) if failed else pushed


def _push_once(line: ProbeClient) -> PushResult:
    try:
        with line.connect(_PATIENCE) as connection:
            connection.sendall(_build_head(line))
            begun, early = _send_body(connection)
            return PushResult(_read_response(connection, begun), early)
    except (OSError, http.client.HTTPException) as error:
        return PushResult(NoResponse(describe_error(error)))


def _build_head(line: ProbeClient) -> bytes:
    fields = {
        "Host": line.endpoint.authority,
        "User-Agent": AGENT,
        "Content-Type": "application/octet-stream",
        "Content-Length": str(SIZE),
        "Connection": "close",
    }
    lines = [
        f"POST {line.endpoint.path}{_TARGET} HTTP/1.1",
        *(f"{name}: {text}" for name, text in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _send_body(connection: socket.socket) -> tuple[bytes, bool]:
    """Send the body until an answer begins; return its bytes, and whether it came early."""
    for left in range(SIZE, 0, -_PIECE):
        connection.settimeout(_PATIENCE)
        try:
            connection.sendall(bytes(min(left, _PIECE)))
        except ConnectionError:  # the other side may have answered before it hung up
            return b"", True
        connection.settimeout(_PAUSE)
        try:
            return connection.recv(_PIECE), left > _PIECE
        except TimeoutError:
            continue
    return b"", False


def _read_response(connection: socket.socket, begun: bytes) -> ProbeResponse:
    connection.settimeout(_PATIENCE)
    whole = begun or connection.recv(_PIECE)
    connection.settimeout(_REST)
    try:
        while piece := connection.recv(_PIECE):
            whole += piece
    except OSError:  # the connection was kept open, or cut: use what has arrived
        pass
    response = http.client.HTTPResponse(_BytesSocket(whole))  # type: ignore[arg-type]
    response.begin()
    with response:
        body = response.read(_PIECE)
    return ProbeResponse(
        status=response.status, headers=response.getheaders(), body=body, length=len(body)
    )


class _BytesSocket:
    """Received bytes with the one method of a socket that HTTPResponse calls."""

    def __init__(self, whole: bytes) -> None:
        self._whole = whole

    def makefile(self, mode: str) -> io.BytesIO:
        """Return a file with the bytes; `mode` is ignored."""
        del mode
        return io.BytesIO(self._whole)


PATIENCE: Final = 10.0
NOWHERE: Final = "/v2/?ns=registry.invalid"
"""Docxy always answers this itself, with NAME_UNKNOWN, because it serves no such registry."""
POSTED: Final = "/auth/token?ns=registry.invalid"
_UNKNOWN: Final = "NAME_UNKNOWN"
_TOKEN: Final = 20_000
"""In characters; the tokens of some registries are that long."""
_SLOW: Final = 0.5
"""In seconds: half of the pause that Docxy makes between the two pieces of /v2/_drip."""
_LEADS: Final = frozenset({301, 302, 303, 307, 308})
_LOSES_METHOD: Final = frozenset({301, 302, 303})
_AWAY: Final = frozenset({502, 503, 504})
_FORBIDDEN: Final = frozenset({403, 405, 501})

HOPELESS: Final = frozenset({
    "no-answer", "away", "not-docxy", "front-login", "query", "error-pages",
})  # fmt: skip
"""Findings after which a pull would show nothing more."""

ProbeOutcome = ProbeResponse | NoResponse


def try_request(
    line: ProbeClient,
    method: str,
    target: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> ProbeOutcome:
    """Send a request; return the answer, or the NoResponse that was raised."""
    try:
        return line.request(method, target, headers, patience=PATIENCE)
    except NoResponse as trouble:
        return trouble


def is_html(answer: ProbeResponse) -> bool:
    """Return whether an answer is an HTML page, and so not one of Docxy's."""
    return media_types.is_html(answer.header("content-type"))


# Plain http.


def judge_plain(place: Endpoint, answer: ProbeOutcome) -> StepResult:
    """Judge whether plain http redirects to https at the same host, and keeps the method."""
    tried = "http redirects to https"
    if isinstance(answer, NoResponse):
        return StepResult(tried, f"nothing is served: {answer}")
    location = answer.header("location")
    if answer.status not in _LEADS:
        return StepResult(tried, f"{answer} without TLS", "http-open")
    led = urlsplit(location)
    if led.scheme != "https" or led.hostname != place.host:
        return StepResult(tried, f"{answer.status} to {location}", "http-elsewhere")
    wrong = "http-method" if answer.status in _LOSES_METHOD else ""
    return StepResult(tried, f"{answer.status} to {location}", wrong)


# Whether Docxy answers.


def judge_is_docxy(answer: ProbeOutcome) -> StepResult:
    """Judge from the answer to `NOWHERE` whether Docxy is what answers."""
    tried = "Docxy answers"
    if isinstance(answer, NoResponse):
        return StepResult(tried, str(answer), "no-answer")
    if answer.header("x-request-id") and answer.header("docker-distribution-api-version"):
        return StepResult(tried, str(answer))
    if answer.status in _AWAY:
        return StepResult(tried, f"{answer}, from the front itself", "away")
    if answer.status == 404 and is_html(answer):  # noqa: PLR2004 - the status that Docxy gives
        # Docxy answers 404 here, so the front has replaced its answer or never asked it.
        return StepResult(tried, f"{answer}", "error-pages")
    if wants_login(answer):
        return StepResult(tried, f"{answer}, which asks for a login", "front-login")
    led = f" to {answer.header('location')}" if answer.status in _LEADS else ""
    return StepResult(tried, f"{answer}{led}, without Docxy's headers", "not-docxy")


def wants_login(answer: ProbeResponse) -> bool:
    """Return whether an answer has a Basic challenge and no Bearer challenge."""
    told = parse_challenges(get_all(answer.headers, "www-authenticate"))
    return any(one.is_basic for one in told) and not any(one.is_bearer for one in told)


def judge_query(answer: ProbeResponse) -> StepResult:
    """Judge whether the query of `NOWHERE` reached Docxy, and its JSON error came back."""
    tried = "query, and errors as JSON"
    if answer.error_code == _UNKNOWN:
        return StepResult(tried, str(answer))
    return StepResult(tried, str(answer), "error-pages" if is_html(answer) else "query")


# Limits of the front.


def judge_header(answer: ProbeOutcome) -> StepResult:
    """Judge from the answer to `NOWHERE` whether a long token reached Docxy."""
    tried = f"a token of {_TOKEN:,} bytes"
    return _judge_size(tried, answer, "header-size")


def judge_line(answer: ProbeOutcome) -> StepResult:
    """Judge from the answer to `NOWHERE` whether a long query reached Docxy."""
    tried = f"a URL of {_TOKEN:,} bytes"
    return _judge_size(tried, answer, "line-size")


def _judge_size(tried: str, answer: ProbeOutcome, name: str) -> StepResult:
    if isinstance(answer, NoResponse):
        return StepResult(tried, str(answer), name)
    return StepResult(tried, str(answer), "" if answer.error_code == _UNKNOWN else name)


def judge_post(answer: ProbeOutcome) -> StepResult:
    """Judge whether a POST to `POSTED` reached Docxy; some clients log in that way."""
    tried = "POST /auth/token"
    # Other faults of token requests show up with GET.
    forbidden = not isinstance(answer, NoResponse) and answer.status in _FORBIDDEN
    return StepResult(tried, str(answer), "post" if forbidden else "")


def judge_push(pushed: PushResult) -> StepResult:
    """Judge whether Docxy's refusal of a push arrived before the whole body was sent."""
    tried = f"a push of {SIZE:,} bytes"
    answer = pushed.answer
    if isinstance(answer, NoResponse):
        return StepResult(tried, str(answer), "body-size")
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return StepResult(tried, str(answer), "body-size")
    refused = answer.status == HTTPStatus.METHOD_NOT_ALLOWED and bool(answer.error_code)
    # Docxy hangs up without reading the rest of a body. A front that is still sending it may miss
    # the answer.
    if not pushed.is_early and (refused or answer.status in _AWAY):
        return StepResult(tried, f"{answer}, after the whole body", "request-buffering")
    return StepResult(tried, f"{answer}, as expected" if refused else str(answer))


def judge_drip(answer: ProbeOutcome) -> StepResult:
    """Judge whether bytes arrive as they are sent: /v2/_drip sends two pieces, a second apart."""
    tried = "bytes arrive as they are sent"
    if isinstance(answer, NoResponse):
        return StepResult(tried, str(answer), "no-answer")
    if answer.status != 200:  # noqa: PLR2004 - HTTP's
        return StepResult(tried, "", skip_reason="this Docxy has no /v2/_drip")
    first, last = answer.first_byte_seconds, answer.total_seconds
    came = f"first byte after {first:.2f} s, the last one after {last:.2f} s"
    return StepResult(tried, came, "buffering" if last - first < _SLOW else "")


# The whole examination of the front.


@dataclass(frozen=True, slots=True)
class FrontResponses:
    """The answers to the requests that show how the front is set up."""

    unknown_registry: ProbeOutcome
    long_header: ProbeOutcome
    long_query: ProbeOutcome
    token_post: ProbeOutcome
    push: PushResult
    drip: ProbeOutcome


def probe_front(line: ProbeClient) -> FrontResponses:
    """Send the requests that show how the front is set up, and return the answers."""
    token = "t" * _TOKEN
    return FrontResponses(
        unknown_registry=try_request(line, "GET", NOWHERE),
        long_header=try_request(line, "GET", NOWHERE, (("Authorization", f"Bearer {token}"),)),
        long_query=try_request(line, "GET", f"{NOWHERE}&pad={token}"),
        token_post=try_request(line, "POST", POSTED),
        push=push(line),
        drip=try_request(line, "GET", "/v2/_drip"),
    )


def judge_front(front: FrontResponses) -> Iterator[StepResult]:
    """Yield the steps for these answers; stop if it is not Docxy that answers."""
    answering = judge_is_docxy(front.unknown_registry)
    yield answering
    if answering.finding_name or isinstance(front.unknown_registry, NoResponse):
        return
    query = judge_query(front.unknown_registry)
    yield query
    if query.finding_name:
        return
    yield judge_header(front.long_header)
    yield judge_line(front.long_query)
    yield judge_post(front.token_post)
    yield judge_push(front.push)
    yield judge_drip(front.drip)
