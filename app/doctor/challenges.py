"""Check the challenge of GET /v2/, which sends clients to the token service.

Also check that a client cannot forge the proxy's name or its own address. A `judge_...` function
returns or yields the steps to report.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from app.doctor.findings import StepResult
from app.doctor.front import wants_login
from app.doctor.http import NoResponse, ProbeResponse
from app.doctor.target import Endpoint
from app.oci.challenge import Challenge, parse_challenges
from app.oci.headers import get_all

PATH: Final = "/auth/token"
FIGURES: Final = "/figures"
FRIEND: Final = (("X-Forwarded-For", "10.0.0.1"),)
"""A header that claims an address to which Docxy shows its figures by default."""
STRANGER: Final = (("X-Forwarded-For", "192.0.2.1"),)
"""A header that claims an address to which Docxy does not show them."""
FORGED: Final = (("X-Forwarded-Host", "doctor.invalid"), ("X-Forwarded-Proto", "http"))
ProbeOutcome = ProbeResponse | NoResponse

HOPELESS: Final = frozenset({"upstream", "refused"})
"""Findings after which all further requests would take long and fail in the same way."""
_BARE: Final = "without a front, this machine's headers are trusted"
_OK: Final = 200
_UNAUTHORIZED: Final = 401


def find_bearer(answer: ProbeResponse) -> Challenge | None:
    """Return the first Bearer challenge of an answer, or None if it has none."""
    told = parse_challenges(get_all(answer.headers, "www-authenticate"))
    return next((one for one in told if one.is_bearer), None)


def is_other_registry(one: ProbeResponse, other: ProbeResponse) -> bool:
    """Return whether two answers are of different registries.

    They are if their challenges name different services, or if only one has a Bearer challenge. If
    `one` is neither 200 nor 401, it shows no registry, and the result is False.
    """
    if one.status not in {_OK, _UNAUTHORIZED}:
        return False
    first, second = (find_bearer(answer) for answer in (one, other))
    if first is None or second is None:
        return first is not second
    return first.parameters.get("service") != second.parameters.get("service")


def judge_ping(place: Endpoint, answer: ProbeResponse) -> StepResult:
    """Judge whether clients can continue from the answer to GET /v2/."""
    tried = "GET /v2/"
    challenge = find_bearer(answer)
    if answer.status == _OK:
        return StepResult(tried, "200: no token is needed")
    if answer.status != _UNAUTHORIZED:
        known = {"TOOMANYREQUESTS": "pulls-spent", "UNAVAILABLE": "upstream"}
        return StepResult(tried, str(answer), known.get(answer.error_code, "refused"))
    if challenge is None and wants_login(answer):
        return StepResult(tried, "401: the registry takes logins, and no tokens")
    if challenge is None:
        return StepResult(tried, f"{answer} without a challenge for a token", "realm-path")
    realm = challenge.parameters.get("realm", "")
    return StepResult(tried, f"401, tokens are at {realm}", _find_realm_fault(place, realm))


def _find_realm_fault(place: Endpoint, realm: str) -> str:
    try:
        led = Endpoint.parse(realm.partition("?")[0].removesuffix(PATH))
    except ValueError:
        return "realm-path"
    path = urlsplit(realm).path
    if path != place.path + PATH:
        return "realm-below" if path == PATH and led.host == place.host else "realm-path"
    if led.host != place.host or (led.port != place.port and led.scheme == place.scheme):
        return "realm-host"
    # If the schemes differ, their default ports differ too, so the ports were not compared.
    return "realm-scheme" if led.scheme != place.scheme else ""


def _is_without_front(place: Endpoint) -> bool:
    """Return whether Docxy itself is tested, without a front, from a machine that it trusts."""
    return place.is_loopback and not place.is_tls


def judge_forged_client(place: Endpoint, told: ProbeOutcome, forged: ProbeOutcome) -> StepResult:
    """Judge whether a client can change what it sees of `FIGURES` with its own X-Forwarded-For.

    `told` is the answer without that header. `forged` is the answer to a client that claims to be
    a `FRIEND` if `told` was 403, and a `STRANGER` otherwise.
    """
    tried = "forged X-Forwarded-For"
    if _is_without_front(place):
        return StepResult(tried, "", skip_reason=_BARE)
    other = {HTTPStatus.FORBIDDEN: HTTPStatus.OK, HTTPStatus.OK: HTTPStatus.FORBIDDEN}
    if isinstance(told, NoResponse) or told.status not in other:
        return StepResult(tried, "", skip_reason="the figures, which would show it, are off")
    if not isinstance(forged, NoResponse) and forged.status == other[HTTPStatus(told.status)]:
        return StepResult(tried, "trusted", "forged-client")
    return StepResult(tried, "ignored")


def judge_forged_host(
    place: Endpoint, answer: ProbeResponse, forged: ProbeOutcome
) -> Iterator[StepResult]:
    """Judge whether a client can change the realm it gets with its own X-Forwarded-Host."""
    tried = "forged X-Forwarded-Host"
    if _is_without_front(place):
        yield StepResult(tried, "", skip_reason=_BARE)
        return
    told = find_bearer(answer)
    changed = None if isinstance(forged, NoResponse) else find_bearer(forged)
    if told is None or changed is None:
        yield StepResult(tried, "", skip_reason="there is no challenge, which would show it")
        return
    realm = changed.parameters.get("realm", "")
    believed = realm != told.parameters.get("realm", "")
    came = f"tokens are at {realm}" if believed else "ignored"
    yield StepResult(tried, came, "spoofing" if believed else "")
