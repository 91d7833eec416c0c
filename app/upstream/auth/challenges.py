"""What a registry answers to requests without a token: a 401 that says where to get one."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from cachetools import TTLCache

from app.oci import headers
from app.oci.errors import ErrorCode, error_document
from app.oci.reference import RepositoryName
from app.source import Reply, build_reply

_LIFETIME: Final = 60.0
"""Seconds for which a 401 is repeated. The next request then asks the registry, which may let
anonymous clients read the repository by now."""

_MAX_ENTRIES: Final = 4096
_CONTENT_LIMIT: Final = 2048
"""The maximum size of a remembered document in bytes; ours takes the place of a longer one."""

_DOCUMENT: Final = json.dumps(
    error_document(ErrorCode.UNAUTHORIZED, "authentication required")
).encode()


class RecentChallenges:
    """The recent 401s to requests without credentials, by repository.

    containerd begins each kind of request without a token, and so asks three times in each pull
    where to get one. The answer is the same for every client, because none has presented anything.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._replies = TTLCache[RepositoryName | None, Reply](_MAX_ENTRIES, _LIFETIME, timer=timer)

    def lookup(self, repository: RepositoryName | None) -> Reply | None:
        """Return the 401 to repeat, or None if the registry should be asked."""
        with self._lock:
            return self._replies.get(repository)

    def record(self, repository: RepositoryName | None, reply: Reply) -> Reply:
        """Record the refusal of a request without credentials if it asks for a token; return it."""
        asks_for_token = any(one.is_bearer for one in reply.challenges)
        if reply.status != HTTPStatus.UNAUTHORIZED or not asks_for_token:
            return reply
        content = reply.read()
        fields = headers.without(reply.headers, "content-length")
        kept = content
        if not 0 < len(content) <= _CONTENT_LIMIT:
            kept = _DOCUMENT
            fields = [
                *headers.without(fields, "content-type"),
                ("Content-Type", "application/json"),
            ]
        with self._lock:
            self._replies[repository] = replace(
                build_reply(reply.status, fields, kept),
                challenges=reply.challenges,
                is_remembered=True,
            )
        return replace(reply, body=content)
