"""Docxy's configuration file for the tests: the standard library reads TOML and writes none."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_config(path: Path, rows: Iterable[Mapping[str, object]], **top_level: object) -> Path:
    """Write a file of `[[registries]]`, after the settings of the top level; return its path."""
    lines = _pairs(top_level)
    for row in rows:
        lines += ["", "[[registries]]", *_pairs(row)]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def _pairs(values: Mapping[str, object]) -> list[str]:
    return [f"{_key(name)} = {_value(value)}" for name, value in values.items()]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return _string(value)
        case Mapping():
            return f"{{ {', '.join(_pairs(value))} }}"
        case list() | tuple():
            return f"[{', '.join(_value(one) for one in value)}]"
        case _:
            message = f"no TOML for {value!r}"
            raise TypeError(message)


def _string(text: str) -> str:
    """JSON's escapes are TOML's, which has DEL besides and no surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
