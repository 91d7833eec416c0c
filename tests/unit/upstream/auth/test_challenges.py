"""The 401s to requests without a token, which say where to get one."""

import pytest

from app.oci.challenge import Challenge
from app.oci.reference import RepositoryName
from app.source import Reply, build_reply
from app.upstream.auth.challenges import RecentChallenges

NAME = RepositoryName.parse("library/nginx")
OTHER = RepositoryName.parse("library/redis")
BEARER = Challenge("Bearer", {"realm": "https://auth.example/token", "scope": "repository:a:pull"})


def refusal(status: int = 401, *asked: Challenge, body: bytes = b'{"errors": []}') -> Reply:
    """Return an answer to a request without a token."""
    reply = build_reply(status, [("Content-Type", "application/json"), ("A", "b")], body)
    return Reply(
        status=reply.status,
        headers=[*reply.headers, ("Content-Length", str(len(body)))],
        length=reply.length,
        body=body,
        challenges=asked,
    )


def test_a_401_is_repeated() -> None:
    """For the same repository only, with its challenge and its document."""
    recent = RecentChallenges()
    first = recent.record(NAME, refusal(401, BEARER))
    assert (first.status, first.read()) == (401, b'{"errors": []}')
    again = recent.lookup(NAME)
    assert again is not None
    assert (again.status, again.challenges, again.read()) == (401, (BEARER,), b'{"errors": []}')
    assert again.is_remembered
    assert again.header("a") == "b"
    assert again.header("content-length") == ""
    assert recent.lookup(OTHER) is None


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(refusal(401, Challenge("Basic", {"realm": "a"})), id="Basic"),
        pytest.param(refusal(401), id="no challenge"),
        pytest.param(refusal(403, BEARER), id="another status"),
    ],
)
def test_other_answers_are_not(reply: Reply) -> None:
    recent = RecentChallenges()
    assert recent.record(NAME, reply) is reply
    assert recent.lookup(NAME) is None


@pytest.mark.parametrize("body", [b"", b"x" * 3000], ids=["HEAD", "long"])
def test_without_a_document_ours_is_sent(body: bytes) -> None:
    recent = RecentChallenges()
    assert recent.record(NAME, refusal(401, BEARER, body=body)).read() == body
    again = recent.lookup(NAME)
    assert again is not None
    assert b"UNAUTHORIZED" in again.read()
    assert again.header("content-type") == "application/json"


def test_it_ends() -> None:
    """The registry is asked again after a minute, since it may have become open."""
    now = 0.0
    recent = RecentChallenges(lambda: now)
    recent.record(NAME, refusal(401, BEARER))
    now = 59.0
    assert recent.lookup(NAME) is not None
    now = 61.0
    assert recent.lookup(NAME) is None
