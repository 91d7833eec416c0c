import tomllib
from pathlib import Path

import pytest

from tests.tables import write_config

pytestmark = pytest.mark.rig


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Top level and rows come back as they were, in their order."""
    rows: list[dict[str, object]] = [
        {"name": "ghcr.io", "allow_private": True, "aliases": ["a", "b"], "password": "x"},
        {"name": "quay.io", "allow_private": False, "aliases": [], "size": 10, "odd key": ""},
    ]
    path = write_config(tmp_path / "docxy.toml", rows, log_level="debug", read_timeout=0.5, n=-3)
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {
        "log_level": "debug",
        "read_timeout": 0.5,
        "n": -3,
        "registries": rows,
    }


def test_tables_in_a_line(tmp_path: Path) -> None:
    """A list of tables, and a table of lists."""
    rules = [{"action": "deny", "users": ["a"]}, {"action": "allow"}]
    groups = {"b": ["c"], "odd key": []}
    path = write_config(tmp_path / "docxy.toml", [], rules=rules, groups=groups)
    assert tomllib.loads(path.read_text()) == {"rules": rules, "groups": groups}


def test_without_rows(tmp_path: Path) -> None:
    """A file may have no registries, and nothing at all."""
    path = write_config(tmp_path / "docxy.toml", [], log_level="debug")
    assert tomllib.loads(path.read_text()) == {"log_level": "debug"}
    assert tomllib.loads(write_config(path, []).read_text()) == {}


@pytest.mark.parametrize(
    "text",
    [
        'quo"te',
        "back\\slash",
        "[[registries]]",
        "line\nbreak\r\n\ttab",
        "\x00\x01\x1f\x7f\x80\x85",
        "ümläut \u2028 🐳",
        "'''",
        '"""',
        "# no comment",
        "\\u0041",
    ],
)
def test_any_string(tmp_path: Path, text: str) -> None:
    """Passwords hold everything, and keys may."""
    path = write_config(tmp_path / "docxy.toml", [{text: text, "list": [text]}], top=text)
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    assert read == {"top": text, "registries": [{text: text, "list": [text]}]}


@pytest.mark.parametrize("value", [None, {"a": None}, b"bytes", Path("x"), [None]])
def test_what_has_no_toml(tmp_path: Path, value: object) -> None:
    """It is a mistake in a test, which is told at once."""
    with pytest.raises(TypeError, match="no TOML"):
        write_config(tmp_path / "docxy.toml", [], key=value)
