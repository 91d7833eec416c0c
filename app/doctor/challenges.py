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
_NO_FRONT: Final = "without a front, this machine's headers are trusted"
_OK: Final = 200
_UNAUTHORIZED: Final = 401


def find_bearer(response: ProbeResponse) -> Challenge | None:
    """Return the first Bearer challenge of an answer, or None if it has none."""
    challenges = parse_challenges(get_all(response.headers, "www-authenticate"))
    return next((challenge for challenge in challenges if challenge.is_bearer), None)


def is_other_registry(first_response: ProbeResponse, second_response: ProbeResponse) -> bool:
    """Return whether two answers are of different registries.

    They are if their challenges name different services, or if only one has a Bearer challenge. If
    `first_response` is neither 200 nor 401, it shows no registry, and the result is False.
    """
    if first_response.status not in {_OK, _UNAUTHORIZED}:
        return False
    first, second = (find_bearer(response) for response in (first_response, second_response))
    if first is None or second is None:
        return first is not second
    return first.parameters.get("service") != second.parameters.get("service")


def judge_ping(endpoint: Endpoint, response: ProbeResponse) -> StepResult:
    """Judge whether clients can continue from the answer to GET /v2/."""
    action = "GET /v2/"
    challenge = find_bearer(response)
    if response.status == _OK:
        return StepResult(action, "200: no token is needed")
    if response.status != _UNAUTHORIZED:
        findings = {"TOOMANYREQUESTS": "pulls-spent", "UNAVAILABLE": "upstream"}
        return StepResult(action, str(response), findings.get(response.error_code, "refused"))
    if challenge is None and wants_login(response):
        return StepResult(action, "401: the registry takes logins, and no tokens")
    if challenge is None:
        return StepResult(action, f"{response} without a challenge for a token", "realm-path")
    realm = challenge.parameters.get("realm", "")
    return StepResult(action, f"401, tokens are at {realm}", _find_realm_fault(endpoint, realm))


def _find_realm_fault(endpoint: Endpoint, realm: str) -> str:
    try:
        target = Endpoint.parse(realm.partition("?")[0].removesuffix(PATH))
    except ValueError:
        return "realm-path"
    path = urlsplit(realm).path
    if path != endpoint.path + PATH:
        return "realm-below" if path == PATH and target.host == endpoint.host else "realm-path"
    if target.host != endpoint.host or (
        target.port != endpoint.port and target.scheme == endpoint.scheme
    ):
        return "realm-host"
    # If the schemes differ, their default ports differ too, so the ports were not compared.
    return "realm-scheme" if target.scheme != endpoint.scheme else ""


def _is_without_front(endpoint: Endpoint) -> bool:
    """Return whether Docxy itself is tested, without a front, from a machine that it trusts."""
    return endpoint.is_loopback and not endpoint.is_tls


def judge_forged_client(
    endpoint: Endpoint, honest: ProbeOutcome, forged: ProbeOutcome
) -> StepResult:
    """Judge whether a client can change what it sees of `FIGURES` with its own X-Forwarded-For.

    `honest` is the answer without that header. `forged` is the answer to a client that claims to be
    a `FRIEND` if `honest` was 403, and a `STRANGER` otherwise.
    """
    action = "forged X-Forwarded-For"
    if _is_without_front(endpoint):
        return StepResult(action, "", skip_reason=_NO_FRONT)
    opposite = {HTTPStatus.FORBIDDEN: HTTPStatus.OK, HTTPStatus.OK: HTTPStatus.FORBIDDEN}
    if isinstance(honest, NoResponse) or honest.status not in opposite:
        return StepResult(action, "", skip_reason="the figures, which would show it, are off")
    if not isinstance(forged, NoResponse) and forged.status == opposite[HTTPStatus(honest.status)]:
        return StepResult(action, "trusted", "forged-client")
    return StepResult(action, "ignored")


def judge_forged_host(
    endpoint: Endpoint, response: ProbeResponse, forged: ProbeOutcome
) -> Iterator[StepResult]:
    """Judge whether a client can change the realm it gets with its own X-Forwarded-Host."""
    action = "forged X-Forwarded-Host"
    if _is_without_front(endpoint):
        yield StepResult(action, "", skip_reason=_NO_FRONT)
        return
    honest_challenge = find_bearer(response)
    forged_challenge = None if isinstance(forged, NoResponse) else find_bearer(forged)
    if honest_challenge is None or forged_challenge is None:
        yield StepResult(action, "", skip_reason="there is no challenge, which would show it")
        return
    realm = forged_challenge.parameters.get("realm", "")
    is_believed = realm != honest_challenge.parameters.get("realm", "")
    outcome = f"tokens are at {realm}" if is_believed else "ignored"
    yield StepResult(action, outcome, "spoofing" if is_believed else "")
