"""Pages for people, which come in place of what was asked for."""

from http import HTTPStatus
from typing import Final

from app.content import Reply
from app.oci import accept

_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})


def is_page(reply: Reply) -> bool:
    """Tell whether an answer that looks like a yes is a page: no content of a registry's is one.

    A server in front of a registry may show whoever is not logged in where to log in, at once or
    after a redirect, and its status is 200 then.
    """
    is_yes = reply.status < HTTPStatus.MULTIPLE_CHOICES
    return is_yes and accept.essence(reply.header("content-type")) in _PAGES
