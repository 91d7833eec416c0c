"""One line for each request that is refused: why, and where access is what it lacks, who and what.

What is refused so is counted by the same word as stands on the line.
"""

import contextlib
import logging
from http import HTTPStatus
from typing import Any, Final

from app.exchange import Exchange, current
from app.oci.errors import ClientGone, DigestInvalid, NameInvalid, RegistryError, Unsupported
from app.oci.login_errors import LoginRequired
from app.routes.present import present
from app.routes.rooms import client, host, namespace, undecided

logger = logging.getLogger(__name__)

_PLAIN: Final = (ClientGone, DigestInvalid, NameInvalid, Unsupported)
"""What path and status on the request's own line say as well."""


def tell(error: RegistryError) -> None:
    """Say why a request is refused, and note for its count what refuses it."""
    # A request that shows nothing yet is how clients learn where to log in: each pull begins so.
    if isinstance(error, _PLAIN) or type(error) is LoginRequired:
        return
    fields: dict[str, Any] = {
        "status": int(error.status),
        "code": str(error.code),
        "reason": str(error),
    }
    if error.refused_by:
        fields |= _whom_and_what() | {"rule": error.refused_by} | error.detail
        if (exchange := current.get()) is not None:
            exchange.refused_by = str(fields["rule"])
    is_theirs = error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    level = logging.INFO if is_theirs else logging.WARNING
    logger.log(level, "A request is refused.", extra={"fields": fields})


def _whom_and_what() -> dict[str, str]:
    """Return who asked for what: an operator looks for refusals alone."""
    asking = client()
    told = {"client": asking.address, "user": asking.user}
    if (exchange := current.get()) is not None:
        _address(exchange)
        told |= {
            "registry": exchange.registry,
            "repository": exchange.repository,
            "reference": exchange.reference,
        }
    return {name: value for name, value in told.items() if value}


def _address(exchange: Exchange) -> None:
    """Note the repository of a request that was refused before it was looked for."""
    name = (present().view_args or {}).get("name")
    if name is not None and not exchange.repository:
        with contextlib.suppress(RegistryError):
            undecided(name, ns=namespace(), host=host())
