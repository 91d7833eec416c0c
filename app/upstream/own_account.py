"""The account that this proxy itself has at a registry."""

import logging
import threading
import time
from http import HTTPStatus
from typing import Final

from app.content import Request, Source
from app.oci.errors import AccountRefused, Denied
from app.registries import Registry
from app.upstream import stand_ins
from app.upstream.issued import IssuedToken, issue

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 60.0
_LONGEST_PAUSE: Final = 3600.0
"""Seconds until credentials that a registry has refused are tried again: it may lock an account."""


class OwnAccount:
    """Logs in with an account, or as nobody where there is none.

    Until it has been taken once, one caller at a time finds out.
    Refused once, it is refused for every repository, for a while that grows.
    """

    def __init__(self, source: Source, registry: Registry) -> None:
        self._source = source
        self._registry = registry
        self._lock = threading.Lock()
        self._is_proven = registry.account is None
        self._good_until = 0.0
        self._refused_until = 0.0
        self._pause = _FIRST_PAUSE

    def token(self, scope: str) -> IssuedToken:
        """Ask for a token; raise AccountRefused or another RegistryError."""
        if self._is_proven:
            return self._issued(scope)
        with self._lock:
            try:
                return self._issued(scope)
            except AccountRefused:
                self._judge()  # before the next caller shows the same
                raise

    def _issued(self, scope: str) -> IssuedToken:
        if time.monotonic() < self._refused_until:
            raise AccountRefused
        token = issue(self._source, self._registry.account, scope)
        self._is_proven = True
        return token

    def basic(self) -> str:
        """Return the Basic credentials, or ""; raise AccountRefused."""
        account = self._registry.account
        if account is None:
            return ""
        if not self._is_proven and not self.is_good():
            raise AccountRefused
        return stand_ins.written(account.username, account.password)

    def is_good(self) -> bool:
        """Tell whether the registry takes the credentials at all; asked where it refused something.

        Raise RegistryError if it cannot be asked.
        """
        with self._lock:
            self._judge()
            return self._is_proven

    def _judge(self) -> None:
        """Find out whether the credentials are refused everywhere; the lock is held."""
        now = time.monotonic()
        if now < self._refused_until or (self._is_proven and now < self._good_until):
            return
        self._is_proven = self._is_taken()
        if self._is_proven:
            self._pause = _FIRST_PAUSE
            self._good_until = time.monotonic() + _FIRST_PAUSE
        if not self._is_proven:
            self._refused_until = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            logger.error(
                "A registry refuses this proxy's own credentials.",
                extra={"fields": {"registry": self._registry.name}},
            )

    def _is_taken(self) -> bool:
        """Log in without asking for anything, as `docker login` does."""
        ping = self._source.ping(Request(method="GET"))
        ping.close()
        if any(challenge.is_bearer for challenge in ping.challenges):
            try:
                issue(self._source, self._registry.account, "")
            except (AccountRefused, Denied):
                return False
            return True
        account = self._registry.account
        basic = stand_ins.written(account.username, account.password) if account else ""
        login = [("Authorization", basic)]
        checked = self._source.ping(Request(method="GET", headers=login))
        checked.close()
        return checked.status != HTTPStatus.UNAUTHORIZED
