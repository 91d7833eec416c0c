"""What the registry says of pulls, and what the clocks say."""

import email.utils
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from app.doctor.asking import Answer
from app.doctor.finding import Step

_LOW: Final = 10
"""Per cent."""
_SKEW: Final = 60.0
"""Seconds: as long as the shortest token lives."""
_OLDEST: Final = 300.0
"""Seconds for which Docxy may have kept a token, where it does not say how long it lives."""


def judge_pulls(head: Answer) -> Step:
    """Say what is left, of an answer for a manifest."""
    tried = "pulls that are left"
    limit, remaining = (_count(head, name) for name in ("ratelimit-limit", "ratelimit-remaining"))
    if limit is None or remaining is None:
        return Step(tried, "", skipped="the registry does not say")
    came = f"{remaining} of {limit}"
    if not remaining:
        return Step(tried, came, "pulls-spent")
    return Step(tried, came, "pulls-low" if remaining * 100 < limit * _LOW else "")


def _count(answer: Answer, name: str) -> int | None:
    """Read `76;w=21600`."""
    text = answer.value(name).partition(";")[0].strip()
    return int(text) if text.isascii() and text.isdigit() else None


def judge_clocks(answer: Answer, token: Answer | None) -> Iterator[Step]:
    """Compare this machine's clock with the proxy's, and that with the token service's."""
    date = email.utils.parsedate_tz(answer.value("date"))
    if date is None:
        yield Step("clock", "", skipped="the answer has no Date")
        return
    there = email.utils.mktime_tz(date)
    ahead = answer.at - there
    issued = _issued(token.document) if token and token.at else None
    if token is not None and issued is not None:
        # By the proxy's own clock, at the moment when the token came.
        age = token.at - ahead - issued
        lived = _number(token.document.get("expires_in")) or _OLDEST
        wrong = not -_SKEW <= age <= lived + _SKEW
        came = f"a token was made {age:.0f} s before it came, by the proxy's clock"
        yield Step("clock of the proxy", came, "clock-proxy" if wrong else "")
        if wrong:
            return
    came = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the proxy's"
    yield Step("clock here", came, "clock-here" if abs(ahead) > _SKEW else "")


def _issued(document: dict[str, object]) -> float | None:
    try:
        return datetime.fromisoformat(str(document.get("issued_at", ""))).timestamp()
    except ValueError:
        return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None
