"""Errors are declarations: a code of the specification, a status, a message."""

import re

import pytest

from app.oci import errors
from app.oci.errors import ErrorCode, RegistryError


def subclasses(of: type[RegistryError]) -> list[type[RegistryError]]:
    """Return every error below one."""
    return [found for one in of.__subclasses__() for found in (one, *subclasses(one))]


ALL: list[type[RegistryError]] = [RegistryError, *subclasses(RegistryError)]


def test_every_error_is_complete() -> None:
    """Raised without arguments, each one says what to answer."""
    for error in ALL:
        raised = error()
        assert isinstance(raised.code, ErrorCode), error
        assert 400 <= raised.status <= 599, error
        assert str(raised) == raised.message, error
        assert raised.detail == {}, error


def test_every_error_takes_a_message_and_a_detail() -> None:
    """What a raiser knows better replaces the message; the rest becomes the detail."""
    for error in ALL:
        raised = error("what happened", tag="latest")
        assert str(raised) == "what happened", error
        assert raised.detail == {"tag": "latest"}, error


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The drawing at the top of the module names every error with its status, in its place."""
    drawn = re.findall(r"^([| ]*)\+-- (\w+)\s+(\d{3})", errors.__doc__ or "", re.MULTILINE)
    root = len(RegistryError.__mro__) + 1
    assert {name: (status, len(indent) // 4) for indent, name, status in drawn} == {
        one.__name__: (str(int(one.status)), len(one.__mro__) - root)
        for one in subclasses(RegistryError)
        if one.__module__ == errors.__name__
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(errors.UpstreamUnavailable, 503, id="unreachable"),
        pytest.param(errors.UpstreamUntrusted, 503, id="TLS"),
        pytest.param(errors.OutboundProxyFails, 503, id="proxy"),
        pytest.param(errors.UpstreamTimeout, 504, id="timeout"),
        pytest.param(errors.UpstreamUnresolved, 504, id="name"),
    ],
)
def test_outages_are_what_containerd_retries(error: type[RegistryError], status: int) -> None:
    """503 and 504 are retried, 502 is not; and a client is told when (field.md, A.10)."""
    assert error.status == status
    assert error.code == ErrorCode.UNAVAILABLE
    assert int(error.headers["Retry-After"]) > 0


def test_a_forbidden_address_stays_forbidden() -> None:
    """502 is not retried (field.md, A.10), and the operator finds the setting in the message."""
    assert errors.UpstreamForbidden.status == 502
    assert errors.UpstreamForbidden.code == ErrorCode.UNAVAILABLE
    assert "Retry-After" not in errors.UpstreamForbidden.headers
    assert "DOCXY_ALLOW_PRIVATE_UPSTREAMS" in errors.UpstreamForbidden.message


def test_a_push_is_told_what_is_allowed() -> None:
    """405 names the methods that there are (RFC 9110, section 15.5.6)."""
    assert errors.MethodUnsupported.status == 405
    assert errors.MethodUnsupported.code == ErrorCode.DENIED
    assert errors.MethodUnsupported.headers["Allow"] == "GET, HEAD"
