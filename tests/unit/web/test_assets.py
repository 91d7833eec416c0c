"""GET /page/static/<name>: a closed list, cached by version."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.web import assets

FOLDER = Path(assets.__file__).parent / "assets"


def test_every_file_is_listed() -> None:
    """The list and the folder have the same names."""
    assert set(assets.ASSETS) == {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("name", assets.ASSETS)
def test_files(client: FlaskClient, name: str) -> None:
    """Each comes as it is, of its own type, and is not sent twice to whoever has it."""
    answer = client.get(f"/page/static/{name}")
    assert answer.data == (FOLDER / name).read_bytes()
    assert answer.content_type == assets.ASSETS[name]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    again = client.get(f"/page/static/{name}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_versions(client: FlaskClient) -> None:
    """By the address that the page has, a file is kept for ever; by another one it is not."""
    told = {
        version: client.get(f"/page/static/page.css{version}").headers["Cache-Control"]
        for version in (
            "",
            "?v=old",
            assets.build_url("page.css").removeprefix("page/static/page.css"),
        )
    }
    assert list(told.values()) == ["no-cache", "no-cache", "public, max-age=31536000, immutable"]


@pytest.mark.parametrize("name", ["page.html", "..%2fpage.py", "../assets.py", "", "Page.css"])
def test_nothing_else(client: FlaskClient, name: str) -> None:
    """There are no other files."""
    assert client.get(f"/page/static/{name}").status_code == 404
