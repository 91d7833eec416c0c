"""Errors of logins at this proxy itself.

LoginRequired            401  neither a token nor a password; raised with the challenge
+-- LoginMissing         401  the same of who asks for a token
+-- LoginWrong           401  a user or a password that is wrong, and not which
+-- TokenWrong           401  a token that is none of ours, or not any more
+-- ScopeInsufficient    401  a token for another repository
LoginsSlowed             429  wrong passwords from this address or its network
LoginsBusy               503  more logins at once than can be checked
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from app.oci.errors import ErrorCode, RegistryError, TooManyRequests


class LoginRequired(RegistryError):
    """A request that shows neither a token nor a password: each client's first one."""

    code = ErrorCode.UNAUTHORIZED
    status = HTTPStatus.UNAUTHORIZED
    message = "log in at this proxy first"


class LoginMissing(LoginRequired):
    """A client that knows where to log in, and has no login: its pull ends here."""

    refused_by = "login"


class LoginWrong(LoginRequired):
    """A user that is not there, or another password."""

    message = "wrong user name or password for this proxy"
    refused_by = "password"


class TokenWrong(LoginRequired):
    """A token that this proxy has not given, that is too old, or whose user has changed."""

    message = "this token is not, or no longer, good for this proxy"
    refused_by = "token"


class ScopeInsufficient(LoginRequired):
    """A token that was given for other repositories."""

    message = "this token is for another repository"
    refused_by = "scope"


class LoginsSlowed(TooManyRequests):
    """A network that has sent wrong passwords has to wait."""

    message = "too many wrong passwords from your address or network; wait before the next one"
    refused_by = "slowed"


class LoginsBusy(RegistryError):
    """Passwords are checked one after the other, and too many wait already."""

    code = ErrorCode.UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE
    message = "too many logins at once; try again in a moment"
    refused_by = "busy"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "5"}
