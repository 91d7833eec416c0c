"""The line of a refusal, and what it is counted by."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.events import UNWATCHED, Download, Exchange
from app.oci.errors import LoginRequired, RegistryError
from app.routes.access_log import AccessLog
from app.routes.context import get_services
from tests.unit.fake_source import FakeSource
from tests.unit.oci.test_errors import subclasses

REFUSALS = [error for error in subclasses(RegistryError) if error.refused_by]
OTHERS = [error for error in subclasses(RegistryError) if not error.refused_by]
MANIFEST = "/v2/library/nginx/manifests/latest"


class Watched:
    """A watcher that remembers by what exchanges were refused."""

    def __init__(self) -> None:
        self.refused_by: list[str] = []

    def begin_download(self, exchange: Exchange, length: int | None) -> Download:
        """Watch nothing."""
        return UNWATCHED.begin_download(exchange, length)

    def record_end(self, exchanges: Sequence[Exchange]) -> None:
        """Remember."""
        self.refused_by += [one.refused_by for one in exchanges]


@pytest.fixture
def watched(app: Flask) -> Watched:
    """Return what sees all exchanges of the application."""
    watched = Watched()
    with app.app_context():
        room = get_services()
    replace(room, access_log=AccessLog(watched)).install(app)
    return watched


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of the lines of refusals."""
    told = [one for one in caplog.records if one.message == "Request refused."]
    return [one.__dict__["fields"] for one in told]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.__name__)
def test_each_refusal(
    client: FlaskClient,
    source: FakeSource,
    watched: Watched,
    caplog: pytest.LogCaptureFixture,
    error: type[RegistryError],
) -> None:
    """One line says who, what and what refused, by the same word as it is counted by."""
    caplog.set_level(logging.INFO)
    source.error = error()
    client.get(MANIFEST)
    assert lines(caplog) == [
        {
            "status": int(error.status),
            "code": str(error.code),
            "reason": error.message,
            "client": "127.0.0.1",
            "registry": "docker.io",
            "repository": "library/nginx",
            "reference": "latest",
            "rule": error.refused_by,
        }
    ]
    assert watched.refused_by == [error.refused_by]


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: error.__name__)
def test_what_is_no_refusal_of_access(
    client: FlaskClient, source: FakeSource, watched: Watched, error: type[RegistryError]
) -> None:
    """A name that is wrong, a registry that is away, and what each pull begins with."""
    source.error = error()
    client.get(MANIFEST)
    assert watched.refused_by == [""]


def test_the_words() -> None:
    """Few, and such as no rule's number is."""
    words = [error.refused_by for error in REFUSALS]
    assert len(set(words)) == len(words) < 20
    assert not [word for word in words if word.isdigit()]
    assert not LoginRequired.refused_by


def test_a_rule_goes_by_its_number(
    client: FlaskClient, source: FakeSource, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is that a rule refuses."""
    caplog.set_level(logging.INFO)
    for error in REFUSALS:
        source.error = error(rule=12)
        client.get(MANIFEST)
    assert [line["rule"] for line in lines(caplog)] == [12] * len(REFUSALS)
    assert watched.refused_by == ["12"] * len(REFUSALS)
