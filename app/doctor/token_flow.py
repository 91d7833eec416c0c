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

_LOW_PERCENT: Final = 10
"""Per cent of the limit below which few pulls are left."""
_CLOCK_SKEW: Final = 60.0
"""In seconds: as long as the shortest lifetime of a token."""
_MAX_TOKEN_AGE: Final = 300.0
"""Seconds for which Docxy may have kept a token that does not state its lifetime."""


def judge_pulls(head: ProbeResponse) -> StepResult:
    """Judge the pulls that are left, by the RateLimit headers of an answer for a manifest."""
    action = "pulls left"
    limit, remaining = (
        _parse_count(head, name) for name in ("ratelimit-limit", "ratelimit-remaining")
    )
    if limit is None or remaining is None:
        return StepResult(action, "", skip_reason="the registry does not report them")
    outcome = f"{remaining} of {limit}"
    if not remaining:
        return StepResult(action, outcome, "pulls-spent")
    return StepResult(
        action, outcome, "pulls-low" if remaining * 100 < limit * _LOW_PERCENT else ""
    )


def _parse_count(response: ProbeResponse, name: str) -> int | None:
    """Return the count in a header like `76;w=21600`; None if the header has no count."""
    text = response.header(name).partition(";")[0].strip()
    return int(text) if text.isascii() and text.isdigit() else None


def judge_clocks(response: ProbeResponse, token: ProbeResponse | None) -> Iterator[StepResult]:
    """Compare this machine's clock with the proxy's, and the proxy's with the token service's.

    The proxy's time is the Date of `response`; the token service's is `issued_at` in `token`.
    """
    date = email.utils.parsedate_tz(response.header("date"))
    if date is None:
        yield StepResult("clock", "", skip_reason="the response has no Date")
        return
    proxy_time = email.utils.mktime_tz(date)
    ahead = response.received_at - proxy_time
    issued_at = _parse_issued_at(token.document) if token and token.received_at else None
    if token is not None and issued_at is not None:
        # The token's age on the proxy's clock when the token arrived.
        age = token.received_at - ahead - issued_at
        lifetime = _parse_lifetime(token.document.get("expires_in")) or _MAX_TOKEN_AGE
        is_wrong = not -_CLOCK_SKEW <= age <= lifetime + _CLOCK_SKEW
        outcome = f"by the proxy's clock, a token was issued {age:.0f} s before it arrived"
        yield StepResult("clock of the proxy", outcome, "clock-proxy" if is_wrong else "")
        if is_wrong:
            return
    outcome = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the proxy's"
    yield StepResult("clock here", outcome, "clock-here" if abs(ahead) > _CLOCK_SKEW else "")


def _parse_issued_at(document: dict[str, object]) -> float | None:
    try:
        return datetime.fromisoformat(str(document.get("issued_at", ""))).timestamp()
    except ValueError:
        return None


def _parse_lifetime(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


OK: Final = 200
_UNAUTHORIZED: Final = 401
_DOCXY_SERVICE: Final = "docxy"
"""The `service` in the challenge of a proxy that has its own users."""
_NOT_FOUND: Final = 404
_GATEWAY_ERRORS: Final = frozenset({502, 503, 504})
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
    client: ProbeClient, name: str, target: str, login: UserCredentials | None = None
) -> TokenFlow:
    """Send a HEAD for a manifest, with a token if one is needed; may raise NoResponse.

    The login is sent only to a proxy that has its own users.
    """
    first = client.request("HEAD", target, ACCEPT)
    challenge = find_bearer(first)
    if first.status != _UNAUTHORIZED or challenge is None:
        return TokenFlow(name, first, None, first)
    credentials = login if login and _has_users(challenge) else None
    user = credentials.user if credentials else ""
    token = client.get(
        _build_token_target(challenge), [credentials.authorization_header] if credentials else []
    )
    text = tokens.get_token(token.document)
    if token.status != OK or not text:
        return TokenFlow(name, first, token, None, user)
    head = client.request("HEAD", target, [*ACCEPT, ("Authorization", f"Bearer {text}")])
    return TokenFlow(name, first, token, head, user)


def _has_users(challenge: Challenge) -> bool:
    return challenge.parameters.get("service") == _DOCXY_SERVICE


def _build_token_target(challenge: Challenge) -> str:
    """Return the target of the token request: this proxy's endpoint, wherever the realm points."""
    realm = urlsplit(challenge.parameters.get("realm", ""))
    parameters = {key: challenge.parameters.get(key, "") for key in ("service", "scope")}
    query = [f"{key}={quote(value, safe='')}" for key, value in parameters.items() if value]
    return f"{PATH}?{'&'.join(filter(None, [realm.query, *query]))}"


def judge_token_flow(flow: TokenFlow, action: str) -> Iterator[StepResult]:
    """Yield the steps for a flow: the challenge's scope, the token, and the manifest's HEAD."""
    if finding := _find_refusal(flow.first):
        yield StepResult(action, str(flow.first), finding)
        return
    challenge = find_bearer(flow.first)
    if flow.token and challenge:
        scope = challenge.parameters.get("scope", "")
        is_right = str(Scope.of_repository(flow.name)) in scope.split()
        yield StepResult(f"{action}: scope", scope or "none", "" if is_right else "scope")
        login_step = _judge_login_refusal(flow.token, flow.user) if _has_users(challenge) else None
        yield login_step or _judge_token(action, flow.token, flow.user)
    if flow.head:
        yield _judge_head(action, flow.head, _explain_unauthorized(flow, flow.head))


def _find_refusal(response: ProbeResponse) -> str:
    """Return the finding for an answer that is neither 200 nor 401; "" for one that is."""
    findings = {429: "pulls-spent", 404: "image", 502: "refused", 503: "upstream", 504: "upstream"}
    if response.status in {OK, _UNAUTHORIZED}:
        return ""
    if is_html(response):  # a limit or firewall of the front, not the registry
        return "error-pages" if response.status == _NOT_FOUND else "refused"
    return findings.get(response.status, "refused")


def _judge_login_refusal(token: ProbeResponse, user: str) -> StepResult | None:
    """Return the step for a refused login; None if the proxy, which has users, accepts it."""
    action = f"login as {user}"
    if token.error_code == "TOOMANYREQUESTS":
        return StepResult(action if user else "login", str(token), "wait")
    if token.status != _UNAUTHORIZED:
        return None
    if user:
        return StepResult(action, str(token), "login")
    return StepResult("login", "", skip_reason="this proxy has users; log in with --user NAME")


def _judge_token(action: str, token: ProbeResponse, user: str) -> StepResult:
    action = f"{action}: token"
    if token.status == OK and (text := tokens.get_token(token.document)):
        owner = f" for {user}" if user else ""
        return StepResult(action, f"a token of {len(text):,} characters{owner}")
    if token.error_code == "TOOMANYREQUESTS":
        return StepResult(action, str(token), "pulls-spent")
    if token.status in _GATEWAY_ERRORS and not is_html(token):
        return StepResult(action, str(token), "upstream")
    return StepResult(action, str(token), "token")


def _explain_unauthorized(flow: TokenFlow, head: ProbeResponse) -> str:
    """Return the finding for a 401 with a token, or for a first one without a Bearer challenge."""
    if flow.token is None:
        return "image" if wants_login(head) else "realm-path"
    challenge = find_bearer(head)
    # By RFC 6750, section 3.1, a registry that has received a token says what is wrong with it.
    error = challenge.parameters.get("error", "") if challenge else ""
    return {"": "authorization", "insufficient_scope": "image"}.get(error, "refused")


def _judge_head(action: str, head: ProbeResponse, unauthorized: str) -> StepResult:
    action = f"{action}: HEAD of the manifest"
    if head.status == OK:
        digest = head.header("docker-content-digest")
        return StepResult(
            action, f"200, {digest or 'no digest'}", "" if digest else "digest-header"
        )
    if head.status == _UNAUTHORIZED:
        return StepResult(action, str(head), unauthorized)
    return StepResult(action, str(head), _find_refusal(head))
