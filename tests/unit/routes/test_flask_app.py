"""What Flask is spared, and what it must find all the same."""

import pytest
from flask import Blueprint, Response
from flask.testing import FlaskClient

from app.routes.flask_app import Application

DIGEST = "sha256:" + "5" * 64


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.test"])
def test_no_host_hides_a_view(client: FlaskClient, host: str) -> None:
    """An unknown host means the default registry, and so does one that is no name at all."""
    answer = client.get(f"/v2/library/alpine/manifests/{DIGEST}", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/health", 200),
        ("POST", "/health", 405),
        ("GET", "/health/nothing", 404),
        ("GET", "/v2", 200),
    ],
)
def test_views_are_found(client: FlaskClient, method: str, path: str, status: int) -> None:
    """By their path as it was sent, and by their method."""
    assert client.open(path, method=method).status_code == status


def test_nobody_gets_a_session(client: FlaskClient) -> None:
    """Answers are the same for all who ask."""
    answer = client.get("/health", headers={"Cookie": "session=x"})
    assert "Set-Cookie" not in answer.headers
    assert "Cookie" not in answer.headers.get("Vary", "")


def test_what_stands_before_and_after_all_views() -> None:
    """All of it is done in Flask's order, and who answers before a view is the last one asked."""
    app, done = Application("here", static_folder=None), list[str]()
    app.before_request(lambda: done.append("first"))
    app.before_request(lambda: done.append("second"))
    app.before_request(lambda: Response("no view", 403))
    app.before_request(lambda: done.append("never"))
    for name in ("last", "last but one"):

        def after(response: Response, name: str = name) -> Response:
            done.append(name)
            return response

        app.after_request(after)
    app.add_url_rule("/", view_func=lambda: "a view")
    assert app.test_client().get("/").status_code == 403
    assert done == ["first", "second", "last but one", "last"]


def test_a_blueprint_may_have_its_own() -> None:
    """Nothing that somebody adds there later is passed over."""
    app, room, done = (
        Application("here", static_folder=None),
        Blueprint("room", "here"),
        list[str](),
    )

    def after(response: Response) -> Response:
        done.append("after")
        return response

    room.before_request(lambda: done.append("before"))
    room.after_request(after)
    room.add_url_rule("/", view_func=lambda: "a view")
    app.before_request(lambda: done.append("all"))
    app.register_blueprint(room)
    assert app.test_client().get("/").text == "a view"
    assert done == ["all", "before", "after"]


def test_a_blueprint_alone() -> None:
    """Also where nothing is registered for all."""
    app, room = Application("here", static_folder=None), Blueprint("room", "here")
    room.before_request(lambda: Response("no view", 403))
    room.add_url_rule("/", view_func=lambda: "a view")
    app.register_blueprint(room)
    assert app.test_client().get("/").status_code == 403
