"""What a registry says to someone without credentials."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from app.oci.challenge import Challenge
from app.oci.headers import Headers


@dataclass(frozen=True, slots=True)
class Ping:
    """The answer to `GET /v2/`."""

    status: int
    headers: Headers
    content: bytes
    challenges: Sequence[Challenge]

    @property
    def lasting(self) -> bool:
        """Whether the registry will say the same for a while."""
        return self.status in {HTTPStatus.OK, HTTPStatus.UNAUTHORIZED}

    @property
    def bearer(self) -> Challenge | None:
        """The challenge that a token answers."""
        return next((one for one in self.challenges if one.is_bearer), None)

    @property
    def asks_for_basic(self) -> bool:
        """Whether the registry wants to see credentials itself."""
        return any(one.is_basic for one in self.challenges)
