"""What knows the users of this proxy: their passwords and their tokens."""

from dataclasses import dataclass

from app.access.logins import Logins
from app.access.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks logins, gives tokens, takes them."""

    logins: Logins
    tokens: Tokens
