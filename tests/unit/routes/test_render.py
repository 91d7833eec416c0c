"""Errors -> OCI JSON."""

import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.oci import errors
from app.oci.errors import RegistryError
from tests.unit.fake_source import FakeSource

MANIFEST = "/v2/library/nginx/manifests/latest"

ERRORS = [
    errors.NameInvalid,
    errors.DigestInvalid,
    errors.HostInvalid,
    errors.NameUnknown,
    errors.Unsupported,
    errors.MethodUnsupported,
    errors.UpstreamMisbehaved,
    errors.UpstreamUnavailable,
    errors.UpstreamUntrusted,
    errors.OutboundProxyFails,
    errors.UpstreamTimeout,
    errors.UpstreamUnresolved,
    errors.ClientGone,
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_registry_errors(
    client: FlaskClient, source: FakeSource, error: type[RegistryError]
) -> None:
    """Code, status, message, headers: as declared; `detail` is null where there is none."""
    source.error = error()
    answer = client.get(MANIFEST)
    assert answer.status_code == error.status
    assert answer.content_type == "application/json"
    assert answer.get_json() == {
        "errors": [{"code": str(error.code), "message": error.message, "detail": None}]
    }
    for name, value in error.headers.items():
        assert answer.headers.getlist(name) == [value]


def test_why_is_in_the_log(
    client: FlaskClient, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside the request's line, which has the status alone; who left was refused nothing."""
    caplog.set_level(logging.INFO, "app.routes.render")
    for error in (
        errors.NameUnknown(),
        errors.UpstreamMisbehaved("it is odd"),
        errors.ClientGone(),
    ):
        source.error = error
        client.get(MANIFEST)
    refused = [(record.levelno, record.__dict__["fields"]) for record in caplog.records]
    assert refused == [
        (
            logging.INFO,
            {"status": 404, "code": "NAME_UNKNOWN", "reason": errors.NameUnknown.message},
        ),
        (logging.WARNING, {"status": 502, "code": "UNAVAILABLE", "reason": "it is odd"}),
    ]


def test_message_and_detail(client: FlaskClient, source: FakeSource) -> None:
    """What the raiser said is told."""
    source.error = errors.UpstreamUnavailable("registry.example is away", since=5)
    (error,) = client.get(MANIFEST).get_json()["errors"]
    assert error["message"] == "registry.example is away"
    assert error["detail"] == {"since": 5}


def test_head_has_no_body(client: FlaskClient, source: FakeSource) -> None:
    """An error to a HEAD is a status and headers."""
    source.error = errors.NameUnknown()
    answer = client.head(MANIFEST)
    assert (answer.status_code, answer.data) == (404, b"")
    assert answer.content_type == "application/json"


def test_what_nobody_expected(
    app: Flask, client: FlaskClient, source: FakeSource, caplog: pytest.LogCaptureFixture
) -> None:
    """500 UNKNOWN with no detail for the client; the traceback is in the log."""
    app.testing = False
    source.error = RuntimeError("s3cr3t in the message")
    with caplog.at_level(logging.INFO):
        answer = client.get(MANIFEST)
    assert answer.status_code == 500
    assert answer.get_json() == {
        "errors": [{"code": "UNKNOWN", "message": "internal error", "detail": None}]
    }
    assert b"s3cr3t" not in answer.data
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is source.error


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/nowhere", 404, id="no route"),
        pytest.param("PUT", "/health", 405, id="no method"),
        pytest.param("DELETE", "/v2", 405, id="no method of the ping"),
        pytest.param("GET", "/health//", 404, id="two slashes"),
    ],
)
def test_routing_errors(
    client: FlaskClient, source: FakeSource, method: str, path: str, status: int
) -> None:
    """What Flask refuses is OCI JSON too."""
    answer = client.open(path, method=method)
    assert answer.status_code == status
    (error,) = answer.get_json()["errors"]
    assert error["code"] == ("DENIED" if path == "/v2" else "UNSUPPORTED")
    assert error["message"]
    assert ("Allow" in answer.headers) == (status == 405)
    assert source.calls == []
