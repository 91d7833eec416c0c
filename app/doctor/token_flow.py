"""Request a manifest as clients do: without a token, then for a token, then with it."""

import email.utils
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlsplit

from app.doctor.challenges import PATH, find_bearer
from app.doctor.findings import StepResult
from app.doctor.front import is_html, wants_login
from app.doctor.http import ProbeClient, ProbeResponse
from app.doctor.target import UserCredentials
from app.oci import tokens
from app.oci.challenge import Challenge
from app.oci.headers import Headers
from app.oci.manifest import INDEXES, MANIFESTS
from app.oci.scope import Scope

# The pulls that are left, and the clocks.

_LOW: Final = 10
"""Per cent of the limit below which few pulls are left."""
_SKEW: Final = 60.0
"""In seconds: as long as the shortest lifetime of a token."""
_OLDEST: Final = 300.0
"""Seconds for which Docxy may have kept a token that does not state its lifetime."""


def judge_pulls(head: ProbeResponse) -> StepResult:
    """Judge the pulls that are left, by the RateLimit headers of an answer for a manifest."""
    tried = "pulls left"
    limit, remaining = (
        _parse_count(head, name) for name in ("ratelimit-limit", "ratelimit-remaining")
    )
    if limit is None or remaining is None:
        return StepResult(tried, "", skip_reason="the registry does not report them")
    came = f"{remaining} of {limit}"
    if not remaining:
        return StepResult(tried, came, "pulls-spent")
    return StepResult(tried, came, "pulls-low" if remaining * 100 < limit * _LOW else "")


def _parse_count(answer: ProbeResponse, name: str) -> int | None:
    """Return the count in a header like `76;w=21600`, or None if there is none."""
    text = answer.header(name).partition(";")[0].strip()
    return int(text) if text.isascii() and text.isdigit() else None


def judge_clocks(answer: ProbeResponse, token: ProbeResponse | None) -> Iterator[StepResult]:
    """Compare this machine's clock with the proxy's, and the proxy's with the token service's.

    The proxy's time is the Date of `answer`; the token service's is `issued_at` in `token`.
    """
    date = email.utils.parsedate_tz(answer.header("date"))
    if date is None:
        yield StepResult("clock", "", skip_reason="the response has no Date")
        return
    there = email.utils.mktime_tz(date)
    ahead = answer.received_at - there
    issued = _parse_issued_at(token.document) if token and token.received_at else None
    if token is not None and issued is not None:
        # The token's age on the proxy's clock when the token arrived.
        age = token.received_at - ahead - issued
        lived = _parse_lifetime(token.document.get("expires_in")) or _OLDEST
        wrong = not -_SKEW <= age <= lived + _SKEW
        came = f"by the proxy's clock, a token was issued {age:.0f} s before it arrived"
        yield StepResult("clock of the proxy", came, "clock-proxy" if wrong else "")
        if wrong:
            return
    came = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the proxy's"
    yield StepResult("clock here", came, "clock-here" if abs(ahead) > _SKEW else "")


def _parse_issued_at(document: dict[str, object]) -> float | None:
    try:
        return datetime.fromisoformat(str(document.get("issued_at", ""))).timestamp()
    except ValueError:
        return None


def _parse_lifetime(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


OK: Final = 200
_UNAUTHORIZED: Final = 401
_OWN_SERVICE: Final = "docxy"
"""The `service` in the challenge of a proxy that has its own users."""
_NOT_FOUND: Final = 404
_AWAY: Final = frozenset({502, 503, 504})
ACCEPT: Final = [("Accept", ", ".join([*INDEXES, *MANIFESTS]))]


@dataclass(frozen=True, slots=True)
class TokenFlow:
    """The answers to a HEAD of a manifest, to the token request, and to the HEAD with the token.

    If no token is needed, `head` is `first` and `token` is None. If there is no token, `head` is
    None.
    """

    name: str
    """The repository name that was requested."""
    first: ProbeResponse
    token: ProbeResponse | None
    head: ProbeResponse | None
    user: str = ""
    """The user who requested the token, or "" if the request was anonymous."""

    @property
    def has_succeeded(self) -> bool:
        """Whether the last HEAD succeeded."""
        return self.head is not None and self.head.status == OK

    @property
    def authorization(self) -> Headers:
        """The Authorization header for further requests; empty if there is no token."""
        text = tokens.get_token(self.token.document) if self.token else ""
        return [("Authorization", f"Bearer {text}")] if text else []


def run_token_flow(
    line: ProbeClient, name: str, target: str, login: UserCredentials | None = None
) -> TokenFlow:
    """Send a HEAD for a manifest, with a token if one is needed; raise NoResponse.

    The login is sent only to a proxy that has its own users.
    """
    first = line.request("HEAD", target, ACCEPT)
    challenge = find_bearer(first)
    if first.status != _UNAUTHORIZED or challenge is None:
        return TokenFlow(name, first, None, first)
    shown = login if login and _has_users(challenge) else None
    user = shown.user if shown else ""
    token = line.get(_build_token_target(challenge), [shown.authorization_header] if shown else [])
    text = tokens.get_token(token.document)
    if token.status != OK or not text:
        return TokenFlow(name, first, token, None, user)
    head = line.request("HEAD", target, [*ACCEPT, ("Authorization", f"Bearer {text}")])
    return TokenFlow(name, first, token, head, user)


def _has_users(challenge: Challenge) -> bool:
    return challenge.parameters.get("service") == _OWN_SERVICE


def _build_token_target(challenge: Challenge) -> str:
    """Return the target of the token request: this proxy's endpoint, wherever the realm points."""
    realm = urlsplit(challenge.parameters.get("realm", ""))
    told = {key: challenge.parameters.get(key, "") for key in ("service", "scope")}
    query = [f"{key}={quote(value, safe='')}" for key, value in told.items() if value]
    return f"{PATH}?{'&'.join(filter(None, [realm.query, *query]))}"


def judge_token_flow(knock: TokenFlow, tried: str) -> Iterator[StepResult]:
    """Yield the steps for a flow: the challenge's scope, the token, and the manifest's HEAD."""
    if wrong := _find_refusal(knock.first):
        yield StepResult(tried, str(knock.first), wrong)
        return
    challenge = find_bearer(knock.first)
    if knock.token and challenge:
        scope = challenge.parameters.get("scope", "")
        right = str(Scope.of_repository(knock.name)) in scope.split()
        yield StepResult(f"{tried}: scope", scope or "none", "" if right else "scope")
        refused = _judge_login_refusal(knock.token, knock.user) if _has_users(challenge) else None
        yield refused or _judge_token(tried, knock.token, knock.user)
    if knock.head:
        yield _judge_head(tried, knock.head, _explain_unauthorized(knock, knock.head))


def _find_refusal(answer: ProbeResponse) -> str:
    """Return the finding for an answer that is neither 200 nor 401; "" for one that is."""
    known = {429: "pulls-spent", 404: "image", 502: "refused", 503: "upstream", 504: "upstream"}
    if answer.status in {OK, _UNAUTHORIZED}:
        return ""
    if is_html(answer):  # a limit or firewall of the front, not the registry
        return "error-pages" if answer.status == _NOT_FOUND else "refused"
    return known.get(answer.status, "refused")


def _judge_login_refusal(token: ProbeResponse, user: str) -> StepResult | None:
    """Return the step for a refused login; None if the proxy, which has users, accepts it."""
    tried = f"login as {user}"
    if token.error_code == "TOOMANYREQUESTS":
        return StepResult(tried if user else "login", str(token), "wait")
    if token.status != _UNAUTHORIZED:
        return None
    if user:
        return StepResult(tried, str(token), "login")
    return StepResult("login", "", skip_reason="this proxy has users; log in with --user NAME")


def _judge_token(tried: str, token: ProbeResponse, user: str) -> StepResult:
    tried = f"{tried}: token"
    if token.status == OK and (text := tokens.get_token(token.document)):
        owner = f" for {user}" if user else ""
        return StepResult(tried, f"a token of {len(text):,} characters{owner}")
    if token.error_code == "TOOMANYREQUESTS":
        return StepResult(tried, str(token), "pulls-spent")
    if token.status in _AWAY and not is_html(token):
        return StepResult(tried, str(token), "upstream")
    return StepResult(tried, str(token), "token")


def _explain_unauthorized(knock: TokenFlow, head: ProbeResponse) -> str:
    """Return the finding for a 401 with a token, or for a first one without a Bearer challenge."""
    if knock.token is None:
        return "image" if wants_login(head) else "realm-path"
    challenge = find_bearer(head)
    # By RFC 6750, section 3.1, a registry that has received a token says what is wrong with it.
    error = challenge.parameters.get("error", "") if challenge else ""
    return {"": "authorization", "insufficient_scope": "image"}.get(error, "refused")


def _judge_head(tried: str, head: ProbeResponse, unauthorized: str) -> StepResult:
    tried = f"{tried}: HEAD of the manifest"
    if head.status == OK:
        digest = head.header("docker-content-digest")
        return StepResult(tried, f"200, {digest or 'no digest'}", "" if digest else "digest-header")
    if head.status == _UNAUTHORIZED:
        return StepResult(tried, str(head), unauthorized)
    return StepResult(tried, str(head), _find_refusal(head))
