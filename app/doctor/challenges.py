"""Check the challenge of GET /v2/, which sends clients to the token service.

Also check that a client cannot forge the proxy's name or its own address. A `judge_...` function
returns or yields the steps to report.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from app.doctor.findings import Step
from app.doctor.front import wants_login
from app.doctor.http import Answer, NoAnswer
from app.doctor.target import Place
from app.oci.challenge import Challenge, parse_challenges
from app.oci.headers import values

PATH: Final = "/auth/token"
FIGURES: Final = "/figures"
FRIEND: Final = (("X-Forwarded-For", "10.0.0.1"),)
"""A header that claims an address to which Docxy shows its figures by default."""
STRANGER: Final = (("X-Forwarded-For", "192.0.2.1"),)
"""A header that claims an address to which Docxy does not show them."""
FORGED: Final = (("X-Forwarded-Host", "doctor.invalid"), ("X-Forwarded-Proto", "http"))
Seen = Answer | NoAnswer

HOPELESS: Final = frozenset({"upstream", "refused"})
"""Findings after which all further requests would take long and fail in the same way."""
_BARE: Final = "without a front, this machine's own word is believed"
_OK: Final = 200
_UNAUTHORIZED: Final = 401


def bearer(answer: Answer) -> Challenge | None:
    """Return the first Bearer challenge of an answer, or None."""
    told = parse_challenges(values(answer.headers, "www-authenticate"))
    return next((one for one in told if one.is_bearer), None)


def is_of_another(one: Answer, other: Answer) -> bool:
    """Return whether two answers are of different registries.

    They are if their challenges name different services, or if only one has a Bearer challenge. If
    `one` is neither 200 nor 401, it does not tell, and the result is False.
    """
    if one.status not in {_OK, _UNAUTHORIZED}:
        return False
    first, second = (bearer(answer) for answer in (one, other))
    if first is None or second is None:
        return first is not second
    return first.parameters.get("service") != second.parameters.get("service")


def judge_ping(place: Place, answer: Answer) -> Step:
    """Judge whether clients can continue from the answer to GET /v2/."""
    tried = "GET /v2/"
    challenge = bearer(answer)
    if answer.status == _OK:
        return Step(tried, "200: no token is needed")
    if answer.status != _UNAUTHORIZED:
        known = {"TOOMANYREQUESTS": "pulls-spent", "UNAVAILABLE": "upstream"}
        return Step(tried, str(answer), known.get(answer.code, "refused"))
    if challenge is None and wants_login(answer):
        return Step(tried, "401: a login is needed, and there are no tokens")
    if challenge is None:
        return Step(tried, f"{answer} without a challenge that a token meets", "realm-path")
    realm = challenge.parameters.get("realm", "")
    return Step(tried, f"401, tokens are at {realm}", _wrong_realm(place, realm))


def _wrong_realm(place: Place, realm: str) -> str:
    try:
        led = Place.parse(realm.partition("?")[0].removesuffix(PATH))
    except ValueError:
        return "realm-path"
    path = urlsplit(realm).path
    if path != place.path + PATH:
        return "realm-below" if path == PATH and led.host == place.host else "realm-path"
    if led.host != place.host or (led.port != place.port and led.scheme == place.scheme):
        return "realm-host"
    # If the schemes differ, their default ports differ too, so the ports were not compared.
    return "realm-scheme" if led.scheme != place.scheme else ""


def _is_bare(place: Place) -> bool:
    """Return whether Docxy itself is tested, without a front, from a machine that it trusts."""
    return place.is_loopback and not place.is_tls


def judge_client(place: Place, told: Seen, forged: Seen) -> Step:
    """Judge whether a client can change what it sees of `FIGURES` with its own X-Forwarded-For.

    `told` is the answer without that header. `forged` is the answer to a client that claims to be
    a `FRIEND` if `told` was 403, and a `STRANGER` otherwise.
    """
    tried = "X-Forwarded-For of a client's own"
    if _is_bare(place):
        return Step(tried, "", skipped=_BARE)
    other = {HTTPStatus.FORBIDDEN: HTTPStatus.OK, HTTPStatus.OK: HTTPStatus.FORBIDDEN}
    if isinstance(told, NoAnswer) or told.status not in other:
        return Step(tried, "", skipped="there are no figures to see it by")
    if not isinstance(forged, NoAnswer) and forged.status == other[HTTPStatus(told.status)]:
        return Step(tried, "is believed", "forged-client")
    return Step(tried, "changes nothing")


def judge_forged(place: Place, answer: Answer, forged: Seen) -> Iterator[Step]:
    """Judge whether a client can change the realm it gets with its own X-Forwarded-Host."""
    tried = "X-Forwarded-Host of a client's own"
    if _is_bare(place):
        yield Step(tried, "", skipped=_BARE)
        return
    told = bearer(answer)
    changed = None if isinstance(forged, NoAnswer) else bearer(forged)
    if told is None or changed is None:
        yield Step(tried, "", skipped="there is no challenge to see it by")
        return
    realm = changed.parameters.get("realm", "")
    believed = realm != told.parameters.get("realm", "")
    came = f"tokens are at {realm}" if believed else "is not believed"
    yield Step(tried, came, "spoofing" if believed else "")
