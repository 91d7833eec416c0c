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
_CHUNK_SIZE: Final = 64 * 1024
_ANSWER_WAIT: Final = 0.1
"""Seconds to wait for an answer after each piece."""
_TIMEOUT: Final = 10.0
_REST_TIMEOUT: Final = 1.0
"""Seconds to wait for each further part of an answer that has begun."""
_RETRIED_STATUSES: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_PUSH_TARGET: Final = "/v2/library/doctor/blobs/uploads/"


@dataclass(frozen=True, slots=True)
class PushResult:
    """The answer to a push, and whether it came before the whole body was sent."""

    answer: ProbeResponse | NoResponse
    is_early: bool = True


def push(client: ProbeClient) -> PushResult:
    """Push SIZE bytes of zeros, and return the answer.

    Docxy answers before it has read the body, which some fronts occasionally take for a failure.
    So a push without an answer, or with a 502 or 504, is repeated once.
    """
    result = _push_once(client)
    has_failed = isinstance(result.answer, NoResponse) or result.answer.status in _RETRIED_STATUSES
    return _push_once(client) if has_failed else result


def _push_once(client: ProbeClient) -> PushResult:
    try:
        with client.connect(_TIMEOUT) as connection:
            connection.sendall(_build_head(client))
            received, is_early = _send_body(connection)
            return PushResult(_read_response(connection, received), is_early)
    except (OSError, http.client.HTTPException) as error:
        return PushResult(NoResponse(describe_error(error)))


def _build_head(client: ProbeClient) -> bytes:
    fields = {
        "Host": client.endpoint.authority,
        "User-Agent": AGENT,
        "Content-Type": "application/octet-stream",
        "Content-Length": str(SIZE),
        "Connection": "close",
    }
    lines = [
        f"POST {client.endpoint.path}{_PUSH_TARGET} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _send_body(connection: socket.socket) -> tuple[bytes, bool]:
    """Send the body until an answer begins; return its bytes, and whether it came early."""
    for remaining in range(SIZE, 0, -_CHUNK_SIZE):
        connection.settimeout(_TIMEOUT)
        try:
            connection.sendall(bytes(min(remaining, _CHUNK_SIZE)))
        except ConnectionError:  # the other side may have answered before it hung up
            return b"", True
        connection.settimeout(_ANSWER_WAIT)
        try:
            return connection.recv(_CHUNK_SIZE), remaining > _CHUNK_SIZE
        except TimeoutError:
            continue
    return b"", False


def _read_response(connection: socket.socket, received: bytes) -> ProbeResponse:
    connection.settimeout(_TIMEOUT)
    data = received or connection.recv(_CHUNK_SIZE)
    connection.settimeout(_REST_TIMEOUT)
    try:
        while chunk := connection.recv(_CHUNK_SIZE):
            data += chunk
    except OSError:  # the connection was kept open, or cut: use what has arrived
        pass
    response = http.client.HTTPResponse(_BytesSocket(data))  # type: ignore[arg-type]
    response.begin()
    with response:
        body = response.read(_CHUNK_SIZE)
    return ProbeResponse(
        status=response.status, headers=response.getheaders(), body=body, length=len(body)
    )


class _BytesSocket:
    """Received bytes with the one method of a socket that HTTPResponse calls."""

    def __init__(self, data: bytes) -> None:
        self._whole = data

    def makefile(self, mode: str) -> io.BytesIO:
        """Return a file with the bytes; `mode` is ignored."""
        del mode
        return io.BytesIO(self._whole)


PATIENCE: Final = 10.0
NOWHERE: Final = "/v2/?ns=registry.invalid"
"""Docxy always answers this itself, with NAME_UNKNOWN, because it serves no such registry."""
POSTED: Final = "/auth/token?ns=registry.invalid"
_NAME_UNKNOWN: Final = "NAME_UNKNOWN"
_LONG_TOKEN_LENGTH: Final = 20_000
"""In characters; the tokens of some registries are that long."""
_MIN_DRIP_DELAY: Final = 0.5
"""In seconds: half of the pause that Docxy makes between the two pieces of /v2/_drip."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LOSES_METHOD: Final = frozenset({301, 302, 303})
_GATEWAY_ERRORS: Final = frozenset({502, 503, 504})
_METHOD_REFUSALS: Final = frozenset({403, 405, 501})

HOPELESS: Final = frozenset({
    "no-answer", "away", "not-docxy", "front-login", "query", "error-pages",
})  # fmt: skip
"""Findings after which a pull would show nothing more."""

ProbeOutcome = ProbeResponse | NoResponse


def try_request(
    client: ProbeClient,
    method: str,
    target: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> ProbeOutcome:
    """Send a request; return the answer, or the NoResponse that was raised."""
    try:
        return client.request(method, target, headers, patience=PATIENCE)
    except NoResponse as error:
        return error


def is_html(response: ProbeResponse) -> bool:
    """Return whether an answer is an HTML page, and so not one of Docxy's."""
    return media_types.is_html(response.header("content-type"))


# Plain http.


def judge_plain(endpoint: Endpoint, response: ProbeOutcome) -> StepResult:
    """Judge whether plain http redirects to https at the same host, and keeps the method."""
    action = "http redirects to https"
    if isinstance(response, NoResponse):
        return StepResult(action, f"nothing is served: {response}")
    location = response.header("location")
    if response.status not in _REDIRECTS:
        return StepResult(action, f"{response} without TLS", "http-open")
    target = urlsplit(location)
    if target.scheme != "https" or target.hostname != endpoint.host:
        return StepResult(action, f"{response.status} to {location}", "http-elsewhere")
    finding = "http-method" if response.status in _LOSES_METHOD else ""
    return StepResult(action, f"{response.status} to {location}", finding)


# Whether Docxy answers.


def judge_is_docxy(response: ProbeOutcome) -> StepResult:
    """Judge from the answer to `NOWHERE` whether Docxy is what answers."""
    action = "Docxy answers"
    if isinstance(response, NoResponse):
        return StepResult(action, str(response), "no-answer")
    if response.header("x-request-id") and response.header("docker-distribution-api-version"):
        return StepResult(action, str(response))
    if response.status in _GATEWAY_ERRORS:
        return StepResult(action, f"{response}, from the front itself", "away")
    if response.status == 404 and is_html(response):  # noqa: PLR2004 - the status that Docxy gives
        # Docxy answers 404 here, so the front has replaced its answer or never asked it.
        return StepResult(action, f"{response}", "error-pages")
    if wants_login(response):
        return StepResult(action, f"{response}, which asks for a login", "front-login")
    suffix = f" to {response.header('location')}" if response.status in _REDIRECTS else ""
    return StepResult(action, f"{response}{suffix}, without Docxy's headers", "not-docxy")


def wants_login(response: ProbeResponse) -> bool:
    """Return whether an answer has a Basic challenge and no Bearer challenge."""
    challenges = parse_challenges(get_all(response.headers, "www-authenticate"))
    return any(challenge.is_basic for challenge in challenges) and not any(
        challenge.is_bearer for challenge in challenges
    )


def judge_query(response: ProbeResponse) -> StepResult:
    """Judge whether the query of `NOWHERE` reached Docxy, and its JSON error came back."""
    action = "query, and errors as JSON"
    if response.error_code == _NAME_UNKNOWN:
        return StepResult(action, str(response))
    return StepResult(action, str(response), "error-pages" if is_html(response) else "query")


# Limits of the front.


def judge_header(response: ProbeOutcome) -> StepResult:
    """Judge from the answer to `NOWHERE` whether a long token reached Docxy."""
    action = f"a token of {_LONG_TOKEN_LENGTH:,} bytes"
    return _judge_size(action, response, "header-size")


def judge_line(response: ProbeOutcome) -> StepResult:
    """Judge from the answer to `NOWHERE` whether a long query reached Docxy."""
    action = f"a URL of {_LONG_TOKEN_LENGTH:,} bytes"
    return _judge_size(action, response, "line-size")


def _judge_size(action: str, response: ProbeOutcome, finding: str) -> StepResult:
    if isinstance(response, NoResponse):
        return StepResult(action, str(response), finding)
    return StepResult(
        action, str(response), "" if response.error_code == _NAME_UNKNOWN else finding
    )


def judge_post(response: ProbeOutcome) -> StepResult:
    """Judge whether a POST to `POSTED` reached Docxy; some clients log in that way."""
    action = "POST /auth/token"
    # Other faults of token requests show up with GET.
    is_forbidden = not isinstance(response, NoResponse) and response.status in _METHOD_REFUSALS
    return StepResult(action, str(response), "post" if is_forbidden else "")


def judge_push(result: PushResult) -> StepResult:
    """Judge whether Docxy's refusal of a push arrived before the whole body was sent."""
    action = f"a push of {SIZE:,} bytes"
    response = result.answer
    if isinstance(response, NoResponse):
        return StepResult(action, str(response), "body-size")
    if response.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return StepResult(action, str(response), "body-size")
    is_refused = response.status == HTTPStatus.METHOD_NOT_ALLOWED and bool(response.error_code)
    # Docxy hangs up without reading the rest of a body. A front that is still sending it may miss
    # the answer.
    if not result.is_early and (is_refused or response.status in _GATEWAY_ERRORS):
        return StepResult(action, f"{response}, after the whole body", "request-buffering")
    return StepResult(action, f"{response}, as expected" if is_refused else str(response))


def judge_drip(response: ProbeOutcome) -> StepResult:
    """Judge whether bytes arrive as they are sent: /v2/_drip sends two pieces, a second apart."""
    action = "bytes arrive as they are sent"
    if isinstance(response, NoResponse):
        return StepResult(action, str(response), "no-answer")
    if response.status != 200:  # noqa: PLR2004 - HTTP's
        return StepResult(action, "", skip_reason="this Docxy has no /v2/_drip")
    first, last = response.first_byte_seconds, response.total_seconds
    outcome = f"first byte after {first:.2f} s, the last one after {last:.2f} s"
    return StepResult(action, outcome, "buffering" if last - first < _MIN_DRIP_DELAY else "")


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


def probe_front(client: ProbeClient) -> FrontResponses:
    """Send the requests that show how the front is set up, and return the answers."""
    token = "t" * _LONG_TOKEN_LENGTH
    return FrontResponses(
        unknown_registry=try_request(client, "GET", NOWHERE),
        long_header=try_request(client, "GET", NOWHERE, (("Authorization", f"Bearer {token}"),)),
        long_query=try_request(client, "GET", f"{NOWHERE}&pad={token}"),
        token_post=try_request(client, "POST", POSTED),
        push=push(client),
        drip=try_request(client, "GET", "/v2/_drip"),
    )


def judge_front(responses: FrontResponses) -> Iterator[StepResult]:
    """Yield the steps for these answers; stop if it is not Docxy that answers."""
    docxy_step = judge_is_docxy(responses.unknown_registry)
    yield docxy_step
    if docxy_step.finding_name or isinstance(responses.unknown_registry, NoResponse):
        return
    query_step = judge_query(responses.unknown_registry)
    yield query_step
    if query_step.finding_name:
        return
    yield judge_header(responses.long_header)
    yield judge_line(responses.long_query)
    yield judge_post(responses.token_post)
    yield judge_push(responses.push)
    yield judge_drip(responses.drip)
