"""The challenge of GET /v2/, which sends clients to the token service: where it leads."""

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
"""One of those whom Docxy shows its figures by default."""
STRANGER: Final = (("X-Forwarded-For", "192.0.2.1"),)
"""One of those whom it does not."""
FORGED: Final = (("X-Forwarded-Host", "doctor.invalid"), ("X-Forwarded-Proto", "http"))
Seen = Answer | NoAnswer

HOPELESS: Final = frozenset({"upstream", "refused"})
"""What makes all further questions take long and show the same."""
_BARE: Final = "without a front, this machine's own word is believed"
_OK: Final = 200
_UNAUTHORIZED: Final = 401


def bearer(answer: Answer) -> Challenge | None:
    """Return the challenge that a token meets, or None."""
    told = parse_challenges(values(answer.headers, "www-authenticate"))
    return next((one for one in told if one.is_bearer), None)


def is_of_another(one: Answer, other: Answer) -> bool:
    """Whether two registries answered: each wants a token of its own service, or none."""
    if one.status not in {_OK, _UNAUTHORIZED}:
        return False  # by whomever: it is no registry's invitation
    first, second = (bearer(answer) for answer in (one, other))
    if first is None or second is None:
        return first is not second
    return first.parameters.get("service") != second.parameters.get("service")


def judge_ping(place: Place, answer: Answer) -> Step:
    """Say of GET /v2/ whether clients can go on from there."""
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
    # With another scheme the port is another one, too, where it is not written.
    return "realm-scheme" if led.scheme != place.scheme else ""


def _is_bare(place: Place) -> bool:
    """Whether Docxy itself is asked, by a machine that it believes."""
    return place.is_loopback and not place.is_tls


def judge_client(place: Place, told: Seen, forged: Seen) -> Step:
    """Say whether a client's own word changes what it sees of `FIGURES`.

    It says to be a `FRIEND` where it is told nothing, and a `STRANGER` otherwise.
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
    """Say whether a client's own word changes the realm that it is told."""
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
