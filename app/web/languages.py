"""The languages of the page: choose one for a visitor, and look up its texts."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from flask import request
from markupsafe import Markup, escape

_TEXTS: Final = Path(__file__).parent / "texts"
_CODE: Final = re.compile(r"`([^`]*)`")

CHOICE: Final = "lang"
"""The name of the query parameter that selects a language, and of the cookie that stores it."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language of the page: the name of its texts' file, its tag for HTML, its own name."""

    code: str
    tag: str
    name: str

    def text(self, key: str, /, **values: object) -> Markup:
        """Return a text as HTML with `values` filled in; raise KeyError for an unknown key.

        Text between backticks becomes `<code>`.
        """
        markup = _CODE.sub(r"<code>\1</code>", str(escape(self.texts[key])))
        return Markup(markup).format(**values) if values else Markup(markup)  # noqa: S704

    def group(self, prefix: str) -> dict[str, str]:
        """Return the texts below a key without that prefix, unformatted for a script to fill in."""
        start = f"{prefix}."
        return {
            key.removeprefix(start): text
            for key, text in self.texts.items()
            if key.startswith(start)
        }

    @property
    def texts(self) -> Mapping[str, str]:
        """All texts of this language, by dotted keys like `box.title`."""
        return _read_texts(self.code)


LANGUAGES: Final[Mapping[str, Language]] = {
    language.code: language
    for language in (
        Language("en", "en", "English"),
        Language("ko", "ko", "한국어"),
        Language("zh", "zh-Hans", "简体中文"),
    )
}
"""The languages by the first subtag of `Accept-Language`; the first entry is the default."""


def choose_language() -> Language:
    """Return the language of the current request.

    That is the one in the query, else the one in the cookie, else the best in `Accept-Language`,
    else the default. Werkzeug's own matching would pick `en` for `ko-KR, en;q=0.5`, because it
    prefers an exact match.
    """
    for choice in (request.args.get(CHOICE, ""), request.cookies.get(CHOICE, "")):
        if choice in LANGUAGES:
            return LANGUAGES[choice]
    for tag, quality in request.accept_languages:
        code = tag.lower().partition("-")[0]
        if quality and code in LANGUAGES:
            return LANGUAGES[code]
    return next(iter(LANGUAGES.values()))


@cache
def _read_texts(code: str) -> Mapping[str, str]:
    with (_TEXTS / f"{code}.toml").open("rb") as file:
        return dict(_flatten(tomllib.load(file)))


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
